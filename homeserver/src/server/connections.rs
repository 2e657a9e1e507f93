//! What every listener does with its connections: counts them, bounds them, ends them.

use std::collections::HashMap;
use std::convert::Infallible;
use std::hash::Hash;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
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

use crate::identity::network;

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

/// How many places each of many has taken, none more than its share.
pub(super) struct Shares<K> {
    each_max: usize,
    taken: Mutex<HashMap<K, usize>>,
}

/// One place of a share, given back when dropped.
pub(super) struct Share<K: Eq + Hash> {
    shares: Arc<Shares<K>>,
    whose: K,
}

impl<K: Eq + Hash + Clone> Shares<K> {
    pub(super) fn new(each_max: usize) -> Arc<Self> {
        Arc::new(Self {
            each_max,
            taken: Mutex::default(),
        })
    }

    /// A place for `whose`, unless its share is used up.
    pub(super) fn take(self: &Arc<Self>, whose: K) -> Option<Share<K>> {
        let mut all = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = all.entry(whose.clone()).or_default();
        if *taken >= self.each_max {
            return None;
        }
        *taken += 1;
        Some(Share {
            shares: Arc::clone(self),
            whose,
        })
    }
}

impl<K: Eq + Hash> Drop for Share<K> {
    fn drop(&mut self) {
        let mut all = self
            .shares
            .taken
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(taken) = all.get_mut(&self.whose) {
            *taken = taken.saturating_sub(1);
            if *taken == 0 {
                all.remove(&self.whose);
            }
        }
    }
}

/// A listener with at most so many connections at once, overall and from each address.
pub(super) struct Bounded {
    listener: TcpListener,
    slots: Arc<Semaphore>,
    addresses: Arc<Shares<IpAddr>>,
    figures: Figures,
    ending: Ending,
}

impl Bounded {
    pub(super) fn new(
        listener: TcpListener,
        connections_max: usize,
        address_connections_max: usize,
        figures: Figures,
        ending: Ending,
    ) -> Self {
        Self {
            listener,
            slots: Arc::new(Semaphore::new(connections_max)),
            addresses: Shares::new(address_connections_max),
            figures,
            ending,
        }
    }

    /// The next connection; those beyond the bound are closed at once.
    pub(super) async fn accept(&self) -> (Counted<TcpStream>, std::net::SocketAddr) {
        loop {
            match self.listener.accept().await {
                Ok((stream, remote)) => {
                    let slot = Arc::clone(&self.slots).try_acquire_owned();
                    let share = self.addresses.take(network(remote.ip()));
                    let (Ok(slot), Some(share)) = (slot, share) else {
                        self.figures.closed_at_once.inc();
                        tracing::debug!(%remote, "closed: too many connections");
                        continue;
                    };
                    // Frames are written whole; waiting for more would only delay them.
                    if stream.set_nodelay(true).is_ok() {
                        let open = self.figures.open.clone();
                        open.inc();
                        let place = Place {
                            _slot: slot,
                            _share: share,
                            _ending: self.ending.clone(),
                            open,
                        };
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
    _share: Share<IpAddr>,
    /// The process's end waits for every stream, sessions among them, so that each is told.
    _ending: Ending,
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

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    /// Goal: one address gets its share of a listener's connections and no more, and the process's end
    /// waits for every stream, whoever holds it; by connecting from this machine.
    #[tokio::test]
    async fn connections_are_shared_and_waited_for() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (ending, ended) = ending();
        let figures = Figures::default();
        let listener = Bounded::new(listener, 10, 2, figures.clone(), ending);
        let mut clients = Vec::new();
        let mut served = Vec::new();
        for _ in 0..2 {
            clients.push(TcpStream::connect(address).await.unwrap());
            served.push(listener.accept().await.0);
        }
        clients.push(TcpStream::connect(address).await.unwrap());
        clients.push(TcpStream::connect(address).await.unwrap());
        assert!(listener.accept().now_or_never().is_none());
        assert_eq!(figures.closed_at_once.get(), 2);
        served.pop();
        clients.push(TcpStream::connect(address).await.unwrap());
        served.push(listener.accept().await.0);

        drop(listener);
        let mut ended = Box::pin(ended.wait());
        assert!(ended.as_mut().now_or_never().is_none());
        drop(served);
        ended.await;
    }

    /// Goal: a peer has its share of the federation listener's connections and no more, takes nobody else's, and
    /// gets back what it gives back; nothing is kept of one that has left. Method: two peers take what they can.
    #[test]
    fn each_peer_has_its_share() {
        let shares = Shares::new(2);
        let [b, c] = ["b.example", "c.example"]
            .map(|name| name.parse::<federation_proto::ids::ServerName>().unwrap());
        let first = shares.take(b.clone()).unwrap();
        let second = shares.take(b.clone()).unwrap();
        assert!(shares.take(b.clone()).is_none());
        let other = shares.take(c.clone()).unwrap();
        drop(first);
        let again = shares.take(b.clone()).unwrap();
        assert!(shares.take(b).is_none());
        drop((second, again, other));
        assert!(shares.taken.lock().unwrap().is_empty());
    }
}
