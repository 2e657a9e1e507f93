//! `POST /admin/v1/keys/tls/revoke`

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use homeserver_api::keys::{KeysStatus, RevokeTlsKeyRequest};

use super::super::error::AdminError;
use super::super::extract::Json;
use super::{bytes, change};
use crate::audit::Actor;
use crate::node::Node;
use crate::organisation::Asked;

/// `POST /admin/v1/keys/tls/revoke`: partners let in nobody who shows the key, and cut who has;
/// where it is in use, the backup takes over first.
pub(in super::super) async fn handle(
    State(node): State<Arc<Node>>,
    Extension(actor): Extension<Actor>,
    Json(request): Json<RevokeTlsKeyRequest>,
) -> Result<axum::Json<KeysStatus>, AdminError> {
    let pin = bytes("a pin", &request.pin)?;
    change(node, actor, Asked::RevokeTls { pin }).await
}
