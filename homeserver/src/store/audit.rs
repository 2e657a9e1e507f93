//! `W`: audit events not yet numbered. `V`: the audit log. `v`: where the log ends.

use serde::{Deserialize, Serialize};

use super::record::{decode, encode, prefix_end};
use super::{Key, Order, Part, Precondition, Store, StoreError, Value};

const FAMILY: &str = "audit";
const VERSION: u8 = 1;
const PENDING_TAIL: &[u8] = b"Wt";
const PENDING: &[u8] = b"We";
const ENTRY: u8 = b'V';
const HEAD: &[u8] = b"v";

/// An event as it was recorded with its act.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditRecord {
    /// When, milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// Who.
    pub actor: String,
    /// What.
    pub action: String,
    /// On what.
    pub subject: String,
    /// More, in words.
    pub detail: String,
}

/// Where the log ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct AuditHead {
    /// The last entry's number; 0 while there is none.
    pub number: u64,
    /// The last entry's hash; zeros while there is none.
    pub hash: [u8; 32],
}

/// One entry of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredEntry {
    /// The event.
    pub record: AuditRecord,
    /// SHA-256 over the previous entry's hash and this entry.
    pub hash: [u8; 32],
}

/// Adds an event to the act's part.
pub fn put_pending(part: &mut Part, record: &AuditRecord) -> Result<(), StoreError> {
    let value = encode(FAMILY, VERSION, record)?;
    let (tail, prefix) = (Key::from_static(PENDING_TAIL), Key::from_static(PENDING));
    part.append(tail, prefix, value);
    Ok(())
}

/// The oldest events that are not numbered yet, each with its key.
pub async fn pending(store: &Store, limit: usize) -> Result<Vec<(Key, AuditRecord)>, StoreError> {
    store
        .range(PENDING, &prefix_end(PENDING), limit, Order::Ascending)
        .await?
        .into_iter()
        .map(|(key, value)| Ok((key, decode(FAMILY, VERSION, &value)?)))
        .collect()
}

/// The log's end, and what must hold for it still to be the end.
pub async fn head(store: &Store) -> Result<(AuditHead, Precondition), StoreError> {
    let value = store.get(HEAD).await?;
    let head = match &value {
        Some(value) => decode(FAMILY, VERSION, value)?,
        None => AuditHead::default(),
    };
    Ok((head, Precondition::unchanged(Key::from_static(HEAD), value)))
}

/// Moves the log's end.
pub fn put_head(part: &mut Part, head: &AuditHead) -> Result<(), StoreError> {
    let value: Value = encode(FAMILY, VERSION, head)?;
    part.put(Key::from_static(HEAD), value);
    Ok(())
}

/// Adds an entry to the log.
pub fn put_entry(part: &mut Part, number: u64, entry: &StoredEntry) -> Result<(), StoreError> {
    part.put(entry_key(number), encode(FAMILY, VERSION, entry)?);
    Ok(())
}

/// Up to `limit` entries after the number `after`, oldest first.
pub async fn entries(
    store: &Store,
    after: u64,
    limit: usize,
) -> Result<Vec<(u64, StoredEntry)>, StoreError> {
    let from = entry_key(after.saturating_add(1));
    store
        .range(&from, &prefix_end(&[ENTRY]), limit, Order::Ascending)
        .await?
        .into_iter()
        .map(|(key, value)| {
            let number = key
                .get(1..)
                .and_then(|number| Some(u64::from_be_bytes(number.try_into().ok()?)))
                .ok_or(StoreError::Corrupt { family: FAMILY })?;
            Ok((number, decode(FAMILY, VERSION, &value)?))
        })
        .collect()
}

fn entry_key(number: u64) -> Key {
    [&[ENTRY][..], &number.to_be_bytes()].concat().into()
}
