//! `POST /federation/v1/transactions`

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::{Request, State};
use axum::http::header;
use bytes::Bytes;
use federation_proto::codec::{DecodeError, Wire};
use federation_proto::exchange::ExchangeProof;
use federation_proto::ids::ServerName;
use federation_proto::limits::TRANSACTION_BYTES_MAX;
use federation_proto::padding;
use federation_proto::receipt::{ItemResult, ReceiptBody};
use federation_proto::refusal::{Refusal, RefusalCode};
use federation_proto::transaction::{self, VerifiedTransaction, VerifyError};
use http_body_util::{BodyExt, Limited};

use super::error::{FederationError, TOO_EARLY_RETRY_S};
use super::gate::{Gates, Pass};
use super::padded::UntilRead;
use crate::audit::{self, Actor, Event};
use crate::delivery::receive::{self, ReceiveError};
use crate::federation::peers::{PeerView, told_to_peer};
use crate::node::{Node, to_its_end};
use crate::store::exchange::{self, Direction, ExchangeRecord};
use crate::store::{Part, StoreError};
use crate::tls::Peer;

/// `POST /federation/v1/transactions`: takes a transaction and answers with its signed receipt. The
/// agreement must be in force.
pub(super) async fn handle(
    State(node): State<Arc<Node>>,
    Extension(Peer(peer)): Extension<Peer>,
    Extension(gates): Extension<Arc<Gates>>,
    request: Request,
) -> Result<(Extension<UntilRead>, Bytes), FederationError> {
    let view = view_of(&node, &peer)?;
    let now_ms = node.clock.now_ms();
    if let Err(refusal) = view.in_force(now_ms) {
        // What is refused is bounded too, and not only what of it is audited.
        gates
            .ask(&peer, now_ms)
            .map_err(|wait_s| FederationError::too_fast(wait_s, "more requests in a second"))?;
        refuse(&node, &gates, &peer, &refusal.to_string()).await?;
        return Err(told(refusal, &node.server, &view).into());
    }
    let length = content_length(&request).unwrap_or(TRANSACTION_BYTES_MAX);
    let pass = gates
        .enter(
            &peer,
            u64::try_from(length).unwrap_or(u64::MAX),
            node.clock.now_ms(),
        )
        .map_err(too_fast)?;
    let body = read_body(&node, request, TRANSACTION_BYTES_MAX).await?;
    // To its end, though the peer resets its stream: what it takes back costs as much as what it waits for, and is
    // under way as long.
    to_its_end(take(node, gates, peer, pass, body)).await
}

/// The peer as it stands by now.
fn view_of(node: &Node, peer: &ServerName) -> Result<Arc<PeerView>, Refusal> {
    let view = node.peers.get(peer);
    view.ok_or_else(|| Refusal::new(RefusalCode::NoAgreement, "there is no agreement with you"))
}

fn too_fast(wait_s: u64) -> FederationError {
    let what = "more transactions at once, or more bytes, envelopes or rubbish in a second,";
    FederationError::too_fast(wait_s, what)
}

async fn take(
    node: Arc<Node>,
    gates: Arc<Gates>,
    peer: ServerName,
    pass: Pass,
    body: Bytes,
) -> Result<(Extension<UntilRead>, Bytes), FederationError> {
    let peer = &peer;
    node.links.heard_from(peer, node.clock.now_ms());
    let turn = pass.turn(node.clock.as_ref()).await.map_err(too_fast)?;
    // The body may have taken minutes: a key that was revoked meanwhile counts no longer.
    let view = view_of(&node, peer)?;
    let transaction = verify(&node, &gates, &view, body).await?;
    let count = transaction.envelopes().len();
    gates.count_envelopes(peer, count, node.clock.now_ms());
    let received = match receive::receive(&node, peer, &transaction).await {
        Ok(received) => received,
        Err(error) => return Err(not_taken(&node, &gates, &view, error).await?),
    };
    let refused = received.results.iter();
    let refused = refused.filter(|result| matches!(result, ItemResult::Refused(_)));
    // An answer that refuses costs the peer as much, and so does what is not there: it asked for it in an envelope that was
    // accepted.
    let refused = refused.count().saturating_add(received.refused_answers);
    gates.count_refusals(peer, refused, node.clock.now_ms());
    drop(turn);
    let receipt = ReceiptBody {
        link: transaction.link().clone(),
        root: transaction.root(),
        at_ms: node.clock.now_ms(),
        results: received.results,
        lanes: received.lanes,
    };
    let receipt = receipt
        .sign(&node.keys.envelope_key())
        .map_err(|error| FederationError::Internal(error.to_string()))?;
    keep(&node, peer, &transaction, &receipt).await?;
    tokio::time::sleep(receipt_delay(&node)?).await;
    Ok((Extension(UntilRead::holding(pass)), receipt))
}

