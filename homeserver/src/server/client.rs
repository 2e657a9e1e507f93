//! The client listener: HTTPS for clients, and for administrators over the network.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::http::Request;
use axum::response::Response;
use hyper::body::Incoming;
use hyper::service::Service;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;
use tower::util::Oneshot;

use super::ListenerTls;
use super::connections::{Bounded, Counted, Ending, Figures};
use super::heads::{self, Heads};
use crate::identity::Remote;
use crate::node::Node;
use crate::{admin, client_api};

/// What the paths of the admin API start with.
const ADMIN_PATHS: &str = "/admin/";

/// Serves clients until the process ends.
pub(super) async fn serve(
    node: Arc<Node>,
    listener: TcpListener,
    tls: Arc<ListenerTls>,
    figures: Figures,
    ending: Ending,
) {
    let limits = node.config.limits.clone();
    let routers = Arc::new(Routers {
        client: client_api::router(node.clone()),
        admin: admin::router(node.clone()),
    });
    // A whole office may come from one address: only the sum is bounded.
    let max = limits.client_connections_max;
    let listener = Bounded::new(listener, max, max, figures, ending.clone());
    loop {
        let (stream, remote) = tokio::select! {
            accepted = listener.accept() => accepted,
            () = ending.begun() => return,
        };
        let acceptor = TlsAcceptor::from(tls.client.load_full());
        let routers = routers.clone();
        let (ending, limits) = (ending.clone(), limits.clone());
        tokio::spawn(async move {
            // The handshake's state is large and gone soon: it must not stay part of this task.
            let handshake = Box::pin(timeout(limits.handshake_time_max, acceptor.accept(stream)));
            let shaken = tokio::select! {
                shaken = handshake => shaken,
                () = ending.begun() => return,
            };
            match shaken {
                Ok(Ok(stream)) => {
                    talk(stream, remote, routers, limits.head_time_max, ending).await;
                }
                Ok(Err(error)) => tracing::debug!(%remote, %error, "TLS handshake failed"),
                Err(_) => tracing::debug!(%remote, "TLS handshake took too long"),
            }
        });
    }
}

/// Two APIs on one listener, each with its own answers to what it does not know.
struct Routers {
    client: Router,
    admin: Router,
}

/// One connection's requests.
struct ClientService {
    routers: Arc<Routers>,
    remote: SocketAddr,
}

impl Service<Request<Incoming>> for ClientService {
    type Response = Response;
    type Error = Infallible;
    type Future = Oneshot<Router, Request<Incoming>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        request.extensions_mut().insert(Remote(self.remote));
        let router = if request.uri().path().starts_with(ADMIN_PATHS) {
            &self.routers.admin
        } else {
            &self.routers.client
        };
        router.clone().oneshot(request)
    }
}

async fn talk(
    stream: tokio_rustls::server::TlsStream<Counted<TcpStream>>,
    remote: SocketAddr,
    routers: Arc<Routers>,
    head_time_max: std::time::Duration,
    ending: Ending,
) {
    let service = ClientService { routers, remote };
    let connection = heads::http1(head_time_max)
        .serve_connection(TokioIo::new(stream), Heads(service))
        .with_upgrades();
    let mut connection = Box::pin(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = ending.begun() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%remote, %error, "connection ended");
    }
}
