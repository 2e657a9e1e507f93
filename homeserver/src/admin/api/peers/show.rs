//! `GET /admin/v1/peers/{server}`

use std::sync::Arc;

use axum::extract::State;
use federation_proto::ids::ServerName;
use homeserver_api::admin::PeerDetail;

use super::super::error::AdminError;
use super::super::extract::Name;
use crate::federation::peers;
use crate::node::Node;

/// `GET /admin/v1/peers/{server}`: one peer in full.
pub(in super::super) async fn handle(
    State(node): State<Arc<Node>>,
    Name(server): Name<ServerName>,
) -> Result<axum::Json<PeerDetail>, AdminError> {
    Ok(axum::Json(peers::detail(&node, &server).await?))
}
