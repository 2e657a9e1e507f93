//! `GET /federation/v1/manifest`

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use bytes::Bytes;

use crate::node::Node;
use crate::tls::Peer;

/// `GET /federation/v1/manifest`: this homeserver's key manifest; for every peer that TLS lets in.
pub(super) async fn handle(
    State(node): State<Arc<Node>>,
    Extension(Peer(peer)): Extension<Peer>,
) -> Bytes {
    let manifest = node.keys.manifest();
    node.links.knows_our_manifest(&peer, manifest.serial());
    manifest.bytes().clone()
}
