//! The way back into a room that this device has fallen out of: a commit that can't be applied, or one that
//! never came.
//!
//! The device asks the hub for the room's newest group info, checks it as it would a welcome, and commits
//! from outside, which replaces its own old leaf and nothing else. Until the hub has ordered that, the old
//! group stays, to read what was sent before, and what is written here waits. Whoever loses the race for
//! the epoch asks again. A device that falls out again and again within a day waits a little longer each time, and
//! never gives the room up for that: a member who commits what nobody can apply could end the room for everybody
//! else before anybody removes him.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use homeserver_api::ids::{Address, RequestId, RoomId};
use homeserver_api::refusal::{Refusal, RefusalCode};
use homeserver_api::session::{Commit, GroupInfo, SubmissionBody};
use mls_rs::MlsMessage;
use mls_rs::extension::built_in::RatchetTreeExt;
use room_rules::settings::Context;

use super::consents::{check_goes_on, policy_of};
use super::records::{Purpose, Resync, ResyncCommit, RoomRecord, Standing};
use super::rooms::{Leaf, is_known, leaf, settings};
use super::welcomes::check_joined;
use super::{Core, mls_client};
use crate::certificate::hash;
use crate::error::Error;
use crate::event::Event;
use crate::message::Gap;
use crate::mls::{self, Group};

/// How often a device comes back at once into one room within [`RESYNCS_MS`]; from then on it waits first, twice as
/// long each time: every way back is a commit that each member has to apply.
const RESYNCS_AT_ONCE_MAX: usize = 8;
/// How long that is counted.
const RESYNCS_MS: u64 = 24 * 60 * 60 * 1000;
/// The first such wait.
const WAIT_MS_MIN: u64 = 1_000;
/// The longest: short enough that owners who were thrown out with everybody else are back, and can remove who did it.
const WAIT_MS_MAX: u64 = 60 * 1_000;
/// How many times of coming back are kept: with as many, the wait is the longest.
const RESYNCS_KEPT_MAX: usize = RESYNCS_AT_ONCE_MAX + 7;
/// How often it tries each time: the hub may be busy.
const ATTEMPTS_MAX: u32 = 64;
/// How long an answer may take: longer than a question and its answer live between homeservers.
const ANSWER_MS_MAX: u64 = 50 * 60 * 60 * 1000;
/// Shortest pause between two attempts; it doubles with each.
const BACKOFF_MS_MIN: u64 = 1_000;
/// Longest pause.
const BACKOFF_MS_MAX: u64 = 5 * 60 * 1_000;

impl Core {
    /// Begins to come back into a room, in whose step this device was last at `since_ms`.
    pub(super) fn begin_resync(
        &mut self,
        room: RoomId,
        since_ms: u64,
        by: Option<Address>,
        reason: &str,
    ) -> Result<(), Error> {
        let now = self.now_ms();
        // What the failed step has done to the group, and a commit of its own, are of no use any more.
        self.drop_group(room);
        let mut record = self.room(room)?.clone();
        record
            .resyncs
            .retain(|at| at.saturating_add(RESYNCS_MS) > now);
        if record.standing == Standing::Creating {
            return self.break_room(room, reason);
        }
        let wait_ms = match wait_ms(record.resyncs.len()) {
            0 => 0,
            wait_ms => self.about(wait_ms)?,
        };
        record.resyncs.push(now);
        let too_many = record.resyncs.len().saturating_sub(RESYNCS_KEPT_MAX);
        record.resyncs.drain(..too_many);
        record.standing = Standing::Resyncing(Resync {
            reason: reason.to_owned(),
            since_ms,
            request: None,
            commit: None,
            failed: 0,
            not_before_ms: now.saturating_add(wait_ms),
        });
        self.put_room(record)?;
        self.group_mut(room)?.clear_pending_commit();
        self.forget_commit(room)?;
        self.effects.events.push(Event::RoomOutOfStep {
            room,
            reason: reason.to_owned(),
            by,
        });
        if wait_ms > 0 {
            return Ok(());
        }
        self.ask_group_info(room)
    }

    /// A time between 50 % and 150 % of this one, so that devices that fell out together don't come back at once.
    pub(super) fn about(&self, ms: u64) -> Result<u64, Error> {
        let [jitter, ..] = self.random_bytes()?;
        Ok(ms.saturating_mul(128 + u64::from(jitter)) / 256)
    }

    /// Asks again in rooms whose pause is over.
    pub(crate) fn resync_due(&mut self) -> Result<(), Error> {
        let now = self.now_ms();
        let due: Vec<RoomId> = self
            .resync_at
            .iter()
            .filter(|(_, at)| **at <= now)
            .map(|(room, _)| *room)
            .collect();
        for room in due {
            self.ask_group_info(room)?;
        }
        Ok(())
    }

