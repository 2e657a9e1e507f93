//! `Z`: documents that strangers have dropped, by their SHA-256. `r`: a number that changes with each.
//!
//! Nothing here has any effect until an administrator takes it.

use serde::{Deserialize, Serialize};

use super::record::{decode, encode, prefix_end};
use super::{Key, Order, Part, Precondition, Store, StoreError, Value};

const FAMILY: &str = "quarantined document";
const VERSION: u8 = 1;
const DOCUMENT: u8 = b'Z';
const SERIAL: &[u8] = b"r";

/// A document that a stranger has dropped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuarantinedRecord {
    /// The document, armored.
    pub text: String,
    /// When it came, milliseconds since the Unix epoch.
    pub received_ms: u64,
    /// The network from which it came.
    pub network: String,
}

/// How often a document was added, as it is stored. Read it before [`all`].
pub async fn serial(store: &Store) -> Result<Option<Value>, StoreError> {
    store.get(SERIAL).await
}

/// Adds a document, unless it is there, or another was added since the serial was read: then they would have
/// to be counted again.
pub fn put(
    part: &mut Part,
    id: &[u8; 32],
    record: &QuarantinedRecord,
    serial: Option<Value>,
) -> Result<(), StoreError> {
    let number = match &serial {
        Some(value) => value.as_ref().try_into().map(u64::from_be_bytes),
        None => Ok(0),
    };
    let number = number.map_err(|_| StoreError::Corrupt { family: FAMILY })?;
    part.require(Precondition::unchanged(Key::from_static(SERIAL), serial));
    let next = number.wrapping_add(1).to_be_bytes();
    part.put(Key::from_static(SERIAL), Value::copy_from_slice(&next));
    part.require(Precondition::Absent(key(id)));
    part.put(key(id), encode(FAMILY, VERSION, record)?);
    Ok(())
}

/// Deletes a document, which must be there.
pub fn delete(part: &mut Part, id: &[u8; 32]) {
    part.require(Precondition::Present(key(id)));
    part.delete(key(id));
}

/// The document.
pub async fn get(store: &Store, id: &[u8; 32]) -> Result<Option<QuarantinedRecord>, StoreError> {
    let value = store.get(&key(id)).await?;
    value
        .map(|value| decode(FAMILY, VERSION, &value))
        .transpose()
}

/// Up to `limit` documents, by their hashes.
pub async fn all(
    store: &Store,
    limit: usize,
) -> Result<Vec<([u8; 32], QuarantinedRecord)>, StoreError> {
    let entries = store
        .range(
            &[DOCUMENT],
            &prefix_end(&[DOCUMENT]),
            limit,
            Order::Ascending,
        )
        .await?;
    entries
        .iter()
        .map(|(key, value)| {
            let id = key.get(1..).and_then(|id| id.try_into().ok());
            let id = id.ok_or(StoreError::Corrupt { family: FAMILY })?;
            Ok((id, decode(FAMILY, VERSION, value)?))
        })
        .collect()
}

fn key(id: &[u8; 32]) -> Key {
    [&[DOCUMENT], id.as_slice()].concat().into()
}
