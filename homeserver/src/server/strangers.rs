//! The listener for strangers, where the operator has opened one: HTTPS without client certificates, for
//! offers and acceptances alone.

use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::ListenerTls;
use super::connections::{Bounded, Counted, Ending, Extended, Figures};
use super::heads::{self, Heads};
use crate::federation::inbound;
use crate::identity::Remote;
use crate::node::Node;

/// Connections at once, and from one address.
const CONNECTIONS_MAX: usize = 32;
const ADDRESS_CONNECTIONS_MAX: usize = 2;
/// A connection has ended by then, whatever it is at.
const CONNECTION_TIME_MAX: Duration = Duration::from_secs(60);

/// Serves strangers until the process ends.
pub(super) async fn serve(
    node: Arc<Node>,
    listener: TcpListener,
    tls: Arc<ListenerTls>,
    figures: Figures,
    ending: Ending,
) {
    let limits = node.config.limits.clone();
    let router = inbound::strangers(node.clone());
    let listener = Bounded::new(
        listener,
        CONNECTIONS_MAX,
        ADDRESS_CONNECTIONS_MAX,
        figures,
        ending.clone(),
    );
    loop {
        let (stream, remote) = tokio::select! {
            accepted = listener.accept() => accepted,
            () = ending.begun() => return,
        };
        // What clients are shown: the chain up to the root, for who knows only its fingerprint.
        let acceptor = TlsAcceptor::from(tls.client.load_full());
        let (router, limits, ending) = (router.clone(), limits.clone(), ending.clone());
        tokio::spawn(async move {
            let shaken = Box::pin(timeout(limits.handshake_time_max, acceptor.accept(stream)));
            let Ok(Ok(stream)) = shaken.await else {
                return;
            };
            let service = Extended {
                router,
                extension: Remote(remote),
            };
            let talked = talk(stream, service, limits.head_time_max);
            tokio::select! {
                _ = timeout(CONNECTION_TIME_MAX, talked) => {}
                () = ending.begun() => {}
            }
        });
    }
}

async fn talk(
    stream: TlsStream<Counted<TcpStream>>,
    service: Extended<Remote>,
    head_time_max: Duration,
) {
    let connection = heads::http1(head_time_max)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), Heads(service));
    if let Err(error) = connection.await {
        tracing::debug!(%error, "a stranger's connection ended");
    }
}
