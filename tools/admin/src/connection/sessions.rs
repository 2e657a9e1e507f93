//! What the session file holds, without the file.

use std::collections::BTreeMap;
use std::fmt;

use homeserver_api::ids::{Handle, ServerName};
use serde::{Deserialize, Serialize};

/// Longest file that is read: some hundred sessions.
pub(crate) const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// What is known of one homeserver.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SavedSession {
    /// Its server name.
    pub(crate) server_name: ServerName,
    /// SHA-256 of its organisation's root.
    pub(crate) root_sha256: String,
    /// Who signed in.
    pub(crate) name: Handle,
    /// The bearer token.
    pub(crate) token: String,
    /// When the session ends, milliseconds since the Unix epoch.
    pub(crate) expires_ms: u64,
}

impl fmt::Debug for SavedSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SavedSession({} at {})", self.name, self.server_name)
    }
}

/// By `https://host:port`.
pub(crate) type Sessions = BTreeMap<String, SavedSession>;

/// Reads a file's bytes.
pub(crate) fn read(bytes: &[u8]) -> serde_json::Result<Sessions> {
    serde_json::from_slice(bytes)
}

/// The bytes of a file.
pub(crate) fn write(sessions: &Sessions) -> serde_json::Result<Vec<u8>> {
    serde_json::to_vec_pretty(sessions)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn session() -> impl Strategy<Value = SavedSession> {
        (
            "[a-z][a-z0-9]{0,20}",
            "\\PC{0,70}",
            any::<String>(),
            any::<u64>(),
        )
            .prop_map(|(name, root_sha256, token, expires_ms)| SavedSession {
                server_name: format!("{name}.example").parse().expect("a server name"),
                root_sha256,
                name: name.parse().expect("a handle"),
                token,
                expires_ms,
            })
    }

    fn any_sessions() -> impl Strategy<Value = Sessions> {
        prop::collection::btree_map(any::<String>(), session(), 0..4)
    }

    proptest! {
        /// Goal: what is kept comes back, and half a file is no file. Method: any sessions, written, cut and read.
        #[test]
        fn what_is_kept_comes_back(sessions in any_sessions(), cut in any::<prop::sample::Index>()) {
            let bytes = write(&sessions).expect("it can be written");
            prop_assert!(read(&bytes).expect("it reads") == sessions);
            prop_assert!(read(&bytes[..cut.index(bytes.len())]).is_err());
        }

        /// Goal: any bytes are sessions or an error, and what is read comes back. Method: a true file with some
        /// of its bytes overwritten.
        #[test]
        fn damage_is_noticed_or_harmless(
            sessions in any_sessions(),
            at in any::<prop::sample::Index>(),
            damage in prop::collection::vec(any::<u8>(), 0..8),
        ) {
            let mut bytes = write(&sessions).expect("it can be written");
            let from = at.index(bytes.len());
            for (byte, other) in bytes[from..].iter_mut().zip(damage) {
                *byte = other;
            }
            if let Ok(read_back) = read(&bytes) {
                let again = write(&read_back).expect("it can be written");
                prop_assert!(read(&again).expect("it reads") == read_back);
            }
        }
    }
}
