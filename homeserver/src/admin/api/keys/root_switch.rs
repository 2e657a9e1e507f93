//! `POST /admin/v1/keys/root/switch`

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use homeserver_api::keys::{RootStatus, SwitchRootRequest};

use super::super::error::AdminError;
use super::super::extract::Json;
use super::change_root;
use crate::audit::Actor;
use crate::federation::peers::root;
use crate::node::Node;
use crate::organisation::Asked;

/// `POST /admin/v1/keys/root/switch`: the new root takes over, when every partner has consented
/// that is waited for; device certificates lead to it from then on.
pub(in super::super) async fn handle(
    State(node): State<Arc<Node>>,
    Extension(actor): Extension<Actor>,
    Json(request): Json<SwitchRootRequest>,
) -> Result<axum::Json<RootStatus>, AdminError> {
    let to = root::may_switch(&node, &request)?;
    change_root(node, actor, Asked::SwitchRoot { to }).await
}
