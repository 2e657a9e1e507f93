//! Own messages: written, encrypted, queued; and the history of all messages.

use bytes::Bytes;
use homeserver_api::ids::RoomId;
use homeserver_api::limits::MESSAGE_BYTES_MAX;
use homeserver_api::refusal::{Refusal, RefusalCode};
use homeserver_api::session::SubmissionBody;

use room_rules::consents::Bounds;

use super::Core;
use super::records::{MessageContent, MessageMeta, Place, ProgressRecord, Purpose, Standing};
use crate::content::{Content, FileReference, Order, Part, TEXT_BYTES_MAX};
use crate::error::Error;
use crate::event::Event;
use crate::message::{Body, Message, MessageId, SendOptions};
use crate::mls::{self, Group};
use crate::store::Family;

/// Own messages in an epoch after which this device renews its leaf: fresh keys heal the room, and
/// a receiver's ratchet never has to jump far.
const REFRESH_AFTER_MESSAGES: u32 = 500;
/// And after which it waits for the new epoch, because receivers refuse bigger jumps.
const HOLD_AFTER_MESSAGES: u32 = 1000;
/// An epoch this old is renewed before the next message.
const REFRESH_AFTER_MS: u64 = 24 * 60 * 60 * 1000;
/// How often one message is encrypted at most, when epochs end under it.
const ATTEMPTS_MAX: u32 = 16;

impl Core {
    /// Writes an own message and sends it as soon as the room allows.
    pub(crate) fn send(
        &mut self,
        room: RoomId,
        part: Part,
        options: SendOptions,
    ) -> Result<MessageId, Error> {
        self.open_room(room)?;
        self.is_consented(room)?;
        let content = self.content(part, options, self.bounds(room)?)?;
        let number = self.state.last_number + 1;
        self.state.last_number = number;
        let place = Place { room, number };
        self.store
            .put(Family::MessageIndex, content.id.as_bytes(), 0, &place)?;
        self.put_content(
            place,
            &MessageContent {
                sender: self.identity.address.clone(),
                device: self.identity.member.clone(),
                content: content.encode()?,
                message_sha256: None,
            },
        )?;
        self.put_meta(
            place,
            &MessageMeta {
                id: content.id,
                progress: ProgressRecord::Waiting,
                ttl_seconds: content.ttl_seconds,
                burn_seconds: content.burn_seconds,
                accepted_ms: None,
                expires_ms: None,
                burns_ms: None,
                counter: None,
                order: None,
                attempts: 0,
            },
        )?;
        self.store
            .put(Family::Queue, room.as_bytes(), number, &content.id)?;
        self.send_or_take_up(room)?;
        Ok(content.id)
    }

    /// What is to be sent where messages may be so. Without a choice of the writer's it is as near as may be to what the
    /// account has by default.
    pub(super) fn content(
        &self,
        part: Part,
        options: SendOptions,
        bounds: Bounds,
    ) -> Result<Content, Error> {
        if let Part::Text(text) = &part
            && text.len() > TEXT_BYTES_MAX
        {
            return Err(Error::InvalidArgument(format!(
                "a message has at most {TEXT_BYTES_MAX} bytes of text: send a file instead"
            )));
        }
        let policy = self.policy();
        let ttl_seconds = options.ttl_seconds.unwrap_or_else(|| {
            let default = policy.ttl.default_seconds;
            default
                .max(bounds.ttl_min_seconds)
                .min(bounds.ttl_max_seconds)
        });
        let burn_seconds = options.burn_seconds.unwrap_or_else(|| {
            let default = policy.burn.default_seconds;
            default
                .max(bounds.burn_min_seconds)
                .min(bounds.burn_max_seconds)
        });
        if ttl_seconds == 0 {
            return Err(Error::InvalidArgument(
                "a message lives at least one second".to_owned(),
            ));
        }
        let label = match options.label {
            0 => policy.labels.default,
            chosen => chosen,
        };
        bounds.check(ttl_seconds, burn_seconds, label)?;
        if let Part::File(file) = &part
            && !policy.allows_file(label, &file.name)
        {
            return Err(Error::Refused(Refusal::new(
                RefusalCode::FilesNotAllowed,
                format!(
                    "files like {} don't go with messages of label {label} here: choose another file or label",
                    file.name
                ),
            )));
        }
        Ok(Content {
            id: MessageId::from_bytes(self.random_bytes()?),
            sent_ms: self.now_ms(),
            ttl_seconds,
            burn_seconds,
            label,
            // It has its place when it is encrypted.
            order: Order::default(),
            part,
        })
    }

