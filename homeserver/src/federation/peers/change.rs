//! The one way in which a peer's record changes: read, decide, write with the next serial and the
//! audit of the act, and decide anew when somebody else was faster.

use std::sync::Arc;

use federation_proto::envelope::Lane;
use federation_proto::ids::ServerName;

use super::ceremony::is_in_force;
use super::error::PeeringError;
use super::view::Restored;
use crate::audit::{self, Actor, Event, PeerEvent};
use crate::cluster::Fence;
use crate::node::{Hint, Node, to_its_end};
use crate::store::expiry::{self, Place};
use crate::store::peer::{self, PeerRecord};
use crate::store::{Part, PartOutcome, StoreError};

/// How often a change is tried before whoever asked is told to try again.
pub(super) const ATTEMPTS_MAX: usize = 8;

/// What a decision comes to.
pub(super) struct Change<T> {
    /// The record from now on.
    pub(super) record: PeerRecord,
    /// For the audit log.
    pub(super) action: &'static str,
    /// For the audit log.
    pub(super) detail: String,
    /// For whoever asked.
    pub(super) answer: T,
}

/// What a decision is made on: the record as stored (`None`: nothing is known of the peer).
pub(super) struct Found {
    pub(super) record: PeerRecord,
    pub(super) restored: Option<Restored>,
}

/// Changes the record of `server` as `decide` says; `Ok(Err(answer))` of it changes nothing.
pub(super) async fn change<T>(
    node: &Arc<Node>,
    actor: &Actor,
    server: &ServerName,
    decide: impl FnMut(Found) -> Result<Result<Change<T>, T>, PeeringError>,
) -> Result<T, PeeringError> {
    change_under(node, actor, (server, None), decide).await
}

/// As [`change`], while the fence holds, if there is one.
pub(super) async fn change_under<T>(
    node: &Arc<Node>,
    actor: &Actor,
    (server, fence): (&ServerName, Option<&Fence>),
    mut decide: impl FnMut(Found) -> Result<Result<Change<T>, T>, PeeringError>,
) -> Result<T, PeeringError> {
    for _ in 0..ATTEMPTS_MAX {
        let (record, read) = peer::get(&node.store, server).await?.unzip();
        let restored = record.as_ref().map(Restored::of).transpose()?;
        let was_in_force = record.as_ref().is_some_and(is_in_force);
        let found = Found {
            record: record.unwrap_or_default(),
            restored,
        };
        let change = match decide(found)? {
            Ok(change) => change,
            Err(answer) => return Ok(answer),
        };
        let mut part = Part::default();
        if let Some(fence) = fence {
            fence.require(&mut part);
        }
        if was_in_force && !is_in_force(&change.record) {
            let remembered = Place::Remembered(server.clone(), Lane::CONTROL);
            expiry::put(&mut part, node.clock.now_ms(), remembered);
        }
        peer::put(&mut part, server, change.record, read)?;
        let event = Event {
            at_ms: node.clock.now_ms(),
            actor: actor.clone(),
            action: change.action,
            subject: server.to_string(),
            detail: change.detail,
        };
        // What a peer does by itself it can do as often as it likes.
        let noted = match actor {
            Actor::Peer(peer) => {
                let (peer, code) = (peer.clone(), None);
                let event = PeerEvent { peer, code, event };
                Some(node.from_peers.record(&mut part, event))
            }
            _ => {
                audit::record(&mut part, &event);
                None
            }
        };
        let act = commit(Arc::clone(node), server.clone(), part);
        if to_its_end(act).await? == PartOutcome::Committed {
            return Ok(change.answer);
        }
        node.from_peers.take_back(noted.into_iter().collect());
    }
    Err(PeeringError::Busy)
}

/// Writes the change, and lets everything in this process go by it from then on.
async fn commit(
    node: Arc<Node>,
    server: ServerName,
    part: Part,
) -> Result<PartOutcome, StoreError> {
    let outcome = node.store.commit(part).await?;
    if outcome == PartOutcome::Committed {
        let refreshed = node.peers.refresh(&node).await;
        node.hint(Hint::PeersChanged);
        node.links.retry_now(&server);
        refreshed?;
    }
    Ok(outcome)
}
