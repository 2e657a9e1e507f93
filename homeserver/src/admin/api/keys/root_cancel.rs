//! `POST /admin/v1/keys/root/cancel`

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use homeserver_api::keys::RootStatus;

use super::super::error::AdminError;
use super::change_root;
use crate::audit::Actor;
use crate::federation::peers::root;
use crate::node::Node;
use crate::organisation::Asked;

/// `POST /admin/v1/keys/root/cancel`: the new root is given up, as long as no partner has
/// consented to it.
pub(in super::super) async fn handle(
    State(node): State<Arc<Node>>,
    Extension(actor): Extension<Actor>,
) -> Result<axum::Json<RootStatus>, AdminError> {
    root::withdraw(&node, &actor).await?;
    change_root(node, actor, Asked::CancelRoot).await
}
