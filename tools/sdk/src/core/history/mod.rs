//! What this device knows, for another own device or a backup; and what came from one.
//!
//! A history goes from one device to another in a room of the two alone ([`transfer`]). What comes in is not signed by its
//! authors any more: it is the word of another own device, and is marked so. Expiry and burning hold as they did there: what is
//! over never leaves and never comes in, what was read and burns never leaves, and what has burnt here never comes back.
//!
//! Messages of a conversation that this device is not in, or not any more, stay under its id: they can be read, nothing can be sent,
//! and they are one with the conversation when somebody adds this device.

mod export;
mod import;
mod transfer;

use std::collections::{BTreeMap, BTreeSet};

use homeserver_api::ids::{Address, DeviceId, RoomId, ServerName};
use serde::{Deserialize, Serialize};

pub(crate) use export::Bounds;
pub(crate) use import::Taken;

use super::Core;
use super::records::{MessageMeta, Place, Standing};
use super::rooms::leaves;
use crate::error::Error;
use crate::event::Event;
use crate::message::MessageId;
use crate::store::{Family, Store};

/// A conversation that this device is not in, and of which it has messages: they came with a history or a backup, or it was
/// in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PastRoom {
    /// The room's id.
    pub room: RoomId,
    /// The homeserver that ordered it.
    pub hub: ServerName,
    /// Who was in it, as far as that is known.
    pub addresses: Vec<Address>,
    /// Why this device is not in it any more, if it was.
    #[serde(skip)]
    pub over: Option<String>,
}

/// [`PastRoom`] as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct PastRoomRecord {
    number: u64,
    past: PastRoom,
}

/// Where a message stands that came with a history or a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct ImportedRecord {
    /// Grows along the conversation as the other device had it.
    order_ms: u64,
    /// The device that it came from; a backup has none.
    from: Option<DeviceId>,
}

/// A message that burnt here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct BurntRecord {
    id: MessageId,
    /// When it would have expired: from then on nothing brings it back.
    expires_ms: u64,
}

/// A history that is on its way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct TransferRecord {
    number: u64,
    room: RoomId,
    /// The other device.
    device: DeviceId,
    /// How many messages are in it, or have come that were not here.
    messages: u64,
    way: Way,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum Way {
    /// To the other device.
    Out {
        /// Parts without an answer.
        waiting: u32,
        /// Messages that were too many.
        left_out: u64,
    },
    /// From the other device.
    In {
        transfer: [u8; 16],
        /// The number of the next part.
        next: u32,
        /// Whether a part was missing.
        gap: bool,
    },
}

/// What is known of histories; a cache of the store.
#[derive(Default)]
pub(super) struct Histories {
    transfers: BTreeMap<RoomId, TransferRecord>,
    past: BTreeMap<RoomId, PastRoomRecord>,
}

impl Histories {
    /// Reads everything from the store again.
    pub(super) fn load(store: &Store) -> Result<Self, Error> {
        let mut histories = Self::default();
        for (_, record) in store.scan::<TransferRecord>(Family::Transfer, b"")? {
            histories.transfers.insert(record.room, record);
        }
        for (_, record) in store.scan::<PastRoomRecord>(Family::PastRoom, b"")? {
            histories.past.insert(record.past.room, record);
        }
        Ok(histories)
    }

    /// The one device that a room of this device's is for, when it is for a history.
    pub(super) fn target(&self, room: RoomId) -> Option<DeviceId> {
        let transfer = self.transfers.get(&room)?;
        matches!(transfer.way, Way::Out { .. }).then_some(transfer.device)
    }

    /// Whether a room is there for a history alone.
    pub(super) fn is_transfer(&self, room: RoomId) -> bool {
        self.transfers.contains_key(&room)
    }
}

