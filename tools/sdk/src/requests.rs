//! The client API's requests: JSON over HTTP/1.1 over the pinned TLS.
//!
//! A connection a request: requests are rare beside the session.

use std::time::Duration;

use bytes::Bytes;
use homeserver_api::problem::Problem;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use crate::error::Error;
use crate::session::Endpoint;

/// Largest JSON answer: a thousand roots of two kilobytes fit.
const ANSWER_BYTES_MAX: usize = 8 * 1024 * 1024;
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// `GET path`.
pub(crate) async fn get<A: DeserializeOwned>(
    endpoint: &Endpoint,
    token: Option<&str>,
    path: &str,
) -> Result<A, Error> {
    exchange(endpoint, token, Method::GET, path, Bytes::new()).await
}

/// `POST path` without a body.
pub(crate) async fn post<A: DeserializeOwned>(
    endpoint: &Endpoint,
    token: &str,
    path: &str,
) -> Result<A, Error> {
    exchange(endpoint, Some(token), Method::POST, path, Bytes::new()).await
}

/// `method path` with a JSON body.
pub(crate) async fn send<B: Serialize, A: DeserializeOwned>(
    endpoint: &Endpoint,
    token: Option<&str>,
    method: Method,
    path: &str,
    body: &B,
) -> Result<A, Error> {
    let body = serde_json::to_vec(body).map_err(|e| Error::Protocol(e.to_string()))?;
    exchange(endpoint, token, method, path, body.into()).await
}

/// `method path` with a JSON body or none, whose answer says nothing but that it is done.
pub(crate) async fn act<B: Serialize>(
    endpoint: &Endpoint,
    token: &str,
    method: Method,
    path: &str,
    body: Option<&B>,
) -> Result<(), Error> {
    let body = body
        .map_or(Ok(Vec::new()), serde_json::to_vec)
        .map_err(|e| Error::Protocol(e.to_string()))?;
    answer(endpoint, Some(token), method, path, body.into())
        .await
        .map(|_| ())
}

async fn exchange<A: DeserializeOwned>(
    endpoint: &Endpoint,
    token: Option<&str>,
    method: Method,
    path: &str,
    body: Bytes,
) -> Result<A, Error> {
    let answer = answer(endpoint, token, method, path, body).await?;
    serde_json::from_slice(&answer).map_err(|e| Error::Protocol(e.to_string()))
}

/// The body of the answer to a request, whole and in time.
async fn answer(
    endpoint: &Endpoint,
    token: Option<&str>,
    method: Method,
    path: &str,
    body: Bytes,
) -> Result<Bytes, Error> {
    let exchange = async {
        let mut request = request(endpoint, token, method, path)?;
        if !body.is_empty() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let request = request
            .body(Full::new(body))
            .map_err(|e| Error::Protocol(e.to_string()))?;
        let response = start(endpoint, request).await?;
        collect(endpoint, response).await
    };
    timeout(REQUEST_TIMEOUT, exchange)
        .await
        .map_err(|_| Error::Unreachable {
            endpoint: endpoint.address().to_owned(),
            reason: "it did not answer in time".to_owned(),
        })?
}

/// The beginning of every request.
pub(crate) fn request(
    endpoint: &Endpoint,
    token: Option<&str>,
    method: Method,
    path: &str,
) -> Result<http::request::Builder, Error> {
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header(HOST, endpoint.server().as_str());
    if let Some(token) = token {
        let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
            .map_err(|_| Error::InvalidArgument("the token is not one".to_owned()))?;
        value.set_sensitive(true);
        request = request.header(AUTHORIZATION, value);
    }
    Ok(request)
}

/// Sends a request; the answer's body is still to come. A problem becomes an error.
pub(crate) async fn start<B>(
    endpoint: &Endpoint,
    request: Request<B>,
) -> Result<Response<Incoming>, Error>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let broken = |error: hyper::Error| Error::Unreachable {
        endpoint: endpoint.address().to_owned(),
        reason: error.to_string(),
    };
    let stream = endpoint.dial().await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(broken)?;
    // Ends with the answer's body, or when the answer is dropped.
    tokio::spawn(connection);
    let response = sender.send_request(request).await.map_err(broken)?;
    if response.status().is_success() {
        return Ok(response);
    }
    let status = response.status();
    let body = collect(endpoint, response).await?;
    match serde_json::from_slice::<Problem>(&body) {
        Ok(problem) => Err(Error::Problem(problem)),
        Err(_) => Err(Error::Protocol(format!("the answer was {status}"))),
    }
}

/// An answer's JSON body.
pub(crate) async fn json<A: DeserializeOwned>(
    endpoint: &Endpoint,
    response: Response<Incoming>,
) -> Result<A, Error> {
    let body = collect(endpoint, response).await?;
    serde_json::from_slice(&body).map_err(|e| Error::Protocol(e.to_string()))
}

async fn collect(endpoint: &Endpoint, response: Response<Incoming>) -> Result<Bytes, Error> {
    Limited::new(response.into_body(), ANSWER_BYTES_MAX)
        .collect()
        .await
        .map(http_body_util::Collected::to_bytes)
        .map_err(|error| Error::Unreachable {
            endpoint: endpoint.address().to_owned(),
            reason: error.to_string(),
        })
}
