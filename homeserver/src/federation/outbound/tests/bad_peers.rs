//! What a bad peer, a damaged record or a lost connection costs, and what it does not.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use federation_proto::envelope::{HashedPayload, Kind, Lane, Outgoing};
use federation_proto::ids::{FileId, RequestId};
use federation_proto::link::latest_link_epoch;
use federation_proto::payload::{About, KeyResponse, Notice, Payload, Relay};
use federation_proto::receipt::ItemResult;
use federation_proto::refusal::{Refusal, RefusalCode};
use federation_proto::transaction::{self, Link};
use futures_util::future::BoxFuture;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Frame;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::keys::forged;
use super::{
    ROOM, acquainted, drain, exchange, go_on, link, now, returned, three_acquainted, waiting,
    worker,
};
use crate::delivery::files;
use crate::federation::files::fetch;
use crate::federation::outbound::worker::{Step, Worker};
use crate::federation::outbound::{Network, ResponseBody, TlsNetwork};
use crate::federation::testing::{LocalNetwork, Side, admin, peered, person, sides};
use crate::federation::{paths, peers};
use crate::http_client::ConnectionError;
use crate::store::inbox::InboxBody;
use crate::store::link_position;
use crate::store::outbox;
use crate::store::{Order, Part, dead_letters};
use crate::tls;

pub(super) fn envelope(side: &Side, lane: Lane, sequence: u64, payload: &Payload) -> Outgoing {
    Outgoing {
        kind: payload.kind(),
        lane,
        sequence,
        created_ms: now(side),
        expires_ms: 0,
        payload: HashedPayload::new(payload.encode().unwrap()),
    }
}

pub(super) fn code(result: &ItemResult) -> Option<RefusalCode> {
    match result {
        ItemResult::Refused(refusal) => Some(refusal.code),
        ItemResult::Deferred { code, .. } => Some(*code),
        ItemResult::Accepted | ItemResult::Duplicate => None,
    }
}

/// Goal: answers that nobody asked for, and notices from those whom they don't concern, are refused; by
/// a peer that makes them up.
#[tokio::test]
async fn unsolicited_items_are_refused() {
    let [a, b, c] = sides(["a.example", "b.example", "c.example"]);
    peered(&a, &c).await;
    peered(&b, &c).await;
    let (_, bob) = acquainted(&a, &b).await;
    let key_response = Payload::KeyResponse(KeyResponse {
        request: RequestId::from_bytes([1; 16]),
        device: bob.of.device,
        result: Err(Refusal::new(RefusalCode::NoKeyPackages, "no")),
    });
    let before = bob.inbox(&b).await.len();
    let results = exchange(&a, &b, vec![envelope(&a, Lane::CONTROL, 1, &key_response)]).await;
    assert_eq!(code(&results[0]), Some(RefusalCode::Malformed));

    // The hub tells of others, a follower only of itself, and no follower takes commits.
    let notice = |about, server: &Side| {
        Payload::Notice(Notice {
            room: ROOM,
            about,
            device: bob.of.device,
            reference: 1,
            server: server.node.server.clone(),
            refusal: Refusal::new(RefusalCode::Quota, "no"),
        })
    };
    let told = exchange(
        &a,
        &b,
        vec![envelope(&a, ROOM.into(), 2, &notice(About::Message, &c))],
    )
    .await;
    assert_eq!(code(&told[0]), None);
    let told = exchange(
        &b,
        &a,
        vec![
            envelope(&b, ROOM.into(), 1, &notice(About::Message, &c)),
            envelope(&b, ROOM.into(), 2, &notice(About::Handshake, &b)),
        ],
    )
    .await;
    let codes: Vec<_> = told.iter().map(code).collect();
    assert_eq!(codes, [Some(RefusalCode::UnknownRoom); 2]);
    assert_eq!(bob.inbox(&b).await.len(), before + 1);
}

/// Goal: an answer to a request is taken once; by a claim that is answered twice.
#[tokio::test]
async fn answers_are_taken_once() {
    let [a, b] = sides(["a.example", "b.example"]);
    let (mut alice, _) = acquainted(&a, &b).await;
    let request = RequestId::from_bytes([3; 16]);
    let claim = homeserver_api::session::SubmissionBody::ClaimKeys {
        request,
        address: "bob@b.example".parse().unwrap(),
        known: Vec::new(),
    };
    alice.submit(&a, claim).await;
    let answer = Payload::KeyResponse(KeyResponse {
        request,
        device: alice.of.device,
        result: Err(Refusal::new(RefusalCode::NoKeyPackages, "no")),
    });
    let twice = vec![
        envelope(&b, Lane::CONTROL, 1, &answer),
        envelope(&b, Lane::CONTROL, 2, &answer),
    ];
    let results = exchange(&b, &a, twice).await;
    let codes: Vec<_> = results.iter().map(code).collect();
    assert_eq!(codes, [None, Some(RefusalCode::Malformed)]);
    let results = exchange(&b, &a, vec![envelope(&b, Lane::CONTROL, 3, &answer)]).await;
    assert_eq!(code(&results[0]), Some(RefusalCode::Malformed));
}

