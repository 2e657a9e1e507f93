//! What comes from a bad peer, a test for each kind; `docs/security/bad-input.md` lists them all and where they are.

use axum::body::Body;
use federation_proto::payload::{Message, Payload, Sender};
use futures_util::FutureExt as _;
use homeserver_api::attributes::MessageAttributes;
use tower::ServiceExt as _;

use super::keys::{revoke_known, rotate};
use super::*;
use crate::rooms::mls_framing::testing::application_message;
use crate::store::inbox;
use crate::tls::Peer;

/// How long the messages live.
const TTL_SECONDS: u32 = 3600;
/// The room's lane has carried a welcome.
const FIRST: u64 = 2;

/// Alice's message at this position of the room's lane, by a's own account of the time.
fn message(alice: &Person, sequence: u64, created_ms: u64, text: &[u8]) -> Outgoing {
    let attributes = MessageAttributes {
        ttl_seconds: TTL_SECONDS,
        burn_seconds: 0,
        label: 0,
        file: false,
    };
    let payload = Payload::Message(Message {
        room: ROOM,
        sender: Sender {
            account: alice.of.account,
            device: alice.of.device,
        },
        reference: sequence,
        message: application_message(ROOM, 1, attributes, text).into(),
    });
    Outgoing {
        kind: Kind::Message,
        lane: ROOM.into(),
        sequence,
        created_ms,
        expires_ms: 0,
        payload: HashedPayload::new(payload.encode().unwrap()),
    }
}

/// Signed by `from` as it is now.
fn signed(from: &Side, to: &Side, envelopes: &[Outgoing]) -> Bytes {
    let key = from.node.keys.envelope_key();
    let signed = transaction::sign(&key, &link(from, to), envelopes).unwrap();
    signed.bytes
}

/// The answer of `node` to a transaction on the connection of `peer`.
async fn answer(node: &Arc<Node>, peer: &Side, body: Bytes) -> (StatusCode, Bytes) {
    let mut request = Request::post(paths::TRANSACTIONS)
        .body(Body::from(padding::pad(&body)))
        .unwrap();
    request
        .extensions_mut()
        .insert(Peer(peer.node.server.clone()));
    let router = inbound::router(Arc::clone(node));
    let response = router.oneshot(request).await.unwrap();
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    if status == StatusCode::OK {
        return (status, padding::unpad(&body, body.len()).unwrap());
    }
    (status, body)
}

/// What became of each envelope; nothing when they were refused whole.
fn judged((status, body): (StatusCode, Bytes), from: &Side, to: &Side) -> Vec<ItemResult> {
    if status != StatusCode::OK {
        return Vec::new();
    }
    let receipt = receipt::decode(body).unwrap();
    let receipt = receipt
        .verify(&to.node.keys.manifest(), &link(from, to), now(from))
        .unwrap();
    receipt.body().results.clone()
}

/// The side's homeserver after a restart: another process over the same store.
async fn restarted(side: &Side) -> Arc<Node> {
    let node = Arc::new(Node::new(
        side.node.config.clone(),
        Arc::clone(&side.node.keys),
        side.node.store.clone(),
        side.clock.clone(),
        Arc::clone(&side.node.random),
    ));
    node.peers.refresh(&node).await.unwrap();
    node
}