    /// Sends what waits in a room; when removals wait there too, a commit takes them up before.
    fn send_or_take_up(&mut self, room: RoomId) -> Result<(), Error> {
        if self.removals_wait(room) {
            self.advance_room(room)
        } else {
            self.send_queued(room)
        }
    }

    /// Encrypts what waits in a room, unless a commit is under way: who it adds shall read it too.
    pub(super) fn send_queued(&mut self, room: RoomId) -> Result<(), Error> {
        let Some(record) = self.rooms.get(&room) else {
            return Ok(());
        };
        if record.standing != Standing::Joined
            || self.membership_commit_in_flight(room)
            || self.removals_wait(room)
            || self.is_consented(room).is_err()
        {
            return Ok(());
        }
        let waiting = self.store.numbers(Family::Queue, room.as_bytes())?;
        if waiting.is_empty() || !self.may_send(room)? {
            return Ok(());
        }
        for number in waiting {
            let record = self.room(room)?.clone();
            let old = record.epoch_began_ms.saturating_add(REFRESH_AFTER_MS) < self.now_ms();
            let stale =
                record.sent_in_epoch >= REFRESH_AFTER_MESSAGES || (old && record.sent_in_epoch > 0);
            if stale && !self.commit_in_flight(room) {
                self.refresh_if_possible(room)?;
            }
            if record.sent_in_epoch >= HOLD_AFTER_MESSAGES {
                break;
            }
            self.store.delete(Family::Queue, room.as_bytes(), number);
            self.encrypt_and_enqueue(Place { room, number })?;
        }
        Ok(())
    }

    fn encrypt_and_enqueue(&mut self, place: Place) -> Result<(), Error> {
        let (Some(mut meta), Some(stored)) = (self.meta(place)?, self.stored_content(place)?)
        else {
            // Deleted while it waited.
            return Ok(());
        };
        let mut content = Content::decode(&stored.content)?;
        // The room may have become stricter since it was written.
        let bounds = self.bounds(place.room)?;
        if let Some(expires_ms) = meta.expires_ms {
            // Accepted before: it lives for what is left since then, so that it goes everywhere when it goes here.
            content.ttl_seconds = content.ttl_seconds.min(self.seconds_left(expires_ms));
            if content.ttl_seconds < bounds.ttl_min_seconds.max(1) {
                return self.give_up(place, &meta, too_late());
            }
        }
        let (ttl, burn) = (content.ttl_seconds, content.burn_seconds);
        if let Err(error) = bounds.check(ttl, burn, content.label) {
            let refusal = Refusal::new(RefusalCode::OutOfScope, error.to_string());
            return self.give_up(place, &meta, refusal);
        }
        content.order = self.next_order(place.room, content.ttl_seconds)?;
        meta.order = Some(content.order.number);
        let message = encrypt(self.group_mut(place.room)?, &content)?;
        let counter = self.enqueue(
            SubmissionBody::Message {
                room: place.room,
                message,
            },
            Purpose::Message {
                room: place.room,
                number: place.number,
            },
        )?;
        self.store.put(Family::Sent, b"", counter, &place)?;
        if let Some(before) = meta.counter.replace(counter) {
            self.store.delete(Family::Sent, b"", before);
        }
        meta.attempts += 1;
        self.put_meta(place, &meta)
    }

    /// Whole seconds until then.
    fn seconds_left(&self, until_ms: u64) -> u32 {
        let seconds = until_ms.saturating_sub(self.now_ms()) / 1000;
        u32::try_from(seconds).unwrap_or(u32::MAX)
    }

    /// Tells that an own message goes out no more: one that was accepted before has come back, others are refused.
    fn give_up(&mut self, place: Place, meta: &MessageMeta, refusal: Refusal) -> Result<(), Error> {
        let progress = if meta.accepted_ms.is_some() {
            ProgressRecord::Returned(self.room(place.room)?.hub.clone(), refusal)
        } else {
            ProgressRecord::Refused(refusal)
        };
        self.answer_message(place.room, place.number, progress)
    }

    /// Tells that an own message expires before it could be encrypted again, when it is one that waited for that.
    pub(super) fn tell_if_unsent(&mut self, place: Place, meta: &MessageMeta) -> Result<(), Error> {
        let scope = place.room.as_bytes();
        let waits = self
            .store
            .get::<MessageId>(Family::Queue, scope, place.number)?
            .is_some();
        if waits && let Some(room) = self.rooms.get(&place.room) {
            self.effects.events.push(Event::Returned {
                message: meta.id,
                server: room.hub.clone(),
                refusal: too_late(),
            });
        }
        Ok(())
    }

