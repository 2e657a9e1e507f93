//! `POST /admin/v1/password`

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use homeserver_api::password::ChangePasswordRequest;

use super::error::AdminError;
use super::extract::Json;
use crate::admin::sessions::{self, Session};
use crate::node::Node;

/// `POST /admin/v1/password`: an administrator changes the own password.
pub(super) async fn handle(
    State(node): State<Arc<Node>>,
    session: Option<Extension<Session>>,
    Json(request): Json<ChangePasswordRequest>,
) -> Result<StatusCode, AdminError> {
    let Extension(session) = session.ok_or(AdminError::NoSession)?;
    sessions::change_password(&node, &session, &request).await?;
    Ok(StatusCode::NO_CONTENT)
}
