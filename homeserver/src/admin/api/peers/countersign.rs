//! `POST /admin/v1/peers/countersignatures`

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use homeserver_api::admin::{CountersignRequest, PeeringDocument};

use super::super::error::AdminError;
use super::super::extract::Json;
use crate::audit::Actor;
use crate::federation::peers;
use crate::node::Node;

/// `POST /admin/v1/peers/countersignatures`: countersigns an acceptance of our offer; the agreement is
/// active here from now on, and the partner is told in the background.
pub(in super::super) async fn handle(
    State(node): State<Arc<Node>>,
    Extension(actor): Extension<Actor>,
    Json(request): Json<CountersignRequest>,
) -> Result<(StatusCode, axum::Json<PeeringDocument>), AdminError> {
    let document = peers::countersign(&node, &actor, &request).await?;
    Ok((
        StatusCode::CREATED,
        axum::Json(PeeringDocument::new(document)),
    ))
}
