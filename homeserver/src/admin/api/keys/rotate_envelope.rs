//! `POST /admin/v1/keys/envelope/rotate`

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use federation_proto::keys::KeyId;
use homeserver_api::keys::{KeysStatus, RotateKeyRequest};

use super::super::error::AdminError;
use super::super::extract::Json;
use super::{bytes, change};
use crate::audit::Actor;
use crate::node::Node;
use crate::organisation::Asked;

/// `POST /admin/v1/keys/envelope/rotate`: the next envelope key takes over, and another is announced.
pub(in super::super) async fn handle(
    State(node): State<Arc<Node>>,
    Extension(actor): Extension<Actor>,
    Json(request): Json<RotateKeyRequest>,
) -> Result<axum::Json<KeysStatus>, AdminError> {
    let replaces = request.replaces.as_deref();
    let replaces = replaces.map(|id| bytes("a key's id", id)).transpose()?;
    let asked = Asked::RotateEnvelope {
        replaces: replaces.map(KeyId),
    };
    change(node, actor, asked).await
}
