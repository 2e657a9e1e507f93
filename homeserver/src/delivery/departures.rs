//! Accounts and devices that are gone leave every room that they are in.
//!
//! Whoever takes one away writes that down in the same part ([`crate::store::departure`]); here the hub of each room is asked, in
//! parts of their own: a user with a thousand rooms holds up nobody. What could not be asked is tried again, after a
//! restart too.

use std::sync::Arc;
use std::time::Duration;

use federation_proto::ids::RoomId;

use super::batch::{Batch, settle};
use super::evidence;
use super::limits::{
    CONFLICT_ATTEMPTS_MAX, DEPARTURE_ROOMS_PAGE, DEPARTURES_AGAIN_MS, DEPARTURES_PAGE,
};
use crate::node::{Hint, Node};
use crate::rooms::leaving::{self, Leaver};
use crate::store::departure::{self, Departure};
use crate::store::lease::Duty;
use crate::store::{Part, PartOutcome, StoreError, room};

/// Asks until the store stops. Spawn it once for each node.
pub async fn run(node: Arc<Node>) {
    let mut hints = node.hints();
    loop {
        node.cluster.until_held(&Duty::Tasks).await;
        match ask_all(&node).await {
            Ok(()) => {}
            Err(StoreError::Stopped) => return,
            Err(error) => tracing::error!(%error, "rooms can't be left; trying again"),
        }
        let again = tokio::time::sleep(Duration::from_millis(DEPARTURES_AGAIN_MS));
        tokio::pin!(again);
        loop {
            tokio::select! {
                () = &mut again => break,
                hint = hints.recv() => match hint {
                    Ok(Hint::Departed) | Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => {
                        // One look for all of them.
                        while hints.try_recv().is_ok() {}
                        break;
                    }
                    Ok(_) => {}
                    Err(tokio::sync::broadcast::error::RecvError::Closed) => return,
                },
            }
        }
    }
}

/// Asks for everybody who is to leave, and sees to the evidence of it.
pub(crate) async fn ask_all(node: &Node) -> Result<(), StoreError> {
    // Before anybody leaves a room: evidence says who was in it.
    evidence::list_rooms(node).await?;
    for departure in departure::waiting(&node.store, DEPARTURES_PAGE).await? {
        if ask_everywhere(node, departure).await? {
            let mut part = Part::default();
            departure::delete(&mut part, departure);
            node.store.commit(part).await?;
        }
    }
    evidence::finish(node).await
}

/// Asks the hub of each room; whether all were asked.
async fn ask_everywhere(node: &Node, departure: Departure) -> Result<bool, StoreError> {
    let leaver = Leaver {
        server: &node.server,
        account: departure.account,
        device: departure.device,
    };
    let (mut after, mut all) = (None, true);
    loop {
        let page = room::page(&node.store, after, DEPARTURE_ROOMS_PAGE).await?;
        let Some((last, _)) = page.last() else {
            return Ok(all);
        };
        after = Some(*last);
        for (id, record) in page {
            if leaver.is_in(&record) {
                all &= ask(node, id, &leaver).await?;
            }
        }
        tokio::task::yield_now().await;
    }
}

/// Asks the hub of one room; whether it was.
async fn ask(node: &Node, id: RoomId, leaver: &Leaver<'_>) -> Result<bool, StoreError> {
    for _ in 0..CONFLICT_ATTEMPTS_MAX {
        let mut batch = Batch::open(node).await?;
        let asked = leaving::ask(&mut batch, id, leaver, None).await;
        if let Err(refusal) = settle(asked)? {
            tracing::warn!(room = %id, %refusal, "a room can't be left yet; trying again");
            return Ok(false);
        }
        if batch.commit().await? == PartOutcome::Committed {
            return Ok(true);
        }
        node.peers.refresh(node).await?;
    }
    Ok(false)
}
