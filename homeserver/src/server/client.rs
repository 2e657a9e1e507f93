//! The client listener: HTTPS for clients, and for administrators over the network.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::connections::{Bounded, Counted, Ending, Extended};
use super::{ListenerTls, Remote};
use crate::node::Node;
use crate::{admin, client_api};

/// What one connection may hold of a request's head.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Serves clients until the process ends.
pub(super) async fn serve(
    node: Arc<Node>,
    listener: TcpListener,
    tls: Arc<ListenerTls>,
    ending: Ending,
) {
    let limits = node.config.limits.clone();
    let router = client_api::router(node.clone()).merge(admin::router(node.clone()));
    let listener = Bounded::new(listener, limits.client_connections_max);
    loop {
        let (stream, remote) = tokio::select! {
            accepted = listener.accept() => accepted,
            () = ending.begun() => return,
        };
        let acceptor = TlsAcceptor::from(tls.client.load_full());
        let router = router.clone();
        let (ending, limits) = (ending.clone(), limits.clone());
        tokio::spawn(async move {
            // The handshake's state is large and gone soon: it must not stay part of this task.
            let handshake = Box::pin(timeout(limits.handshake_time_max, acceptor.accept(stream)));
            match handshake.await {
                Ok(Ok(stream)) => {
                    talk(stream, remote, router, limits.head_time_max, ending).await;
                }
                Ok(Err(error)) => tracing::debug!(%remote, %error, "TLS handshake failed"),
                Err(_) => tracing::debug!(%remote, "TLS handshake took too long"),
            }
        });
    }
}

async fn talk(
    stream: tokio_rustls::server::TlsStream<Counted<TcpStream>>,
    remote: SocketAddr,
    router: Router,
    head_time_max: std::time::Duration,
    ending: Ending,
) {
    let service = Extended {
        router,
        extension: Remote(remote),
    };
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head_time_max)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service)
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
