//! From what went wrong inside to what an HTTP client is told: the one place that chooses a status.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use federation_proto::refusal::{Refusal, RefusalCode};
use homeserver_api::problem::{PROBLEM_JSON, Problem};

use crate::delivery::NotTaken;
use crate::identity::key_packages::PublishError;
use crate::identity::{IdentityError, barred_code};
use crate::organisation::OrganisationError;
use crate::store::StoreError;

/// An error answer.
#[derive(Debug)]
pub(super) struct ApiError {
    problem: Problem,
    retry_after_s: Option<u64>,
}

impl ApiError {
    /// An answer with this problem.
    pub(super) const fn problem(problem: Problem) -> Self {
        Self {
            problem,
            retry_after_s: None,
        }
    }

    /// An answer that asks to come again.
    pub(super) const fn retry(problem: Problem, after_s: u64) -> Self {
        Self {
            problem,
            retry_after_s: Some(after_s),
        }
    }

    /// An address that has not signed in asks too often.
    pub(super) fn rate_limited() -> Self {
        let problem = Problem::new(
            429,
            RefusalCode::RateLimited.as_str(),
            "too many requests",
            "wait a second between requests from this address",
        );
        Self::retry(problem, 1)
    }

    /// No or no good bearer token.
    pub(super) fn unauthenticated() -> Self {
        Self::problem(Problem::new(
            401,
            "not-signed-in",
            "not signed in",
            "send `Authorization: Bearer TOKEN` with the token of this device's enrolment; if that is what was sent, the device was removed or its account suspended: ask your administrator",
        ))
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status =
            StatusCode::from_u16(self.problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&self.problem).unwrap_or_default();
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(seconds) = self.retry_after_s {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// The causes stay in the log: nothing internal leaves.
fn internal(error: &dyn std::error::Error) -> ApiError {
    tracing::error!(%error, "a request failed");
    ApiError::retry(
        Problem::new(
            503,
            "unavailable",
            "the homeserver can't do this now",
            "try again in a moment; if it goes on, tell your administrator the time of this request",
        ),
        5,
    )
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        internal(&error)
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        let status = match refusal.code {
            RefusalCode::TooLarge | RefusalCode::FilesNotAllowed => 413,
            RefusalCode::Quota | RefusalCode::RateLimited => 429,
            RefusalCode::Malformed | RefusalCode::TtlOutOfBounds => 422,
            RefusalCode::UnknownRecipient | RefusalCode::UnknownRoom => 404,
            RefusalCode::Expired | RefusalCode::RecipientGone => 410,
            RefusalCode::Unavailable => 503,
            _ => 403,
        };
        let error = Self::problem(Problem::from_refusal(status, &refusal));
        match status {
            429 => Self::retry(error.problem, 60),
            503 => Self::retry(error.problem, 5),
            _ => error,
        }
    }
}

impl From<NotTaken> for ApiError {
    fn from(error: NotTaken) -> Self {
        match error {
            NotTaken::Refused(refusal) => refusal.into(),
            NotTaken::Deferred { code, .. } => {
                Refusal::new(code, "not now: try again later").into()
            }
            NotTaken::Store(error) => error.into(),
        }
    }
}

impl From<PublishError> for ApiError {
    fn from(error: PublishError) -> Self {
        match error {
            PublishError::TooMuch(detail) => Self::problem(Problem::new(
                422,
                "too-many-key-packages",
                "too many or too large key packages",
                detail,
            )),
            PublishError::Store(error) => error.into(),
        }
    }
}

impl From<IdentityError> for ApiError {
    fn from(error: IdentityError) -> Self {
        let detail = error.to_string();
        let (status, code, title) = match &error {
            IdentityError::UnknownUser(_) => (404, "unknown-user", "unknown user"),
            IdentityError::UnknownUserType(_) => (404, "unknown-user-type", "unknown user type"),
            IdentityError::UnknownDevice => (404, "unknown-device", "unknown device"),
            IdentityError::HandleTaken(_) => (409, "handle-taken", "handle taken"),
            IdentityError::UserTypeInUse(_) => (409, "user-type-in-use", "user type in use"),
            IdentityError::Invalid(_) => (422, "invalid", "invalid request"),
            IdentityError::SignInFailed => (401, "sign-in-failed", "sign-in failed"),
            IdentityError::WrongPassword => (403, "wrong-password", "wrong password"),
            IdentityError::Suspended => (403, "account-suspended", "account suspended"),
            IdentityError::TooManyDevices(_) => (409, "too-many-devices", "too many devices"),
            IdentityError::ResetForbidden => (403, "reset-forbidden", "reset not permitted"),
            IdentityError::NoDeviceLeft => (409, "no-device-left", "no device left to approve"),
            IdentityError::TooManyWaiting => (409, "too-many-waiting", "too many devices wait"),
            IdentityError::NotWaiting => (404, "not-waiting", "no such device waits"),
            IdentityError::OtherKey => (409, "other-key", "request for another key"),
            IdentityError::Barred(barred) => {
                (403, barred_code(barred), "not before something else")
            }
            IdentityError::SegmentsChanged => (409, "segments-changed", "segments changed"),
            IdentityError::Organisation(OrganisationError::Request(_)) => {
                (422, "bad-certificate-request", "bad certificate request")
            }
            IdentityError::SlowDown { retry_after_ms } => {
                let code = RefusalCode::RateLimited.as_str();
                let problem = Problem::new(429, code, "too many attempts", detail);
                return Self::retry(problem, retry_after_ms.div_ceil(1000));
            }
            IdentityError::Busy => {
                return Self::retry(Problem::new(503, "busy", "busy", detail), 1);
            }
            IdentityError::Organisation(_) | IdentityError::Store(_) | IdentityError::System(_) => {
                return internal(&error);
            }
        };
        Self::problem(Problem::new(status, code, title, detail))
    }
}
