//! Who this homeserver is.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use homeserver_api::client::ServerInfo;

use crate::node::Node;

/// `GET /v1/server`
pub(super) async fn show(State(node): State<Arc<Node>>) -> Json<ServerInfo> {
    Json(ServerInfo {
        server: node.server.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        root_sha256: hex::encode(node.keys.root_sha256()),
        server_time_ms: node.clock.now_ms(),
    })
}
