//! The federation listener: HTTP/2 over mutual TLS. The handshake has told who the peer is before any
//! byte of a request is read.

#[cfg(test)]
mod tests;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use federation_proto::ids::ServerName;
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls_pki_types::CertificateDer;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::connections::{Bounded, Counted, Ending, Extended, Figures, Shares};
use super::heads::{Heads, READ_BYTES_MAX};
use super::refusals;
use super::{ListenerTls, Shown};
use crate::federation::inbound;
use crate::node::Node;
use crate::tls::{self, Peer};

/// Connections from one address before it is known who comes, and of one peer when it is: nobody takes
/// all the places of the others.
const ADDRESS_CONNECTIONS_MAX: usize = 64;
const PEER_CONNECTIONS_MAX: usize = 32;
/// Requests of one connection at once.
const STREAMS_MAX: u32 = 16;
/// What a peer may send before it is read: of one request, and of one connection.
const STREAM_BYTES_MAX: u32 = 1024 * 1024;
const CONNECTION_BYTES_MAX: u32 = 4 * 1024 * 1024;
/// Requests that the peer reset and that are still being given up.
const RESETS_MAX: usize = 32;
/// A silent peer is asked whether it is there, and cut when it does not answer. On a slow link its answer waits behind
/// what it is sending, so it has as long as the shortest body.
const PING_INTERVAL: Duration = Duration::from_secs(15);
const PING_TIME_MAX: Duration = Duration::from_secs(30);
/// A connection that is cut may finish answering within this time; nothing of it is accepted any more.
const LAST_ANSWER_TIME_MAX: Duration = Duration::from_millis(300);
/// How often it is looked whether the certificate that opened a connection is still valid.
const CERTIFICATE_LOOK_INTERVAL: Duration = Duration::from_secs(30);

/// Serves peers until the process ends.
pub(super) async fn serve(
    node: Arc<Node>,
    listener: TcpListener,
    tls: Arc<ListenerTls>,
    figures: Figures,
    ending: Ending,
) {
    let limits = node.config.limits.clone();
    let router = inbound::router(node.clone());
    let listener = Bounded::new(
        listener,
        limits.federation_connections_max,
        ADDRESS_CONNECTIONS_MAX,
        figures,
        ending.clone(),
    );
    let peers = Shares::new(PEER_CONNECTIONS_MAX);
    loop {
        let (stream, remote) = tokio::select! {
            accepted = listener.accept() => accepted,
            () = ending.begun() => return,
        };
        let shown = tls.federation.borrow().clone();
        let acceptor = TlsAcceptor::from(shown.tls);
        let certificate = (shown.leaf, tls.federation.subscribe());
        let (router, ending) = (router.clone(), ending.clone());
        let (node, peers) = (node.clone(), peers.clone());
        tokio::spawn(async move {
            let accepted = timeout(limits.handshake_time_max, acceptor.accept(stream));
            let accepted = tokio::select! {
                accepted = Box::pin(accepted) => accepted,
                () = ending.begun() => return,
            };
            match accepted {
                Ok(Ok(stream)) => talk(&node, stream, router, &peers, certificate, ending).await,
                Ok(Err(error)) => match tls::refusal_of(&error) {
                    Some(refusal) => {
                        show_presence(&node, refusal);
                        refusals::note(&node, refusal, remote).await;
                    }
                    None => tracing::debug!(%remote, %error, "TLS handshake failed"),
                },
                Err(_) => tracing::debug!(%remote, "TLS handshake took too long"),
            }
        });
    }
}

/// A former peer that calls is there, and can be told that the agreement has ended. Whoever only says that he is it makes us
/// call it, no more often than any peer does.
fn show_presence(node: &Node, refusal: &tls::PeerRefusal) {
    if let Some(server) = refusal.claimed()
        && let Some(peer) = node.peers.get(server)
        && peer.is_to_be_told()
    {
        node.links.heard_from(server, node.clock.now_ms());
    }
}

