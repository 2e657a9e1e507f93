//! `GET /federation/v1/manifest`

use std::sync::Arc;

use axum::extract::State;
use bytes::Bytes;

use crate::node::Node;

/// `GET /federation/v1/manifest`: this homeserver's key manifest; for every peer that TLS lets in.
pub(super) async fn handle(State(node): State<Arc<Node>>) -> Bytes {
    node.keys.manifest().bytes().clone()
}
