//! A history's way from one own device to another: a room of the two alone, in which each part is one message.
//!
//! The sender makes the room, queues all parts at once and leaves when its homeserver has them; they go out by themselves, also after a
//! crash. The receiver takes each part in with its delivery, and leaves after the last one. A history that did not come whole is sent again
//! as a whole: what is here already is passed over.

use homeserver_api::ids::{DeviceId, RoomId};
use homeserver_api::refusal::Refusal;
use homeserver_api::session::SubmissionBody;

use super::{Bounds, TransferRecord, Way};
use crate::content::{Content, Order, Part};
use crate::core::Core;
use crate::core::messages::encrypt;
use crate::core::records::{OperationKind, Purpose};
use crate::core::rooms::Leaf;
use crate::error::Error;
use crate::event::Event;
use crate::history::{HistoryPart, PARTS_MAX, cut, encode_part};
use crate::message::MessageId;

/// Most messages of a history.
const HISTORY_MESSAGES_MAX: usize = 50_000;
/// Most bytes of a history's entries: it goes through the new device's inbox with everything else.
const HISTORY_BYTES_MAX: usize = 16 * 1024 * 1024;
/// How old a history's messages are at most.
const HISTORY_DAYS_MAX: u64 = 400;
/// How long its parts wait for the new device, unless the account's policy sets narrower bounds.
const HISTORY_TTL_SECONDS: u32 = 7 * 24 * 60 * 60;

// Two parts in a row are always more than one part long.
const _: () = assert!(HISTORY_BYTES_MAX / (crate::history::ENTRY_BYTES_MAX / 2) < 800);

impl Core {
    /// Begins the room in which a history goes to another own device: the operation's number; none when that history is on its
    /// way already.
    pub(crate) fn begin_history(&mut self, device: DeviceId) -> Result<Option<u64>, Error> {
        let own = self.identity.member.device;
        if device == own || !self.own_devices().contains(&device) {
            return Err(Error::InvalidArgument(format!(
                "{device} is no other device of your account: see `chat devices`"
            )));
        }
        let to_it: Vec<TransferRecord> = self
            .history
            .transfers
            .values()
            .filter(|record| record.device == device)
            .filter(|record| matches!(record.way, Way::Out { .. }))
            .cloned()
            .collect();
        for record in to_it {
            if matches!(record.way, Way::Out { waiting: 1.., .. }) {
                return Ok(None);
            }
            // What a crash has left: its room is of no use.
            self.drop_history(record.room)?;
        }
        let room = RoomId::from_bytes(self.random_bytes()?);
        self.put_transfer(TransferRecord {
            number: self.next_transfer_number(),
            room,
            device,
            messages: 0,
            way: Way::Out {
                waiting: 0,
                left_out: 0,
            },
        })?;
        let own = [self.own_address().clone()].into();
        self.start_operation(room, OperationKind::Create, own)
            .map(Some)
    }

    /// Gives up a history whose room did not come about.
    pub(crate) fn drop_histories_to(&mut self, device: DeviceId) -> Result<(), Error> {
        let unsent = |record: &&TransferRecord| {
            record.device == device && matches!(record.way, Way::Out { waiting: 0, .. })
        };
        let rooms: Vec<RoomId> = self
            .history
            .transfers
            .values()
            .filter(unsent)
            .map(|record| record.room)
            .collect();
        rooms
            .into_iter()
            .try_for_each(|room| self.drop_history(room))
    }

    fn drop_history(&mut self, room: RoomId) -> Result<(), Error> {
        let under_way: Vec<u64> = self
            .operations
            .values()
            .filter(|operation| operation.room == room)
            .map(|operation| operation.number)
            .collect();
        for number in under_way {
            self.end_operation(number, Err(Error::UnknownRoom(room)));
        }
        self.end_transfer(room)
    }

