//! `GET /admin/v1/segments`

use std::sync::Arc;

use axum::extract::State;
use homeserver_api::admin::BarriersState;

use super::super::error::AdminError;
use crate::identity::barriers;
use crate::node::Node;

/// `GET /admin/v1/segments`: the segments and the rules between them.
pub(in super::super) async fn handle(
    State(node): State<Arc<Node>>,
) -> Result<axum::Json<BarriersState>, AdminError> {
    Ok(axum::Json(barriers::state(&node).await?))
}
