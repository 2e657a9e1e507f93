//! How requests reach a peer: the network is an argument, so that a whole network of servers can
//! run in one process.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use federation_proto::ids::ServerName;
use futures_util::future::BoxFuture;
use http::{Request, Response};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use ring::rand::SecureRandom;
use rustls_pki_types::CertificateDer;
use tokio::sync::watch;

use super::Links;
use crate::clock::Clock;
use crate::config::DiscoveryConfig;
use crate::federation::discovery::{self, Discovery};
use crate::http_client::{Connection, ConnectionError, Requests};
use crate::organisation::Keys;
use crate::tls::{self, PeerRoots};

/// How often it is looked whether the certificate that a peer has shown is still valid.
const CERTIFICATE_LOOK_INTERVAL: Duration = Duration::from_secs(30);

/// An answer's body as it comes in.
pub type ResponseBody = UnsyncBoxBody<Bytes, ConnectionError>;

/// Carries one request to a peer and its answer back.
pub trait Network: Send + Sync + 'static {
    /// Sends `request` to `server`, which is reached at one of `endpoints` (`host:port`).
    fn send<'a>(
        &'a self,
        server: &'a ServerName,
        endpoints: &'a [String],
        request: Request<Bytes>,
        within: Duration,
    ) -> BoxFuture<'a, Result<Response<ResponseBody>, ConnectionError>>;

    /// Closes every connection to `server`, and ends every request to it that is under way.
    fn cut(&self, server: &ServerName);
}

/// The real network: one HTTP/2 connection over mutual TLS to each peer.
pub struct TlsNetwork {
    keys: Arc<Keys>,
    roots: Arc<PeerRoots>,
    clock: Arc<dyn Clock>,
    discovery: Discovery,
    links: Arc<Links>,
    connections: Mutex<HashMap<ServerName, Reach>>,
}

/// How a peer is reached, until it is cut.
#[derive(Clone, Default)]
struct Reach {
    slot: Slot,
    cut: Cut,
}

/// Ends whatever waits for a peer, on whichever connection, or for one.
#[derive(Clone)]
struct Cut(watch::Sender<bool>);

impl Default for Cut {
    fn default() -> Self {
        Self(watch::Sender::new(false))
    }
}

impl Cut {
    /// Resolves when the peer is cut.
    async fn done(&self) {
        // The sender lives in `self`, so waiting can't fail.
        let _ = self.0.subscribe().wait_for(|done| *done).await;
    }
}

/// Where a peer's connection is kept; locked while it is being opened.
type Slot = Arc<tokio::sync::Mutex<Kept>>;

/// A peer's connections.
#[derive(Default)]
struct Kept {
    open: Option<Open>,
    /// The one before, which still shows our former certificate: what is under way on it is finished.
    finishing: Option<Open>,
}

/// A connection, and what both sides have shown on it.
struct Open {
    connection: Connection,
    /// Our certificate.
    ours: CertificateDer<'static>,
    rests_on: RestsOn,
}

/// What a connection that we have opened rests on: it must not outlive it (NET-007).
#[derive(Clone)]
struct RestsOn {
    server: ServerName,
    /// The roots that were pinned for the peer.
    roots: Vec<CertificateDer<'static>>,
    /// The peer's key.
    pin: [u8; 32],
    /// The end of the validity of the peer's certificate.
    not_after_ms: u64,
}

impl RestsOn {
    /// Why a new connection like this one would be refused, if so.
    fn gone(&self, roots: &PeerRoots, now_ms: u64) -> Option<&'static str> {
        if !roots.still_call(&self.server, &self.roots, &self.pin) {
            return Some("the agreement or the peer's keys have changed");
        }
        (now_ms >= self.not_after_ms).then_some("the peer's certificate has expired")
    }

    /// Resolves when it is gone.
    async fn ends(self, peers: Arc<PeerRoots>, clock: Arc<dyn Clock>) {
        #[cfg(feature = "faults")]
        if crate::faults::is_on("keep-calling") {
            return std::future::pending().await;
        }
        let mut replaced = peers.replaced();
        loop {
            // Looked at first: they may have changed since the handshake.
            if let Some(reason) = self.gone(&peers, clock.now_ms()) {
                tracing::info!(peer = %self.server, reason, "connection cut");
                return;
            }
            tokio::select! {
                changed = replaced.changed() => if changed.is_err() {
                    return;
                },
                () = tokio::time::sleep(CERTIFICATE_LOOK_INTERVAL) => {}
            }
        }
    }
}

