//! `POST /admin/v1/sessions`

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use homeserver_api::admin::{SignInRequest, SignInResponse};

use super::error::AdminError;
use super::extract::Json;
use crate::admin::sessions;
use crate::identity::{RateLimit, Remote};
use crate::node::Node;

/// `POST /admin/v1/sessions`: an administrator signs in over the network.
pub(super) async fn handle(
    State(node): State<Arc<Node>>,
    Extension(limit): Extension<Arc<RateLimit>>,
    remote: Option<Extension<Remote>>,
    Json(request): Json<SignInRequest>,
) -> Result<(StatusCode, axum::Json<SignInResponse>), AdminError> {
    let remote = remote.map(|Extension(remote)| remote);
    if !limit.take(remote, node.clock.now_ms()) {
        return Err(AdminError::TooManySignIns);
    }
    let (token, expires_ms) = sessions::sign_in(&node, &request.name, &request.password).await?;
    let answer = SignInResponse { token, expires_ms };
    Ok((StatusCode::CREATED, axum::Json(answer)))
}
