//! Requests of peers for what is not there: they cost a peer as much as those for what is.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::Uri;

use super::error::{self, FederationError};
use super::gate::Gates;
use crate::node::Node;
use crate::tls::Peer;

/// The answer to a path that the federation API does not have.
pub(super) async fn no_such_path(
    State(node): State<Arc<Node>>,
    Extension(Peer(peer)): Extension<Peer>,
    Extension(gates): Extension<Arc<Gates>>,
    uri: Uri,
) -> FederationError {
    match gates.ask(&peer, node.clock.now_ms()) {
        Ok(()) => error::no_such_path(uri).await,
        Err(wait_s) => too_fast(wait_s),
    }
}

/// The answer to a method that a path does not take; the router adds those that it takes.
pub(super) async fn no_such_method(
    State(node): State<Arc<Node>>,
    Extension(Peer(peer)): Extension<Peer>,
    Extension(gates): Extension<Arc<Gates>>,
    uri: Uri,
) -> FederationError {
    match gates.ask(&peer, node.clock.now_ms()) {
        Ok(()) => error::no_such_method(uri).await,
        Err(wait_s) => too_fast(wait_s),
    }
}

fn too_fast(wait_s: u64) -> FederationError {
    FederationError::too_fast(wait_s, "more requests in a second")
}
