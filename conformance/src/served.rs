//! What the fake peer serves: its newest key manifest, the versions it speaks, and a mailbox where it has one.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ServerConfig;
use rustls::crypto::ring::default_provider;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;

use crate::failure::{Failure, Result};
use crate::mailbox::{Mailbox, NotTaken};
use crate::organisation::Organisation;
use crate::padding::{pad, unpad};
use crate::wire::Encoder;

/// Largest body: a transaction, padded.
const BODY_BYTES_MAX: usize = 8 * 1024 * 1024;

/// The fake peer's listener; ended when dropped.
pub(crate) struct Served {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    manifest: Manifest,
    task: JoinHandle<()>,
}

type Manifest = Arc<Mutex<Vec<u8>>>;

/// Requests that are taken and never answered.
#[derive(Debug, Clone)]
pub(crate) struct Stall {
    /// Their path, if there are any.
    at: Option<&'static str>,
    heard: watch::Sender<bool>,
    ended: watch::Sender<Option<Instant>>,
}

impl Stall {
    /// Of requests to this path, or none.
    pub(crate) fn at(path: Option<&'static str>) -> Self {
        Self {
            at: path,
            heard: watch::Sender::new(false),
            ended: watch::Sender::new(None),
        }
    }

    /// Waits until a request has stalled.
    pub(crate) async fn heard(&self) {
        // `self` keeps the sender.
        let _ = self.heard.subscribe().wait_for(|heard| *heard).await;
    }

    /// Waits until the first connection on which a request stalled has ended; when that was.
    pub(crate) async fn ended(&self) -> Option<Instant> {
        let mut ended = self.ended.subscribe();
        let at = ended.wait_for(Option::is_some).await.ok()?;
        *at
    }
}

impl Served {
    /// Listens at an address; without a mailbox it takes nothing.
    pub(crate) async fn start(
        peer: &Organisation,
        listen: &str,
        manifest: Vec<u8>,
        mailbox: Option<Arc<Mailbox>>,
        stall: Stall,
    ) -> Result<Self> {
        let unreachable = |error: std::io::Error| Failure::Unreachable {
            address: listen.to_owned(),
            problem: error.to_string(),
        };
        let listener = TcpListener::bind(listen).await.map_err(unreachable)?;
        let address = listener.local_addr().map_err(unreachable)?;
        let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(Failure::certificate)?
            .with_no_client_auth()
            .with_single_cert(peer.tls.chain.clone(), peer.tls.key())
            .map_err(Failure::certificate)?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        let manifest = Arc::new(Mutex::new(manifest));
        let content = Content {
            manifest: Arc::clone(&manifest),
            mailbox,
            stall,
        };
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let task = tokio::spawn(accept(listener, acceptor, content));
        Ok(Self {
            address,
            manifest,
            task,
        })
    }

    /// Serves another manifest from now on.
    pub(crate) fn replace(&self, manifest: Vec<u8>) {
        *self.manifest.lock().unwrap_or_else(PoisonError::into_inner) = manifest;
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What is served.
#[derive(Clone)]
struct Content {
    manifest: Manifest,
    mailbox: Option<Arc<Mailbox>>,
    stall: Stall,
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, content: Content) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(serve(stream, acceptor.clone(), content.clone()));
    }
}

async fn serve(stream: TcpStream, acceptor: TlsAcceptor, content: Content) {
    let Ok(stream) = acceptor.accept(stream).await else {
        return;
    };
    let stall = content.stall.clone();
    let stalled = Arc::new(AtomicBool::new(false));
    let has_stalled = Arc::clone(&stalled);
    let service = service_fn(move |request: Request<Incoming>| {
        let (content, stalled) = (content.clone(), Arc::clone(&stalled));
        async move {
            if content.stall.at == Some(request.uri().path()) {
                stalled.store(true, Ordering::SeqCst);
                content.stall.heard.send_replace(true);
                return std::future::pending().await;
            }
            Ok::<_, Infallible>(content.answer(request).await)
        }
    });
    // However it ends: who called sees it.
    let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if has_stalled.load(Ordering::SeqCst) {
        stall.ended.send_if_modified(|ended| {
            let is_first = ended.is_none();
            ended.get_or_insert_with(Instant::now);
            is_first
        });
    }
}

impl Content {
    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let path = request.uri().path().to_owned();
        let body = match (path.as_str(), &self.mailbox) {
            ("/federation/v1/transactions", Some(mailbox)) => take(mailbox, request).await,
            ("/federation/v1/manifest", _) => Ok(self
                .manifest
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone()),
            ("/federation/v1/probe", _) => {
                Ok(Encoder::new().vector(4, &1_u16.to_be_bytes()).finish())
            }
            _ => Err(StatusCode::SERVICE_UNAVAILABLE),
        };
        let (status, body) = match body {
            Ok(body) => (StatusCode::OK, pad(&body)),
            Err(status) => (status, Vec::new()),
        };
        let mut response = Response::new(Full::new(Bytes::from(body)));
        *response.status_mut() = status;
        response
    }
}

async fn take(
    mailbox: &Mailbox,
    request: Request<Incoming>,
) -> std::result::Result<Vec<u8>, StatusCode> {
    let body = Limited::new(request.into_body(), BODY_BYTES_MAX)
        .collect()
        .await
        .map_err(|_| StatusCode::PAYLOAD_TOO_LARGE)?
        .to_bytes();
    mailbox
        .take(unpad(&body).as_deref())
        .map_err(|why| match why {
            NotTaken::TooEarly => StatusCode::SERVICE_UNAVAILABLE,
            NotTaken::Wrong => StatusCode::BAD_REQUEST,
        })
}
