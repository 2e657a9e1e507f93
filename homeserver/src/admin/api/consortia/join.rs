//! `POST /admin/v1/consortia/peers`

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use homeserver_api::admin::PeeringDocument;
use homeserver_api::consortium::Joined;

use super::super::error::AdminError;
use super::super::extract::Json;
use crate::audit::Actor;
use crate::federation::peers::consortium;
use crate::node::Node;

/// `POST /admin/v1/consortia/peers`: makes a peer of every member who has signed; what stands is left as it is.
pub(in super::super) async fn handle(
    State(node): State<Arc<Node>>,
    Extension(actor): Extension<Actor>,
    Json(request): Json<PeeringDocument>,
) -> Result<axum::Json<Joined>, AdminError> {
    Ok(axum::Json(
        consortium::join(&node, &actor, &request.document).await?,
    ))
}