    /// Puts what this device knows into the room that was made for it.
    pub(crate) fn offer_history(&mut self, room: RoomId) -> Result<(), Error> {
        let Some(mut record) = self.history.transfers.get(&room).cloned() else {
            return Err(Error::UnknownRoom(room));
        };
        self.open_room(room)?;
        if let Some(held) = self.held(room)?.first() {
            return Err(Error::Devices(held.reason()));
        }
        let gathered = self.gather(Bounds {
            messages: HISTORY_MESSAGES_MAX,
            bytes: HISTORY_BYTES_MAX,
            days: HISTORY_DAYS_MAX,
            burning: true,
        })?;
        let parts = cut(gathered.entries);
        let of = u32::try_from(parts.len())
            .ok()
            .filter(|of| *of <= PARTS_MAX)
            .ok_or_else(|| Error::Store("a history has too many parts".to_owned()))?;
        let policy = self.policy();
        let ttl_seconds = HISTORY_TTL_SECONDS
            .min(policy.ttl.max_seconds)
            .max(policy.ttl.min_seconds);
        let transfer = self.random_bytes()?;
        for (number, (label, entries)) in (0..of).zip(parts) {
            let content = Content {
                id: MessageId::from_bytes(self.random_bytes()?),
                sent_ms: self.now_ms(),
                ttl_seconds,
                burn_seconds: policy.burn.min_seconds,
                // What others wrote may have a lower one than the account's own messages have.
                label: label.max(policy.labels.min),
                // All of them go out in one epoch, and nothing else.
                order: Order {
                    number: u64::from(number) + 1,
                    in_epoch: number,
                    ..Order::default()
                },
                part: Part::History(encode_part(transfer, number, of, &entries)),
            };
            let message = encrypt(self.group_mut(room)?, &content)?;
            let body = SubmissionBody::Message { room, message };
            self.enqueue(body, Purpose::History { room })?;
        }
        record.messages = gathered.messages;
        record.way = Way::Out {
            waiting: of,
            left_out: gathered.left_out,
        };
        self.put_transfer(record)
    }

    /// The homeserver has taken a part, or has not.
    pub(in crate::core) fn history_answered(
        &mut self,
        room: RoomId,
        answer: Result<(), Refusal>,
    ) -> Result<(), Error> {
        // Of one that was given up: its other parts are of no use.
        let Some(mut record) = self.history.transfers.get(&room).cloned() else {
            return Ok(());
        };
        let Way::Out { waiting, left_out } = record.way else {
            return Ok(());
        };
        let device = record.device;
        if let Err(refusal) = answer {
            self.effects
                .events
                .push(Event::HistoryRefused { device, refusal });
            return self.end_transfer(room);
        }
        let waiting = waiting.saturating_sub(1);
        if waiting == 0 {
            self.effects.events.push(Event::HistorySent {
                device,
                messages: record.messages,
                left_out,
            });
            return self.end_transfer(room);
        }
        record.way = Way::Out { waiting, left_out };
        self.put_transfer(record)
    }

    /// Takes in a part of another own device's history.
    pub(in crate::core) fn take_history(
        &mut self,
        room: RoomId,
        sender: &Leaf,
        bytes: &[u8],
    ) -> Result<(), Error> {
        let member = sender.device.member.clone();
        let own = &self.identity.member;
        let is_own = (&member.server, member.account) == (&own.server, own.account);
        if !is_own || !self.is_own_alone(room) {
            return Err(Error::Mls(format!(
                "{} sent a history, which only another device of this account may, and to it alone",
                sender.device.address
            )));
        }
        if !self.is_listed(&member, &sender.device.public_key) {
            return Err(Error::Mls(format!(
                "the device {} sent a history, and is none that this account is known to have: if it is yours, send it \
                 again from there",
                member.device
            )));
        }
        let part = HistoryPart::decode(bytes)?;
        let (mut record, next, mut gap) = self.incoming(room, member.device, part.transfer);
        gap |= part.number != next;
        let is_last = part.number + 1 == part.of;
        let taken = self.take_entries(part.entries, Some(member.device))?;
        record.messages += taken.messages;
        if is_last {
            self.effects.events.push(Event::HistoryReceived {
                device: member.device,
                messages: record.messages,
                complete: !gap,
            });
            self.tidy_histories()?;
            return self.end_transfer(room);
        }
        record.way = Way::In {
            transfer: part.transfer,
            next: part.number + 1,
            gap,
        };
        self.put_transfer(record)
    }

    /// How far a history has come in: its record, the next part's number, and whether one was missing.
    fn incoming(
        &self,
        room: RoomId,
        device: DeviceId,
        transfer: [u8; 16],
    ) -> (TransferRecord, u32, bool) {
        if let Some(record) = self.history.transfers.get(&room)
            && let Way::In {
                transfer: known,
                next,
                gap,
            } = record.way
            && known == transfer
        {
            return (record.clone(), next, gap);
        }
        let known = self.history.transfers.get(&room);
        let record = TransferRecord {
            number: known.map_or_else(|| self.next_transfer_number(), |record| record.number),
            room,
            device,
            messages: 0,
            way: Way::In {
                transfer,
                next: 0,
                gap: false,
            },
        };
        (record, 0, false)
    }
}
