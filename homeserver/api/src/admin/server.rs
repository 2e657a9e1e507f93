//! The homeserver as a whole: how it is, its backups, and what came back with one.

use federation_proto::ids::ServerName;
use serde::{Deserialize, Serialize};

use super::PeerState;
use crate::password::Password;

/// The homeserver at a glance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerStatus {
    /// Its server name.
    pub server: ServerName,
    /// Its software version.
    pub version: String,
    /// SHA-256 of the organisation's root certificate (DER), lower-case hexadecimal.
    pub root_sha256: String,
    /// The same as words to read aloud.
    #[serde(default)]
    pub root_words: String,
    /// Its clock, milliseconds since the Unix epoch.
    pub server_time_ms: u64,
    /// Accounts, suspended ones too.
    pub accounts: u64,
    /// Devices.
    pub devices: u64,
    /// Open device sessions.
    pub sessions: u64,
    /// What the store is sealed under; an older homeserver does not tell.
    #[serde(default)]
    pub store_keys: Option<StoreKeys>,
    /// What an administrator should look at, a sentence each.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// The generation of keys that the store is sealed under.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreKeys {
    /// Its number.
    pub generation: u64,
    /// When it was made, milliseconds since the Unix epoch.
    pub since_ms: u64,
    /// When a former one was last destroyed, and with it what had been deleted, milliseconds since the Unix epoch; absent:
    /// not since the homeserver started.
    #[serde(default)]
    pub destroyed_ms: Option<u64>,
}

/// Whom a backup is sealed for: one of the two.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackupRequest {
    /// Whoever knows this passphrase.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passphrase: Option<Password>,
    /// Whoever has the private half of this key: the text of its file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_key: Option<String>,
}

/// What came back with a backup, for an administrator to compare with what has ended since.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoredStatus {
    /// As of when everything is, but for what was changed since the restore, milliseconds since the Unix epoch.
    pub made_ms: u64,
    /// When it was restored, milliseconds since the Unix epoch.
    pub restored_ms: u64,
    /// Whether an administrator has confirmed it; before, neither people nor peers are served.
    pub is_confirmed: bool,
    /// Users, suspended ones too.
    pub users: u64,
    /// Suspended ones among them.
    pub suspended: u64,
    /// Devices.
    pub devices: u64,
    /// The agreements with other organisations, by name.
    pub agreements: Vec<RestoredAgreement>,
}

/// An agreement that came back with a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoredAgreement {
    /// The other organisation.
    pub server: ServerName,
    /// Where it stands.
    pub state: PeerState,
}
