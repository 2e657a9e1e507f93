//! The HTTP client that federation uses: HTTP/2 over mutual TLS, one connection per peer.
//!
//! Deliberately absent: redirects, proxies, cookies, compression, and every other way in which an
//! answer could make this homeserver talk to somebody else.

mod alert;
mod life;
mod tasks;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use federation_proto::ids::ServerName;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper::rt::Executor;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use alert::Watched;
use life::Life;
use tasks::Tasks;

/// Longest time for TCP, TLS and HTTP/2 to stand, per address.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// An idle connection is probed this often: well before [`life::SILENCE_MAX`], which says when it counts as dead.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(15);
/// hyper takes a ping that is answered late for the end, though it waits behind a body: that is not left to it.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(24 * 60 * 60);
/// Flow-control windows: files come in this way.
const STREAM_WINDOW_BYTES: u32 = 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
/// Most bytes of an answer's headers.
const HEADER_LIST_BYTES_MAX: u32 = 16 * 1024;

/// Why a peer could not be talked to, in words for administrators. What a library says of it is in the debug log.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ConnectionError {
    /// No address.
    #[error("no address to connect to: the agreement names no endpoint that resolves")]
    NoAddress,
    /// Nothing is pinned for it (any more).
    #[error("there is no agreement with it that lets this homeserver call it")]
    NoAgreement,
    /// Its address was not found; says what to do.
    #[error("{0}")]
    NotFound(String),
    /// Nobody answers at the address.
    #[error("{0}: {1}")]
    Unreachable(SocketAddr, String),
    /// It is not who it should be, or speaks no TLS as peers do.
    #[error("{0}: {1}")]
    Tls(SocketAddr, String),
    /// It does not take us for a peer.
    #[error(
        "the peer ended the TLS handshake: perhaps it has ended the agreement, or does not know our newest keys; ask its \
         administrator"
    )]
    TurnedAway,
    /// The connection broke; the text is a library's.
    #[error(
        "the connection to the peer was lost before it had answered: perhaps it is restarting; it is tried again by itself"
    )]
    Broken(String),
    /// This homeserver's own TLS can't be set up.
    #[error(
        "this homeserver's TLS can't be set up: check its keys with `hsctl keys show`, and its log"
    )]
    OwnTls,
    /// The agreement has ended, or is suspended, since the request was made.
    #[error("the agreement was ended or suspended before the peer had answered")]
    Cut,
    /// No answer in time.
    #[error("no answer within {} s", .0.as_secs())]
    Silent(Duration),
}

/// An open connection to a peer; dropping it closes it at once, whatever is still under way on it.
pub struct Connection {
    leaf: Vec<u8>,
    requests: Requests,
    tasks: Tasks,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.tasks.end();
    }
}

impl Connection {
    /// Connects to the first of `addresses` where the peer `server` proves to be itself.
    pub async fn open(
        addresses: &[SocketAddr],
        server: &ServerName,
        tls: &Arc<ClientConfig>,
    ) -> Result<Self, ConnectionError> {
        let mut last = ConnectionError::NoAddress;
        for address in addresses {
            match timeout(CONNECT_TIMEOUT, open_one(*address, server, tls)).await {
                Ok(Ok(connection)) => return Ok(connection),
                Ok(Err(error)) => last = error,
                Err(_) => {
                    last = ConnectionError::Unreachable(
                        *address,
                        format!("no answer within {} s", CONNECT_TIMEOUT.as_secs()),
                    );
                }
            }
        }
        Err(last)
    }

    /// The certificate (DER) that the peer has shown.
    pub fn leaf(&self) -> &[u8] {
        &self.leaf
    }

    /// Whether requests can still be sent.
    pub fn is_open(&self) -> bool {
        !self.requests.sender.is_closed()
    }

    /// Closes it once `over` resolves, whatever is still under way on it.
    pub fn end_when(&self, over: impl Future<Output = ()> + Send + 'static) {
        let tasks = self.tasks.clone();
        self.tasks.execute(async move {
            over.await;
            tasks.end();
        });
    }

    /// A handle that sends requests over this connection.
    pub fn requests(&self) -> Requests {
        self.requests.clone()
    }
}

