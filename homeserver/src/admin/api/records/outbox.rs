//! `GET /admin/v1/outbox`

use std::sync::Arc;

use axum::extract::State;
use homeserver_api::admin::{Outbox, OutboxState};

use super::super::error::AdminError;
use crate::delivery::outbox;
use crate::node::Node;

/// `GET /admin/v1/outbox`: what waits for each peer, and how its last delivery went.
pub(in super::super) async fn handle(
    State(node): State<Arc<Node>>,
) -> Result<axum::Json<Outbox>, AdminError> {
    let mut destinations = Vec::new();
    for peer in node.peers.all() {
        let waiting = outbox::waiting(&node.store, &peer.server).await?;
        let link = node.links.status(&peer.server);
        destinations.push(OutboxState {
            server: peer.server.clone(),
            waiting: waiting.envelopes,
            waiting_bytes: waiting.bytes,
            oldest_ms: waiting.oldest_ms,
            last_error: link.last_error,
            next_attempt_ms: link.next_attempt_ms,
            held_lanes: link.held_lanes,
            acknowledged: link.acknowledged,
        });
    }
    Ok(axum::Json(Outbox { destinations }))
}
