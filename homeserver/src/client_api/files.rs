//! Encrypted files go in and out.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use federation_proto::ids::{FileId, ServerName};
use federation_proto::refusal::RefusalCode;
use futures_util::{StreamExt as _, stream};
use homeserver_api::client::{FileInfo, TTL_HEADER};
use homeserver_api::problem::Problem;

use super::error::ApiError;
use super::extract::{Path, too_slow};
use super::limits::UPLOAD_PAUSE_TIME_MAX;
use crate::audit::{Actor, Event};
use crate::delivery::NotTaken;
use crate::delivery::files::{self, Incoming, Outgoing};
use crate::node::{Hint, Node};
use crate::store::device::DeviceOf;

/// How long a device waits before it asks again for a file that is being fetched, in seconds.
const FETCH_RETRY_S: u64 = 1;

/// `POST /v1/files`
pub(super) async fn upload(
    State(node): State<Arc<Node>>,
    Extension(device): Extension<DeviceOf>,
    request: Request,
) -> Result<(StatusCode, Json<FileInfo>), ApiError> {
    let bytes = number(request.headers(), header::CONTENT_LENGTH.as_str(), 411)?;
    let ttl_seconds = number(request.headers(), TTL_HEADER, 400)?;
    let ttl_seconds = u32::try_from(ttl_seconds).unwrap_or(u32::MAX);
    let begun = files::begin_upload(&node, device, bytes, ttl_seconds).await;
    let mut incoming = audited(&node, device, "upload", begun).await?;
    match take_in(&mut incoming, request.into_body()).await {
        Ok(()) => {}
        Err(TakenIn::Body(error)) => {
            incoming.abandon().await?;
            return Err(error);
        }
        Err(TakenIn::NotTaken(error)) => {
            incoming.abandon().await?;
            return audited(&node, device, "upload", Err(error)).await;
        }
    }
    let info = audited(&node, device, "upload", incoming.finish().await).await?;
    Ok((StatusCode::CREATED, Json(info)))
}

/// Audits a refusal, within bounds, and passes on what came of it.
async fn audited<T>(
    node: &Node,
    device: DeviceOf,
    what: &str,
    result: Result<T, NotTaken>,
) -> Result<T, ApiError> {
    // That the homeserver itself can't is no refusal of this device's, and audited elsewhere.
    if let Err(NotTaken::Refused(refusal)) = &result
        && refusal.code != RefusalCode::Unavailable
    {
        let event = Event {
            at_ms: node.clock.now_ms(),
            actor: Actor::Device(device.device),
            action: "file.refused",
            subject: format!("account {}", device.account),
            detail: format!("{what}: {}: {}", refusal.code.as_str(), refusal.reason),
        };
        node.repeated.note(&node.store, event).await?;
    }
    result.map_err(ApiError::from)
}

/// Why a file was not taken in whole.
enum TakenIn {
    /// Its bytes did not come.
    Body(ApiError),
    /// It was refused, or the store failed.
    NotTaken(NotTaken),
}

async fn take_in(incoming: &mut Incoming<'_>, body: Body) -> Result<(), TakenIn> {
    let mut body = body.into_data_stream();
    let paused = |_| {
        let seconds = UPLOAD_PAUSE_TIME_MAX.as_secs();
        TakenIn::Body(too_slow(format!("without pauses of more than {seconds} s")))
    };
    while let Some(bytes) = tokio::time::timeout(UPLOAD_PAUSE_TIME_MAX, body.next())
        .await
        .map_err(paused)?
    {
        let bytes = bytes.map_err(|_| {
            TakenIn::Body(ApiError::problem(Problem::new(
                400,
                "body-cut-off",
                "the body was cut off",
                "send the file again",
            )))
        })?;
        incoming.write(bytes).await.map_err(TakenIn::NotTaken)?;
    }
    Ok(())
}

/// `GET /v1/files/{server}/{file}`
pub(super) async fn download(
    State(node): State<Arc<Node>>,
    Extension(device): Extension<DeviceOf>,
    Path((server, file)): Path<(ServerName, FileId)>,
) -> Result<Response, ApiError> {
    let allowed = files::may_download(&node, device.account, &server).await;
    audited(&node, device, "download", allowed).await?;
    if let Some(outgoing) = files::open(&node, &server, file).await? {
        let counted = files::count_download(&node, device.account, outgoing.info.bytes).await;
        audited(&node, device, "download", counted).await?;
        return Ok(stream_out(node, outgoing));
    }
    if server == node.server {
        return Err(files::expired().into());
    }
    let now_ms = node.clock.now_ms();
    if let Some(refusal) = node.fetches.failure(&server, file, now_ms) {
        return Err(refusal.into());
    }
    node.hint(Hint::FileWanted { server, file });
    let retry_after = [(header::RETRY_AFTER, HeaderValue::from(FETCH_RETRY_S))];
    Ok((StatusCode::ACCEPTED, retry_after).into_response())
}

fn stream_out(node: Arc<Node>, outgoing: Outgoing) -> Response {
    let length = HeaderValue::from(outgoing.info.bytes);
    let chunks = stream::try_unfold((node, outgoing), async |(node, mut outgoing)| {
        let next = outgoing.next(&node).await?;
        Ok::<_, NotTaken>(next.map(|bytes| (bytes, (node, outgoing))))
    });
    let headers = [
        (header::CONTENT_LENGTH, length),
        (
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/octet-stream"),
        ),
    ];
    (headers, Body::from_stream(chunks)).into_response()
}

/// A header that must be there and be a number.
fn number(headers: &HeaderMap, name: &str, status: u16) -> Result<u64, ApiError> {
    headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.parse().ok())
        .ok_or_else(|| {
            ApiError::problem(Problem::new(
                status,
                "missing-header",
                "a header is missing",
                format!("send the header {name} with a number"),
            ))
        })
}
