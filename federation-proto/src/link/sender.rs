//! The sending end of a link: all lanes towards one destination.
//!
//! The outbox in the store is the truth; this is its order in memory. After a restart the caller
//! queues again what the outbox holds.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::envelope::Lane;
use crate::hash::Digest;
use crate::limits::{
    IDLE_LANES_MAX, RETRY_AFTER_MS_MAX, TOMBSTONE_COUNT_MAX, TRANSACTION_BYTES_MAX,
    TRANSACTION_ENVELOPES_MAX,
};
use crate::link::backoff::deferral_wait_ms;
use crate::link::lane_queue::LaneQueue;
use crate::link::progress::{Progress, check, lanes_of};
use crate::receipt::{ItemResult, LaneHead, Receipt};
use crate::refusal::{Refusal, RefusalCode};
use crate::transaction::SignedTransaction;

/// Something queued on a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Item {
    /// Its first position.
    pub sequence: u64,
    /// How many positions it covers: 1, or more for a tombstone.
    pub count: u32,
    /// Whether it is a tombstone.
    pub tombstone: bool,
    /// Its size on the wire, header and payload, for the batch's limit.
    pub bytes: usize,
}

impl Item {
    pub(super) fn last(&self) -> u64 {
        self.sequence
            .saturating_add(u64::from(self.count.saturating_sub(1)))
    }

    /// Whether it covers as many positions as an item of its kind may.
    const fn is_whole(&self) -> bool {
        let count_max = if self.tombstone {
            TOMBSTONE_COUNT_MAX
        } else {
            1
        };
        1 <= self.count && self.count <= count_max
    }
}

/// Limits of one transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchLimits {
    /// Most envelopes.
    pub envelopes_max: usize,
    /// Most bytes of headers and payloads together. A single item larger than this goes alone.
    pub bytes_max: usize,
}

impl Default for BatchLimits {
    fn default() -> Self {
        Self {
            envelopes_max: TRANSACTION_ENVELOPES_MAX,
            bytes_max: TRANSACTION_BYTES_MAX / 2,
        }
    }
}

/// What goes into one transaction. It must come back by [`Sender::handle_receipt`] or
/// [`Sender::handle_failure`], else its lanes stand still.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "its lanes stand still until it comes back"]
pub struct Batch {
    // The numbering that its positions are of: in another one they mean other envelopes.
    link_epoch: u64,
    items: Vec<BatchItem>,
}

impl Batch {
    /// The items, in the order in which the transaction must hold their envelopes.
    #[must_use]
    pub fn items(&self) -> &[BatchItem] {
        &self.items
    }
}

/// One item of a [`Batch`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchItem {
    /// Its lane.
    pub lane: Lane,
    /// The item.
    pub item: Item,
}

/// Why something can't be queued or replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum QueueError {
    /// The positions would have a hole or an overlap.
    #[error("position {found} does not follow: the next one is {expected}")]
    NotNext {
        /// The position that is next.
        expected: u64,
        /// The one that was given.
        found: u64,
    },
    /// The tombstone does not cover whole items that wait on the lane.
    #[error("the tombstone does not cover whole items that wait on the lane")]
    NotWaiting,
    /// What the tombstone would replace is being sent: try again when it is answered.
    #[error("the items are being sent")]
    InFlight,
    /// No item covers so many positions.
    #[error(
        "an item covers one position, and a tombstone 1 to {TOMBSTONE_COUNT_MAX}: cut the range"
    )]
    Count,
}

/// Why a receipt settles nothing: the batch is queued again, as after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptError {
    /// It answers another transaction.
    #[error("the receipt answers another transaction")]
    OtherTransaction,
    /// The batch was numbered in another link epoch: its items are queued under new numbers.
    #[error("the batch is of another link epoch: its items wait under new numbers")]
    OtherLinkEpoch,
    /// Its results and lanes do not fit each other or the transaction.
    #[error("the receipt contradicts itself or the transaction")]
    Contradiction,
}

/// What a receipt settled. Everything here leaves the outbox in one store transaction.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Settled {
    /// Durable at the receiver.
    pub done: Vec<BatchItem>,
    /// Refused for good: to be dead-lettered, audited, and told to the sender.
    pub refused: Vec<(BatchItem, Refusal)>,
    /// Stays queued.
    pub deferred: Vec<(BatchItem, RefusalCode)>,
    /// Stays queued, whatever the receiver says of it: it has positions of the lane that were never
    /// given out here ([`Anomaly::PeerAhead`]), so what it has there may be something else.
    pub held: Vec<BatchItem>,
    /// What an operator should know.
    pub anomalies: Vec<Anomaly>,
}

