//! `POST /admin/v1/peers/{server}/suspend`

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

/// `POST /admin/v1/peers/{server}/suspend`: pauses the agreement: the peer's traffic is refused, mail for it waits.
pub(in super::super) async fn handle(
    State(node): State<Arc<Node>>,
    Extension(actor): Extension<Actor>,
    Name(server): Name<ServerName>,
    Json(request): Json<ReasonRequest>,
) -> Result<axum::Json<PeerDetail>, AdminError> {
    peers::suspend(&node, &actor, &server, &request.reason).await?;
    Ok(axum::Json(peers::detail(&node, &server).await?))
}
