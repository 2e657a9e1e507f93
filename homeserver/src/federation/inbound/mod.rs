//! What peers may ask of this homeserver, over HTTP/2 with mutual TLS.
//!
//! Who asks is known from the TLS handshake before a byte of a request is read; whether the agreement
//! lets it ask is judged before a byte of the request's body is read.
//!
//! Every body is padded, so that the network does not learn its length; files have been padded by those
//! who encrypted them.

mod amendment;
mod consent;
mod countersignature;
mod declaration;
mod documents;
mod error;
mod files;
mod gate;
mod manifest;
mod misses;
mod padded;
mod probe;
mod room_manifest;
mod serial;
mod strangers;
mod transactions;

use std::sync::Arc;

use axum::middleware::{from_fn_with_state, map_response};
use axum::routing::{get, post};
use axum::{Extension, Router};

use crate::federation::paths;
use crate::identity::RateLimit;
use crate::node::Node;

use gate::Gates;

/// Every route of the federation API. Each request carries [`crate::tls::Peer`] as an extension: the
/// peer that the TLS handshake authenticated. Which state an agreement must be in, and how large a
/// body may be, stands at the top of each handler.
#[rustfmt::skip]
pub fn router(node: Arc<Node>) -> Router {
    let limits = &node.config.limits;
    let gates = Gates::new(limits.peer_envelopes_per_second_max, limits.peer_refusals_per_second_max);
    Router::new()
        .route(paths::TRANSACTIONS, post(transactions::handle))
        .route(paths::MANIFEST, get(manifest::handle))
        .route(paths::ROOM_MANIFEST, get(room_manifest::handle))
        .route(paths::COUNTERSIGNATURE, post(countersignature::handle))
        .route(paths::AMENDMENT, post(amendment::handle))
        .route(paths::CONSENT, post(consent::handle))
        .route(paths::DECLARATION, post(declaration::handle))
        .route(paths::PROBE, get(probe::handle))
        .layer(map_response(padded::answer))
        .route(paths::FILE, get(files::handle))
        .fallback(misses::no_such_path)
        .method_not_allowed_fallback(misses::no_such_method)
        .layer(Extension(Arc::new(gates)))
        .layer(from_fn_with_state(Arc::clone(&node), serial::exchange))
        .with_state(node)
}

/// Documents of one address: at once, and then per second.
const STRANGER_DOCUMENTS_BURST: u64 = 8;
const STRANGER_DOCUMENTS_PER_SECOND: u64 = 1;

/// What the listener for strangers takes. Each request carries [`crate::identity::Remote`] as an extension.
pub fn strangers(node: Arc<Node>) -> Router {
    let limit = RateLimit::new(STRANGER_DOCUMENTS_BURST, STRANGER_DOCUMENTS_PER_SECOND);
    Router::new()
        .route(paths::OFFERS, post(strangers::handle))
        .fallback(error::no_such_path)
        .method_not_allowed_fallback(error::no_such_method)
        .layer(Extension(Arc::new(limit)))
        .with_state(node)
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::{Request, header};
    use homeserver_api::problem::{PROBLEM_JSON, Problem};
    use http_body_util::BodyExt as _;
    use tower::ServiceExt as _;

    use super::*;
    use crate::node::testing::node;
    use crate::tls::Peer;

    fn asks(method: &str, path: &str, peer: &str) -> Request<Body> {
        let request = Request::builder().method(method).uri(path);
        let request = request.extension(Peer(peer.parse().unwrap()));
        request.body(Body::empty()).unwrap()
    }

    /// Goal: who asks for what is not there, path or method, is held to a rate as with what is there, and nobody else is.
    /// Method: more than are saved up, of one peer, and then one of another.
    #[tokio::test]
    async fn what_is_not_there_has_a_rate() {
        let (node, _) = node("a.example");
        let router = router(node);
        let status = async |method: &str, path: &str, peer: &str| {
            let response = router.clone().oneshot(asks(method, path, peer)).await;
            response.unwrap().status().as_u16()
        };
        for _ in 0..100 {
            assert_eq!(status("GET", "/", "b.example").await, 404);
            assert_eq!(status("PUT", paths::PROBE, "b.example").await, 405);
        }
        assert_eq!(status("GET", "/", "b.example").await, 429);
        assert_eq!(status("PUT", paths::PROBE, "b.example").await, 429);
        assert_eq!(status("GET", "/", "c.example").await, 404);
    }

    /// Goal: a peer that asks for what is not there is told what is; by a path and a method of each kind.
    #[tokio::test]
    async fn what_is_not_there_names_what_is() {
        let (node, _) = node("a.example");
        let router = router(node);
        for (method, path, status, allow, named) in [
            ("GET", "/", 404, None, paths::PROBE),
            ("GET", "/federation/v2/probe", 404, None, paths::PROBE),
            ("GET", paths::TRANSACTIONS, 405, Some("POST"), "Allow"),
            ("PUT", paths::COUNTERSIGNATURE, 405, Some("POST"), "Allow"),
            ("POST", paths::MANIFEST, 405, Some("GET,HEAD"), "Allow"),
            (
                "DELETE",
                "/federation/v1/files/00",
                405,
                Some("GET,HEAD"),
                "Allow",
            ),
        ] {
            let request = asks(method, path, "b.example");
            let response = router.clone().oneshot(request).await.unwrap();
            assert_eq!(response.status().as_u16(), status, "{method} {path}");
            assert_eq!(response.headers()[header::CONTENT_TYPE], PROBLEM_JSON);
            let allowed = response.headers().get(header::ALLOW);
            assert_eq!(allowed.map(|value| value.to_str().unwrap()), allow);
            let body = response.into_body().collect().await.unwrap().to_bytes();
            let problem: Problem = serde_json::from_slice(&body).unwrap();
            assert_eq!(problem.status, status);
            assert!(problem.detail.contains(named), "{}", problem.detail);
        }
    }
}
