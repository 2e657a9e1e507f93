//! The receiving end of one lane.

use serde::{Deserialize, Serialize};

use crate::envelope::Kind;
use crate::hash::Digest;
use crate::limits::{LANE_RECENT_MAX, LINK_LANES_MAX, LINK_RECENT_MAX};
use crate::link::chain;
use crate::payload::Tombstone;
use crate::receipt::{ItemResult, LaneHead};
use crate::refusal::{Refusal, RefusalCode};
use crate::transaction::VerifiedEnvelope;

/// So many lanes of a link are remembered in full,
const LANES_IN_FULL_MAX: u64 = 1 << 14;
/// and so many in part, each so many positions;
const LANES_IN_PART_MAX: u64 = 1 << 17;
const RECENT_IN_PART: u64 = 64;
/// where there are more, so many of each: as many as are on their way at a time in most rooms.
const RECENT_OF_MANY: u64 = 8;

// With the control lane, which is always taken.
const _: () = assert!(
    LANES_IN_FULL_MAX * LANE_RECENT_MAX
        + (LANES_IN_PART_MAX - LANES_IN_FULL_MAX) * RECENT_IN_PART
        + (LINK_LANES_MAX + 1 - LANES_IN_PART_MAX) * RECENT_OF_MANY
        <= LINK_RECENT_MAX
);

/// How many positions of each lane are remembered when a link has so many of them, over all its link epochs. A lane keeps
/// what it has from when there were fewer; but when the nth fullest was filled there were n of them, at the latest, so
/// that it has no more than this says of n, in whatever order the peer fills them.
const fn remembered(lanes: u64) -> u64 {
    if lanes <= LANES_IN_FULL_MAX {
        LANE_RECENT_MAX
    } else if lanes <= LANES_IN_PART_MAX {
        RECENT_IN_PART
    } else {
        RECENT_OF_MANY
    }
}

/// How far a lane has come; stored by the receiver, one per (origin, lane).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LanePosition {
    /// The link epoch that the numbering belongs to.
    pub link_epoch: u64,
    /// The highest contiguous position; 0: none.
    pub sequence: u64,
    /// The chain hash there.
    pub chain_hash: Digest,
}

impl LanePosition {
    /// A lane that has carried nothing in this link epoch.
    #[must_use]
    pub const fn start(link_epoch: u64) -> Self {
        Self {
            link_epoch,
            sequence: 0,
            chain_hash: Digest::ZERO,
        }
    }

    /// As a receipt states it.
    #[must_use]
    pub const fn head(&self) -> LaneHead {
        LaneHead {
            sequence: self.sequence,
            chain_hash: self.chain_hash,
        }
    }
}

/// What is remembered of one of a lane's last positions. The receiver stores it in slot
/// [`Recent::slot`] of the lane, where it replaces the record of 1,024 positions before, or of fewer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recent {
    /// The link epoch.
    pub link_epoch: u64,
    /// The position.
    pub sequence: u64,
    /// The position hash of what was consumed there.
    pub position_hash: Digest,
    /// What became of it.
    pub outcome: RecentOutcome,
}

impl Recent {
    /// The slot that keeps the record of this position on a link with so many lanes. What lies in another one, from when
    /// there were more or fewer, is forgotten.
    #[must_use]
    pub const fn slot(sequence: u64, lanes: u64) -> u64 {
        sequence % remembered(lanes)
    }
}

/// What became of a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RecentOutcome {
    /// Accepted.
    Accepted,
    /// Refused for good.
    Refused(RefusalCode),
    /// A tombstone was refused for good. Of one that is accepted nothing is remembered: it is not
    /// different from a position that is forgotten.
    RefusedTombstone(RefusalCode),
}

/// The receiving end of one lane, for the time of one transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receiver {
    position: LanePosition,
}

/// How an envelope stands to the lane's position.
#[derive(Debug)]
pub enum Arrival<'r> {
    /// The next one. Consume it by [`Next::accept`] or [`Next::refuse`]; dropping it defers it, and
    /// makes whatever follows on the lane a gap.
    Next(Next<'r>),
    /// It was consumed before.
    Duplicate {
        /// Why it was refused then, if it was and is still remembered.
        refused: Option<RefusalCode>,
    },
    /// Positions before it are missing.
    Gap {
        /// The position that is next.
        expected: u64,
    },
    /// Something else has its position: to be refused and audited.
    Conflict {
        /// The position hash of what has it.
        stored: Digest,
        /// The position hash of what came.
        arrived: Digest,
    },
}

