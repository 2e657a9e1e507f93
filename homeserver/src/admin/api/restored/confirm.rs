//! `POST /admin/v1/restored/confirm`

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;

use super::super::error::AdminError;
use super::record;
use crate::audit::{self, Actor, Event};
use crate::node::Node;
use crate::store::Part;
use crate::store::restored::{self, RestoredRecord};

/// `POST /admin/v1/restored/confirm`: what came back was compared with what has ended since. People and peers are served from
/// now on, without a restart.
pub(in super::super) async fn handle(
    State(node): State<Arc<Node>>,
    Extension(actor): Extension<Actor>,
) -> Result<StatusCode, AdminError> {
    let record = record(&node).await?;
    if record.is_confirmed {
        return Ok(StatusCode::NO_CONTENT);
    }
    let mut part = Part::default();
    let confirmed = RestoredRecord {
        is_confirmed: true,
        ..record
    };
    restored::put(&mut part, &confirmed)?;
    let event = Event {
        at_ms: node.clock.now_ms(),
        actor,
        action: "server.restore-confirmed",
        subject: node.server.to_string(),
        detail: String::new(),
    };
    audit::record(&mut part, &event);
    node.store.commit(part).await?;
    Ok(StatusCode::NO_CONTENT)
}
