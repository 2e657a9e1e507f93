//! Who makes a request.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header;
use axum::middleware::Next;
use axum::response::Response;

use super::error::AdminError;
use crate::admin::sessions;
use crate::audit::Actor;
use crate::node::Node;

/// Lets a request pass with its [`Actor`], and its [`sessions::Session`] over the network, or answers 401.
pub(super) async fn require_administrator(
    State(node): State<Arc<Node>>,
    mut request: Request,
    next: Next,
) -> Result<Response, AdminError> {
    // The local listener puts the actor there itself; extensions never come from the wire.
    if request.extensions().get::<Actor>().is_none() {
        let token = bearer_token(&request).ok_or(AdminError::NotSignedIn)?;
        let session = sessions::session(&node, token).await?;
        let session = session.ok_or(AdminError::NotSignedIn)?;
        let actor = Actor::Admin(session.name.clone());
        request.extensions_mut().insert(actor);
        request.extensions_mut().insert(session);
    }
    Ok(next.run(request).await)
}

fn bearer_token(request: &Request) -> Option<&str> {
    let value = request
        .headers()
        .get(header::AUTHORIZATION)?
        .to_str()
        .ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token)
}
