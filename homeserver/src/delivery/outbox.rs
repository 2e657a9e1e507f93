//! What waits for peers.
//!
//! Whoever has something for another server appends it in the part of the act itself, and rings
//! [`crate::federation::outbound::Links::mail`] after the commit; `federation::outbound` sends it.

use federation_proto::envelope::Lane;
use federation_proto::ids::ServerName;

pub use crate::store::outbox::{OriginRef, OutboxRow as OutboxItem, SenderRef};
use crate::store::{Part, Store, StoreError, outbox};

/// Rows that are read at a time when all of them are counted.
const COUNT_ROWS: usize = 512;

/// Adds an envelope at the end of a lane towards `destination`; its place in the lane is decided by
/// the commit.
pub fn append(
    part: &mut Part,
    destination: &ServerName,
    lane: Lane,
    item: &OutboxItem,
) -> Result<(), StoreError> {
    outbox::append(part, destination, lane, item)
}

/// How much waits for a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Waiting {
    /// Envelopes.
    pub envelopes: u64,
    /// Their payloads' bytes.
    pub bytes: u64,
    /// When the oldest was queued, milliseconds since the Unix epoch.
    pub oldest_ms: Option<u64>,
}

/// Counts what waits for `destination`, a page at a time so that a long queue holds nobody up.
pub async fn waiting(store: &Store, destination: &ServerName) -> Result<Waiting, StoreError> {
    let mut waiting = Waiting::default();
    let mut after = None;
    loop {
        let rows = outbox::rows_after(store, destination, after, COUNT_ROWS).await?;
        let Some(last) = rows.last() else {
            return Ok(waiting);
        };
        after = Some((last.lane, last.number));
        for waits in &rows {
            waiting.envelopes += 1;
            waiting.bytes += u64::try_from(waits.row.payload.len()).unwrap_or(u64::MAX);
            let oldest = waiting.oldest_ms.unwrap_or(u64::MAX);
            waiting.oldest_ms = Some(oldest.min(waits.row.created_ms));
        }
        tokio::task::yield_now().await;
    }
}
