//! `user-type`.

use homeserver_api::admin::{Operation, UserType, UserTypes};
use homeserver_api::policy::{
    Bounds, Choice, DeviceReset, Direction, DirectoryListing, ExternalScope, OutsideContacts,
    Preview, UserTypePolicy,
};

use super::{confirm, read_file};
use crate::cli::{UserTypeCommand, UserTypeSetArguments};
use crate::connection::{Admin, segment};
use crate::failure::Failure;
use crate::output::{Format, facts, list};
use crate::values::{duration, harmless, size};

/// `user-type …`.
pub(super) async fn run(
    admin: &Admin,
    command: UserTypeCommand,
    format: Format,
) -> Result<(), Failure> {
    match command {
        UserTypeCommand::List => {
            let types: UserTypes = admin.get("/admin/v1/user-types").await?;
            format.show(&types, |types| type_list(&types.user_types))
        }
        UserTypeCommand::Show { name } => {
            let user_type = find(admin, &name).await?.ok_or_else(|| {
                Failure::Other(format!(
                    "there is no user type {name}: `hsctl user-type list` shows which there are"
                ))
            })?;
            format.show(&user_type, type_sheet)
        }
        UserTypeCommand::Set(arguments) => {
            let policy = policy(admin, &arguments).await?;
            let user_type: UserType = admin.put(&path(&arguments.name), &policy).await?;
            format.show(&user_type, type_sheet)
        }
        UserTypeCommand::Delete { name, yes } => {
            if !yes {
                confirm(&format!("Delete the user type {name}?"), "--yes")?;
            }
            admin.delete(&path(&name)).await?;
            format.done(&format!("The user type {name} is deleted."))
        }
    }
}

fn path(name: &str) -> String {
    format!("/admin/v1/user-types/{}", segment(name))
}

async fn find(admin: &Admin, name: &str) -> Result<Option<UserType>, Failure> {
    let types: UserTypes = admin.get("/admin/v1/user-types").await?;
    Ok(types
        .user_types
        .into_iter()
        .find(|found| found.name == name))
}

async fn policy(
    admin: &Admin,
    arguments: &UserTypeSetArguments,
) -> Result<UserTypePolicy, Failure> {
    if let Some(file) = &arguments.from_file {
        return serde_json::from_str(&read_file(file)?).map_err(|error| {
            Failure::Configuration(format!("{} is not a policy: {error}", file.display()))
        });
    }
    let former = find(admin, &arguments.name)
        .await?
        .map_or_else(UserTypePolicy::default, |found| found.policy);
    Ok(arguments.apply(former))
}

fn type_list(types: &[UserType]) -> String {
    let rows = types
        .iter()
        .map(|user_type| {
            let policy = &user_type.policy;
            vec![
                user_type.name.clone(),
                format!(
                    "{} to {}",
                    duration(policy.ttl.min_seconds.into()),
                    duration(policy.ttl.max_seconds.into())
                ),
                external(&policy.external),
                match policy.outside_contacts {
                    OutsideContacts::Open => "open".to_owned(),
                    OutsideContacts::Ask => "ask".to_owned(),
                },
                match policy.directory {
                    DirectoryListing::Hidden => "nobody".to_owned(),
                    DirectoryListing::Exact => "whole handle".to_owned(),
                    DirectoryListing::Listed => "beginning".to_owned(),
                },
                files(policy),
                policy.devices_max.to_string(),
            ]
        })
        .collect();
    list(
        &[
            "name",
            "time-to-live",
            "other organisations",
            "outside contacts",
            "found by",
            "files",
            "devices",
        ],
        rows,
        "No user types.",
    )
}

fn type_sheet(user_type: &UserType) -> String {
    let policy = &user_type.policy;
    let mut rows = vec![
        ("user type", user_type.name.clone()),
        ("time-to-live", bounds(&policy.ttl)),
        ("burn on read", bounds(&policy.burn)),
        ("other organisations", external(&policy.external)),
        (
            "outside contacts",
            outside_contacts(policy.outside_contacts),
        ),
        ("files", files(policy)),
        ("devices", format!("at most {}", policy.devices_max)),
        ("found by", found_by(policy.directory).to_owned()),
        ("device reset", device_reset(policy.device_reset).to_owned()),
    ];
    rows.extend(further(policy));
    facts(rows)
}

