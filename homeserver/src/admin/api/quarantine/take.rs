//! `POST /admin/v1/quarantine/{document}/take`

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use homeserver_api::admin::PeeringDocument;

use super::super::error::AdminError;
use super::super::extract::Name;
use crate::audit::Actor;
use crate::federation::quarantine;
use crate::node::Node;

/// `POST /admin/v1/quarantine/{document}/take`: takes the document out, for the ceremony.
pub(in super::super) async fn handle(
    State(node): State<Arc<Node>>,
    Extension(actor): Extension<Actor>,
    Name(document): Name<String>,
) -> Result<axum::Json<PeeringDocument>, AdminError> {
    Ok(axum::Json(
        quarantine::take(&node, &actor, &document).await?,
    ))
}
