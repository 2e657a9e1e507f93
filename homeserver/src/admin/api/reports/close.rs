//! `POST /admin/v1/reports/{report}/close`

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use federation_proto::ids::ReportId;
use homeserver_api::admin::{CloseReportRequest, ReportSummary};

use super::super::error::AdminError;
use super::super::extract::{Json, Name};
use super::{summary, unknown};
use crate::audit::Actor;
use crate::delivery::reports;
use crate::node::Node;

/// `POST /admin/v1/reports/{report}/close`: somebody has dealt with it; once.
pub(in super::super) async fn handle(
    State(node): State<Arc<Node>>,
    Extension(actor): Extension<Actor>,
    Name(report): Name<ReportId>,
    Json(request): Json<CloseReportRequest>,
) -> Result<axum::Json<ReportSummary>, AdminError> {
    let closed = reports::close(&node, &actor, report, &request.note).await?;
    let record = closed.ok_or_else(|| unknown(report))?;
    Ok(axum::Json(summary(&node, report, &record)))
}
