//! `GET /admin/v1/reports?state=&before=&limit=`

use std::sync::Arc;

use axum::extract::State;
use federation_proto::ids::ReportId;
use homeserver_api::admin::{PAGE_ENTRIES_MAX, ReportState, Reports};
use serde::Deserialize;

use super::super::error::AdminError;
use super::super::extract::Fields;
use super::summary;
use crate::delivery::reports;
use crate::node::Node;

/// Which, and how many.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct Page {
    state: Option<ReportState>,
    before: Option<ReportId>,
    limit: Option<usize>,
}

/// `GET /admin/v1/reports?state=&before=&limit=`: reports, newest first; of both states when none is named.
pub(in super::super) async fn handle(
    State(node): State<Arc<Node>>,
    Fields(page): Fields<Page>,
) -> Result<axum::Json<Reports>, AdminError> {
    let limit = page.limit.unwrap_or(PAGE_ENTRIES_MAX);
    let limit = limit.clamp(1, PAGE_ENTRIES_MAX);
    let open = page.state.map(|state| state == ReportState::Open);
    let found = reports::list(&node, page.before, open, limit).await?;
    let next_before = found
        .last()
        .filter(|_| found.len() == limit)
        .map(|(report, _)| *report);
    let reports = found
        .iter()
        .map(|(report, record)| summary(&node, *report, record))
        .collect();
    Ok(axum::Json(Reports {
        reports,
        next_before,
    }))
}
