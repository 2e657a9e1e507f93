//! How the fake peer reaches the server under test: TLS with any certificate, HTTP/2, or raw bytes.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{ring::default_provider, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::failure::{Failure, Result};
use crate::organisation::Identity;

/// Nothing that the suite waits for takes longer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// The HTTP/2 connection preface and an empty SETTINGS frame: what a client may send first.
const HTTP2_GREETING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// The server under test.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    /// `host:port` of its federation listener.
    pub(crate) address: String,
    /// Its server name.
    pub(crate) server: String,
}

/// What a server said to a connection that it should not accept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refused {
    /// Bytes of application data that came back.
    pub(crate) application_bytes: usize,
    /// Whether the server ended the connection.
    pub(crate) ended: bool,
    /// How, in words.
    pub(crate) how: String,
}

impl Refused {
    /// Whether the connection ended without a byte of HTTP.
    pub(crate) const fn before_any_byte(&self) -> bool {
        self.application_bytes == 0 && self.ended
    }
}

/// Connects with a certificate (or none), greets as HTTP/2 does, and counts what comes back. Under TLS 1.3
/// a client learns of a refusal only after its own handshake is done: so it must ask, and look.
pub(crate) async fn greet(target: &Target, identity: Option<&Identity>) -> Result<Refused> {
    let stream = match connect(target, identity).await? {
        Ok(stream) => stream,
        Err(error) => {
            return Ok(Refused {
                application_bytes: 0,
                ended: true,
                how: error.to_string(),
            });
        }
    };
    Ok(listen_after_greeting(stream).await)
}

async fn listen_after_greeting(mut stream: TlsStream<TcpStream>) -> Refused {
    if let Err(error) = stream.write_all(HTTP2_GREETING).await {
        return Refused {
            application_bytes: 0,
            ended: true,
            how: error.to_string(),
        };
    }
    let mut buffer = [0; 1024];
    match timeout(PATIENCE, stream.read(&mut buffer)).await {
        Err(_) => Refused {
            application_bytes: 0,
            ended: false,
            how: "it kept silent".to_owned(),
        },
        Ok(Err(error)) => Refused {
            application_bytes: 0,
            ended: true,
            how: error.to_string(),
        },
        Ok(Ok(0)) => Refused {
            application_bytes: 0,
            ended: true,
            how: "it closed the connection".to_owned(),
        },
        Ok(Ok(count)) => Refused {
            application_bytes: count,
            ended: false,
            how: "it spoke HTTP/2".to_owned(),
        },
    }
}

/// Sends raw bytes over TCP and returns the first bytes of the answer.
pub(crate) async fn raw(target: &Target, bytes: &[u8]) -> Result<Vec<u8>> {
    let unreachable = |error: io::Error| unreachable(target, &error);
    let mut stream = TcpStream::connect(&target.address)
        .await
        .map_err(unreachable)?;
    stream.write_all(bytes).await.map_err(unreachable)?;
    let mut buffer = vec![0; 1024];
    let count = timeout(PATIENCE, stream.read(&mut buffer))
        .await
        .ok()
        .and_then(std::result::Result::ok)
        .unwrap_or(0);
    buffer.truncate(count);
    Ok(buffer)
}

/// An answer to a request.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    /// The last part of a problem's `type`, where the answer is one (RFC 9457).
    pub(crate) fn problem(&self) -> Option<String> {
        let value: serde_json::Value = serde_json::from_slice(&self.body).ok()?;
        let kind = value.get("type")?.as_str()?;
        kind.rsplit([':', '/']).next().map(str::to_owned)
    }
}

/// A request over a connection of its own. `Err` when the server cut the connection instead of answering.
pub(crate) async fn request(
    target: &Target,
    identity: &Identity,
    method: &str,
    path: &str,
    body: Vec<u8>,
) -> Result<std::result::Result<Reply, String>> {
    let stream = match connect(target, Some(identity)).await? {
        Ok(stream) => stream,
        Err(error) => return Ok(Err(error.to_string())),
    };
    let exchange = async {
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
                .await
                .map_err(|error| error.to_string())?;
        let driver = tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(format!("https://{}{path}", target.server))
            .header("content-type", "application/octet-stream")
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| error.to_string())?;
        let response: Response<_> = sender
            .send_request(request)
            .await
            .map_err(|error| error.to_string())?;
        let status = response.status().as_u16();
        let body = response
            .into_body()
            .collect()
            .await
            .map_err(|error| error.to_string())?
            .to_bytes()
            .to_vec();
        driver.abort();
        Ok(Reply { status, body })
    };
    Ok(timeout(PATIENCE, exchange)
        .await
        .unwrap_or_else(|_| Err("no answer in time".to_owned())))
}

pub(crate) async fn connect(
    target: &Target,
    identity: Option<&Identity>,
) -> Result<std::result::Result<TlsStream<TcpStream>, io::Error>> {
    let stream = TcpStream::connect(&target.address)
        .await
        .map_err(|error| unreachable(target, &error))?;
    let provider = Arc::new(default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(Failure::certificate)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone));
    let mut config = match identity {
        Some(identity) => builder
            .with_client_auth_cert(identity.chain.clone(), identity.key())
            .map_err(Failure::certificate)?,
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    let name = ServerName::try_from(target.server.clone()).map_err(Failure::certificate)?;
    let connector = TlsConnector::from(Arc::new(config));
    Ok(timeout(PATIENCE, connector.connect(name, stream))
        .await
        .unwrap_or_else(|_| {
            Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "no handshake in time",
            ))
        }))
}

fn unreachable(target: &Target, error: &io::Error) -> Failure {
    Failure::Unreachable {
        address: target.address.clone(),
        problem: error.to_string(),
    }
}

/// Takes any server: the suite judges the server by its documents, not by this connection.
#[derive(Debug)]
struct Anyone;

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _leaf: &CertificateDer<'_>,
        _others: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not offered".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &default_provider().signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}
