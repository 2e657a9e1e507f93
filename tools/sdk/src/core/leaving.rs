//! Leaving a room, and taking up that others do.
//!
//! The hub proposes the removal of whoever leaves, and every commit has to take it up. This device keeps
//! what the hub has ordered until a commit does. It makes that commit at once when it has something to send, and else
//! when its turn comes: so whoever does nothing stops nobody.

use std::collections::BTreeSet;

use bytes::Bytes;
use homeserver_api::Digest;
use homeserver_api::ids::{Member, RoomId};
use homeserver_api::refusal::{Refusal, RefusalCode};
use homeserver_api::session::SubmissionBody;
use mls_rs::group::ReceivedMessage;
use room_rules::removal;
use room_rules::settings::{Account, account};

use super::Core;
use super::records::{OperationKind, PendingRemoval, Purpose, RoomRecord, Standing};
use super::rooms::{Leaf, leaf_at};
use crate::error::Error;
use crate::event::Event;
use crate::mls;
use crate::store::Family;

/// How long each member waits for the one before it to commit.
pub(super) const TURN_MS: u64 = 200;

impl Core {
    /// Leaves a room, with every device of the account: at once here, and for the others when the hub has ordered it.
    /// The number of the operation, which ends when the own homeserver has it.
    pub(crate) fn leave_room(&mut self, room: RoomId) -> Result<u64, Error> {
        if self.open_room(room)?.standing == Standing::Creating {
            return Err(Error::InvalidArgument(
                "the room does not stand yet: leave it when it does".to_owned(),
            ));
        }
        let operation = self.state.last_operation + 1;
        self.state.last_operation = operation;
        let purpose = Purpose::Leave { room, operation };
        self.enqueue(SubmissionBody::Leave { room }, purpose)?;
        self.leave(room)?;
        Ok(operation)
    }

    /// The homeserver does not pass on that this account leaves. A room that it does not know either is left.
    pub(super) fn leave_answered(
        &mut self,
        room: RoomId,
        operation: u64,
        answer: Result<(), Refusal>,
    ) {
        let outcome = match answer {
            Err(refusal) if refusal.code != RefusalCode::UnknownRoom => {
                Err(Error::Refused(refusal))
            }
            Ok(()) | Err(_) => Ok(room),
        };
        self.effects.operations.push((operation, outcome));
    }

    /// Takes in removals that the hub has ordered.
    pub(super) fn take_removals(
        &mut self,
        room: RoomId,
        epoch: u64,
        proposals: &[Bytes],
        accepted_ms: u64,
    ) -> Result<(), Error> {
        let joined = match &self.room(room)?.standing {
            Standing::Joined => true,
            // The group that it was in: perhaps it has missed nothing, and goes on in that.
            Standing::Resyncing(_) => false,
            Standing::Creating | Standing::Left | Standing::Broken(_) => return Ok(()),
        };
        let current = self.group(room)?.current_epoch();
        if epoch > current && joined {
            let since_ms = self.room(room)?.epoch_began_ms;
            return self.begin_resync(room, since_ms.min(accepted_ms), None, "a commit is missing");
        }
        if epoch != current {
            return Ok(());
        }
        for proposal in proposals {
            match self.take_removal(room, epoch, proposal) {
                // As the state to come back to: what a later one undoes must not be this one's.
                Ok(()) => self.keep_group(room)?,
                Err(error @ Error::Store(_)) => return Err(error),
                Err(error) => {
                    self.drop_group(room);
                    let reason = error.to_string();
                    self.effects.events.push(Event::Unreadable { room, reason });
                }
            }
        }
        let own = self.group(room)?.current_member_index();
        let record = self.room(room)?.clone();
        if record.removals.iter().any(|removal| removal.leaf == own) {
            // The hub takes nothing of this device any more, and the next commit is another's.
            return self.leave(room);
        }
        if record.removals.is_empty() {
            return Ok(());
        }
        let turn = self.turn(room, epoch)?;
        let mut record = record;
        let at_ms = self.now_ms().saturating_add(TURN_MS.saturating_mul(turn));
        record.take_up_at_ms.get_or_insert(at_ms);
        self.put_room(record)?;
        let waiting = self.operations.values().filter(|o| o.room == room);
        for mut operation in waiting.cloned().collect::<Vec<_>>() {
            operation.waits_in_epoch = None;
            self.put_operation(operation)?;
        }
        self.advance_room(room)
    }

    /// Holds one proposal to its form before MLS sees it, and keeps it.
    fn take_removal(&mut self, room: RoomId, epoch: u64, bytes: &Bytes) -> Result<(), Error> {
        let read = removal::read(bytes)?;
        if (read.room, read.epoch) != (room, epoch) {
            return Err(Error::Mls(
                "the removal is of another room or epoch".to_owned(),
            ));
        }
        leaf_at(self.group(room)?, read.leaf)?;
        let mut record = self.room(room)?.clone();
        if record.removals.iter().any(|known| known.leaf == read.leaf) {
            return Ok(());
        }
        let message = mls::parse(bytes)?;
        let group = self.group_mut(room)?;
        let received = mls::guarded(|| {
            let received = group.process_incoming_message(message);
            received.map_err(mls::error)
        })?;
        let ReceivedMessage::Proposal(proposal) = received else {
            return Err(Error::Mls("it is no removal by the room's hub".to_owned()));
        };
        record.removals.push(PendingRemoval {
            leaf: read.leaf,
            account: read.account,
            reference: proposal.proposal_ref.to_vec(),
        });
        self.put_room(record)
    }

