//! Flags of `user-type set` beyond lifetimes, organisations and files.

use clap::{ArgAction, Args};
use homeserver_api::admin::Operation;
use homeserver_api::policy::{
    Choice, ClientVersion, Direction, ExternalRule, Preview, UserTypePolicy,
};

use super::policy::{parse_external, parse_yes_no};
use crate::values::{parse_bytes, parse_seconds};

/// A value, or that there is to be none.
#[derive(Debug, Clone)]
struct OrNone<T>(Option<T>);

/// What is left out stays; what has no flag is in the JSON that `--from-file` reads.
#[derive(Debug, Args)]
pub(crate) struct FurtherRules {
    /// A narrower scope than --external for one operation in one direction, such as outbound:files:none or
    /// inbound:invite:b.example,c.example; may be repeated, and takes the place of all rules there were. `none` takes them
    /// away.
    #[arg(long = "external-rule", value_name = "DIRECTION:OPERATION:SCOPE", value_parser = parse_rule)]
    external_rules: Vec<OrNone<ExternalRule>>,
    /// Lowest label of the account's messages.
    #[arg(long, value_name = "LABEL")]
    label_min: Option<u8>,
    /// Highest label of messages from the account and to it.
    #[arg(long, value_name = "LABEL")]
    label_max: Option<u8>,
    /// Label of a message when the user chooses none.
    #[arg(long, value_name = "LABEL")]
    label_default: Option<u8>,
    /// What may be downloaded in a day; `none`: without bound.
    #[arg(long, value_name = "SIZE|none", value_parser = parse_bytes_or_none)]
    downloads_day: Option<OrNone<u64>>,
    /// Fewest characters of a password.
    #[arg(long, value_name = "N")]
    password_min: Option<u32>,
    /// Of small letters, capital letters, digits and other characters: how many kinds a password has at least.
    #[arg(long, value_name = "N")]
    password_kinds: Option<u8>,
    /// After how long a device's user types the password again; `never`: not at all.
    #[arg(long, value_name = "TIME|never", value_parser = parse_seconds_or_never)]
    sign_in_again: Option<OrNone<u32>>,
    /// The oldest client that gets a session, such as 1.2.0; `none`: any.
    #[arg(long, value_name = "VERSION|none", value_parser = parse_version_or_none)]
    client_min: Option<OrNone<ClientVersion>>,
    /// A notice that each device's user agrees to first; empty: none.
    #[arg(long, value_name = "TEXT")]
    banner: Option<String>,
    /// What notifications show of a message at most.
    #[arg(long, value_name = "nothing|sender|full", value_parser = parse_preview)]
    preview: Option<Preview>,
    /// Receipts of reading.
    #[arg(long, value_name = "off|free|always", value_parser = parse_choice)]
    receipts: Option<Choice>,
    /// Whether messages may be passed on to other rooms.
    #[arg(long, value_name = "yes|no", action = ArgAction::Set, value_parser = parse_yes_no)]
    forwarding: Option<bool>,
    /// Whether others are shown that somebody is there.
    #[arg(long, value_name = "yes|no", action = ArgAction::Set, value_parser = parse_yes_no)]
    presence: Option<bool>,
}

impl FurtherRules {
    /// The policy that these flags make of the former one.
    pub(crate) fn apply(&self, mut policy: UserTypePolicy) -> UserTypePolicy {
        if !self.external_rules.is_empty() {
            policy.external_rules = self
                .external_rules
                .iter()
                .filter_map(|rule| rule.0.clone())
                .collect();
        }
        let labels = &mut policy.labels;
        labels.min = self.label_min.unwrap_or(labels.min);
        labels.max = self.label_max.unwrap_or(labels.max);
        // One that nobody named moves into the new bounds rather than making them invalid.
        labels.default = self
            .label_default
            .unwrap_or_else(|| labels.default.min(labels.max).max(labels.min));
        let set = |to: &mut u32, from: Option<u32>| *to = from.unwrap_or(*to);
        set(&mut policy.passwords.characters_min, self.password_min);
        let kinds = &mut policy.passwords.kinds_min;
        *kinds = self.password_kinds.unwrap_or(*kinds);
        if let Some(most) = &self.downloads_day {
            policy.downloads.day_bytes_max = most.0;
        }
        if let Some(seconds) = &self.sign_in_again {
            policy.sessions.sign_in_seconds_max = seconds.0;
        }
        let clients = &mut policy.clients;
        if let Some(version) = &self.client_min {
            clients.version_min = version.0;
        }
        if let Some(text) = &self.banner {
            clients.banner = Some(text.clone()).filter(|text| !text.is_empty());
        }
        clients.preview = self.preview.unwrap_or(clients.preview);
        clients.receipts = self.receipts.unwrap_or(clients.receipts);
        clients.forwarding = self.forwarding.unwrap_or(clients.forwarding);
        clients.presence = self.presence.unwrap_or(clients.presence);
        policy
    }
}

