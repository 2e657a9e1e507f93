//! What an answer changes in the outbox: acknowledged rows go, refused ones are given up, in one
//! part. All of it is written under the lease of the node that sends to the peer.

use std::collections::HashMap;

use bytes::Bytes;
use federation_proto::codec::Wire;
use federation_proto::envelope::{Kind, Lane};
use federation_proto::hash::Digest;
use federation_proto::ids::ServerName;
use federation_proto::link::Settled;
use federation_proto::payload::Tombstone;
use federation_proto::refusal::{Refusal, RefusalCode};

use crate::cluster::Fence;
use crate::delivery::batch::Batch;
use crate::delivery::dead_letters::{self, Why};
use crate::delivery::evidence;
use crate::delivery::limits::CONFLICT_ATTEMPTS_MAX;
use crate::federation::peers::PeerView;
use crate::node::Node;
use crate::store::exchange::{self, Direction, ExchangeRecord};
use crate::store::lane_base;
use crate::store::outbox::{self, OutboxRow, WaitingRow};
use crate::store::reconcile;
use crate::store::recount;
use crate::store::{Part, PartOutcome, StoreError};

/// Takes out of the outbox what the peer's answer settled, and keeps what proves it. `false`: somebody
/// else did meanwhile.
pub(super) async fn settle(
    node: &Node,
    peer: &PeerView,
    settled: &Settled,
    rows: Vec<WaitingRow>,
    (root, proof): (&Digest, ExchangeRecord),
    fence: &Fence,
) -> Result<bool, StoreError> {
    #[cfg(feature = "faults")]
    crate::faults::answered();
    let destination = &peer.server;
    let asks = rows
        .iter()
        .any(|waits| waits.row.kind == Kind::RemovalRequest);
    let by_place: HashMap<(Lane, u64), WaitingRow> = rows
        .into_iter()
        .map(|waits| ((waits.lane, waits.number), waits))
        .collect();
    if settled.refused.is_empty() && !asks {
        let mut part = Part::default();
        fence.require(&mut part);
        // The lanes of another agreement have the same numbers again.
        part.require(peer.unchanged());
        for item in &settled.done {
            if let Some(waits) = by_place.get(&(item.lane, item.item.sequence)) {
                outbox::count_out(&mut part, destination, waits);
            }
            outbox::delete(&mut part, destination, item.lane, item.item.sequence);
        }
        exchange::put(&mut part, Direction::Outbound, destination, root, &proof)?;
        let is_settled = node.store.commit(part).await? == PartOutcome::Committed;
        if !is_settled {
            // Perhaps another node has changed the agreement.
            node.peers.refresh(node).await?;
        }
        return Ok(is_settled);
    }
    for _ in 0..CONFLICT_ATTEMPTS_MAX {
        let mut batch = Batch::open(node).await?;
        fence.require(&mut batch.part);
        batch.part.require(peer.unchanged());
        let part = &mut batch.part;
        exchange::put(part, Direction::Outbound, destination, root, &proof)?;
        for item in &settled.done {
            let waits = by_place.get(&(item.lane, item.item.sequence));
            if let Some(waits) = waits {
                outbox::count_out(&mut batch.part, destination, waits);
            }
            outbox::delete(&mut batch.part, destination, item.lane, item.item.sequence);
            if let Some(waits) = waits {
                evidence::accepted(&mut batch, &waits.row).await?;
            }
        }
        for (item, refusal) in &settled.refused {
            let Some(waits) = by_place.get(&(item.lane, item.item.sequence)) else {
                continue;
            };
            outbox::require(&mut batch.part, destination, waits.lane, waits.number);
            outbox::count_out(&mut batch.part, destination, waits);
            outbox::delete(&mut batch.part, destination, waits.lane, waits.number);
            let why = Why::Theirs(refusal);
            dead_letters::give_up(&mut batch, destination, waits.lane, &waits.row, why).await?;
        }
        if batch.commit().await? == PartOutcome::Committed {
            return Ok(true);
        }
        // Perhaps an agreement with somebody who is told is no longer what the directory says.
        node.peers.refresh(node).await?;
    }
    Ok(false)
}