/// Sends requests over a connection for as long as that stands.
#[derive(Clone)]
pub struct Requests {
    sender: SendRequest<Full<Bytes>>,
    /// Whether the peer has turned us away.
    alert: Arc<AtomicBool>,
    life: Arc<Life>,
}

impl Requests {
    /// Sends a request; the answer's body is still on its way when this returns.
    pub async fn send(
        &mut self,
        request: Request<Bytes>,
        within: Duration,
    ) -> Result<Response<Incoming>, ConnectionError> {
        let life = Arc::clone(&self.life);
        let _under_way = life.send(request.body().len());
        let exchange = async {
            self.sender.ready().await?;
            self.sender.send_request(request.map(Full::new)).await
        };
        match timeout(within, exchange).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(_)) if self.alert.load(Ordering::Acquire) => Err(ConnectionError::TurnedAway),
            Ok(Err(error)) => Err(ConnectionError::broken(&error)),
            Err(_) => Err(ConnectionError::Silent(within)),
        }
    }
}

async fn open_one(
    address: SocketAddr,
    server: &ServerName,
    tls: &Arc<ClientConfig>,
) -> Result<Connection, ConnectionError> {
    let unreachable = |error: io::Error| {
        tracing::debug!(%address, %error, "no connection to a peer");
        ConnectionError::Unreachable(address, no_way(&error).to_owned())
    };
    let stream = TcpStream::connect(address).await.map_err(unreachable)?;
    // A transaction is one burst: waiting for more would only delay it.
    stream.set_nodelay(true).map_err(unreachable)?;
    let name = rustls_pki_types::ServerName::try_from(server.as_str().to_owned())
        .map_err(|error| ConnectionError::Tls(address, error.to_string()))?;
    let stream = TlsConnector::from(Arc::clone(tls))
        .connect(name, stream)
        .await
        .map_err(|error| no_handshake(address, &error))?;
    let shown = stream.get_ref().1.peer_certificates();
    let leaf = shown.and_then(|chain| Some(chain.first()?.to_vec()));
    let alert = Arc::<AtomicBool>::default();
    // TLS 1.3: the peer judges our certificate when we think the handshake is over.
    let life = Arc::new(Life::begin());
    let stream = Watched::new(stream, Arc::clone(&alert), Arc::clone(&life));
    let turned_away = Arc::clone(&alert);
    let tasks = Tasks::default();
    let (sender, connection) = http2::Builder::new(tasks.clone())
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_header_list_size(HEADER_LIST_BYTES_MAX)
        .keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| match turned_away.load(Ordering::Acquire) {
            true => ConnectionError::TurnedAway,
            false => ConnectionError::broken(&error),
        })?;
    tasks.execute(async move {
        // How it ended, every request on it has learnt.
        let _ = connection.await;
    });
    let connection = Connection {
        leaf: leaf.unwrap_or_default(),
        requests: Requests {
            sender,
            alert,
            life: Arc::clone(&life),
        },
        tasks,
    };
    connection.end_when(async move { life.ends().await });
    Ok(connection)
}

impl ConnectionError {
    /// A connection that broke for this reason.
    pub fn broken(error: &hyper::Error) -> Self {
        let text = in_words(error);
        tracing::debug!(error = %text, "a connection to a peer broke");
        Self::Broken(text)
    }
}

/// Why nobody was reached.
fn no_way(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => {
            "nobody listens there: either its homeserver is not running, or the agreement names another address"
        }
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
            "no network leads there: check this machine's network, and the address"
        }
        _ => "no connection can be opened: check the network and the firewalls between",
    }
}

/// Why the handshake failed, as far as we know on our side.
fn no_handshake(address: SocketAddr, error: &io::Error) -> ConnectionError {
    tracing::debug!(%address, %error, "no TLS handshake with a peer");
    if alert::is_alert(error) {
        return ConnectionError::TurnedAway;
    }
    let shown = match error.get_ref().and_then(|error| error.downcast_ref()) {
        // In our own verifier's words.
        Some(rustls::Error::InvalidCertificate(rustls::CertificateError::Other(refusal))) => {
            refusal.to_string()
        }
        _ => "what answers there does not speak TLS as homeservers do: check that this is the port for peers"
            .to_owned(),
    };
    ConnectionError::Tls(address, shown)
}

/// The error and what caused it: hyper's own text leaves the cause out.
fn in_words(error: &hyper::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}
