//! How requests are read: strictly, and with errors that name the field.

use std::str::FromStr;

use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::header;
use axum::http::request::Parts;
use bytes::Bytes;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::error::AdminError;
use super::{BODY_BYTES_MAX, BODY_TIME_MAX, BodyMax};

/// How the text of a query that can't be read begins.
const QUERY_PROBLEM: &str = "Failed to deserialize query string: ";
/// And of a path.
const PATH_PROBLEM: &str = "Invalid URL: ";
/// Of a wrong value, so much is shown.
const SHOWN_CHARACTERS_MAX: usize = 40;

/// A JSON body; an empty one counts as `{}`, so that requests whose every field is optional need
/// none.
pub(super) struct Json<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = AdminError;

    async fn from_request(request: Request, state: &S) -> Result<Self, AdminError> {
        let is_json = request
            .headers()
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.split(';').next())
            .is_some_and(|value| value.trim().eq_ignore_ascii_case("application/json"));
        let larger = request.extensions().get::<BodyMax>();
        let bytes_max = larger.map_or(BODY_BYTES_MAX, |BodyMax(bytes_max)| *bytes_max);
        let body = tokio::time::timeout(BODY_TIME_MAX, Bytes::from_request(request, state))
            .await
            .map_err(|_| AdminError::TooSlow(BODY_TIME_MAX.as_secs()))?
            .map_err(|rejection| {
                if rejection.status() == axum::http::StatusCode::PAYLOAD_TOO_LARGE {
                    AdminError::TooLarge(bytes_max)
                } else {
                    AdminError::Malformed(rejection.body_text())
                }
            })?;
        let body = match (body.is_empty(), is_json) {
            (true, _) => b"{}".as_slice(),
            (false, true) => &body,
            (false, false) => return Err(AdminError::NotJson),
        };
        serde_json::from_slice(body)
            .map(Self)
            .map_err(|error| AdminError::Malformed(format!("the JSON body is wrong: {error}")))
    }
}

/// The query's fields.
pub(super) struct Fields<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Fields<T> {
    type Rejection = AdminError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, AdminError> {
        match Query::from_request_parts(parts, state).await {
            Ok(Query(fields)) => Ok(Self(fields)),
            Err(rejection) => {
                let text = rejection.body_text();
                // What comes before is the library's; what follows names the field.
                let problem = text.strip_prefix(QUERY_PROBLEM).unwrap_or(&text);
                Err(AdminError::Malformed(format!(
                    "the query is wrong: {problem}"
                )))
            }
        }
    }
}

/// A whole number in a query.
#[derive(Clone, Copy, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Number(pub(super) u64);

impl TryFrom<String> for Number {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse().map(Self).map_err(|_| {
            let shown: String = text.chars().take(SHOWN_CHARACTERS_MAX).collect();
            format!(
                "it takes a whole number from 0 to {}, and `{shown}` is none",
                u64::MAX
            )
        })
    }
}

/// The one identifier in the path.
pub(super) struct Name<T>(pub(super) T);

impl<T, S> FromRequestParts<S> for Name<T>
where
    T: FromStr<Err: std::fmt::Display>,
    S: Send + Sync,
{
    type Rejection = AdminError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, AdminError> {
        let Path(text) = Path::<String>::from_request_parts(parts, state)
            .await
            .map_err(|rejection| bad_path(&rejection))?;
        text.parse()
            .map(Self)
            .map_err(|error: T::Err| AdminError::Malformed(error.to_string()))
    }
}

/// Names are read as text first, so only their encoding can be wrong here.
fn bad_path(rejection: &PathRejection) -> AdminError {
    let text = rejection.body_text();
    let problem = text.strip_prefix(PATH_PROBLEM).unwrap_or(&text);
    AdminError::Malformed(format!(
        "the path is wrong: {problem}; write each name in UTF-8, with percent signs (`%C3%A9`) for what a path can't hold"
    ))
}

/// The two identifiers in the path.
pub(super) struct Names<T, U>(pub(super) T, pub(super) U);

impl<T, U, S> FromRequestParts<S> for Names<T, U>
where
    T: FromStr<Err: std::fmt::Display>,
    U: FromStr<Err: std::fmt::Display>,
    S: Send + Sync,
{
    type Rejection = AdminError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, AdminError> {
        let Path((first, second)) = Path::<(String, String)>::from_request_parts(parts, state)
            .await
            .map_err(|rejection| bad_path(&rejection))?;
        let first = first
            .parse()
            .map_err(|error: T::Err| AdminError::Malformed(error.to_string()))?;
        let second = second
            .parse()
            .map_err(|error: U::Err| AdminError::Malformed(error.to_string()))?;
        Ok(Self(first, second))
    }
}