/// Goal: what was accepted once is accepted in no way again: over the same link in order and backwards, over another
/// peer's link, after a restart, after the keys have changed, signed anew with the new key. Method: more messages
/// than a receiver remembers one by one, each way in turn, while all of them live: a receiver that had forgotten them
/// would take them.
#[tokio::test]
async fn replays_are_accepted_in_no_way() {
    const TRANSACTIONS: u64 = 6;
    const SIZE: u64 = 200;
    let [a, b, c] = sides(["a.example", "b.example", "c.example"]);
    let (alice, bob) = acquainted(&a, &b).await;
    peered(&b, &c).await;
    let envelopes: Vec<Vec<Outgoing>> = (0..TRANSACTIONS)
        .map(|transaction| {
            let first = FIRST + transaction * SIZE;
            (first..first + SIZE)
                .map(|sequence| message(&alice, sequence, now(&a), b"once"))
                .collect()
        })
        .collect();
    let captured: Vec<Bytes> = envelopes.iter().map(|all| signed(&a, &b, all)).collect();
    let replay = async |node: &Arc<Node>, peer: &Side, bodies: &[Bytes]| {
        let mut results = Vec::new();
        for body in bodies {
            results.extend(judged(answer(node, peer, body.clone()).await, &a, &b));
        }
        results
    };
    let all = |result: ItemResult| vec![result; 1200];
    let first = replay(&b.node, &a, &captured).await;
    assert_eq!(first, all(ItemResult::Accepted));
    let waits = async || {
        let inbox = inbox::range(&b.node.store, bob.of.device, 0, 5000).await;
        inbox.unwrap().len()
    };
    // With the welcome.
    assert_eq!(waits().await, 1201);

    let backwards: Vec<Bytes> = captured.iter().rev().cloned().collect();
    let duplicates = all(ItemResult::Duplicate);
    assert_eq!(replay(&b.node, &a, &captured).await, duplicates);
    assert_eq!(replay(&b.node, &a, &backwards).await, duplicates);
    // Refused whole: c does not speak for a.
    assert_eq!(replay(&b.node, &c, &captured).await, []);
    let after = restarted(&b).await;
    assert_eq!(replay(&after, &a, &captured).await, duplicates);
    let before = a.node.keys.envelope_key().id();
    rotate(&a).await;
    assert_ne!(a.node.keys.envelope_key().id(), before);
    let manifest = a.node.keys.manifest().bytes().clone();
    peers::take_manifest(&b.node, &a.node.server, manifest)
        .await
        .unwrap();
    assert_eq!(replay(&b.node, &a, &captured).await, duplicates);
    let anew: Vec<Bytes> = envelopes.iter().map(|all| signed(&a, &b, all)).collect();
    assert_eq!(replay(&b.node, &a, &anew).await, duplicates);
    assert_eq!(waits().await, 1201);
    let next = FIRST + TRANSACTIONS * SIZE;
    let fresh = signed(&a, &b, &[message(&alice, next, now(&a), b"new")]);
    let taken = replay(&b.node, &a, &[fresh]).await;
    assert_eq!(taken, [ItemResult::Accepted]);
}

/// Goal: a lane neither jumps nor goes back: a gap and a huge position wait, a position that was consumed is a
/// duplicate, position 0 is refused whole, and the lane goes on. Method: each of them.
#[tokio::test]
async fn positions_come_one_after_the_other() {
    let [a, b] = sides(["a.example", "b.example"]);
    let (alice, bob) = acquainted(&a, &b).await;
    let send = async |sequence: u64| {
        let one = message(&alice, sequence, now(&a), b"text");
        exchange(&a, &b, vec![one]).await.remove(0)
    };
    assert_eq!(send(FIRST).await, ItemResult::Accepted);
    for ahead in [FIRST + 2, FIRST + 5000, u64::MAX - 1, u64::MAX] {
        let waits = ItemResult::Deferred {
            code: RefusalCode::LaneGap,
            retry_after_ms: 0,
        };
        assert_eq!(send(ahead).await, waits, "{ahead}");
    }
    assert_eq!(send(FIRST).await, ItemResult::Duplicate);
    assert_eq!(send(FIRST + 1).await, ItemResult::Accepted);
    assert_eq!(bob.heard(&b).await, 2);
    let mut zero = signed(&a, &b, &[message(&alice, 7, now(&a), b"text")]).to_vec();
    let seven = 7_u64.to_be_bytes();
    let place = zero.windows(8).position(|eight| eight == seven).unwrap();
    zero[place + 7] = 0;
    let (status, _) = answer(&b.node, &a, zero.into()).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(send(FIRST + 2).await, ItemResult::Accepted);
}

