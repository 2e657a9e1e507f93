//! Who may call: a device by its bearer token, once its user has done what the user type asks for, or anyone within the
//! rate limit.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, Uri, header};
use axum::middleware::Next;
use axum::response::Response;
use homeserver_api::problem::Problem;

use super::error::ApiError;
use crate::identity::sign_in::{self, Caller};
use crate::identity::{IdentityError, RateLimit, Remote};
use crate::node::Node;

/// Who may call a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// Anyone, within the rate limit of their address.
    Public,
    /// A device, by its bearer token, whose user has signed in and agreed to the notice.
    Device,
    /// A device, by its bearer token, whatever is missing.
    Known,
}

/// What the check needs.
#[derive(Clone)]
pub(super) struct AccessState {
    pub(super) node: Arc<Node>,
    pub(super) limit: Arc<RateLimit>,
    pub(super) access: Access,
}

/// Lets a request through to its handler, with [`crate::store::device::DeviceOf`] as an extension when a device calls.
pub(super) async fn check(
    State(state): State<AccessState>,
    mut request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let remote = request.extensions().get::<Remote>().copied();
    let limited = || {
        let now_ms = state.node.clock.now_ms();
        match state.limit.take(remote, now_ms) {
            true => Ok(()),
            false => Err(ApiError::rate_limited()),
        }
    };
    if state.access != Access::Public {
        if let Some(caller) = caller(&state.node, request.headers()).await? {
            match caller.barred {
                Some(barred) if state.access == Access::Device => {
                    return Err(IdentityError::Barred(barred).into());
                }
                Some(_) | None => {}
            }
            request.extensions_mut().insert(caller.of);
            return Ok(next.run(request).await);
        }
        limited()?;
        return Err(ApiError::unauthenticated());
    }
    limited()?;
    Ok(next.run(request).await)
}

async fn caller(node: &Node, headers: &HeaderMap) -> Result<Option<Caller>, ApiError> {
    match bearer_token(headers) {
        Some(token) => Ok(sign_in::authenticate(node, token).await?),
        None => Ok(None),
    }
}

/// The bearer token of a request.
pub(super) fn bearer_token(headers: &HeaderMap) -> Option<&str> {
    /// Longer than any token that was ever issued.
    const TOKEN_BYTES_MAX: usize = 128;
    headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim())
        .filter(|token| token.len() <= TOKEN_BYTES_MAX)
}

/// For every path that the client API does not have.
pub(super) async fn no_such_path(uri: Uri) -> ApiError {
    ApiError::problem(Problem::new(
        404,
        "no-such-path",
        "No such path",
        format!(
            "the client API has no path {}: docs/operations/http-api.md lists those that it has; check that client and \
             homeserver are of one version",
            uri.path()
        ),
    ))
}

/// For every method that a path does not have.
pub(super) async fn method_not_allowed() -> ApiError {
    ApiError::problem(Problem::new(
        405,
        "method-not-allowed",
        "Method not allowed",
        "use a method that the Allow header lists",
    ))
}
