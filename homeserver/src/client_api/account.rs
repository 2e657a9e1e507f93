//! The account as its owner sees it, its password, and what the owner rules and agrees to.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use homeserver_api::client::{AccountInfo, AgreeRequest, SignInAgainRequest};
use homeserver_api::password::ChangePasswordRequest;
use homeserver_api::policy::OwnRules;

use super::error::ApiError;
use super::extract::Json;
use crate::identity::{accounts, own_rules, sign_in};
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

/// `PUT /v1/account/rules`
pub(super) async fn set_rules(
    State(node): State<Arc<Node>>,
    Extension(device): Extension<DeviceOf>,
    Json(own): Json<OwnRules>,
) -> Result<StatusCode, ApiError> {
    own_rules::set(&node, device, own).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /v1/account/sign-in`
pub(super) async fn sign_in_again(
    State(node): State<Arc<Node>>,
    Extension(device): Extension<DeviceOf>,
    Json(request): Json<SignInAgainRequest>,
) -> Result<StatusCode, ApiError> {
    sign_in::again(&node, device, &request.password).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /v1/account/banner`
pub(super) async fn agree(
    State(node): State<Arc<Node>>,
    Extension(device): Extension<DeviceOf>,
    Json(request): Json<AgreeRequest>,
) -> Result<StatusCode, ApiError> {
    sign_in::agree(&node, device, &request.banner_sha256).await?;
    Ok(StatusCode::NO_CONTENT)
}
