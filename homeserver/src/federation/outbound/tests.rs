//! Two or three nodes exchange mail through the real code: submit, outbox, worker, the peer's router,
//! receive, inbox.

use std::sync::Arc;

use axum::Extension;
use bytes::Bytes;
use federation_proto::envelope::{HashedPayload, Kind, Lane, Outgoing};
use federation_proto::ids::{FileId, RequestId, RoomId};
use federation_proto::limits::RECEIPT_BYTES_MAX;
use federation_proto::padding;
use federation_proto::receipt::{self, ItemResult, Receipt};
use federation_proto::refusal::RefusalCode;
use federation_proto::transaction::{self, Link, SignedTransaction};
use federation_proto::version::Version;
use homeserver_api::admin::PeerState;
use homeserver_api::session::{Outcome, SubmissionBody};
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::worker::{Step, Worker};
use super::{Network as _, TlsNetwork};
use crate::delivery::files;
use crate::delivery::outbox::{self, OutboxItem, SenderRef};
use crate::federation::files::fetch;
use crate::federation::testing::{
    Person, Side, accepted, admin, countersigned, create_account, enrol, peered, person, sides,
};
use crate::federation::{inbound, paths, peers};
use crate::node::Node;
use crate::store::inbox::InboxBody;
use crate::store::{Part, StoreError, dead_letters};
use crate::tls;

mod amendments;
mod audit_heads;
mod bad_input;
mod bad_peers;
mod behind;
mod both_roots;
mod bounds;
mod ceremony;
mod claims;
mod clocks;
mod consortium;
mod contacts;
mod damaged_store;
mod dead_hub;
mod declarations;
mod device_logs;
mod device_logs_and_roots;
mod directory;
mod documents;
mod endings;
mod explained;
mod faulty_wires;
mod floods;
mod forged_roots;
mod judged_again;
mod key_floods;
mod keys;
mod mutual_tls;
mod nodes;
mod on_the_wire;
mod proofs;
mod refusals;
mod renewal;
mod renewal_keys;
mod reports;
mod restored;
mod resync;
mod room_consents;
mod root_gate;
mod roots;
mod shares;
mod silent_peers;
mod slow_wires;
mod space;
mod suspended;
mod waiting;
mod words;

const ROOM: RoomId = RoomId::from_bytes([7; 16]);

fn worker(from: &Side, to: &Side) -> Worker {
    Worker::new(
        Arc::clone(&from.node),
        from.network.clone(),
        to.node.server.clone(),
    )
}

/// What is due by the clock; nothing of the store is damaged.
async fn round(node: &Arc<Node>) -> Result<(), StoreError> {
    super::round(node, &mut super::damage::Damage::default()).await
}

/// Steps until the worker waits for something: what for.
async fn drain(worker: &mut Worker) -> Step {
    worker.mail();
    loop {
        match worker.step().await.unwrap() {
            Step::Again => {}
            Step::Answer => worker.answer().await,
            step => return step,
        }
    }
}

/// As [`drain`], with all that a running worker does beside its steps.
async fn go_on(worker: &mut Worker) {
    loop {
        match worker.go_on().await.unwrap() {
            Step::Again => {}
            Step::Answer => worker.answer().await,
            _ => return,
        }
    }
}

async fn waiting(from: &Side, to: &Side) -> u64 {
    outbox::waiting(&from.node.store, &to.node.server)
        .await
        .unwrap()
        .envelopes
}

/// Puts a row into the outbox, whatever is agreed.
fn queue_up(part: &mut Part, to: &Side, lane: Lane, row: &OutboxItem) {
    let value = crate::store::outbox::value(row).unwrap();
    crate::store::outbox::append(part, &to.node.server, lane, value);
}

