//! `q`: requests for keys and for group infos that devices here have sent to peers and that are not
//! answered yet.
//!
//! Only what was asked for is taken in: without the request a peer could fill any device's inbox.

use federation_proto::ids::{DeviceId, RequestId, RoomId, ServerName};
use serde::{Deserialize, Serialize};

use super::expiry::{self, Place};
use super::record::{decode, encode};
use super::{Key, Part, Precondition, Store, StoreError, Value};

const FAMILY: &str = "key request";
const VERSION: u8 = 2;
const FIRST_VERSION: u8 = 1;
const REQUEST: u8 = b'q';

/// A request without an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRequestRecord {
    /// The homeserver that was asked.
    pub server: ServerName,
    /// The room whose group info was asked for; `None`: keys were.
    pub room: Option<RoomId>,
    /// From when on no answer is taken, milliseconds since the Unix epoch.
    pub expires_ms: u64,
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
        Some(value) => Ok(Some((read(&value)?, value))),
        None => Ok(None),
    }
}

/// Of this version or the first, when all requests were for keys.
fn read(value: &Value) -> Result<KeyRequestRecord, StoreError> {
    if value.first() == Some(&FIRST_VERSION) {
        let (server, expires_ms) = decode(FAMILY, FIRST_VERSION, value)?;
        return Ok(KeyRequestRecord {
            server,
            room: None,
            expires_ms,
        });
    }
    decode(FAMILY, VERSION, value)
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

    /// Goal: a request of the first version is read as one for keys, and the stored form never changes unseen;
    /// by fixed bytes of both.
    #[test]
    fn stored_forms() {
        let record = |room| KeyRequestRecord {
            server: "b.example".parse().unwrap(),
            room,
            expires_ms: 7,
        };
        let first: Value = [&[1, 9][..], b"b.example", &[7]].concat().into();
        assert_eq!(read(&first).unwrap(), record(None));
        let room = RoomId::from_bytes([3; 16]);
        let second: Value = [&[2, 9][..], b"b.example", &[1], &[3; 16], &[7]]
            .concat()
            .into();
        assert_eq!(read(&second).unwrap(), record(Some(room)));
        let written = encode(FAMILY, VERSION, &record(Some(room))).unwrap();
        assert_eq!(written, second);
    }
}
