//! Peers that the handshake refused: in the log each time, in the audit log within bounds.

use std::net::SocketAddr;

use crate::audit::{Actor, Event};
use crate::node::Node;
use crate::tls::PeerRefusal;

/// Takes note of a refused handshake.
pub(super) async fn note(node: &Node, refusal: &PeerRefusal, remote: SocketAddr) {
    tracing::warn!(%remote, reason = %refusal, "peer refused");
    let event = Event {
        at_ms: node.clock.now_ms(),
        actor: Actor::System,
        action: "peer.refused",
        subject: refusal
            .claimed()
            .map_or_else(|| "unnamed".to_owned(), ToString::to_string),
        detail: format!("from {remote}: {refusal}"),
    };
    if let Err(error) = node.repeated.note(&node.store, event).await {
        tracing::error!(%error, "a refusal could not be audited");
    }
}