impl Arrival<'_> {
    /// The result of an envelope that is not next; `None` for the next one, whose result the
    /// receiving server decides.
    #[must_use]
    pub fn settled(&self) -> Option<ItemResult> {
        match self {
            Self::Next(_) => None,
            Self::Duplicate { refused: None } => Some(ItemResult::Duplicate),
            Self::Duplicate {
                refused: Some(code),
            } => Some(ItemResult::Refused(Refusal::new(
                *code,
                "it was refused when it first arrived",
            ))),
            Self::Gap { .. } => Some(ItemResult::Deferred {
                code: RefusalCode::LaneGap,
                retry_after_ms: 0,
            }),
            Self::Conflict { .. } => Some(ItemResult::Refused(Refusal::new(
                RefusalCode::LinkConflict,
                "another envelope already has this position in the lane: \
                 the sending server may have been restored from an old copy",
            ))),
        }
    }
}

/// The next envelope of a lane, not yet consumed.
#[derive(Debug)]
pub struct Next<'r> {
    receiver: &'r mut Receiver,
    last: u64,
    position_hash: Digest,
    tombstone: bool,
}

/// A position moved: what to store, in the same store transaction as the effects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Consumed {
    /// The lane's new position.
    pub position: LanePosition,
    record: Option<Recent>,
}

impl Consumed {
    /// The record to store in its slot. One at most, however many positions a tombstone covers: the
    /// peer decides on the range, and must not decide how much is written for it.
    #[must_use]
    pub const fn record(&self) -> Option<Recent> {
        self.record
    }
}

impl Next<'_> {
    /// The envelope is durable with the store transaction that holds [`Consumed`].
    #[must_use = "the position must be stored with the envelope's effects"]
    pub fn accept(self) -> Consumed {
        let outcome = (!self.tombstone).then_some(RecentOutcome::Accepted);
        self.consume(outcome)
    }

    /// The envelope is refused for good, and its position used up.
    #[must_use = "the position must be stored with the audit of the refusal"]
    pub fn refuse(self, code: RefusalCode) -> Consumed {
        let outcome = if self.tombstone {
            RecentOutcome::RefusedTombstone(code)
        } else {
            RecentOutcome::Refused(code)
        };
        self.consume(Some(outcome))
    }

    fn consume(self, outcome: Option<RecentOutcome>) -> Consumed {
        let position = &mut self.receiver.position;
        let first = position.sequence.saturating_add(1);
        position.sequence = self.last;
        position.chain_hash = chain(&position.chain_hash, &self.position_hash);
        Consumed {
            position: *position,
            record: outcome.map(|outcome| Recent {
                link_epoch: position.link_epoch,
                sequence: first,
                position_hash: self.position_hash,
                outcome,
            }),
        }
    }
}

impl Receiver {
    /// Takes up a lane at its stored position. A position of another link epoch does not count: the
    /// caller has judged the link's epoch ([`crate::link::judge_link_epoch`]) before.
    #[must_use]
    pub fn resume(link_epoch: u64, stored: Option<LanePosition>) -> Self {
        let position = stored
            .filter(|position| position.link_epoch == link_epoch)
            .unwrap_or_else(|| LanePosition::start(link_epoch));
        Self { position }
    }

    /// The lane's position.
    #[must_use]
    pub const fn position(&self) -> &LanePosition {
        &self.position
    }

    /// Whether judging an envelope with this sequence needs the record in its slot.
    #[must_use]
    pub const fn needs_record(&self, sequence: u64) -> bool {
        sequence <= self.position.sequence && self.position.sequence - sequence < LANE_RECENT_MAX
    }

    /// Judges an envelope of this lane. `record` is what the slot of its sequence holds, where
    /// [`Receiver::needs_record`].
    pub fn judge(&mut self, envelope: &VerifiedEnvelope, record: Option<&Recent>) -> Arrival<'_> {
        let header = envelope.header();
        let tombstone = header.kind == Kind::Tombstone;
        // A tombstone that does not decode covers its own position, and is then refused by
        // whoever reads its payload.
        let count = if tombstone {
            Tombstone::count_in(envelope.payload())
        } else {
            1
        };
        self.judge_parts(
            header.sequence,
            count,
            tombstone,
            envelope.position_hash(),
            record,
        )
    }

    fn judge_parts(
        &mut self,
        first: u64,
        count: u32,
        tombstone: bool,
        position_hash: Digest,
        record: Option<&Recent>,
    ) -> Arrival<'_> {
        let expected = self.position.sequence.saturating_add(1);
        let last = first.saturating_add(u64::from(count.saturating_sub(1)));
        if first > expected || last == u64::MAX {
            return Arrival::Gap { expected };
        }
        if last >= expected {
            return Arrival::Next(Next {
                receiver: self,
                last,
                position_hash,
                tombstone,
            });
        }
        let record = record.filter(|record| {
            record.link_epoch == self.position.link_epoch && record.sequence == first
        });
        match record {
            None => Arrival::Duplicate { refused: None },
            Some(record) => judge_duplicate(record, tombstone, position_hash),
        }
    }
}

