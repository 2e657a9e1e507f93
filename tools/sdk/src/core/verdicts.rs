//! What becomes of a commit: ordered, lost against another one, refused. Its operation makes it again, or ends.

use homeserver_api::ids::RoomId;
use homeserver_api::refusal::{Refusal, RefusalCode};

use super::Core;
use super::records::{CommitInFlight, Operation, OperationKind};
use crate::error::Error;

/// How often a commit may lose before its operation is given up.
const LOST_COMMITS_MAX: u32 = 32;

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
        let lost = matches!(
            refusal.code,
            RefusalCode::WrongEpoch | RefusalCode::EpochTooOld
        );
        self.group_mut(room)?.clear_pending_commit();
        if refusal.code == RefusalCode::PendingRemoves && operation.lost < LOST_COMMITS_MAX {
            self.commit_behind(operation, &commit)?;
        } else if lost
            && operation.kind != OperationKind::Create
            && operation.lost < LOST_COMMITS_MAX
        {
            self.commit_lost(operation, commit.epoch)?;
        } else {
            self.fail_operation(operation.number, Error::Refused(refusal))?;
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
        operation.lost += 1;
        operation.waits_in_epoch = (here <= commit.removals).then_some(commit.epoch);
        self.put_operation(operation)
    }

    /// Another commit ended `epoch`: ours is made again once that one is applied.
    fn commit_lost(&mut self, mut operation: Operation, epoch: u64) -> Result<(), Error> {
        operation.commit = None;
        operation.lost += 1;
        operation.not_before_epoch = epoch + 1;
        if operation.lost > LOST_COMMITS_MAX {
            let refusal = Refusal::new(
                RefusalCode::WrongEpoch,
                "the room's membership changes too often: try again",
            );
            return self.fail_operation(operation.number, Error::Refused(refusal));
        }
        self.put_operation(operation)
    }
}
