//! One request to the admin API and its answer, over the local socket or over TLS.
//!
//! Every request has its own connection: an administrator's commands are few, and a connection
//! that is not kept can't be stale.

mod deliver;
mod pinned_root;
mod server_url;
mod session_file;
mod sessions;
mod stream;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use homeserver_api::ids::ServerName;
use homeserver_api::problem::Problem;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

pub(crate) use self::deliver::Delivery;
pub(crate) use self::pinned_root::{RootPin, root_from_file};
pub(crate) use self::server_url::ServerUrl;
pub(crate) use self::session_file::SessionFile;
pub(crate) use self::sessions::SavedSession;
use crate::cli::ConnectionArguments;
use crate::failure::Failure;
use crate::values::now_ms;

/// How long an answer may take.
const ANSWER_SECONDS_MAX: u64 = 60;
/// Largest answer that is read.
const ANSWER_BYTES_MAX: usize = 256 * 1024 * 1024;

/// The admin API of one homeserver.
pub(crate) struct Admin {
    route: Route,
    token: Option<String>,
}

enum Route {
    Socket(PathBuf),
    Tls(Remote),
}

/// A homeserver that is administered over TLS.
pub(crate) struct Remote {
    /// `https://host:port`, the key of its saved session.
    pub(crate) url: String,
    authority: String,
    /// Its server name, which its certificate must carry.
    pub(crate) name: ServerName,
    /// The only root that is trusted.
    pub(crate) pin: RootPin,
    config: Arc<ClientConfig>,
}

impl Admin {
    /// The homeserver that the command line names, with the saved session when there is one.
    pub(crate) fn open(arguments: &ConnectionArguments) -> Result<Self, Failure> {
        let Some(url) = &arguments.server else {
            return Ok(Self {
                route: Route::Socket(arguments.socket.clone()),
                token: None,
            });
        };
        // Before anything else: how it is recognised is known from the sign-in.
        let key = ServerUrl::parse(url, "--server")?.to_string();
        let saved = SessionFile::open(arguments.session.as_deref())?.get(&key)?;
        let Some(saved) = saved.filter(|saved| saved.expires_ms > now_ms()) else {
            return Err(Failure::Other(format!(
                "you are not signed in to {url}, or the session has ended: run `hsctl login --server {url}`"
            )));
        };
        Ok(Self {
            route: Route::Tls(Remote::new(url, arguments)?),
            token: Some(saved.token),
        })
    }

    /// A homeserver over TLS, before sign-in.
    pub(crate) fn signed_out(remote: Remote) -> Self {
        Self {
            route: Route::Tls(remote),
            token: None,
        }
    }

    /// `GET`.
    pub(crate) async fn get<A: DeserializeOwned>(&self, path: &str) -> Result<A, Failure> {
        self.ask(Method::GET, path, None::<&()>).await
    }

