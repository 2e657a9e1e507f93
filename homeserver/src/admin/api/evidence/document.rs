//! `GET /admin/v1/evidence/{evidence}/document?after=`

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use federation_proto::armor;
use federation_proto::codec::Wire as _;
use federation_proto::ids::{EvidenceId, RoomId};
use homeserver_api::evidence::EvidencePage;
use serde::Deserialize;

use super::super::error::AdminError;
use super::super::extract::{Fields, Name};
use super::unknown;
use crate::audit::Actor;
use crate::delivery::evidence;
use crate::node::Node;

/// Which page.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct Page {
    after: Option<RoomId>,
}

/// `GET /admin/v1/evidence/{evidence}/document?after=`: a page of the evidence as it stands now, signed by the issuing CA; that
/// it was signed is in the audit log.
pub(in super::super) async fn handle(
    State(node): State<Arc<Node>>,
    Extension(actor): Extension<Actor>,
    Name(id): Name<EvidenceId>,
    Fields(page): Fields<Page>,
) -> Result<axum::Json<EvidencePage>, AdminError> {
    let signed = evidence::page(&node, &actor, id, page.after).await?;
    let signed = signed.ok_or_else(|| unknown(id))?;
    let bytes = signed
        .to_bytes()
        .map_err(|error| AdminError::Internal(error.to_string()))?;
    let rooms = &signed.claims().rooms;
    let last = rooms.last().map(|room| room.room);
    Ok(axum::Json(EvidencePage {
        document: armor::write(armor::Kind::Evidence, &bytes),
        rooms: rooms.len(),
        next_after: last.filter(|_| signed.claims().more),
    }))
}
