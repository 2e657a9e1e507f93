//! `GET /federation/v1/rooms/{room}/manifests/{server}`

use std::sync::Arc;

use axum::Extension;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use bytes::Bytes;
use federation_proto::ids::{RoomId, ServerName};
use federation_proto::refusal::{Refusal, RefusalCode};

use super::error::FederationError;
use super::gate::Gates;
use crate::federation::peers::{Direction, Operation, told_to_peer};
use crate::node::Node;
use crate::store::room;
use crate::tls::Peer;

/// `GET /federation/v1/rooms/{room}/manifests/{server}`: the newest key manifest known here of a server in a
/// room that this homeserver hubs, for the other servers in it: they may not reach that one just now, and
/// can check for themselves who has signed it. The agreement must be in force and grant messages.
pub(super) async fn handle(
    State(node): State<Arc<Node>>,
    Extension(Peer(peer)): Extension<Peer>,
    Extension(gates): Extension<Arc<Gates>>,
    path: Result<Path<(String, String)>, PathRejection>,
) -> Result<Bytes, FederationError> {
    let now_ms = node.clock.now_ms();
    gates
        .ask(&peer, now_ms)
        .map_err(|wait_s| FederationError::too_fast(wait_s, "more requests in a second"))?;
    node.peers
        .judge(&peer, Direction::Outbound, Operation::Message, None, now_ms)
        .map_err(|refusal| told_to_peer(refusal, &node.server))?;
    let (id, server): (RoomId, ServerName) = path
        .ok()
        .and_then(|Path((room, server))| Some((room.parse().ok()?, server.parse().ok()?)))
        .ok_or_else(|| {
            FederationError::Malformed("the path names no room and server".to_owned())
        })?;
    let room = room::get(&node.store, id).await?;
    let together = room.is_some_and(|(room, _)| {
        let has = |server| room.members_of(server).next().is_some();
        room.hub == node.server && has(&peer) && has(&server)
    });
    let view = node.peers.get(&server).filter(|_| together);
    let manifest = view.and_then(|view| view.manifest.clone());
    // One answer, whether there is no such room, or its members are others.
    manifest
        .map(|manifest| manifest.bytes().clone())
        .ok_or_else(|| {
            FederationError::Gone(Refusal::new(
                RefusalCode::UnknownRoom,
                "there is no room of this hub with both of you in it",
            ))
        })
}
