//! `POST /federation/v1/offers`, on the listener for strangers

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use federation_proto::limits::PEERING_DOCUMENT_BYTES_MAX;
use federation_proto::refusal::RefusalCode;

use super::error::FederationError;
use super::transactions::read_as_it_is;
use crate::federation::quarantine::{self, QuarantineError};
use crate::identity::{RateLimit, Remote, network};
use crate::node::Node;

/// Largest text: base64 of the largest document, with some room for line ends.
const BODY_BYTES_MAX: usize = 2 * PEERING_DOCUMENT_BYTES_MAX;
/// When somebody may come again who came too often, or found no room.
const AGAIN_AFTER_S: u64 = 60;

/// `POST /federation/v1/offers`: keeps a stranger's armored offer or acceptance until an administrator looks
/// at it; for anybody. It has no other effect.
pub(super) async fn handle(
    State(node): State<Arc<Node>>,
    Extension(limit): Extension<Arc<RateLimit>>,
    Extension(remote): Extension<Remote>,
    request: Request,
) -> Result<StatusCode, FederationError> {
    let later = |code, detail: String| FederationError::Later {
        code,
        detail,
        retry_after_s: AGAIN_AFTER_S,
    };
    if !limit.take(Some(remote), node.clock.now_ms()) {
        let detail = "you bring documents too often".to_owned();
        return Err(later(RefusalCode::RateLimited, detail));
    }
    // Whoever is not known is not waited for any longer, whatever length it tells.
    let within = node.config.federation.patience.least;
    let body = read_as_it_is(request, BODY_BYTES_MAX, within).await?;
    let text = std::str::from_utf8(&body).map_err(|_| {
        FederationError::Malformed("the body is not an armored document".to_owned())
    })?;
    match quarantine::receive(&node, network(remote.0.ip()), text).await {
        Ok(()) => Ok(StatusCode::ACCEPTED),
        Err(QuarantineError::Document(problem)) => Err(FederationError::Malformed(problem)),
        Err(error @ QuarantineError::Full) => {
            Err(later(RefusalCode::Unavailable, error.to_string()))
        }
        Err(QuarantineError::Store(error)) => Err(error.into()),
    }
}
