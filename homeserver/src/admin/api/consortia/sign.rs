//! `POST /admin/v1/consortia/signatures`

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use homeserver_api::admin::PeeringDocument;
use homeserver_api::consortium::SignCharterRequest;

use super::super::error::AdminError;
use super::super::extract::Json;
use crate::audit::Actor;
use crate::federation::peers::consortium;
use crate::node::Node;

/// `POST /admin/v1/consortia/signatures`: signs a charter whose fingerprint all its members have compared.
pub(in super::super) async fn handle(
    State(node): State<Arc<Node>>,
    Extension(actor): Extension<Actor>,
    Json(request): Json<SignCharterRequest>,
) -> Result<(StatusCode, axum::Json<PeeringDocument>), AdminError> {
    let document = consortium::sign(&node, &actor, &request).await?;
    Ok((
        StatusCode::CREATED,
        axum::Json(PeeringDocument::new(document)),
    ))
}
