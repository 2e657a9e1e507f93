//! Devices sign in, approve each other and are removed.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use federation_proto::ids::DeviceId;
use homeserver_api::client::{ApproveRequest, EnrolPending, EnrolRequest, EnrolResponse};

use super::access::bearer_token;
use super::error::ApiError;
use super::extract::{Json, Path};
use crate::audit::Actor;
use crate::identity::devices;
use crate::identity::enrolment::{self, Enrolled};
use crate::node::Node;
use crate::store::device::DeviceOf;

/// `POST /v1/devices`
pub(super) async fn enrol(
    State(node): State<Arc<Node>>,
    Json(request): Json<EnrolRequest>,
) -> Result<Answer<(StatusCode, axum::Json<EnrolResponse>)>, ApiError> {
    let enrolled = enrolment::enrol(&node, request).await?;
    Ok(answer(StatusCode::CREATED, enrolled))
}

/// `POST /v1/devices/waiting`: with the token of a device that waits, which is none of a device's yet.
pub(super) async fn poll(
    State(node): State<Arc<Node>>,
    headers: HeaderMap,
) -> Result<Answer<(StatusCode, axum::Json<EnrolResponse>)>, ApiError> {
    let token = bearer_token(&headers).ok_or_else(ApiError::unauthenticated)?;
    let enrolled = enrolment::poll(&node, token).await?;
    Ok(answer(StatusCode::CREATED, enrolled))
}

/// `POST /v1/devices/waiting/{device}`
pub(super) async fn approve(
    State(node): State<Arc<Node>>,
    Extension(caller): Extension<DeviceOf>,
    Path(device): Path<DeviceId>,
    Json(request): Json<ApproveRequest>,
) -> Result<StatusCode, ApiError> {
    enrolment::approve(&node, caller, device, request.statement.0).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `DELETE /v1/devices/waiting/{device}`
pub(super) async fn decline(
    State(node): State<Arc<Node>>,
    Extension(caller): Extension<DeviceOf>,
    Path(device): Path<DeviceId>,
) -> Result<StatusCode, ApiError> {
    enrolment::decline(&node, caller, device).await?;
    Ok(StatusCode::NO_CONTENT)
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

/// A device, or that it waits.
type Answer<T> = std::result::Result<T, Waits>;

/// Not an error: the device has to be approved first.
pub(super) struct Waits(Box<EnrolPending>);

impl IntoResponse for Waits {
    fn into_response(self) -> Response {
        (StatusCode::ACCEPTED, axum::Json(*self.0)).into_response()
    }
}

fn answer(now: StatusCode, enrolled: Enrolled) -> Answer<(StatusCode, axum::Json<EnrolResponse>)> {
    match enrolled {
        Enrolled::Now(response) => Ok((now, axum::Json(response))),
        Enrolled::Waits(pending) => Err(Waits(Box::new(pending))),
    }
}
