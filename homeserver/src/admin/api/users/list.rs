//! `GET /admin/v1/users`

use std::sync::Arc;

use axum::extract::State;
use homeserver_api::admin::Users;

use super::super::error::AdminError;
use crate::identity::accounts;
use crate::node::Node;

/// Most accounts in the answer.
const USERS_MAX: usize = 100_000;

/// `GET /admin/v1/users`: all accounts, by handle.
pub(in super::super) async fn handle(
    State(node): State<Arc<Node>>,
) -> Result<axum::Json<Users>, AdminError> {
    let users = accounts::list(&node, None, USERS_MAX).await?;
    Ok(axum::Json(Users { users }))
}
