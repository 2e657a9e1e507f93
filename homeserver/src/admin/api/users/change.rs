//! `PATCH /admin/v1/users/{handle}`

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use federation_proto::ids::Handle;
use homeserver_api::admin::{ChangeUserRequest, UserDetail};

use super::super::error::AdminError;
use super::super::extract::{Json, Name};
use crate::audit::Actor;
use crate::identity::accounts;
use crate::node::Node;

/// `PATCH /admin/v1/users/{handle}`: changes an account; what the request leaves out stays.
pub(in super::super) async fn handle(
    State(node): State<Arc<Node>>,
    Extension(actor): Extension<Actor>,
    Name(name): Name<Handle>,
    Json(request): Json<ChangeUserRequest>,
) -> Result<axum::Json<UserDetail>, AdminError> {
    Ok(axum::Json(
        accounts::change(&node, &actor, &name, &request).await?,
    ))
}