/// A tombstone may come after what it stands for was consumed, and the other way round, when an
/// answer was lost in between: neither is a conflict.
fn judge_duplicate(record: &Recent, tombstone: bool, arrived: Digest) -> Arrival<'static> {
    match record.outcome {
        RecentOutcome::RefusedTombstone(code) => Arrival::Duplicate {
            refused: (record.position_hash == arrived).then_some(code),
        },
        _ if record.position_hash != arrived && !tombstone => Arrival::Conflict {
            stored: record.position_hash,
            arrived,
        },
        RecentOutcome::Accepted => Arrival::Duplicate { refused: None },
        RecentOutcome::Refused(code) => Arrival::Duplicate {
            refused: Some(code),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const CODE: RefusalCode = RefusalCode::Malformed;

    fn next(receiver: &mut Receiver, first: u64, count: u32, tombstone: bool) -> Next<'_> {
        let hash = Digest::of(&first.to_be_bytes());
        match receiver.judge_parts(first, count, tombstone, hash, None) {
            Arrival::Next(next) => next,
            other => panic!("position {first} is {other:?}"),
        }
    }

    /// Goal: what a peer makes the store write does not grow with the range of a tombstone: an
    /// accepted one writes no record, a refused one a single one; by counting them.
    #[test]
    fn a_tombstone_writes_one_record_at_most() {
        let mut receiver = Receiver::resume(1, None);
        let plain = next(&mut receiver, 1, 1, false).accept();
        assert_eq!(plain.record().map(|record| record.sequence), Some(1));
        let accepted = next(&mut receiver, 2, 1_000_000, true).accept();
        assert_eq!(accepted.record(), None);
        assert_eq!(accepted.position.sequence, 1_000_001);
        let refused = next(&mut receiver, 1_000_002, 500, true).refuse(CODE);
        let record = refused.record().unwrap();
        assert_eq!(record.sequence, 1_000_002);
        assert_eq!(record.outcome, RecentOutcome::RefusedTombstone(CODE));
        assert_eq!(refused.position.sequence, 1_000_501);
    }

    /// Goal: what a peer makes the store remember of all its lanes has one bound, however it goes about it. Method: as many
    /// lanes as there may be, each written to as often as there are slots before the next one begins.
    #[test]
    fn what_a_link_remembers_is_bounded() {
        let lanes = 1..=LINK_LANES_MAX + 1;
        assert!(lanes.clone().map(remembered).is_sorted_by(|a, b| a >= b));
        assert!(lanes.map(remembered).sum::<u64>() <= LINK_RECENT_MAX);
        for lanes in [1, LANES_IN_FULL_MAX + 1, LANES_IN_PART_MAX + 1] {
            let slots: BTreeSet<u64> = (1..5000).map(|at| Recent::slot(at, lanes)).collect();
            assert_eq!(u64::try_from(slots.len()).unwrap(), remembered(lanes));
        }
    }

    /// Goal: the refused tombstone is refused again when it comes again, and a late original at any
    /// position of its range is no conflict (LINK-023); by judging both after the refusal.
    #[test]
    fn a_late_original_is_no_conflict_with_a_refused_tombstone() {
        let mut receiver = Receiver::resume(1, None);
        let record = next(&mut receiver, 1, 3, true).refuse(CODE).record();
        let tombstone = Digest::of(&1_u64.to_be_bytes());
        let again = receiver.judge_parts(1, 3, true, tombstone, record.as_ref());
        assert!(matches!(
            again,
            Arrival::Duplicate {
                refused: Some(CODE)
            }
        ));
        for sequence in 1..=3 {
            let original = Digest::of(b"original");
            let arrival = receiver.judge_parts(sequence, 1, false, original, record.as_ref());
            assert!(
                matches!(arrival, Arrival::Duplicate { refused: None }),
                "position {sequence}: {arrival:?}"
            );
        }
    }
}
