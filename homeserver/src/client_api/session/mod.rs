//! `GET /v1/session`: a device's WebSocket, one task for as long as it is open.
//!
//! Frames that have arrived together are one job: their submissions one part of the store, their
//! acknowledgements another. Deliveries go out in frames of what waits, up to the unacknowledged
//! window. Nothing is timed but the ping; a device that doesn't read holds one frame and is cut.

mod connection;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::{Extension, State, WebSocketUpgrade};
use axum::http::HeaderMap;
use axum::response::{IntoResponse as _, Response};
use homeserver_api::client::CLIENT_VERSION_HEADER;
use homeserver_api::policy::ClientVersion;
use homeserver_api::problem::Problem;
use homeserver_api::session::{FRAME_BYTES_MAX, SUBPROTOCOL};

use super::error::ApiError;
use crate::identity::sign_in;
use crate::node::Node;
use crate::store::device::DeviceOf;

/// An idle session's buffers are this small.
const READ_BUFFER_BYTES: usize = 8 * 1024;
const WRITE_BUFFER_BYTES: usize = 8 * 1024;
/// A frame and its header.
const MESSAGE_BYTES_MAX: usize = FRAME_BYTES_MAX + 16;

/// `GET /v1/session`
pub(super) async fn open(
    State(node): State<Arc<Node>>,
    Extension(device): Extension<DeviceOf>,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, ApiError> {
    let upgrade = upgrade.map_err(|rejection| {
        let status = rejection.into_response().status().as_u16();
        ApiError::problem(Problem::new(
            status,
            "upgrade-needed",
            "not a WebSocket upgrade",
            "open this path as a WebSocket (RFC 6455)",
        ))
    })?;
    let upgrade = upgrade.protocols([SUBPROTOCOL]);
    if upgrade.selected_protocol().is_none() {
        return Err(ApiError::problem(Problem::new(
            400,
            "unknown-subprotocol",
            "unknown subprotocol",
            format!("ask for the WebSocket subprotocol {SUBPROTOCOL}"),
        )));
    }
    let client = client_version(&headers);
    sign_in::may_connect(&node, device, client).await?;
    Ok(upgrade
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(WRITE_BUFFER_BYTES)
        .max_message_size(MESSAGE_BYTES_MAX)
        .max_frame_size(MESSAGE_BYTES_MAX)
        .on_upgrade(move |socket| connection::run(node, (device, client), socket)))
}

/// Which version the client says that it is; what is no version counts as nothing said.
fn client_version(headers: &HeaderMap) -> Option<ClientVersion> {
    let value = headers.get(CLIENT_VERSION_HEADER)?;
    value.to_str().ok()?.parse().ok()
}
