//! What becomes of rooms when an agreement has ended: the former partner's people go out of those that are ordered here,
//! and our own out of those that the partner orders.
//!
//! Nobody else is touched: in a room that a third organisation orders both stay, and what they write does not reach the
//! other. Everything follows from the agreements as they stand, so it may be done again at any time: after each of their
//! changes, and after a start.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use federation_proto::ids::{RoomId, ServerName};
use homeserver_api::admin::PeerState;

use super::batch::{Batch, Happened, NotTaken, settle};
use super::inbox;
use super::limits::{CONFLICT_ATTEMPTS_MAX, DEPARTURE_ROOMS_PAGE, DEPARTURES_AGAIN_MS};
use crate::audit::Actor;
use crate::node::{Hint, Node};
use crate::rooms::leaving;
use crate::store::inbox::InboxBody;
use crate::store::room::RoomRecord;
use crate::store::{PartOutcome, StoreError, room};

/// Ends what has to end, until the store stops. Spawn it once for each node.
pub async fn run(node: Arc<Node>) {
    let mut hints = node.hints();
    loop {
        let all = match end_all(&node).await {
            Ok(all) => all,
            Err(StoreError::Stopped) => return,
            Err(error) => {
                tracing::error!(%error, "rooms with former partners can't be ended; trying again");
                false
            }
        };
        // Nothing to do before an agreement changes, unless something could not be done.
        let again = async {
            match all {
                true => std::future::pending().await,
                false => tokio::time::sleep(Duration::from_millis(DEPARTURES_AGAIN_MS)).await,
            }
        };
        tokio::pin!(again);
        loop {
            use tokio::sync::broadcast::error::RecvError;
            tokio::select! {
                () = &mut again => break,
                hint = hints.recv() => match hint {
                    Ok(Hint::PeersChanged) | Err(RecvError::Lagged(_)) => break,
                    Ok(_) => {}
                    Err(RecvError::Closed) => return,
                },
            }
        }
    }
}

/// Goes through all rooms; whether all was done that has to be.
pub(crate) async fn end_all(node: &Node) -> Result<bool, StoreError> {
    let ended: BTreeSet<ServerName> = node
        .peers
        .all()
        .iter()
        .filter(|peer| matches!(peer.agreed, Some(PeerState::Revoked | PeerState::Expired)))
        .map(|peer| peer.server.clone())
        .collect();
    if ended.is_empty() {
        return Ok(true);
    }
    let (mut after, mut all) = (None, true);
    loop {
        let page = room::page(&node.store, after, DEPARTURE_ROOMS_PAGE).await?;
        let Some((last, _)) = page.last() else {
            return Ok(all);
        };
        after = Some(*last);
        for (id, record) in page {
            for server in ended
                .iter()
                .filter(|server| concerns(node, &record, server))
            {
                all &= end(node, id, server).await?;
            }
        }
        tokio::task::yield_now().await;
    }
}

/// Whether a room has to change because the agreement with this one has ended.
fn concerns(node: &Node, room: &RoomRecord, server: &ServerName) -> bool {
    let stays = |member| !room.is_going(member);
    room.hub == *server || (room.hub == node.server && room.members_of(server).any(stays))
}

/// Ends what there is between one room and a former partner; whether it could be.
async fn end(node: &Node, id: RoomId, server: &ServerName) -> Result<bool, StoreError> {
    for _ in 0..CONFLICT_ATTEMPTS_MAX {
        let mut batch = Batch::open(node).await?;
        let done = end_in(&mut batch, id, server).await;
        if let Err(refusal) = settle(done)? {
            tracing::warn!(room = %id, %server, %refusal, "a former partner is still in a room; trying again");
            return Ok(false);
        }
        if batch.commit().await? == PartOutcome::Committed {
            return Ok(true);
        }
        node.peers.refresh(node).await?;
    }
    Ok(false)
}

async fn end_in(batch: &mut Batch<'_>, id: RoomId, server: &ServerName) -> Result<(), NotTaken> {
    // As it is by now: an agreement may be in force again.
    let stands = batch.peer(server).and_then(|peer| peer.agreed);
    let Some(room) = batch.room(id).await? else {
        return Ok(());
    };
    let ended = matches!(stands, Some(PeerState::Revoked | PeerState::Expired));
    if !ended || !concerns(batch.node, &room, server) {
        return Ok(());
    }
    if room.hub == batch.node.server {
        return leaving::order_all(batch, id, server).await;
    }
    for device in room.devices_of(&batch.node.server, None) {
        let body = InboxBody::RoomClosed {
            room: id,
            server: server.clone(),
        };
        inbox::append(batch, device, body).await?;
    }
    let detail = format!("the agreement with {server}, which orders it, has ended");
    batch.audit(Actor::System, "room.closed", id, detail);
    batch.note_own((id, server), &room.members, Happened::Ended);
    batch.set_room(id, None);
    Ok(())
}
