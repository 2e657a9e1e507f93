//! The roots that device certificates chain to.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use homeserver_api::admin::PeerState;
use homeserver_api::client::{Anchor, Anchors};

use crate::node::Node;

/// `GET /v1/anchors`
pub(super) async fn list(State(node): State<Arc<Node>>) -> Json<Anchors> {
    let own = Anchor {
        server: node.server.clone(),
        root: node.keys.root().to_vec().into(),
    };
    let peers = node.peers.all();
    let trusted = peers
        .iter()
        .filter(|peer| matches!(peer.state, PeerState::Active | PeerState::Suspended))
        .map(|peer| Anchor {
            server: peer.server.clone(),
            root: peer.root.clone().into(),
        });
    Json(Anchors {
        anchors: std::iter::once(own).chain(trusted).collect(),
    })
}