/// Both ends disagree about a lane's past: one of them may have been restored from an old copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Anomaly {
    /// The receiver has positions that this side never gave out.
    PeerAhead {
        /// The lane.
        lane: Lane,
        /// The receiver's position.
        theirs: u64,
        /// The highest position given out here.
        ours: u64,
    },
    /// The receiver misses positions that it had acknowledged.
    PeerBehind {
        /// The lane.
        lane: Lane,
        /// The receiver's position.
        theirs: u64,
        /// The first position that is still here.
        ours: u64,
    },
    /// The same positions, but not the same envelopes.
    ChainMismatch {
        /// The lane.
        lane: Lane,
        /// The position.
        sequence: u64,
    },
}

/// The sending end of a link.
#[derive(Debug)]
pub struct Sender {
    link_epoch: u64,
    lanes: BTreeMap<Lane, LaneQueue>,
    // Lanes that have something to send now, each once, in the order of their turns.
    ready: VecDeque<Lane>,
    waiting: BTreeSet<(u64, Lane)>,
    // Lanes with nothing queued, in the order in which they fell idle. The longest idle are
    // forgotten: their next item says where their numbering goes on.
    idle: BTreeMap<u64, Lane>,
    idle_count: u64,
}

impl Sender {
    /// A link with nothing queued.
    #[must_use]
    pub fn new(link_epoch: u64) -> Self {
        Self {
            link_epoch,
            lanes: BTreeMap::new(),
            ready: VecDeque::new(),
            waiting: BTreeSet::new(),
            idle: BTreeMap::new(),
            idle_count: 0,
        }
    }

    /// The epoch of the numbering.
    #[must_use]
    pub const fn link_epoch(&self) -> u64 {
        self.link_epoch
    }

