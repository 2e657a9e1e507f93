//! `GET /admin/v1/audit?after=&limit=`

use std::sync::Arc;

use axum::extract::State;
use homeserver_api::admin::AuditPage;
use serde::Deserialize;

use super::super::error::AdminError;
use super::super::extract::{Fields, Number};
use super::super::records::entries;
use crate::audit;
use crate::node::Node;

/// Which entries.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct Page {
    after: Option<Number>,
    limit: Option<Number>,
}

/// `GET /admin/v1/audit?after=&limit=`: a page of the audit log, oldest first.
pub(in super::super) async fn handle(
    State(node): State<Arc<Node>>,
    Fields(page): Fields<Page>,
) -> Result<axum::Json<AuditPage>, AdminError> {
    let random = node.random.as_ref();
    let after = page.after.map_or(0, |Number(after)| after);
    Ok(axum::Json(
        audit::page(&node.store, random, after, entries(page.limit)).await?,
    ))
}
