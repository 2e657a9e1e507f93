//! `POST /admin/v1/outbox/{server}/retry`

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use federation_proto::ids::ServerName;

use super::super::error::AdminError;
use super::super::extract::Name;
use crate::audit::{self, Actor, Event};
use crate::node::Node;
use crate::store::Part;

/// `POST /admin/v1/outbox/{server}/retry`: tries the peer at once instead of after its delay.
pub(in super::super) async fn handle(
    State(node): State<Arc<Node>>,
    Extension(actor): Extension<Actor>,
    Name(server): Name<ServerName>,
) -> Result<StatusCode, AdminError> {
    if node.peers.get(&server).is_none() {
        return Err(AdminError::NotFound(format!(
            "there is no peer {server}: `GET /admin/v1/peers` lists them"
        )));
    }
    let event = Event {
        at_ms: node.clock.now_ms(),
        actor,
        action: "outbox.retried",
        subject: server.to_string(),
        detail: String::new(),
    };
    let mut part = Part::default();
    audit::record(&mut part, &event);
    node.store.commit(part).await?;
    node.links.retry_now(&server);
    Ok(StatusCode::ACCEPTED)
}
