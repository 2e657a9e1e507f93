//! `m`: that the store was made of a backup, and how far what follows from that has come.

use serde::{Deserialize, Serialize};

use super::record::{decode, encode};
use super::{Key, Part, Store, StoreError};

const FAMILY: &str = "restored";
const VERSION: u8 = 1;
const KEY: &[u8] = b"mrestored";

/// The last time that the store was made of a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoredRecord {
    /// When the backup was made, milliseconds since the Unix epoch. Nothing of what was answered later is here.
    pub made_ms: u64,
    /// When the store was made of it.
    pub restored_ms: u64,
    /// Whether what has to happen before anybody is served has happened.
    pub is_ready: bool,
    /// Whether an administrator has looked at what came back: devices, users and agreements may have ended after the backup.
    /// Nobody else is served before.
    pub is_confirmed: bool,
}

/// The record; `None`: the store was never made of a backup.
pub async fn get(store: &Store) -> Result<Option<RestoredRecord>, StoreError> {
    store
        .get(KEY)
        .await?
        .map(|value| decode(FAMILY, VERSION, &value))
        .transpose()
}

/// Whether people and peers may be served: the store was made of no backup, or what came back with it is confirmed.
pub async fn is_confirmed(store: &Store) -> Result<bool, StoreError> {
    Ok(get(store).await?.is_none_or(|record| record.is_confirmed))
}

/// Writes the record.
pub fn put(part: &mut Part, record: &RestoredRecord) -> Result<(), StoreError> {
    part.put(Key::from_static(KEY), encode(FAMILY, VERSION, record)?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the stored form never changes unseen; by comparing with fixed bytes.
    #[test]
    fn stored_form() {
        let record = RestoredRecord {
            made_ms: 5,
            restored_ms: 300,
            is_ready: true,
            is_confirmed: false,
        };
        let value = encode(FAMILY, VERSION, &record).unwrap();
        assert_eq!(value.as_ref(), [1, 5, 0xac, 2, 1, 0]);
    }
}
