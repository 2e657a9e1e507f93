//! The roots that device certificates chain to.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use federation_proto::codec::Wire as _;
use federation_proto::device_log::SignedHead;
use federation_proto::manifest::FormerRoot;
use homeserver_api::Base64;
use homeserver_api::admin::PeerState;
use homeserver_api::client::{Anchor, Anchors, FormerAnchor};

use super::error::ApiError;
use crate::identity::device_log::Reader;
use crate::node::Node;
use crate::store::log_heads;

/// How long after an agreement's end devices are told its partner's roots: its people may be in rooms that a third
/// organisation orders. Longer than a certificate lives and its leaf is left in a room (44 days), so that whoever was
/// there then has gone or has shown a certificate that nobody here has to judge.
const ENDED_NAMED_MS: u64 = 90 * 24 * 60 * 60 * 1000;

/// `GET /v1/anchors`
pub(super) async fn list(State(node): State<Arc<Node>>) -> Result<Json<Anchors>, ApiError> {
    let now_ms = node.clock.now_ms();
    let (own_head, _) = node.device_log.head(&node, Reader::Own, 0).await?;
    let mut anchors = vec![Anchor {
        server: node.server.clone(),
        root: node.keys.root().to_vec().into(),
        former: former(node.keys.former_roots()),
        handover: node.keys.handover().map(|der| der.to_vec().into()),
        log_head: encoded(&own_head),
    }];
    let mut ended = Vec::new();
    for peer in node.peers.all() {
        if matches!(peer.state, PeerState::Active | PeerState::Suspended) {
            let known = log_heads::known(&node.store, &peer.server).await?;
            anchors.push(Anchor {
                server: peer.server.clone(),
                root: peer.root.clone().into(),
                former: former(peer.former_roots()),
                handover: None,
                log_head: known.and_then(|(known, _)| encoded(known.newest())),
            });
        } else if let Some(parted) = &peer.parted
            && now_ms < parted.at_ms.saturating_add(ENDED_NAMED_MS)
        {
            ended.push(Anchor {
                server: peer.server.clone(),
                root: parted.root.clone().into(),
                former: former(parted.former_roots.clone()),
                handover: None,
                log_head: None,
            });
        }
    }
    Ok(Json(Anchors { anchors, ended }))
}

fn encoded(head: &SignedHead) -> Option<Base64> {
    head.to_bytes().ok().map(|bytes| bytes.to_vec().into())
}

fn former(roots: Vec<FormerRoot>) -> Vec<FormerAnchor> {
    let anchor = |former: FormerRoot| FormerAnchor {
        root: former.root.to_vec().into(),
        until_ms: former.until_ms,
    };
    roots.into_iter().map(anchor).collect()
}
