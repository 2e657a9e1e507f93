//! `GET /admin/v1/audit/head`

use std::sync::Arc;

use axum::extract::State;
use homeserver_api::admin::AuditHead;

use super::super::error::AdminError;
use super::{head_now, shown};
use crate::node::Node;

/// `GET /admin/v1/audit/head`: how long the audit log is, and the root over it, signed.
pub(in super::super) async fn handle(
    State(node): State<Arc<Node>>,
) -> Result<axum::Json<AuditHead>, AdminError> {
    Ok(axum::Json(shown(&head_now(&node).await?)?))
}
