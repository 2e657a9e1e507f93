//! What peers may ask of this homeserver, over HTTP/2 with mutual TLS.

use std::sync::Arc;

use crate::node::Node;

/// Every route of the federation API. Each request carries [`crate::tls::Peer`] as an extension: the
/// peer that the TLS handshake authenticated.
pub fn router(node: Arc<Node>) -> axum::Router {
    axum::Router::new().with_state(node)
}
