//! `POST /admin/v1/users/{handle}/password`

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use federation_proto::ids::Handle;
use homeserver_api::admin::{CreatedUser, ResetPasswordRequest};

use super::super::error::AdminError;
use super::super::extract::{Json, Name};
use crate::audit::Actor;
use crate::identity::accounts;
use crate::node::Node;

/// `POST /admin/v1/users/{handle}/password`: gives an account a new password.
pub(in super::super) async fn handle(
    State(node): State<Arc<Node>>,
    Extension(actor): Extension<Actor>,
    Name(name): Name<Handle>,
    Json(request): Json<ResetPasswordRequest>,
) -> Result<axum::Json<CreatedUser>, AdminError> {
    Ok(axum::Json(
        accounts::reset_password(&node, &actor, &name, request).await?,
    ))
}
