//! `POST /federation/v1/countersignature`

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Request, State};
use federation_proto::limits::PEERING_DOCUMENT_BYTES_MAX;

use super::error::FederationError;
use super::gate::Gates;
use super::transactions::read_body;
use crate::federation::peers;
use crate::node::Node;
use crate::tls::Peer;

/// `POST /federation/v1/countersignature`: the offerer completes the agreement; for every peer that
/// TLS lets in. The same one may come again.
pub(super) async fn handle(
    State(node): State<Arc<Node>>,
    Extension(Peer(peer)): Extension<Peer>,
    Extension(gates): Extension<Arc<Gates>>,
    request: Request,
) -> Result<(), FederationError> {
    gates
        .ask(&peer, node.clock.now_ms())
        .map_err(|wait_s| FederationError::too_fast(wait_s, "more requests in a second"))?;
    let document = read_body(&node, request, PEERING_DOCUMENT_BYTES_MAX).await?;
    Ok(peers::activate_online(&node, &peer, document).await?)
}
