//! `I`: how far each peer's lanes have come here, what their last positions held, how many lanes it
//! has, and the highest link epoch that the peer has used.

use federation_proto::envelope::Lane;
use federation_proto::ids::ServerName;
use federation_proto::link::{LanePosition, Recent};

use super::record::{decode, encode};
use super::{Key, Part, Precondition, Store, StoreError, Value};

const FAMILY: &str = "link position";
const VERSION: u8 = 1;
const POSITION: u8 = b'I';

/// A record and the bytes that it was read from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Read<T> {
    /// The record.
    pub record: Option<T>,
    value: Option<Value>,
}

/// The highest link epoch of `origin`.
pub async fn epoch(store: &Store, origin: &ServerName) -> Result<Read<u64>, StoreError> {
    read(store, &epoch_key(origin)).await
}

/// Writes the highest link epoch of `origin`; the part fails when it is no longer what was read.
pub fn put_epoch(
    part: &mut Part,
    origin: &ServerName,
    before: &Read<u64>,
    epoch: u64,
) -> Result<(), StoreError> {
    let key = epoch_key(origin);
    part.require(Precondition::unchanged(key.clone(), before.value.clone()));
    part.put(key, encode(FAMILY, VERSION, &epoch)?);
    Ok(())
}

/// Where a lane stands.
pub async fn position(
    store: &Store,
    origin: &ServerName,
    lane: Lane,
) -> Result<Read<LanePosition>, StoreError> {
    read(store, &lane_key(origin, lane)).await
}

/// Writes where a lane stands; the part fails when it is no longer where it was read.
pub fn put_position(
    part: &mut Part,
    origin: &ServerName,
    lane: Lane,
    before: &Read<LanePosition>,
    position: &LanePosition,
) -> Result<(), StoreError> {
    let key = lane_key(origin, lane);
    part.require(Precondition::unchanged(key.clone(), before.value.clone()));
    part.put(key, encode(FAMILY, VERSION, position)?);
    Ok(())
}

/// How many lanes of `origin` have a position here, whatever its link epoch: `None` is 0.
pub async fn lanes(store: &Store, origin: &ServerName) -> Result<Read<u64>, StoreError> {
    read(store, &lanes_key(origin)).await
}

/// Writes how many lanes of `origin` have a position; the part fails when it is no longer as read.
pub fn put_lanes(
    part: &mut Part,
    origin: &ServerName,
    before: &Read<u64>,
    lanes: u64,
) -> Result<(), StoreError> {
    let key = lanes_key(origin);
    part.require(Precondition::unchanged(key.clone(), before.value.clone()));
    part.put(key, encode(FAMILY, VERSION, &lanes)?);
    Ok(())
}

/// What the slot of this position holds.
pub async fn recent(
    store: &Store,
    origin: &ServerName,
    lane: Lane,
    sequence: u64,
) -> Result<Option<Recent>, StoreError> {
    Ok(read(store, &slot_key(origin, lane, sequence)).await?.record)
}

/// Writes what became of a position, in place of the one that had its slot.
pub fn put_recent(
    part: &mut Part,
    origin: &ServerName,
    lane: Lane,
    recent: &Recent,
) -> Result<(), StoreError> {
    part.put(
        slot_key(origin, lane, recent.sequence),
        encode(FAMILY, VERSION, recent)?,
    );
    Ok(())
}

async fn read<T: serde::de::DeserializeOwned>(
    store: &Store,
    key: &Key,
) -> Result<Read<T>, StoreError> {
    let value = store.get(key).await?;
    let record = value
        .as_ref()
        .map(|value| decode(FAMILY, VERSION, value))
        .transpose()?;
    Ok(Read { record, value })
}

fn epoch_key(origin: &ServerName) -> Key {
    let name = origin.as_str().as_bytes();
    // A server name has at most 253 bytes.
    let length = u8::try_from(name.len()).unwrap_or(u8::MAX);
    [&[POSITION, length], name].concat().into()
}

/// Of another length than a lane's key or a slot's.
fn lanes_key(origin: &ServerName) -> Key {
    [epoch_key(origin).as_ref(), b"lanes"].concat().into()
}

fn lane_key(origin: &ServerName, lane: Lane) -> Key {
    [epoch_key(origin).as_ref(), lane.as_bytes()]
        .concat()
        .into()
}

fn slot_key(origin: &ServerName, lane: Lane, sequence: u64) -> Key {
    [
        lane_key(origin, lane).as_ref(),
        &Recent::slot(sequence).to_be_bytes(),
    ]
    .concat()
    .into()
}