/// What is otherwise than by default.
fn further(policy: &UserTypePolicy) -> Vec<(&'static str, String)> {
    let default = UserTypePolicy::default();
    let mut rows = Vec::new();
    for rule in &policy.external_rules {
        let way = match rule.direction {
            Direction::Outbound => "outbound",
            Direction::Inbound => "inbound",
        };
        let what = match rule.operation {
            Operation::Message => "messages",
            Operation::Invite => "invitations",
            Operation::Directory => "look-ups",
            Operation::Files => "files",
        };
        let scope = external(&rule.scope);
        rows.push(("narrower", format!("{way} {what}: {scope}")));
    }
    let labels = &policy.labels;
    if *labels != default.labels {
        let bounds = format!("{} to {}", labels.min, labels.max);
        rows.push((
            "labels",
            format!("{bounds}, {} when none is chosen", labels.default),
        ));
    }
    for rule in &policy.file_types {
        let endings = rule.endings.join(", ");
        rows.push((
            "file types",
            format!("from label {}: {endings}", rule.label),
        ));
    }
    if let Some(bytes) = policy.downloads.file_bytes_max {
        rows.push(("downloads", format!("files up to {}", size(bytes))));
    }
    if let Some(bytes) = policy.downloads.day_bytes_max {
        rows.push(("downloads", format!("up to {} a day", size(bytes))));
    }
    let sign_in = &policy.sign_in;
    if *sign_in != default.sign_in {
        let mut text = format!(
            "{} failures are free, then a wait of {} to {}",
            sign_in.free_failures,
            duration(sign_in.delay_seconds_min.into()),
            duration(sign_in.delay_seconds_max.into())
        );
        if sign_in.lockout_failures > 0 {
            text.push_str(&format!(
                "; locked out for {} after {}",
                duration(sign_in.lockout_seconds.into()),
                sign_in.lockout_failures
            ));
        }
        rows.push(("failed sign-ins", text));
    }
    let passwords = &policy.passwords;
    if *passwords != default.passwords {
        let handle = match passwords.without_handle {
            true => ", without the handle",
            false => "",
        };
        rows.push((
            "passwords",
            format!(
                "at least {} characters of {} kinds{handle}",
                passwords.characters_min, passwords.kinds_min
            ),
        ));
    }
    if let Some(seconds) = policy.sessions.sign_in_seconds_max {
        rows.push((
            "password again",
            format!("after {}", duration(seconds.into())),
        ));
    }
    let clients = &policy.clients;
    if let Some(version) = clients.version_min {
        rows.push(("oldest client", version.to_string()));
    }
    if let Some(text) = &clients.banner {
        rows.push(("notice", harmless(text)));
    }
    let told = [
        (
            clients.preview == Preview::Full,
            "notifications",
            preview(clients.preview),
        ),
        (
            clients.receipts == Choice::Free,
            "receipts",
            choice(clients.receipts),
        ),
        (clients.forwarding, "passing on", "no"),
        (clients.presence, "presence", "not shown"),
    ];
    let told = told.into_iter().filter(|(usual, ..)| !usual);
    rows.extend(told.map(|(_, name, value)| (name, value.to_owned())));
    rows
}

const fn preview(preview: Preview) -> &'static str {
    match preview {
        Preview::Nothing => "that there is a message",
        Preview::Sender => "whose message it is",
        Preview::Full => "the message",
    }
}

const fn choice(choice: Choice) -> &'static str {
    match choice {
        Choice::Off => "never",
        Choice::Free => "as the user chooses",
        Choice::Always => "always",
    }
}

fn bounds(bounds: &Bounds) -> String {
    let words = |seconds: u32| match seconds {
        0 => "off".to_owned(),
        seconds => duration(seconds.into()),
    };
    format!(
        "{} to {}, {} when none is chosen",
        words(bounds.min_seconds),
        words(bounds.max_seconds),
        words(bounds.default_seconds)
    )
}

fn external(scope: &ExternalScope) -> String {
    match scope {
        ExternalScope::None => "none".to_owned(),
        ExternalScope::AllPeers => "all with an active agreement".to_owned(),
        ExternalScope::Peers(peers) => {
            let names: Vec<String> = peers.iter().map(ToString::to_string).collect();
            names.join(", ")
        }
    }
}

const fn found_by(directory: DirectoryListing) -> &'static str {
    match directory {
        DirectoryListing::Hidden => "nobody who looks them up",
        DirectoryListing::Exact => "who knows the whole handle",
        DirectoryListing::Listed => "who knows how the handle begins",
    }
}

fn outside_contacts(setting: OutsideContacts) -> String {
    match setting {
        OutsideContacts::Open => {
            "open: anyone whom agreements let through may start a conversation"
        }
        OutsideContacts::Ask => {
            "ask: whoever wants to start a conversation needs the person's consent"
        }
    }
    .to_owned()
}

const fn device_reset(setting: DeviceReset) -> &'static str {
    match setting {
        DeviceReset::Password => "by the password, when no device can approve a new one",
        DeviceReset::Administrator => "with an administrator's leave",
    }
}

fn files(policy: &UserTypePolicy) -> String {
    if policy.files {
        format!("up to {}", size(policy.file_bytes_max))
    } else {
        "no".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the list shows of each user type who finds its people, each setting in words of its own. Method: one
    /// type of each.
    #[test]
    fn lists_say_who_finds_people() {
        let user_type = |name: &str, directory| UserType {
            name: name.to_owned(),
            policy: UserTypePolicy {
                directory,
                ..UserTypePolicy::default()
            },
        };
        let list = type_list(&[
            user_type("desk", DirectoryListing::Listed),
            user_type("field", DirectoryListing::Exact),
            user_type("guest", DirectoryListing::Hidden),
        ]);
        let lines: Vec<&str> = list.lines().collect();
        let column = lines[0].find("FOUND BY").expect("the column");
        let found: Vec<&str> = lines[1..]
            .iter()
            .map(|line| line[column..].split("  ").next().expect("a cell"))
            .collect();
        assert_eq!(found, ["beginning", "whole handle", "nobody"]);
    }

    /// Goal: a policy reads in words, with nothing left as a bare number of seconds or bytes.
    #[test]
    fn sheet() {
        let user_type = UserType {
            name: "guest".to_owned(),
            policy: UserTypePolicy {
                external: ExternalScope::None,
                ..UserTypePolicy::default()
            },
        };
        assert_eq!(
            type_sheet(&user_type),
            "user type            guest\n\
             time-to-live         1 minute to 30 days, 1 week when none is chosen\n\
             burn on read         off to 1 day, off when none is chosen\n\
             other organisations  none\n\
             outside contacts     open: anyone whom agreements let through may start a conversation\n\
             files                up to 100 MiB\n\
             devices              at most 5\n\
             found by             who knows the whole handle\n\
             device reset         by the password, when no device can approve a new one"
        );
    }
}
