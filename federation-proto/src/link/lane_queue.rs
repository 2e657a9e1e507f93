//! What is queued on one lane of the sending end.

use std::collections::VecDeque;

use crate::envelope::Lane;
use crate::limits::LANE_RECENT_MAX;
use crate::link::sender::{BatchItem, BatchLimits, Item};
use crate::receipt::LaneHead;

#[derive(Debug, Default)]
pub(super) struct LaneQueue {
    pub(super) items: VecDeque<Item>,
    // The first this many items are in an unanswered transaction.
    pub(super) in_flight: usize,
    pub(super) tail: u64,
    // The highest position given out, where the caller knows a higher one than the last queued.
    pub(super) given_out: u64,
    pub(super) wait_until_ms: Option<u64>,
    // How often in a row nothing of the lane was taken.
    pub(super) deferrals: u32,
    pub(super) head: Option<LaneHead>,
    // When nothing is queued: its place among the idle lanes.
    pub(super) idle_since: Option<u64>,
}

impl LaneQueue {
    /// The highest position known to be given out.
    pub(super) fn highest(&self) -> u64 {
        self.tail.max(self.given_out)
    }

    /// Moves as many items as there is room for into the batch.
    pub(super) fn take(
        &mut self,
        lane: Lane,
        room: &mut BatchLimits,
        into: &mut Vec<BatchItem>,
    ) -> usize {
        let mut positions = 0_u64;
        let mut taken = 0;
        for item in &self.items {
            let fits = room.envelopes_max > 0 && (item.bytes <= room.bytes_max || into.is_empty());
            // The receiver remembers what became of so many positions; a longer batch could hide
            // a refusal behind a lost answer.
            let remembered =
                taken == 0 || positions.saturating_add(u64::from(item.count)) <= LANE_RECENT_MAX;
            if !fits || !remembered {
                break;
            }
            positions = positions.saturating_add(u64::from(item.count));
            room.envelopes_max -= 1;
            room.bytes_max = room.bytes_max.saturating_sub(item.bytes);
            into.push(BatchItem { lane, item: *item });
            taken += 1;
        }
        self.in_flight = taken;
        taken
    }
}
