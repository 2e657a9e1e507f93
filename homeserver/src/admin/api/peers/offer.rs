//! `POST /admin/v1/peers/offers`

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use homeserver_api::admin::{OfferRequest, PeeringDocument};

use super::super::error::AdminError;
use super::super::extract::Json;
use super::granted::unknown_user_types;
use crate::audit::Actor;
use crate::federation::peers;
use crate::node::Node;

/// `POST /admin/v1/peers/offers`: makes an offer for a partner.
pub(in super::super) async fn handle(
    State(node): State<Arc<Node>>,
    Extension(actor): Extension<Actor>,
    Json(request): Json<OfferRequest>,
) -> Result<(StatusCode, axum::Json<PeeringDocument>), AdminError> {
    let document = peers::offer(&node, &actor, &request).await?;
    let terms = request.terms.iter();
    let grants = terms.flat_map(|terms| terms.outbound.iter().chain(&terms.inbound));
    let warnings = unknown_user_types(&node, &Vec::from_iter(grants)).await?;
    Ok((
        StatusCode::CREATED,
        axum::Json(PeeringDocument { document, warnings }),
    ))
}