/// Alice at `a` and Bob at `b` in a room that `a` hubs.
async fn acquainted(a: &Side, b: &Side) -> (Person, Person) {
    peered(a, b).await;
    let mut alice = person(a, "alice").await;
    let bob = person(b, "bob").await;
    let created = alice.create_room(a, ROOM, &[&bob]).await;
    assert!(matches!(created, Outcome::Accepted { .. }), "{created:?}");
    assert_eq!(drain(&mut worker(a, b)).await, Step::Idle);
    assert!(matches!(
        bob.inbox(b).await.as_slice(),
        [InboxBody::Welcome { .. }]
    ));
    (alice, bob)
}

/// Alice at `a`, Bob at `b` and Carol at `c` in a room that `a` hubs; the others have not heard of it yet.
async fn three_acquainted(a: &Side, b: &Side, c: &Side) -> (Person, Person, Person) {
    peered(a, b).await;
    peered(a, c).await;
    peered(b, c).await;
    let mut alice = person(a, "alice").await;
    let bob = person(b, "bob").await;
    let carol = person(c, "carol").await;
    let created = alice.create_room(a, ROOM, &[&bob, &carol]).await;
    assert!(matches!(created, Outcome::Accepted { .. }), "{created:?}");
    (alice, bob, carol)
}

/// Goal: messages pass both ways, hub to follower and follower to hub, each once; and a claim of keys
/// is answered; by two people who write to each other.
#[tokio::test]
async fn messages_and_keys_both_ways() {
    let [a, b] = sides(["a.example", "b.example"]);
    let (mut alice, mut bob) = acquainted(&a, &b).await;
    assert!(matches!(
        alice.say(&a, ROOM, b"hello", 3600).await,
        Outcome::Accepted { .. }
    ));
    assert!(matches!(
        bob.say(&b, ROOM, b"hello yourself", 3600).await,
        Outcome::Accepted { .. }
    ));
    let (mut to_b, mut to_a) = (worker(&a, &b), worker(&b, &a));
    drain(&mut to_b).await;
    drain(&mut to_a).await;
    assert_eq!(bob.heard(&b).await, 1);
    assert_eq!(alice.heard(&a).await, 1);

    let request = RequestId::from_bytes([3; 16]);
    let claim = SubmissionBody::ClaimKeys {
        request,
        address: "nobody@b.example".parse().unwrap(),
        known: Vec::new(),
    };
    alice.submit(&a, claim).await;
    drain(&mut to_b).await;
    drain(&mut to_a).await;
    let answered = alice.inbox(&a).await.into_iter().any(|body| {
        matches!(body, InboxBody::KeyMaterial { request: of, result: Err(refusal) }
            if of == request && refusal.code == RefusalCode::UnknownRecipient
                && refusal.reason.starts_with("b.example says: "))
    });
    assert!(answered);
    assert_eq!(waiting(&a, &b).await + waiting(&b, &a).await, 0);
}

/// Goal: in a room of three organisations the hub relays a follower's message to the other follower,
/// who checks that its origin signed it; by a message from b to c through a.
#[tokio::test]
async fn hub_relays_between_followers() {
    let [a, b, c] = sides(["a.example", "b.example", "c.example"]);
    let (alice, mut bob, carol) = three_acquainted(&a, &b, &c).await;
    let mut to_c = worker(&a, &c);
    drain(&mut worker(&a, &b)).await;
    drain(&mut to_c).await;
    bob.say(&b, ROOM, b"to both of you", 3600).await;
    drain(&mut worker(&b, &a)).await;
    assert_eq!(alice.heard(&a).await, 1);
    assert_eq!(drain(&mut to_c).await, Step::Idle);
    assert_eq!(carol.heard(&c).await, 1);
    assert_eq!(dead_letters::newest(&a.node.store, 10).await.unwrap(), []);
}

