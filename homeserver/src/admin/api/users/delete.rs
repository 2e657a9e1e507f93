//! `DELETE /admin/v1/users/{handle}`

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use federation_proto::ids::Handle;

use super::super::error::AdminError;
use super::super::extract::Name;
use crate::audit::Actor;
use crate::identity::accounts;
use crate::node::Node;

/// `DELETE /admin/v1/users/{handle}`: deletes an account; its handle is never given away again.
pub(in super::super) async fn handle(
    State(node): State<Arc<Node>>,
    Extension(actor): Extension<Actor>,
    Name(name): Name<Handle>,
) -> Result<StatusCode, AdminError> {
    accounts::delete(&node, &actor, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}
