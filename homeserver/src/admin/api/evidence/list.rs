//! `GET /admin/v1/evidence?state=&before=&limit=`

use std::sync::Arc;

use axum::extract::State;
use federation_proto::ids::EvidenceId;
use homeserver_api::admin::PAGE_ENTRIES_MAX;
use homeserver_api::evidence::{EvidenceList, EvidenceState};
use serde::Deserialize;

use super::super::error::AdminError;
use super::super::extract::Fields;
use super::summary;
use crate::delivery::evidence;
use crate::node::Node;

/// Which, and how many.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct Page {
    state: Option<EvidenceState>,
    before: Option<EvidenceId>,
    limit: Option<usize>,
}

/// `GET /admin/v1/evidence?state=&before=&limit=`: who was cut off, newest first; of both states when none is named.
pub(in super::super) async fn handle(
    State(node): State<Arc<Node>>,
    Fields(page): Fields<Page>,
) -> Result<axum::Json<EvidenceList>, AdminError> {
    let limit = page.limit.unwrap_or(PAGE_ENTRIES_MAX);
    let limit = limit.clamp(1, PAGE_ENTRIES_MAX);
    let complete = page.state.map(|state| state == EvidenceState::Complete);
    let found = evidence::list(&node, page.before, complete, limit).await?;
    let next_before = found
        .last()
        .filter(|_| found.len() == limit)
        .map(|(id, _, _)| *id);
    let evidence = found
        .iter()
        .map(|(id, record, waiting)| summary(&node, *id, record, *waiting))
        .collect();
    Ok(axum::Json(EvidenceList {
        evidence,
        next_before,
    }))
}
