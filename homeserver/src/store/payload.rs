//! `P`: a payload that several devices wait for, once; `C`: one key for each device that still does.
//!
//! Keys instead of a counter: devices that acknowledge at the same moment don't contend for one
//! record. Whoever finds no `C` left deletes the payload, which does no harm when done twice.

use bytes::Bytes;
use federation_proto::ids::{DeviceId, ServerName};
use serde::{Deserialize, Serialize};

use super::record::prefix_end;
use super::{Key, Order, Part, Store, StoreError, tally};

const FAMILY: &str = "payload";
const VERSION: u8 = 1;
const PAYLOAD: u8 = b'P';
const WAITING: u8 = b'C';

/// Names a stored payload; random.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PayloadId(pub [u8; 16]);

/// Writes the payload, which `source` brought (`None`: it came from here).
pub fn put(part: &mut Part, id: PayloadId, source: Option<&ServerName>, payload: &Bytes) {
    let value = [&[VERSION][..], payload].concat();
    if let Some(source) = source {
        part.count(tally::inbound(source), value.len());
    }
    part.put(key(id), value.into());
}

/// The payload, while it is kept.
pub async fn get(store: &Store, id: PayloadId) -> Result<Option<Bytes>, StoreError> {
    match store.get(&key(id)).await? {
        None => Ok(None),
        Some(value) if value.first() == Some(&VERSION) => Ok(Some(value.slice(1..))),
        Some(_) => Err(StoreError::Corrupt { family: FAMILY }),
    }
}

/// Notes that `device` waits for the payload.
pub fn wait_for(part: &mut Part, id: PayloadId, device: DeviceId) {
    part.put(waiting_key(id, device), Bytes::from_static(&[VERSION]));
}

/// Notes that `device` no longer waits for the payload.
pub fn release(part: &mut Part, id: PayloadId, device: DeviceId) {
    part.delete(waiting_key(id, device));
}

/// Whether any device still waits for the payload.
pub async fn is_awaited(store: &Store, id: PayloadId) -> Result<bool, StoreError> {
    let prefix = [&[WAITING][..], &id.0].concat();
    let found = store
        .range(&prefix, &prefix_end(&prefix), 1, Order::Ascending)
        .await?;
    Ok(!found.is_empty())
}

/// Whether any device but this one still waits for the payload.
pub async fn is_awaited_beside(
    store: &Store,
    id: PayloadId,
    device: DeviceId,
) -> Result<bool, StoreError> {
    let prefix = [&[WAITING][..], &id.0].concat();
    let found = store
        .range(&prefix, &prefix_end(&prefix), 2, Order::Ascending)
        .await?;
    let own = waiting_key(id, device);
    Ok(found.iter().any(|(key, _)| *key != own))
}

/// Whether the payload is kept; it is not opened for that.
pub async fn is_kept(store: &Store, id: PayloadId) -> Result<bool, StoreError> {
    let key = key(id);
    let behind = [key.as_ref(), &[0]].concat();
    let found = store.keys(&key, &behind, 1, Order::Ascending).await?;
    Ok(!found.is_empty())
}

/// Deletes the payload, which has this source.
pub fn delete(part: &mut Part, id: PayloadId, source: Option<&ServerName>) {
    if let Some(source) = source {
        part.uncount(tally::inbound(source), key(id));
    }
    part.delete(key(id));
}

fn key(id: PayloadId) -> Key {
    [&[PAYLOAD][..], &id.0].concat().into()
}

fn waiting_key(id: PayloadId, device: DeviceId) -> Key {
    [&[WAITING][..], &id.0, device.as_bytes()].concat().into()
}
