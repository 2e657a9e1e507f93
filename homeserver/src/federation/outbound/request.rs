//! One request to a peer: what is sent, and what the answer may be.

use std::time::Duration;

use bytes::Bytes;
use federation_proto::padding;
use federation_proto::refusal::RefusalCode;
use homeserver_api::problem::Problem;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Limited};

use super::network::Network;
use crate::config::Patience;
use crate::federation::paths;
use crate::federation::peers::PeerView;
use crate::http_client::ConnectionError;

/// Largest body of an answer that refuses.
pub(in crate::federation) const PROBLEM_BYTES_MAX: usize = 8 * 1024;

/// Why a request did not get what it asked for.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum RequestError {
    /// The peer was not reached, or did not answer.
    #[error("{0}")]
    Unreachable(#[from] ConnectionError),
    /// The peer answered that it does not do this, now or ever.
    #[error("{server} answered: {detail:?}")]
    Refused {
        /// The peer.
        server: String,
        /// The answer's status.
        status: StatusCode,
        /// What a program acts on, when the peer said it.
        code: Option<RefusalCode>,
        /// Its reason, or the bare status.
        detail: String,
        /// How long it asks to wait.
        retry_after: Duration,
    },
    /// The answer is signed with a key that no known manifest lists, and a newer one may not be asked for yet.
    #[error("the receipt's key is in no known manifest, and the newest is asked for in a moment")]
    KeysAwaited,
    /// The answer is not what the protocol says.
    #[error("the answer can't be used: {0}")]
    Unusable(String),
}

impl RequestError {
    /// Why the peer could not read a request at all, if that is what it says: something in it is
    /// wrong, and the same request will not fare better.
    pub(super) fn unreadable(&self) -> Option<RefusalCode> {
        match self {
            Self::Refused {
                status: StatusCode::PAYLOAD_TOO_LARGE,
                ..
            } => Some(RefusalCode::TooLarge),
            Self::Refused {
                status: StatusCode::BAD_REQUEST,
                code,
                ..
            } => Some(code.unwrap_or(RefusalCode::Malformed)),
            _ => None,
        }
    }

    /// As an administrator is told it: with what helps, where he alone can help.
    pub(super) fn told(&self) -> String {
        match self {
            Self::Refused {
                server,
                code: Some(RefusalCode::StaleLinkEpoch),
                ..
            } => format!(
                "{self}. `hsctl outbox renumber {server}` sends what waits under new numbers; where it is refused all the \
                 same, again after ten minutes"
            ),
            other => other.to_string(),
        }
    }

    /// Whether the time was too short for the request, or for this link.
    pub(super) fn was_too_slow(&self) -> bool {
        matches!(
            self,
            Self::Unreachable(ConnectionError::Silent(_))
                | Self::Refused {
                    status: StatusCode::REQUEST_TIMEOUT,
                    ..
                }
        )
    }

    /// Whether a smaller request may fare better, whatever the link is.
    pub(super) fn worth_splitting(&self) -> bool {
        let failed = matches!(
            self,
            Self::Refused {
                status: StatusCode::INTERNAL_SERVER_ERROR,
                ..
            }
        );
        failed || self.unreadable().is_some()
    }
}

/// Sends a request to `peer`, padded, and reads at most `bytes_max` of what its answer holds. The head of the answer and
/// the rest of it have their time each, by the length of what is on its way.
pub(super) async fn send(
    network: &dyn Network,
    patience: Patience,
    peer: &PeerView,
    method: Method,
    path: &str,
    body: Bytes,
    bytes_max: usize,
) -> Result<Bytes, RequestError> {
    let body = if method == Method::GET {
        body
    } else {
        padding::pad(&body)
    };
    let request = Request::builder()
        .method(method)
        .uri(format!("https://{}{path}", peer.server))
        .header(header::CONTENT_TYPE, "application/octet-stream")
        .header(header::CONTENT_LENGTH, body.len())
        .body(body)
        .map_err(|error| RequestError::Unusable(error.to_string()))?;
    let within = patience.with(length(request.body().len()));
    #[cfg(feature = "faults")]
    let _turn = crate::faults::turn().await;
    let response = network
        .send(&peer.server, &peer.endpoints, request, within)
        .await?;
    let (head, body) = response.into_parts();
    let limit = if head.status == StatusCode::OK {
        padding::padded_length(bytes_max)
    } else {
        PROBLEM_BYTES_MAX
    };
    let told = paths::number(&head.headers, header::CONTENT_LENGTH.as_str());
    let within = patience.with(told.unwrap_or(u64::MAX).min(length(limit)));
    let body = tokio::time::timeout(within, Limited::new(body, limit).collect())
        .await
        .map_err(|_| ConnectionError::Silent(within))?
        .map_err(|error| match error.downcast::<ConnectionError>() {
            Ok(broken) => RequestError::Unreachable(*broken),
            Err(_) => RequestError::Unusable(format!("it has more than {limit} bytes")),
        })?
        .to_bytes();
    if head.status == StatusCode::OK {
        return padding::unpad(&body, bytes_max)
            .map_err(|error| RequestError::Unusable(error.to_string()));
    }
    let problem = serde_json::from_slice::<Problem>(&body).ok();
    let retry_after = head
        .headers
        .get(header::RETRY_AFTER)
        .and_then(|value| value.to_str().ok()?.parse().ok())
        .map_or(Duration::ZERO, Duration::from_secs);
    Err(RequestError::Refused {
        server: peer.server.to_string(),
        status: head.status,
        code: problem
            .as_ref()
            .and_then(|problem| problem.code().parse().ok()),
        detail: problem.map_or_else(|| head.status.to_string(), |p| clean(&p.detail)),
        retry_after,
    })
}

fn length(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

/// What a peer says goes to our log and our administrators: short, and nothing but text.
fn clean(text: &str) -> String {
    text.chars()
        .filter(|character| !character.is_control())
        .take(300)
        .collect()
}
