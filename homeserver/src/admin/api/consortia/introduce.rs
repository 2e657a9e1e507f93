//! `POST /admin/v1/consortia/introductions`

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use homeserver_api::admin::PeeringDocument;
use homeserver_api::consortium::IntroductionRequest;

use super::super::error::AdminError;
use super::super::extract::Json;
use crate::federation::peers::consortium;
use crate::node::Node;

/// `POST /admin/v1/consortia/introductions`: introduces this homeserver to a consortium; changes nothing.
pub(in super::super) async fn handle(
    State(node): State<Arc<Node>>,
    Json(request): Json<IntroductionRequest>,
) -> Result<(StatusCode, axum::Json<PeeringDocument>), AdminError> {
    let document = consortium::introduce(&node, &request)?;
    Ok((
        StatusCode::CREATED,
        axum::Json(PeeringDocument::new(document)),
    ))
}
