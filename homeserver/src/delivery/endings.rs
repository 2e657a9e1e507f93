//! What becomes of rooms when an agreement has ended: the former partner's people go out of those that are ordered here,
//! and our own out of those that the partner orders. In a room that a third organisation orders the people of the side
//! that has ended the agreement go: a server asks for its own people alone, and nobody may have others put out.
//!
//! Nobody else is touched. When an agreement has run out, both stay in a third one's room, and what they write does not
//! reach the other. Everything follows from the agreements as they stand, so it may be done again at any time: after
//! each of their changes, and after a start.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use federation_proto::ids::{AccountId, RoomId, ServerName};
use homeserver_api::admin::PeerState;

use super::batch::{Batch, Happened, NotTaken, settle};
use super::inbox;
use super::limits::{CONFLICT_ATTEMPTS_MAX, DEPARTURE_ROOMS_PAGE, DEPARTURES_AGAIN_MS};
use crate::audit::Actor;
use crate::federation::peers::PeerView;
use crate::node::{Hint, Node};
use crate::rooms::leaving::{self, Leaver};
use crate::store::inbox::InboxBody;
use crate::store::lease::Duty;
use crate::store::room::RoomRecord;
use crate::store::{PartOutcome, StoreError, room};

/// Whom hubs were asked to remove and have not yet: once is enough, however long a hub is away. Lost with the process:
/// to be asked again for somebody who has gone changes nothing.
pub(crate) type Asked = BTreeSet<(RoomId, AccountId)>;

/// Ends what has to end, until the store stops. Spawn it once for each node.
pub async fn run(node: Arc<Node>) {
    let (mut hints, mut asked) = (node.hints(), Asked::new());
    loop {
        node.cluster.until_held(&Duty::Tasks).await;
        let all = match end_all(&node, &mut asked).await {
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
pub(crate) async fn end_all(node: &Node, asked: &mut Asked) -> Result<bool, StoreError> {
    let mut ended = node.peers.all();
    ended.retain(|peer| has_ended(peer));
    if ended.is_empty() {
        asked.clear();
        return Ok(true);
    }
    let (mut after, mut all) = (None, true);
    let mut still_asked = Asked::new();
    loop {
        let page = room::page(&node.store, after, DEPARTURE_ROOMS_PAGE).await?;
        let Some((last, _)) = page.last() else {
            *asked = still_asked;
            return Ok(all);
        };
        after = Some(*last);
        for (id, record) in page {
            for peer in &ended {
                if closes(node, &record, peer) {
                    all &= end(node, id, &peer.server).await?;
                } else if is_left(node, &record, peer) {
                    for account in accounts_here(node, &record) {
                        let who = (id, account);
                        let done =
                            asked.contains(&who) || leave(node, id, account, &peer.server).await?;
                        if done {
                            asked.insert(who);
                            still_asked.insert(who);
                        }
                        all &= done;
                    }
                }
            }
        }
        tokio::task::yield_now().await;
    }
}

fn has_ended(peer: &PeerView) -> bool {
    matches!(peer.agreed, Some(PeerState::Revoked | PeerState::Expired))
}

/// Whether a room that one of the two orders has to change because their agreement has ended.
fn closes(node: &Node, room: &RoomRecord, peer: &PeerView) -> bool {
    room.hub == peer.server || (room.hub == node.server && has_people(room, &peer.server))
}

/// Whether our people leave a room that a third one orders: this side has ended the agreement with somebody who is there.
fn is_left(node: &Node, room: &RoomRecord, peer: &PeerView) -> bool {
    let by_us = peer.parted.as_ref().is_some_and(|parted| parted.by_us);
    let is_thirds = room.hub != node.server && room.hub != peer.server;
    by_us && is_thirds && has_people(room, &peer.server)
}

/// Whether anybody of this one is in the room and not on his way out.
fn has_people(room: &RoomRecord, server: &ServerName) -> bool {
    room.members_of(server).any(|member| !room.is_going(member))
}

/// Our accounts in a room that are not on their way out.
fn accounts_here(node: &Node, room: &RoomRecord) -> BTreeSet<AccountId> {
    let own = room.members_of(&node.server);
    own.filter(|member| !room.is_going(member))
        .map(|member| member.account)
        .collect()
}

/// Has one of our people leave a room in which those of a former partner are; whether that could be.
async fn leave(
    node: &Node,
    id: RoomId,
    account: AccountId,
    from: &ServerName,
) -> Result<bool, StoreError> {
    for _ in 0..CONFLICT_ATTEMPTS_MAX {
        let mut batch = Batch::open(node).await?;
        let done = leave_in(&mut batch, id, account, from).await;
        if let Err(refusal) = settle(done)? {
            tracing::warn!(room = %id, server = %from, %refusal, "a room with a former partner is not left yet; trying again");
            return Ok(false);
        }
        if batch.commit().await? == PartOutcome::Committed {
            return Ok(true);
        }
        node.peers.refresh(node).await?;
    }
    Ok(false)
}

async fn leave_in(
    batch: &mut Batch<'_>,
    id: RoomId,
    account: AccountId,
    from: &ServerName,
) -> Result<(), NotTaken> {
    let leaver = Leaver {
        server: &batch.node.server,
        account,
        device: None,
    };
    // As both are by now: an agreement may be in force again.
    let stands = batch.peer(from);
    let (Some(room), Some(peer)) = (batch.room(id).await?, stands) else {
        return Ok(());
    };
    if !has_ended(&peer) || !is_left(batch.node, &room, &peer) || !leaver.is_in(&room) {
        return Ok(());
    }
    leaving::ask(batch, id, &leaver, None).await?;
    // It is over for him from now on, however long the hub takes.
    let own = room.members_of(&batch.node.server);
    let devices: Vec<_> = own
        .filter(|member| leaver.is(member))
        .map(|member| member.device)
        .collect();
    for device in devices {
        let body = InboxBody::RoomClosed {
            room: id,
            server: from.clone(),
        };
        inbox::append(batch, device, body).await?;
    }
    let detail = format!(
        "account {account}: the agreement with {from}, whose people are in it, was ended here"
    );
    batch.audit(Actor::System, "room.left", id, detail);
    Ok(())
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
    let stands = batch.peer(server);
    let (Some(room), Some(peer)) = (batch.room(id).await?, stands) else {
        return Ok(());
    };
    if !has_ended(&peer) || !closes(batch.node, &room, &peer) {
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