/// The answer to a transaction of which nothing was taken. What the peer is to blame for is recorded.
async fn not_taken(
    node: &Node,
    gates: &Gates,
    view: &PeerView,
    error: ReceiveError,
) -> Result<FederationError, StoreError> {
    let later = |detail: String, retry_after_s| FederationError::Later {
        code: RefusalCode::Unavailable,
        detail,
        retry_after_s,
    };
    let why = error.to_string();
    Ok(match error {
        ReceiveError::Refused(refusal) => {
            refuse(node, gates, &view.server, &why).await?;
            told(refusal, &node.server, view).into()
        }
        ReceiveError::EpochAhead { .. } => {
            refuse(node, gates, &view.server, &why).await?;
            later(why, TOO_EARLY_RETRY_S)
        }
        ReceiveError::Busy => later(why, 1),
        ReceiveError::Store(error) => error.into(),
    })
}

/// Keeps what proves the exchange. The answer does not wait for that to be durable: should it get lost, the
/// peer has the same.
async fn keep(
    node: &Node,
    peer: &ServerName,
    transaction: &VerifiedTransaction,
    receipt: &Bytes,
) -> Result<(), FederationError> {
    let proof = ExchangeProof {
        signature: transaction.signature(),
        receipt: receipt.clone(),
    };
    let proof = proof
        .to_bytes()
        .map_err(|error| FederationError::Internal(error.to_string()))?;
    let record = ExchangeRecord { proof };
    let mut part = Part::default();
    exchange::put(
        &mut part,
        Direction::Inbound,
        peer,
        &transaction.root(),
        &record,
    )?;
    if !part.writes.is_empty() {
        drop(node.store.enqueue(part).await);
    }
    Ok(())
}

/// How long a receipt is held back: the time that an answer takes would tell how much was to be done
/// here for what it answers. Nothing waits for it but the peer's next transaction.
fn receipt_delay(node: &Node) -> Result<Duration, StoreError> {
    let most_ms = node.config.federation.receipt_delay_max.as_millis();
    let steps = u64::try_from(most_ms)
        .unwrap_or(u64::MAX)
        .saturating_mul(1000);
    let [a, b, c, d, ..] = node.random_id()?;
    let random = u64::from(u32::from_be_bytes([a, b, c, d]));
    // A uniform choice: the bias of the remainder is below one in a thousand.
    Ok(Duration::from_micros(random % steps.saturating_add(1)))
}

/// Reads what a request's padded body holds, which may be neither large nor, for its length, slow (NET-033).
pub(super) async fn read_body(
    node: &Node,
    request: Request,
    bytes_max: usize,
) -> Result<Bytes, FederationError> {
    let limit = padding::padded_length(bytes_max);
    let length = content_length(&request).unwrap_or(limit).min(limit);
    let length = u64::try_from(length).unwrap_or(u64::MAX);
    let within = node.config.federation.patience.with(length);
    let body = read_as_it_is(request, limit, within).await?;
    match padding::unpad(&body, bytes_max) {
        Ok(content) => Ok(content),
        Err(DecodeError::TooLong { .. }) => Err(FederationError::TooLarge(bytes_max)),
        Err(error) => Err(FederationError::Malformed(error.to_string())),
    }
}

/// Reads a request's body without taking a padding off.
pub(super) async fn read_as_it_is(
    request: Request,
    bytes_max: usize,
    within: Duration,
) -> Result<Bytes, FederationError> {
    if content_length(&request).is_some_and(|length| length > bytes_max) {
        return Err(FederationError::TooLarge(bytes_max));
    }
    let body = Limited::new(request.into_body(), bytes_max).collect();
    match tokio::time::timeout(within, body).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
            Err(FederationError::TooLarge(bytes_max))
        }
        Ok(Err(error)) => Err(FederationError::Malformed(format!(
            "the body broke off: {error}"
        ))),
        Err(_) => Err(FederationError::TooSlow(within.as_secs())),
    }
}

fn content_length(request: &Request) -> Option<usize> {
    let value = request.headers().get(header::CONTENT_LENGTH)?;
    value.to_str().ok()?.parse().ok()
}

