//! What every listener does with its connections: counts them, bounds them, ends them.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::http::Request;
use axum::response::Response;
use hyper::body::Incoming;
use hyper::service::Service;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tower::ServiceExt;
use tower::util::Oneshot;

/// After the system refused a connection (too many open files), accepting waits this long.
const REFUSED_PAUSE: Duration = Duration::from_millis(100);

/// Tells every connection of the process that it ends; each holds a clone while it is open.
#[derive(Clone)]
pub(super) struct Ending {
    begun: watch::Sender<bool>,
    _open: mpsc::Sender<()>,
}

/// Waits until every [`Ending`] is gone.
pub(super) struct Ended(mpsc::Receiver<()>);

/// The two ends of the process's end.
pub(super) fn ending() -> (Ending, Ended) {
    let (open, closed) = mpsc::channel(1);
    let ending = Ending {
        begun: watch::Sender::new(false),
        _open: open,
    };
    (ending, Ended(closed))
}

impl Ending {
    /// The process ends.
    pub(super) fn begin(&self) {
        self.begun.send_replace(true);
    }

    /// Resolves when the process ends.
    pub(super) async fn begun(&self) {
        // The sender lives in `self`, so waiting can't fail.
        let _ = self.begun.subscribe().wait_for(|begun| *begun).await;
    }
}

impl Ended {
    /// Resolves when the last connection has ended.
    pub(super) async fn wait(mut self) {
        while self.0.recv().await.is_some() {}
    }
}

/// A router for one connection, each of whose requests carries an extension. (`Router::layer` would
/// wrap every route anew for each connection.)
#[derive(Clone)]
pub(super) struct Extended<T> {
    pub(super) router: Router,
    pub(super) extension: T,
}

impl<T: Clone + Send + Sync + 'static> Service<Request<Incoming>> for Extended<T> {
    type Response = Response;
    type Error = Infallible;
    type Future = Oneshot<Router, Request<Incoming>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        request.extensions_mut().insert(self.extension.clone());
        self.router.clone().oneshot(request)
    }
}

/// What a listener counts.
#[derive(Clone, Default)]
pub(super) struct Figures {
    open: Gauge,
    closed_at_once: Counter,
}

impl Figures {
    /// Adds the figures of the listener `name` to `registry`.
    pub(super) fn register(&self, name: &'static str, registry: &mut Registry) {
        let listener = registry.sub_registry_with_prefix(name);
        listener.register("connections", "Open connections", self.open.clone());
        listener.register(
            "connections_refused",
            "Connections closed at once because too many were open",
            self.closed_at_once.clone(),
        );
    }
}

/// A listener with at most so many connections at once.
pub(super) struct Bounded {
    listener: TcpListener,
    slots: Arc<Semaphore>,
    figures: Figures,
}

impl Bounded {
    pub(super) fn new(listener: TcpListener, connections_max: usize, figures: Figures) -> Self {
        Self {
            listener,
            slots: Arc::new(Semaphore::new(connections_max)),
            figures,
        }
    }

    /// The next connection; those beyond the bound are closed at once.
    pub(super) async fn accept(&self) -> (Counted<TcpStream>, std::net::SocketAddr) {
        loop {
            match self.listener.accept().await {
                Ok((stream, remote)) => {
                    let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() else {
                        self.figures.closed_at_once.inc();
                        tracing::debug!(%remote, "closed: too many connections");
                        continue;
                    };
                    // Frames are written whole; waiting for more would only delay them.
                    if stream.set_nodelay(true).is_ok() {
                        let open = self.figures.open.clone();
                        open.inc();
                        let place = Place { _slot: slot, open };
                        return (
                            Counted {
                                stream,
                                _place: place,
                            },
                            remote,
                        );
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "can't accept a connection");
                    tokio::time::sleep(REFUSED_PAUSE).await;
                }
            }
        }
    }
}

/// A stream that holds its place among the connections for as long as anyone holds the stream, also
/// after a session was upgraded out of its HTTP connection.
pub(super) struct Counted<S> {
    stream: S,
    _place: Place,
}

struct Place {
    _slot: OwnedSemaphorePermit,
    open: Gauge,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.open.dec();
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