/// Goal: another envelope at a consumed position is refused, has no effect, and an administrator can read of it.
/// Method: the same position with another text.
#[tokio::test]
async fn a_position_holds_one_envelope() {
    let [a, b] = sides(["a.example", "b.example"]);
    let (alice, bob) = acquainted(&a, &b).await;
    exchange(&a, &b, vec![message(&alice, FIRST, now(&a), b"one")]).await;
    let other = message(&alice, FIRST, now(&a), b"other");
    let results = exchange(&a, &b, vec![other]).await;
    assert!(
        matches!(&results[..], [ItemResult::Refused(refusal)] if refusal.code == RefusalCode::LinkConflict),
        "{results:?}"
    );
    assert_eq!(bob.heard(&b).await, 1);
    let events = crate::store::audit::pending(&b.node.store, 0, 1000).await;
    let conflicts = events.unwrap().into_iter();
    let conflicts = conflicts.filter(|(_, _, event)| event.action == "link.conflict");
    assert_eq!(conflicts.count(), 1);
}

/// Goal: an envelope for another server is refused whole and leaves nothing. Method: a's transaction for c, brought
/// to b.
#[tokio::test]
async fn mail_for_others_is_not_taken() {
    let [a, b, c] = sides(["a.example", "b.example", "c.example"]);
    let (alice, bob) = acquainted(&a, &b).await;
    peered(&a, &c).await;
    let one = [message(&alice, FIRST, now(&a), b"for c")];
    let (status, _) = answer(&b.node, &a, signed(&a, &c, &one)).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(bob.heard(&b).await, 0);
    assert_eq!(exchange(&a, &b, one.into()).await, [ItemResult::Accepted]);
}

/// Goal: a transaction is judged by the keys that are known when all of it is there, not by those when it began. Method: a
/// body that comes late, and a revocation of its key meanwhile.
#[tokio::test]
async fn a_key_that_is_revoked_meanwhile_does_not_count() {
    let [a, b] = sides(["a.example", "b.example"]);
    let (alice, bob) = acquainted(&a, &b).await;
    let key = a.node.keys.envelope_key().id();
    let body = signed(&a, &b, &[message(&alice, FIRST, now(&a), b"late")]);
    let body = padding::pad(&body);
    let (come, comes) = tokio::sync::oneshot::channel::<()>();
    let request = Request::post(paths::TRANSACTIONS).header("content-length", body.len());
    let late = futures_util::stream::once(async move {
        comes.await.unwrap();
        Ok::<_, std::convert::Infallible>(body)
    });
    let mut request = request.body(Body::from_stream(late)).unwrap();
    request.extensions_mut().insert(Peer(a.node.server.clone()));
    let mut asked = Box::pin(inbound::router(Arc::clone(&b.node)).oneshot(request));
    assert!(asked.as_mut().now_or_never().is_none());

    revoke_known(&a, &b, key).await;
    come.send(()).unwrap();
    let response = asked.await.unwrap();
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    let said = response.into_body().collect().await.unwrap().to_bytes();
    let said = String::from_utf8_lossy(&said);
    assert!(said.contains("was revoked"), "{said}");
    assert_eq!(bob.heard(&b).await, 0);
}

