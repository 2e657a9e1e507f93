//! `GET /admin/v1/peers`

use std::sync::Arc;

use axum::extract::State;
use homeserver_api::admin::Peers;

use super::super::error::AdminError;
use crate::federation::peers;
use crate::node::Node;

/// `GET /admin/v1/peers`: all peers by name, with the state of each agreement.
pub(in super::super) async fn handle(
    State(node): State<Arc<Node>>,
) -> Result<axum::Json<Peers>, AdminError> {
    let peers = peers::summaries(&node).await?;
    Ok(axum::Json(Peers { peers }))
}
