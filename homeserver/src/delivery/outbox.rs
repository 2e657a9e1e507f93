//! What waits for peers.
//!
//! Whoever has something for another server adds it by [`super::Batch::send`], in the part of the act
//! itself; `federation::outbound` sends it.

use federation_proto::ids::ServerName;

pub use crate::store::outbox::{OriginRef, OutboxRow as OutboxItem, SenderRef};
use crate::store::{Store, StoreError, outbox, tally};

/// How much waits for a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Waiting {
    /// Envelopes.
    pub envelopes: u64,
    /// Their stored bytes: what the agreement bounds.
    pub bytes: u64,
    /// When the oldest was queued, milliseconds since the Unix epoch.
    pub oldest_ms: Option<u64>,
}

/// What waits for `destination`.
pub async fn waiting(store: &Store, destination: &ServerName) -> Result<Waiting, StoreError> {
    let counted = tally::get(store, &tally::outbound(destination)).await?;
    let mut oldest_ms: Option<u64> = None;
    let mut after = None;
    // The first of each lane: what follows it was queued later.
    while let Some(lane) = outbox::next_lane(store, destination, after).await? {
        after = Some(lane);
        for waits in outbox::lane(store, destination, lane, 0, 1).await? {
            let created_ms = waits.row.created_ms;
            oldest_ms = Some(oldest_ms.map_or(created_ms, |oldest| oldest.min(created_ms)));
        }
        tokio::task::yield_now().await;
    }
    Ok(Waiting {
        envelopes: counted.entries,
        bytes: counted.bytes,
        oldest_ms,
    })
}
