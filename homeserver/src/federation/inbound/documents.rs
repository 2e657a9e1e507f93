//! How signed documents are read, whichever they are.

use axum::extract::Request;
use bytes::Bytes;
use federation_proto::ids::ServerName;
use federation_proto::limits::PEERING_DOCUMENT_BYTES_MAX;
use federation_proto::refusal::RefusalCode;

use super::error::FederationError;
use super::gate::Gates;
use super::transactions::read_body;
use crate::node::Node;

/// Reads a document, unless the peer brings more of them than anybody would sign.
pub(super) async fn read_document(
    node: &Node,
    gates: &Gates,
    peer: &ServerName,
    request: Request,
) -> Result<Bytes, FederationError> {
    gates
        .take_document(peer, node.clock.now_ms())
        .map_err(|retry_after_s| FederationError::Later {
            code: RefusalCode::RateLimited,
            detail: "more documents than this server takes from one peer".to_owned(),
            retry_after_s,
        })?;
    read_body(node, request, PEERING_DOCUMENT_BYTES_MAX).await
}