    /// `POST` with a body.
    pub(crate) async fn post<B: Serialize, A: DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
    ) -> Result<A, Failure> {
        self.ask(Method::POST, path, Some(body)).await
    }

    /// `POST` without a body or an answer.
    pub(crate) async fn post_nothing(&self, path: &str) -> Result<(), Failure> {
        self.exchange(Method::POST, path, None::<&()>)
            .await
            .map(|_| ())
    }

    /// `POST` with a body and without an answer.
    pub(crate) async fn post_without_answer<B: Serialize>(
        &self,
        path: &str,
        body: &B,
    ) -> Result<(), Failure> {
        self.exchange(Method::POST, path, Some(body))
            .await
            .map(|_| ())
    }

    /// `PUT` with a body.
    pub(crate) async fn put<B: Serialize, A: DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
    ) -> Result<A, Failure> {
        self.ask(Method::PUT, path, Some(body)).await
    }

    /// `PATCH` with a body.
    pub(crate) async fn patch<B: Serialize, A: DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
    ) -> Result<A, Failure> {
        self.ask(Method::PATCH, path, Some(body)).await
    }

    /// `POST` without a body.
    pub(crate) async fn post_empty<A: DeserializeOwned>(&self, path: &str) -> Result<A, Failure> {
        self.ask(Method::POST, path, None::<&()>).await
    }

    /// `DELETE`.
    pub(crate) async fn delete(&self, path: &str) -> Result<(), Failure> {
        self.exchange(Method::DELETE, path, None::<&()>)
            .await
            .map(|_| ())
    }

    async fn ask<B: Serialize, A: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&B>,
    ) -> Result<A, Failure> {
        let bytes = self.exchange(method, path, body).await?;
        serde_json::from_slice(&bytes).map_err(|error| {
            Failure::Other(format!(
                "{} answered something that this hsctl does not understand ({error}): is hsctl as new as the homeserver?",
                self.endpoint()
            ))
        })
    }

    async fn exchange<B: Serialize>(
        &self,
        method: Method,
        path: &str,
        body: Option<&B>,
    ) -> Result<Bytes, Failure> {
        let request = self.request(method, path, body)?;
        let answered = tokio::time::timeout(Duration::from_secs(ANSWER_SECONDS_MAX), async {
            match &self.route {
                Route::Socket(path) => {
                    let stream = UnixStream::connect(path)
                        .await
                        .map_err(|error| socket_failure(path, &error))?;
                    self.round_trip(stream, request).await
                }
                Route::Tls(remote) => self.round_trip(remote.connect().await?, request).await,
            }
        });
        answered.await.unwrap_or_else(|_| {
            Err(self.unreachable(format!(
                "nothing came within {ANSWER_SECONDS_MAX} seconds; look at the homeserver's log"
            )))
        })
    }

    fn request<B: Serialize>(
        &self,
        method: Method,
        path: &str,
        body: Option<&B>,
    ) -> Result<Request<Full<Bytes>>, Failure> {
        let host = match &self.route {
            Route::Socket(_) => "localhost",
            Route::Tls(remote) => &remote.authority,
        };
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, host)
            .header(header::ACCEPT, "application/json, application/problem+json");
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let bytes = match body {
            Some(body) => {
                request = request.header(header::CONTENT_TYPE, "application/json");
                serde_json::to_vec(body).map_err(|error| {
                    Failure::Other(format!("the request can't be written: {error}"))
                })?
            }
            None => Vec::new(),
        };
        request
            .body(Full::new(Bytes::from(bytes)))
            .map_err(|error| Failure::Other(format!("the request can't be made: {error}")))
    }

    async fn round_trip<S>(
        &self,
        stream: S,
        request: Request<Full<Bytes>>,
    ) -> Result<Bytes, Failure>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let broken = |error: hyper::Error| {
            self.unreachable(format!(
                "the connection broke ({error}); look whether the homeserver still runs"
            ))
        };
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(broken)?;
        // The connection ends with the sender; what goes wrong on it reaches the request.
        tokio::spawn(connection);
        let answer = sender.send_request(request).await.map_err(broken)?;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, ANSWER_BYTES_MAX)
            .collect()
            .await
            .map_err(|error| self.unreachable(format!("the answer broke off: {error}")))?
            .to_bytes();
        if head.status.is_success() {
            Ok(body)
        } else {
            Err(self.refusal(head.status, &body))
        }
    }

    fn refusal(&self, status: StatusCode, body: &[u8]) -> Failure {
        let problem = serde_json::from_slice(body).unwrap_or_else(|_| {
            Problem::new(
                status.as_u16(),
                "unexplained",
                "refused without a reason",
                format!(
                    "{} answered {status} without saying why: check that it is a homeserver's admin API.",
                    self.endpoint()
                ),
            )
        });
        Failure::Refused(problem)
    }

    fn unreachable(&self, reason: String) -> Failure {
        Failure::Unreachable {
            endpoint: self.endpoint(),
            reason,
        }
    }

    fn endpoint(&self) -> String {
        match &self.route {
            Route::Socket(path) => path.display().to_string(),
            Route::Tls(remote) => remote.url.clone(),
        }
    }
}

