//! `DELETE /admin/v1/sessions`

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;

use super::error::AdminError;
use crate::admin::sessions::{self, Session};
use crate::node::Node;

/// `DELETE /admin/v1/sessions`: ends the session of the token that asks.
pub(super) async fn handle(
    State(node): State<Arc<Node>>,
    session: Option<Extension<Session>>,
) -> Result<StatusCode, AdminError> {
    let Extension(session) = session.ok_or(AdminError::NoSession)?;
    sessions::sign_out(&node, &session).await?;
    Ok(StatusCode::NO_CONTENT)
}