    /// How many of those who stay commit before this device.
    fn turn(&mut self, room: RoomId, epoch: u64) -> Result<u64, Error> {
        let going: BTreeSet<u32> = self.room(room)?.removals.iter().map(|r| r.leaf).collect();
        let own = self.group(room)?.current_member_index();
        let staying: Vec<u32> = self
            .leaves(room)?
            .iter()
            .map(|leaf| leaf.index)
            .filter(|leaf| !going.contains(leaf))
            .collect();
        Ok(turn_of(own, &staying, epoch))
    }

    /// Whether the hub's removals wait in a room: then nothing is sent there before a commit takes them up.
    pub(super) fn removals_wait(&self, room: RoomId) -> bool {
        self.rooms.get(&room).is_some_and(|record| {
            record.standing == Standing::Joined && !record.removals.is_empty()
        })
    }

    /// Begins to take up what waits, when this device has something to send there or its turn has come.
    pub(super) fn take_up_if_due(&mut self, room: RoomId) -> Result<(), Error> {
        let now = self.now_ms();
        let under_way = self
            .operations
            .values()
            .any(|o| o.room == room && o.kind == OperationKind::TakeUp);
        let put_off = self.refresh_after.get(&room).is_some_and(|at| *at > now);
        if under_way || put_off {
            return Ok(());
        }
        let at_ms = self.room(room)?.take_up_at_ms;
        let due = at_ms.is_none_or(|at| at <= now);
        let has_commit = self
            .operations
            .values()
            .any(|operation| operation.room == room && operation.is_answered());
        let has_message = || -> Result<bool, Error> {
            Ok(!self
                .store
                .numbers(Family::Queue, room.as_bytes())?
                .is_empty())
        };
        if due || has_commit || has_message()? {
            self.new_operation(room, OperationKind::TakeUp, BTreeSet::new(), None)?;
        }
        Ok(())
    }

    /// Goes on in rooms in which this device's turn has come.
    pub(super) fn take_up_due(&mut self) -> Result<(), Error> {
        let now = self.now_ms();
        let due = self.take_up_at.iter().filter(|(_, at)| **at <= now);
        for room in due.map(|(room, _)| *room).collect::<Vec<_>>() {
            self.take_up_at.remove(&room);
            self.advance_room(room)?;
        }
        Ok(())
    }

    /// Keeps up when this device's turn comes.
    pub(super) fn schedule_take_up(&mut self, record: &RoomRecord) {
        let waits = record.standing == Standing::Joined && !record.removals.is_empty();
        match record.take_up_at_ms.filter(|_| waits) {
            Some(at_ms) => {
                self.take_up_at.insert(record.room, at_ms);
                self.effects.schedule_changed = true;
            }
            None => drop(self.take_up_at.remove(&record.room)),
        }
    }

    /// The devices in a room that wait to be taken out of it, and the accounts that go with the last of theirs.
    pub(super) fn going(
        &self,
        room: RoomId,
        leaves: &[Leaf],
    ) -> Result<(Vec<Member>, BTreeSet<Account>), Error> {
        let removals = match self.rooms.get(&room) {
            Some(record) => &record.removals[..],
            None => &[],
        };
        Ok(who_goes(removals, leaves))
    }
}

/// The members that these removals take out, and the accounts that go with the last of theirs.
fn who_goes(removals: &[PendingRemoval], leaves: &[Leaf]) -> (Vec<Member>, BTreeSet<Account>) {
    let removal = |leaf: &Leaf| removals.iter().find(|removal| removal.leaf == leaf.index);
    let (mut devices, mut accounts, mut staying) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
    for leaf in leaves {
        let of = account(&leaf.device.member);
        match removal(leaf) {
            Some(removal) => {
                devices.push(leaf.device.member.clone());
                if removal.account {
                    accounts.insert(of);
                }
            }
            None => drop(staying.insert(of)),
        }
    }
    accounts.retain(|account| !staying.contains(account));
    (devices, accounts)
}

/// The devices that those had of whom the hub said that they leave and of whom nobody is left.
pub(super) fn who_left<'a>(
    removals: &[PendingRemoval],
    before: &'a [Leaf],
    after: &[Leaf],
) -> Vec<&'a Leaf> {
    let (_, mut accounts) = who_goes(removals, before);
    for leaf in after {
        accounts.remove(&account(&leaf.device.member));
    }
    before
        .iter()
        .filter(|leaf| accounts.contains(&account(&leaf.device.member)))
        .collect()
}

/// How many of `staying` come before `own` in an epoch: by the hash of the epoch and the leaf.
fn turn_of(own: u32, staying: &[u32], epoch: u64) -> u64 {
    let place = |leaf: u32| Digest::of(&[&epoch.to_be_bytes()[..], &leaf.to_be_bytes()].concat());
    let before = staying.iter().filter(|leaf| place(**leaf) < place(own));
    u64::try_from(before.count()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: in each epoch every member has a turn of its own, and the order is another one. Method: the turns of
    /// fifty leaves in two epochs.
    #[test]
    fn turns() {
        let staying: Vec<u32> = (0..100).step_by(2).collect();
        let turns = |epoch| -> Vec<u64> {
            let turn = |leaf: &u32| turn_of(*leaf, &staying, epoch);
            staying.iter().map(turn).collect()
        };
        let mut sorted = turns(7);
        sorted.sort_unstable();
        assert_eq!(sorted, (0..50).collect::<Vec<u64>>());
        assert_ne!(turns(7), turns(8));
    }
}
