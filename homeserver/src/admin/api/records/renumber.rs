//! `POST /admin/v1/outbox/{server}/renumber`

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use federation_proto::ids::ServerName;

use super::super::error::AdminError;
use super::super::extract::Name;
use crate::audit::Actor;
use crate::federation::peers;
use crate::node::Node;

/// `POST /admin/v1/outbox/{server}/renumber`: begins a new link epoch towards the peer: what waits is
/// numbered anew and sent.
pub(in super::super) async fn handle(
    State(node): State<Arc<Node>>,
    Extension(actor): Extension<Actor>,
    Name(server): Name<ServerName>,
) -> Result<StatusCode, AdminError> {
    peers::begin_link_epoch(&node, &actor, &server).await?;
    Ok(StatusCode::ACCEPTED)
}
