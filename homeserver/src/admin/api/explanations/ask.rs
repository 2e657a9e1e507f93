//! `POST /admin/v1/explanations`

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use homeserver_api::admin::{ExplainRequest, Explanation};

use super::super::error::AdminError;
use super::super::extract::Json;
use crate::audit::Actor;
use crate::delivery::explain;
use crate::node::Node;

/// `POST /admin/v1/explanations`: what somebody here may do towards somebody, and which rules say so; a partner is asked for
/// its half where the agreement grants look-ups.
pub(in super::super) async fn handle(
    State(node): State<Arc<Node>>,
    Extension(actor): Extension<Actor>,
    Json(request): Json<ExplainRequest>,
) -> Result<axum::Json<Explanation>, AdminError> {
    let explanation = explain::explain(&node, &actor, &request.from, &request.to).await?;
    Ok(axum::Json(explanation))
}
