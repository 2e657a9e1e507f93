//! Whom of other organisations a person lets start conversations with him.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use federation_proto::ids::Address;
use homeserver_api::contacts::{ContactInfo, ContactRequest, Contacts};

use super::error::ApiError;
use super::extract::{Json, Path};
use crate::delivery::contacts;
use crate::node::Node;
use crate::store::device::DeviceOf;

/// `GET /v1/contacts`
pub(super) async fn list(
    State(node): State<Arc<Node>>,
    Extension(device): Extension<DeviceOf>,
) -> Result<axum::Json<Contacts>, ApiError> {
    let contacts = contacts::list(&node, device.account).await?;
    Ok(axum::Json(Contacts { contacts }))
}

/// `PUT /v1/contacts/{address}`
pub(super) async fn act(
    State(node): State<Arc<Node>>,
    Extension(device): Extension<DeviceOf>,
    Path(address): Path<Address>,
    Json(request): Json<ContactRequest>,
) -> Result<axum::Json<ContactInfo>, ApiError> {
    let done = contacts::act(&node, device, &address, &request).await?;
    Ok(axum::Json(done))
}

/// `DELETE /v1/contacts/{address}`
pub(super) async fn remove(
    State(node): State<Arc<Node>>,
    Extension(device): Extension<DeviceOf>,
    Path(address): Path<Address>,
) -> Result<StatusCode, ApiError> {
    contacts::remove(&node, device, &address).await?;
    Ok(StatusCode::NO_CONTENT)
}
