//! `POST /admin/v1/outbox/{server}/retry`

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use federation_proto::ids::ServerName;

use super::super::error::AdminError;
use super::super::extract::Name;
use crate::audit::{self, Actor, Event};
use crate::node::{Node, to_its_end};
use crate::store::{Part, StoreError};

/// `POST /admin/v1/outbox/{server}/retry`: tries the peer at once instead of after its delay.
pub(in super::super) async fn handle(
    State(node): State<Arc<Node>>,
    Extension(actor): Extension<Actor>,
    Name(server): Name<ServerName>,
) -> Result<StatusCode, AdminError> {
    if node.peers.get(&server).is_none() {
        return Err(AdminError::NotFound(format!(
            "there is no peer {server}: `hsctl peer list` (`GET /admin/v1/peers`) shows those that there are"
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
    // Whoever asked may hang up between the two: what is recorded is done all the same.
    let acting = Arc::clone(&node);
    let act = async move {
        acting.store.commit(part).await?;
        acting.links.retry_now(&server);
        Ok::<_, StoreError>(())
    };
    to_its_end(act).await?;
    Ok(StatusCode::ACCEPTED)
}
