//! `GET /admin/v1/audit?after=&limit=`

use std::sync::Arc;

use axum::extract::State;
use homeserver_api::admin::{AuditPage, PAGE_ENTRIES_MAX};
use serde::Deserialize;

use super::super::error::AdminError;
use super::super::extract::Fields;
use crate::audit;
use crate::node::Node;

/// Which entries.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct Page {
    #[serde(default)]
    after: u64,
    limit: Option<usize>,
}

/// `GET /admin/v1/audit?after=&limit=`: a page of the audit log, oldest first.
pub(in super::super) async fn handle(
    State(node): State<Arc<Node>>,
    Fields(page): Fields<Page>,
) -> Result<axum::Json<AuditPage>, AdminError> {
    let limit = page.limit.unwrap_or(PAGE_ENTRIES_MAX);
    let limit = limit.clamp(1, PAGE_ENTRIES_MAX);
    Ok(axum::Json(
        audit::page(&node.store, page.after, limit).await?,
    ))
}
