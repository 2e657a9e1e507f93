//! Both ends of a link, as state machines without I/O.
//!
//! A link is everything that one server sends to another. Its envelopes are numbered per lane, from
//! 1, without holes; identity is (origin, link epoch, lane, sequence).
//!
//! - [`Receiver`]: which envelope is next, which is there already, which came too early.
//! - [`Sender`]: what to send now, and what a receipt settles.
//!
//! Invariants: a receiver's position moves only over contiguous positions; a lane has at most one
//! unanswered transaction, so its order needs nothing from the transport; a position is settled only
//! by the result that the receiver signed for it. The store is the caller's: it reads a lane's
//! position, and writes the new one in the same store transaction as the deliveries.

mod backoff;
mod lane_queue;
mod progress;
mod receiver;
mod sender;

pub use backoff::deferral_wait_ms;
pub use receiver::{Arrival, Consumed, LanePosition, Next, Receiver, Recent, RecentOutcome};
pub use sender::{
    Anomaly, Batch, BatchItem, BatchLimits, Item, QueueError, ReceiptError, Sender, Settled,
};

use crate::hash::{CHAIN, Digest};
use crate::limits::CLOCK_SKEW_MS_MAX;

/// How an arriving link epoch relates to the highest one known of its origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkEpoch {
    /// The one in use.
    Current,
    /// A higher one: the origin has started its numbering anew, every lane at position 0.
    New,
    /// A lower one: a replay, or a server that came back from an old copy of itself.
    Stale,
    /// A higher one that lies ahead of the clock here. Whoever has an origin's keys for a time could lead its link to
    /// numbers that the origin itself never reaches.
    Ahead,
}

/// Judges the link epoch of a transaction by the highest one known of its origin, and by the clock of its receiver.
#[must_use]
pub const fn judge_link_epoch(known: Option<u64>, arriving: u64, now_ms: u64) -> LinkEpoch {
    match known {
        Some(known) if arriving < known => LinkEpoch::Stale,
        // Whatever the clock here does meanwhile, a link goes on.
        Some(known) if arriving == known => LinkEpoch::Current,
        Some(_) | None if arriving > latest_link_epoch(now_ms) => LinkEpoch::Ahead,
        Some(_) | None => LinkEpoch::New,
    }
}

/// The highest link epoch that may begin at this time of a receiver's: the time, by the clock of its origin.
#[must_use]
pub const fn latest_link_epoch(now_ms: u64) -> u64 {
    now_ms.saturating_add(CLOCK_SKEW_MS_MAX)
}

/// The link epoch that an origin begins after `former` (0: after none): the time, or the next one where `former` is not
/// lower.
#[must_use]
pub const fn next_link_epoch(former: u64, now_ms: u64) -> u64 {
    // The latest that was ever taken, by a receiver whose clock is as far ahead as may be. Beyond it lies what was begun
    // while the clock here was wrong: that is left, for it would not be taken for as long as it lies ahead.
    let taken_max = latest_link_epoch(latest_link_epoch(now_ms));
    if former < now_ms || former > taken_max {
        now_ms
    } else {
        former.saturating_add(1)
    }
}

/// The chain hash after one more envelope.
#[must_use]
pub fn chain(before: &Digest, position_hash: &Digest) -> Digest {
    Digest::of_parts(&[&[CHAIN], before.as_bytes(), position_hash.as_bytes()])
}
