//! `GET /admin/v1/audit/entries/{number}?size=`

use std::sync::Arc;

use axum::extract::State;
use homeserver_api::admin::AuditProof;
use serde::Deserialize;

use super::super::error::AdminError;
use super::super::extract::{Fields, Name, Number};
use super::{head_now, hexadecimal, shown};
use crate::audit;
use crate::node::Node;

/// In which log.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct Of {
    size: Option<Number>,
}

/// `GET /admin/v1/audit/entries/{number}?size=`: an entry, and what shows that it is in the log, as it is or as it was
/// when it had that many entries.
pub(in super::super) async fn handle(
    State(node): State<Arc<Node>>,
    Name(number): Name<u64>,
    Fields(of): Fields<Of>,
) -> Result<axum::Json<AuditProof>, AdminError> {
    let head = head_now(&node).await?;
    let now = head.claims().size;
    let size = of.size.map_or(now, |Number(size)| size);
    if size > now {
        return Err(AdminError::NotFound(format!(
            "the audit log has {now} entries: it was never {size} long"
        )));
    }
    let found = audit::entry_proof(&node.store, number, size).await?;
    let proof = found.ok_or_else(|| {
        AdminError::NotFound(format!(
            "the audit log of {size} entries has none with the number {number}: they begin with 1"
        ))
    })?;
    Ok(axum::Json(AuditProof {
        entry: proof.entry,
        size,
        path: hexadecimal(&proof.path),
        head: shown(&head)?,
    }))
}
