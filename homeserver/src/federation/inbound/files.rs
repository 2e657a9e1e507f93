//! `GET /federation/v1/files/{file}`

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use federation_proto::ids::{AccountId, FileId, ServerName};
use federation_proto::refusal::{Refusal, RefusalCode};
use futures_util::stream;

use super::error::FederationError;
use super::gate::Gates;
use crate::audit::{self, Actor, Event};
use crate::delivery::{Batch, NotTaken, files};
use crate::federation::paths::EXPIRES_HEADER;
use crate::federation::peers::{Direction, Operation, told_to_peer};
use crate::node::Node;
use crate::store::{Part, StoreError};
use crate::tls::Peer;

/// `GET /federation/v1/files/{file}`: a file that was uploaded here, encrypted as it is, for the
/// partner's people. The agreement must be in force and let our files out.
pub(super) async fn handle(
    State(node): State<Arc<Node>>,
    Extension(Peer(peer)): Extension<Peer>,
    Extension(gates): Extension<Arc<Gates>>,
    file: Result<Path<String>, PathRejection>,
) -> Result<Response, FederationError> {
    let now_ms = node.clock.now_ms();
    let view = node
        .peers
        .judge(&peer, Direction::Outbound, Operation::Files, None, now_ms)
        .map_err(|refusal| told_to_peer(refusal, &node.server))?;
    gates
        .ask(&peer, now_ms)
        .map_err(|wait_s| FederationError::too_fast(wait_s, "more requests in a second"))?;
    let pass = gates
        .enter_file(&peer, now_ms)
        .map_err(|wait_s| FederationError::too_fast(wait_s, "more files at once"))?;
    let file: FileId = file
        .ok()
        .and_then(|Path(file)| file.parse().ok())
        .ok_or_else(|| FederationError::Malformed("the path names no file".to_owned()))?;
    let Some(outgoing) = files::open(&node, &node.server, file).await? else {
        return Err(FederationError::Gone(files::expired()));
    };
    let owner = match outgoing.owner {
        Some(owner) => user_type_of(&node, owner).await?,
        None => None,
    };
    let judged = view.judge(
        Direction::Outbound,
        Operation::Files,
        owner.as_deref(),
        now_ms,
    );
    if let Err(refusal) = judged {
        if gates.note_refusal(&peer, now_ms) {
            note(&node, &peer, file, &refusal).await?;
        }
        return Err(told_to_peer(refusal, &node.server).into());
    }
    if outgoing.info.bytes > view.agreement.file_bytes_max {
        return Err(FederationError::Refused(Refusal::new(
            RefusalCode::FilesNotAllowed,
            format!(
                "the agreement allows files of at most {} bytes",
                view.agreement.file_bytes_max
            ),
        )));
    }
    let headers = [
        (
            header::CONTENT_LENGTH,
            HeaderValue::from(outgoing.info.bytes),
        ),
        (
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/octet-stream"),
        ),
        (
            header::HeaderName::from_static(EXPIRES_HEADER),
            HeaderValue::from(outgoing.info.expires_ms),
        ),
    ];
    let chunks = stream::try_unfold(
        (node, outgoing, pass),
        async |(node, mut outgoing, pass)| {
            let next = outgoing.next(&node).await?;
            Ok::<_, NotTaken>(next.map(|bytes| (bytes, (node, outgoing, pass))))
        },
    );
    Ok((headers, Body::from_stream(chunks)).into_response())
}

/// The user type of an own account, by which the agreement judges it; `None` when it is gone.
async fn user_type_of(node: &Node, account: AccountId) -> Result<Option<String>, StoreError> {
    let batch = Batch::open(node).await?;
    let account = batch.account(account).await?;
    Ok(account.map(|account| account.user_type.clone()))
}

async fn note(
    node: &Node,
    peer: &ServerName,
    file: FileId,
    refusal: &Refusal,
) -> Result<(), StoreError> {
    let mut part = Part::default();
    let event = Event {
        at_ms: node.clock.now_ms(),
        actor: Actor::Peer(peer.clone()),
        action: "file.refused",
        subject: file.to_string(),
        detail: refusal.to_string(),
    };
    audit::record(&mut part, &event);
    node.store.commit(part).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use axum::http::Request;
    use homeserver_api::problem::PROBLEM_JSON;
    use tower::ServiceExt as _;

    use super::*;
    use crate::federation::inbound;
    use crate::node::testing;

    /// Goal: a path that is no text is answered as every mistake is; by one, from whoever is no peer.
    #[tokio::test]
    async fn a_path_that_is_no_text() {
        let (node, _) = testing::node("a.example");
        let request = Request::get("/federation/v1/files/%FF")
            .extension(Peer("b.example".parse().unwrap()))
            .body(Body::empty())
            .unwrap();
        let response = inbound::router(node).oneshot(request).await.unwrap();
        assert!(response.status().is_client_error());
        assert_eq!(response.headers()[header::CONTENT_TYPE], PROBLEM_JSON);
    }
}
