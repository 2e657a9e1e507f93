//! `GET /admin/v1/user-types`

use std::sync::Arc;

use axum::extract::State;
use homeserver_api::admin::UserTypes;

use super::super::error::AdminError;
use crate::identity::user_types;
use crate::node::Node;

/// `GET /admin/v1/user-types`: every user type, by name.
pub(in super::super) async fn handle(
    State(node): State<Arc<Node>>,
) -> Result<axum::Json<UserTypes>, AdminError> {
    let user_types = user_types::list(&node).await?;
    Ok(axum::Json(UserTypes { user_types }))
}
