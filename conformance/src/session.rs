//! A connection to the server under test that stays open.

use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::failure::Result;
use crate::link::{PATIENCE, Reply, Target, connect};
use crate::organisation::Identity;

/// One HTTP/2 connection; closed when dropped.
pub(crate) struct Session {
    server: String,
    requests: SendRequest<Full<Bytes>>,
    driver: JoinHandle<()>,
}

impl Session {
    /// Opens it. `Err` inside when the server does not want it.
    pub(crate) async fn open(
        target: &Target,
        identity: &Identity,
    ) -> Result<std::result::Result<Self, String>> {
        let stream = match connect(target, Some(identity)).await? {
            Ok(stream) => stream,
            Err(error) => return Ok(Err(error.to_string())),
        };
        let shaken =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
        Ok(match timeout(PATIENCE, shaken).await {
            Ok(Ok((requests, connection))) => Ok(Self {
                server: target.server.clone(),
                requests,
                driver: tokio::spawn(async move {
                    // However it ends: the requests tell.
                    let _ = connection.await;
                }),
            }),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("no HTTP/2 in time".to_owned()),
        })
    }

    /// Whether the other side has not ended it yet.
    pub(crate) fn is_open(&self) -> bool {
        !self.driver.is_finished()
    }

    /// Resolves when the connection has ended.
    pub(crate) async fn ended(&mut self) {
        let _ = (&mut self.driver).await;
    }

    /// Posts a body. `Err` when the connection ended instead of an answer.
    pub(crate) async fn post(
        &mut self,
        path: &str,
        body: Vec<u8>,
    ) -> std::result::Result<Reply, String> {
        let request = Request::post(format!("https://{}{path}", self.server))
            .header("content-type", "application/octet-stream")
            .header("content-length", body.len())
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| error.to_string())?;
        let exchange = async {
            self.requests
                .ready()
                .await
                .map_err(|error| error.to_string())?;
            let response = self
                .requests
                .send_request(request)
                .await
                .map_err(|error| error.to_string())?;
            let status = response.status().as_u16();
            let body = response.into_body().collect().await;
            let body = body.map_err(|error| error.to_string())?.to_bytes().to_vec();
            Ok(Reply { status, body })
        };
        timeout(PATIENCE, exchange)
            .await
            .unwrap_or_else(|_| Err("no answer in time".to_owned()))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.driver.abort();
    }
}
