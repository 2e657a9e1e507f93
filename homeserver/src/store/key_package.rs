//! `K`: single-use key packages of a device, in the order they came; `L`: its last-resort one.

use bytes::Bytes;
use federation_proto::ids::DeviceId;

use super::record::prefix_end;
use super::{Key, Order, Part, Precondition, Store, StoreError, Value};

const FAMILY: &str = "key package";
const VERSION: u8 = 1;
const SINGLE_USE: u8 = b'K';
const LAST_RESORT: u8 = b'L';

/// Adds a single-use key package.
pub fn append(part: &mut Part, device: DeviceId, key_package: &[u8]) {
    let prefix = prefix(SINGLE_USE, device);
    // The tail lies at the bare prefix, entries eight bytes further.
    let tail = prefix.clone();
    part.append(tail, prefix, versioned(key_package));
}

/// Up to `limit` single-use key packages, oldest first, with where they lie.
pub async fn single_use(
    store: &Store,
    device: DeviceId,
    limit: usize,
) -> Result<Vec<(Key, Bytes)>, StoreError> {
    let prefix = prefix(SINGLE_USE, device);
    // Entries lie right after the tail.
    let from = [prefix.as_ref(), &[0]].concat();
    store
        .range(&from, &prefix_end(&prefix), limit, Order::Ascending)
        .await?
        .into_iter()
        .map(|(key, value)| Ok((key, unversioned(&value)?)))
        .collect()
}

/// Takes a single-use key package away; the part fails when somebody else already has.
pub fn consume(part: &mut Part, key: Key) {
    part.require(Precondition::Present(key.clone()));
    part.delete(key);
}

/// The last-resort key package.
pub async fn last_resort(store: &Store, device: DeviceId) -> Result<Option<Bytes>, StoreError> {
    store
        .get(&prefix(LAST_RESORT, device))
        .await?
        .map(|value| unversioned(&value))
        .transpose()
}

/// Replaces the last-resort key package.
pub fn put_last_resort(part: &mut Part, device: DeviceId, key_package: &[u8]) {
    part.put(prefix(LAST_RESORT, device), versioned(key_package));
}

/// Takes back all key packages of a device that goes on, given its single-use ones' keys. The tail
/// stays: whoever has seen one of them must not find another in its place.
pub fn withdraw(part: &mut Part, device: DeviceId, single_use: Vec<Key>) {
    for key in single_use {
        part.delete(key);
    }
    part.delete(prefix(LAST_RESORT, device));
}

/// Deletes all key packages of a removed device, given its single-use ones' keys.
pub fn delete_all(part: &mut Part, device: DeviceId, single_use: Vec<Key>) {
    for key in single_use {
        part.delete(key);
    }
    part.delete(prefix(SINGLE_USE, device));
    part.delete(prefix(LAST_RESORT, device));
}

/// Takes back the single-use key packages among up to `limit` rows from the key `from` on (`None`: from the start), whosever
/// they are; where to go on, `None` at the end. The tails stay.
pub async fn void(
    store: &Store,
    part: &mut Part,
    from: Option<Key>,
    limit: usize,
) -> Result<Option<Key>, StoreError> {
    /// The family and the device: more than that is a key package.
    const TAIL_BYTES: usize = 1 + 16;
    let from = from.unwrap_or_else(|| Key::from_static(&[SINGLE_USE]));
    let page = store
        .range(&from, &prefix_end(&[SINGLE_USE]), limit, Order::Ascending)
        .await?;
    let next = page
        .last()
        .map(|(key, _)| [key.as_ref(), &[0]].concat().into());
    for (key, _) in page {
        if key.len() > TAIL_BYTES {
            part.delete(key);
        }
    }
    Ok(next)
}

fn prefix(family: u8, device: DeviceId) -> Key {
    [&[family][..], device.as_bytes()].concat().into()
}

fn versioned(key_package: &[u8]) -> Value {
    [&[VERSION][..], key_package].concat().into()
}

fn unversioned(value: &Value) -> Result<Bytes, StoreError> {
    match value.first() {
        Some(&VERSION) => Ok(value.slice(1..)),
        _ => Err(StoreError::Corrupt { family: FAMILY }),
    }
}
