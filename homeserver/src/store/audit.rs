//! `W`: audit events not yet numbered, and how far they are. `V`: the audit log, its tree, and who its pseudonyms are.
//! `v`: where the log ends.

use federation_proto::hash::Digest;
use federation_proto::ids::Address;
use federation_proto::merkle::{Frontier, Place};
use serde::{Deserialize, Serialize};

use super::record::{decode, encode, prefix_end};
use super::{Key, Order, Part, Precondition, Store, StoreError, Value};

const FAMILY: &str = "audit";
const VERSION: u8 = 1;
const PENDING_TAIL: &[u8] = b"Wt";
const PENDING: &[u8] = b"We";
const PASSED: &[u8] = b"Wp";
const ENTRY: &[u8] = b"Ve";
const NODE: &[u8] = b"Vn";
const PSEUDONYM: &[u8] = b"Vp";
const PERSON: &[u8] = b"Vr";
const FORWARDED: &[u8] = b"Vf";
const HEAD: &[u8] = b"v";

/// An event as it was recorded with its act; in the log with pseudonyms for people.
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

/// One entry of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredEntry {
    /// The event.
    pub record: AuditRecord,
    /// The hash of its leaf.
    pub leaf: Digest,
}

/// What stands for a person in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pseudonym(pub [u8; 16]);

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

/// The log's end, as the tree over it, and what must hold for it still to be the end.
pub async fn head(store: &Store) -> Result<(Frontier, Precondition), StoreError> {
    let value = store.get(HEAD).await?;
    let head: Frontier = match &value {
        Some(value) => decode(FAMILY, VERSION, value)?,
        None => Frontier::default(),
    };
    if !head.is_whole() {
        return Err(StoreError::Corrupt { family: FAMILY });
    }
    Ok((head, Precondition::unchanged(Key::from_static(HEAD), value)))
}

/// Moves the log's end.
pub fn put_head(part: &mut Part, head: &Frontier) -> Result<(), StoreError> {
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
        .range(&from, &prefix_end(ENTRY), limit, Order::Ascending)
        .await?
        .into_iter()
        .map(|(key, value)| {
            let number = number(key.get(ENTRY.len()..))?;
            Ok((number, decode(FAMILY, VERSION, &value)?))
        })
        .collect()
}

/// The entry with this number.
pub async fn entry(store: &Store, number: u64) -> Result<Option<StoredEntry>, StoreError> {
    match store.get(&entry_key(number)).await? {
        Some(value) => Ok(Some(decode(FAMILY, VERSION, &value)?)),
        None => Ok(None),
    }
}

/// Writes down a complete subtree of two leaves and more. It never changes.
pub fn put_node(part: &mut Part, place: Place, hash: &Digest) {
    part.put(node_key(place), Value::copy_from_slice(hash.as_bytes()));
}

/// Up to `limit` complete subtrees of one level, from this place on.
pub async fn nodes(
    store: &Store,
    from: Place,
    limit: usize,
) -> Result<Vec<(u64, Digest)>, StoreError> {
    let level = [NODE, &[from.level]].concat();
    store
        .range(
            &node_key(from),
            &prefix_end(&level),
            limit,
            Order::Ascending,
        )
        .await?
        .iter()
        .map(|(key, value)| Ok((number(key.get(level.len()..))?, digest(value)?)))
        .collect()
}

/// The root of the complete subtree at this place: a leaf's hash lies with its entry.
pub async fn node(store: &Store, place: Place) -> Result<Digest, StoreError> {
    let missing = StoreError::Corrupt { family: FAMILY };
    if place.level == 0 {
        let entry = entry(store, place.index.saturating_add(1)).await?;
        return entry.map(|entry| entry.leaf).ok_or(missing);
    }
    let value = store.get(&node_key(place)).await?.ok_or(missing)?;
    digest(&value)
}

/// How far a log server has the log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Forwarded {
    /// The number of the last entry that it has.
    pub number: u64,
    /// When it has got that, milliseconds since the Unix epoch.
    pub at_ms: Option<u64>,
    read: Option<Value>,
}

/// How far the log server has the log.
pub async fn forwarded(store: &Store) -> Result<Forwarded, StoreError> {
    let Some(value) = store.get(FORWARDED).await? else {
        return Ok(Forwarded::default());
    };
    let (number, at_ms) = decode(FAMILY, VERSION, &value)?;
    Ok(Forwarded {
        number,
        at_ms: Some(at_ms),
        read: Some(value),
    })
}

/// The log server has the log up to this entry; the part fails when it is no longer what was read.
pub fn put_forwarded(
    part: &mut Part,
    number: u64,
    at_ms: u64,
    read: &Forwarded,
) -> Result<(), StoreError> {
    let key = Key::from_static(FORWARDED);
    part.require(Precondition::unchanged(key.clone(), read.read.clone()));
    part.put(key, encode(FAMILY, VERSION, &(number, at_ms))?);
    Ok(())
}

/// Who stands under this address in the log, and what must hold for that still to be so.
pub async fn pseudonym(
    store: &Store,
    address: &Address,
) -> Result<(Option<Pseudonym>, Precondition), StoreError> {
    let key = pseudonym_key(address);
    let value = store.get(&key).await?;
    let known = value.as_ref().map(read_pseudonym).transpose()?;
    Ok((known, Precondition::unchanged(key, value)))
}

/// Whose pseudonym it is; `None` when nobody knows any more.
pub async fn person(store: &Store, pseudonym: Pseudonym) -> Result<Option<Address>, StoreError> {
    let Some(value) = store.get(&person_key(pseudonym)).await? else {
        return Ok(None);
    };
    std::str::from_utf8(&value)
        .ok()
        .and_then(|text| text.parse().ok())
        .map(Some)
        .ok_or(StoreError::Corrupt { family: FAMILY })
}

/// From now on the pseudonym stands for whoever has this address.
pub fn put_person(part: &mut Part, address: &Address, pseudonym: Pseudonym) {
    let text = Value::from(address.to_string());
    part.put(person_key(pseudonym), text);
    let value = [&[VERSION][..], &pseudonym.0].concat();
    part.put(pseudonym_key(address), value.into());
}

/// Nobody can tell any more for whom the pseudonym stood.
pub fn delete_person(part: &mut Part, address: &Address, pseudonym: Pseudonym) {
    part.delete(person_key(pseudonym));
    part.delete(pseudonym_key(address));
}

fn read_pseudonym(value: &Value) -> Result<Pseudonym, StoreError> {
    let corrupt = || StoreError::Corrupt { family: FAMILY };
    match value.split_first() {
        Some((&VERSION, bytes)) => bytes.try_into().map(Pseudonym).map_err(|_| corrupt()),
        _ => Err(corrupt()),
    }
}

fn digest(value: &Value) -> Result<Digest, StoreError> {
    let bytes: &[u8] = value;
    bytes
        .try_into()
        .map(Digest::from_bytes)
        .map_err(|_| StoreError::Corrupt { family: FAMILY })
}

fn entry_key(number: u64) -> Key {
    [ENTRY, &number.to_be_bytes()].concat().into()
}

fn node_key(place: Place) -> Key {
    [NODE, &[place.level], &place.index.to_be_bytes()]
        .concat()
        .into()
}

fn pseudonym_key(address: &Address) -> Key {
    [PSEUDONYM, address.to_string().as_bytes()].concat().into()
}

fn person_key(pseudonym: Pseudonym) -> Key {
    [PERSON, &pseudonym.0].concat().into()
}
