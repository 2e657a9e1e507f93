//! `I`: how far each peer's lanes have come here, what their last positions held, and the highest
//! link epoch that the peer has used; `i`: how many lanes it has begun in that, how many of former ones may
//! still be stored, and how far their deletion has come.

use bytes::Bytes;
use federation_proto::envelope::Lane;
use federation_proto::ids::ServerName;
use federation_proto::link::{LanePosition, Recent};
use serde::{Deserialize, Serialize};

use super::record::{decode, encode, prefix_end};
use super::{Key, Order, Part, Precondition, Store, StoreError, Value};

const FAMILY: &str = "link position";
const VERSION: u8 = 1;
const POSITION: u8 = b'I';
const LANES: u8 = b'i';
/// What follows the peer's name in the key of a lane, and of a slot.
const LANE_BYTES: usize = 16;
const SLOT_BYTES: usize = LANE_BYTES + 8;

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

/// The part fails when the highest link epoch of `origin` is no longer what was read.
pub fn require_epoch(part: &mut Part, origin: &ServerName, read: &Read<u64>) {
    part.require(Precondition::unchanged(
        epoch_key(origin),
        read.value.clone(),
    ));
}

/// How many lanes a peer has begun in a link epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LaneCount {
    /// The link epoch.
    pub link_epoch: u64,
    /// The lanes.
    pub lanes: u64,
    /// Lanes of former link epochs that may not be deleted yet.
    pub former: u64,
}

impl LaneCount {
    /// The count in `link_epoch`, which is this one or a later one.
    #[must_use]
    pub const fn at(self, link_epoch: u64) -> Self {
        if self.link_epoch == link_epoch {
            return self;
        }
        Self {
            link_epoch,
            lanes: 0,
            former: self.former.saturating_add(self.lanes),
        }
    }

    /// Lanes that are stored, at most.
    #[must_use]
    pub const fn stored(&self) -> u64 {
        self.lanes.saturating_add(self.former)
    }
}

/// How many lanes `origin` has begun.
pub async fn lane_count(store: &Store, origin: &ServerName) -> Result<Read<LaneCount>, StoreError> {
    read(store, &named(LANES, origin)).await
}

/// Writes how many lanes `origin` has begun; the part fails when that is no longer what was read.
pub fn put_lane_count(
    part: &mut Part,
    origin: &ServerName,
    before: &Read<LaneCount>,
    count: &LaneCount,
) -> Result<(), StoreError> {
    let key = named(LANES, origin);
    part.require(Precondition::unchanged(key.clone(), before.value.clone()));
    part.put(key, encode(FAMILY, VERSION, count)?);
    Ok(())
}

/// One pass over all rows of a peer, which deletes what is left of former link epochs. It takes many turns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LanePass {
    /// The peer's link epoch when the pass began.
    pub link_epoch: u64,
    /// Where it goes on; `None`: at the first row.
    pub from: Option<Bytes>,
    /// Whether it has left out nothing so far.
    pub is_whole: bool,
}

/// How far the pass over `origin`'s rows has come; `None`: none is under way.
pub async fn lane_pass(store: &Store, origin: &ServerName) -> Result<Option<LanePass>, StoreError> {
    Ok(read(store, &pass_key(origin)).await?.record)
}

/// Notes how far the pass over `origin`'s rows has come. The sweeper alone does, so that nothing is required.
pub fn put_lane_pass(
    part: &mut Part,
    origin: &ServerName,
    pass: &LanePass,
) -> Result<(), StoreError> {
    part.put(pass_key(origin), encode(FAMILY, VERSION, pass)?);
    Ok(())
}

/// Ends the pass over `origin`'s rows.
pub fn delete_lane_pass(part: &mut Part, origin: &ServerName) {
    part.delete(pass_key(origin));
}