    /// Takes in that something did not come which led to `epoch`, or was ordered in it: nothing else may ever show that.
    pub(super) fn take_out_of_step(&mut self, room: RoomId, epoch: u64) -> Result<(), Error> {
        let joined = self.rooms.get(&room);
        if joined.is_none_or(|record| record.standing != Standing::Joined) {
            // It asks already, or has no part in the room.
            return Ok(());
        }
        if self.group(room)?.current_epoch() > epoch {
            return Ok(());
        }
        let since_ms = self.room(room)?.epoch_began_ms;
        let reason =
            "something that was ordered found no room in this device's inbox, or on its way there";
        self.begin_resync(room, since_ms, None, reason)
    }

    fn ask_group_info(&mut self, room: RoomId) -> Result<(), Error> {
        let request = RequestId::from_bytes(self.random_bytes()?);
        self.enqueue(
            SubmissionBody::RequestGroupInfo { request, room },
            Purpose::GroupInfo { room, request },
        )?;
        let not_before_ms = self.now_ms().saturating_add(ANSWER_MS_MAX);
        self.change_resync(room, |resync| {
            resync.request = Some(request);
            resync.not_before_ms = not_before_ms;
        })
    }

    /// Takes in the hub's answer.
    pub(super) fn take_group_info(
        &mut self,
        room: RoomId,
        request: RequestId,
        result: Result<GroupInfo, Refusal>,
    ) -> Result<(), Error> {
        // An answer that nobody waits for: the room has ended meanwhile, or a welcome was first.
        if self.resync(room).and_then(|resync| resync.request) != Some(request) {
            return Ok(());
        }
        let info = match result {
            Ok(info) => info,
            Err(refusal) => return self.resync_refused(room, &refusal),
        };
        match self.rejoin(room, &info) {
            Ok(()) => Ok(()),
            Err(error) if error.wants_roots() && !self.roots_are_fresh => Err(error),
            Err(error @ Error::Store(_)) => Err(error),
            Err(error) => {
                self.drop_group(room);
                self.resync_failed(room, &error.to_string())
            }
        }
    }

    /// Commits this device into the room's newest epoch, in the place of its old leaf.
    fn rejoin(&mut self, room: RoomId, info: &GroupInfo) -> Result<(), Error> {
        let current = self.group(room)?.current_epoch();
        if info.epoch == current {
            return self.back_in_step(room);
        }
        if info.epoch < current {
            return Err(Error::Mls(
                "the group info is of an epoch that this device has been in".to_owned(),
            ));
        }
        let message = mls::parse(&info.group_info)?;
        let known = self.leaves(room)?;
        let own_leaf = self.check_group_info(room, info.epoch, &message, &known)?;
        let now = self.now_ms();
        let storage = self.storage.pending();
        // This device is in the room: a former partner's people may be, too.
        let identities = self.identities.again();
        let client = mls_client(&self.identity, &storage, &identities, now)?;
        self.identities.set_admitted(BTreeSet::new());
        let (mut group, commit) = mls::guarded(|| {
            client
                .external_commit_builder()
                .map_err(mls::error)?
                .with_removal(own_leaf)
                .commit_time(mls::time(now))
                .build(message)
                .map_err(mls::error)
        })?;
        check_joined(&identities, room, &group)?;
        check_goes_on(&self.room(room)?.policy, &settings(&group)?)?;
        group.write_to_storage().map_err(mls::error)?;
        let commit = Commit {
            room,
            hub: self.room(room)?.hub.clone(),
            epoch: info.epoch,
            commit: commit.to_bytes().map_err(mls::error)?.into(),
            adds: Vec::new(),
            removes: Vec::new(),
            welcome: None,
            group_info: own_group_info(&group)?,
            founding: None,
        };
        let sha256 = hash(&commit.commit);
        let epoch = commit.epoch;
        let counter = self.enqueue(SubmissionBody::Commit(commit), Purpose::Resync { room })?;
        self.change_resync(room, |resync| {
            resync.request = None;
            resync.commit = Some(ResyncCommit {
                counter,
                epoch,
                sha256,
            });
        })
    }

    /// The hub has ordered nothing that this device lacks: what it could not apply was no commit of the room's.
    fn back_in_step(&mut self, room: RoomId) -> Result<(), Error> {
        let now = self.now_ms();
        let mut record = self.room(room)?.clone();
        record.standing = Standing::Joined;
        self.put_room(record)?;
        self.effects.events.push(Event::RoomResynced {
            room,
            from_ms: now,
            until_ms: now,
        });
        self.meet(room)?;
        self.advance_room(room)
    }

