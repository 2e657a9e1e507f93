//! A new certificate for a device's key.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use homeserver_api::client::{RenewRequest, RenewResponse};

use super::error::ApiError;
use super::extract::Json;
use crate::identity::devices;
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
