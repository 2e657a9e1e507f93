//! `DELETE /admin/v1/user-types/{name}`

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;

use super::super::error::AdminError;
use super::super::extract::Name;
use crate::audit::Actor;
use crate::identity::user_types;
use crate::node::Node;

/// `DELETE /admin/v1/user-types/{name}`: deletes a user type that no account has.
pub(in super::super) async fn handle(
    State(node): State<Arc<Node>>,
    Extension(actor): Extension<Actor>,
    Name(name): Name<String>,
) -> Result<StatusCode, AdminError> {
    user_types::delete(&node, &actor, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}