/// Goal: a hub can't show a member's message twice; by sending the same relay again in a new envelope.
#[tokio::test]
async fn relays_are_taken_once() {
    let [a, b, c] = sides(["a.example", "b.example", "c.example"]);
    let (_, mut bob, carol) = three_acquainted(&a, &b, &c).await;
    let mut to_c = worker(&a, &c);
    drain(&mut worker(&a, &b)).await;
    drain(&mut to_c).await;
    bob.say(&b, ROOM, b"once", 3600).await;
    drain(&mut worker(&b, &a)).await;
    let relay = outbox::rows_after(&a.node.store, &c.node.server, None, 10).await;
    let relay = relay.unwrap().remove(0);
    assert_eq!(relay.row.kind, Kind::Relay);
    drain(&mut to_c).await;
    assert_eq!(carol.heard(&c).await, 1);
    let again = Outgoing {
        kind: Kind::Relay,
        lane: ROOM.into(),
        sequence: relay.number + 1,
        created_ms: now(&a),
        expires_ms: 0,
        payload: HashedPayload::new(relay.row.payload),
    };
    let results = exchange(&a, &c, vec![again]).await;
    assert_eq!(code(&results[0]), Some(RefusalCode::Malformed));
    assert_eq!(carol.heard(&c).await, 1);
}

/// Goal: nobody who has an origin's key for a time leads its messages in a room to a link epoch that the origin never
/// reaches: a relayed envelope keeps to the hub's stamp (ROOM-012). Method: a hub that relays one of the highest epoch there
/// is, the first that is too high, and the highest that an honest hub may have taken.
#[tokio::test]
async fn relays_keep_to_the_clock() {
    let [a, b, c] = sides(["a.example", "b.example", "c.example"]);
    let (_, bob, carol) = three_acquainted(&a, &b, &c).await;
    drain(&mut worker(&a, &c)).await;
    let (server, lane) = (&a.node.server, Lane::from(ROOM));
    let position = link_position::position(&c.node.store, server, lane).await;
    let first = position.unwrap().record.unwrap().sequence + 1;
    let stamp_ms = now(&a);
    let relay = |link_epoch: u64| {
        let link = Link {
            link_epoch,
            ..link(&b, &a)
        };
        let key = b.node.keys.envelope_key();
        let signed = transaction::sign(&key, &link, &[forged(&bob, stamp_ms, 1)]).unwrap();
        let manifest = b.node.keys.manifest();
        let verified = transaction::decode(signed.bytes).unwrap();
        let verified = verified.verify(&manifest, &b.node.server, server, stamp_ms);
        let verified = verified.unwrap();
        Payload::Relay(Relay {
            stamp_ms,
            proof: verified.envelopes()[0].proof(),
            envelope: verified.envelopes()[0].bytes().clone(),
        })
    };
    let latest = latest_link_epoch(stamp_ms);
    let epochs = [u64::MAX, latest + 1, latest];
    let sent = (first..).zip(epochs);
    let sent = sent.map(|(sequence, epoch)| envelope(&a, lane, sequence, &relay(epoch)));
    let results = exchange(&a, &c, sent.collect()).await;
    let codes: Vec<_> = results.iter().map(code).collect();
    let malformed = Some(RefusalCode::Malformed);
    assert_eq!(codes, [malformed, malformed, None]);
    assert_eq!(carol.heard(&c).await, 1);
}

/// Goal: mail for a peer that is away returns when its time is over, without the peer's return; by a
/// worker that only ever gets to probe.
#[tokio::test(start_paused = true)]
async fn mail_expires_while_a_peer_is_away() {
    let [a, b] = sides(["a.example", "b.example"]);
    let (mut alice, _) = acquainted(&a, &b).await;
    a.network.set_down(true);
    alice.say(&a, ROOM, b"short", 60).await;
    let mut worker = worker(&a, &b);
    worker.mail();
    go_on(&mut worker).await;
    assert!(!returned(&alice, &a, 2, RefusalCode::Expired).await);
    a.clock.advance_ms(61_000);
    tokio::time::advance(Duration::from_secs(6)).await;
    assert!(matches!(worker.go_on().await.unwrap(), Step::Delay(_)));
    assert!(returned(&alice, &a, 2, RefusalCode::Expired).await);
}

