//! `user-type` and its flags.

use std::path::PathBuf;

use clap::{ArgAction, Args, Subcommand};
use homeserver_api::policy::{
    Bounds, DeviceReset, DirectoryListing, ExternalScope, OutsideContacts, UserTypePolicy,
};

use super::user_type_rules::FurtherRules;
use crate::values::{parse_bytes, parse_seconds};

#[derive(Debug, Subcommand)]
pub(crate) enum UserTypeCommand {
    /// All user types.
    List,
    /// One user type.
    Show {
        /// Its name.
        name: String,
    },
    /// Make a user type or change one: what no flag names stays, or is as in `standard`'s defaults.
    Set(Box<UserTypeSetArguments>),
    /// Delete a user type; refused while accounts use it.
    Delete {
        /// Its name.
        name: String,
        /// Don't ask.
        #[arg(long)]
        yes: bool,
    },
}

/// Durations are written like 90s, 1h30m, 7d or 2w; sizes like 64K, 100M, 1GiB or 25MB.
#[derive(Debug, Args)]
pub(crate) struct UserTypeSetArguments {
    /// The user type's name.
    pub(crate) name: String,
    /// Take the whole policy from a JSON file (`-`: standard input), as `user-type show --json`
    /// prints it under `policy`; no other flag goes with it.
    #[arg(long, value_name = "FILE", exclusive = false, conflicts_with_all = [
        "ttl_min", "ttl_max", "ttl_default", "burn_min", "burn_max", "burn_default", "external",
        "files", "file_max", "devices_max", "directory", "outside_contacts", "device_reset",
        "external_rules", "label_min", "label_max", "label_default", "downloads_day", "password_min",
        "password_kinds", "sign_in_again", "client_min", "banner", "preview", "receipts", "forwarding",
        "presence",
    ])]
    pub(crate) from_file: Option<PathBuf>,
    /// Shortest time-to-live of a message.
    #[arg(long, value_name = "TIME", value_parser = parse_seconds)]
    ttl_min: Option<u32>,
    /// Longest time-to-live of a message.
    #[arg(long, value_name = "TIME", value_parser = parse_seconds)]
    ttl_max: Option<u32>,
    /// Time-to-live of a message when the user chooses none.
    #[arg(long, value_name = "TIME", value_parser = parse_seconds)]
    ttl_default: Option<u32>,
    /// Shortest burn-on-read time; 0: a message need not burn.
    #[arg(long, value_name = "TIME", value_parser = parse_seconds)]
    burn_min: Option<u32>,
    /// Longest burn-on-read time.
    #[arg(long, value_name = "TIME", value_parser = parse_seconds)]
    burn_max: Option<u32>,
    /// Burn-on-read time when the user chooses none; 0: the message does not burn.
    #[arg(long, value_name = "TIME", value_parser = parse_seconds)]
    burn_default: Option<u32>,
    /// Which other organisations: `none`, `all` (all with an active agreement), or names with commas.
    #[arg(long, value_name = "none|all|NAMES", value_parser = parse_external)]
    external: Option<ExternalScope>,
    /// Whether files may be sent.
    #[arg(long, value_name = "yes|no", action = ArgAction::Set, value_parser = parse_yes_no)]
    files: Option<bool>,
    /// Largest file.
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes)]
    file_max: Option<u64>,
    /// Most devices of one account.
    #[arg(long, value_name = "N")]
    devices_max: Option<u32>,
    /// Who finds these accounts by looking them up, at home and where an agreement grants `directory`: nobody
    /// (`hidden`), who knows the whole handle (`exact`), or its first 3 characters too (`listed`).
    #[arg(long, value_name = "hidden|exact|listed", value_parser = parse_directory)]
    directory: Option<DirectoryListing>,
    /// Who of other organisations may start a conversation: anyone whom agreement and policy let through
    /// (`open`), or whom the person has consented to (`ask`). Conversations that there are go on.
    #[arg(long, value_name = "open|ask", value_parser = parse_outside_contacts)]
    outside_contacts: Option<OutsideContacts>,
    /// How an account without a device at hand gets a new one: by its `password`, or only with an `administrator`'s
    /// leave (`hsctl device allow-reset`). Either way people who wrote with it confirm the new device.
    #[arg(long, value_name = "password|administrator", value_parser = parse_device_reset)]
    device_reset: Option<DeviceReset>,
    #[command(flatten)]
    further: FurtherRules,
}