/// Gives up rows that never will be sent, each for its own reason, and puts tombstones in their
/// places: the rows as they are then. `None`: somebody else changed them meanwhile.
pub(super) async fn bury(
    node: &Node,
    destination: &ServerName,
    rows: &[(WaitingRow, Refusal)],
    fence: &Fence,
) -> Result<Option<Vec<WaitingRow>>, StoreError> {
    for _ in 0..CONFLICT_ATTEMPTS_MAX {
        let mut batch = Batch::open(node).await?;
        fence.require(&mut batch.part);
        let mut buried = Vec::with_capacity(rows.len());
        for (waits, refusal) in rows {
            let row = tombstone(waits.row.created_ms, refusal);
            outbox::count_out(&mut batch.part, destination, waits);
            outbox::replace(&mut batch.part, destination, waits.lane, waits.number, &row)?;
            let why = Why::Ours(refusal);
            dead_letters::give_up(&mut batch, destination, waits.lane, &waits.row, why).await?;
            buried.push(WaitingRow {
                lane: waits.lane,
                number: waits.number,
                row,
            });
        }
        if batch.commit().await? == PartOutcome::Committed {
            return Ok(Some(buried));
        }
        node.peers.refresh(node).await?;
    }
    Ok(None)
}

/// Gives up rows that do not decode: nothing is known of them but their places.
pub(super) async fn bury_undecodable(
    node: &Node,
    destination: &ServerName,
    fence: &Fence,
) -> Result<(), StoreError> {
    let refusal = Refusal::new(
        RefusalCode::Malformed,
        "the stored message is damaged: run `homeserver store check`",
    );
    let undecodable = outbox::undecodable(&node.store, destination).await?;
    let is_any = !undecodable.is_empty();
    for (lane, number) in undecodable {
        tracing::error!(server = %destination, %lane, number, "a stored message is damaged");
        for _ in 0..CONFLICT_ATTEMPTS_MAX {
            let mut batch = Batch::open(node).await?;
            fence.require(&mut batch.part);
            let row = tombstone(batch.now_ms, &refusal);
            outbox::replace(&mut batch.part, destination, lane, number, &row)?;
            dead_letters::note(&mut batch, destination, lane.room(), None, &refusal)?;
            if batch.commit().await? == PartOutcome::Committed {
                break;
            }
        }
    }
    if is_any {
        // Whoever had sent them: they must not count against that account for ever.
        recount::mend_accounts(&node.store).await?;
    }
    Ok(())
}

/// Gives up everything that waits for a peer whose agreement has ended, a page at a time, and forgets
/// the lanes, and what a restore has left to find out of them: a new agreement numbers them anew. All of it is held to the
/// agreement's being what `peer` says: what waits under another one is not touched. `false`: it is not, or somebody else does
/// the same; look again before trying again.
pub(in crate::federation) async fn clear(
    node: &Node,
    peer: &PeerView,
    refusal: &Refusal,
    fence: Option<&Fence>,
) -> Result<bool, StoreError> {
    const PAGE_ROWS: usize = 256;
    let destination = &peer.server;
    loop {
        let rows = outbox::rows_after(&node.store, destination, None, PAGE_ROWS).await?;
        let tails = outbox::tails(&node.store, destination, PAGE_ROWS).await?;
        let mut batch = Batch::open(node).await?;
        let part = &mut batch.part;
        part.require(peer.unchanged());
        if let Some(fence) = fence {
            fence.require(part);
        }
        let bases = lane_base::delete_some(&node.store, part, destination, PAGE_ROWS).await?;
        let (store, limit) = (&node.store, PAGE_ROWS);
        let reconciled = reconcile::delete_some(store, part, destination, limit).await?;
        if rows.is_empty() && tails.is_empty() && bases == 0 && reconciled == 0 {
            return Ok(true);
        }
        for waits in &rows {
            outbox::require(&mut batch.part, destination, waits.lane, waits.number);
            outbox::count_out(&mut batch.part, destination, waits);
            outbox::delete(&mut batch.part, destination, waits.lane, waits.number);
            let why = Why::Ours(refusal);
            dead_letters::give_up(&mut batch, destination, waits.lane, &waits.row, why).await?;
        }
        if rows.is_empty() {
            for tail in &tails {
                outbox::delete_tail(&mut batch.part, destination, tail);
            }
        }
        if batch.commit().await? == PartOutcome::Conflict {
            node.peers.refresh(node).await?;
            return Ok(false);
        }
        tokio::task::yield_now().await;
    }
}

/// What takes the place of a row that is given up: same place, no payload, nobody to tell.
fn tombstone(created_ms: u64, refusal: &Refusal) -> OutboxRow {
    let payload = Tombstone {
        count: 1,
        code: refusal.code,
    };
    OutboxRow {
        kind: Kind::Tombstone,
        // One position and a known code always encode.
        payload: payload.to_bytes().unwrap_or_else(|_| Bytes::new()),
        created_ms,
        expires_ms: 0,
        sender: None,
        origin: None,
    }
}
