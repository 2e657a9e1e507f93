//! Deliveries: one frame, one batch, then the acknowledgement.

use std::collections::BTreeSet;

use homeserver_api::Digest;
use homeserver_api::ids::{Address, RoomId, ServerName};
use homeserver_api::refusal::{Refusal, RefusalCode};
use homeserver_api::session::{Delivery, DeliveryBody};
use mls_rs::group::{CommitEffect, CommitMessageDescription, ContentType, ReceivedMessage, Sender};
use mls_rs::{MlsMessage, MlsMessageDescription};

use super::consents::policy_of;
use super::leaving::who_left;
use super::opening::{decrypt, epoch_of};
use super::records::{MessageContent, MessageMeta, Place, ProgressRecord, Standing};
use super::rooms::{Leaf, leaf_at, settings};
use super::{Core, Steps};
use crate::content::{Content, Part};
use crate::error::Error;
use crate::event::Event;
use crate::mls::{self, Group};
use crate::store::Family;

/// When a delivered message was accepted by its sender's homeserver, and when it goes.
#[derive(Clone, Copy)]
struct Times {
    accepted_ms: u64,
    expires_ms: u64,
}

impl Core {
    /// Takes in the deliveries of one frame; the number to acknowledge. What can't be read is told
    /// and put aside; it holds nothing else up.
    ///
    /// # Errors
    /// One that [`Error::wants_roots`] when a root is missing and `roots_are_fresh` is not set: get the roots and try
    /// again.
    pub(crate) fn receive(
        &mut self,
        deliveries: Vec<Delivery>,
        roots_are_fresh: bool,
    ) -> Result<u64, Error> {
        self.roots_are_fresh = roots_are_fresh;
        let taken = self.receive_together(deliveries);
        self.roots_are_fresh = true;
        taken
    }

    /// Takes all, and writes each group once: in a large room writing takes longer than reading a message. When a step
    /// that failed has undone an earlier delivery's with its own, all are taken again, and each writes its own.
    fn receive_together(&mut self, deliveries: Vec<Delivery>) -> Result<u64, Error> {
        let before = self.effects.lengths();
        self.steps = Steps::KeptTogether;
        let together = self.receive_all(deliveries.clone());
        let steps = std::mem::take(&mut self.steps);
        if steps != Steps::Lost {
            return together;
        }
        self.take_back(before)?;
        self.receive_all(deliveries)
    }

    fn receive_all(&mut self, deliveries: Vec<Delivery>) -> Result<u64, Error> {
        for delivery in deliveries {
            if self.steps == Steps::Lost {
                break;
            }
            // Delivered before and not acknowledged in time.
            if delivery.number <= self.state.last_delivery {
                continue;
            }
            self.state.last_delivery = delivery.number;
            let room = room_of(&delivery.body);
            match self.take(delivery.body) {
                // Any group may have changed: what a later delivery undoes must not be this one's.
                Ok(()) => self.keep_groups()?,
                Err(error) if error.wants_roots() && !self.roots_are_fresh => {
                    return Err(error);
                }
                Err(error @ Error::Store(_)) => return Err(error),
                Err(error) => {
                    if let Some(room) = room {
                        // A step that failed half-way is undone: back to the last good state.
                        self.drop_group(room);
                        self.effects.events.push(Event::Unreadable {
                            room,
                            reason: error.to_string(),
                        });
                    }
                }
            }
        }
        Ok(self.state.last_delivery)
    }

