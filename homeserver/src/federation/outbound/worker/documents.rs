//! Signed documents for the peer: amendments, consents, and what was decided here. They go before mail, one
//! at a time, in their order.

use std::time::Duration;

use http::{Method, StatusCode};
use tokio::time::Instant;

use super::super::backoff::jittered;
use super::super::request::{self, RequestError};
use super::{Step, Worker};
use crate::federation::paths;
use crate::federation::peers::{self, PeerState, PeerView};
use crate::store::StoreError;
use crate::store::peer::OutgoingKind;

/// A document that the peer could not take is brought again after this time; mail goes on meanwhile.
const AGAIN_AFTER: Duration = Duration::from_secs(60);
/// A peer may ask for it sooner, and not sooner than this.
const AGAIN_AFTER_MIN: Duration = Duration::from_secs(5);
/// A former peer is told that the agreement has ended until its last day, and for no longer than this.
const FAREWELL_MS_MAX: u64 = 30 * DAY_MS;
/// After this time it is called only
const FAREWELL_SOON_MS: u64 = DAY_MS;
/// so often, and when it shows that it is there: spread, that is five minutes and more (PEER-051).
const FAREWELL_EVERY: Duration = Duration::from_secs(375);
const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// Whether the same document will not fare better (PEER-049): whatever else is answered may pass.
fn is_final(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::CONFLICT | StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE
    )
}

fn again_after(error: &RequestError) -> Duration {
    match error {
        RequestError::Refused { retry_after, .. } if !retry_after.is_zero() => {
            (*retry_after).clamp(AGAIN_AFTER_MIN, AGAIN_AFTER)
        }
        _ => AGAIN_AFTER,
    }
}

impl Worker {
    /// Delivers the next document; `None`: there is none to be delivered now.
    pub(super) async fn deliver_documents(
        &mut self,
        peer: &PeerView,
    ) -> Result<Option<Step>, StoreError> {
        let Some(document) = peer.outgoing.first() else {
            self.documents_at = None;
            return Ok(None);
        };
        if self.documents_at.is_some_and(|at| Instant::now() < at) {
            return Ok(None);
        }
        self.documents_at = None;
        if self.farewell_is_over(peer) {
            let why = "it was not reached in the time in which a former peer is told of the end";
            peers::document_settled(&self.node, &self.server, document, Some(why)).await?;
            return Ok(Some(Step::Again));
        }
        let path = match document.kind {
            OutgoingKind::Amendment => paths::AMENDMENT,
            OutgoingKind::Consent => paths::CONSENT,
            OutgoingKind::Declaration => paths::DECLARATION,
        };
        let sent = request::send(
            self.network.as_ref(),
            self.node.config.federation.patience,
            peer,
            Method::POST,
            path,
            document.bytes.clone(),
            0,
        )
        .await;
        let refusal = match sent {
            Ok(_) => None,
            // It does not fit how things stand there, or can't be read, and never will.
            Err(error @ RequestError::Refused { status, .. }) if is_final(status) => {
                Some(error.to_string())
            }
            Err(error @ RequestError::Unreachable(_)) => {
                let step = self.failed(&error).await?;
                let slow = jittered(FAREWELL_EVERY, self.random());
                return Ok(Some(match step {
                    Step::Delay(_) if self.ended_long_ago(peer) => Step::Delay(slow),
                    step => step,
                }));
            }
            Err(error) => {
                tracing::warn!(server = %self.server, %error, "a document was not taken");
                self.documents_at = Some(Instant::now() + again_after(&error));
                self.link
                    .update(|status| status.last_error = Some(error.to_string()));
                return Ok(None);
            }
        };
        self.backoff.reset();
        peers::document_settled(&self.node, &self.server, document, refusal.as_deref()).await?;
        Ok(Some(Step::Again))
    }

    /// Nothing to do until there is mail, or until documents are tried again.
    pub(super) fn idle(&self) -> Step {
        self.documents_at.map_or(Step::Idle, |at| {
            Step::Mail(at.saturating_duration_since(Instant::now()))
        })
    }

    fn farewell_is_over(&self, peer: &PeerView) -> bool {
        let now_ms = self.node.clock.now_ms();
        peer.agreed == Some(PeerState::Revoked)
            && peer.ended.is_none_or(|ended| {
                let longest_ms = ended.at_ms.saturating_add(FAREWELL_MS_MAX);
                now_ms >= ended.last_day_ms.min(longest_ms)
            })
    }

    fn ended_long_ago(&self, peer: &PeerView) -> bool {
        let now_ms = self.node.clock.now_ms();
        peer.ended
            .is_some_and(|ended| now_ms >= ended.at_ms.saturating_add(FAREWELL_SOON_MS))
    }
}
