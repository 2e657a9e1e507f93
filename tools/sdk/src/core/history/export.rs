//! Gathering what this device knows.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use homeserver_api::ids::RoomId;

use crate::content::Content;
use crate::core::Core;
use crate::core::records::{MessageMeta, Place, ProgressRecord};
use crate::error::Error;
use crate::history::{CONVERSATION_ADDRESSES_MAX, Conversation, Entry, PastMessage};

/// How much is gathered; beyond it the newest messages count.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) messages: usize,
    pub(crate) bytes: usize,
    /// None that was accepted longer ago.
    pub(crate) days: u64,
    /// Whether messages that burn after reading are among it.
    pub(crate) burning: bool,
}

/// What was gathered.
#[derive(Debug, Default)]
pub(crate) struct Gathered {
    /// Each entry's label and bytes, in the order in which they are taken in.
    pub(crate) entries: Vec<(u8, Vec<u8>)>,
    pub(crate) messages: u64,
    pub(crate) people: u64,
    /// Messages that were too many, or too old.
    pub(crate) left_out: u64,
}

/// A message that may go.
#[derive(Clone, Copy)]
struct Candidate {
    place: Place,
    order_ms: u64,
    /// Its place among all, room by room.
    position: usize,
}

/// A room's conversation entry, and its messages that go.
type ChosenRoom = (Vec<u8>, Vec<Chosen>);

/// A message that goes.
struct Chosen {
    candidate: Candidate,
    label: u8,
    entry: Vec<u8>,
}

impl Core {
    /// Gathers what may leave: nothing that is over, waits, was refused, or was read and burns.
    pub(crate) fn gather(&mut self, bounds: Bounds) -> Result<Gathered, Error> {
        let mut gathered = Gathered::default();
        for person in self.past_people()? {
            // One whose history is too long is met anew.
            if let Ok(entry) = Entry::Person(person).encode() {
                gathered.people += 1;
                gathered.entries.push((0, entry));
            }
        }
        let chosen = self.choose(bounds, &mut gathered)?;
        // The conversation that was used last comes last: numbers show it.
        let newest = |messages: &[Chosen]| messages.last().map(|chosen| chosen.candidate.order_ms);
        let mut rooms: Vec<_> = chosen.into_values().collect();
        rooms.sort_by_key(|(_, messages)| newest(messages));
        for (conversation, messages) in rooms {
            gathered.entries.push((0, conversation));
            let messages = messages.into_iter();
            gathered
                .entries
                .extend(messages.map(|chosen| (chosen.label, chosen.entry)));
        }
        Ok(gathered)
    }

    /// The newest messages that fit, room by room in the order of the conversation, each room with what it is named by.
    fn choose(
        &mut self,
        bounds: Bounds,
        gathered: &mut Gathered,
    ) -> Result<BTreeMap<RoomId, ChosenRoom>, Error> {
        let mut candidates = self.candidates(bounds, gathered)?;
        candidates.sort_by_key(|candidate| Reverse((candidate.order_ms, candidate.position)));
        let mut bytes: usize = gathered.entries.iter().map(|(_, entry)| entry.len()).sum();
        let (mut count, mut is_full) = (0, false);
        let mut rooms: BTreeMap<RoomId, ChosenRoom> = BTreeMap::new();
        for candidate in candidates {
            let room = candidate.place.room;
            is_full |= count >= bounds.messages;
            if is_full {
                gathered.left_out += 1;
                continue;
            }
            let Some(message) = self.past_message(candidate)? else {
                continue;
            };
            let label = message.content.label;
            let entry = Entry::Message(Box::new(message)).encode()?;
            let conversation = match rooms.contains_key(&room) {
                true => Vec::new(),
                false => match self.conversation(room)? {
                    Some(conversation) => Entry::Conversation(conversation).encode()?,
                    None => continue,
                },
            };
            bytes += entry.len() + conversation.len();
            if bytes > bounds.bytes {
                is_full = true;
                gathered.left_out += 1;
                continue;
            }
            count += 1;
            let (_, chosen) = rooms.entry(room).or_insert((conversation, Vec::new()));
            chosen.push(Chosen {
                candidate,
                label,
                entry,
            });
        }
        for (_, chosen) in rooms.values_mut() {
            chosen.reverse();
        }
        gathered.messages = u64::try_from(count).unwrap_or(u64::MAX);
        Ok(rooms)
    }