/// A network whose far end can't read a transaction with these bytes in it.
struct Choosy(Arc<LocalNetwork>, &'static [u8]);

impl Network for Choosy {
    fn send<'a>(
        &'a self,
        server: &'a federation_proto::ids::ServerName,
        _endpoints: &'a [String],
        request: Request<Bytes>,
        _within: Duration,
    ) -> BoxFuture<'a, Result<Response<ResponseBody>, ConnectionError>> {
        let body = request.body();
        let bad = body.windows(self.1.len()).any(|bytes| bytes == self.1);
        Box::pin(async move {
            if !bad {
                return self.0.request(server, request).await;
            }
            let body = Full::new(Bytes::from_static(b"{}"));
            let body = body.map_err(|never| match never {}).boxed_unsync();
            Ok(Response::builder()
                .status(StatusCode::BAD_REQUEST)
                .body(body)
                .unwrap())
        })
    }

    fn cut(&self, _server: &federation_proto::ids::ServerName) {}
}

/// Goal: an envelope that makes the peer refuse whole transactions is found, given up and returned, and
/// all others arrive; by one among many.
#[tokio::test]
async fn what_cannot_be_read_is_found() {
    let [a, b] = sides(["a.example", "b.example"]);
    let (mut alice, bob) = acquainted(&a, &b).await;
    for n in 0..8_u8 {
        let text = if n == 3 {
            b"poison!!".to_vec()
        } else {
            vec![n; 8]
        };
        alice.say(&a, ROOM, &text, 3600).await;
    }
    let network = Arc::new(Choosy(a.network.clone(), b"poison!!"));
    let mut worker = Worker::new(Arc::clone(&a.node), network, b.node.server.clone());
    let mut delays = 0;
    while matches!(drain(&mut worker).await, Step::Delay(_)) {
        delays += 1;
        assert!(delays < 10);
    }
    assert_eq!((bob.heard(&b).await, waiting(&a, &b).await), (7, 0));
    assert!(returned(&alice, &a, 5, RefusalCode::Malformed).await);
}

/// Goal: a stored row that does not decode is given up alone; by damaging one of two.
#[tokio::test]
async fn damaged_rows_block_nothing() {
    let [a, b] = sides(["a.example", "b.example"]);
    let (mut alice, bob) = acquainted(&a, &b).await;
    alice.say(&a, ROOM, b"damaged", 3600).await;
    alice.say(&a, ROOM, b"whole", 3600).await;
    let rows = a.node.store.range(b"O", b"P", 10, Order::Ascending);
    let (key, _) = rows.await.unwrap().remove(0);
    let mut part = Part::default();
    part.put(key, Bytes::from_static(b"?"));
    a.node.store.commit(part).await.unwrap();
    let mut worker = worker(&a, &b);
    worker.mail();
    go_on(&mut worker).await;
    assert_eq!((bob.heard(&b).await, waiting(&a, &b).await), (1, 0));
    assert_eq!(
        dead_letters::newest(&a.node.store, 9).await.unwrap().len(),
        1
    );
}

/// Goal: an ended agreement is wound up although a new offer is under way; by offering anew after a
/// revocation, before the worker had its turn.
#[tokio::test]
async fn an_open_offer_hides_nothing() {
    let [a, b] = sides(["a.example", "b.example"]);
    let (mut alice, _) = acquainted(&a, &b).await;
    alice.say(&a, ROOM, b"too late", 3600).await;
    peers::revoke(&a.node, &admin(), &b.node.server, "over")
        .await
        .unwrap();
    let offer = homeserver_api::admin::OfferRequest {
        server: b.node.server.clone(),
        terms: None,
        endpoints: vec!["192.0.2.1:8448".to_owned()],
        contact: String::new(),
    };
    peers::offer(&a.node, &admin(), &offer).await.unwrap();
    assert_eq!(drain(&mut worker(&a, &b)).await, Step::Idle);
    assert_eq!(waiting(&a, &b).await, 0);
    assert!(returned(&alice, &a, 2, RefusalCode::AgreementRevoked).await);
}

/// Goal: a device whose rules keep it out of a room is not in it, whatever the hub lists; by a welcome
/// for two of which one belongs to a suspended account.
#[tokio::test]
async fn the_hub_does_not_decide_who_joins() {
    let [a, b] = sides(["a.example", "b.example"]);
    peered(&a, &b).await;
    let mut alice = person(&a, "alice").await;
    let (bob, eve) = (person(&b, "bob").await, person(&b, "eve").await);
    let change = homeserver_api::admin::ChangeUserRequest {
        user_type: None,
        suspended: Some(true),
    };
    crate::identity::accounts::change(&b.node, &admin(), &"eve".parse().unwrap(), &change)
        .await
        .unwrap();
    alice.create_room(&a, ROOM, &[&bob, &eve]).await;
    drain(&mut worker(&a, &b)).await;
    let (room, _) = crate::store::room::get(&b.node.store, ROOM)
        .await
        .unwrap()
        .unwrap();
    assert!(room.has(&bob.member) && room.has(&alice.member));
    assert!(!room.has(&eve.member));
    assert!(eve.inbox(&b).await.is_empty());
    assert!(matches!(
        bob.inbox(&b).await[..],
        [InboxBody::Welcome { .. }]
    ));
}

