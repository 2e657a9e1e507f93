//! `POST /admin/v1/keys/root/forget`

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use homeserver_api::keys::RootStatus;

use super::super::error::AdminError;
use super::change_root;
use crate::audit::Actor;
use crate::node::Node;
use crate::organisation::Asked;

/// `POST /admin/v1/keys/root/forget`: nothing leads to the former root any more, before its
/// time: not for partners that have not consented, nor for devices that have not been here since.
pub(in super::super) async fn handle(
    State(node): State<Arc<Node>>,
    Extension(actor): Extension<Actor>,
) -> Result<axum::Json<RootStatus>, AdminError> {
    change_root(node, actor, Asked::ForgetRoot).await
}
