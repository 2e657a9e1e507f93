//! `POST /admin/v1/users`

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use homeserver_api::admin::{CreateUserRequest, CreatedUser};

use super::super::error::AdminError;
use super::super::extract::Json;
use crate::audit::Actor;
use crate::identity::accounts;
use crate::node::Node;

/// `POST /admin/v1/users`: creates an account.
pub(in super::super) async fn handle(
    State(node): State<Arc<Node>>,
    Extension(actor): Extension<Actor>,
    Json(request): Json<CreateUserRequest>,
) -> Result<(StatusCode, axum::Json<CreatedUser>), AdminError> {
    let created = accounts::create(&node, &actor, request).await?;
    Ok((StatusCode::CREATED, axum::Json(created)))
}
