//! `b`: where a lane's numbering starts in a link epoch that was begun with mail waiting.
//!
//! Rows keep their numbers; their sequences on the link are counted from here. Lanes of a link epoch
//! that began with an empty outbox start at 0, and have no record.

use federation_proto::envelope::Lane;
use federation_proto::ids::ServerName;
use serde::{Deserialize, Serialize};

use super::record::{decode, encode, prefix_end};
use super::{Key, Order, Part, Precondition, Store, StoreError, Value};

const FAMILY: &str = "lane base";
const VERSION: u8 = 1;
const BASE: u8 = b'b';

/// Where a lane's numbering starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneBase {
    /// The link epoch.
    pub link_epoch: u64,
    /// The row with the next number has sequence 1.
    pub base: u64,
}

/// The record of a lane, and its stored bytes (for [`put`]).
pub async fn get(
    store: &Store,
    destination: &ServerName,
    lane: Lane,
) -> Result<Option<(LaneBase, Value)>, StoreError> {
    match store.get(&key(destination, lane)).await? {
        Some(value) => Ok(Some((decode(FAMILY, VERSION, &value)?, value))),
        None => Ok(None),
    }
}

/// Writes the record of a lane; the part fails when it is no longer what was read.
pub fn put(
    part: &mut Part,
    destination: &ServerName,
    lane: Lane,
    base: &LaneBase,
    read: Option<Value>,
) -> Result<(), StoreError> {
    let key = key(destination, lane);
    part.require(Precondition::unchanged(key.clone(), read));
    part.put(key, encode(FAMILY, VERSION, base)?);
    Ok(())
}

/// Deletes up to `limit` records of a destination; how many.
pub async fn delete_some(
    store: &Store,
    part: &mut Part,
    destination: &ServerName,
    limit: usize,
) -> Result<usize, StoreError> {
    let prefix = prefix(destination);
    let entries = store
        .range(&prefix, &prefix_end(&prefix), limit, Order::Ascending)
        .await?;
    let count = entries.len();
    for (key, _) in entries {
        part.delete(key);
    }
    Ok(count)
}

fn prefix(destination: &ServerName) -> Key {
    let name = destination.as_str().as_bytes();
    // A server name has at most 253 bytes.
    let length = u8::try_from(name.len()).unwrap_or(u8::MAX);
    [&[BASE, length], name].concat().into()
}

fn key(destination: &ServerName, lane: Lane) -> Key {
    [prefix(destination).as_ref(), lane.as_bytes()]
        .concat()
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the stored form of a base never changes unseen; by comparing with fixed bytes.
    #[test]
    fn stored_form() {
        let base = LaneBase {
            link_epoch: 5,
            base: 3,
        };
        let value = encode(FAMILY, VERSION, &base).unwrap();
        assert_eq!(value.as_ref(), [1, 5, 3]);
    }
}