/// Goal: what arrives twice has its effect once: after a lost answer and a restart of the sender in
/// between, and when a recorded transaction is replayed.
#[tokio::test]
async fn exactly_once_after_lost_answer_and_replay() {
    let [a, b] = sides(["a.example", "b.example"]);
    let (mut alice, bob) = acquainted(&a, &b).await;
    alice.say(&a, ROOM, b"once", 3600).await;
    let mut first = worker(&a, &b);
    a.network.mute_from(paths::TRANSACTIONS);
    assert!(matches!(drain(&mut first).await, Step::Delay(_)));
    assert_eq!(bob.heard(&b).await, 1);
    assert_eq!(waiting(&a, &b).await, 1);
    drop(first);

    a.network.unmute();
    assert_eq!(drain(&mut worker(&a, &b)).await, Step::Idle);
    assert_eq!(bob.heard(&b).await, 1);
    assert_eq!(waiting(&a, &b).await, 0);

    let sent = a.network.sent.lock().unwrap().clone();
    for (path, body) in sent
        .into_iter()
        .filter(|(path, _)| path == paths::TRANSACTIONS)
    {
        let (status, answer) = post(&a, &b, &path, body).await;
        assert_eq!(status, StatusCode::OK);
        let receipt = receipt::decode(answer).unwrap();
        let link = link(&a, &b);
        let receipt = receipt
            .verify(&b.node.keys.manifest(), &link, now(&a))
            .unwrap();
        let results = &receipt.body().results;
        assert!(
            results
                .iter()
                .all(|result| *result == ItemResult::Duplicate)
        );
    }
    assert_eq!(bob.heard(&b).await, 1);
}

/// Goal: an envelope whose predecessor is missing is put off and has no effect; by a transaction that
/// starts at position 2 of a fresh lane.
#[tokio::test]
async fn gap_is_deferred() {
    let [a, b] = sides(["a.example", "b.example"]);
    peered(&a, &b).await;
    let results = exchange(&a, &b, vec![outgoing(Lane::CONTROL, 2)]).await;
    assert!(matches!(
        results.as_slice(),
        [ItemResult::Deferred {
            code: RefusalCode::LaneGap,
            ..
        }]
    ));
}

/// Goal: nobody speaks for another server, and a forged signature is refused whole; by c's
/// transaction on b's connection, c's in its own name without an agreement, and a changed byte.
#[tokio::test]
async fn forged_origin_is_refused() {
    let [a, b, c] = sides(["a.example", "b.example", "c.example"]);
    peered(&a, &b).await;
    let signed = |by: &Side| {
        let key = by.node.keys.envelope_key();
        let link = Link {
            version: Version::V1,
            origin: by.node.server.clone(),
            destination: b.node.server.clone(),
            link_epoch: 1,
        };
        let envelopes = [outgoing(Lane::CONTROL, 1)];
        transaction::sign(&key, &link, &envelopes).unwrap().bytes
    };
    let (status, _) = post(&a, &b, paths::TRANSACTIONS, signed(&c)).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    let (status, _) = post(&c, &b, paths::TRANSACTIONS, signed(&c)).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    let mut forged = signed(&a).to_vec();
    let last = forged.len() - 1;
    forged[last] ^= 1;
    let (status, _) = post(&a, &b, paths::TRANSACTIONS, forged.into()).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    let (status, _) = post(&a, &b, paths::TRANSACTIONS, signed(&a)).await;
    assert_eq!(status, StatusCode::OK);
}

