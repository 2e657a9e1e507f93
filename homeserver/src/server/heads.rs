//! How much of a request's head every listener takes, and what it answers to more: a problem that says what to do.
//!
//! The HTTP library refuses with an empty answer what it can't read or hold. So it is let read more than is taken,
//! and what lies between is refused here, before any API sees it.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use federation_proto::limits::{HEAD_BYTES_MAX, HEADERS_MAX, PADDED_BYTES_MIN};
use futures_util::future::Either;
use homeserver_api::problem::{PROBLEM_JSON, Problem};
use hyper::Request;
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::TokioTimer;

/// What is read of a head before the library gives up by itself.
pub(super) const READ_BYTES_MAX: u16 = 32 * 1024;
const READ_HEADERS_MAX: usize = 256;
/// What parts a header's name from its value, and it from the next.
const SEPARATOR_BYTES: usize = ": \r\n".len();
/// A request line's two spaces, its version and its end.
const LINE_REST_BYTES: usize = "  HTTP/1.1\r\n".len();

/// An HTTP/1 server whose requests' heads have arrived whole within a time.
pub(super) fn http1(head_time_max: Duration) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(head_time_max)
        .max_buf_size(usize::from(READ_BYTES_MAX))
        // The buffer alone is no exact bound: what arrives at once may be more.
        .max_header_size(usize::from(READ_BYTES_MAX))
        .max_headers(READ_HEADERS_MAX);
    builder
}

/// A service that is asked only what has a head within the bounds.
#[derive(Debug, Clone)]
pub(super) struct Heads<S>(pub(super) S);

impl<S, B> Service<Request<B>> for Heads<S>
where
    S: Service<Request<B>, Response = Response, Error = Infallible>,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Either<Ready<Result<Response, Infallible>>, S::Future>;

    fn call(&self, request: Request<B>) -> Self::Future {
        match refused(&request) {
            Some(response) => Either::Left(ready(Ok(response))),
            None => Either::Right(self.0.call(request)),
        }
    }
}

/// The answer to a request whose head is too large.
fn refused<B>(request: &Request<B>) -> Option<Response> {
    let headers = request.headers();
    let uri = request.uri();
    let scheme = uri.scheme_str().map_or(0, |text| text.len() + "://".len());
    let authority = uri.authority().map_or(0, |part| part.as_str().len());
    let path = uri.path_and_query().map_or(0, |part| part.as_str().len());
    let line = request.method().as_str().len() + scheme + authority + path + LINE_REST_BYTES;
    let bytes = headers.iter().fold(line, |sum, (name, value)| {
        sum + name.as_str().len() + value.len() + SEPARATOR_BYTES
    });
    if bytes <= HEAD_BYTES_MAX && headers.len() <= HEADERS_MAX {
        return None;
    }
    let problem = Problem::new(
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE.as_u16(),
        "head-too-large",
        "the request's head is too large",
        format!(
            "the request's line and headers are {bytes} bytes and {count} headers: send at most {HEAD_BYTES_MAX} bytes and \
             {HEADERS_MAX} headers, and what is long in the body",
            count = headers.len()
        ),
    );
    let mut body = serde_json::to_vec(&problem).unwrap_or_default();
    // Between servers short answers have one length; white space that follows is no part of it.
    body.resize(body.len().max(PADDED_BYTES_MIN), b' ');
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
    let json = HeaderValue::from_static(PROBLEM_JSON);
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    Some(response)
}

#[cfg(test)]
mod tests {
    use hyper::service::service_fn;
    use hyper_util::rt::TokioIo;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// What a listener answers to these bytes.
    async fn answer(request: &str) -> String {
        let (mut client, server) = tokio::io::duplex(1 << 20);
        let service = Heads(service_fn(|_: Request<hyper::body::Incoming>| {
            ready(Ok::<_, Infallible>(Response::new(Body::from("taken"))))
        }));
        let connection = http1(Duration::from_secs(10))
            .keep_alive(false)
            .serve_connection(TokioIo::new(server), service);
        client.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let (_, read) = tokio::join!(connection, client.read_to_end(&mut answer));
        read.unwrap();
        String::from_utf8(answer).unwrap()
    }

    /// A request of so many bytes, all of them its head, with so many headers.
    fn request(bytes: usize, headers: usize) -> String {
        let mut request = "GET / HTTP/1.1\r\n".to_owned();
        for n in 1..headers {
            request += &format!("a{n}: b\r\n");
        }
        let rest = (request.len() + "long: \r\n".len() + "\r\n".len()).min(bytes);
        request + &format!("long: {}\r\n\r\n", "x".repeat(bytes - rest))
    }

    /// Goal: a head up to the bounds is taken, a larger one is refused with a problem that names the bounds, and what
    /// is beyond what is read, or no HTTP, is refused all the same, as the documentation says: without a body. Method: heads
    /// around each bound.
    #[tokio::test]
    async fn heads_have_bounds() {
        // The empty line at the end is not counted.
        for taken in [request(HEAD_BYTES_MAX + 2, 2), request(0, HEADERS_MAX)] {
            let answer = answer(&taken).await;
            assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        }
        let long_path = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(HEAD_BYTES_MAX));
        for larger in [
            request(HEAD_BYTES_MAX + 3, 2),
            request(usize::from(READ_BYTES_MAX), 2),
            request(0, HEADERS_MAX + 1),
            request(0, READ_HEADERS_MAX),
            long_path,
        ] {
            let answer = answer(&larger).await;
            assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
            assert!(
                answer.contains("content-type: application/problem+json\r\n"),
                "{answer}"
            );
            assert!(answer.contains("\"urn:entente:problem:head-too-large\""));
            assert!(answer.contains("at most 16384 bytes and 100 headers"));
        }
        for (beyond, status) in [
            (request(usize::from(READ_BYTES_MAX) + 1, 2), "431"),
            (request(0, READ_HEADERS_MAX + 1), "431"),
            ("GET / HTTP/9\r\n\r\n".to_owned(), "400"),
            ("GET / HTTP/1.1\r\nno colon\r\n\r\n".to_owned(), "400"),
        ] {
            let answer = answer(&beyond).await;
            assert!(
                answer.starts_with(&format!("HTTP/1.1 {status} ")),
                "{answer}"
            );
            assert!(answer.contains("content-length: 0\r\n"), "{answer}");
        }
    }
}
