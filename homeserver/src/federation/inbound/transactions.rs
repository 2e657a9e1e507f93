//! `POST /federation/v1/transactions`

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::{Request, State};
use axum::http::header;
use bytes::Bytes;
use federation_proto::codec::DecodeError;
use federation_proto::ids::ServerName;
use federation_proto::limits::TRANSACTION_BYTES_MAX;
use federation_proto::padding;
use federation_proto::receipt::ReceiptBody;
use federation_proto::refusal::{Refusal, RefusalCode};
use federation_proto::transaction::{self, VerifiedTransaction, VerifyError};
use http_body_util::{BodyExt, Limited};
use ring::rand::SecureRandom;

use super::error::FederationError;
use super::gate::Gates;
use crate::audit::{self, Actor, Event};
use crate::delivery::receive::{self, ReceiveError};
use crate::federation::peers::PeerView;
use crate::node::Node;
use crate::store::{Part, StoreError};
use crate::tls::Peer;

/// Longest that a body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest that a receipt is held back: more would be felt by whoever waits for the next message.
const RECEIPT_HELD_MAX: Duration = Duration::from_millis(2);

/// `POST /federation/v1/transactions`: takes a transaction and answers with its signed receipt. The
/// agreement must be in force.
pub(super) async fn handle(
    State(node): State<Arc<Node>>,
    Extension(Peer(peer)): Extension<Peer>,
    Extension(gates): Extension<Arc<Gates>>,
    request: Request,
) -> Result<Bytes, FederationError> {
    let view = node
        .peers
        .get(&peer)
        .ok_or_else(|| Refusal::new(RefusalCode::NoAgreement, "there is no agreement with you"))?;
    if let Err(refusal) = view.in_force(node.clock.now_ms()) {
        refuse(&node, &gates, &peer, &refusal.to_string()).await?;
        return Err(told_to_peer(refusal, &node.server).into());
    }
    let length = content_length(&request).unwrap_or(TRANSACTION_BYTES_MAX);
    let _pass = gates
        .enter(
            &peer,
            u64::try_from(length).unwrap_or(u64::MAX),
            node.clock.now_ms(),
        )
        .map_err(|retry_after_s| FederationError::Later {
            code: RefusalCode::RateLimited,
            detail: "more transactions at once, or more bytes per second, than this server takes \
                     from one peer"
                .to_owned(),
            retry_after_s,
        })?;
    let body = read_body(request, TRANSACTION_BYTES_MAX).await?;
    node.links.heard_from(&peer, node.clock.now_ms());
    let transaction = verify(&node, &gates, &view, body).await?;
    let received =
        receive::receive(&node, &peer, &transaction)
            .await
            .map_err(|error| match error {
                ReceiveError::Refused(refusal) => told_to_peer(refusal, &node.server).into(),
                ReceiveError::Busy => FederationError::Later {
                    code: RefusalCode::Unavailable,
                    detail: error.to_string(),
                    retry_after_s: 1,
                },
                ReceiveError::Store(error) => error.into(),
            })?;
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
    // How long the work took is nobody's business on the wire.
    tokio::time::sleep(jitter(node.random.as_ref())).await;
    Ok(padding::pad(&receipt))
}

/// How long a receipt is held back.
fn jitter(random: &(dyn SecureRandom + Send + Sync)) -> Duration {
    let mut drawn = [0; 4];
    // Without randomness there is no jitter; that harms nobody.
    let _ = random.fill(&mut drawn);
    RECEIPT_HELD_MAX.mul_f64(f64::from(u32::from_be_bytes(drawn)) / f64::from(u32::MAX))
}

/// Reads a request's padded body, whose content may be neither large nor slow.
pub(super) async fn read_body(
    request: Request,
    bytes_max: usize,
) -> Result<Bytes, FederationError> {
    let padded_max = padding::padded_length(bytes_max);
    if content_length(&request).is_some_and(|length| length > padded_max) {
        return Err(FederationError::TooLarge(bytes_max));
    }
    let body = Limited::new(request.into_body(), padded_max).collect();
    let padded = match tokio::time::timeout(BODY_TIMEOUT, body).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
            return Err(FederationError::TooLarge(bytes_max));
        }
        Ok(Err(error)) => {
            return Err(FederationError::Malformed(format!(
                "the body broke off: {error}"
            )));
        }
        Err(_) => return Err(FederationError::TooSlow(BODY_TIMEOUT.as_secs())),
    };
    padding::unpad(padded, bytes_max).map_err(|error| match error {
        DecodeError::TooLong { .. } => FederationError::TooLarge(bytes_max),
        error => FederationError::Malformed(format!("the body's padding: {error}")),
    })
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
        Err(VerifyError::UnknownKey(id)) => {
            node.links.fetch_manifest(peer, node.clock.now_ms());
            Err(FederationError::Later {
                code: RefusalCode::UnknownKey,
                detail: format!(
                    "your manifest as it is known here does not list the key {id}: it is being fetched"
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

/// Our own words name the peer and send people to our administrator; the peer needs other ones.
fn told_to_peer(refusal: Refusal, us: &ServerName) -> Refusal {
    let reason = match refusal.code {
        RefusalCode::AgreementSuspended => format!("{us} has suspended the agreement with you"),
        RefusalCode::AgreementExpired => format!("the agreement with {us} has expired"),
        RefusalCode::AgreementRevoked => format!("{us} has revoked the agreement with you"),
        RefusalCode::NoAgreement => format!("{us} has no agreement in force with you"),
        _ => return refusal,
    };
    Refusal::new(refusal.code, reason)
}
