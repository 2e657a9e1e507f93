//! Tells peers which manifest is the newest, and hears it of them: a change of keys is known everywhere
//! before it matters, without anybody being asked.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;

use crate::node::Node;
use crate::tls::Peer;

/// Around every request: hears which manifests the peer knows, and says in the answer which are known here.
pub(super) async fn exchange(
    State(node): State<Arc<Node>>,
    request: Request,
    next: Next,
) -> Response {
    let peer = request.extensions().get::<Peer>().cloned();
    if let Some(Peer(peer)) = &peer {
        node.peers.hear_serials(&node, peer, request.headers());
    }
    let mut response = next.run(request).await;
    if let Some(Peer(peer)) = &peer {
        node.peers.say_serials(&node, peer, response.headers_mut());
    }
    response
}
