//! Fetches the files of peers that devices here ask for, and keeps a copy until they expire.
//!
//! A device never waits on a peer: it is told to come again, and finds the copy, or the reason why
//! there is none.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use federation_proto::ids::{FileId, ServerName};
use federation_proto::refusal::{Refusal, RefusalCode};
use homeserver_api::problem::Problem;
use http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use tokio::sync::broadcast::error::RecvError;
use tokio::task::{Id, JoinSet};

use crate::delivery::{NotTaken, files};
use crate::federation::outbound::{Network, PROBLEM_BYTES_MAX, ResponseBody};
use crate::federation::paths;
use crate::federation::peers::{Direction, Operation};
use crate::node::{Hint, Node};

/// Files fetched at the same time,
const FETCHES_MAX: usize = 8;
/// and those of one peer among them: one that is slow must not keep the others' waiting.
const FETCHES_PER_PEER_MAX: usize = 2;
/// Longest wait for the answer's head, and then for each piece of the body.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// Fetches what is asked for, until it is dropped.
pub async fn run(node: Arc<Node>, network: Arc<dyn Network>) {
    let mut hints = node.hints();
    let mut under_way: HashMap<Id, (ServerName, FileId)> = HashMap::new();
    let mut tasks = JoinSet::new();
    loop {
        tokio::select! {
            // What asks while all are busy asks again in a moment.
            hint = hints.recv(), if tasks.len() < FETCHES_MAX => match hint {
                Ok(Hint::FileWanted { server, file }) => {
                    let of_peer = under_way.values().filter(|(of, _)| *of == server);
                    let is_new = under_way.values().all(|of| *of != (server.clone(), file));
                    if is_new && of_peer.count() < FETCHES_PER_PEER_MAX {
                        let (node, network) = (Arc::clone(&node), Arc::clone(&network));
                        let wanted = (server.clone(), file);
                        let task = tasks.spawn(async move {
                            fetch(&node, network.as_ref(), &server, file).await;
                        });
                        under_way.insert(task.id(), wanted);
                    }
                }
                Ok(_) | Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            },
            Some(done) = tasks.join_next_with_id() => match done {
                Ok((id, ())) => {
                    under_way.remove(&id);
                }
                Err(error) => {
                    under_way.remove(&error.id());
                    tracing::error!(%error, "fetching a file failed");
                }
            },
        }
    }
}

/// Fetches one file, or notes why not.
pub(in crate::federation) async fn fetch(
    node: &Node,
    network: &dyn Network,
    server: &ServerName,
    file: FileId,
) {
    if let Err(refusal) = try_fetch(node, network, server, file).await {
        tracing::debug!(%server, %file, %refusal, "a file could not be fetched");
        let now_ms = node.clock.now_ms();
        node.fetches.failed(server, file, refusal, now_ms);
    }
}

async fn try_fetch(
    node: &Node,
    network: &dyn Network,
    server: &ServerName,
    file: FileId,
) -> Result<(), Refusal> {
    let peer = node.peers.judge(
        server,
        Direction::Inbound,
        Operation::Files,
        None,
        node.clock.now_ms(),
    )?;
    // Whoever asked may have asked before it came.
    if files::open(node, server, file)
        .await
        .map_err(unavailable)?
        .is_some()
    {
        return Ok(());
    }
    let request = Request::builder()
        .method(Method::GET)
        .uri(format!("https://{server}{}{file}", paths::FILES))
        .body(Bytes::new())
        .map_err(unavailable)?;
    let response = network
        .send(server, &peer.endpoints, request, SILENCE_MAX)
        .await
        .map_err(unavailable)?;
    let (head, body) = response.into_parts();
    if head.status != StatusCode::OK {
        return Err(refused(head.status, body).await);
    }
    let Some((bytes, expires_ms)) = announced(&head.headers) else {
        return Err(unavailable("the answer lacks its length or its expiry"));
    };
    if bytes > peer.agreement.file_bytes_max {
        return Err(Refusal::new(
            RefusalCode::FilesNotAllowed,
            format!(
                "the agreement with {server} allows files of at most {} bytes",
                peer.agreement.file_bytes_max
            ),
        ));
    }
    let longest_ms = u64::from(peer.agreement.ttl_max_seconds).saturating_mul(1000);
    let expires_ms = expires_ms.min(node.clock.now_ms().saturating_add(longest_ms));
    let mut incoming = files::begin_copy(node, server, file, bytes, expires_ms)
        .await
        .map_err(refusal_of)?;
    let within = node.config.federation.patience.with(bytes);
    let taken = tokio::time::timeout(within, take_in(&mut incoming, body));
    match taken.await.unwrap_or_else(|_| Err(too_slow())) {
        // Under the terms that it was asked for: what has ended meanwhile leaves nothing behind.
        Ok(()) => match incoming.finish_if(Some(peer.unchanged())).await {
            Ok(_) => Ok(()),
            Err(NotTaken::Refused(refusal)) if refusal.code == RefusalCode::Expired => {
                Err(unavailable("the agreement has changed meanwhile"))
            }
            Err(error) => Err(refusal_of(error)),
        },
        Err(refusal) => {
            incoming.abandon().await.map_err(unavailable)?;
            Err(refusal)
        }
    }
}

