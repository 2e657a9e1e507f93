//! `POST /admin/v1/peers/{server}/amendment-refusals`

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use federation_proto::ids::ServerName;
use homeserver_api::admin::{PeerDetail, RefuseAmendmentRequest};

use super::super::error::AdminError;
use super::super::extract::{Json, Name};
use crate::audit::Actor;
use crate::federation::peers;
use crate::node::Node;

/// `POST /admin/v1/peers/{server}/amendment-refusals`: drops what the partner proposes and tells
/// its administrator why.
pub(in super::super) async fn handle(
    State(node): State<Arc<Node>>,
    Extension(actor): Extension<Actor>,
    Name(server): Name<ServerName>,
    Json(request): Json<RefuseAmendmentRequest>,
) -> Result<axum::Json<PeerDetail>, AdminError> {
    peers::refuse(&node, &actor, &server, &request).await?;
    Ok(axum::Json(peers::detail(&node, &server).await?))
}
