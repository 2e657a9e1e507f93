//! `y`: how far a room's hub has come with relaying what each other server wrote.
//!
//! A hub may pass an envelope of a third server on once: what lies at or before the last one is a replay.

use federation_proto::ids::{RoomId, ServerName};
use serde::{Deserialize, Serialize};

use super::record::{decode, encode, prefix_end};
use super::{Key, Order, Part, Precondition, Store, StoreError, Value};

const FAMILY: &str = "relayed";
const VERSION: u8 = 1;
const RELAYED: u8 = b'y';

/// The place of the last envelope on the link from its origin to the hub; later ones are greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Last {
    /// The link epoch.
    pub link_epoch: u64,
    /// The sequence within the room's lane.
    pub sequence: u64,
}

/// The last one and its stored bytes (for [`put`]).
pub async fn get(
    store: &Store,
    room: RoomId,
    origin: &ServerName,
) -> Result<Option<(Last, Value)>, StoreError> {
    match store.get(&key(room, origin)).await? {
        Some(value) => Ok(Some((decode(FAMILY, VERSION, &value)?, value))),
        None => Ok(None),
    }
}

/// Writes the last one; the part fails when it is no longer as it was read.
pub fn put(
    part: &mut Part,
    room: RoomId,
    origin: &ServerName,
    read: Option<Value>,
    last: Last,
) -> Result<(), StoreError> {
    let key = key(room, origin);
    part.require(Precondition::unchanged(key.clone(), read));
    part.put(key, encode(FAMILY, VERSION, &last)?);
    Ok(())
}

/// Adds the deletion of all that is kept for a room.
pub async fn delete_room(store: &Store, part: &mut Part, room: RoomId) -> Result<(), StoreError> {
    let prefix = prefix(room);
    let entries = store
        .range(&prefix, &prefix_end(&prefix), usize::MAX, Order::Ascending)
        .await?;
    for (key, _) in entries {
        part.delete(key);
    }
    Ok(())
}

fn prefix(room: RoomId) -> Key {
    [&[RELAYED][..], room.as_bytes()].concat().into()
}

fn key(room: RoomId, origin: &ServerName) -> Key {
    [prefix(room).as_ref(), origin.as_str().as_bytes()]
        .concat()
        .into()
}
