//! `POST /admin/v1/outbox/{server}/retry`

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use federation_proto::ids::ServerName;

use super::super::error::AdminError;
use super::super::extract::Name;
use crate::node::Node;

/// `POST /admin/v1/outbox/{server}/retry`: tries the peer at once instead of after its delay.
pub(in super::super) async fn handle(
    State(node): State<Arc<Node>>,
    Name(server): Name<ServerName>,
) -> Result<StatusCode, AdminError> {
    if node.peers.get(&server).is_none() {
        return Err(AdminError::NotFound(format!(
            "there is no peer {server}: `GET /admin/v1/peers` lists them"
        )));
    }
    node.links.retry_now(&server);
    Ok(StatusCode::ACCEPTED)
}