/// Adds the deletion of what is left of former link epochs of `origin`, as far as it stands among the
/// `limit` rows from `from` on; where to go on, `None` at the end.
pub async fn delete_former(
    store: &Store,
    part: &mut Part,
    origin: &ServerName,
    from: Option<Key>,
    limit: usize,
) -> Result<Option<Key>, StoreError> {
    let Some(current) = epoch(store, origin).await?.record else {
        return Ok(None);
    };
    let prefix = epoch_key(origin);
    // Nowhere but among the peer's own rows, whatever is noted.
    let from = from.filter(|from| from.starts_with(&prefix));
    let from = from.unwrap_or_else(|| prefix.clone());
    let entries = store
        .range(&from, &prefix_end(&prefix), limit, Order::Ascending)
        .await?;
    let next = entries
        .last()
        .map(|(key, _)| [key.as_ref(), &[0]].concat().into());
    for (key, value) in entries {
        let link_epoch = match key.len().saturating_sub(prefix.len()) {
            LANE_BYTES => decode::<LanePosition>(FAMILY, VERSION, &value)?.link_epoch,
            SLOT_BYTES => decode::<Recent>(FAMILY, VERSION, &value)?.link_epoch,
            _ => continue,
        };
        if link_epoch < current {
            // A lane that has begun anew meanwhile stays.
            part.require(Precondition::Equals(key.clone(), value));
            part.delete(key);
        }
    }
    Ok(next)
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

/// What a slot of a lane holds.
pub async fn recent(
    store: &Store,
    origin: &ServerName,
    lane: Lane,
    slot: u64,
) -> Result<Option<Recent>, StoreError> {
    Ok(read(store, &slot_key(origin, lane, slot)).await?.record)
}

/// Writes what became of a position, in place of the one that had its slot.
pub fn put_recent(
    part: &mut Part,
    origin: &ServerName,
    lane: Lane,
    slot: u64,
    recent: &Recent,
) -> Result<(), StoreError> {
    part.put(
        slot_key(origin, lane, slot),
        encode(FAMILY, VERSION, recent)?,
    );
    Ok(())
}

/// Adds the deletion of what the lanes of `origin` remember of their positions, as far as it stands among the `limit` rows
/// from `from` on; where to go on, `None` at the end. The positions stay.
pub async fn delete_recent(
    store: &Store,
    part: &mut Part,
    origin: &ServerName,
    from: &Key,
    limit: usize,
) -> Result<Option<Key>, StoreError> {
    let prefix = epoch_key(origin);
    let entries = store
        .range(from, &prefix_end(&prefix), limit, Order::Ascending)
        .await?;
    let next = entries
        .last()
        .map(|(key, _)| [key.as_ref(), &[0]].concat().into());
    for (key, value) in entries {
        if key.len().saturating_sub(prefix.len()) == SLOT_BYTES {
            // What is written meanwhile stays.
            part.require(Precondition::Equals(key.clone(), value));
            part.delete(key);
        }
    }
    Ok(next)
}

/// Where the rows of a lane begin, for [`delete_recent`].
pub fn first_row(origin: &ServerName, lane: Lane) -> Key {
    lane_key(origin, lane)
}

/// The lane in whose rows, or behind them, [`delete_recent`] is to go on.
pub fn lane_at(origin: &ServerName, row: &Key) -> Option<Lane> {
    let behind_name = row.get(epoch_key(origin).len()..)?;
    let (lane, _) = behind_name.split_first_chunk::<LANE_BYTES>()?;
    Some(Lane::from_bytes(*lane))
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
    named(POSITION, origin)
}

/// Behind the count of lanes: the name's length comes first, so that no other name begins with this one.
fn pass_key(origin: &ServerName) -> Key {
    [named(LANES, origin).as_ref(), b"p"].concat().into()
}

fn named(family: u8, origin: &ServerName) -> Key {
    let name = origin.as_str().as_bytes();
    // A server name has at most 253 bytes.
    let length = u8::try_from(name.len()).unwrap_or(u8::MAX);
    [&[family, length], name].concat().into()
}

fn lane_key(origin: &ServerName, lane: Lane) -> Key {
    [epoch_key(origin).as_ref(), lane.as_bytes()]
        .concat()
        .into()
}

fn slot_key(origin: &ServerName, lane: Lane, slot: u64) -> Key {
    [lane_key(origin, lane).as_ref(), &slot.to_be_bytes()]
        .concat()
        .into()
}
