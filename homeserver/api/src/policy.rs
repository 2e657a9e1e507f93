//! What a user type allows, as clients and administrators see it.

use federation_proto::ids::ServerName;
use serde::{Deserialize, Serialize};

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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
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
        }
    }
}
