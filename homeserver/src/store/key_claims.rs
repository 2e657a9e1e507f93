//! `j`: how many single-use key packages of a device each peer, and each own account, has been given lately.

use federation_proto::ids::{AccountId, DeviceId, ServerName};
use serde::{Deserialize, Serialize};

use super::record::{decode, encode, prefix_end};
use super::{Key, Order, Part, Precondition, Store, StoreError, Value};

const FAMILY: &str = "key claims";
const VERSION: u8 = 1;
const CLAIMS: u8 = b'j';
/// Records read at a time.
const PAGE: usize = 256;

/// Who is given key packages.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Claimer {
    /// All people of a peer together.
    Peer(ServerName),
    /// An account of this homeserver.
    Own(AccountId),
}

/// What somebody has been given of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct KeyClaims {
    /// When counting began, milliseconds since the Unix epoch.
    pub since_ms: u64,
    /// How many since then.
    pub count: u32,
}

/// What somebody has been given of `device`, and its stored bytes (for [`put`]).
pub async fn get(
    store: &Store,
    device: DeviceId,
    by: &Claimer,
) -> Result<Option<(KeyClaims, Value)>, StoreError> {
    match store.get(&key(device, by)).await? {
        Some(value) => Ok(Some((decode(FAMILY, VERSION, &value)?, value))),
        None => Ok(None),
    }
}

/// Writes the count; the part fails when it is no longer what was read.
pub fn put(
    part: &mut Part,
    device: DeviceId,
    by: &Claimer,
    claims: KeyClaims,
    read: Option<Value>,
) -> Result<(), StoreError> {
    let key = key(device, by);
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

fn key(device: DeviceId, by: &Claimer) -> Key {
    let of = match by {
        Claimer::Peer(peer) => peer.as_str().as_bytes().to_vec(),
        // No server's name begins with a zero.
        Claimer::Own(account) => [&[0][..], account.as_bytes()].concat(),
    };
    [prefix(device).as_ref(), &of].concat().into()
}