    /// How many items wait or are being sent.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.lanes.values().map(|lane| lane.items.len()).sum()
    }

    /// How many lanes are kept: those with something queued, and the last [`IDLE_LANES_MAX`] that had.
    #[must_use]
    pub fn lanes(&self) -> usize {
        self.lanes.len()
    }

    /// Whether a call of [`Sender::poll_batch`] with a time before [`Sender::poll_timeout`] would
    /// find something.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// How many items could be sent now, as far as `max`.
    #[must_use]
    pub fn ready_items(&self, max: usize) -> usize {
        let mut items = 0_usize;
        for lane in &self.ready {
            if items >= max {
                break;
            }
            let queued = self.lanes.get(lane).map_or(0, |queue| queue.items.len());
            items = items.saturating_add(queued);
        }
        items.min(max)
    }

    /// Whether this position is in an unanswered transaction.
    #[must_use]
    pub fn is_in_flight(&self, lane: Lane, sequence: u64) -> bool {
        self.lanes.get(&lane).is_some_and(|queue| {
            let last = queue.in_flight.checked_sub(1);
            let last = last.and_then(|index| queue.items.get(index));
            last.is_some_and(|last| sequence <= last.last())
        })
    }

    /// When the next deferred lane may be tried again.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<u64> {
        self.waiting.first().map(|(until_ms, _)| *until_ms)
    }

    /// Queues an item at the end of its lane.
    ///
    /// # Errors
    /// When it does not follow the last one queued.
    pub fn enqueue(&mut self, lane: Lane, item: Item) -> Result<(), QueueError> {
        if !item.is_whole() {
            return Err(QueueError::Count);
        }
        let tail = self.lanes.get(&lane).map_or(0, |queue| queue.tail);
        let expected = tail.saturating_add(1);
        if (tail > 0 && item.sequence != expected) || item.sequence == 0 || tail == u64::MAX {
            return Err(QueueError::NotNext {
                expected,
                found: item.sequence,
            });
        }
        let queue = self.lanes.entry(lane).or_default();
        if let Some(since) = queue.idle_since.take() {
            self.idle.remove(&since);
        }
        queue.tail = item.last();
        queue.items.push_back(item);
        if queue.items.len() == 1 && queue.wait_until_ms.is_none() {
            self.ready.push_back(lane);
        }
        Ok(())
    }

    /// Puts a tombstone in the place of items that wait: of exactly the items that it covers.
    ///
    /// # Errors
    /// When it does not cover whole items, or they are being sent.
    pub fn replace_by_tombstone(&mut self, lane: Lane, tombstone: Item) -> Result<(), QueueError> {
        if !tombstone.is_whole() {
            return Err(QueueError::Count);
        }
        let queue = self.lanes.get_mut(&lane).ok_or(QueueError::NotWaiting)?;
        let start = queue
            .items
            .binary_search_by_key(&tombstone.sequence, |item| item.sequence)
            .map_err(|_| QueueError::NotWaiting)?;
        let end = queue
            .items
            .binary_search_by_key(&tombstone.last(), Item::last)
            .map_err(|_| QueueError::NotWaiting)?;
        if start < queue.in_flight {
            return Err(QueueError::InFlight);
        }
        if end < start || !tombstone.tombstone {
            return Err(QueueError::NotWaiting);
        }
        queue.items.drain(start..=end);
        queue.items.insert(start, tombstone);
        Ok(())
    }

    /// The next transaction's content: of every lane that may send, the first items in order, the
    /// lanes taking turns. `None` when nothing may be sent now.
    pub fn poll_batch(&mut self, now_ms: u64, limits: BatchLimits) -> Option<Batch> {
        self.wake(now_ms);
        let mut room = limits;
        let mut items = Vec::new();
        while let Some(lane) = self.ready.pop_front() {
            let Some(queue) = self.lanes.get_mut(&lane) else {
                continue;
            };
            let taken = queue.take(lane, &mut room, &mut items);
            if taken == 0 && !queue.items.is_empty() {
                self.ready.push_front(lane);
                break;
            }
        }
        let link_epoch = self.link_epoch;
        (!items.is_empty()).then_some(Batch { link_epoch, items })
    }

    fn wake(&mut self, now_ms: u64) {
        while let Some((until_ms, lane)) = self.waiting.first().copied() {
            if until_ms > now_ms {
                break;
            }
            self.waiting.pop_first();
            if let Some(queue) = self.lanes.get_mut(&lane) {
                queue.wait_until_ms = None;
                self.ready.push_back(lane);
            }
        }
    }

    /// The transaction was not answered, or not by a valid receipt: its fate is unknown, and its
    /// items are to be sent again. The wait in between is the caller's. A batch of another link epoch
    /// concerns nothing here.
    pub fn handle_failure(&mut self, batch: Batch) {
        if batch.link_epoch != self.link_epoch {
            return;
        }
        for lane in lanes_of(&batch) {
            if let Some(queue) = self.lanes.get_mut(&lane) {
                queue.in_flight = 0;
                self.ready.push_back(lane);
            }
        }
    }

    /// The lanes of a batch at which the receiver says to be ahead of everything known here, and
    /// where. After a restart not everything need be queued again: where the caller's store holds
    /// such a position, [`Sender::note_given_out`] says so before the receipt is handled.
    #[must_use]
    pub fn ahead(&self, batch: &Batch, receipt: &Receipt) -> Vec<(Lane, u64)> {
        lanes_of(batch)
            .into_iter()
            .filter_map(|lane| {
                let theirs = receipt.body().lanes.get(&lane)?.sequence;
                let ours = self.lanes.get(&lane).map_or(0, LaneQueue::highest);
                (theirs > ours).then_some((lane, theirs))
            })
            .collect()
    }

    /// The store holds this position of the lane, queued here or not.
    pub fn note_given_out(&mut self, lane: Lane, sequence: u64) {
        if let Some(queue) = self.lanes.get_mut(&lane) {
            queue.given_out = queue.given_out.max(sequence);
        }
    }

    /// The receiver answered. `random` spreads the waits of what it puts off.
    ///
    /// # Errors
    /// When the receipt does not answer this batch or contradicts itself; the batch is queued
    /// again then.
    pub fn handle_receipt(
        &mut self,
        batch: Batch,
        sent: &SignedTransaction,
        receipt: &Receipt,
        now_ms: u64,
        random: u32,
    ) -> Result<Settled, ReceiptError> {
        if batch.link_epoch != self.link_epoch {
            return Err(ReceiptError::OtherLinkEpoch);
        }
        match check(&batch, sent, receipt) {
            Ok(()) => Ok(self.settle(&batch, sent, receipt, (now_ms, random))),
            Err(error) => {
                self.handle_failure(batch);
                Err(error)
            }
        }
    }

    fn settle(
        &mut self,
        batch: &Batch,
        sent: &SignedTransaction,
        receipt: &Receipt,
        (now_ms, random): (u64, u32),
    ) -> Settled {
        let mut settled = Settled::default();
        let mut progress: BTreeMap<Lane, Progress> = BTreeMap::new();
        let ahead: BTreeMap<Lane, u64> = self.ahead(batch, receipt).into_iter().collect();
        let results = receipt.body().results.iter();
        let hashes = sent.position_hashes.iter();
        for ((item, result), hash) in batch.items.iter().zip(results).zip(hashes) {
            if ahead.contains_key(&item.lane) {
                settled.held.push(*item);
                continue;
            }
            let lane = progress.entry(item.lane).or_insert_with(|| Progress {
                chain: self.chain_before(item),
                consumed: 0,
                retry_after_ms: None,
                blocked_by_gap: false,
            });
            lane.note(item, result, hash);
            match result {
                ItemResult::Accepted | ItemResult::Duplicate => settled.done.push(*item),
                ItemResult::Refused(refusal) => settled.refused.push((*item, refusal.clone())),
                ItemResult::Deferred { code, .. } => settled.deferred.push((*item, *code)),
            }
        }
        for (lane, theirs) in ahead {
            settled.anomalies.push(self.hold(lane, theirs, now_ms));
        }
        for lane in lanes_of(batch) {
            let (Some(progress), Some(head)) =
                (progress.get(&lane), receipt.body().lanes.get(&lane))
            else {
                continue;
            };
            let now = (now_ms, random);
            self.settle_lane(lane, progress, *head, now, &mut settled.anomalies);
        }
        self.forget_idle();
        settled
    }

    /// The receiver has positions that were never given out: whatever it says of this lane may be
    /// about other envelopes, so nothing is settled, and the lane is tried again now and then.
    fn hold(&mut self, lane: Lane, theirs: u64, now_ms: u64) -> Anomaly {
        let mut ours = 0;
        if let Some(queue) = self.lanes.get_mut(&lane) {
            ours = queue.highest();
            queue.in_flight = 0;
            let until_ms = now_ms.saturating_add(RETRY_AFTER_MS_MAX.into());
            queue.wait_until_ms = Some(until_ms);
            self.waiting.insert((until_ms, lane));
        }
        Anomaly::PeerAhead { lane, theirs, ours }
    }

    fn forget_idle(&mut self) {
        while self.idle.len() > IDLE_LANES_MAX
            && let Some((_, lane)) = self.idle.pop_first()
        {
            self.lanes.remove(&lane);
        }
    }

    /// The chain hash before this item, where it is known.
    fn chain_before(&self, item: &BatchItem) -> Option<Digest> {
        if item.item.sequence == 1 {
            return Some(Digest::ZERO);
        }
        self.lanes
            .get(&item.lane)
            .and_then(|queue| queue.head)
            .filter(|head| head.sequence.checked_add(1) == Some(item.item.sequence))
            .map(|head| head.chain_hash)
    }

    fn settle_lane(
        &mut self,
        lane: Lane,
        progress: &Progress,
        head: LaneHead,
        (now_ms, random): (u64, u32),
        anomalies: &mut Vec<Anomaly>,
    ) {
        let Some(queue) = self.lanes.get_mut(&lane) else {
            return;
        };
        queue.in_flight = 0;
        let last_consumed = progress
            .consumed
            .checked_sub(1)
            .and_then(|index| queue.items.get(index))
            .map(Item::last);
        queue
            .items
            .drain(..progress.consumed.min(queue.items.len()));
        if last_consumed == Some(head.sequence)
            && progress.chain.is_some_and(|chain| chain != head.chain_hash)
        {
            anomalies.push(Anomaly::ChainMismatch {
                lane,
                sequence: head.sequence,
            });
        }
        if progress.blocked_by_gap {
            anomalies.push(Anomaly::PeerBehind {
                lane,
                theirs: head.sequence,
                ours: queue.items.front().map_or(0, |item| item.sequence),
            });
        }
        queue.head = Some(head);
        if queue.items.is_empty() {
            queue.idle_since = Some(self.idle_count);
            self.idle.insert(self.idle_count, lane);
            self.idle_count = self.idle_count.saturating_add(1);
            return;
        }
        let asked_ms = progress.retry_after_ms.map_or(0, u64::from);
        let wait_ms = if progress.consumed > 0 || progress.retry_after_ms.is_none() {
            queue.deferrals = 0;
            asked_ms
        } else {
            let wait_ms = deferral_wait_ms(queue.deferrals, asked_ms, random);
            queue.deferrals = queue.deferrals.saturating_add(1);
            wait_ms
        };
        match wait_ms {
            0 => self.ready.push_back(lane),
            wait_ms => {
                let until_ms = now_ms.saturating_add(wait_ms);
                queue.wait_until_ms = Some(until_ms);
                self.waiting.insert((until_ms, lane));
            }
        }
    }
}
