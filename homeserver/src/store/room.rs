//! `R`: rooms with a member here: who orders them, where their order stands, who is in them.

use std::sync::Arc;

use bytes::Bytes;
use federation_proto::ids::{DeviceId, Member, RoomId, ServerName};
use room_rules::settings::RETAINED_EPOCHS;
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
    /// When each of its last epochs ended by the clock here, milliseconds since the Unix epoch: the newest last.
    pub epoch_ends: Vec<u64>,
    /// Devices here, sorted, that were told to have fallen out of step, and have not asked for the way back yet.
    pub behind: Vec<DeviceId>,
    /// At the hub: homeservers, sorted, whose outbox had no room for what was ordered, and that have not asked for the
    /// way back yet.
    pub servers_behind: Vec<ServerName>,
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
    /// A room as it comes in: in this epoch, with these members, and nothing that waits.
    pub fn new(hub: ServerName, epoch: u64, stamp_ms: u64, members: Vec<Member>) -> Self {
        Self {
            hub,
            epoch,
            stamp_ms,
            retained_epochs: RETAINED_EPOCHS,
            members,
            going: Vec::new(),
            epoch_ends: Vec::new(),
            behind: Vec::new(),
            servers_behind: Vec::new(),
        }
    }

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
            epoch_ends: self.epoch_ends.clone(),
            behind: self.behind.clone(),
            servers_behind: self.servers_behind.clone(),
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
        let gone = |device: &DeviceId| removes.iter().any(|member| member.device == *device);
        self.behind.retain(|device| !gone(device));
        let Self {
            members,
            servers_behind,
            ..
        } = self;
        servers_behind.retain(|server| members.iter().any(|member| member.server == *server));
    }

    /// The present epoch ends at `now_ms` by the clock here, and the next one begins; `None`: there is no next one.
    pub fn end_epoch(&mut self, now_ms: u64) -> Option<()> {
        self.epoch = self.epoch.checked_add(1)?;
        self.epoch_ends.push(now_ms);
        let kept = usize::from(RETAINED_EPOCHS);
        let excess = self.epoch_ends.len().saturating_sub(kept);
        self.epoch_ends.drain(..excess);
        Some(())
    }

    /// When this epoch ended by the clock here; `None`: it has not, or that is known no longer.
    pub fn epoch_ended_ms(&self, epoch: u64) -> Option<u64> {
        let back = usize::try_from(self.epoch.checked_sub(epoch)?).ok()?;
        let place = self.epoch_ends.len().checked_sub(back)?;
        self.epoch_ends.get(place).copied()
    }

    /// Whether this device was told that it has fallen out of step, and has not asked for the way back yet.
    pub fn is_behind(&self, device: DeviceId) -> bool {
        self.behind.binary_search(&device).is_ok()
    }

    /// Notes that this device was told so; `false`: it had been before.
    pub fn note_behind(&mut self, device: DeviceId) -> bool {
        let Err(place) = self.behind.binary_search(&device) else {
            return false;
        };
        self.behind.insert(place, device);
        true
    }

    /// Notes that this device has asked for the way back; `false`: it was not told to.
    pub fn note_asked(&mut self, device: DeviceId) -> bool {
        let before = self.behind.len();
        self.behind.retain(|behind| *behind != device);
        self.behind.len() < before
    }

    /// Whether this homeserver was told that it has fallen out of step, and has not asked for the way back yet.
    pub fn is_server_behind(&self, server: &ServerName) -> bool {
        self.servers_behind.binary_search(server).is_ok()
    }

    /// Notes that this homeserver was told so; `false`: it had been before.
    pub fn note_server_behind(&mut self, server: &ServerName) -> bool {
        let Err(place) = self.servers_behind.binary_search(server) else {
            return false;
        };
        self.servers_behind.insert(place, server.clone());
        true
    }

    /// Notes that one of its devices has asked for the way back; `false`: it was not told to.
    pub fn note_server_asked(&mut self, server: &ServerName) -> bool {
        let before = self.servers_behind.len();
        self.servers_behind.retain(|behind| behind != server);
        self.servers_behind.len() < before
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

#[cfg(test)]
mod tests {
    use super::*;

    fn room() -> RoomRecord {
        let hub: ServerName = "a.example".parse().unwrap();
        RoomRecord::new(hub, 0, 0, Vec::new())
    }

    /// Goal: it is known when each epoch ended that messages may still come from, and of no other. Method: 40 epochs, each
    /// of which ends at ten times its number.
    #[test]
    fn epoch_ends() {
        let mut room = room();
        for epoch in 0..40 {
            assert_eq!(room.epoch_ended_ms(epoch), None, "it has not ended");
            room.end_epoch(epoch * 10).unwrap();
        }
        for epoch in 0..45 {
            let known = (40 - u64::from(RETAINED_EPOCHS)..40).contains(&epoch);
            assert_eq!(room.epoch_ended_ms(epoch), known.then_some(epoch * 10));
        }
        room.epoch = u64::MAX;
        assert_eq!(room.end_epoch(0), None);
    }

    /// Goal: whoever has fallen out of step is told once, until he asks or is out. Method: devices and homeservers, in no
    /// order.
    #[test]
    fn who_is_behind() {
        let mut room = room();
        let member = |n: u8| Member {
            server: format!("{}.example", char::from(b'a' + n)).parse().unwrap(),
            account: federation_proto::ids::AccountId::from_bytes([n; 16]),
            device: DeviceId::from_bytes([n; 16]),
        };
        let members = [member(3), member(1), member(2)];
        room.change(&[], &members);
        for member in &members {
            let (device, server) = (member.device, &member.server);
            assert!(room.note_behind(device) && room.note_server_behind(server));
            assert!(!room.note_behind(device) && !room.note_server_behind(server));
            assert!(room.is_behind(device) && room.is_server_behind(server));
        }
        assert!(room.note_asked(members[0].device) && room.note_server_asked(&members[0].server));
        assert!(!room.note_asked(members[0].device) && !room.note_server_asked(&members[0].server));
        room.change(&[members[1].clone()], &[]);
        assert_eq!(room.behind, [members[2].device]);
        assert_eq!(room.servers_behind, [members[2].server.clone()]);
    }
}
