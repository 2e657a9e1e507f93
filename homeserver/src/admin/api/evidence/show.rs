//! `GET /admin/v1/evidence/{evidence}?after=&limit=`

use std::sync::Arc;

use axum::extract::State;
use federation_proto::ids::{EvidenceId, RoomId};
use homeserver_api::admin::PAGE_ENTRIES_MAX;
use homeserver_api::evidence::EvidenceDetail;
use serde::Deserialize;

use super::super::error::AdminError;
use super::super::extract::{Fields, Name};
use super::{devices, room, summary, unknown};
use crate::delivery::evidence;
use crate::node::Node;

/// Which rooms.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct Page {
    after: Option<RoomId>,
    limit: Option<usize>,
}

/// `GET /admin/v1/evidence/{evidence}?after=&limit=`: what was cut, and what has become of a page of its rooms.
pub(in super::super) async fn handle(
    State(node): State<Arc<Node>>,
    Name(id): Name<EvidenceId>,
    Fields(page): Fields<Page>,
) -> Result<axum::Json<EvidenceDetail>, AdminError> {
    let limit = page.limit.unwrap_or(PAGE_ENTRIES_MAX);
    let limit = limit.clamp(1, PAGE_ENTRIES_MAX);
    let found = evidence::get(&node, id, page.after, limit).await?;
    let (record, rooms) = found.ok_or_else(|| unknown(id))?;
    let waiting = evidence::waiting(&node, id).await?;
    let next_after = rooms
        .last()
        .filter(|_| rooms.len() == limit)
        .map(|(room, _)| *room);
    Ok(axum::Json(EvidenceDetail {
        summary: summary(&node, id, &record, waiting),
        device_list: devices(&record),
        rooms: rooms.into_iter().map(|(id, row)| room(id, row)).collect(),
        next_after,
    }))
}
