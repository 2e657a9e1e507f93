//! `N`: the newest group info of each room that is ordered here, as its last commit brought it.
//!
//! It is replaced in the part that orders the next commit, and goes with the room.

use bytes::Bytes;
use federation_proto::ids::RoomId;
use serde::{Deserialize, Serialize};

use super::record::{decode, encode};
use super::{Key, Part, Store, StoreError};

const FAMILY: &str = "group info";
const VERSION: u8 = 1;
const NEWEST: u8 = b'N';

/// A room's newest group info.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupInfoRecord {
    /// The epoch that it describes.
    pub epoch: u64,
    /// The MLS GroupInfo message.
    pub group_info: Bytes,
}

/// The newest group info.
pub async fn get(store: &Store, room: RoomId) -> Result<Option<GroupInfoRecord>, StoreError> {
    let value = store.get(&key(room)).await?;
    value
        .map(|value| decode(FAMILY, VERSION, &value))
        .transpose()
}

/// Writes the newest group info.
pub fn put(part: &mut Part, room: RoomId, record: &GroupInfoRecord) -> Result<(), StoreError> {
    part.put(key(room), encode(FAMILY, VERSION, record)?);
    Ok(())
}

/// Deletes it, with its room.
pub fn delete(part: &mut Part, room: RoomId) {
    part.delete(key(room));
}

fn key(room: RoomId) -> Key {
    [&[NEWEST][..], room.as_bytes()].concat().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the stored form never changes unseen; by comparing with fixed bytes.
    #[test]
    fn stored_form() {
        let record = GroupInfoRecord {
            epoch: 7,
            group_info: Bytes::from_static(b"info"),
        };
        let mut part = Part::default();
        put(&mut part, RoomId::from_bytes([3; 16]), &record).unwrap();
        let value = encode(FAMILY, VERSION, &record).unwrap();
        assert_eq!(value.as_ref(), [1, 7, 4, b'i', b'n', b'f', b'o']);
        let mut key = vec![b'N'];
        key.extend([3; 16]);
        assert_eq!(part.writes, [super::super::Write::Put(key.into(), value)]);
    }
}