/// A file's length and when it expires, as its answer's head says.
fn announced(head: &HeaderMap) -> Option<(u64, u64)> {
    Some((
        paths::number(head, header::CONTENT_LENGTH.as_str())?,
        paths::number(head, paths::EXPIRES_HEADER)?,
    ))
}

async fn take_in(
    incoming: &mut files::Incoming<'_>,
    mut body: ResponseBody,
) -> Result<(), Refusal> {
    loop {
        let frame = tokio::time::timeout(SILENCE_MAX, body.frame())
            .await
            .map_err(|_| unavailable("the file stopped arriving"))?;
        let Some(frame) = frame else {
            return Ok(());
        };
        if let Ok(data) = frame.map_err(unavailable)?.into_data() {
            incoming.write(data).await.map_err(refusal_of)?;
        }
    }
}

fn too_slow() -> Refusal {
    unavailable("the file arrives too slowly")
}

/// What the peer says of a file that it does not send.
async fn refused(status: StatusCode, body: ResponseBody) -> Refusal {
    let whole = Limited::new(body, PROBLEM_BYTES_MAX).collect();
    let problem = match tokio::time::timeout(SILENCE_MAX, whole).await {
        Ok(Ok(body)) => serde_json::from_slice::<Problem>(&body.to_bytes()).ok(),
        Ok(Err(_)) | Err(_) => None,
    };
    let code = problem
        .as_ref()
        .and_then(|problem| problem.code().parse().ok());
    match (code, status) {
        // What is gone and what is not for us look alike.
        (Some(RefusalCode::Expired), _) | (None, StatusCode::NOT_FOUND | StatusCode::GONE) => {
            files::expired()
        }
        (Some(code), _) => Refusal::new(
            code,
            format!("the other server does not send the file: {code}"),
        ),
        (None, StatusCode::TOO_MANY_REQUESTS) => cannot_now(status),
        (None, _) if status.is_server_error() => cannot_now(status),
        (None, _) => Refusal::new(
            RefusalCode::Unavailable,
            format!(
                "the other server does not send the file ({status}): ask its sender to send it again, and tell your \
                 administrator if that does not help"
            ),
        ),
    }
}

fn cannot_now(status: StatusCode) -> Refusal {
    Refusal::new(
        RefusalCode::Unavailable,
        format!("the other server can't send the file just now ({status}): try again later"),
    )
}

fn refusal_of(error: NotTaken) -> Refusal {
    match error {
        NotTaken::Refused(refusal) => refusal,
        NotTaken::Deferred { code, .. } => unavailable(code),
        NotTaken::Store(error) => unavailable(error),
    }
}

fn unavailable(problem: impl std::fmt::Display) -> Refusal {
    Refusal::new(
        RefusalCode::Unavailable,
        format!("the file could not be fetched from the other server ({problem}): try again later"),
    )
}

#[cfg(test)]
mod tests {
    use http_body_util::Full;

    use super::*;

    /// Goal: whoever waits for a file is told to come again only when that may help. Method: answers that send none,
    /// with a code and without.
    #[tokio::test]
    async fn what_to_do_without_a_file() {
        let told = async |status: u16, body: &'static str| {
            let body = Full::new(Bytes::from_static(body.as_bytes()));
            let body = body.map_err(|never| match never {}).boxed_unsync();
            refused(StatusCode::from_u16(status).unwrap(), body).await
        };
        let coded = r#"{"type": "expired", "title": "", "status": 404, "detail": ""}"#;
        for body in ["", "not found", coded] {
            assert_eq!(told(404, body).await, files::expired());
        }
        assert_eq!(told(410, "").await, files::expired());
        for (status, again) in [
            (429, true),
            (500, true),
            (503, true),
            (400, false),
            (301, false),
        ] {
            let refusal = told(status, "").await;
            assert_eq!(refusal.code, RefusalCode::Unavailable);
            assert_eq!(
                refusal.reason.ends_with("try again later"),
                again,
                "{refusal}"
            );
        }
    }
}
