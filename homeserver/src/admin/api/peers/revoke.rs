//! `POST /admin/v1/peers/{server}/revoke`

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use federation_proto::ids::ServerName;
use homeserver_api::admin::{PeerDetail, ReasonRequest};

use super::super::error::AdminError;
use super::super::extract::{Json, Name};
use crate::audit::Actor;
use crate::federation::peers;
use crate::node::Node;

/// `POST /admin/v1/peers/{server}/revoke`: ends the agreement: connections are cut, mail that waits is
/// given up and its senders are told.
pub(in super::super) async fn handle(
    State(node): State<Arc<Node>>,
    Extension(actor): Extension<Actor>,
    Name(server): Name<ServerName>,
    Json(request): Json<ReasonRequest>,
) -> Result<axum::Json<PeerDetail>, AdminError> {
    peers::revoke(&node, &actor, &server, &request.reason).await?;
    Ok(axum::Json(peers::detail(&node, &server).await?))
}
