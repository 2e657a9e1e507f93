//! `GET /admin/v1/consortia`

use std::sync::Arc;

use axum::extract::State;
use homeserver_api::consortium::Consortia;

use super::super::error::AdminError;
use crate::federation::peers::consortium;
use crate::node::Node;

/// `GET /admin/v1/consortia`: the consortia whose charters were signed here.
pub(in super::super) async fn handle(
    State(node): State<Arc<Node>>,
) -> Result<axum::Json<Consortia>, AdminError> {
    Ok(axum::Json(consortium::consortia(&node).await?))
}
