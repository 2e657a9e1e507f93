//! What a peer gets when its request fails; the one place that chooses a status.

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use federation_proto::limits::PADDED_BYTES_MIN;
use federation_proto::refusal::{Refusal, RefusalCode};
use homeserver_api::problem::{PROBLEM_JSON, Problem};

use crate::federation::paths;
use crate::federation::peers::PeeringError;
use crate::store::StoreError;

/// What is from the future is asked for again after this many seconds.
pub(super) const TOO_EARLY_RETRY_S: u64 = 60;
/// One whose maker's keys are being fetched, after this many.
const KEYS_AWAITED_RETRY_S: u64 = 5;

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum FederationError {
    /// The agreement, or the protocol's state, does not let the peer do this.
    #[error("{0}")]
    Refused(Refusal),
    /// The bytes are not what they should be.
    #[error("{0}")]
    Malformed(String),
    /// Larger than a limit.
    #[error("the body is larger than {0} bytes")]
    TooLarge(usize),
    /// The body came too slowly.
    #[error("the body did not arrive within {0} s")]
    TooSlow(u64),
    /// Not now.
    #[error("{detail}")]
    Later {
        /// What a program acts on.
        code: RefusalCode,
        /// Why.
        detail: String,
        /// When to come again.
        retry_after_s: u64,
    },
    /// It contradicts what is here.
    #[error("{0}")]
    Conflict(String),
    /// What is asked for is not here, or no longer.
    #[error("{0}")]
    Gone(Refusal),
    /// No such path.
    #[error(
        "the federation API has no path {0}: speak one of the protocol versions that `GET {probe}` lists, at its paths",
        probe = paths::PROBE
    )]
    NoSuchPath(String),
    /// No such method of a path.
    #[error("{0} does not take this method: the Allow header lists those it takes")]
    NoSuchMethod(String),
    /// This homeserver is at fault.
    #[error("{0}")]
    Internal(String),
}

impl From<Refusal> for FederationError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<StoreError> for FederationError {
    fn from(error: StoreError) -> Self {
        Self::Internal(error.to_string())
    }
}

impl From<PeeringError> for FederationError {
    fn from(error: PeeringError) -> Self {
        match error {
            PeeringError::Document(_) | PeeringError::Statement(_) => {
                Self::Malformed(error.to_string())
            }
            PeeringError::State(_)
            | PeeringError::UnknownPeer(_)
            | PeeringError::NotInQuarantine(_) => Self::Conflict(error.to_string()),
            PeeringError::Busy => Self::Later {
                code: RefusalCode::Unavailable,
                detail: error.to_string(),
                retry_after_s: 1,
            },
            PeeringError::TooEarly(detail) | PeeringError::NotYet(detail) => Self::Later {
                code: RefusalCode::Unavailable,
                detail,
                retry_after_s: TOO_EARLY_RETRY_S,
            },
            PeeringError::KeysAwaited(detail) => Self::Later {
                code: RefusalCode::Unavailable,
                detail,
                retry_after_s: KEYS_AWAITED_RETRY_S,
            },
            PeeringError::Internal(text) => Self::Internal(text),
            PeeringError::Store(error) => error.into(),
        }
    }
}

impl FederationError {
    /// The peer asks for too much at once.
    pub(super) fn too_fast(retry_after_s: u64, what: &str) -> Self {
        Self::Later {
            code: RefusalCode::RateLimited,
            detail: format!("{what} than this server takes from one peer"),
            retry_after_s,
        }
    }

    fn problem(&self) -> Problem {
        let new = |status: StatusCode, code: &str, title: &str| {
            Problem::new(status.as_u16(), code, title, self.to_string())
        };
        match self {
            Self::Refused(refusal) => {
                let status = if refusal.code == RefusalCode::StaleLinkEpoch {
                    StatusCode::CONFLICT
                } else {
                    StatusCode::FORBIDDEN
                };
                Problem::from_refusal(status.as_u16(), refusal)
            }
            Self::Malformed(_) => new(
                StatusCode::BAD_REQUEST,
                RefusalCode::Malformed.as_str(),
                "The request can't be read",
            ),
            Self::TooLarge(_) => new(
                StatusCode::PAYLOAD_TOO_LARGE,
                RefusalCode::TooLarge.as_str(),
                "The request is too large",
            ),
            Self::TooSlow(_) => new(
                StatusCode::REQUEST_TIMEOUT,
                RefusalCode::Unavailable.as_str(),
                "The request came too slowly",
            ),
            Self::Later { code, .. } => {
                let status = if *code == RefusalCode::RateLimited {
                    StatusCode::TOO_MANY_REQUESTS
                } else {
                    StatusCode::SERVICE_UNAVAILABLE
                };
                new(status, code.as_str(), "Not now")
            }
            Self::Conflict(_) => new(
                StatusCode::CONFLICT,
                "conflict",
                "Not possible as things stand",
            ),
            Self::Gone(refusal) => Problem::from_refusal(StatusCode::NOT_FOUND.as_u16(), refusal),
            Self::NoSuchPath(_) => new(StatusCode::NOT_FOUND, "not-found", "Not found"),
            Self::NoSuchMethod(_) => new(
                StatusCode::METHOD_NOT_ALLOWED,
                "method-not-allowed",
                "Method not allowed",
            ),
            Self::Internal(_) => Problem::new(
                StatusCode::INTERNAL_SERVER_ERROR.as_u16(),
                "internal",
                "The homeserver failed",
                "the homeserver could not do this: its own log says why",
            ),
        }
    }
}

impl IntoResponse for FederationError {
    fn into_response(self) -> Response {
        if let Self::Internal(error) = &self {
            tracing::error!(%error, "a federation request failed");
        }
        let problem = self.problem();
        let status =
            StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut body = serde_json::to_vec(&problem).unwrap_or_default();
        // White space that follows is no part of it, and its length is that of any other short answer.
        if body.len() < PADDED_BYTES_MIN {
            body.resize(PADDED_BYTES_MIN, b' ');
        }
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        if let Self::Later { retry_after_s, .. } = self {
            headers.insert(header::RETRY_AFTER, retry_after_s.into());
        }
        response
    }
}

/// The answer to a path that the federation API does not have.
pub(super) async fn no_such_path(uri: Uri) -> FederationError {
    FederationError::NoSuchPath(uri.path().to_owned())
}

/// The answer to a method that a path does not take; the router adds those that it takes.
pub(super) async fn no_such_method(uri: Uri) -> FederationError {
    FederationError::NoSuchMethod(uri.path().to_owned())
}
