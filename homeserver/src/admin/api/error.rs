//! What an administrator's program gets when a request fails; the one place that chooses a status.

use axum::body::Body;
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use federation_proto::refusal::RefusalCode;
use homeserver_api::problem::{PROBLEM_JSON, Problem};

use crate::backup::BackupError;
use crate::identity::IdentityError;
use crate::organisation::{KeeperError, OrganisationError};
use crate::store::StoreError;

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum AdminError {
    /// No token, or one that does not stand.
    #[error("sign in first: POST /admin/v1/sessions with an administrator's name and password")]
    NotSignedIn,
    /// A wrong name or password: one answer for both.
    #[error(
        "the name or the password is wrong: check both; on the homeserver's own machine the admin socket needs neither"
    )]
    SignInFailed,
    /// The administrator does not know the own password.
    #[error("the present password is wrong: check it; another administrator can't set it for you")]
    WrongPassword,
    /// The local socket knows no sessions.
    #[error(
        "the admin socket needs no sign-in and has no password: use this with an administrator's session over TLS"
    )]
    NoSession,
    /// Only whoever may open the local socket may ask for this.
    #[error(
        "this is answered over the admin socket alone: run `hsctl` on the homeserver's own machine, without --server"
    )]
    LocalAlone,
    /// Too many wrong passwords.
    #[error("too many attempts for this name: try again in {0} s")]
    TooManyAttempts(u64),
    /// Too many sign-ins from one address.
    #[error("too many sign-ins from this address: wait a second between them")]
    TooManySignIns,
    /// The request does not say what this endpoint takes.
    #[error("{0}")]
    Malformed(String),
    /// The request's body says that it is something else.
    #[error("send the body as application/json")]
    NotJson,
    /// The request's body is too large.
    #[error("the request's body is larger than {0} bytes")]
    TooLarge(usize),
    /// The request's body did not arrive.
    #[error("the body did not arrive within {0} s: send the whole request at once")]
    TooSlow(u64),
    /// The admin API has no such path.
    #[error(
        "the admin API has no path {0}: docs/operations/http-api.md lists those that it has; check that client and \
         homeserver are of one version"
    )]
    NoSuchPath(String),
    /// What the request speaks of does not exist.
    #[error("{0}")]
    NotFound(String),
    /// The request contradicts what is there; a code that tells which way, and a reason.
    #[error("{1}")]
    Conflict(&'static str, String),
    /// Others are at the same thing, or there is no room just now.
    #[error("{0}")]
    Busy(String),
    /// The homeserver is at fault.
    #[error("{0}")]
    Internal(String),
}

impl From<StoreError> for AdminError {
    fn from(error: StoreError) -> Self {
        Self::Internal(error.to_string())
    }
}

impl From<BackupError> for AdminError {
    fn from(error: BackupError) -> Self {
        match error {
            BackupError::Busy => Self::Busy(error.to_string()),
            _ => Self::Internal(error.to_string()),
        }
    }
}

impl From<IdentityError> for AdminError {
    fn from(error: IdentityError) -> Self {
        let text = error.to_string();
        match error {
            IdentityError::UnknownUser(_)
            | IdentityError::UnknownUserType(_)
            | IdentityError::UnknownDevice => Self::NotFound(text),
            IdentityError::HandleTaken(_) => Self::Conflict("handle-taken", text),
            IdentityError::UserTypeInUse(_) => Self::Conflict("user-type-in-use", text),
            IdentityError::SegmentsChanged => Self::Conflict("segments-changed", text),
            IdentityError::Suspended
            | IdentityError::TooManyDevices(_)
            | IdentityError::ResetForbidden
            | IdentityError::NoDeviceLeft
            | IdentityError::TooManyWaiting
            | IdentityError::NotWaiting
            | IdentityError::Barred(_)
            | IdentityError::OtherKey => Self::Conflict("conflict", text),
            IdentityError::Busy => Self::Busy(text),
            IdentityError::Invalid(_) => Self::Malformed(text),
            IdentityError::SignInFailed => Self::SignInFailed,
            IdentityError::WrongPassword => Self::WrongPassword,
            IdentityError::SlowDown { retry_after_ms } => {
                Self::TooManyAttempts(retry_after_ms.div_ceil(1000))
            }
            IdentityError::Organisation(_) | IdentityError::Store(_) | IdentityError::System(_) => {
                Self::Internal(text)
            }
        }
    }
}

