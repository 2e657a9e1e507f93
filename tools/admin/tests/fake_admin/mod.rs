//! An admin API that answers from a table and remembers what it was asked, over a Unix socket or
//! TLS; and the real `hsctl` run against it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    dead_code,
    reason = "a helper of tests: it may stop at the first surprise; each test file uses a part of it"
)]

use std::collections::HashMap;
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::process::Command;
use tokio_rustls::TlsAcceptor;

/// What was asked: method and path, the body, the bearer token.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Asked {
    pub(crate) line: String,
    pub(crate) body: Value,
    pub(crate) token: Option<String>,
}

/// The fake: a table of answers, and what was asked so far.
#[derive(Clone)]
pub(crate) struct FakeAdmin {
    answers: Arc<HashMap<String, (u16, Value)>>,
    asked: Arc<Mutex<Vec<Asked>>>,
    folder: Arc<TempDir>,
}

impl FakeAdmin {
    /// Answers each `METHOD /path` with a status and a body.
    pub(crate) fn new(answers: &[(&str, u16, Value)]) -> Self {
        Self {
            answers: Arc::new(
                answers
                    .iter()
                    .map(|(line, status, body)| ((*line).to_owned(), (*status, body.clone())))
                    .collect(),
            ),
            asked: Arc::default(),
            folder: Arc::new(tempfile::tempdir().unwrap()),
        }
    }

    /// A file in the test's folder.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Everything asked so far, in order.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// Runs hsctl against this fake over a Unix socket.
    pub(crate) async fn hsctl(&self, line: &str) -> Outcome {
        let socket = self.file("admin.sock");
        if !socket.exists() {
            let listener = UnixListener::bind(&socket).unwrap();
            let fake = self.clone();
            tokio::spawn(async move {
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    tokio::spawn(fake.clone().serve(stream));
                }
            });
        }
        hsctl(&["--socket", socket.to_str().unwrap()], line).await
    }

    /// Listens with TLS; where, as `https://127.0.0.1:port`.
    pub(crate) async fn listen_tls(&self, config: rustls::ServerConfig) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let fake = self.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (fake, acceptor) = (fake.clone(), acceptor.clone());
                tokio::spawn(async move {
                    // A client that does not trust this server hangs up here.
                    if let Ok(stream) = acceptor.accept(stream).await {
                        fake.serve(stream).await;
                    }
                });
            }
        });
        url
    }

    async fn serve<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(self, stream: S) {
        let answer = |request: Request<Incoming>| {
            let fake = self.clone();
            async move { Ok::<_, Infallible>(fake.answer(request).await) }
        };
        let _ = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(stream), service_fn(answer))
            .await;
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let line = format!("{} {}", request.method(), request.uri());
        let token = request
            .headers()
            .get("authorization")
            .map(|value| value.to_str().unwrap().to_owned());
        let body = request.into_body().collect().await.unwrap().to_bytes();
        self.asked.lock().unwrap().push(Asked {
            line: line.clone(),
            body: serde_json::from_slice(&body).unwrap_or(Value::Null),
            token,
        });
        let (status, body) = self.answers.get(&line).cloned().unwrap_or_else(|| {
            (
                404,
                Value::String(format!("the fake has no answer to {line}")),
            )
        });
        let bytes = if body.is_null() {
            Bytes::new()
        } else {
            Bytes::from(serde_json::to_vec(&body).unwrap())
        };
        Response::builder()
            .status(status)
            .body(Full::new(bytes))
            .unwrap()
    }
}

/// What one run of hsctl printed and how it ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs hsctl without a terminal and without the user's own settings.
pub(crate) async fn hsctl(flags: &[&str], line: &str) -> Outcome {
    let output = Command::new(Path::new(env!("CARGO_BIN_EXE_hsctl")))
        .args(flags)
        .args(line.split_whitespace())
        .env_clear()
        .stdin(Stdio::null())
        .output()
        .await
        .unwrap();
    Outcome {
        code: output.status.code().unwrap(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}