/// Goal: one bad envelope among good ones is refused alone, dead-lettered and returned to its sender,
/// and the good ones around it in the same lane arrive; by a row whose payload is garbage.
#[tokio::test]
async fn poison_is_refused_alone() {
    let [a, b] = sides(["a.example", "b.example"]);
    let (mut alice, bob) = acquainted(&a, &b).await;
    alice.say(&a, ROOM, b"before", 3600).await;
    let poison = OutboxItem {
        kind: Kind::Message,
        payload: Bytes::from_static(b"garbage"),
        created_ms: now(&a),
        expires_ms: now(&a) + 1_000_000,
        sender: Some(SenderRef {
            account: alice.of.account,
            device: alice.of.device,
            room: ROOM,
            counter: 99,
        }),
        origin: None,
    };
    let mut part = Part::default();
    queue_up(&mut part, &b, ROOM.into(), &poison);
    a.node.store.commit(part).await.unwrap();
    alice.say(&a, ROOM, b"after", 3600).await;

    assert_eq!(drain(&mut worker(&a, &b)).await, Step::Idle);
    assert_eq!(bob.heard(&b).await, 2);
    assert_eq!(waiting(&a, &b).await, 0);
    let given_up = dead_letters::newest(&a.node.store, 10).await.unwrap();
    assert_eq!(given_up.len(), 1);
    assert_eq!(given_up[0].refusal_code(), RefusalCode::Malformed);
    assert!(returned(&alice, &a, 99, RefusalCode::Malformed).await);
}

/// Goal: what the peer has suspended waits and arrives after the resumption; what this side has
/// suspended is refused when it is submitted; by suspending on either side in turn.
#[tokio::test]
async fn suspension_makes_mail_wait() {
    let [a, b] = sides(["a.example", "b.example"]);
    let (mut alice, bob) = acquainted(&a, &b).await;
    peers::suspend(&b.node, &admin(), &a.node.server, "audit")
        .await
        .unwrap();
    alice.say(&a, ROOM, b"waits", 3600).await;
    let mut worker = worker(&a, &b);
    assert!(matches!(drain(&mut worker).await, Step::Delay(_)));
    let status = a.node.links.status(&b.node.server);
    assert!(status.last_error.unwrap().contains("suspended"));
    assert_eq!((bob.heard(&b).await, waiting(&a, &b).await), (0, 1));
    peers::resume(&b.node, &admin(), &a.node.server)
        .await
        .unwrap();
    assert_eq!(drain(&mut worker).await, Step::Idle);
    assert_eq!(bob.heard(&b).await, 1);

    peers::suspend(&a.node, &admin(), &b.node.server, "audit")
        .await
        .unwrap();
    let outcome = alice.say(&a, ROOM, b"refused", 3600).await;
    assert!(
        matches!(&outcome, Outcome::Refused(refusal) if refusal.code == RefusalCode::AgreementSuspended),
        "{outcome:?}"
    );
}

/// Goal: revocation gives up what waits at once, tells its senders, shuts the peer out, and a new
/// agreement starts with an empty queue; by revoking with mail in the queue and peering again.
#[tokio::test]
async fn revocation_gives_up_what_waits() {
    let [a, b] = sides(["a.example", "b.example"]);
    let (mut alice, bob) = acquainted(&a, &b).await;
    a.network.set_down(true);
    let mut worker = worker(&a, &b);
    alice.say(&a, ROOM, b"too late", 3600).await;
    assert!(matches!(drain(&mut worker).await, Step::Delay(_)));
    peers::revoke(&a.node, &admin(), &b.node.server, "over")
        .await
        .unwrap();
    assert_eq!(a.node.peer_roots.get(&b.node.server), None);
    assert!(matches!(drain(&mut worker).await, Step::Delay(_)));
    assert_eq!(waiting(&a, &b).await, 0);
    assert!(returned(&alice, &a, 2, RefusalCode::AgreementRevoked).await);
    a.network.set_down(false);
    let (status, _) = post(&b, &a, paths::TRANSACTIONS, Bytes::from_static(b"x")).await;
    assert_eq!(status, StatusCode::FORBIDDEN);

    let before = a.node.peers.get(&b.node.server).unwrap().link_epoch;
    peers::revoke(&b.node, &admin(), &a.node.server, "over")
        .await
        .unwrap();
    peered(&a, &b).await;
    assert!(a.node.peers.get(&b.node.server).unwrap().link_epoch > before);
    alice.say(&a, ROOM, b"a new start", 3600).await;
    assert_eq!(drain(&mut worker).await, Step::Idle);
    assert_eq!(bob.heard(&b).await, 1);
}

