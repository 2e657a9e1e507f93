//! The account as its owner sees it.

use std::sync::Arc;

use axum::extract::State;
use axum::{Extension, Json};
use homeserver_api::client::AccountInfo;

use super::error::ApiError;
use crate::identity::accounts;
use crate::node::Node;
use crate::store::device::DeviceOf;

/// `GET /v1/account`
pub(super) async fn show(
    State(node): State<Arc<Node>>,
    Extension(device): Extension<DeviceOf>,
) -> Result<Json<AccountInfo>, ApiError> {
    Ok(Json(accounts::info(&node, device.account).await?))
}
