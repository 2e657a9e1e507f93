//! Devices sign in and are removed.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use federation_proto::ids::DeviceId;
use homeserver_api::client::{EnrolRequest, EnrolResponse};

use super::error::ApiError;
use super::extract::{Json, Path};
use crate::audit::Actor;
use crate::identity::devices;
use crate::node::Node;
use crate::store::device::DeviceOf;

/// `POST /v1/devices`
pub(super) async fn enrol(
    State(node): State<Arc<Node>>,
    Json(request): Json<EnrolRequest>,
) -> Result<(StatusCode, axum::Json<EnrolResponse>), ApiError> {
    let response = devices::enrol(&node, request).await?;
    Ok((StatusCode::CREATED, axum::Json(response)))
}

/// `DELETE /v1/devices/{device}`
pub(super) async fn remove(
    State(node): State<Arc<Node>>,
    Extension(caller): Extension<DeviceOf>,
    Path(device): Path<DeviceId>,
) -> Result<StatusCode, ApiError> {
    let of = DeviceOf {
        account: caller.account,
        device,
    };
    devices::remove(&node, &Actor::Device(caller.device), of).await?;
    Ok(StatusCode::NO_CONTENT)
}
