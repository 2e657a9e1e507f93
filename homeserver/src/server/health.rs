//! `/livez`, `/readyz` and `/metrics`, on a listener of their own that only this machine reaches.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use homeserver_api::problem::{PROBLEM_JSON, Problem};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;

use super::connections::{Bounded, Ending, Figures};
use super::heads::{self, Heads};
use crate::node::Node;
use crate::store::sealed::Seals;

const CONNECTIONS_MAX: usize = 16;
const HEAD_TIME_MAX: Duration = Duration::from_secs(10);
const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What the process says of itself.
pub(super) struct Health {
    ready: AtomicBool,
    unconfirmed: AtomicBool,
    registry: Registry,
    store: crate::store::Store,
    pub(super) client: Figures,
    pub(super) federation: Figures,
    pub(super) strangers: Figures,
}

impl Health {
    pub(super) fn new(node: &Node) -> Self {
        let mut registry = Registry::with_prefix("entente");
        node.store.register_metrics(&mut registry);
        node.space.register_metrics(&mut registry);
        let (client, federation) = (Figures::default(), Figures::default());
        let strangers = Figures::default();
        strangers.register("strangers", &mut registry);
        client.register("client", &mut registry);
        federation.register("federation", &mut registry);
        Self {
            client,
            federation,
            strangers,
            ready: AtomicBool::new(false),
            unconfirmed: AtomicBool::new(false),
            registry,
            store: node.store.clone(),
        }
    }

    /// Whether it was restored, and waits for an administrator to confirm what came back.
    pub(super) fn set_unconfirmed(&self, unconfirmed: bool) {
        self.unconfirmed.store(unconfirmed, Ordering::SeqCst);
    }

    pub(super) fn set_ready(&self, ready: bool) {
        self.ready.store(ready, Ordering::SeqCst);
    }
}

/// Serves until the process ends.
pub(super) async fn serve(health: Arc<Health>, listener: TcpListener, ending: Ending) {
    let router = Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .fallback(unknown_path)
        .method_not_allowed_fallback(unknown_method)
        .with_state(health);
    let listener = Bounded::new(
        listener,
        CONNECTIONS_MAX,
        CONNECTIONS_MAX,
        Figures::default(),
        ending.clone(),
    );
    loop {
        let (stream, _) = tokio::select! {
            accepted = listener.accept() => accepted,
            () = ending.begun() => return,
        };
        let service = Heads(TowerToHyperService::new(router.clone()));
        let connection = heads::http1(HEAD_TIME_MAX)
            .keep_alive(false)
            .serve_connection(TokioIo::new(stream), service);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "metrics connection ended");
            }
        });
    }
}

/// `GET /readyz`; `?verbose` tells each check.
async fn ready(State(health): State<Arc<Health>>, uri: Uri) -> Response {
    let store = match health.store.get(b"").await {
        Ok(_) => Ok(()),
        Err(error) => Err(error.to_string()),
    };
    let serving = if health.ready.load(Ordering::SeqCst) {
        Ok(())
    } else if health.unconfirmed.load(Ordering::SeqCst) {
        Err(
            "restored from a backup, and not confirmed: `hsctl restored` on this machine"
                .to_owned(),
        )
    } else {
        Err("starting or ending".to_owned())
    };
    let mut asked = uri.query().unwrap_or_default().split('&');
    let verbose = asked.any(|part| part.split('=').next() == Some("verbose"));
    let trouble = health.store.seals().and_then(Seals::trouble);
    let keys = trouble.map_or(Ok(()), |(_, why)| Err(why));
    let checks = [("store", store), ("keys", keys), ("listeners", serving)];
    let all = checks.iter().all(|(_, check)| check.is_ok());
    let mut text = String::new();
    if verbose {
        for (name, check) in &checks {
            let _ = match check {
                Ok(()) => writeln!(text, "{name}: ok"),
                Err(problem) => writeln!(text, "{name}: {problem}"),
            };
        }
    }
    text.push_str(if all { "ok\n" } else { "not ready\n" });
    let status = if all {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, text).into_response()
}

async fn unknown_path(uri: Uri) -> Response {
    let detail = format!(
        "there is no {}: GET /livez, /readyz, /readyz?verbose or /metrics",
        uri.path()
    );
    problem(
        StatusCode::NOT_FOUND,
        "no-such-path",
        "no such path",
        detail,
    )
}

async fn unknown_method(uri: Uri) -> Response {
    problem(
        StatusCode::METHOD_NOT_ALLOWED,
        "method-not-allowed",
        "Method not allowed",
        format!("GET {}: nothing can be changed here", uri.path()),
    )
}

fn problem(status: StatusCode, code: &str, title: &str, detail: String) -> Response {
    let problem = Problem::new(status.as_u16(), code, title, detail);
    let headers = [(header::CONTENT_TYPE, PROBLEM_JSON)];
    let body = serde_json::to_vec(&problem).unwrap_or_default();
    (status, headers, body).into_response()
}

/// `GET /metrics`
async fn metrics(State(health): State<Arc<Health>>) -> Response {
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, &health.registry) {
        Ok(()) => ([(header::CONTENT_TYPE, METRICS_TYPE)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
