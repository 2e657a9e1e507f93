//! What a user type allows, as clients and administrators see it.

mod own;
mod rules;
mod segments;

use federation_proto::ids::ServerName;
use serde::{Deserialize, Serialize};

pub use self::own::OwnRules;
pub use self::rules::{
    Choice, ClientRules, ClientVersion, Direction, DownloadRules, ExternalRule, FileTypes, Labels,
    PasswordRules, Preview, SessionRules, SignInRules, VersionError,
};
pub use self::segments::{BarrierRule, Barriers, Contact, Effect, Segment};
use crate::admin::Operation;

/// A minimum, a maximum and the value used when the user chooses none; seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bounds {
    /// The least that a user may choose.
    pub min_seconds: u32,
    /// The most that a user may choose.
    pub max_seconds: u32,
    /// What is used when the user chooses nothing.
    pub default_seconds: u32,
}

impl Bounds {
    /// Whether `seconds` lies within the bounds.
    #[must_use]
    pub const fn contains(&self, seconds: u32) -> bool {
        self.min_seconds <= seconds && seconds <= self.max_seconds
    }

    /// Whether the bounds are in order: min ≤ default ≤ max.
    #[must_use]
    pub const fn in_order(&self) -> bool {
        self.min_seconds <= self.default_seconds && self.default_seconds <= self.max_seconds
    }
}

/// Which other organisations an account may exchange messages with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum ExternalScope {
    /// None: the account talks inside its own organisation only.
    None,
    /// The listed peers.
    Peers(Vec<ServerName>),
    /// Every organisation with an active agreement.
    AllPeers,
}

impl ExternalScope {
    /// Whether the scope takes in `peer`.
    #[must_use]
    pub fn allows(&self, peer: &ServerName) -> bool {
        match self {
            Self::None => false,
            Self::Peers(peers) => peers.contains(peer),
            Self::AllPeers => true,
        }
    }
}

/// Who finds an account by looking it up, at home and, as far as an agreement grants it, at partners.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum DirectoryListing {
    /// Nobody.
    Hidden,
    /// Whoever knows the whole handle.
    #[default]
    Exact,
    /// Whoever knows how the handle begins, too.
    Listed,
}

/// Who of other organisations may start conversations with an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OutsideContacts {
    /// Anyone whom agreement and policy let through.
    #[default]
    Open,
    /// Whom the person has consented to.
    Ask,
}

/// How an account without a device at hand gets a new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeviceReset {
    /// By its password; people who wrote with it confirm the new device.
    #[default]
    Password,
    /// Only with an administrator's leave for one time.
    Administrator,
}

/// The rules for accounts of one user type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserTypePolicy {
    /// Bounds of a message's time-to-live; its minimum is at least 1.
    pub ttl: Bounds,
    /// Bounds of the burn-on-read time; 0 means "does not burn".
    pub burn: Bounds,
    /// Which other organisations.
    pub external: ExternalScope,
    /// Whether files may be sent.
    pub files: bool,
    /// Largest file, in bytes.
    pub file_bytes_max: u64,
    /// Most devices of one account.
    pub devices_max: u32,
    /// Who finds its accounts; absent: whoever knows the whole handle.
    #[serde(default)]
    pub directory: DirectoryListing,
    /// Who from outside may start conversations.
    #[serde(default)]
    pub outside_contacts: OutsideContacts,
    /// How a device comes to an account without another one's approval.
    #[serde(default)]
    pub device_reset: DeviceReset,
    /// Narrower scopes than `external`, by direction and operation.
    #[serde(default)]
    pub external_rules: Vec<ExternalRule>,
    /// Labels of messages.
    #[serde(default)]
    pub labels: Labels,
    /// Which files may go with messages, by label; below the first rule's label: any.
    #[serde(default)]
    pub file_types: Vec<FileTypes>,
    /// What may be downloaded.
    #[serde(default)]
    pub downloads: DownloadRules,
    /// What happens after failed sign-ins.
    #[serde(default)]
    pub sign_in: SignInRules,
    /// What passwords must be like.
    #[serde(default)]
    pub passwords: PasswordRules,
    /// How long devices stay signed in.
    #[serde(default)]
    pub sessions: SessionRules,
    /// What clients are held to.
    #[serde(default)]
    pub clients: ClientRules,
}

