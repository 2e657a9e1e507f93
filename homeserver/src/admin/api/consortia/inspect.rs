//! `POST /admin/v1/consortia/inspections`

use std::sync::Arc;

use axum::extract::State;
use homeserver_api::admin::PeeringDocument;
use homeserver_api::consortium::CharterSummary;

use super::super::error::AdminError;
use super::super::extract::Json;
use crate::federation::peers::consortium;
use crate::node::Node;

/// `POST /admin/v1/consortia/inspections`: a charter in plain language; changes nothing.
pub(in super::super) async fn handle(
    State(node): State<Arc<Node>>,
    Json(request): Json<PeeringDocument>,
) -> Result<axum::Json<CharterSummary>, AdminError> {
    Ok(axum::Json(
        consortium::inspect(&node, &request.document).await?,
    ))
}
