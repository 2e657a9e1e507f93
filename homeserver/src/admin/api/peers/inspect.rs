//! `POST /admin/v1/peers/inspections`

use std::sync::Arc;

use axum::extract::State;
use homeserver_api::admin::{DocumentSummary, PeeringDocument};

use super::super::error::AdminError;
use super::super::extract::Json;
use crate::federation::peers;
use crate::node::Node;

/// `POST /admin/v1/peers/inspections`: a peering document in plain language; changes nothing.
pub(in super::super) async fn handle(
    State(node): State<Arc<Node>>,
    Json(request): Json<PeeringDocument>,
) -> Result<axum::Json<DocumentSummary>, AdminError> {
    Ok(axum::Json(peers::inspect(&node, &request.document).await?))
}
