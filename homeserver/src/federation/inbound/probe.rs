//! `GET /federation/v1/probe`

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use bytes::Bytes;
use federation_proto::codec::Wire;
use federation_proto::version::VersionSet;

use super::error::FederationError;
use super::gate::Gates;
use crate::node::Node;
use crate::tls::Peer;

/// `GET /federation/v1/probe`: the protocol versions spoken here; for every peer that TLS lets in.
pub(super) async fn handle(
    State(node): State<Arc<Node>>,
    Extension(Peer(peer)): Extension<Peer>,
    Extension(gates): Extension<Arc<Gates>>,
) -> Result<Bytes, FederationError> {
    gates
        .ask(&peer, node.clock.now_ms())
        .map_err(|wait_s| FederationError::too_fast(wait_s, "more requests in a second"))?;
    node.links.heard_from(&peer, node.clock.now_ms());
    VersionSet::ours()
        .to_bytes()
        .map_err(|error| FederationError::Internal(error.to_string()))
}
