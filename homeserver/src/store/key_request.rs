//! `q`: requests for keys, for group infos and for consents to rooms that devices here have sent to peers and that are not
//! answered yet.
//!
//! Only what was asked for is taken in: without the request a peer could fill any device's inbox.

use federation_proto::ids::{DeviceId, RequestId, RoomId, ServerName};
use serde::{Deserialize, Serialize};

use super::expiry::{self, Place};
use super::record::{decode, encode};
use super::{Key, Part, Precondition, Store, StoreError, Value};

const FAMILY: &str = "key request";
const VERSION: u8 = 4;
const REQUEST: u8 = b'q';

/// A request without an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRequestRecord {
    /// The homeserver that was asked.
    pub server: ServerName,
    /// What was asked for.
    pub of: Asked,
    /// Sizes of the device log that the question named: the answer has to have grown from each.
    pub named: Vec<u64>,
    /// From when on no answer is taken, milliseconds since the Unix epoch.
    pub expires_ms: u64,
}

/// What a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Asked {
    /// Keys, or the history of an account's devices.
    Keys,
    /// A room's group info.
    GroupInfo(RoomId),
    /// The organisation's consent to a room.
    Consent(RoomId),
}

/// Where the request lies.
pub fn key(device: DeviceId, request: RequestId) -> Key {
    [&[REQUEST][..], device.as_bytes(), request.as_bytes()]
        .concat()
        .into()
}

/// Notes a request.
pub fn put(
    part: &mut Part,
    device: DeviceId,
    request: RequestId,
    record: &KeyRequestRecord,
) -> Result<(), StoreError> {
    part.put(key(device, request), encode(FAMILY, VERSION, record)?);
    expiry::put(part, record.expires_ms, Place::KeyRequest(device, request));
    Ok(())
}

/// The request and its stored bytes (for [`take`]).
pub async fn get(
    store: &Store,
    device: DeviceId,
    request: RequestId,
) -> Result<Option<(KeyRequestRecord, Value)>, StoreError> {
    match store.get(&key(device, request)).await? {
        Some(value) => Ok(Some((decode(FAMILY, VERSION, &value)?, value))),
        None => Ok(None),
    }
}

/// The request is answered or given up; the part fails when it is no longer as it was read.
pub fn take(part: &mut Part, device: DeviceId, request: RequestId, read: Value) {
    let key = key(device, request);
    part.require(Precondition::Equals(key.clone(), read));
    part.delete(key);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the stored form never changes unseen; by fixed bytes.
    #[test]
    fn stored_form() {
        let record = KeyRequestRecord {
            server: "b.example".parse().unwrap(),
            of: Asked::GroupInfo(RoomId::from_bytes([3; 16])),
            named: vec![5, 300],
            expires_ms: 7,
        };
        let stored: Value = [
            &[4, 9][..],
            b"b.example",
            &[1],
            &[3; 16],
            &[2, 5, 0xac, 2],
            &[7],
        ]
        .concat()
        .into();
        assert_eq!(encode(FAMILY, VERSION, &record).unwrap(), stored);
        let read: KeyRequestRecord = decode(FAMILY, VERSION, &stored).unwrap();
        assert_eq!(read, record);
    }
}
