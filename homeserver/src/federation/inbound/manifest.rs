//! `GET /federation/v1/manifest`

use std::sync::Arc;

use axum::extract::State;
use bytes::Bytes;
use federation_proto::padding;

use crate::node::Node;

/// `GET /federation/v1/manifest`: this homeserver's key manifest; for every peer that TLS lets in.
pub(super) async fn handle(State(node): State<Arc<Node>>) -> Bytes {
    let manifest = node.keys.manifest().bytes().clone();
    #[cfg(feature = "faults")]
    let manifest = crate::faults::stale_manifest(manifest);
    padding::pad(&manifest)
}