    fn take(&mut self, body: DeliveryBody) -> Result<(), Error> {
        match body {
            DeliveryBody::Message {
                room,
                message,
                accepted_ms,
                expires_ms,
            } => {
                let times = Times {
                    accepted_ms,
                    expires_ms,
                };
                self.take_message(room, &message, times)
            }
            DeliveryBody::Commit {
                room,
                epoch,
                commit,
                accepted_ms,
            } => self.take_commit(room, epoch, &commit, accepted_ms),
            DeliveryBody::Welcome {
                room,
                hub,
                welcome,
                accepted_ms: _,
            } => self.take_welcome(room, hub, &welcome),
            DeliveryBody::KeyMaterial { request, result } => {
                self.take_key_material(request, result)
            }
            DeliveryBody::CommitRefused {
                room: _,
                counter,
                refusal,
            } => self.commit_refused(counter, refusal),
            DeliveryBody::Returned {
                room: _,
                counter,
                server,
                refusal,
            } => self.take_returned(counter, server, refusal),
            DeliveryBody::Directory { request, result } => {
                self.take_directory(request, result);
                Ok(())
            }
            DeliveryBody::ReportReturned {
                room,
                server,
                refusal,
            } => {
                let event = Event::ReportReturned {
                    room,
                    server,
                    refusal,
                };
                self.effects.events.push(event);
                Ok(())
            }
            DeliveryBody::GroupInfo {
                request,
                room,
                result,
            } => self.take_group_info(room, request, result),
            DeliveryBody::RoomClosed { room, server } => self.take_closed(room, &server),
            DeliveryBody::OutOfStep { room, epoch } => self.take_out_of_step(room, epoch),
            DeliveryBody::RoomConsent {
                request, result, ..
            } => self.take_room_consent(request, result),
            DeliveryBody::Removals {
                room,
                epoch,
                proposals,
                accepted_ms,
            } => self.take_removals(room, epoch, &proposals, accepted_ms),
            // Nothing is kept of it here: the homeserver has the list.
            DeliveryBody::Contact {
                address,
                change,
                text,
            } => {
                self.effects.events.push(Event::Contact {
                    address,
                    change,
                    text,
                });
                Ok(())
            }
        }
    }

