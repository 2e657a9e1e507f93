//! Requests of peers for what is not there: they cost a peer as much as those for what is.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::Uri;
use federation_proto::ids::ServerName;

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
    charged(&node, &peer, &gates, error::no_such_path(uri)).await
}

/// The answer to a method that a path does not take; the router adds those that it takes.
pub(super) async fn no_such_method(
    State(node): State<Arc<Node>>,
    Extension(Peer(peer)): Extension<Peer>,
    Extension(gates): Extension<Arc<Gates>>,
    uri: Uri,
) -> FederationError {
    charged(&node, &peer, &gates, error::no_such_method(uri)).await
}

/// The answer to a request that counts as one for something that is there.
async fn charged(
    node: &Node,
    peer: &ServerName,
    gates: &Arc<Gates>,
    answer: impl Future<Output = FederationError>,
) -> FederationError {
    match gates.ask(peer, node.clock.now_ms()) {
        Ok(()) => answer.await,
        Err(wait_s) => FederationError::too_fast(wait_s, "more requests in a second"),
    }
}
