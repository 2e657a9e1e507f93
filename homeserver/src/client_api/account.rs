//! The account as its owner sees it, and its password.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use homeserver_api::client::AccountInfo;
use homeserver_api::password::ChangePasswordRequest;

use super::error::ApiError;
use super::extract::Json;
use crate::identity::accounts;
use crate::node::Node;
use crate::store::device::DeviceOf;

/// `GET /v1/account`
pub(super) async fn show(
    State(node): State<Arc<Node>>,
    Extension(device): Extension<DeviceOf>,
) -> Result<axum::Json<AccountInfo>, ApiError> {
    Ok(axum::Json(accounts::info(&node, device.account).await?))
}

/// `POST /v1/account/password`
pub(super) async fn change_password(
    State(node): State<Arc<Node>>,
    Extension(device): Extension<DeviceOf>,
    Json(request): Json<ChangePasswordRequest>,
) -> Result<StatusCode, ApiError> {
    accounts::change_password(&node, device, request).await?;
    Ok(StatusCode::NO_CONTENT)
}