impl TlsNetwork {
    /// A network without connections yet; how peers are found, `links` tells administrators.
    pub fn new(
        keys: Arc<Keys>,
        roots: Arc<PeerRoots>,
        clock: Arc<dyn Clock>,
        random: Arc<dyn SecureRandom + Send + Sync>,
        config: &DiscoveryConfig,
        links: Arc<Links>,
    ) -> Self {
        let discovery = Discovery::new(config, Arc::clone(&clock), random);
        Self {
            keys,
            roots,
            clock,
            discovery,
            links,
            connections: Mutex::default(),
        }
    }

    fn reach(&self, server: &ServerName) -> Reach {
        self.all().entry(server.clone()).or_default().clone()
    }

    /// Lets go of a connection on which nobody answers; others who wait on it wait on.
    fn forget(&self, server: &ServerName, slot: &Slot) {
        if let Some(reach) = self.all().get_mut(server)
            && Arc::ptr_eq(&reach.slot, slot)
        {
            reach.slot = Slot::default();
        }
    }

    /// The checked addresses of `server`, in the order to try.
    async fn find(
        &self,
        server: &ServerName,
        endpoints: &[String],
    ) -> Result<Vec<SocketAddr>, ConnectionError> {
        let found = self.discovery.find(server, endpoints).await;
        let shown = found
            .as_ref()
            .map_or_else(ToString::to_string, ToString::to_string);
        let link = self.links.link(server);
        link.update(|status| status.found = Some(shown));
        match found {
            Ok(route) => Ok(route.addresses),
            Err(error) => Err(ConnectionError::NotFound(error.to_string())),
        }
    }

    fn all(&self) -> MutexGuard<'_, HashMap<ServerName, Reach>> {
        self.connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// What sends requests to `server`, over its open connection or, as the flag says, a new one.
    async fn requests(
        &self,
        slot: &Slot,
        server: &ServerName,
        endpoints: &[String],
    ) -> Result<(Requests, bool), ConnectionError> {
        // Held while connecting: whoever comes meanwhile waits for this connection, not his own.
        // Not held afterwards: the connection must end when it is cut.
        let mut kept = slot.lock().await;
        self.tidy(&mut kept);
        if let Some(open) = &kept.open {
            return Ok((open.connection.requests(), false));
        }
        // A former peer too, while it is told that the agreement has ended.
        let (anchor, ours) = (self.roots.get_to_call(server), self.keys.tls_leaf());
        let addresses = self.find(server, endpoints).await?;
        let tls = tls::federation_client(
            &self.keys,
            server,
            Arc::clone(&self.roots),
            Arc::clone(&self.clock),
        )
        .map_err(|error| {
            tracing::error!(%error, "no peer can be called");
            ConnectionError::OwnTls
        })?;
        let tls = &tls;
        let connect = |address| async move { Connection::open(&[address], server, tls).await };
        let connection = discovery::race(&addresses, connect)
            .await
            .map_err(|error| error.unwrap_or(ConnectionError::NoAddress))?;
        let requests = connection.requests();
        let shown = tls::of_leaf(connection.leaf());
        // A connection lasts as long as it is kept: without it the request would end before it is sent.
        let (Some(anchor), Some(shown)) = (anchor, shown) else {
            return Err(ConnectionError::NoAgreement);
        };
        let rests_on = RestsOn {
            server: server.clone(),
            roots: anchor.roots,
            pin: shown.pin,
            not_after_ms: shown.not_after_ms,
        };
        let (peers, clock) = (Arc::clone(&self.roots), Arc::clone(&self.clock));
        connection.end_when(rests_on.clone().ends(peers, clock));
        kept.open = Some(Open {
            connection,
            ours,
            rests_on,
        });
        Ok((requests, true))
    }

    /// Gives up what can't be used any more: broken connections, those that rest on what is gone, and those that show
    /// our former certificate.
    fn tidy(&self, kept: &mut Kept) {
        let now_ms = self.clock.now_ms();
        let welcome = |open: &Open| {
            open.rests_on.gone(&self.roots, now_ms).is_none() && open.connection.is_open()
        };
        kept.open = kept.open.take().filter(welcome);
        kept.finishing = kept.finishing.take().filter(welcome);
        let leaf = self.keys.tls_leaf();
        if kept.open.as_ref().is_some_and(|open| open.ours != leaf) {
            kept.finishing = kept.open.take();
        }
    }

