//! `POST /admin/v1/peers/{server}/resume`

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use federation_proto::ids::ServerName;
use homeserver_api::admin::PeerDetail;

use super::super::error::AdminError;
use super::super::extract::Name;
use crate::audit::Actor;
use crate::federation::peers;
use crate::node::Node;

/// `POST /admin/v1/peers/{server}/resume`: ends our pause.
pub(in super::super) async fn handle(
    State(node): State<Arc<Node>>,
    Extension(actor): Extension<Actor>,
    Name(server): Name<ServerName>,
) -> Result<axum::Json<PeerDetail>, AdminError> {
    peers::resume(&node, &actor, &server).await?;
    Ok(axum::Json(peers::detail(&node, &server).await?))
}
