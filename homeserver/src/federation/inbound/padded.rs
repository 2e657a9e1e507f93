//! Answers as they go out: padded.

use axum::body::{Body, to_bytes};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use federation_proto::limits::PAYLOAD_BYTES_MAX;
use federation_proto::padding;

use super::error::FederationError;

/// Largest answer that is padded: no document of the protocol is as long.
const ANSWER_BYTES_MAX: usize = PAYLOAD_BYTES_MAX;

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
            Response::from_parts(head, Body::from(padding::pad(&content)))
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
