//! A device's session, without MLS and without a store: open, submit, receive, acknowledge.
//!
//! [`crate::Client`] runs one by itself; a load generator opens many by hand. Buffers are small and
//! grow only while a large frame passes, so that an idle session costs little.

mod stream;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{Sink, SinkExt as _, Stream, StreamExt as _};
use homeserver_api::client::CLIENT_VERSION_HEADER;
use homeserver_api::ids::ServerName;
use homeserver_api::problem::Problem;
use homeserver_api::session::{ClientFrame, FRAME_BYTES_MAX, Hello, SUBPROTOCOL, ServerFrame};
use http::header::{AUTHORIZATION, HeaderValue, SEC_WEBSOCKET_PROTOCOL};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error as WsError, Message};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use crate::error::Error;
use crate::tls::{self, RootPin};

pub(crate) use stream::TlsStream;

/// Read buffer of a connection.
const READ_BUFFER_BYTES: usize = 4 * 1024;
/// How long opening a session may take.
const OPEN_TIMEOUT: Duration = Duration::from_secs(20);

/// A homeserver as a client reaches it.
#[derive(Clone)]
pub struct Endpoint {
    address: String,
    server: ServerName,
    tls: Arc<rustls::ClientConfig>,
    pinned: Arc<tls::Pinned>,
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Endpoint({} at {})", self.server, self.address)
    }
}

impl Endpoint {
    /// A homeserver at `address` (`host:port`) whose certificate must lead to the root with this
    /// SHA-256 (64 hexadecimal digits; spaces and colons between them don't matter).
    ///
    /// # Errors
    /// When the fingerprint is not one.
    pub fn new(
        address: impl Into<String>,
        server: ServerName,
        root_sha256: &str,
    ) -> Result<Self, Error> {
        Self::pinned(address.into(), server, RootPin::parse(root_sha256)?)
    }

    pub(crate) fn pinned(
        address: String,
        server: ServerName,
        root: RootPin,
    ) -> Result<Self, Error> {
        let pinned = Arc::new(tls::Pinned::new(root));
        Ok(Self {
            address,
            server,
            tls: tls::client_config(Arc::clone(&pinned))?,
            pinned,
        })
    }

    /// From now on its certificate must lead to this root.
    pub(crate) fn repin(&self, root: RootPin) {
        self.pinned.set(root);
    }

    /// Where it is: `host:port`.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Its server name, which is its name in TLS.
    #[must_use]
    pub const fn server(&self) -> &ServerName {
        &self.server
    }

    /// A TLS connection to it.
    pub(crate) async fn dial(&self) -> Result<TlsStream, Error> {
        stream::dial(&self.address, &self.server, &self.tls).await
    }
}

/// An open session.
#[derive(Debug)]
pub struct Session {
    socket: WebSocketStream<TlsStream>,
}

/// What a receiver hears.
pub(crate) enum Received {
    Frame(ServerFrame),
    /// Only a sign of life.
    Pong,
}

/// The sending half of a session.
#[derive(Debug)]
pub struct Sender {
    socket: SplitSink<WebSocketStream<TlsStream>, Message>,
}

/// The receiving half of a session.
#[derive(Debug)]
pub struct Receiver {
    socket: SplitStream<WebSocketStream<TlsStream>>,
}

impl Session {
    /// Opens a session with a device's token.
    ///
    /// # Errors
    /// When the homeserver can't be reached, is not the pinned one, or refuses the token.
    pub async fn open(endpoint: &Endpoint, token: &str) -> Result<(Self, Hello), Error> {
        // Boxed: the handshake's state is large and short-lived, the session's small and long.
        let opening = Box::pin(Self::open_now(endpoint, token));
        timeout(OPEN_TIMEOUT, opening)
            .await
            .map_err(|_| Error::Unreachable {
                endpoint: endpoint.address.clone(),
                reason: "it did not answer in time".to_owned(),
            })?
    }

    async fn open_now(endpoint: &Endpoint, token: &str) -> Result<(Self, Hello), Error> {
        let stream = endpoint.dial().await?;
        let mut request = format!("wss://{}/v1/session", endpoint.server)
            .into_client_request()
            .map_err(|e| Error::Protocol(e.to_string()))?;
        let mut authorization = HeaderValue::from_str(&format!("Bearer {token}"))
            .map_err(|_| Error::InvalidArgument("the token is not one".to_owned()))?;
        authorization.set_sensitive(true);
        let headers = request.headers_mut();
        headers.insert(AUTHORIZATION, authorization);
        headers.insert(
            SEC_WEBSOCKET_PROTOCOL,
            HeaderValue::from_static(SUBPROTOCOL),
        );
        headers.insert(
            CLIENT_VERSION_HEADER,
            HeaderValue::from_static(env!("CARGO_PKG_VERSION")),
        );
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER_BYTES)
            .write_buffer_size(0)
            .max_message_size(Some(FRAME_BYTES_MAX))
            .max_frame_size(Some(FRAME_BYTES_MAX));
        let (socket, _) = client_async_with_config(request, stream, Some(config))
            .await
            .map_err(|error| open_error(&endpoint.address, error))?;
        let mut session = Self { socket };
        match session.next().await? {
            Some(ServerFrame::Hello(hello)) => Ok((session, hello)),
            Some(_) => Err(Error::Protocol(
                "the session did not begin with a hello".to_owned(),
            )),
            None => Err(Error::Unreachable {
                endpoint: endpoint.address.clone(),
                reason: "it ended the session at once".to_owned(),
            }),
        }
    }

    /// Both halves, to be used at the same time.
    #[must_use]
    pub fn split(self) -> (Sender, Receiver) {
        let (sink, stream) = self.socket.split();
        (Sender { socket: sink }, Receiver { socket: stream })
    }

    /// See [`Sender::send`].
    ///
    /// # Errors
    /// When the session has ended or the frame is too long.
    pub async fn send(&mut self, frame: &ClientFrame) -> Result<(), Error> {
        send(&mut self.socket, encode(frame)?).await
    }

    /// See [`Receiver::next`].
    ///
    /// # Errors
    /// When the session broke or the homeserver sent something else than a frame.
    pub async fn next(&mut self) -> Result<Option<ServerFrame>, Error> {
        decode(next(&mut self.socket).await?.as_ref())
    }
}

