//! `PUT /admin/v1/segments`

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use homeserver_api::admin::{BarriersChanged, BarriersRequest};

use super::super::error::AdminError;
use super::super::extract::Json;
use crate::audit::Actor;
use crate::identity::barriers;
use crate::node::Node;

/// `PUT /admin/v1/segments`: puts other segments and rules in the place of those that there are; or only says who gains and
/// who loses whom.
pub(in super::super) async fn handle(
    State(node): State<Arc<Node>>,
    Extension(actor): Extension<Actor>,
    Json(request): Json<BarriersRequest>,
) -> Result<axum::Json<BarriersChanged>, AdminError> {
    Ok(axum::Json(barriers::change(&node, &actor, request).await?))
}
