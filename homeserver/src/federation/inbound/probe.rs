//! `GET /federation/v1/probe`

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use bytes::Bytes;
use federation_proto::codec::Wire;
use federation_proto::padding;
use federation_proto::version::VersionSet;

use super::error::FederationError;
use crate::node::Node;
use crate::tls::Peer;

/// `GET /federation/v1/probe`: the protocol versions spoken here; for every peer that TLS lets in.
pub(super) async fn handle(
    State(node): State<Arc<Node>>,
    Extension(Peer(peer)): Extension<Peer>,
) -> Result<Bytes, FederationError> {
    node.links.heard_from(&peer, node.clock.now_ms());
    VersionSet::ours()
        .to_bytes()
        .map(|versions| padding::pad(&versions))
        .map_err(|error| FederationError::Internal(error.to_string()))
}
