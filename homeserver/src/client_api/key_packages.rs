//! Key packages for others to claim.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use homeserver_api::client::{KeyPackageCount, KeyPackages};

use super::error::ApiError;
use super::extract::Json;
use crate::identity::key_packages;
use crate::node::Node;
use crate::store::device::DeviceOf;

/// `PUT /v1/key-packages`
pub(super) async fn publish(
    State(node): State<Arc<Node>>,
    Extension(device): Extension<DeviceOf>,
    Json(request): Json<KeyPackages>,
) -> Result<axum::Json<KeyPackageCount>, ApiError> {
    let single_use = request.single_use.into_iter().map(|bytes| bytes.0.into());
    let last_resort = request.last_resort.map(|bytes| bytes.0.into());
    let count =
        key_packages::publish(&node, device.device, single_use.collect(), last_resort).await?;
    Ok(axum::Json(count))
}

/// `GET /v1/key-packages`
pub(super) async fn count(
    State(node): State<Arc<Node>>,
    Extension(device): Extension<DeviceOf>,
) -> Result<axum::Json<KeyPackageCount>, ApiError> {
    Ok(axum::Json(key_packages::count(&node, device.device).await?))
}
