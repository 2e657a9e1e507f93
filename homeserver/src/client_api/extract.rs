//! Requests read strictly; whatever is wrong with one becomes a problem that says what to do.

use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::header;
use axum::http::request::Parts;
use homeserver_api::problem::Problem;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::de::DeserializeOwned;

use super::error::ApiError;
use super::limits::BODY_TIME_MAX;

/// Most bytes of a JSON body; set for each route by the route table.
#[derive(Debug, Clone, Copy)]
pub(super) struct BodyLimit(pub(super) usize);

/// A JSON body.
pub(super) struct Json<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        let is_json = request
            .headers()
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.split(';').next())
            .is_some_and(|value| value.trim().eq_ignore_ascii_case("application/json"));
        if !is_json {
            return Err(ApiError::problem(Problem::new(
                415,
                "unsupported-media-type",
                "not JSON",
                "send the body as application/json",
            )));
        }
        let limit = request
            .extensions()
            .get::<BodyLimit>()
            .map_or(0, |limit| limit.0);
        let bytes = read(request.into_body(), limit).await?;
        serde_json::from_slice(&bytes).map(Self).map_err(|error| {
            ApiError::problem(Problem::new(
                400,
                "bad-json",
                "the body is not what this request asks for",
                format!("{error}: docs/operations/http-api.md says what this request takes"),
            ))
        })
    }
}

/// A body of at most `limit` bytes that arrives in time.
async fn read(body: Body, limit: usize) -> Result<bytes::Bytes, ApiError> {
    let collected = Limited::new(body, limit).collect();
    let error = match tokio::time::timeout(BODY_TIME_MAX, collected).await {
        Ok(Ok(collected)) => return Ok(collected.to_bytes()),
        Ok(Err(error)) => error,
        Err(_) => return Err(too_slow(format!("within {} s", BODY_TIME_MAX.as_secs()))),
    };
    if error.downcast_ref::<LengthLimitError>().is_some() {
        return Err(ApiError::problem(Problem::new(
            413,
            "too-large",
            "the body is too large",
            format!("send at most {limit} bytes"),
        )));
    }
    Err(ApiError::problem(Problem::new(
        400,
        "body-cut-off",
        "the body was cut off",
        "send the request again",
    )))
}

/// The answer to a body that does not arrive as it should, in these words.
pub(super) fn too_slow(wanted: String) -> ApiError {
    ApiError::problem(Problem::new(
        408,
        "body-too-slow",
        "the body came too slowly",
        format!("send the whole body {wanted}"),
    ))
}

/// Values in the path.
pub(super) struct Path<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Path<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        match axum::extract::Path::<T>::from_request_parts(parts, state).await {
            Ok(axum::extract::Path(value)) => Ok(Self(value)),
            Err(rejection) => Err(ApiError::problem(Problem::new(
                400,
                "bad-path",
                "the path is not well formed",
                format!(
                    "{}: docs/operations/http-api.md says what stands where in the path; write it in UTF-8, with percent \
                     signs for what a path can't hold",
                    rejection.body_text()
                ),
            ))),
        }
    }
}
