//! `POST /admin/v1/keys/tls/rotate`

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use homeserver_api::keys::{KeysStatus, RotateKeyRequest};

use super::super::error::AdminError;
use super::super::extract::Json;
use super::{bytes, change};
use crate::audit::Actor;
use crate::node::Node;
use crate::organisation::Asked;

/// `POST /admin/v1/keys/tls/rotate`: the backup TLS key takes over, and another backup is made;
/// open connections finish what is under way.
pub(in super::super) async fn handle(
    State(node): State<Arc<Node>>,
    Extension(actor): Extension<Actor>,
    Json(request): Json<RotateKeyRequest>,
) -> Result<axum::Json<KeysStatus>, AdminError> {
    let replaces = request.replaces.as_deref();
    let replaces = replaces.map(|pin| bytes("a pin", pin)).transpose()?;
    change(node, actor, Asked::RotateTls { replaces }).await
}
