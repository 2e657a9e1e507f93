//! `R`: rooms with a member here: who orders them, where their order stands, who is in them.

use std::sync::Arc;

use bytes::Bytes;
use federation_proto::ids::{DeviceId, Member, RoomId, ServerName};
use serde::{Deserialize, Serialize};

use super::record::{decode, encode, prefix_end};
use super::{Key, Order, Part, Store, StoreError, Value, tally};

const FAMILY: &str = "room";
const VERSION: u8 = 1;
const ROOM: u8 = b'R';

/// A room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomRecord {
    /// The homeserver that orders it.
    pub hub: ServerName,
    /// The epoch that its last ordered commit began.
    pub epoch: u64,
    /// The hub's stamp of that commit, milliseconds since the Unix epoch.
    pub stamp_ms: u64,
    /// Epochs that the room keeps: a message from an older one is returned. At a follower the most that there may be.
    pub retained_epochs: u16,
    /// Every device in it, sorted, each once.
    pub members: Vec<Member>,
    /// Devices that the hub has removed in this epoch, in its order, until a commit takes that up.
    pub going: Vec<Going>,
}

/// A device that the hub has removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Going {
    /// The device.
    pub member: Member,
    /// Whether its account goes with it.
    pub account: bool,
    /// When the hub ordered that for this epoch, milliseconds since the Unix epoch.
    pub since_ms: u64,
    /// The hub's MLS proposal.
    pub proposal: Bytes,
}

impl RoomRecord {
    /// Whether this device is in the room.
    pub fn has(&self, member: &Member) -> bool {
        self.members.binary_search(member).is_ok()
    }

    /// Whether the hub has removed this device, which no commit has taken up yet.
    pub fn is_going(&self, member: &Member) -> bool {
        self.going.iter().any(|going| going.member == *member)
    }

    /// Whether this device is in the room and may do something there.
    pub fn may_act(&self, member: &Member) -> bool {
        self.has(member) && !self.is_going(member)
    }

    /// The room without those who are going: who gets what is written there now.
    pub fn without_going(self: Arc<Self>) -> Arc<Self> {
        if self.going.is_empty() {
            return self;
        }
        let stays = |member: &&Member| !self.is_going(member);
        Arc::new(Self {
            members: self.members.iter().filter(stays).cloned().collect(),
            going: Vec::new(),
            hub: self.hub.clone(),
            ..*self
        })
    }

    /// Every homeserver in the room, sorted, each once.
    pub fn servers(&self) -> Vec<&ServerName> {
        let mut servers: Vec<&ServerName> = self.members.iter().map(|m| &m.server).collect();
        // Members are sorted by server first.
        servers.dedup();
        servers
    }

    /// The room's members on `server`.
    pub fn members_of<'a>(&'a self, server: &'a ServerName) -> impl Iterator<Item = &'a Member> {
        self.members.iter().filter(move |m| &m.server == server)
    }

    /// Devices on `server`, without `except`.
    pub fn devices_of(&self, server: &ServerName, except: Option<DeviceId>) -> Vec<DeviceId> {
        self.members_of(server)
            .map(|member| member.device)
            .filter(|device| Some(*device) != except)
            .collect()
    }

    /// Takes members out and in.
    pub fn change(&mut self, removes: &[Member], adds: &[Member]) {
        self.members.retain(|member| !removes.contains(member));
        self.members.extend_from_slice(adds);
        self.members.sort_unstable();
        self.members.dedup();
    }
}

/// Where a room lies.
pub fn key(room: RoomId) -> Key {
    [&[ROOM][..], room.as_bytes()].concat().into()
}

/// The room and its stored bytes (for a precondition).
pub async fn get(store: &Store, room: RoomId) -> Result<Option<(RoomRecord, Value)>, StoreError> {
    match store.get(&key(room)).await? {
        Some(value) => Ok(Some((decode(FAMILY, VERSION, &value)?, value))),
        None => Ok(None),
    }
}

/// Up to `limit` rooms behind `after`, by id.
pub async fn page(
    store: &Store,
    after: Option<RoomId>,
    limit: usize,
) -> Result<Vec<(RoomId, RoomRecord)>, StoreError> {
    let from: Key = match after {
        // Behind the key itself.
        Some(after) => [key(after).as_ref(), &[0]].concat().into(),
        None => Key::from_static(&[ROOM]),
    };
    let entries = store
        .range(&from, &prefix_end(&[ROOM]), limit, Order::Ascending)
        .await?;
    entries
        .iter()
        .map(|(key, value)| {
            let id = key.get(1..).and_then(|id| id.try_into().ok());
            let id = id.ok_or(StoreError::Corrupt { family: FAMILY })?;
            Ok((RoomId::from_bytes(id), decode(FAMILY, VERSION, value)?))
        })
        .collect()
}

/// Writes the room, in place of the one that `before` orders, and counts it among its hub's ([`tally::rooms`]).
pub fn put(
    part: &mut Part,
    room: RoomId,
    before: Option<&ServerName>,
    record: &RoomRecord,
) -> Result<(), StoreError> {
    let (key, value) = (key(room), encode(FAMILY, VERSION, record)?);
    if let Some(before) = before {
        part.uncount(tally::rooms(before), key.clone());
    }
    part.count(tally::rooms(&record.hub), value.len());
    part.put(key, value);
    Ok(())
}

/// Deletes the room, which `hub` orders.
pub fn delete(part: &mut Part, room: RoomId, hub: &ServerName) {
    part.uncount(tally::rooms(hub), key(room));
    part.delete(key(room));
}

/// The bytes that the room takes in the store, as it is counted.
pub fn stored_bytes(record: &RoomRecord) -> Result<u64, StoreError> {
    let value = encode(FAMILY, VERSION, record)?;
    Ok(u64::try_from(value.len()).unwrap_or(u64::MAX))
}

/// Whose tally is to count the room in `value`.
pub(super) fn hub_of(value: &Value) -> Result<ServerName, StoreError> {
    Ok(decode::<RoomRecord>(FAMILY, VERSION, value)?.hub)
}

/// Whether a record with this key is a room.
pub(super) fn is_room(key: &Key) -> bool {
    key.first() == Some(&ROOM)
}