/// Goal: what expires while the peer is away returns to its sender, and its place in the lane is
/// filled so that what follows arrives; by two messages of which one outlives the outage.
#[tokio::test]
async fn expired_mail_returns_and_blocks_nothing() {
    let [a, b] = sides(["a.example", "b.example"]);
    let (mut alice, bob) = acquainted(&a, &b).await;
    a.network.set_down(true);
    let mut worker = worker(&a, &b);
    alice.say(&a, ROOM, b"short", 60).await;
    alice.say(&a, ROOM, b"long", 3600).await;
    assert!(matches!(drain(&mut worker).await, Step::Delay(_)));
    a.clock.advance_ms(61_000);
    b.clock.advance_ms(61_000);
    a.network.set_down(false);
    assert_eq!(drain(&mut worker).await, Step::Idle);
    assert_eq!((bob.heard(&b).await, waiting(&a, &b).await), (1, 0));
    assert!(returned(&alice, &a, 2, RefusalCode::Expired).await);
}

/// Goal: a lane that the peer puts off does not hold up the others; by leaving out position 1 of one
/// lane while another lane has mail.
#[tokio::test]
async fn deferred_lane_holds_up_no_other() {
    let [a, b] = sides(["a.example", "b.example"]);
    let (mut alice, bob) = acquainted(&a, &b).await;
    let stuck = Lane::from_bytes([1; 16]);
    let row = OutboxItem {
        kind: Kind::Notice,
        payload: Bytes::from_static(b"x"),
        created_ms: now(&a),
        expires_ms: 0,
        sender: None,
        origin: None,
    };
    let mut part = Part::default();
    queue_up(&mut part, &b, stuck, &row);
    queue_up(&mut part, &b, stuck, &row);
    crate::store::outbox::delete(&mut part, &b.node.server, stuck, 1);
    a.node.store.commit(part).await.unwrap();
    alice.say(&a, ROOM, b"passes by", 3600).await;
    assert!(matches!(drain(&mut worker(&a, &b)).await, Step::Mail(_)));
    assert_eq!(bob.heard(&b).await, 1);
    assert_eq!(waiting(&a, &b).await, 1);
}

/// Goal: a file uploaded at one side is fetched by the other, whole, and expires there no later; one
/// that does not exist gives the reason; by fetching both.
#[tokio::test]
async fn files_are_fetched() {
    let [a, b] = sides(["a.example", "b.example"]);
    peered(&a, &b).await;
    let alice = person(&a, "alice").await;
    let contents: Vec<u8> = (0..200_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    let length = u64::try_from(contents.len()).unwrap();
    let mut upload = files::begin_upload(&a.node, alice.of, length, 3600)
        .await
        .unwrap();
    upload.write(contents.clone().into()).await.unwrap();
    let info = upload.finish().await.unwrap();

    fetch(&b.node, b.network.as_ref(), &a.node.server, info.file).await;
    let mut copy = files::open(&b.node, &a.node.server, info.file)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(copy.info, info);
    let mut arrived = Vec::new();
    while let Some(bytes) = copy.next(&b.node).await.unwrap() {
        arrived.extend_from_slice(&bytes);
    }
    assert_eq!(arrived, contents);

    let missing = FileId::from_bytes([1; 16]);
    fetch(&b.node, b.network.as_ref(), &a.node.server, missing).await;
    let failure = b.node.fetches.failure(&a.node.server, missing, now(&b));
    assert_eq!(failure.unwrap().code, RefusalCode::Expired);
}

/// Serves `node`'s federation API over mutual TLS.
async fn serve(node: Arc<Node>, listener: TcpListener) {
    let clock = Arc::clone(&node.clock);
    let config = tls::federation_listener(&node.keys, Arc::clone(&node.peer_roots), clock).unwrap();
    let acceptor = TlsAcceptor::from(config);
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let Ok(stream) = acceptor.accept(stream).await else {
            continue;
        };
        let peer = tls::authenticated(stream.get_ref().1).unwrap().peer;
        let router = inbound::router(Arc::clone(&node)).layer(Extension(peer));
        let service = TowerToHyperService::new(router);
        let connection = http2::Builder::new(TokioExecutor::new())
            .auto_date_header(false)
            .serve_connection(TokioIo::new(stream), service);
        tokio::spawn(connection);
    }
}