impl Core {
    /// Conversations that this device is not in, and of which it has messages.
    pub(crate) fn past_rooms(&self) -> Result<Vec<PastRoom>, Error> {
        let mut past = Vec::new();
        for record in self.history.past.values() {
            let room = record.past.room;
            if !self.is_in(room) && !self.numbers_of(room)?.is_empty() {
                past.push(PastRoom {
                    over: self.over(room),
                    ..record.past.clone()
                });
            }
        }
        Ok(past)
    }

    /// Why this device is not in a room any more.
    fn over(&self, room: RoomId) -> Option<String> {
        match &self.rooms.get(&room)?.standing {
            Standing::Left => Some("you are not in it any more".to_owned()),
            Standing::Broken(reason) => Some(reason.clone()),
            Standing::Creating | Standing::Joined | Standing::Resyncing(_) => None,
        }
    }

    /// What was said in a room that this device is about to be out of can be read as long as it has not expired.
    pub(super) fn keep_as_past(&mut self, room: RoomId) -> Result<(), Error> {
        if self.history.is_transfer(room) || self.numbers_of(room)?.is_empty() {
            return Ok(());
        }
        match self.conversation(room) {
            Ok(Some(conversation)) => self.take_conversation(conversation),
            Err(error @ Error::Store(_)) => Err(error),
            // A room ends all the same when its group can't be read.
            Ok(None) | Err(_) => Ok(()),
        }
    }

    fn is_in(&self, room: RoomId) -> bool {
        self.rooms.get(&room).is_some_and(|record| {
            matches!(
                record.standing,
                Standing::Creating | Standing::Joined | Standing::Resyncing(_)
            )
        })
    }

    /// Whether this device knows of a room, if only from a history.
    pub(super) fn is_known(&self, room: RoomId) -> Result<(), Error> {
        let is_known = self.rooms.contains_key(&room) || self.history.past.contains_key(&room);
        is_known.then_some(()).ok_or(Error::UnknownRoom(room))
    }

    /// Every room that may have messages.
    pub(super) fn rooms_with_messages(&self) -> BTreeSet<RoomId> {
        let rooms = self.rooms.keys().chain(self.history.past.keys());
        rooms.copied().collect()
    }

    fn numbers_of(&self, room: RoomId) -> Result<Vec<u64>, Error> {
        self.store.numbers(Family::MessageMeta, room.as_bytes())
    }

    fn imported(&self, place: Place) -> Result<Option<ImportedRecord>, Error> {
        let Place { room, number } = place;
        self.store.get(Family::Imported, room.as_bytes(), number)
    }

    /// Whether a message came with a history or a backup.
    pub(super) fn is_imported(&self, place: Place) -> Result<bool, Error> {
        Ok(self.imported(place)?.is_some())
    }

    /// The numbers of a room's messages in the conversation's order: those that this device got itself as it got them, and
    /// between them those of histories, each before the first that was accepted later.
    pub(super) fn in_order(&self, room: RoomId) -> Result<Vec<u64>, Error> {
        let numbers = self.numbers_of(room)?;
        let mut imported: Vec<(u64, u64)> = self
            .store
            .scan::<ImportedRecord>(Family::Imported, room.as_bytes())?
            .into_iter()
            .map(|(number, record)| (record.order_ms, number))
            .collect();
        if imported.is_empty() {
            return Ok(numbers);
        }
        imported.sort_unstable();
        let foreign: BTreeSet<u64> = imported.iter().map(|(_, number)| *number).collect();
        let mut imported = imported.into_iter().peekable();
        let mut ordered = Vec::with_capacity(numbers.len());
        for number in numbers.into_iter().filter(|n| !foreign.contains(n)) {
            let meta = self.meta(Place { room, number })?;
            let at_ms = meta.and_then(|meta| meta.accepted_ms).unwrap_or(u64::MAX);
            while let Some((_, earlier)) = imported.next_if(|(order_ms, _)| *order_ms <= at_ms) {
                ordered.push(earlier);
            }
            ordered.push(number);
        }
        ordered.extend(imported.map(|(_, number)| number));
        Ok(ordered)
    }