async fn talk(
    node: &Node,
    stream: TlsStream<Counted<TcpStream>>,
    router: Router,
    peers: &Arc<Shares<ServerName>>,
    (shown, newest): (CertificateDer<'static>, watch::Receiver<Shown>),
    ending: Ending,
) {
    let Some(authenticated) = tls::authenticated(stream.get_ref().1) else {
        tracing::error!("a handshake without a peer");
        return;
    };
    let peer = authenticated.peer.clone();
    let Some(_share) = peers.take(peer.0.clone()) else {
        tracing::warn!(peer = %peer.0, "closed: it has too many connections open");
        return;
    };
    let service = Extended {
        router,
        extension: peer.clone(),
    };
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        // Its digits have several lengths on the wire, and nobody needs it.
        .auto_date_header(false)
        .max_concurrent_streams(STREAMS_MAX)
        .initial_stream_window_size(STREAM_BYTES_MAX)
        .initial_connection_window_size(CONNECTION_BYTES_MAX)
        .max_header_list_size(READ_BYTES_MAX.into())
        .max_pending_accept_reset_streams(RESETS_MAX)
        .max_local_error_reset_streams(RESETS_MAX)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIME_MAX)
        .serve_connection(TokioIo::new(stream), Heads(service));
    let mut connection = Box::pin(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        reason = no_longer_welcome(node, &authenticated) => {
            tracing::info!(peer = %peer.0, reason, "connection cut");
            // What it has just been told may be the reason: it gets that answer.
            connection.as_mut().graceful_shutdown();
            let _ = timeout(LAST_ANSWER_TIME_MAX, connection).await;
            return;
        }
        // What is under way on it is answered; the peer's next request comes over a new one.
        () = ending.begun() => {
            connection.as_mut().graceful_shutdown();
            finish(node, &authenticated, connection).await
        }
        () = other_certificate(shown, newest) => {
            tracing::debug!(peer = %peer.0, "the connection gives way to one with the new certificate");
            connection.as_mut().graceful_shutdown();
            finish(node, &authenticated, connection).await
        }
    };
    if let Err(error) = result {
        tracing::debug!(peer = %peer.0, %error, "connection ended");
    }
}

/// Lets a connection end in order, for as long as the peer is welcome.
async fn finish(
    node: &Node,
    authenticated: &tls::Authenticated,
    connection: impl Future<Output = hyper::Result<()>>,
) -> hyper::Result<()> {
    tokio::select! {
        result = connection => result,
        reason = no_longer_welcome(node, authenticated) => {
            tracing::info!(peer = %authenticated.peer.0, reason, "connection cut");
            Ok(())
        }
    }
}

/// Resolves when new connections show another certificate than the one that this connection has shown, which may be
/// so since its handshake.
async fn other_certificate(shown: CertificateDer<'static>, mut newest: watch::Receiver<Shown>) {
    if newest
        .wait_for(|newest| newest.leaf != shown)
        .await
        .is_err()
    {
        // The listener is gone, and with it whoever would show another.
        std::future::pending().await
    }
}

/// Resolves when a new connection like this one would be refused.
async fn no_longer_welcome(node: &Node, authenticated: &tls::Authenticated) -> &'static str {
    let Peer(server) = &authenticated.peer;
    let mut replaced = node.peer_roots.replaced();
    let anchor = node.peer_roots.get(server);
    #[cfg(feature = "faults")]
    if anchor.is_none() && crate::faults::is_on("accept-unknown-peer") {
        return std::future::pending().await;
    }
    loop {
        // Looked at first: the roots may have changed since the handshake.
        let still = anchor.as_ref().is_some_and(|anchor| {
            let pin = &authenticated.pin;
            node.peer_roots.still_admit(server, &anchor.roots, pin)
        });
        if !still {
            return "the agreement has changed";
        }
        if node.clock.now_ms() >= authenticated.not_after_ms {
            return "its certificate has expired";
        }
        tokio::select! {
            changed = replaced.changed() => if changed.is_err() {
                return "the homeserver ends";
            },
            () = tokio::time::sleep(CERTIFICATE_LOOK_INTERVAL) => {}
        }
    }
}
