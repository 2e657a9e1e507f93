//! The roots that device certificates chain to.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use federation_proto::manifest::FormerRoot;
use homeserver_api::admin::PeerState;
use homeserver_api::client::{Anchor, Anchors, FormerAnchor};

use crate::node::Node;

/// `GET /v1/anchors`
pub(super) async fn list(State(node): State<Arc<Node>>) -> Json<Anchors> {
    let own = Anchor {
        server: node.server.clone(),
        root: node.keys.root().to_vec().into(),
        former: former(node.keys.former_roots()),
        handover: node.keys.handover().map(|der| der.to_vec().into()),
    };
    let peers = node.peers.all();
    let trusted = peers
        .iter()
        .filter(|peer| matches!(peer.state, PeerState::Active | PeerState::Suspended))
        .map(|peer| Anchor {
            server: peer.server.clone(),
            root: peer.root.clone().into(),
            former: former(peer.former_roots()),
            handover: None,
        });
    Json(Anchors {
        anchors: std::iter::once(own).chain(trusted).collect(),
    })
}

fn former(roots: Vec<FormerRoot>) -> Vec<FormerAnchor> {
    let anchor = |former: FormerRoot| FormerAnchor {
        root: former.root.to_vec().into(),
        until_ms: former.until_ms,
    };
    roots.into_iter().map(anchor).collect()
}