    /// What a deleted message leaves behind of histories: nothing, but that it burnt while it could still come back.
    pub(super) fn forget_past(&mut self, place: Place, meta: &MessageMeta) -> Result<(), Error> {
        let Place { room, number } = place;
        self.store.delete(Family::Imported, room.as_bytes(), number);
        if let (Some(expires_ms), Some(_)) = (meta.expires_ms, meta.burns_ms)
            && expires_ms > self.now_ms()
        {
            let id = meta.id;
            let burnt = BurntRecord { id, expires_ms };
            self.store.put(Family::Burnt, b"", number, &burnt)?;
        }
        self.forget_past_room_if_empty(room)
    }

    fn forget_past_room_if_empty(&mut self, room: RoomId) -> Result<(), Error> {
        if let Some(record) = self.history.past.get(&room)
            && self.numbers_of(room)?.is_empty()
        {
            self.store.delete(Family::PastRoom, b"", record.number);
            self.history.past.remove(&room);
        }
        Ok(())
    }

    /// Messages that burnt here and could still come back; those that could not any more are forgotten.
    fn burnt(&self) -> Result<BTreeSet<MessageId>, Error> {
        let mut burnt = BTreeSet::new();
        for (number, record) in self.store.scan::<BurntRecord>(Family::Burnt, b"")? {
            if record.expires_ms > self.now_ms() {
                burnt.insert(record.id);
            } else {
                self.store.delete(Family::Burnt, b"", number);
            }
        }
        Ok(burnt)
    }

    /// Forgets what is of no use any more.
    pub(crate) fn tidy_histories(&mut self) -> Result<(), Error> {
        self.burnt()?;
        let past: Vec<RoomId> = self.history.past.keys().copied().collect();
        past.into_iter()
            .try_for_each(|room| self.forget_past_room_if_empty(room))
    }

    /// Rooms of this account alone are no conversations: nobody is told when one comes.
    pub(super) fn hide_transfers(&mut self) {
        let joined = self.effects.events.iter().filter_map(|event| match event {
            Event::RoomJoined { room } => Some(*room),
            _ => None,
        });
        let joined: Vec<RoomId> = joined.collect();
        for room in joined {
            if self.history.is_transfer(room) || self.is_own_alone(room) {
                self.effects
                    .events
                    .retain(|event| *event != Event::RoomJoined { room });
            }
        }
    }

    /// Whether nobody but this account is in a room.
    fn is_own_alone(&mut self, room: RoomId) -> bool {
        let own = self.identity.member.clone();
        let leaves = self.group(room).and_then(|group| leaves(group));
        leaves.is_ok_and(|leaves| {
            leaves.iter().all(|leaf| {
                let member = &leaf.device.member;
                (&member.server, member.account) == (&own.server, own.account)
            })
        })
    }

    fn put_transfer(&mut self, record: TransferRecord) -> Result<(), Error> {
        self.store
            .put(Family::Transfer, b"", record.number, &record)?;
        self.history.transfers.insert(record.room, record);
        Ok(())
    }

    /// A history has come to its end: its room is left without a word.
    fn end_transfer(&mut self, room: RoomId) -> Result<(), Error> {
        if let Some(record) = self.history.transfers.remove(&room) {
            self.store.delete(Family::Transfer, b"", record.number);
        }
        if self.is_in(room) {
            self.leave(room)?;
            self.effects
                .events
                .retain(|event| *event != Event::RoomLeft { room });
        }
        Ok(())
    }

    fn next_transfer_number(&self) -> u64 {
        let transfers = self.history.transfers.values();
        transfers.map(|record| record.number).max().unwrap_or(0) + 1
    }
}

/// Reads bytes as each kind of record: what is one keeps its value when it is written and read again.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn read_any(bytes: &[u8]) {
    use crate::store::survives_writing;
    survives_writing::<PastRoomRecord>(bytes);
    survives_writing::<ImportedRecord>(bytes);
    survives_writing::<BurntRecord>(bytes);
    survives_writing::<TransferRecord>(bytes);
}
