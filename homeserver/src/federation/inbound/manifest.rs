//! `GET /federation/v1/manifest`

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use bytes::Bytes;

use super::error::FederationError;
use super::gate::Gates;
use crate::federation::peers;
use crate::node::Node;
use crate::tls::Peer;

/// `GET /federation/v1/manifest`: this homeserver's key manifest; for every peer that TLS lets in.
pub(super) async fn handle(
    State(node): State<Arc<Node>>,
    Extension(Peer(peer)): Extension<Peer>,
    Extension(gates): Extension<Arc<Gates>>,
) -> Result<Bytes, FederationError> {
    gates
        .ask(&peer, node.clock.now_ms())
        .map_err(|wait_s| FederationError::too_fast(wait_s, "more requests in a second"))?;
    let manifest = peers::root::manifest_for(&node, &peer);
    node.links.knows_our_manifest(&peer, manifest.serial());
    let bytes = manifest.bytes().clone();
    #[cfg(feature = "faults")]
    let bytes = crate::faults::stale_manifest(bytes);
    Ok(bytes)
}
