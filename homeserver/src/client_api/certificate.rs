//! A new certificate for a device's key, and the one that rooms know this homeserver by.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use homeserver_api::client::{RenewRequest, RenewResponse, RoomCertificate};

use super::error::ApiError;
use super::extract::Json;
use crate::identity::{IdentityError, devices};
use crate::node::Node;
use crate::store::device::DeviceOf;

/// `POST /v1/certificate`
pub(super) async fn renew(
    State(node): State<Arc<Node>>,
    Extension(device): Extension<DeviceOf>,
    Json(request): Json<RenewRequest>,
) -> Result<axum::Json<RenewResponse>, ApiError> {
    Ok(axum::Json(devices::renew(&node, device, request).await?))
}

/// `GET /v1/room-certificate`
pub(super) async fn room(
    State(node): State<Arc<Node>>,
) -> Result<axum::Json<RoomCertificate>, ApiError> {
    let now_ms = node.clock.now_ms();
    let chain = node
        .keys
        .room_chain(now_ms, node.random.as_ref())
        .map_err(IdentityError::from)?;
    Ok(axum::Json(RoomCertificate {
        chain: chain.iter().map(|der| der.to_vec().into()).collect(),
    }))
}
