//! `POST /admin/v1/keys/root/announce`

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use homeserver_api::keys::{AnnounceRootRequest, RootStatus};

use super::super::error::AdminError;
use super::super::extract::Json;
use crate::audit::Actor;
use crate::federation::peers::root;
use crate::node::Node;

/// `POST /admin/v1/keys/root/announce`: partners are brought an amendment that announces the
/// new root; each consents for itself.
pub(in super::super) async fn handle(
    State(node): State<Arc<Node>>,
    Extension(actor): Extension<Actor>,
    Json(request): Json<AnnounceRootRequest>,
) -> Result<axum::Json<RootStatus>, AdminError> {
    root::announce(&node, &actor, &request.partners).await?;
    Ok(axum::Json(root::status(&node)))
}
