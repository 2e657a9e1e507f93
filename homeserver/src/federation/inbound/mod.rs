//! What peers may ask of this homeserver, over HTTP/2 with mutual TLS.
//!
//! Who asks is known from the TLS handshake before a byte of a request is read; whether the agreement
//! lets it ask is judged before a byte of the request's body is read.

mod countersignature;
mod error;
mod files;
mod gate;
mod manifest;
mod probe;
mod transactions;

use std::sync::Arc;

use axum::routing::{get, post};
use axum::{Extension, Router};

use crate::federation::paths;
use crate::node::Node;

use gate::Gates;

/// Every route of the federation API. Each request carries [`crate::tls::Peer`] as an extension: the
/// peer that the TLS handshake authenticated. Which state an agreement must be in, and how large a
/// body may be, stands at the top of each handler.
#[rustfmt::skip]
pub fn router(node: Arc<Node>) -> Router {
    Router::new()
        .route(paths::TRANSACTIONS, post(transactions::handle))
        .route(paths::MANIFEST, get(manifest::handle))
        .route(paths::COUNTERSIGNATURE, post(countersignature::handle))
        .route(paths::PROBE, get(probe::handle))
        .route(paths::FILE, get(files::handle))
        .fallback(error::no_such_path)
        .method_not_allowed_fallback(error::no_such_method)
        .layer(Extension(Arc::new(Gates::default())))
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
            let request = Request::builder().method(method).uri(path);
            let request = request.body(Body::empty()).unwrap();
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