    async fn send_to(
        &self,
        server: &ServerName,
        endpoints: &[String],
        request: Request<Bytes>,
        within: Duration,
    ) -> Result<Response<ResponseBody>, ConnectionError> {
        let Reach { slot, cut } = self.reach(server);
        // A peer that takes a request and says nothing must not keep it, nor the connection, until its time
        // is over.
        tokio::select! {
            biased;
            () = cut.done() => Err(ConnectionError::Cut),
            answer = self.send_over(&slot, server, endpoints, request, within) => answer,
        }
    }

    async fn send_over(
        &self,
        slot: &Slot,
        server: &ServerName,
        endpoints: &[String],
        request: Request<Bytes>,
        within: Duration,
    ) -> Result<Response<ResponseBody>, ConnectionError> {
        let (mut requests, is_new) = self.requests(slot, server, endpoints).await?;
        let mut answer = requests.send(request.clone(), within).await;
        let has_broken = matches!(answer, Err(ConnectionError::Broken(_)));
        // A connection that the peer was just closing. Every request may come twice.
        if has_broken && !is_new {
            slot.lock().await.open = None;
            let (mut requests, _) = self.requests(slot, server, endpoints).await?;
            answer = requests.send(request, within).await;
        }
        if matches!(answer, Err(ConnectionError::Silent(_))) {
            // Perhaps nobody is there any more. A connection that has broken says so itself; one that
            // has only dropped this request carries others.
            self.forget(server, slot);
        }
        Ok(answer?.map(|body| {
            body.map_err(|error| ConnectionError::broken(&error))
                .boxed_unsync()
        }))
    }
}

impl Network for TlsNetwork {
    fn send<'a>(
        &'a self,
        server: &'a ServerName,
        endpoints: &'a [String],
        request: Request<Bytes>,
        within: Duration,
    ) -> BoxFuture<'a, Result<Response<ResponseBody>, ConnectionError>> {
        Box::pin(self.send_to(server, endpoints, request, within))
    }

    fn cut(&self, server: &ServerName) {
        #[cfg(feature = "faults")]
        if crate::faults::is_on("keep-calling") {
            return;
        }
        let Some(Reach { slot, cut }) = self.all().remove(server) else {
            return;
        };
        cut.0.send_replace(true);
        // Now, and not when the last one who waits on it has heard. Whoever is opening one drops it then.
        if let Ok(mut kept) = slot.try_lock() {
            *kept = Kept::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;
    use crate::node::testing;
    use crate::tls::PeerAnchor;

    /// Goal: a connection that we have opened ends at once when its key is pinned no longer, when its root is another,
    /// when the agreement ends, and when the peer's certificate has expired; not before, and not for a key that is
    /// added (NET-007). Method: change what is pinned, take the peer away, move the clock.
    #[tokio::test(start_paused = true)]
    async fn connections_end_with_what_they_rest_on() {
        let (node, clock) = testing::node("a.example");
        let rests_on = RestsOn {
            server: "b.example".parse().unwrap(),
            roots: vec![vec![1].into()],
            pin: [1; 32],
            not_after_ms: node.clock.now_ms() + 60_000,
        };
        let pinned = |root: u8, pins: &[u8]| {
            let anchor = PeerAnchor {
                roots: vec![vec![root].into()],
                pins: pins.iter().map(|pin| [*pin; 32]).collect(),
            };
            HashMap::from([(rests_on.server.clone(), anchor)])
        };
        let ends = || {
            let (peers, clock) = (Arc::clone(&node.peer_roots), Arc::clone(&node.clock));
            Box::pin(rests_on.clone().ends(peers, clock))
        };
        for after in [pinned(1, &[2]), pinned(2, &[1]), HashMap::new()] {
            node.peer_roots.replace(pinned(1, &[1, 2]));
            let mut ended = ends();
            assert_eq!(ended.as_mut().now_or_never(), None);
            node.peer_roots.replace(pinned(1, &[1, 2, 3]));
            assert_eq!(ended.as_mut().now_or_never(), None, "a key was added");
            node.peer_roots.replace(after);
            assert_eq!(ended.now_or_never(), Some(()));
        }
        node.peer_roots.replace(pinned(1, &[1]));
        let mut ended = ends();
        clock.advance_ms(59_999);
        tokio::time::timeout(2 * CERTIFICATE_LOOK_INTERVAL, ended.as_mut())
            .await
            .unwrap_err();
        clock.advance_ms(1);
        tokio::time::timeout(CERTIFICATE_LOOK_INTERVAL, ended)
            .await
            .unwrap();
    }
}
