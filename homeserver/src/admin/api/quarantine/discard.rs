//! `DELETE /admin/v1/quarantine/{document}`

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;

use super::super::error::AdminError;
use super::super::extract::Name;
use crate::audit::Actor;
use crate::federation::quarantine;
use crate::node::Node;

/// `DELETE /admin/v1/quarantine/{document}`: throws the document away.
pub(in super::super) async fn handle(
    State(node): State<Arc<Node>>,
    Extension(actor): Extension<Actor>,
    Name(document): Name<String>,
) -> Result<StatusCode, AdminError> {
    quarantine::discard(&node, &actor, &document).await?;
    Ok(StatusCode::NO_CONTENT)
}
