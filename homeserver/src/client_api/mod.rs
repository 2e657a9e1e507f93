//! The client API: HTTP + JSON, and a device's WebSocket session.

use std::sync::Arc;

use crate::node::Node;

/// Every route of the client API. Each request carries [`crate::server::Remote`] as an extension.
pub fn router(node: Arc<Node>) -> axum::Router {
    axum::Router::new().with_state(node)
}
