//! `GET /admin/v1/quarantine/{document}`

use std::sync::Arc;

use axum::extract::State;
use homeserver_api::admin::QuarantinedDetail;

use super::super::error::AdminError;
use super::super::extract::Name;
use crate::federation::quarantine;
use crate::node::Node;

/// `GET /admin/v1/quarantine/{document}`: one document in plain language; changes nothing.
pub(in super::super) async fn handle(
    State(node): State<Arc<Node>>,
    Name(document): Name<String>,
) -> Result<axum::Json<QuarantinedDetail>, AdminError> {
    Ok(axum::Json(quarantine::show(&node, &document).await?))
}