impl UserTypePolicy {
    /// Whether `operation` may go in `direction` between the account and people of `peer`.
    #[must_use]
    pub fn reaches(&self, peer: &ServerName, direction: Direction, operation: Operation) -> bool {
        self.external.allows(peer)
            && self
                .external_rules
                .iter()
                .filter(|rule| rule.direction == direction && rule.operation == operation)
                .all(|rule| rule.scope.allows(peer))
    }

    /// Whether a file of this name may go with a message of this label.
    #[must_use]
    pub fn allows_file(&self, label: u8, name: &str) -> bool {
        let rules = self.file_types.iter().filter(|rule| rule.label <= label);
        let Some(rule) = rules.max_by_key(|rule| rule.label) else {
            return true;
        };
        let ending = name.rsplit_once('.').map_or("", |(_, ending)| ending);
        let ending = ending.to_lowercase();
        rule.endings.contains(&ending)
    }
}

impl Default for UserTypePolicy {
    fn default() -> Self {
        const DAY: u32 = 24 * 60 * 60;
        Self {
            ttl: Bounds {
                min_seconds: 60,
                max_seconds: 30 * DAY,
                default_seconds: 7 * DAY,
            },
            burn: Bounds {
                min_seconds: 0,
                max_seconds: DAY,
                default_seconds: 0,
            },
            external: ExternalScope::AllPeers,
            files: true,
            file_bytes_max: 100 * 1024 * 1024,
            devices_max: 5,
            directory: DirectoryListing::Exact,
            outside_contacts: OutsideContacts::Open,
            device_reset: DeviceReset::Password,
            external_rules: Vec::new(),
            labels: Labels::default(),
            file_types: Vec::new(),
            downloads: DownloadRules::default(),
            sign_in: SignInRules::default(),
            passwords: PasswordRules::default(),
            sessions: SessionRules::default(),
            clients: ClientRules::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a narrower scope takes away from the wide one and adds nothing, for its own operation and direction alone.
    /// Method: a rule inside the wide scope and one outside of it.
    #[test]
    fn narrower_scopes() {
        let [b, c]: [ServerName; 2] =
            ["b.example", "c.example"].map(|name| name.parse().expect("a name"));
        let rule = |operation, peer: &ServerName| ExternalRule {
            direction: Direction::Outbound,
            operation,
            scope: ExternalScope::Peers(vec![peer.clone()]),
        };
        let policy = UserTypePolicy {
            external: ExternalScope::Peers(vec![b.clone()]),
            external_rules: vec![rule(Operation::Files, &c), rule(Operation::Invite, &b)],
            ..UserTypePolicy::default()
        };
        let reaches = |peer, direction, operation| policy.reaches(peer, direction, operation);
        assert!(reaches(&b, Direction::Outbound, Operation::Message));
        assert!(reaches(&b, Direction::Outbound, Operation::Invite));
        assert!(!reaches(&b, Direction::Outbound, Operation::Files));
        assert!(reaches(&b, Direction::Inbound, Operation::Files));
        assert!(!reaches(&c, Direction::Outbound, Operation::Files));
        assert!(!reaches(&c, Direction::Outbound, Operation::Message));
    }

    /// Goal: which files go with a message is ruled by the highest rule up to its label. Method: two rules, and labels below,
    /// between and above.
    #[test]
    fn files_by_label() {
        let rule = |label, endings: &[&str]| FileTypes {
            label,
            endings: endings.iter().map(ToString::to_string).collect(),
        };
        let policy = UserTypePolicy {
            file_types: vec![rule(2, &["pdf", "txt"]), rule(3, &["pdf"])],
            ..UserTypePolicy::default()
        };
        for (label, name, may) in [
            (0, "a.exe", true),
            (1, "a", true),
            (2, "a.TXT", true),
            (2, "a.exe", false),
            (2, "pdf", false),
            (3, "a.txt", false),
            (9, "a.b.pdf", true),
        ] {
            assert_eq!(policy.allows_file(label, name), may, "{label} {name}");
        }
    }
}
