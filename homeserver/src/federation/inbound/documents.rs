//! How signed documents are read, whichever they are.

use axum::extract::Request;
use bytes::Bytes;
use federation_proto::ids::ServerName;
use federation_proto::refusal::RefusalCode;

use super::error::FederationError;
use super::gate::Gates;
use super::transactions::read_body;
use crate::node::Node;

/// Reads a document of at most `bytes_max`, unless the peer brings more than anybody would sign.
pub(super) async fn read_document(
    node: &Node,
    gates: &Gates,
    peer: &ServerName,
    request: Request,
    bytes_max: usize,
) -> Result<Bytes, FederationError> {
    gates
        .take_document(peer, node.clock.now_ms())
        .map_err(|retry_after_s| FederationError::Later {
            code: RefusalCode::RateLimited,
            detail: "more documents than this server takes from one peer".to_owned(),
            retry_after_s,
        })?;
    read_body(node, request, bytes_max).await
}
