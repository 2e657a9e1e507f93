//! `POST /admin/v1/keys/envelope/revoke`

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use federation_proto::keys::KeyId;
use homeserver_api::keys::{KeysStatus, RevokeEnvelopeKeyRequest};

use super::super::error::AdminError;
use super::super::extract::Json;
use super::{bytes, change};
use crate::audit::Actor;
use crate::node::Node;
use crate::organisation::Asked;

/// `POST /admin/v1/keys/envelope/revoke`: partners take nothing more that is signed with the
/// key; where it is in use, others take over first.
pub(in super::super) async fn handle(
    State(node): State<Arc<Node>>,
    Extension(actor): Extension<Actor>,
    Json(request): Json<RevokeEnvelopeKeyRequest>,
) -> Result<axum::Json<KeysStatus>, AdminError> {
    let key = request.key.as_deref();
    let key = key.map(|id| bytes("a key's id", id)).transpose()?;
    let asked = Asked::RevokeEnvelope {
        key: key.map(KeyId),
        since_ms: request.since_ms.unwrap_or(node.clock.now_ms()),
    };
    change(node, actor, asked).await
}