impl UserTypeSetArguments {
    /// The policy that these flags make of the former one.
    pub(crate) fn apply(&self, policy: UserTypePolicy) -> UserTypePolicy {
        let policy = self.further.apply(policy);
        UserTypePolicy {
            ttl: bounds(policy.ttl, self.ttl_min, self.ttl_max, self.ttl_default),
            burn: bounds(policy.burn, self.burn_min, self.burn_max, self.burn_default),
            external: self.external.clone().unwrap_or(policy.external),
            files: self.files.unwrap_or(policy.files),
            file_bytes_max: self.file_max.unwrap_or(policy.file_bytes_max),
            devices_max: self.devices_max.unwrap_or(policy.devices_max),
            directory: self.directory.unwrap_or(policy.directory),
            outside_contacts: self.outside_contacts.unwrap_or(policy.outside_contacts),
            device_reset: self.device_reset.unwrap_or(policy.device_reset),
            ..policy
        }
    }
}

/// A default that nobody named moves into the new bounds rather than making them invalid.
fn bounds(former: Bounds, min: Option<u32>, max: Option<u32>, default: Option<u32>) -> Bounds {
    let min_seconds = min.unwrap_or(former.min_seconds);
    let max_seconds = max.unwrap_or(former.max_seconds);
    Bounds {
        min_seconds,
        max_seconds,
        default_seconds: default
            .unwrap_or_else(|| former.default_seconds.min(max_seconds).max(min_seconds)),
    }
}

pub(super) fn parse_external(text: &str) -> Result<ExternalScope, String> {
    match text {
        "none" => Ok(ExternalScope::None),
        "all" => Ok(ExternalScope::AllPeers),
        names => names
            .split(',')
            .map(|name| name.parse().map_err(|error| format!("{error}")))
            .collect::<Result<_, _>>()
            .map(ExternalScope::Peers),
    }
}

fn parse_directory(text: &str) -> Result<DirectoryListing, String> {
    match text {
        "hidden" => Ok(DirectoryListing::Hidden),
        "exact" => Ok(DirectoryListing::Exact),
        "listed" => Ok(DirectoryListing::Listed),
        _ => Err("write hidden, exact or listed".to_owned()),
    }
}

pub(super) fn parse_yes_no(text: &str) -> Result<bool, String> {
    match text {
        "yes" | "true" => Ok(true),
        "no" | "false" => Ok(false),
        _ => Err("write yes or no".to_owned()),
    }
}

fn parse_outside_contacts(text: &str) -> Result<OutsideContacts, String> {
    match text {
        "open" => Ok(OutsideContacts::Open),
        "ask" => Ok(OutsideContacts::Ask),
        _ => Err("write open or ask".to_owned()),
    }
}

fn parse_device_reset(text: &str) -> Result<DeviceReset, String> {
    match text {
        "password" => Ok(DeviceReset::Password),
        "administrator" => Ok(DeviceReset::Administrator),
        _ => Err("write password or administrator".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Arguments, Command};

    fn set(flags: &str) -> UserTypeSetArguments {
        let line = format!("hsctl user-type set guest {flags}");
        let arguments = Arguments::try_parse_from(line.split_whitespace()).expect("parses");
        match arguments.command {
            Command::UserType(UserTypeCommand::Set(set)) => *set,
            other => panic!("{other:?}"),
        }
    }

    /// Goal: flags change what they name and leave the rest.
    #[test]
    fn flags_change_what_they_name() {
        let former = UserTypePolicy::default();
        let policy = set("--ttl-min 2m --ttl-max 1d --external b.example,c.example --files no")
            .apply(former.clone());
        assert_eq!(policy.ttl.min_seconds, 120);
        assert_eq!(policy.ttl.max_seconds, 86_400);
        assert_eq!(
            policy.ttl.default_seconds, 86_400,
            "moved into the new bounds"
        );
        assert!(policy.ttl.in_order());
        assert_eq!(policy.burn, former.burn);
        assert!(!policy.files);
        assert_eq!(
            policy.external,
            ExternalScope::Peers(vec![
                "b.example".parse().expect("a name"),
                "c.example".parse().expect("a name"),
            ])
        );
        assert_eq!(set("").apply(former.clone()), former);
        let listed = set("--directory listed").apply(former.clone());
        assert_eq!(listed.directory, DirectoryListing::Listed);
        assert_eq!(set("").apply(listed.clone()), listed);
        let asked = set("--outside-contacts ask").apply(former.clone());
        assert_eq!(asked.outside_contacts, OutsideContacts::Ask);
        assert_eq!(
            set("--files no").apply(asked).outside_contacts,
            OutsideContacts::Ask
        );
        let strict = set("--device-reset administrator").apply(former.clone());
        assert_eq!(strict.device_reset, DeviceReset::Administrator);
        assert_eq!(set("").apply(strict.clone()), strict);
        assert_eq!(
            set("--external none").apply(former).external,
            ExternalScope::None
        );
    }
}