impl Sender {
    /// Sends one frame.
    ///
    /// # Errors
    /// When the session has ended or the frame is too long.
    pub async fn send(&mut self, frame: &ClientFrame) -> Result<(), Error> {
        send(&mut self.socket, encode(frame)?).await
    }

    /// Asks for a sign of life.
    pub(crate) async fn ping(&mut self) -> Result<(), Error> {
        self.socket
            .send(Message::Ping(Bytes::new()))
            .await
            .map_err(lost)
    }

    /// Ends the session.
    ///
    /// # Errors
    /// When it had ended otherwise.
    pub async fn close(&mut self) -> Result<(), Error> {
        self.socket.close().await.map_err(lost)
    }
}

impl Receiver {
    /// The next frame; `None` when the homeserver ended the session.
    ///
    /// # Errors
    /// When the session broke or the homeserver sent something else than a frame.
    pub async fn next(&mut self) -> Result<Option<ServerFrame>, Error> {
        decode(next(&mut self.socket).await?.as_ref())
    }

    /// The next frame or sign of life; `None` when the homeserver ended the session.
    pub(crate) async fn next_or_pong(&mut self) -> Result<Option<Received>, Error> {
        match self.socket.next().await {
            Some(Ok(Message::Binary(bytes))) => Ok(decode(Some(&bytes))?.map(Received::Frame)),
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {
                Ok(Some(Received::Pong))
            }
            Some(Ok(Message::Text(_))) => Err(Error::Protocol("a text frame".to_owned())),
            Some(Ok(Message::Close(frame))) => closed(frame.as_ref()),
            Some(Err(WsError::ConnectionClosed)) | None => Ok(None),
            Some(Err(error)) => Err(lost(error)),
        }
    }
}

fn encode(frame: &ClientFrame) -> Result<Bytes, Error> {
    frame
        .encode()
        .map(Bytes::from)
        .map_err(|e| Error::InvalidArgument(e.to_string()))
}

fn decode(frame: Option<&Bytes>) -> Result<Option<ServerFrame>, Error> {
    frame
        .map(|bytes| ServerFrame::decode(bytes).map_err(|e| Error::Protocol(e.to_string())))
        .transpose()
}

async fn send(
    socket: &mut (impl Sink<Message, Error = WsError> + Unpin),
    frame: Bytes,
) -> Result<(), Error> {
    socket.send(Message::Binary(frame)).await.map_err(lost)
}

async fn next(
    socket: &mut (impl Stream<Item = Result<Message, WsError>> + Unpin),
) -> Result<Option<Bytes>, Error> {
    while let Some(message) = socket.next().await {
        match message {
            Ok(Message::Binary(bytes)) => return Ok(Some(bytes)),
            // Pings are answered by the library while it reads.
            Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => {}
            Ok(Message::Close(frame)) => return closed(frame.as_ref()),
            Err(WsError::ConnectionClosed) => return Ok(None),
            Ok(Message::Text(_)) => {
                return Err(Error::Protocol("a text frame".to_owned()));
            }
            Err(error) => return Err(lost(error)),
        }
    }
    Ok(None)
}

/// The end of a session: with the homeserver's reason, if it gives one.
fn closed<T>(frame: Option<&CloseFrame>) -> Result<Option<T>, Error> {
    match frame {
        Some(frame) if !frame.reason.is_empty() => {
            Err(Error::SessionLost(frame.reason.as_str().to_owned()))
        }
        _ => Ok(None),
    }
}

/// Why a session could not be opened.
fn open_error(endpoint: &str, error: WsError) -> Error {
    match error {
        WsError::Http(response) => {
            let problem = response
                .body()
                .as_deref()
                .and_then(|body| serde_json::from_slice::<Problem>(body).ok());
            match problem {
                Some(problem) => Error::Problem(problem),
                None => Error::Protocol(format!(
                    "the session was answered with {}",
                    response.status()
                )),
            }
        }
        WsError::Io(error) => tls::connect_error(endpoint, &error),
        other => Error::Unreachable {
            endpoint: endpoint.to_owned(),
            reason: other.to_string(),
        },
    }
}

/// Why an open session ended.
fn lost(error: WsError) -> Error {
    match error {
        WsError::Capacity(error) => Error::Protocol(error.to_string()),
        WsError::Io(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            Error::SessionLost("the connection was cut".to_owned())
        }
        WsError::ConnectionClosed | WsError::AlreadyClosed => {
            Error::SessionLost("the homeserver ended it".to_owned())
        }
        other => Error::SessionLost(other.to_string()),
    }
}
