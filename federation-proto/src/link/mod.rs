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

/// How an arriving link epoch relates to the highest one known of its origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkEpoch {
    /// The one in use.
    Current,
    /// A higher one: the origin has started its numbering anew, every lane at position 0.
    New,
    /// A lower one: a replay, or a server that came back from an old copy of itself.
    Stale,
}

/// Judges the link epoch of a transaction by the highest one known of its origin.
#[must_use]
pub const fn judge_link_epoch(known: Option<u64>, arriving: u64) -> LinkEpoch {
    match known {
        Some(known) if arriving < known => LinkEpoch::Stale,
        Some(known) if arriving == known => LinkEpoch::Current,
        Some(_) | None => LinkEpoch::New,
    }
}

/// The chain hash after one more envelope.
#[must_use]
pub fn chain(before: &Digest, position_hash: &Digest) -> Digest {
    Digest::of_parts(&[&[CHAIN], before.as_bytes(), position_hash.as_bytes()])
}