    fn take_message(&mut self, room: RoomId, bytes: &[u8], times: Times) -> Result<(), Error> {
        let record = self.room(room)?;
        let (out_of_step, readable_from) = match &record.standing {
            Standing::Joined => (false, record.readable_from),
            Standing::Resyncing(_) => (true, 0),
            // Nothing to read it with, and that was told already.
            Standing::Left | Standing::Broken(_) | Standing::Creating => return Ok(()),
        };
        // From while this device was out of step: told when it came back.
        if readable_from > 0 && epoch_of(bytes).is_some_and(|epoch| epoch < readable_from) {
            return Ok(());
        }
        let (content, leaf) = match self.decrypt(room, bytes) {
            Ok(read) => read,
            Err(error @ Error::Store(_)) => return Err(error),
            Err(_) if out_of_step => {
                self.drop_group(room);
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        // By the bounds of the epoch that it is from: what became stricter since, its sender did not know.
        let epoch = epoch_of(bytes).unwrap_or_default();
        let bounds = self.room(room)?.policy.bounds_in(epoch);
        bounds.check(content.ttl_seconds, content.burn_seconds, content.label)?;
        let is_late = self.note_order(room, &leaf, &content.order)?;
        if let Part::History(part) = &content.part {
            return self.take_history(room, &leaf, part);
        }
        let already: Option<Place> =
            self.store
                .get(Family::MessageIndex, content.id.as_bytes(), 0)?;
        if let Some(place) = already {
            // Sent again by its sender, who was not sure; or another one's id, which is a lie.
            let known = self
                .store
                .get::<MessageContent>(Family::MessageContent, place.room.as_bytes(), place.number)?
                .is_some_and(|stored| stored.device == leaf.device.member && place.room == room);
            return if known {
                Ok(())
            } else {
                Err(Error::Mls("it uses the id of another message".to_owned()))
            };
        }
        // Servers may only shorten a message's life, and none may stretch it by a wrong clock.
        let now = self.now_ms();
        let lifetime_ms = u64::from(content.ttl_seconds).saturating_mul(1000);
        let expires_ms = times
            .expires_ms
            .min(times.accepted_ms.saturating_add(lifetime_ms))
            .min(now.saturating_add(lifetime_ms));
        if expires_ms <= now {
            // That a server says so is no reason to say nothing.
            self.effects.events.push(Event::MessagesMissing {
                room,
                sender: leaf.device.address,
                device: leaf.device.member,
                count: 1,
                expired: true,
            });
            return Ok(());
        }
        let number = self.state.last_number + 1;
        self.state.last_number = number;
        let place = Place { room, number };
        self.store
            .put(Family::MessageIndex, content.id.as_bytes(), 0, &place)?;
        self.put_content(
            place,
            &MessageContent {
                sender: leaf.device.address,
                device: leaf.device.member,
                content: content.encode()?,
                message_sha256: Some(Digest::of(bytes)),
            },
        )?;
        self.put_meta(
            place,
            &MessageMeta {
                id: content.id,
                progress: ProgressRecord::Received,
                ttl_seconds: content.ttl_seconds,
                burn_seconds: content.burn_seconds,
                accepted_ms: Some(times.accepted_ms),
                expires_ms: Some(expires_ms),
                burns_ms: None,
                counter: None,
                order: None,
                attempts: 0,
            },
        )?;
        if let Some(message) = self.read_message(place)? {
            let (id, sender) = (message.id, message.sender.clone());
            self.effects.events.push(Event::Message(message));
            if is_late {
                self.effects.events.push(Event::OutOfOrder {
                    room,
                    message: id,
                    sender,
                });
            }
        }
        Ok(())
    }

    /// Decrypts a message and finds its authenticated sender.
    fn decrypt(&mut self, room: RoomId, bytes: &[u8]) -> Result<(Content, Leaf), Error> {
        let (content, leaf) = decrypt(self.group_mut(room)?, room, bytes)?;
        Ok((content, self.as_known(leaf)))
    }

    fn take_commit(
        &mut self,
        room: RoomId,
        epoch: u64,
        bytes: &[u8],
        accepted_ms: u64,
    ) -> Result<(), Error> {
        self.check_ordered(room, epoch, bytes)?;
        match &self.room(room)?.standing {
            Standing::Joined | Standing::Creating => {}
            Standing::Resyncing(_) => {
                return self.take_commit_out_of_step(room, epoch, bytes, accepted_ms);
            }
            Standing::Left | Standing::Broken(_) => return Ok(()),
        }
        let current = self.group(room)?.current_epoch();
        if epoch < current {
            // Already applied: this device joined after it.
            return Ok(());
        }
        if epoch > current {
            let since_ms = self.room(room)?.epoch_began_ms;
            return self.begin_resync(room, since_ms, None, "a commit is missing");
        }
        let message = mls::parse(bytes)?;
        check_commit(&message, room, epoch)?;
        let outside = comes_from_outside(&message);
        let by = author(self.group(room)?, &message);
        let by = by.map(|leaf| self.as_known(leaf).device.address);
        let before = self.admit_members(room, accepted_ms)?;
        match self.apply_commit(room, message, accepted_ms) {
            Ok(applied) => {
                self.note_ordered(room, epoch, bytes)?;
                self.commit_applied(room, epoch, &before, &applied)
            }
            Err(error) if error.wants_roots() && !self.roots_are_fresh => Err(error),
            Err(error @ Error::Store(_)) => Err(error),
            // Nobody's way back in, and no reason to leave this epoch: a hub that has ordered it nevertheless
            // shows a gap with the next one.
            Err(Error::Mls(reason)) if outside && mls::is_refusal(&reason) => {
                Err(Error::Mls(reason))
            }
            // The hub's order stands, so this device has to find another way into the next epoch.
            Err(error) => self.begin_resync(room, accepted_ms, by, &error.to_string()),
        }
    }

    fn apply_commit(
        &mut self,
        room: RoomId,
        message: MlsMessage,
        accepted_ms: u64,
    ) -> Result<CommitMessageDescription, Error> {
        let group = self.group_mut(room)?;
        let time = mls::time(accepted_ms);
        let received = mls::guarded(|| {
            let received = group.process_incoming_message_with_time(message, time);
            received.map_err(mls::error)
        })?;
        match received {
            ReceivedMessage::Commit(commit) => Ok(commit),
            _ => Err(Error::Mls("it is no commit".to_owned())),
        }
    }

    fn commit_applied(
        &mut self,
        room: RoomId,
        epoch: u64,
        before: &[Leaf],
        applied: &CommitMessageDescription,
    ) -> Result<(), Error> {
        if matches!(applied.effect, CommitEffect::Removed { .. }) {
            return self.leave(room);
        }
        let now = self.now_ms();
        let name = self.room(room)?.name.clone();
        let policy = self.room(room)?.policy.clone();
        let own_member = self.identity.member.clone();
        let after = self.leaves(room)?;
        let group = self.group_mut(room)?;
        let own = applied.committer == group.current_member_index();
        let new_name = settings(group)?.name;
        let policy = policy_of(policy, group, &after, &own_member)?;
        self.keep_group(room)?;
        let mut record = self.room(room)?.clone();
        let removals = std::mem::take(&mut record.removals);
        record.take_up_at_ms = None;
        record.name.clone_from(&new_name);
        record.policy = policy;
        let created = record.standing == Standing::Creating;
        record.standing = Standing::Joined;
        record.sent_in_epoch = 0;
        record.epoch_began_ms = now;
        self.put_room(record)?;
        if created {
            self.effects.events.push(Event::RoomJoined { room });
            self.tell_continuation(room)?;
        } else {
            let left = who_left(&removals, before, &after).into_iter();
            let left = left.map(|leaf| self.address_of(&leaf.device).clone());
            let left: BTreeSet<Address> = left.collect();
            let left = left.into_iter().collect();
            self.tell_changes(room, (before, &after), left);
            if name != new_name {
                let name = new_name;
                self.effects.events.push(Event::RoomRenamed { room, name });
            }
        }
        self.meet(room)?;
        self.commit_ordered(room, epoch, own)
    }

    fn take_returned(
        &mut self,
        counter: u64,
        server: ServerName,
        refusal: Refusal,
    ) -> Result<(), Error> {
        let Some(place) = self.store.get::<Place>(Family::Sent, b"", counter)? else {
            // Deleted meanwhile, or encrypted again.
            return Ok(());
        };
        let stale = matches!(
            refusal.code,
            RefusalCode::EpochTooOld | RefusalCode::WrongEpoch
        );
        if stale && self.encrypt_again(place)? {
            return Ok(());
        }
        let progress = ProgressRecord::Returned(server, refusal);
        self.answer_message(place.room, place.number, progress)
    }
}

/// Who made a member's commit.
fn author(group: &Group, message: &MlsMessage) -> Option<Leaf> {
    match message.description() {
        MlsMessageDescription::PublicProtocolMessage {
            sender: Sender::Member(index),
            ..
        } => leaf_at(group, index).ok(),
        _ => None,
    }
}

fn comes_from_outside(message: &MlsMessage) -> bool {
    matches!(
        message.description(),
        MlsMessageDescription::PublicProtocolMessage {
            sender: Sender::NewMemberCommit,
            ..
        }
    )
}

fn check_commit(message: &MlsMessage, room: RoomId, epoch: u64) -> Result<(), Error> {
    match message.description() {
        MlsMessageDescription::PublicProtocolMessage {
            group_id,
            epoch_id,
            content_type: ContentType::Commit,
            // From outside only a member's own way back in; see `mls::rules`.
            sender: Sender::Member(_) | Sender::NewMemberCommit,
            ..
        } if group_id == room.as_bytes() && epoch_id == epoch => Ok(()),
        _ => Err(Error::Mls("it is no commit of a member".to_owned())),
    }
}

const fn room_of(body: &DeliveryBody) -> Option<RoomId> {
    match body {
        DeliveryBody::Message { room, .. }
        | DeliveryBody::Commit { room, .. }
        | DeliveryBody::Welcome { room, .. }
        | DeliveryBody::CommitRefused { room, .. }
        | DeliveryBody::GroupInfo { room, .. }
        | DeliveryBody::Removals { room, .. }
        | DeliveryBody::RoomConsent { room, .. }
        | DeliveryBody::RoomClosed { room, .. }
        | DeliveryBody::OutOfStep { room, .. }
        | DeliveryBody::Returned { room, .. }
        | DeliveryBody::ReportReturned { room, .. } => Some(*room),
        DeliveryBody::KeyMaterial { .. }
        | DeliveryBody::Contact { .. }
        | DeliveryBody::Directory { .. } => None,
    }
}
