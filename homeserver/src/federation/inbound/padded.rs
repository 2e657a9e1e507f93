//! Answers as they go out: padded.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, to_bytes};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use federation_proto::limits::PAYLOAD_BYTES_MAX;
use federation_proto::padding;
use hyper::body::{Frame, SizeHint};

use super::error::FederationError;
use super::gate::Pass;

/// Largest answer that is padded: no document of the protocol is as long.
const ANSWER_BYTES_MAX: usize = PAYLOAD_BYTES_MAX;

/// Bytes of an answer that are handed to the connection at once. It takes the next ones when the peer has
/// made room for them.
const CHUNK_BYTES: usize = 16 * 1024;

/// Goes with an answer: what it answers is under way until the peer has read it. Otherwise a peer that reads
/// nothing could have any number of answers kept for it.
#[derive(Clone)]
pub(super) struct UntilRead {
    _pass: Arc<Pass>,
}

impl UntilRead {
    /// Holds `pass` that long.
    pub(super) fn holding(pass: Pass) -> Self {
        Self {
            _pass: Arc::new(pass),
        }
    }
}

/// A body that is handed over in chunks, and what is held until the last has been.
struct Chunks {
    rest: Bytes,
    _held: UntilRead,
}

impl hyper::body::Body for Chunks {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.rest.is_empty() {
            return Poll::Ready(None);
        }
        let length = self.rest.len().min(CHUNK_BYTES);
        let chunk = self.rest.split_to(length);
        Poll::Ready(Some(Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(u64::try_from(self.rest.len()).unwrap_or(u64::MAX))
    }
}

/// Pads an answer that grants something. One that refuses is padded where it is made.
pub(super) async fn answer(response: Response) -> Response {
    if response.status() != StatusCode::OK {
        return response;
    }
    let (mut head, body) = response.into_parts();
    match to_bytes(body, ANSWER_BYTES_MAX).await {
        Ok(content) => {
            head.headers.remove(header::CONTENT_LENGTH);
            // Of an answer that holds nothing too: it has a body all the same.
            let octets = HeaderValue::from_static("application/octet-stream");
            head.headers.insert(header::CONTENT_TYPE, octets);
            let padded = padding::pad(&content);
            let body = match head.extensions.remove::<UntilRead>() {
                Some(held) => Body::new(Chunks {
                    rest: padded,
                    _held: held,
                }),
                None => Body::from(padded),
            };
            Response::from_parts(head, body)
        }
        Err(error) => FederationError::Internal(error.to_string()).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: an answer that holds nothing is a padded body like any other, and says what it is; by one.
    #[tokio::test]
    async fn nothing_is_padded_too() {
        let (head, body) = answer(().into_response()).await.into_parts();
        assert_eq!(
            head.headers[header::CONTENT_TYPE],
            "application/octet-stream"
        );
        let body = to_bytes(body, ANSWER_BYTES_MAX).await.unwrap();
        assert_eq!(padding::unpad(&body, 0).unwrap(), "");
    }
}