/// A commit in [`ROOM`], which `hub` orders.
fn commit(hub: &Side, epoch: u64, removes: &[&Person]) -> SubmissionBody {
    use crate::rooms::mls_framing::testing;
    SubmissionBody::Commit(homeserver_api::session::Commit {
        room: ROOM,
        hub: hub.node.server.clone(),
        epoch,
        commit: testing::commit_message(ROOM, epoch, &[2; 40]).into(),
        adds: Vec::new(),
        removes: removes.iter().map(|who| who.member.clone()).collect(),
        welcome: None,
        group_info: testing::group_info_message(ROOM, epoch + 1).into(),
        founding: None,
    })
}

/// The room as a homeserver knows it.
async fn room_at(side: &Side) -> Option<crate::store::room::RoomRecord> {
    let found = crate::store::room::get(&side.node.store, ROOM).await;
    found.unwrap().map(|(record, _)| record)
}

async fn returned(person: &Person, side: &Side, counter: u64, code: RefusalCode) -> bool {
    person.inbox(side).await.into_iter().any(|body| {
        matches!(body, InboxBody::Returned { counter: of, refusal, .. }
            if of == counter && refusal.code == code)
    })
}

fn now(side: &Side) -> u64 {
    side.node.clock.now_ms()
}

fn link(from: &Side, to: &Side) -> Link {
    Link {
        version: Version::V1,
        origin: from.node.server.clone(),
        destination: to.node.server.clone(),
        link_epoch: from.node.peers.get(&to.node.server).unwrap().link_epoch,
    }
}

fn outgoing(lane: Lane, sequence: u64) -> Outgoing {
    Outgoing {
        kind: Kind::Tombstone,
        lane,
        sequence,
        created_ms: 1,
        expires_ms: 0,
        payload: HashedPayload::new(Bytes::from_static(&[0, 0, 0, 1, 0, 19])),
    }
}

async fn exchange(from: &Side, to: &Side, envelopes: Vec<Outgoing>) -> Vec<ItemResult> {
    let (_, receipt) = answered(from, to, &envelopes).await;
    receipt.body().results.clone()
}

/// A transaction of these envelopes, and the receipt for it.
async fn answered(from: &Side, to: &Side, envelopes: &[Outgoing]) -> (SignedTransaction, Receipt) {
    let link = link(from, to);
    let key = from.node.keys.envelope_key();
    let signed = transaction::sign(&key, &link, envelopes).unwrap();
    let (status, answer) = post(from, to, paths::TRANSACTIONS, signed.bytes.clone()).await;
    assert_eq!(
        status,
        StatusCode::OK,
        "{}",
        String::from_utf8_lossy(&answer)
    );
    let receipt = receipt::decode(answer).unwrap();
    let manifest = to.node.keys.manifest();
    let receipt = receipt.verify(&manifest, &link, now(from)).unwrap();
    (signed, receipt)
}

async fn post(from: &Side, to: &Side, path: &str, body: Bytes) -> (StatusCode, Bytes) {
    let request = Request::builder()
        .method(Method::POST)
        .uri(path)
        .body(padding::pad(&body))
        .unwrap();
    let response = from
        .network
        .request(&to.node.server, request)
        .await
        .unwrap();
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    if status == StatusCode::OK {
        return (status, padding::unpad(&body, RECEIPT_BYTES_MAX).unwrap());
    }
    (status, body)
}
