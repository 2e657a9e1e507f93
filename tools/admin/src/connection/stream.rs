//! An answer that is as long as it takes, given on piece by piece.

use std::time::Duration;

use http::{Method, Request};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;

use super::{ANSWER_SECONDS_MAX, Admin, Route, socket_failure};
use crate::failure::Failure;

/// Largest problem that is read.
const PROBLEM_BYTES_MAX: usize = 64 * 1024;

/// Whoever takes the pieces of an answer.
type Take<'t> = dyn FnMut(&[u8]) -> Result<(), Failure> + 't;

impl Admin {
    /// `POST` with a body, whose answer is given to `take` as it comes. Each piece has its time, all of them have none.
    pub(crate) async fn post_for_stream<B: Serialize>(
        &self,
        path: &str,
        body: &B,
        take: &mut Take<'_>,
    ) -> Result<(), Failure> {
        let request = self.request(Method::POST, path, Some(body))?;
        match &self.route {
            Route::Socket(path) => {
                let stream = UnixStream::connect(path)
                    .await
                    .map_err(|error| socket_failure(path, &error))?;
                self.stream_from(stream, request, take).await
            }
            Route::Tls(remote) => {
                self.stream_from(remote.connect().await?, request, take)
                    .await
            }
        }
    }

    async fn stream_from<S>(
        &self,
        stream: S,
        request: Request<Full<Bytes>>,
        take: &mut Take<'_>,
    ) -> Result<(), Failure>
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
        tokio::spawn(connection);
        let answer = self.in_time(sender.send_request(request)).await?;
        let (head, mut body) = answer.map_err(broken)?.into_parts();
        if !head.status.is_success() {
            let body = Limited::new(body, PROBLEM_BYTES_MAX).collect().await;
            let body = body.map(|body| body.to_bytes()).unwrap_or_default();
            return Err(self.refusal(head.status, &body));
        }
        while let Some(frame) = self.in_time(body.frame()).await? {
            let frame = frame
                .map_err(|error| self.unreachable(format!("the answer broke off: {error}")))?;
            if let Ok(data) = frame.into_data() {
                take(&data)?;
            }
        }
        Ok(())
    }

    async fn in_time<T>(&self, coming: impl Future<Output = T>) -> Result<T, Failure> {
        let within = Duration::from_secs(ANSWER_SECONDS_MAX);
        tokio::time::timeout(within, coming).await.map_err(|_| {
            self.unreachable(format!(
                "nothing came within {ANSWER_SECONDS_MAX} seconds; look at the homeserver's log"
            ))
        })
    }
}
