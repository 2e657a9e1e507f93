//! `POST /admin/v1/peers/{server}/consents`

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use federation_proto::ids::ServerName;
use homeserver_api::admin::{ConsentRequest, PeeringDocument};

use super::super::error::AdminError;
use super::super::extract::{Json, Name};
use crate::audit::Actor;
use crate::federation::peers;
use crate::node::Node;

/// `POST /admin/v1/peers/{server}/consents`: consents to exactly the amendment that was read; it is
/// in force from now on, and the partner is told in the background.
pub(in super::super) async fn handle(
    State(node): State<Arc<Node>>,
    Extension(actor): Extension<Actor>,
    Name(server): Name<ServerName>,
    Json(request): Json<ConsentRequest>,
) -> Result<(StatusCode, axum::Json<PeeringDocument>), AdminError> {
    let document = peers::consent(&node, &actor, &server, &request).await?;
    Ok((
        StatusCode::CREATED,
        axum::Json(PeeringDocument::new(document)),
    ))
}
