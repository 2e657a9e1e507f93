//! `DELETE /admin/v1/users/{handle}/devices/{device}`

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use federation_proto::ids::{DeviceId, Handle};

use super::super::error::AdminError;
use super::super::extract::Names;
use crate::audit::Actor;
use crate::identity::accounts;
use crate::node::Node;

/// `DELETE /admin/v1/users/{handle}/devices/{device}`: removes a device; its session is cut.
pub(in super::super) async fn handle(
    State(node): State<Arc<Node>>,
    Extension(actor): Extension<Actor>,
    Names(name, device): Names<Handle, DeviceId>,
) -> Result<StatusCode, AdminError> {
    accounts::remove_device(&node, &actor, &name, device).await?;
    Ok(StatusCode::NO_CONTENT)
}
