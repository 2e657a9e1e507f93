//! `GET /admin/v1/explanations/{explanation}`

use std::sync::Arc;

use axum::extract::State;
use homeserver_api::admin::PartnerHalf;

use super::super::error::AdminError;
use super::super::extract::Name;
use crate::delivery::explain;
use crate::node::Node;

/// `GET /admin/v1/explanations/{explanation}`: what the partner has answered so far.
pub(in super::super) async fn handle(
    State(node): State<Arc<Node>>,
    Name(explanation): Name<String>,
) -> Result<axum::Json<PartnerHalf>, AdminError> {
    let half = explain::answer(&node, &explanation).await?;
    half.map(axum::Json).ok_or_else(|| {
        AdminError::NotFound(
            "no partner is asked under this name, or it did not answer in time: ask anew"
                .to_owned(),
        )
    })
}
