//! `GET /admin/v1/reports/{report}`

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use federation_proto::ids::ReportId;
use homeserver_api::admin::ReportDetail;

use super::super::error::AdminError;
use super::super::extract::Name;
use super::{detail, unknown};
use crate::audit::Actor;
use crate::delivery::reports;
use crate::node::Node;

/// `GET /admin/v1/reports/{report}`: one report with what it discloses; that it was read is in the audit log.
pub(in super::super) async fn handle(
    State(node): State<Arc<Node>>,
    Extension(actor): Extension<Actor>,
    Name(report): Name<ReportId>,
) -> Result<axum::Json<ReportDetail>, AdminError> {
    let record = reports::read(&node, &actor, report).await?;
    let record = record.ok_or_else(|| unknown(report))?;
    Ok(axum::Json(detail(&node, report, record)))
}
