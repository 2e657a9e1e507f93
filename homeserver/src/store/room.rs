//! `R`: rooms with a member here: who orders them, where their order stands, who is in them.

use federation_proto::ids::{DeviceId, Member, RoomId, ServerName};
use serde::{Deserialize, Serialize};

use super::record::{decode, encode};
use super::{Key, Part, Store, StoreError, Value};

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
}

impl RoomRecord {
    /// Whether this device is in the room.
    pub fn has(&self, member: &Member) -> bool {
        self.members.binary_search(member).is_ok()
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

/// Writes the room.
pub fn put(part: &mut Part, room: RoomId, record: &RoomRecord) -> Result<(), StoreError> {
    part.put(key(room), encode(FAMILY, VERSION, record)?);
    Ok(())
}
