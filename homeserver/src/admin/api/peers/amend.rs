//! `POST /admin/v1/peers/{server}/amendments`

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use federation_proto::ids::ServerName;
use homeserver_api::admin::{AmendRequest, Amended};

use super::super::error::AdminError;
use super::super::extract::{Json, Name};
use super::granted::unknown_user_types;
use crate::audit::Actor;
use crate::federation::peers;
use crate::node::Node;

/// `POST /admin/v1/peers/{server}/amendments`: changes what this side states: what only tightens is
/// in force at once, anything else waits for the partner's consent; or only says what would change.
pub(in super::super) async fn handle(
    State(node): State<Arc<Node>>,
    Extension(actor): Extension<Actor>,
    Name(server): Name<ServerName>,
    Json(request): Json<AmendRequest>,
) -> Result<(StatusCode, axum::Json<Amended>), AdminError> {
    let mut amended = peers::amend(&node, &actor, &server, &request).await?;
    let grants = [&request.outbound, &request.inbound].into_iter().flatten();
    amended.warnings = unknown_user_types(&node, &Vec::from_iter(grants.flatten())).await?;
    let status = if request.dry_run {
        StatusCode::OK
    } else {
        StatusCode::CREATED
    };
    Ok((status, axum::Json(amended)))
}