async fn verify(
    node: &Node,
    gates: &Gates,
    view: &PeerView,
    body: Bytes,
) -> Result<VerifiedTransaction, FederationError> {
    let peer = &view.server;
    let unverified = match transaction::decode(body) {
        Ok(unverified) => unverified,
        Err(error) => {
            refuse(node, gates, peer, &error.to_string()).await?;
            return Err(FederationError::Malformed(error.to_string()));
        }
    };
    let manifest = view
        .manifest
        .as_ref()
        .ok_or_else(|| Refusal::new(RefusalCode::NoAgreement, "there is no agreement with you"))?;
    match unverified.verify(manifest, peer, &node.server, node.clock.now_ms()) {
        Ok(verified) => Ok(verified),
        // Nothing is wrong with the mail: the peer signs it again, with the key of then. Perhaps it has
        // changed its keys already.
        Err(error) if error.is_of_key() => {
            gates.count_refusals(peer, 1, node.clock.now_ms());
            node.links.fetch_manifest(peer);
            if !matches!(error, VerifyError::UnknownKey(_)) {
                refuse(node, gates, peer, &error.to_string()).await?;
            }
            Err(FederationError::Later {
                code: RefusalCode::UnknownKey,
                detail: format!(
                    "by your manifest as it is known here: {error}. A newer one is being fetched"
                ),
                retry_after_s: 1,
            })
        }
        Err(error) => {
            refuse(node, gates, peer, &error.to_string()).await?;
            Err(FederationError::Malformed(error.to_string()))
        }
    }
}

/// Records that a whole transaction was refused; not each one of a flood.
async fn refuse(
    node: &Node,
    gates: &Gates,
    peer: &ServerName,
    why: &str,
) -> Result<(), StoreError> {
    if !gates.note_refusal(peer, node.clock.now_ms()) {
        return Ok(());
    }
    let mut part = Part::default();
    let event = Event {
        at_ms: node.clock.now_ms(),
        actor: Actor::Peer(peer.clone()),
        action: "transaction.refused",
        subject: peer.to_string(),
        detail: why.to_owned(),
    };
    audit::record(&mut part, &event);
    node.store.commit(part).await?;
    Ok(())
}

/// As [`told_to_peer`], but whoever reads that it is suspended should telephone the right side.
fn told(refusal: Refusal, us: &ServerName, peer: &PeerView) -> Refusal {
    if refusal.code == RefusalCode::AgreementSuspended && !peer.suspended_here {
        let reason = format!(
            "{} has suspended the agreement with {us}: only it can resume it",
            peer.server
        );
        return Refusal::new(refusal.code, reason);
    }
    told_to_peer(refusal, us)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::testing;

    /// Goal: a body has its time by the length that it tells, and no longer (NET-033). Method: a short one and a long one
    /// that come equally late, under virtual time.
    #[tokio::test(start_paused = true)]
    async fn bodies_have_their_time() {
        let (node, _) = testing::node("a.example");
        let read = async |bytes: usize| {
            let content = padding::pad(&vec![7; bytes]);
            let request = axum::http::Request::post(crate::federation::paths::TRANSACTIONS)
                .header(header::CONTENT_LENGTH, content.len());
            let late = futures_util::stream::once(async move {
                tokio::time::sleep(Duration::from_secs(40)).await;
                Ok::<_, std::convert::Infallible>(content)
            });
            let request = request.body(axum::body::Body::from_stream(late)).unwrap();
            read_body(&node, request, TRANSACTION_BYTES_MAX).await
        };
        let long = 600 * 1024;
        assert_eq!(read(long).await.unwrap().len(), long);
        let short = read(1).await;
        assert!(
            matches!(short, Err(FederationError::TooSlow(30))),
            "{short:?}"
        );
    }

    /// Goal: receipts are held back for times that differ, none longer than configured, and not at all when that is
    /// nothing; by drawing many.
    #[test]
    fn receipts_are_held_back() {
        let (node, _) = testing::node("a.example");
        assert_eq!(receipt_delay(&node).unwrap(), Duration::ZERO);
        let mut node = Arc::into_inner(node).unwrap();
        let most = Duration::from_millis(5);
        node.config.federation.receipt_delay_max = most;
        let mut delays: Vec<Duration> = (0..100).map(|_| receipt_delay(&node).unwrap()).collect();
        delays.sort_unstable();
        delays.dedup();
        assert!(delays.len() > 50 && delays.iter().all(|delay| *delay <= most));
    }
}
