//! What the fake peer serves: its newest key manifest, and the versions it speaks. It takes nothing.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ServerConfig;
use rustls::crypto::ring::default_provider;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use crate::failure::{Failure, Result};
use crate::organisation::Organisation;
use crate::padding::pad;
use crate::wire::Encoder;

/// The fake peer's listener; ended when dropped.
pub(crate) struct Served {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    manifest: Manifest,
    task: JoinHandle<()>,
}

type Manifest = Arc<Mutex<Vec<u8>>>;

impl Served {
    /// Listens on loopback.
    pub(crate) async fn start(peer: &Organisation, manifest: Vec<u8>) -> Result<Self> {
        let unreachable = |error: std::io::Error| Failure::Unreachable {
            address: "127.0.0.1:0".to_owned(),
            problem: error.to_string(),
        };
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .map_err(unreachable)?;
        let address = listener.local_addr().map_err(unreachable)?;
        let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(Failure::certificate)?
            .with_no_client_auth()
            .with_single_cert(peer.tls.chain.clone(), peer.tls.key())
            .map_err(Failure::certificate)?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        let manifest = Arc::new(Mutex::new(manifest));
        let task = tokio::spawn(accept(
            listener,
            TlsAcceptor::from(Arc::new(config)),
            Arc::clone(&manifest),
        ));
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

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, manifest: Manifest) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(serve(stream, acceptor.clone(), Arc::clone(&manifest)));
    }
}

async fn serve(stream: TcpStream, acceptor: TlsAcceptor, manifest: Manifest) {
    let Ok(stream) = acceptor.accept(stream).await else {
        return;
    };
    let service = service_fn(move |request: Request<Incoming>| {
        let answer = answer(request.uri().path(), &manifest);
        async move { Ok::<_, Infallible>(answer) }
    });
    // However it ends: who called sees it.
    let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

fn answer(path: &str, manifest: &Manifest) -> Response<Full<Bytes>> {
    let body = match path {
        "/federation/v1/manifest" => Some(
            manifest
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone(),
        ),
        "/federation/v1/probe" => Some(Encoder::new().vector(4, &1_u16.to_be_bytes()).finish()),
        _ => None,
    };
    let body = body.map(|body| pad(&body));
    let status = match body {
        Some(_) => StatusCode::OK,
        None => StatusCode::SERVICE_UNAVAILABLE,
    };
    let mut response = Response::new(Full::new(Bytes::from(body.unwrap_or_default())));
    *response.status_mut() = status;
    response
}
