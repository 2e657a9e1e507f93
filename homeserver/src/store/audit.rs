//! `W`: audit events not yet numbered, and how far they are. `V`: the audit log. `v`: where the log ends.

use serde::{Deserialize, Serialize};

use super::record::{decode, encode, prefix_end};
use super::{Key, Order, Part, Precondition, Store, StoreError, Value};

const FAMILY: &str = "audit";
const VERSION: u8 = 1;
const PENDING_TAIL: &[u8] = b"Wt";
const PENDING: &[u8] = b"We";
const PASSED: &[u8] = b"Wp";
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

/// The oldest events recorded after the one at place `passed`, each with its place and its key.
pub async fn pending(
    store: &Store,
    passed: u64,
    limit: usize,
) -> Result<Vec<(u64, Key, AuditRecord)>, StoreError> {
    let from = [PENDING, &passed.saturating_add(1).to_be_bytes()].concat();
    store
        .range(&from, &prefix_end(PENDING), limit, Order::Ascending)
        .await?
        .into_iter()
        .map(|(key, value)| {
            let place = number(key.get(PENDING.len()..))?;
            Ok((place, key, decode(FAMILY, VERSION, &value)?))
        })
        .collect()
}

/// The place of the event that was recorded last.
pub async fn newest_pending(store: &Store) -> Result<u64, StoreError> {
    match store.get(PENDING_TAIL).await? {
        Some(value) => number(Some(&value)),
        None => Ok(0),
    }
}

/// Up to which place events were numbered. The rows up to there are gone: reading from there on does not pass
/// over what a store keeps of them.
pub async fn passed(store: &Store) -> Result<u64, StoreError> {
    match store.get(PASSED).await? {
        Some(value) => number(Some(&value)),
        None => Ok(0),
    }
}

/// Events are numbered up to this place, in the part that moves the log's end.
pub fn put_passed(part: &mut Part, place: u64) {
    let value = Value::copy_from_slice(&place.to_be_bytes());
    part.put(Key::from_static(PASSED), value);
}

fn number(bytes: Option<&[u8]>) -> Result<u64, StoreError> {
    bytes
        .and_then(|bytes| Some(u64::from_be_bytes(bytes.try_into().ok()?)))
        .ok_or(StoreError::Corrupt { family: FAMILY })
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
        .map(|(key, value)| Ok((number(key.get(1..))?, decode(FAMILY, VERSION, &value)?)))
        .collect()
}

fn entry_key(number: u64) -> Key {
    [&[ENTRY][..], &number.to_be_bytes()].concat().into()
}
