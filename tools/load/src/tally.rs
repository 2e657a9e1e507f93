//! What one shard counted during one phase.

use std::collections::BTreeMap;

use crate::latency::Latency;
use crate::ledger::Faults;

/// When a phase sends and when it counts; microseconds of the run's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window {
    /// The warm-up is over.
    pub(crate) from_us: u64,
    /// Nothing is sent any more.
    pub(crate) until_us: u64,
}

impl Window {
    pub(crate) const fn contains(&self, at_us: u64) -> bool {
        self.from_us <= at_us && at_us < self.until_us
    }
}

/// Counts of one phase.
pub(crate) struct Tally {
    window: Window,
    /// Sent, warm-up included.
    pub(crate) sent: u64,
    /// Accepted by the senders' homeserver, warm-up included.
    pub(crate) accepted: u64,
    /// Arrived for the first time, warm-up included.
    pub(crate) delivered: u64,
    /// Arrived within the measured window.
    pub(crate) delivered_in_window: u64,
    /// Answers "not now", each followed by another try.
    pub(crate) deferred: u64,
    /// Refused by the senders' homeserver, by code.
    pub(crate) refused: BTreeMap<String, u64>,
    /// Accepted and later returned to the sender, by code.
    pub(crate) returned: BTreeMap<String, u64>,
    /// Decrypted on arrival, and found to hold what was sent.
    pub(crate) decrypted: u64,
    /// Arrived and were neither in the pool nor decryptable.
    pub(crate) unrecognised: u64,
    pub(crate) faults: Faults,
    /// From when a message was due to when its receiver had it.
    pub(crate) delivery: Latency,
    /// From when a message was due to when its own homeserver had accepted it.
    pub(crate) acceptance: Latency,
    /// What ended a session, in words.
    pub(crate) failures: Vec<String>,
}

impl Tally {
    pub(crate) fn new(window: Window) -> Result<Self, hdrhistogram::CreationError> {
        Ok(Self {
            window,
            sent: 0,
            accepted: 0,
            delivered: 0,
            delivered_in_window: 0,
            deferred: 0,
            refused: BTreeMap::new(),
            returned: BTreeMap::new(),
            decrypted: 0,
            unrecognised: 0,
            faults: Faults::default(),
            delivery: Latency::new()?,
            acceptance: Latency::new()?,
            failures: Vec::new(),
        })
    }

    /// A message arrived for the first time.
    pub(crate) fn arrived(&mut self, intended_us: u64, now_us: u64) {
        self.delivered += 1;
        if self.window.contains(now_us) {
            self.delivered_in_window += 1;
        }
        // By when it was due, so that what arrives late, after the window, still counts as late.
        if self.window.contains(intended_us) {
            self.delivery.record(now_us.saturating_sub(intended_us));
        }
    }

    /// A message was accepted.
    pub(crate) fn accepted(&mut self, intended_us: u64, now_us: u64) {
        self.accepted += 1;
        if self.window.contains(intended_us) {
            self.acceptance.record(now_us.saturating_sub(intended_us));
        }
    }

    /// Adds a pair's settled books.
    pub(crate) fn settled(&mut self, faults: Faults) {
        self.faults.lost += faults.lost;
        self.faults.duplicated += faults.duplicated;
        self.faults.out_of_order += faults.out_of_order;
    }

    /// Adds another shard's counts of the same phase.
    pub(crate) fn merge(&mut self, other: Self) {
        self.sent += other.sent;
        self.accepted += other.accepted;
        self.delivered += other.delivered;
        self.delivered_in_window += other.delivered_in_window;
        self.deferred += other.deferred;
        for (code, count) in other.refused {
            *self.refused.entry(code).or_default() += count;
        }
        for (code, count) in other.returned {
            *self.returned.entry(code).or_default() += count;
        }
        self.decrypted += other.decrypted;
        self.unrecognised += other.unrecognised;
        self.settled(other.faults);
        self.delivery.merge(&other.delivery);
        self.acceptance.merge(&other.acceptance);
        self.failures.extend(other.failures);
    }
}