/// Goal: a stale wish for a file leaves the complete copy alone; by fetching it again with the network
/// down.
#[tokio::test]
async fn complete_copies_stay() {
    let [a, b] = sides(["a.example", "b.example"]);
    peered(&a, &b).await;
    let alice = person(&a, "alice").await;
    let mut upload = files::begin_upload(&a.node, alice.of, 3, 3600)
        .await
        .unwrap();
    upload.write(Bytes::from_static(b"abc")).await.unwrap();
    let info = upload.finish().await.unwrap();
    fetch(&b.node, b.network.as_ref(), &a.node.server, info.file).await;
    b.network.set_down(true);
    fetch(&b.node, b.network.as_ref(), &a.node.server, info.file).await;
    let copy = files::open(&b.node, &a.node.server, info.file)
        .await
        .unwrap();
    assert!(copy.is_some());
    assert!(
        b.node
            .fetches
            .failure(&a.node.server, info.file, now(&b))
            .is_none()
    );
}

/// Goal: a revocation cuts a download that is under way, socket and all, and leaves nothing of the
/// file; over mutual TLS, with a peer that sends half of a file and then nothing.
#[tokio::test]
async fn revocation_cuts_downloads() {
    let [a, b] = sides(["a.example", "b.example"]);
    peered(&a, &b).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = listener.local_addr().unwrap().to_string();
    let clock = Arc::clone(&b.node.clock);
    let config =
        tls::federation_listener(&b.node.keys, Arc::clone(&b.node.peer_roots), clock).unwrap();
    let expires_ms = now(&b) + 3_600_000;
    let serving = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let stream = TlsAcceptor::from(config).accept(stream).await.unwrap();
        let service = service_fn(move |_| async move {
            let half = futures_util::stream::once(async {
                Ok::<_, std::convert::Infallible>(Frame::data(Bytes::from(vec![7_u8; 300_000])))
            });
            let body = StreamBody::new(futures_util::StreamExt::chain(
                half,
                futures_util::stream::pending(),
            ));
            Response::builder()
                .header("content-length", 600_000)
                .header(paths::EXPIRES_HEADER, expires_ms)
                .body(body)
        });
        http2::Builder::new(TokioExecutor::new())
            .serve_connection(TokioIo::new(stream), service)
            .await
    });
    let network = Arc::new(To(
        endpoint,
        TlsNetwork::new(
            Arc::clone(&a.node.keys),
            Arc::clone(&a.node.peer_roots),
            Arc::clone(&a.node.clock),
            Arc::clone(&a.node.random),
            &a.node.config.discovery,
            Arc::clone(&a.node.links),
        ),
    ));
    let file = FileId::from_bytes([1; 16]);
    let stored = async || {
        let rows = a.node.store.range(b"f", b"g", 9, Order::Ascending);
        let records = a.node.store.range(b"F", b"G", 9, Order::Ascending);
        rows.await.unwrap().len() + records.await.unwrap().len()
    };
    let fetching = {
        let (node, network, server) = (a.node.clone(), network.clone(), b.node.server.clone());
        tokio::spawn(async move { fetch(&node, network.as_ref(), &server, file).await })
    };
    while stored().await < 2 {
        tokio::task::yield_now().await;
    }
    peers::revoke(&a.node, &admin(), &b.node.server, "over")
        .await
        .unwrap();
    network.cut(&b.node.server);
    let second = Duration::from_secs(1);
    let ended = tokio::time::timeout(second, serving).await;
    assert!(ended.is_ok(), "the socket is still open");
    tokio::time::timeout(second, fetching)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(stored().await, 0);
}

/// A network to one address.
pub(super) struct To(pub(super) String, pub(super) TlsNetwork);

impl Network for To {
    fn send<'a>(
        &'a self,
        server: &'a federation_proto::ids::ServerName,
        _endpoints: &'a [String],
        request: Request<Bytes>,
        within: Duration,
    ) -> BoxFuture<'a, Result<Response<ResponseBody>, ConnectionError>> {
        Box::pin(async move {
            let endpoints = [self.0.clone()];
            self.1.send(server, &endpoints, request, within).await
        })
    }

    fn cut(&self, server: &federation_proto::ids::ServerName) {
        self.1.cut(server);
    }
}