impl From<KeeperError> for AdminError {
    fn from(error: KeeperError) -> Self {
        let text = error.to_string();
        match error {
            KeeperError::Keys(OrganisationError::UnknownKey(_)) => Self::NotFound(text),
            KeeperError::Keys(OrganisationError::Asked(_)) => Self::Malformed(text),
            KeeperError::Keys(_) | KeeperError::Store(_) | KeeperError::Folder(_) => {
                Self::Internal(text)
            }
        }
    }
}

impl AdminError {
    fn problem(&self) -> Problem {
        let detail = self.to_string();
        let new = |status: StatusCode, code: &str, title: &str| {
            Problem::new(status.as_u16(), code, title, detail.clone())
        };
        match self {
            Self::NotSignedIn => new(StatusCode::UNAUTHORIZED, "not-signed-in", "Not signed in"),
            Self::SignInFailed => new(StatusCode::UNAUTHORIZED, "sign-in-failed", "Sign-in failed"),
            Self::WrongPassword => new(StatusCode::FORBIDDEN, "wrong-password", "Wrong password"),
            Self::NoSession => new(StatusCode::CONFLICT, "no-session", "No session"),
            Self::LocalAlone => new(
                StatusCode::FORBIDDEN,
                "local-alone",
                "Over the admin socket alone",
            ),
            Self::TooManyAttempts(_) | Self::TooManySignIns => new(
                StatusCode::TOO_MANY_REQUESTS,
                RefusalCode::RateLimited.as_str(),
                "Too many attempts",
            ),
            Self::Malformed(_) => new(
                StatusCode::BAD_REQUEST,
                "malformed-request",
                "The request can't be read",
            ),
            Self::NotJson => new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unsupported-media-type",
                "Not JSON",
            ),
            Self::TooLarge(_) => new(
                StatusCode::PAYLOAD_TOO_LARGE,
                RefusalCode::TooLarge.as_str(),
                "The request is too large",
            ),
            Self::TooSlow(_) => new(
                StatusCode::REQUEST_TIMEOUT,
                "body-too-slow",
                "The body came too slowly",
            ),
            Self::NoSuchPath(_) => new(StatusCode::NOT_FOUND, "no-such-path", "No such path"),
            Self::NotFound(_) => new(StatusCode::NOT_FOUND, "not-found", "Not found"),
            Self::Conflict(code, _) => {
                new(StatusCode::CONFLICT, code, "Not possible as things stand")
            }
            Self::Busy(_) => new(StatusCode::SERVICE_UNAVAILABLE, "busy", "Busy"),
            Self::Internal(_) => Problem::new(
                StatusCode::INTERNAL_SERVER_ERROR.as_u16(),
                "internal",
                "The homeserver failed",
                "the homeserver could not do this: its log says why",
            ),
        }
    }
}

impl IntoResponse for AdminError {
    fn into_response(self) -> Response {
        if let Self::Internal(error) = &self {
            tracing::error!(%error, "an admin request failed");
        }
        let mut response = answer(&self.problem());
        let headers = response.headers_mut();
        if matches!(self, Self::NotSignedIn | Self::SignInFailed) {
            headers.insert(
                header::WWW_AUTHENTICATE,
                header::HeaderValue::from_static("Bearer"),
            );
        }
        let retry_after_s = match self {
            Self::TooManyAttempts(seconds) => Some(seconds),
            Self::TooManySignIns | Self::Busy(_) => Some(1),
            _ => None,
        };
        if let Some(seconds) = retry_after_s {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}

/// The answer to a path that the admin API does not have.
pub(super) async fn no_such_path(uri: Uri) -> AdminError {
    AdminError::NoSuchPath(uri.path().to_owned())
}

/// The answer to a method that a path does not take.
pub(super) async fn no_such_method(uri: Uri) -> Response {
    answer(&Problem::new(
        StatusCode::METHOD_NOT_ALLOWED.as_u16(),
        "method-not-allowed",
        "Method not allowed",
        format!(
            "{} does not take this method: the Allow header lists those it takes",
            uri.path()
        ),
    ))
}

fn answer(problem: &Problem) -> Response {
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let body = serde_json::to_vec(problem).unwrap_or_default();
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static(PROBLEM_JSON),
    );
    response
}
