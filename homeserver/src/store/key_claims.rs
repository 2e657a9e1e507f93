//! `j`: how many single-use key packages of a device each peer has been given lately.

use federation_proto::ids::{DeviceId, ServerName};
use serde::{Deserialize, Serialize};

use super::record::{decode, encode, prefix_end};
use super::{Key, Order, Part, Precondition, Store, StoreError, Value};

const FAMILY: &str = "key claims";
const VERSION: u8 = 1;
const CLAIMS: u8 = b'j';
/// Records read at a time.
const PAGE: usize = 256;

/// What a peer has been given of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct KeyClaims {
    /// When counting began, milliseconds since the Unix epoch.
    pub since_ms: u64,
    /// How many since then.
    pub count: u32,
}

/// What `peer` has been given of `device`, and its stored bytes (for [`put`]).
pub async fn get(
    store: &Store,
    device: DeviceId,
    peer: &ServerName,
) -> Result<Option<(KeyClaims, Value)>, StoreError> {
    match store.get(&key(device, peer)).await? {
        Some(value) => Ok(Some((decode(FAMILY, VERSION, &value)?, value))),
        None => Ok(None),
    }
}

/// Writes the count; the part fails when it is no longer what was read.
pub fn put(
    part: &mut Part,
    device: DeviceId,
    peer: &ServerName,
    claims: KeyClaims,
    read: Option<Value>,
) -> Result<(), StoreError> {
    let key = key(device, peer);
    part.require(Precondition::unchanged(key.clone(), read));
    part.put(key, encode(FAMILY, VERSION, &claims)?);
    Ok(())
}

/// Deletes the counts of a removed device.
pub async fn delete_all(
    store: &Store,
    part: &mut Part,
    device: DeviceId,
) -> Result<(), StoreError> {
    let prefix = prefix(device);
    let mut from = prefix.clone();
    loop {
        let page = store
            .range(&from, &prefix_end(&prefix), PAGE, Order::Ascending)
            .await?;
        let full = page.len() == PAGE;
        for (key, _) in page {
            from = [key.as_ref(), &[0]].concat().into();
            part.delete(key);
        }
        if !full {
            return Ok(());
        }
    }
}

fn prefix(device: DeviceId) -> Key {
    [&[CLAIMS][..], device.as_bytes()].concat().into()
}

fn key(device: DeviceId, peer: &ServerName) -> Key {
    [prefix(device).as_ref(), peer.as_str().as_bytes()]
        .concat()
        .into()
}
