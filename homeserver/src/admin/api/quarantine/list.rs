//! `GET /admin/v1/quarantine`

use std::sync::Arc;

use axum::extract::State;
use homeserver_api::admin::Quarantine;

use super::super::error::AdminError;
use crate::federation::quarantine;
use crate::node::Node;

/// `GET /admin/v1/quarantine`: what strangers have dropped, oldest first.
pub(in super::super) async fn handle(
    State(node): State<Arc<Node>>,
) -> Result<axum::Json<Quarantine>, AdminError> {
    let documents = quarantine::list(&node).await?;
    Ok(axum::Json(Quarantine { documents }))
}
