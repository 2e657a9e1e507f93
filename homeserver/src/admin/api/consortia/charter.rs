//! `POST /admin/v1/consortia/charters`

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use homeserver_api::admin::PeeringDocument;
use homeserver_api::consortium::CharterRequest;

use super::super::error::AdminError;
use super::super::extract::Json;
use crate::federation::peers::consortium;
use crate::node::Node;

/// `POST /admin/v1/consortia/charters`: a charter that nobody has signed yet; changes nothing.
pub(in super::super) async fn handle(
    State(node): State<Arc<Node>>,
    Json(request): Json<CharterRequest>,
) -> Result<(StatusCode, axum::Json<PeeringDocument>), AdminError> {
    let document = consortium::charter(&node, &request)?;
    Ok((
        StatusCode::CREATED,
        axum::Json(PeeringDocument::new(document)),
    ))
}
