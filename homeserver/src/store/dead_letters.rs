//! `X`: envelopes that were given up, numbered in the order in which that happened.
//!
//! Deliberately absent: payloads. What was given up is gone; who lost what, and why, stays for
//! [`KEPT_MS`].

use federation_proto::ids::{DeviceId, RoomId, ServerName};
use federation_proto::refusal::RefusalCode;
use serde::{Deserialize, Serialize};

use super::record::{decode, encode, prefix_end};
use super::{Order, Part, Store, StoreError};

const FAMILY: &str = "dead letter";
const VERSION: u8 = 1;
const ENTRY: &[u8] = b"Xe";
const TAIL: &[u8] = b"Xt";
/// How long a dead letter is shown.
pub const KEPT_MS: u64 = 90 * 24 * 60 * 60 * 1000;

/// An envelope that was given up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetterRecord {
    /// When, milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// For whom it was.
    pub server: ServerName,
    /// The room, when it was of one.
    pub room: Option<RoomId>,
    /// The sending device, when it was one of this homeserver.
    pub device: Option<DeviceId>,
    /// The number of the reason's code.
    pub code: u16,
    /// The reason in words.
    pub reason: String,
}

impl DeadLetterRecord {
    /// The reason's code.
    pub fn refusal_code(&self) -> RefusalCode {
        // A code that only a newer version knows is shown as what every version knows.
        RefusalCode::from_number(self.code).unwrap_or(RefusalCode::Malformed)
    }
}

/// Adds a dead letter.
pub fn append(part: &mut Part, record: &DeadLetterRecord) -> Result<(), StoreError> {
    let value = encode(FAMILY, VERSION, record)?;
    part.append(TAIL.to_vec().into(), ENTRY.to_vec().into(), value);
    Ok(())
}

/// The newest `limit` dead letters, newest first.
pub async fn newest(store: &Store, limit: usize) -> Result<Vec<DeadLetterRecord>, StoreError> {
    let entries = store
        .range(ENTRY, &prefix_end(ENTRY), limit, Order::Descending)
        .await?;
    entries
        .iter()
        .map(|(_, value)| decode(FAMILY, VERSION, value))
        .collect()
}

/// Adds the deletion of up to `limit` dead letters older than [`KEPT_MS`].
pub async fn delete_old(
    store: &Store,
    part: &mut Part,
    now_ms: u64,
    limit: usize,
) -> Result<(), StoreError> {
    let entries = store
        .range(ENTRY, &prefix_end(ENTRY), limit, Order::Ascending)
        .await?;
    for (key, value) in entries {
        let record: DeadLetterRecord = decode(FAMILY, VERSION, &value)?;
        if record.at_ms.saturating_add(KEPT_MS) > now_ms {
            break;
        }
        part.delete(key);
    }
    Ok(())
}
