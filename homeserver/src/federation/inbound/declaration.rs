//! `POST /federation/v1/declaration`

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Request, State};

use super::documents::read_document;
use super::error::FederationError;
use super::gate::Gates;
use crate::federation::peers;
use crate::node::Node;
use crate::tls::Peer;

/// `POST /federation/v1/declaration`: the peer has paused, taken up again or ended the agreement, or
/// refuses what we have proposed; for
/// every peer that TLS lets in. The same one may come again.
pub(super) async fn handle(
    State(node): State<Arc<Node>>,
    Extension(gates): Extension<Arc<Gates>>,
    Extension(Peer(peer)): Extension<Peer>,
    request: Request,
) -> Result<(), FederationError> {
    let document = read_document(&node, &gates, &peer, request).await?;
    Ok(peers::declaration_from(&node, &peer, document).await?)
}
