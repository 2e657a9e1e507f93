//! `GET /admin/v1/users/{handle}`

use std::sync::Arc;

use axum::extract::State;
use federation_proto::ids::Handle;
use homeserver_api::admin::UserDetail;

use super::super::error::AdminError;
use super::super::extract::Name;
use crate::identity::accounts;
use crate::node::Node;

/// `GET /admin/v1/users/{handle}`: an account in full.
pub(in super::super) async fn handle(
    State(node): State<Arc<Node>>,
    Name(name): Name<Handle>,
) -> Result<axum::Json<UserDetail>, AdminError> {
    Ok(axum::Json(accounts::get(&node, &name).await?))
}
