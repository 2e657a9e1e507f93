//! Waiting mail that must not be sent any more: expired, or no longer granted.

use std::time::Duration;

use federation_proto::refusal::{Refusal, RefusalCode};
use tokio::time::Instant;

use super::Worker;
use super::reconcile::Reconciling;
use crate::delivery::again::Again;
use crate::federation::outbound::settle;
use crate::federation::peers::PeerView;
use crate::node::Node;
use crate::store::StoreError;
use crate::store::outbox::{self, WaitingRow};

/// A queue is looked through for what has expired, whatever else goes on, this long after the last
/// time,
pub(super) const EXPIRY_INTERVAL: Duration = Duration::from_secs(5);
/// a page at a time, with this pause in between.
const EXPIRY_PAUSE: Duration = Duration::from_millis(200);
/// Rows in a page.
const EXPIRY_ROWS: usize = 2048;
/// What waited in the backup that this homeserver was restored from may have arrived: it is kept for so long beyond its time for
/// the peer to say so. One that is away for longer keeps nothing alive.
const GRACE_AFTER_RESTORE_MS: u64 = 7 * 24 * 60 * 60 * 1000;

impl Worker {
    /// Gives up rows that have expired, a page of the queue at a time, and says when to look on.
    pub(in crate::federation::outbound) async fn expire(&mut self) -> Result<(), StoreError> {
        // Should the store fail now, it is tried again then.
        self.next_expiry = Some(Instant::now() + EXPIRY_INTERVAL);
        self.look_for_restore().await?;
        let now_ms = self.node.clock.now_ms();
        let rows = outbox::rows_after(
            &self.node.store,
            &self.server,
            self.expiry_cursor,
            EXPIRY_ROWS,
        )
        .await?;
        let looked_through = self.expiry_cursor.take();
        self.expiry_cursor = rows.last().map(|last| (last.lane, last.number));
        self.next_expiry = match (self.expiry_cursor, looked_through) {
            (Some(_), _) => Some(Instant::now() + EXPIRY_PAUSE),
            (None, Some(_)) => Some(Instant::now() + EXPIRY_INTERVAL),
            // Nothing waits.
            (None, None) => None,
        };
        let expired: Vec<_> = rows
            .into_iter()
            .filter(|waits| has_expired(waits, now_ms, &self.reconciling))
            // What is under way is answered first: perhaps it has arrived.
            .filter(|waits| !self.queue.is_in_flight(waits.lane, waits.number))
            .map(|waits| (waits, expired()))
            .collect();
        if expired.is_empty() {
            return Ok(());
        }
        let buried = settle::bury(&self.node, &self.server, &expired).await?;
        let in_step = buried.is_some_and(|mut buried| {
            if self.reconciling.lanes().is_some() {
                // Of others nothing is read before everything is numbered anew.
                let reconciling = &self.reconciling;
                buried.retain(|waits| reconciling.may_have_arrived(waits.lane, waits.number));
            }
            self.queue.buried(buried).is_ok()
        });
        if !in_step {
            self.read_afresh(self.queue.link_epoch());
        }
        Ok(())
    }
}

/// The rows that must not be sent any more, and why: expired, or no longer granted. After a restore the peer says of what
/// waited in the backup whether it came in time.
pub(super) async fn ended_rows(
    node: &Node,
    peer: &PeerView,
    rows: &[WaitingRow],
    (now_ms, reconciling): (u64, &Reconciling),
) -> Result<Vec<(WaitingRow, Refusal)>, StoreError> {
    let mut again = Again::open(node, peer, now_ms).await?;
    let mut ended = Vec::new();
    for waits in rows {
        let refusal = if has_expired(waits, now_ms, reconciling) {
            Some(expired())
        } else {
            let may_have_arrived = reconciling.may_have_arrived(waits.lane, waits.number);
            let refusal = again.judge(&waits.row).await?.err();
            refusal.filter(|refusal| !may_have_arrived || refusal.code != RefusalCode::Expired)
        };
        ended.extend(refusal.map(|refusal| (waits.clone(), refusal)));
    }
    Ok(ended)
}

fn has_expired(waits: &WaitingRow, now_ms: u64, reconciling: &Reconciling) -> bool {
    let grace_ms = match reconciling.may_have_arrived(waits.lane, waits.number) {
        true => GRACE_AFTER_RESTORE_MS,
        false => 0,
    };
    let until_ms = waits.row.expires_ms.saturating_add(grace_ms);
    waits.row.expires_ms != 0 && until_ms <= now_ms
}

fn expired() -> Refusal {
    Refusal::new(
        RefusalCode::Expired,
        "its time-to-live ran out before the other server could be reached",
    )
}