    /// Holds a group info to the room before anything is built on it; where this device's old leaf is.
    fn check_group_info(
        &self,
        room: RoomId,
        epoch: u64,
        message: &MlsMessage,
        known: &[Leaf],
    ) -> Result<u32, Error> {
        let wrong = |what: &str| Error::Mls(format!("the group info {what}"));
        let info = message.as_group_info().ok_or_else(|| wrong("is none"))?;
        let context = info.group_context();
        if context.group_id() != room.as_bytes() || context.epoch() != epoch {
            return Err(wrong("is of another room or epoch"));
        }
        // Before the tree is looked at: who has a say in the room, and who takes part.
        let context = Context::read(context.extensions())?;
        if context.settings.hub != self.room(room)?.hub {
            return Err(wrong("is of a room with another hub"));
        }
        // The tree is another's, and nobody has judged it.
        let leaves = mls::guarded(|| {
            let tree: RatchetTreeExt = info
                .extensions()
                .get_as()
                .map_err(|_| wrong("has no readable tree"))?
                .ok_or_else(|| wrong("has no tree"))?;
            let roster = tree.tree_data.roster();
            let leaves = roster.members_iter().map(|member| leaf(&member));
            leaves.collect::<Result<Vec<Leaf>, Error>>()
        })?;
        let signer = leaves.iter().find(|leaf| leaf.index == info.sender());
        if !signer.is_some_and(|signer| is_known(known, signer)) {
            return Err(wrong(
                "is signed by somebody who came while this device was out of step",
            ));
        }
        let own = |leaf: &&Leaf| leaf.device.member == self.identity.member;
        if let Some(leaf) = leaves.iter().find(own) {
            return Ok(leaf.index);
        }
        Err(wrong("does not have this device in it"))
    }

    /// Takes in what the hub has ordered while this device is out of step: its own way back in, or what it
    /// can't apply. A room that goes on without an answer to its way back shows that this is lost.
    pub(super) fn take_commit_out_of_step(
        &mut self,
        room: RoomId,
        epoch: u64,
        bytes: &[u8],
        accepted_ms: u64,
    ) -> Result<(), Error> {
        let Some(own) = self.resync(room).and_then(|resync| resync.commit) else {
            return Ok(());
        };
        match epoch.cmp(&own.epoch) {
            // It comes late.
            Ordering::Less => return Ok(()),
            Ordering::Greater => return self.way_back_lost(room),
            // Another one was first, which the hub's answer to our own will say too.
            Ordering::Equal if own.sha256 != hash(bytes) => return self.resync_overtaken(room),
            Ordering::Equal => {}
        }
        let before = self.leaves(room)?;
        self.drop_group(room);
        self.storage.install_pending(room.as_bytes())?;
        let group = self.group(room)?;
        let readable_from = group.current_epoch();
        let after = self.leaves(room)?;
        let own_member = self.identity.member.clone();
        let policy = self.room(room)?.policy.clone();
        let policy = policy_of(policy, self.group(room)?, &after, &own_member)?;
        let mut record = self.room(room)?.clone();
        record.policy = policy;
        let since_ms = self
            .resync(room)
            .map_or(accepted_ms, |resync| resync.since_ms);
        record.standing = Standing::Joined;
        record.sent_in_epoch = 0;
        record.epoch_began_ms = self.now_ms();
        record.readable_from = readable_from;
        self.end_sequences(room)?;
        self.note_ordered(room, epoch, bytes)?;
        // What the hub has ordered for the epoch that begins comes after this.
        record.removals.clear();
        record.take_up_at_ms = None;
        let gap = Gap {
            from_ms: since_ms.min(accepted_ms),
            until_ms: accepted_ms,
        };
        record.gap = Some(gap);
        self.put_room(record)?;
        self.effects.events.push(Event::RoomResynced {
            room,
            from_ms: gap.from_ms,
            until_ms: gap.until_ms,
        });
        self.tell_changes(room, (&before, &after), Vec::new());
        self.meet(room)?;
        self.advance_room(room)
    }

    /// The room has gone on beyond the epoch that this device has committed in, and of what ended that epoch nothing has been
    /// delivered, nor that its own commit was refused: that was lost on its way, or is kept back.
    fn way_back_lost(&mut self, room: RoomId) -> Result<(), Error> {
        let reason = "the room goes on, and whether this device's way back was taken has not been delivered: it was \
                      lost, or its homeserver or the room's hub keeps it back";
        self.effects.events.push(Event::RoomOutOfStep {
            room,
            reason: reason.to_owned(),
            by: None,
        });
        self.resync_failed(room, reason)
    }

