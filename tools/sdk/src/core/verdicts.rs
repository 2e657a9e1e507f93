//! What becomes of a commit: ordered, lost against another one, refused. Its operation makes it again, or ends.
//!
//! A hub holds whoever changes a room too often, so that between the commits of one who does it without end there are gaps. A
//! change that loses waits for one, instead of using up all of its attempts in a moment.

use homeserver_api::ids::RoomId;
use homeserver_api::refusal::{Refusal, RefusalCode};

use super::Core;
use super::records::{CommitInFlight, Operation, OperationKind};
use crate::error::Error;

/// How often a commit may lose before its operation is given up, unless somebody is to go.
const LOST_COMMITS_MAX: u32 = 32;
/// How often it is made again at once,
const LOST_AT_ONCE_MAX: u32 = 8;
/// and how long it waits each further time, give or take a half.
const LOST_WAIT_MS: u64 = 2_000;
/// How long no commit is made in a room after one was refused because it changes too fast, give or take a half.
const TOO_FAST_WAIT_MS: u64 = 5_000;

impl Core {
    /// The hub has ordered a commit that ended `epoch`; `own` when it is this device's.
    pub(super) fn commit_ordered(
        &mut self,
        room: RoomId,
        epoch: u64,
        own: bool,
    ) -> Result<(), Error> {
        let in_flight = self
            .operations
            .values()
            .find(|o| o.room == room && o.commit.is_some_and(|c| c.epoch == epoch))
            .cloned();
        match in_flight {
            Some(operation) if own => self.end_operation(operation.number, Ok(room)),
            Some(operation) => self.commit_lost(operation, epoch)?,
            None => {}
        }
        self.advance_room(room)
    }

    /// The homeserver or the hub did not take a commit.
    pub(super) fn commit_refused(&mut self, counter: u64, refusal: Refusal) -> Result<(), Error> {
        if let Some(room) = self.resync_with(counter) {
            return self.resync_refused(room, &refusal);
        }
        let in_flight = self
            .operations
            .values()
            .find_map(|o| o.commit.filter(|c| c.counter == counter).map(|c| (o, c)));
        // An answer about a commit that was made again meanwhile.
        let Some((operation, commit)) = in_flight else {
            return Ok(());
        };
        let operation = operation.clone();
        let room = operation.room;
        self.group_mut(room)?.clear_pending_commit();
        let again = operation.may_lose_again();
        let creates = operation.kind == OperationKind::Create;
        match refusal.code {
            RefusalCode::PendingRemoves if again => self.commit_behind(operation, &commit)?,
            RefusalCode::WrongEpoch | RefusalCode::EpochTooOld if again && !creates => {
                self.commit_lost(operation, commit.epoch)?;
            }
            // A renewal is put off for longer than that.
            RefusalCode::RateLimited
                if again && !creates && operation.kind != OperationKind::Refresh =>
            {
                self.commit_too_fast(operation)?;
            }
            _ => self.fail_operation(operation.number, Error::Refused(refusal))?,
        }
        self.advance_room(room)
    }

    /// The commit that is under way in a room is of no use any more; its operation makes another.
    pub(super) fn forget_commit(&mut self, room: RoomId) -> Result<(), Error> {
        let under_way = self.operations.values().filter(|o| o.room == room);
        for mut operation in under_way.cloned().collect::<Vec<_>>() {
            operation.commit = None;
            operation.not_before_epoch = 0;
            self.put_operation(operation)?;
        }
        Ok(())
    }

    /// The hub has ordered removals that our commit leaves out: they are here meanwhile, or on their way.
    fn commit_behind(
        &mut self,
        mut operation: Operation,
        commit: &CommitInFlight,
    ) -> Result<(), Error> {
        let here = self.room(operation.room)?.removals.len();
        operation.commit = None;
        operation.lost = operation.lost.saturating_add(1);
        operation.waits_in_epoch = (here <= commit.removals).then_some(commit.epoch);
        self.put_operation(operation)
    }

    /// Another commit ended `epoch`: ours is made again once that one is applied.
    fn commit_lost(&mut self, mut operation: Operation, epoch: u64) -> Result<(), Error> {
        if !operation.may_lose_again() {
            let refusal = Refusal::new(
                RefusalCode::WrongEpoch,
                "the room's membership changes too often: try again",
            );
            return self.fail_operation(operation.number, Error::Refused(refusal));
        }
        operation.commit = None;
        operation.lost = operation.lost.saturating_add(1);
        operation.not_before_epoch = epoch + 1;
        if operation.lost > LOST_AT_ONCE_MAX {
            self.pause_commits(operation.room, LOST_WAIT_MS)?;
        }
        self.put_operation(operation)
    }

    /// The room changes too fast for its hub, or for the own homeserver: ours is made again later.
    fn commit_too_fast(&mut self, mut operation: Operation) -> Result<(), Error> {
        operation.commit = None;
        operation.lost = operation.lost.saturating_add(1);
        self.pause_commits(operation.room, TOO_FAST_WAIT_MS)?;
        self.put_operation(operation)
    }

    fn pause_commits(&mut self, room: RoomId, ms: u64) -> Result<(), Error> {
        let at_ms = self.now_ms().saturating_add(self.about(ms)?);
        self.commits_at.insert(room, at_ms);
        self.effects.schedule_changed = true;
        Ok(())
    }

    /// Whether no commit is made in a room for the moment.
    pub(super) fn commits_pause(&self, room: RoomId) -> bool {
        let at_ms = self.commits_at.get(&room);
        at_ms.is_some_and(|at_ms| *at_ms > self.now_ms())
    }

    /// Goes on in rooms in which commits have paused.
    pub(super) fn commits_due(&mut self) -> Result<(), Error> {
        let now = self.now_ms();
        let due = self.commits_at.iter().filter(|(_, at)| **at <= now);
        for room in due.map(|(room, _)| *room).collect::<Vec<_>>() {
            self.commits_at.remove(&room);
            self.advance_room(room)?;
        }
        Ok(())
    }
}

impl Operation {
    /// Whether another commit may be made when one more has lost. Each loses against a commit that was ordered; and whoever is
    /// to go could see to it that his own are always first.
    const fn may_lose_again(&self) -> bool {
        let removes = matches!(self.kind, OperationKind::Remove(_) | OperationKind::PutOut);
        self.lost < LOST_COMMITS_MAX || removes
    }
}