    /// Encrypts again what was refused because its epoch is over; whether it was done.
    pub(super) fn encrypt_again(&mut self, place: Place) -> Result<bool, Error> {
        let Some(meta) = self.meta(place)? else {
            return Ok(true);
        };
        // What was written before this device was out of the room and added again is for those who were in it then.
        let open = self.rooms.get(&place.room).is_some_and(|record| {
            matches!(record.standing, Standing::Joined | Standing::Resyncing(_))
                && place.number > record.written_before
        });
        if meta.attempts >= ATTEMPTS_MAX || !open {
            return Ok(false);
        }
        self.came_to_nothing(place.room, meta.order)?;
        self.store
            .put(Family::Queue, place.room.as_bytes(), place.number, &meta.id)?;
        self.send_or_take_up(place.room)?;
        Ok(true)
    }

    /// Notes the homeserver's final answer to an own message.
    pub(super) fn answer_message(
        &mut self,
        room: RoomId,
        number: u64,
        progress: ProgressRecord,
    ) -> Result<(), Error> {
        let place = Place { room, number };
        let Some(mut meta) = self.meta(place)? else {
            return Ok(());
        };
        if matches!(
            progress,
            ProgressRecord::Refused(_) | ProgressRecord::Returned(..)
        ) {
            self.came_to_nothing(room, meta.order)?;
        }
        let lifetime_ms = u64::from(meta.ttl_seconds).saturating_mul(1000);
        match &progress {
            ProgressRecord::Refused(refusal) => {
                if meta.accepted_ms.is_none() {
                    // Its time runs from the refusal.
                    meta.expires_ms = Some(self.now_ms().saturating_add(lifetime_ms));
                }
                self.effects.answers.push((meta.id, Err(refusal.clone())));
                self.effects.events.push(Event::Refused {
                    message: meta.id,
                    refusal: refusal.clone(),
                });
            }
            ProgressRecord::Returned(server, refusal) => {
                self.effects.events.push(Event::Returned {
                    message: meta.id,
                    server: server.clone(),
                    refusal: refusal.clone(),
                });
            }
            ProgressRecord::Received | ProgressRecord::Waiting | ProgressRecord::Accepted => {}
        }
        meta.progress = progress;
        self.put_meta(place, &meta)
    }

    /// Notes that the homeserver accepted an own message. The first acceptance counts.
    pub(super) fn accept_message(&mut self, place: Place, accepted_ms: u64) -> Result<(), Error> {
        let Some(mut meta) = self.meta(place)? else {
            return Ok(());
        };
        if meta.accepted_ms.is_none() {
            let lifetime_ms = u64::from(meta.ttl_seconds).saturating_mul(1000);
            meta.accepted_ms = Some(accepted_ms);
            // A homeserver whose clock is ahead must not stretch the message's life here.
            let began_ms = accepted_ms.min(self.now_ms());
            meta.expires_ms = Some(began_ms.saturating_add(lifetime_ms));
            self.effects.answers.push((meta.id, Ok(accepted_ms)));
            self.effects.events.push(Event::Accepted {
                message: meta.id,
                accepted_ms,
            });
        }
        if meta.progress == ProgressRecord::Waiting {
            meta.progress = ProgressRecord::Accepted;
        }
        self.put_meta(place, &meta)
    }

    /// A room's messages with a number above `after`, oldest first.
    pub(crate) fn history(
        &mut self,
        room: RoomId,
        after: u64,
        count: usize,
    ) -> Result<Vec<Message>, Error> {
        self.is_known(room)?;
        let numbers = self.in_order(room)?;
        let mut messages = Vec::new();
        for number in numbers.into_iter().filter(|number| *number > after) {
            if messages.len() == count {
                break;
            }
            messages.extend(self.read_message(Place { room, number })?);
        }
        Ok(messages)
    }

    /// One message.
    pub(crate) fn message(&mut self, id: MessageId) -> Result<Message, Error> {
        let place = self.place(id)?;
        self.read_message(place)?.ok_or(Error::UnknownMessage(id))
    }

    /// What the homeserver has answered to an own message: nothing yet, when, or why not.
    pub(crate) fn answer(&self, id: MessageId) -> Result<Option<Result<u64, Refusal>>, Error> {
        let place = self.place(id)?;
        let meta = self.meta(place)?.ok_or(Error::UnknownMessage(id))?;
        Ok(match (meta.progress, meta.accepted_ms) {
            (ProgressRecord::Refused(refusal), None) => Some(Err(refusal)),
            (_, Some(accepted_ms)) => Some(Ok(accepted_ms)),
            (ProgressRecord::Received, None) => Some(Err(Refusal::new(
                RefusalCode::Malformed,
                "the message is not this device's own",
            ))),
            _ => None,
        })
    }