    /// The room in which this submission is the way back in.
    pub(super) fn resync_with(&self, counter: u64) -> Option<RoomId> {
        let own = |record: &&RoomRecord| match &record.standing {
            Standing::Resyncing(resync) => resync.commit.is_some_and(|own| own.counter == counter),
            _ => false,
        };
        self.rooms.values().find(own).map(|record| record.room)
    }

    /// The hub did not give the group info, or did not take the commit.
    pub(super) fn resync_refused(&mut self, room: RoomId, refusal: &Refusal) -> Result<(), Error> {
        if refusal.code == RefusalCode::UnknownRoom {
            // By the hub's list this device is no member any more.
            return self.leave(room);
        }
        let others_first = match refusal.code {
            RefusalCode::WrongEpoch | RefusalCode::PendingRemoves => true,
            // So is who has to wait because many come back; to ask too often is something else.
            RefusalCode::RateLimited => {
                let resync = self.resync(room);
                resync.is_some_and(|resync| resync.commit.is_some())
            }
            _ => false,
        };
        if others_first {
            return self.resync_overtaken(room);
        }
        self.resync_failed(room, &refusal.reason)
    }

    /// Others were first: it tries again after a pause of half the time that it has been trying for. That is no reason to
    /// give up, however often it happens: one of the others may see to it that it does.
    fn resync_overtaken(&mut self, room: RoomId) -> Result<(), Error> {
        self.storage.delete_pending(room.as_bytes());
        let now = self.now_ms();
        let began_ms = self.room(room)?.resyncs.last().copied().unwrap_or(now);
        let pause_ms = (now.saturating_sub(began_ms) / 2).clamp(BACKOFF_MS_MIN, BACKOFF_MS_MAX);
        let not_before_ms = now.saturating_add(self.about(pause_ms)?);
        self.change_resync(room, |resync| {
            resync.request = None;
            resync.commit = None;
            resync.not_before_ms = not_before_ms;
        })
    }

    fn resync_failed(&mut self, room: RoomId, why: &str) -> Result<(), Error> {
        self.storage.delete_pending(room.as_bytes());
        let Some(resync) = self.resync(room) else {
            return Ok(());
        };
        let failed = resync.failed.saturating_add(1);
        if failed >= ATTEMPTS_MAX {
            let reason = format!(
                "{}; it could not come back in {ATTEMPTS_MAX} attempts: {why}",
                resync.reason
            );
            return self.break_room(room, &reason);
        }
        let pause_ms = BACKOFF_MS_MIN
            .saturating_mul(1 << failed.saturating_sub(1).min(16))
            .min(BACKOFF_MS_MAX);
        let pause_ms = self.about(pause_ms)?;
        let not_before_ms = self.now_ms().saturating_add(pause_ms);
        self.change_resync(room, |resync| {
            resync.request = None;
            resync.commit = None;
            resync.failed = failed;
            resync.not_before_ms = not_before_ms;
        })
    }

    fn resync(&self, room: RoomId) -> Option<&Resync> {
        match &self.rooms.get(&room)?.standing {
            Standing::Resyncing(resync) => Some(resync),
            _ => None,
        }
    }

    fn change_resync(
        &mut self,
        room: RoomId,
        change: impl FnOnce(&mut Resync),
    ) -> Result<(), Error> {
        let mut record = self.room(room)?.clone();
        if let Standing::Resyncing(resync) = &mut record.standing {
            change(resync);
            self.put_room(record)?;
        }
        Ok(())
    }

    /// Keeps up when rooms are due to be asked about.
    pub(super) fn schedule_resync(&mut self, record: &RoomRecord) {
        match &record.standing {
            Standing::Resyncing(resync) if resync.commit.is_none() => {
                self.resync_at.insert(record.room, resync.not_before_ms);
                self.effects.schedule_changed = true;
            }
            _ => drop(self.resync_at.remove(&record.room)),
        }
    }
}

/// How long a device waits that has come back this often within a day.
fn wait_ms(resyncs: usize) -> u64 {
    let Some(more) = resyncs.checked_sub(RESYNCS_AT_ONCE_MAX) else {
        return 0;
    };
    WAIT_MS_MIN
        .saturating_mul(1 << more.min(RESYNCS_KEPT_MAX))
        .min(WAIT_MS_MAX)
}

/// The group info of the epoch that a group is in, for whoever falls out of its step.
pub(super) fn own_group_info(group: &Group) -> Result<bytes::Bytes, Error> {
    group
        .group_info_message_allowing_ext_commit(true)
        .and_then(|message| message.to_bytes())
        .map(Into::into)
        .map_err(mls::error)
}
