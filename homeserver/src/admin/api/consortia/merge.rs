//! `POST /admin/v1/consortia/merges`

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use homeserver_api::admin::PeeringDocument;
use homeserver_api::consortium::MergeRequest;

use super::super::error::AdminError;
use super::super::extract::Json;
use crate::federation::peers::consortium;
use crate::node::Node;

/// `POST /admin/v1/consortia/merges`: one charter with the signatures of several files; changes nothing.
pub(in super::super) async fn handle(
    State(node): State<Arc<Node>>,
    Json(request): Json<MergeRequest>,
) -> Result<(StatusCode, axum::Json<PeeringDocument>), AdminError> {
    let document = consortium::merge(&node, &request).await?;
    Ok((
        StatusCode::CREATED,
        axum::Json(PeeringDocument::new(document)),
    ))
}