fn parse_rule(text: &str) -> Result<OrNone<ExternalRule>, String> {
    if text == "none" {
        return Ok(OrNone(None));
    }
    let wrong = || "write DIRECTION:OPERATION:SCOPE, such as outbound:files:none".to_owned();
    let (direction, rest) = text.split_once(':').ok_or_else(wrong)?;
    let (operation, scope) = rest.split_once(':').ok_or_else(wrong)?;
    let direction = match direction {
        "outbound" => Direction::Outbound,
        "inbound" => Direction::Inbound,
        _ => return Err("a direction is outbound or inbound".to_owned()),
    };
    let operation = match operation {
        "message" => Operation::Message,
        "invite" => Operation::Invite,
        "directory" => Operation::Directory,
        "files" => Operation::Files,
        _ => return Err("an operation is message, invite, directory or files".to_owned()),
    };
    Ok(OrNone(Some(ExternalRule {
        direction,
        operation,
        scope: parse_external(scope)?,
    })))
}

fn parse_bytes_or_none(text: &str) -> Result<OrNone<u64>, String> {
    match text {
        "none" => Ok(OrNone(None)),
        size => parse_bytes(size).map(|bytes| OrNone(Some(bytes))),
    }
}

fn parse_seconds_or_never(text: &str) -> Result<OrNone<u32>, String> {
    match text {
        "never" => Ok(OrNone(None)),
        time => parse_seconds(time).map(|seconds| OrNone(Some(seconds))),
    }
}

fn parse_version_or_none(text: &str) -> Result<OrNone<ClientVersion>, String> {
    match text {
        "none" => Ok(OrNone(None)),
        version => version
            .parse::<ClientVersion>()
            .map(|version| OrNone(Some(version)))
            .map_err(|error| error.to_string()),
    }
}

fn parse_preview(text: &str) -> Result<Preview, String> {
    match text {
        "nothing" => Ok(Preview::Nothing),
        "sender" => Ok(Preview::Sender),
        "full" => Ok(Preview::Full),
        _ => Err("write nothing, sender or full".to_owned()),
    }
}

fn parse_choice(text: &str) -> Result<Choice, String> {
    match text {
        "off" => Ok(Choice::Off),
        "free" => Ok(Choice::Free),
        "always" => Ok(Choice::Always),
        _ => Err("write off, free or always".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use homeserver_api::policy::ExternalScope;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        rules: FurtherRules,
    }

    fn apply(flags: &str, policy: UserTypePolicy) -> UserTypePolicy {
        let line = format!("set {flags}");
        let line = Line::try_parse_from(line.split_whitespace()).expect("it parses");
        line.rules.apply(policy)
    }

    /// Goal: each flag changes what it names and nothing else, and what can be taken away is. Method: all of them at once, then
    /// those that take away.
    #[test]
    fn flags_change_what_they_name() {
        let former = UserTypePolicy::default();
        assert_eq!(apply("", former.clone()), former);
        let policy = apply(
            "--external-rule outbound:files:none --external-rule inbound:invite:b.example --label-min 1 --label-max 3 \
             --downloads-day 1GiB --password-min 12 --password-kinds 3 --sign-in-again 8h --client-min 1.2.0 \
             --banner text --preview sender --receipts off --forwarding no --presence no",
            former.clone(),
        );
        assert_eq!(policy.external_rules.len(), 2);
        assert_eq!(policy.external_rules[0].scope, ExternalScope::None);
        assert_eq!(policy.external_rules[1].operation, Operation::Invite);
        assert_eq!(
            (policy.labels.min, policy.labels.max, policy.labels.default),
            (1, 3, 1)
        );
        assert_eq!(policy.downloads.day_bytes_max, Some(1 << 30));
        assert_eq!(
            (policy.passwords.characters_min, policy.passwords.kinds_min),
            (12, 3)
        );
        assert_eq!(policy.sessions.sign_in_seconds_max, Some(8 * 60 * 60));
        assert_eq!(policy.clients.version_min, "1.2.0".parse().ok());
        assert_eq!(policy.clients.banner.as_deref(), Some("text"));
        assert_eq!(policy.clients.preview, Preview::Sender);
        assert_eq!(policy.clients.receipts, Choice::Off);
        assert!(!policy.clients.forwarding && !policy.clients.presence);
        assert_eq!(policy.ttl, former.ttl);
        let without = apply(
            "--external-rule none --downloads-day none --sign-in-again never --client-min none --banner=",
            policy,
        );
        assert!(without.external_rules.is_empty());
        assert_eq!(without.downloads.day_bytes_max, None);
        assert_eq!(without.sessions.sign_in_seconds_max, None);
        assert_eq!(without.clients.version_min, None);
        assert_eq!(without.clients.banner, None);
        for wrong in ["outbound:files", "across:files:none", "outbound:talk:none"] {
            assert!(parse_rule(wrong).is_err(), "{wrong}");
        }
    }
}
