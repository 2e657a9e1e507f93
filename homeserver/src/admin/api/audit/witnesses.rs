//! `GET /admin/v1/audit/witnesses`

use std::sync::Arc;

use axum::extract::State;
use federation_proto::audit_log::SignedSighting;
use homeserver_api::admin::{AuditSighting, AuditWitness, AuditWitnesses};

use super::super::error::AdminError;
use super::shown;
use crate::delivery::audit_heads;
use crate::node::Node;

/// `GET /admin/v1/audit/witnesses`: what each peer has seen of our audit log, and what we have seen of its.
pub(in super::super) async fn handle(
    State(node): State<Arc<Node>>,
) -> Result<axum::Json<AuditWitnesses>, AdminError> {
    let mut witnesses = Vec::new();
    for view in node.peers.all() {
        let (told, witnessed) = audit_heads::between(&node, &view.server).await?;
        let theirs = witnessed.as_ref().map(|known| shown(&known.head));
        let fault = witnessed.as_ref().and_then(|known| known.fault.as_ref());
        witnesses.push(AuditWitness {
            server: view.server.clone(),
            told_size: told.size,
            told_ms: told.at_ms,
            seen: told.sighting.as_ref().map(sighting).transpose()?,
            contradiction: told
                .contradiction
                .as_ref()
                .map(|(seen, _)| sighting(seen))
                .transpose()?,
            theirs: theirs.transpose()?,
            fault: fault.map(|(head, _)| shown(head)).transpose()?,
        });
    }
    Ok(axum::Json(AuditWitnesses { witnesses }))
}

fn sighting(seen: &SignedSighting) -> Result<AuditSighting, AdminError> {
    AuditSighting::of(seen).map_err(|error| AdminError::Internal(error.to_string()))
}