fn socket_failure(path: &Path, error: &io::Error) -> Failure {
    let endpoint = path.display().to_string();
    match error.kind() {
        io::ErrorKind::PermissionDenied => Failure::Other(format!(
            "you may not open {endpoint}: run hsctl as the homeserver's user or as root (sudo), or administer over TLS \
             with --server"
        )),
        io::ErrorKind::NotFound => Failure::Unreachable {
            endpoint,
            reason:
                "there is no such socket; start the homeserver, or name its socket with --socket \
                     (`admin_socket` under `[listen]` in its configuration)"
                    .to_owned(),
        },
        _ => Failure::Unreachable {
            endpoint,
            reason: format!("{error}; start the homeserver, or look at its log"),
        },
    }
}

impl Remote {
    /// The homeserver at `url`, recognised as the flags say, else as at the last sign-in.
    pub(crate) fn new(url: &str, arguments: &ConnectionArguments) -> Result<Self, Failure> {
        let url = ServerUrl::parse(url, "--server")?;
        let (host, authority, url) = (url.host(), url.authority(), url.to_string());
        let saved = SessionFile::open(arguments.session.as_deref())?.get(&url)?;
        let name = match (&arguments.server_name, &saved) {
            (Some(name), _) => name.clone(),
            (None, Some(saved)) => saved.server_name.clone(),
            (None, None) => host.parse().map_err(|_| {
                Failure::Usage(format!(
                    "{host} is not a server name: give the homeserver's with --server-name"
                ))
            })?,
        };
        let pin = match (&arguments.root_sha256, &arguments.root, &saved) {
            (Some(hex), _, _) => RootPin::from_hex(hex).map_err(Failure::Usage)?,
            (None, Some(file), _) => RootPin::from_file(file)?,
            (None, None, Some(saved)) => {
                RootPin::from_hex(&saved.root_sha256).map_err(Failure::Configuration)?
            }
            (None, None, None) => {
                return Err(Failure::Usage(format!(
                    "{url} can't be recognised yet: give the organisation's root with --root-sha256 or --root \
                     (`hsctl status` on the homeserver's own machine prints it)"
                )));
            }
        };
        let config = pinned_root::client_config(&pin)?;
        Ok(Self {
            url,
            authority,
            name,
            pin,
            config: Arc::new(config),
        })
    }

    /// The homeserver at `url` (given with `flag`), which must prove to be `name` under this root.
    fn pinned(url: &str, flag: &str, name: ServerName, pin: RootPin) -> Result<Self, Failure> {
        let url = ServerUrl::parse(url, flag)?;
        Ok(Self {
            config: Arc::new(pinned_root::client_config(&pin)?),
            authority: url.authority(),
            url: url.to_string(),
            name,
            pin,
        })
    }

    async fn connect(&self) -> Result<tokio_rustls::client::TlsStream<TcpStream>, Failure> {
        let unreachable = |reason| Failure::Unreachable {
            endpoint: self.url.clone(),
            reason,
        };
        let stream = TcpStream::connect(&self.authority).await.map_err(|error| {
            unreachable(format!(
                "{error}; check the address, and that the homeserver runs"
            ))
        })?;
        let name = rustls_pki_types::ServerName::try_from(self.name.as_str().to_owned())
            .map_err(|error| Failure::Usage(format!("{}: {error}", self.name)))?;
        TlsConnector::from(Arc::clone(&self.config))
            .connect(name, stream)
            .await
            .map_err(|error| {
                if error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()) {
                    Failure::Other(format!(
                        "{} did not prove to be {} under the pinned root ({error}): check --server-name and \
                         --root-sha256, and suspect the network",
                        self.url, self.name
                    ))
                } else {
                    unreachable(format!("{error}; the connection broke while it was being secured"))
                }
            })
    }
}

/// A name as one segment of a path.
pub(crate) fn segment(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: no name can leave its segment of the path.
    #[test]
    fn segments() {
        assert_eq!(segment("night-shift"), "night-shift");
        assert_eq!(segment("a/b?c d%é"), "a%2Fb%3Fc%20d%25%C3%A9");
    }
}