    /// A message's file.
    pub(crate) fn file(&self, id: MessageId) -> Result<FileReference, Error> {
        let place = self.place(id)?;
        let stored = self
            .stored_content(place)?
            .ok_or(Error::UnknownMessage(id))?;
        match Content::decode(&stored.content)?.part {
            Part::File(file) => Ok(file),
            Part::Text(_) | Part::History(_) => Err(Error::InvalidArgument(
                "the message refers to no file".to_owned(),
            )),
        }
    }

    /// Starts a message's burn time, once. A message whose time is over is not there any more, deleted
    /// or not.
    pub(crate) fn mark_shown(&mut self, id: MessageId) -> Result<(), Error> {
        let place = self.place(id)?;
        let mut meta = self.meta(place)?.ok_or(Error::UnknownMessage(id))?;
        if meta.deadline_ms().is_some_and(|at| at <= self.now_ms()) {
            return Err(Error::UnknownMessage(id));
        }
        let own = meta.progress != ProgressRecord::Received;
        if !own && meta.burn_seconds > 0 && meta.burns_ms.is_none() {
            let lifetime_ms = u64::from(meta.burn_seconds).saturating_mul(1000);
            meta.burns_ms = Some(self.now_ms().saturating_add(lifetime_ms));
            self.put_meta(place, &meta)?;
        }
        Ok(())
    }

    pub(super) fn place(&self, id: MessageId) -> Result<Place, Error> {
        self.store
            .get(Family::MessageIndex, id.as_bytes(), 0)?
            .ok_or(Error::UnknownMessage(id))
    }

    pub(super) fn meta(&self, place: Place) -> Result<Option<MessageMeta>, Error> {
        self.store
            .get(Family::MessageMeta, place.room.as_bytes(), place.number)
    }

    pub(super) fn put_meta(&mut self, place: Place, meta: &MessageMeta) -> Result<(), Error> {
        self.store.put(
            Family::MessageMeta,
            place.room.as_bytes(),
            place.number,
            meta,
        )?;
        self.schedule_deletion(place, meta.deadline_ms());
        Ok(())
    }

    pub(super) fn put_content(&self, place: Place, content: &MessageContent) -> Result<(), Error> {
        self.store.put(
            Family::MessageContent,
            place.room.as_bytes(),
            place.number,
            content,
        )
    }

    pub(super) fn stored_content(&self, place: Place) -> Result<Option<MessageContent>, Error> {
        self.store
            .get(Family::MessageContent, place.room.as_bytes(), place.number)
    }

    /// A message as the application sees it; `None` when it is gone or due to go.
    pub(super) fn read_message(&self, place: Place) -> Result<Option<Message>, Error> {
        let (Some(meta), Some(stored)) = (self.meta(place)?, self.stored_content(place)?) else {
            return Ok(None);
        };
        if meta.deadline_ms().is_some_and(|at| at <= self.now_ms()) {
            return Ok(None);
        }
        let content = Content::decode(&stored.content)?;
        Ok(Some(Message {
            id: meta.id,
            number: place.number,
            room: place.room,
            sender: stored.sender,
            device: stored.device,
            body: match content.part {
                Part::Text(text) => Body::Text { text },
                Part::File(file) => Body::File {
                    name: file.name,
                    bytes: file.bytes,
                },
                // None is ever kept as a message.
                Part::History(_) => return Ok(None),
            },
            sent_ms: content.sent_ms,
            accepted_ms: meta.accepted_ms,
            expires_ms: meta.expires_ms,
            burn_seconds: meta.burn_seconds,
            label: content.label,
            progress: meta.progress.into(),
            from_history: self.is_imported(place)?,
        }))
    }
}

/// Why a message that had to be encrypted again is not.
fn too_late() -> Refusal {
    Refusal::new(
        RefusalCode::Expired,
        "it came back, and what is left of its time is too short to send it again: write it anew",
    )
}

/// Encrypts a content, which has its place.
pub(super) fn encrypt(group: &mut Group, content: &Content) -> Result<Bytes, Error> {
    let attributes = content.attributes().encode().to_vec();
    let message = group
        .encrypt_application_message(&content.encode()?, attributes)
        .and_then(|message| message.to_bytes())
        .map_err(mls::error)?;
    if message.len() > MESSAGE_BYTES_MAX {
        return Err(Error::InvalidArgument("the message is too long".to_owned()));
    }
    Ok(message.into())
}
