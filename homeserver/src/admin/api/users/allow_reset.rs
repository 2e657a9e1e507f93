//! `POST /admin/v1/users/{handle}/device-reset`

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use federation_proto::ids::Handle;

use super::super::error::AdminError;
use super::super::extract::Name;
use crate::audit::Actor;
use crate::identity::enrolment;
use crate::node::Node;

/// `POST /admin/v1/users/{handle}/device-reset`: whoever knows the password may reset the account's devices, once.
pub(in super::super) async fn handle(
    State(node): State<Arc<Node>>,
    Extension(actor): Extension<Actor>,
    Name(name): Name<Handle>,
) -> Result<StatusCode, AdminError> {
    enrolment::allow_reset(&node, &actor, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}
