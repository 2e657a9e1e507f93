//! `l`: look-ups at peers, by devices here without an answer so far, and by administrators.
//!
//! Only what was asked for is taken in: without the question a peer could fill any device's inbox, or name
//! people whom nobody looked for.

use federation_proto::ids::{DeviceId, RequestId, ServerName};
use federation_proto::payload::Sought;
use federation_proto::refusal::Refusal;
use serde::{Deserialize, Serialize};

use super::expiry::{self, Place};
use super::record::{decode, encode};
use super::{Key, Part, Precondition, Store, StoreError, Value};

const FAMILY: &str = "look-up";
const VERSION: u8 = 2;
const LOOK_UP: u8 = b'l';

/// Who has asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Asker {
    /// A device, which gets the answer into its inbox.
    Device,
    /// An administrator, who fetches it here: whether somebody was found, or why nobody was looked for.
    Administrator(Option<Result<bool, Refusal>>),
}

/// A look-up without an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LookUpRecord {
    /// The homeserver that was asked.
    pub server: ServerName,
    /// Who is looked for.
    pub sought: Sought,
    /// From when on no answer is taken, milliseconds since the Unix epoch.
    pub expires_ms: u64,
    /// For whom.
    pub asker: Asker,
}

/// Where the look-up lies.
pub fn key(device: DeviceId, request: RequestId) -> Key {
    [&[LOOK_UP][..], device.as_bytes(), request.as_bytes()]
        .concat()
        .into()
}

/// Notes a look-up.
pub fn put(
    part: &mut Part,
    device: DeviceId,
    request: RequestId,
    record: &LookUpRecord,
) -> Result<(), StoreError> {
    part.put(key(device, request), encode(FAMILY, VERSION, record)?);
    expiry::put(part, record.expires_ms, Place::LookUp(device, request));
    Ok(())
}

/// The look-up and its stored bytes (for [`take`]).
pub async fn get(
    store: &Store,
    device: DeviceId,
    request: RequestId,
) -> Result<Option<(LookUpRecord, Value)>, StoreError> {
    match store.get(&key(device, request)).await? {
        Some(value) => Ok(Some((decode(FAMILY, VERSION, &value)?, value))),
        None => Ok(None),
    }
}

/// The look-up is answered or given up; the part fails when it is no longer as it was read.
pub fn take(part: &mut Part, device: DeviceId, request: RequestId, read: Value) {
    let key = key(device, request);
    part.require(Precondition::Equals(key.clone(), read));
    part.delete(key);
}

/// An administrator's look-up has this answer, until it expires; the part fails when it is no longer as it was read.
pub fn answer(
    part: &mut Part,
    device: DeviceId,
    request: RequestId,
    record: &LookUpRecord,
    read: Value,
) -> Result<(), StoreError> {
    let key = key(device, request);
    part.require(Precondition::Equals(key.clone(), read));
    part.put(key, encode(FAMILY, VERSION, record)?);
    Ok(())
}
