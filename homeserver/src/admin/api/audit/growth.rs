//! `GET /admin/v1/audit/growth/{from}`

use std::sync::Arc;

use axum::extract::State;
use homeserver_api::admin::AuditGrowth;

use super::super::error::AdminError;
use super::super::extract::Name;
use super::{head_now, hexadecimal, shown};
use crate::audit;
use crate::node::Node;

/// `GET /admin/v1/audit/growth/{from}`: what shows that the log has only grown since it had that many entries.
pub(in super::super) async fn handle(
    State(node): State<Arc<Node>>,
    Name(from): Name<u64>,
) -> Result<axum::Json<AuditGrowth>, AdminError> {
    let head = head_now(&node).await?;
    let now = head.claims().size;
    if from > now {
        return Err(AdminError::NotFound(format!(
            "the audit log has {now} entries: it was never {from} long"
        )));
    }
    let growth = audit::growth(&node.store, from, now).await?;
    Ok(axum::Json(AuditGrowth {
        from,
        path: growth.map_or_else(Vec::new, |growth| hexadecimal(&growth.path)),
        head: shown(&head)?,
    }))
}
