//! `GET /admin/v1/keys`

use std::sync::Arc;

use axum::extract::State;
use homeserver_api::keys::KeysStatus;

use super::shown;
use crate::node::Node;

/// `GET /admin/v1/keys`: every key that partners may meet, and until when.
pub(in super::super) async fn handle(State(node): State<Arc<Node>>) -> axum::Json<KeysStatus> {
    axum::Json(shown(&node))
}