/// Goal: a transaction is read whole or not at all: too large, cut off anywhere, with bytes behind it, of an unknown
/// version, suite or kind, it is refused with its status and leaves nothing. Method: one transaction, spoilt in
/// each way, then as it was.
#[tokio::test]
async fn transactions_are_whole() {
    let [a, b] = sides(["a.example", "b.example"]);
    let (alice, bob) = acquainted(&a, &b).await;
    let right = signed(&a, &b, &[message(&alice, FIRST, now(&a), b"whole")]);
    let refused = async |body: Vec<u8>| {
        let (status, answer) = answer(&b.node, &a, body.into()).await;
        assert!(status.is_client_error(), "{status}: {answer:?}");
        status
    };
    for end in 0..right.len() {
        assert_eq!(
            refused(right[..end].to_vec()).await,
            StatusCode::BAD_REQUEST
        );
    }
    let trailing = [&right[..], &[0]].concat();
    assert_eq!(refused(trailing).await, StatusCode::BAD_REQUEST);
    let too_large = vec![0; federation_proto::limits::TRANSACTION_BYTES_MAX + 1];
    assert_eq!(refused(too_large).await, StatusCode::PAYLOAD_TOO_LARGE);
    // Version and suite stand in front of the signature, and again in each header.
    let header = 2 + 1 + 64 + 4;
    for (what, place) in [
        ("version", 1),
        ("suite", 2),
        ("an envelope's version", header + 1),
        ("an envelope's suite", header + 2),
        ("kind", header + 3),
    ] {
        let mut unknown = right.to_vec();
        unknown[place] = 99;
        assert_eq!(refused(unknown).await, StatusCode::BAD_REQUEST, "{what}");
    }
    assert_eq!(bob.heard(&b).await, 0);
    assert_eq!(answer(&b.node, &a, right).await.0, StatusCode::OK);
    assert_eq!(bob.heard(&b).await, 1);
}

/// Goal: a peer's clock makes no message live longer than its time-to-live from now, and one that came too late is
/// refused alone. Method: messages of a peer whose clock is right, ahead, behind, and far behind.
#[tokio::test]
async fn clocks_lengthen_no_life() {
    const HOUR_MS: u64 = 3_600_000;
    let [a, b] = sides(["a.example", "b.example"]);
    let (alice, bob) = acquainted(&a, &b).await;
    let now_ms = now(&b);
    let times = [
        now_ms,
        now_ms + 48 * HOUR_MS,
        u64::MAX,
        now_ms - HOUR_MS / 2,
        now_ms - 2 * HOUR_MS,
        0,
    ];
    let sent = (FIRST..)
        .zip(times)
        .map(|(sequence, created_ms)| message(&alice, sequence, created_ms, b"text"));
    let results = exchange(&a, &b, sent.collect()).await;
    let expired = |result: &ItemResult| matches!(result, ItemResult::Refused(refusal) if refusal.code == RefusalCode::Expired);
    assert_eq!(results[..4], [const { ItemResult::Accepted }; 4]);
    assert!(results[4..].iter().all(expired), "{results:?}");
    let lives: Vec<u64> = inbox::range(&b.node.store, bob.of.device, 0, 100)
        .await
        .unwrap()
        .into_iter()
        .filter(|(_, record, _)| matches!(record.body, InboxBody::Message { .. }))
        .map(|(_, record, _)| record.expires_ms - now_ms)
        .collect();
    assert_eq!(lives, [HOUR_MS, HOUR_MS, HOUR_MS, HOUR_MS / 2]);
}

/// Goal: one envelope that can't be read among ten thousand of its lane is refused alone, and all others are
/// delivered, those behind it too. Method: ten transactions of one thousand. (How long it takes, `cargo xtask trial
/// federation` measures.)
#[tokio::test]
async fn one_poison_among_ten_thousand() {
    let [a, b] = sides(["a.example", "b.example"]);
    let (alice, bob) = acquainted(&a, &b).await;
    let mut envelopes: Vec<Outgoing> = (FIRST..FIRST + 10_000)
        .map(|sequence| message(&alice, sequence, now(&a), b"text"))
        .collect();
    envelopes[5_000].payload = HashedPayload::new(Bytes::from_static(b"poison"));
    let mut results = Vec::new();
    while !envelopes.is_empty() {
        let rest = envelopes.split_off(1000);
        results.extend(exchange(&a, &b, std::mem::replace(&mut envelopes, rest)).await);
    }
    let refused = |result: &ItemResult| matches!(result, ItemResult::Refused(refusal) if refusal.code == RefusalCode::Malformed);
    assert!(refused(&results.remove(5_000)));
    assert!(results.iter().all(|result| *result == ItemResult::Accepted));
    let waiting = inbox::range(&b.node.store, bob.of.device, 0, 20_000).await;
    // With the welcome.
    assert_eq!(waiting.unwrap().len(), 10_000);
}
