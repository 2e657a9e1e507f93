//! The admin API, on the local socket and on the client listener.

use std::sync::Arc;

use crate::node::Node;

/// Every route of the admin API. A request through the local socket carries [`crate::audit::Actor`]
/// `Local` as an extension; any other needs a bearer token.
pub fn router(node: Arc<Node>) -> axum::Router {
    axum::Router::new().with_state(node)
}
