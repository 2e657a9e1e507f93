//! `POST /admin/v1/sessions`

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use homeserver_api::admin::{SignInRequest, SignInResponse};

use super::error::AdminError;
use super::extract::Json;
use crate::admin::sessions;
use crate::node::Node;

/// `POST /admin/v1/sessions`: an administrator signs in over the network.
pub(super) async fn handle(
    State(node): State<Arc<Node>>,
    Json(request): Json<SignInRequest>,
) -> Result<(StatusCode, axum::Json<SignInResponse>), AdminError> {
    let (token, expires_ms) =
        sessions::sign_in(&node, &request.name, request.password.into()).await?;
    let answer = SignInResponse { token, expires_ms };
    Ok((StatusCode::CREATED, axum::Json(answer)))
}
