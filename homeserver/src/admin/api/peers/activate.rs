//! `POST /admin/v1/peers/activations`

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use homeserver_api::admin::{PeerDetail, PeeringDocument};

use super::super::error::AdminError;
use super::super::extract::Json;
use crate::audit::Actor;
use crate::federation::peers;
use crate::node::Node;

/// `POST /admin/v1/peers/activations`: takes a countersignature, an amendment, a consent or a
/// declaration from a file, where it can't arrive online.
pub(in super::super) async fn handle(
    State(node): State<Arc<Node>>,
    Extension(actor): Extension<Actor>,
    Json(request): Json<PeeringDocument>,
) -> Result<axum::Json<PeerDetail>, AdminError> {
    let server = peers::take(&node, &actor, &request.document).await?;
    Ok(axum::Json(peers::detail(&node, &server).await?))
}
