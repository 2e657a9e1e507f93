//! `PUT /admin/v1/user-types/{name}`

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use homeserver_api::admin::UserType;
use homeserver_api::policy::UserTypePolicy;

use super::super::error::AdminError;
use super::super::extract::{Json, Name};
use crate::audit::Actor;
use crate::identity::user_types;
use crate::node::Node;

/// `PUT /admin/v1/user-types/{name}`: creates a user type, or changes it for all its accounts at once.
pub(in super::super) async fn handle(
    State(node): State<Arc<Node>>,
    Extension(actor): Extension<Actor>,
    Name(name): Name<String>,
    Json(policy): Json<UserTypePolicy>,
) -> Result<axum::Json<UserType>, AdminError> {
    Ok(axum::Json(
        user_types::put(&node, &actor, &name, policy).await?,
    ))
}