    fn candidates(&self, bounds: Bounds, gathered: &mut Gathered) -> Result<Vec<Candidate>, Error> {
        let now = self.now_ms();
        let oldest_ms = now.saturating_sub(bounds.days.saturating_mul(24 * 60 * 60 * 1000));
        let mut candidates = Vec::new();
        for room in self.rooms_with_messages() {
            let mut order_ms = 0;
            for number in self.in_order(room)? {
                let place = Place { room, number };
                let Some(meta) = self.meta(place)?.filter(|meta| may_leave(meta, now)) else {
                    continue;
                };
                let Some(accepted_ms) = meta.accepted_ms else {
                    continue;
                };
                let imported = self.imported(place)?;
                order_ms = imported.map_or(accepted_ms, |i| i.order_ms).max(order_ms);
                if meta.burn_seconds > 0 && !bounds.burning {
                    continue;
                }
                if accepted_ms < oldest_ms {
                    gathered.left_out += 1;
                    continue;
                }
                candidates.push(Candidate {
                    place,
                    order_ms,
                    position: candidates.len(),
                });
            }
        }
        Ok(candidates)
    }

    fn past_message(&self, candidate: Candidate) -> Result<Option<PastMessage>, Error> {
        let place = candidate.place;
        let (Some(meta), Some(stored)) = (self.meta(place)?, self.stored_content(place)?) else {
            return Ok(None);
        };
        let (Some(accepted_ms), Some(expires_ms)) = (meta.accepted_ms, meta.expires_ms) else {
            return Ok(None);
        };
        Ok(Some(PastMessage {
            room: place.room,
            device: stored.device,
            handle: stored.sender.handle,
            accepted_ms,
            expires_ms,
            order_ms: candidate.order_ms,
            message_sha256: stored.message_sha256,
            content: Content::decode(&stored.content)?,
        }))
    }

    /// What a room is named by.
    pub(super) fn conversation(&mut self, room: RoomId) -> Result<Option<Conversation>, Error> {
        if self.is_in(room) {
            let hub = self.room(room)?.hub.clone();
            let leaves = self.known_leaves(room)?.into_iter();
            let addresses = leaves.map(|leaf| leaf.device.address);
            let mut addresses: Vec<_> = addresses.collect();
            addresses.sort();
            addresses.dedup();
            addresses.truncate(CONVERSATION_ADDRESSES_MAX);
            return Ok(Some(Conversation {
                room,
                hub,
                addresses,
            }));
        }
        if let Some(record) = self.history.past.get(&room) {
            let past = record.past.clone();
            return Ok(Some(Conversation {
                room,
                hub: past.hub,
                addresses: past.addresses,
            }));
        }
        // Of one that is over nothing is known but its messages: by those who wrote them.
        let Ok(hub) = self.room(room).map(|record| record.hub.clone()) else {
            return Ok(None);
        };
        let mut addresses = Vec::new();
        for number in self.numbers_of(room)? {
            let stored = self.stored_content(Place { room, number })?;
            addresses.extend(stored.map(|stored| stored.sender));
        }
        addresses.sort();
        addresses.dedup();
        addresses.truncate(CONVERSATION_ADDRESSES_MAX);
        Ok(Some(Conversation {
            room,
            hub,
            addresses,
        }))
    }
}

/// Whether a message is part of its conversation, is not over, and was not read when it burns then.
fn may_leave(meta: &MessageMeta, now_ms: u64) -> bool {
    let is_in_it = match meta.progress {
        ProgressRecord::Received | ProgressRecord::Accepted | ProgressRecord::Returned(..) => true,
        ProgressRecord::Waiting | ProgressRecord::Refused(_) => false,
    };
    is_in_it && meta.burns_ms.is_none() && meta.expires_ms.is_some_and(|at| at > now_ms)
}
