//! `GET /admin/v1/keys/root`

use std::sync::Arc;

use axum::extract::State;
use homeserver_api::keys::RootStatus;

use crate::federation::peers::root;
use crate::node::Node;

/// `GET /admin/v1/keys/root`: the root in use, the one that is to take over or did, and which partner goes by which.
pub(in super::super) async fn handle(State(node): State<Arc<Node>>) -> axum::Json<RootStatus> {
    axum::Json(root::status(&node))
}
