//! Keys that change, by the clock, by hand and after a theft, while mail is on its way.

use std::time::Duration;

use federation_proto::envelope::HashedPayload;
use federation_proto::ids::ServerName;
use federation_proto::keys::{EnvelopeKey, KeyId};
use federation_proto::limits::CLOCK_SKEW_MS_MAX;
use federation_proto::manifest::ManifestBody;
use federation_proto::payload::{Message, Payload, Sender};
use futures_util::future::BoxFuture;
use homeserver_api::attributes::MessageAttributes;
use http::Response;

use super::*;
use crate::audit::{self, Actor};
use crate::federation::outbound::{Network, ResponseBody, run};
use crate::federation::peers::PeeringError;
use crate::federation::testing::LocalNetwork;
use crate::http_client::ConnectionError;
use crate::organisation::{Act, Asked};
use crate::rooms::mls_framing::testing::application_message;

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

pub(super) async fn change(side: &Side, asked: Asked) {
    let (store, random) = (&side.node.store, side.node.random.as_ref());
    let act = Act::Asked(asked);
    let keeper = &side.node.keeper;
    let done = keeper.act(store, &admin(), &act, now(side), random).await;
    assert!(done.unwrap(), "nothing has changed");
}

pub(super) async fn rotate(side: &Side) {
    change(side, Asked::RotateEnvelope { replaces: None }).await;
}

/// Lets time pass for every task and on every clock.
pub(super) async fn pass(sides: &[&Side], ms: u64) {
    tokio::time::sleep(Duration::from_millis(ms)).await;
    for side in sides {
        side.clock.advance_ms(ms);
    }
}

/// Lets a little time pass again and again, until this is so. The store works in a thread of its own, for which
/// virtual time does not wait.
pub(super) async fn until(sides: &[&Side], mut is_so: impl AsyncFnMut() -> bool) {
    for _ in 0..100_000 {
        if is_so().await {
            return;
        }
        pass(sides, 1).await;
    }
    panic!("it never came to that");
}

/// `of` revokes an envelope key as of now, and `at` knows it.
pub(super) async fn revoke_known(of: &Side, at: &Side, key: KeyId) {
    let revoke = Asked::RevokeEnvelope {
        key: Some(key),
        since_ms: now(of),
    };
    change(of, revoke).await;
    let newest = of.node.keys.manifest().bytes().clone();
    peers::take_manifest(&at.node, &of.node.server, newest)
        .await
        .unwrap();
}

/// `at` learns which issuing CA `of` has, as it does by itself where its worker runs.
pub(super) async fn learn_issuing_ca(at: &Side, of: &Side) {
    let newest = peers::root::manifest_for(&of.node, &at.node.server);
    peers::take_manifest(&at.node, &of.node.server, newest.bytes().clone())
        .await
        .unwrap();
}

pub(super) fn serial_known(at: &Side, of: &Side) -> u64 {
    let view = at.node.peers.get(&of.node.server).unwrap();
    view.manifest.clone().unwrap().serial()
}

/// A room of three with the hub at `a`, whose worker towards `c` is returned.
async fn room_of_three(a: &Side, b: &Side, c: &Side) -> (Person, Person, Person, Worker) {
    peered(a, b).await;
    peered(a, c).await;
    peered(b, c).await;
    let mut alice = person(a, "alice").await;
    let bob = person(b, "bob").await;
    let carol = person(c, "carol").await;
    alice.create_room(a, ROOM, &[&bob, &carol]).await;
    let mut to_c = worker(a, c);
    drain(&mut worker(a, b)).await;
    drain(&mut to_c).await;
    (alice, bob, carol, to_c)
}

/// Goal: the next key is known before it is used, so that its first mail passes at once; by moving the clock
/// until the key changes, at a peer that knows the manifest of the agreement alone.
#[tokio::test]
async fn the_next_key_is_known_beforehand() {
    let [a, b] = sides(["a.example", "b.example"]);
    let (mut alice, bob) = acquainted(&a, &b).await;
    let first = a.node.keys.envelope_key().id();
    for side in [&a, &b] {
        side.clock.advance_ms(61 * DAY_MS);
    }
    assert!(a.node.keys.renew(now(&a), a.node.random.as_ref()).unwrap());
    assert_ne!(a.node.keys.envelope_key().id(), first);
    alice.say(&a, ROOM, b"new key", 3600).await;
    assert_eq!(drain(&mut worker(&a, &b)).await, Step::Idle);
    assert_eq!(bob.heard(&b).await, 1);
}

/// Goal: a key that no known manifest lists is learnt from the peer's newest, and nothing is lost meanwhile;
/// by two changes in a row, and workers that tell each other nothing.
#[tokio::test]
async fn an_unknown_key_is_fetched() {
    let [a, b] = sides(["a.example", "b.example"]);
    let (mut alice, bob) = acquainted(&a, &b).await;
    rotate(&a).await;
    rotate(&a).await;
    alice.say(&a, ROOM, b"new key", 3600).await;
    let mut to_b = worker(&a, &b);
    let step = drain(&mut to_b).await;
    assert!(matches!(step, Step::Delay(_)), "{step:?}");
    drain(&mut worker(&b, &a)).await;
    assert_eq!(drain(&mut to_b).await, Step::Idle);
    assert_eq!(bob.heard(&b).await, 1);
    assert_eq!(serial_known(&b, &a), a.node.keys.manifest().serial());
}

/// Goal: no message fails, is lost or shown twice while keys of both sides change, and each side knows the
/// other's newest manifest in the end; by 24 changes by hand between messages, under virtual time.
#[tokio::test(start_paused = true)]
async fn rotations_under_traffic() {
    let [a, b] = sides(["a.example", "b.example"]);
    let (mut alice, mut bob) = acquainted(&a, &b).await;
    let running = [&a, &b].map(|side| {
        let network = Arc::clone(&side.network);
        tokio::spawn(run(Arc::clone(&side.node), network))
    });
    let mut sent = 0;
    for n in 0..24_u8 {
        for half in 0..2_u8 {
            if half == 1 {
                let side = if n % 2 == 0 { &a } else { &b };
                match n % 3 {
                    0 => change(side, Asked::RotateTls { replaces: None }).await,
                    _ => rotate(side).await,
                }
            }
            for m in 0..4_u8 {
                for outcome in [
                    alice.say(&a, ROOM, &[n, half, m, 1], 3600).await,
                    bob.say(&b, ROOM, &[n, half, m, 2], 3600).await,
                ] {
                    assert!(matches!(outcome, Outcome::Accepted { .. }), "{outcome:?}");
                }
                sent += 1;
                pass(&[&a, &b], 5).await;
            }
        }
    }
    let both = [&a, &b];
    let over = async || waiting(&a, &b).await + waiting(&b, &a).await == 0;
    until(&both, over).await;
    assert_eq!((alice.heard(&a).await, bob.heard(&b).await), (sent, sent));
    for (side, person) in [(&a, &alice), (&b, &bob)] {
        let inbox = person.inbox(side).await;
        let failed = |body: &InboxBody| matches!(body, InboxBody::Returned { .. });
        assert!(!inbox.iter().any(failed));
        let letters = dead_letters::newest(&side.node.store, 10).await.unwrap();
        assert!(letters.is_empty());
        let log = audit::page(&side.node.store, side.node.random.as_ref(), 0, 1000)
            .await
            .unwrap();
        let refused =
            |entry: &&homeserver_api::admin::AuditEntry| entry.action.ends_with("refused");
        assert_eq!(log.entries.iter().find(refused), None);
        let rotated = log
            .entries
            .iter()
            .filter(|entry| entry.action == "keys.rotated");
        assert_eq!(rotated.count(), 12);
    }
    let told = async || {
        serial_known(&a, &b) == b.node.keys.manifest().serial()
            && serial_known(&b, &a) == a.node.keys.manifest().serial()
    };
    until(&both, told).await;
    for task in running {
        task.abort();
    }
}

/// Goal: a peer that exchanges no mail hears of changed keys all the same, and one that was away hears of them
/// when it is back; by a network that is cut at first.
#[tokio::test(start_paused = true)]
async fn changed_keys_are_announced() {
    let [a, b] = sides(["a.example", "b.example"]);
    peered(&a, &b).await;
    let running = [&a, &b].map(|side| {
        let network = Arc::clone(&side.network);
        tokio::spawn(run(Arc::clone(&side.node), network))
    });
    let both = [&a, &b];
    let told = async || {
        let newest = a.node.keys.manifest().serial();
        let a_knows = a.node.links.known_of_us(&b.node.server) == Some(newest);
        serial_known(&b, &a) == newest && a_knows
    };
    // They have greeted each other: from now on there is nothing that they would talk about.
    let greeted = async || {
        let answers = |at: &Side, of: &Side| at.node.links.status(&of.node.server).reachable;
        answers(&a, &b).is_some() && answers(&b, &a).is_some()
    };
    until(&both, greeted).await;
    rotate(&a).await;
    until(&both, told).await;

    a.network.set_down(true);
    b.network.set_down(true);
    rotate(&a).await;
    pass(&both, 10_000).await;
    assert!(serial_known(&b, &a) < a.node.keys.manifest().serial());
    a.network.set_down(false);
    b.network.set_down(false);
    until(&both, told).await;
    for task in running {
        task.abort();
    }
}

/// Goal: a relay signed with a key that the follower does not know yet waits for the origin's newer
/// manifest and arrives then; by changing the origin's keys twice in a room of three.
#[tokio::test]
async fn relays_wait_for_a_new_key() {
    let [a, b, c] = sides(["a.example", "b.example", "c.example"]);
    let (alice, mut bob, carol, mut to_c) = room_of_three(&a, &b, &c).await;
    rotate(&b).await;
    rotate(&b).await;
    bob.say(&b, ROOM, b"with the new key", 3600).await;
    let mut b_to_a = worker(&b, &a);
    drain(&mut b_to_a).await;
    drain(&mut worker(&a, &b)).await;
    drain(&mut b_to_a).await;
    assert_eq!(alice.heard(&a).await, 1);

    assert!(matches!(drain(&mut to_c).await, Step::Mail(_)));
    assert_eq!((carol.heard(&c).await, waiting(&a, &c).await), (0, 1));
    drain(&mut worker(&c, &b)).await;
    a.clock.advance_ms(5_000);
    c.clock.advance_ms(5_000);
    assert_eq!(drain(&mut to_c).await, Step::Idle);
    assert_eq!((carol.heard(&c).await, waiting(&a, &c).await), (1, 0));
}

/// Goal: where the origin can't be reached, the follower has its newer manifest from the room's hub, which
/// shows it to servers in the room alone; by an origin that is gone once the hub has its message, and a
/// stranger who asks.
#[tokio::test]
async fn the_hub_knows_a_new_key_too() {
    let [a, b, c, d] = sides(["a.example", "b.example", "c.example", "d.example"]);
    let (_, mut bob, carol, mut to_c) = room_of_three(&a, &b, &c).await;
    rotate(&b).await;
    rotate(&b).await;
    bob.say(&b, ROOM, b"and gone", 3600).await;
    let mut b_to_a = worker(&b, &a);
    drain(&mut b_to_a).await;
    drain(&mut worker(&a, &b)).await;
    drain(&mut b_to_a).await;

    c.network.lose(&b.node.server);
    assert!(matches!(drain(&mut to_c).await, Step::Mail(_)));
    let mut to_b = worker(&c, &b);
    let view = c.node.peers.get(&b.node.server).unwrap();
    to_b.renew_manifest(&view).await.unwrap_err();
    while serial_known(&c, &b) < b.node.keys.manifest().serial() {
        tokio::task::yield_now().await;
    }
    a.clock.advance_ms(5_000);
    c.clock.advance_ms(5_000);
    assert_eq!(drain(&mut to_c).await, Step::Idle);
    assert_eq!(carol.heard(&c).await, 1);

    peered(&a, &d).await;
    let path = paths::room_manifest(ROOM, &b.node.server);
    for (from, expected) in [(&c, StatusCode::OK), (&d, StatusCode::NOT_FOUND)] {
        let request = Request::builder().uri(&path).body(Bytes::new()).unwrap();
        let answer = from.network.request(&a.node.server, request).await.unwrap();
        assert_eq!(answer.status(), expected);
    }
}

/// Goal: a hub that says nothing holds up nothing of the peer whose manifest it is asked for; by an origin that
/// is gone, and a hub that takes the question and never answers.
#[tokio::test(start_paused = true)]
async fn a_silent_hub_holds_up_nobody_else() {
    let [a, b, c] = sides(["a.example", "b.example", "c.example"]);
    room_of_three(&a, &b, &c).await;
    c.network.lose(&b.node.server);
    let links = &c.node.links;
    links.ask_hub_too(&b.node.server, &a.node.server, ROOM);
    links.fetch_manifest(&b.node.server);
    let (network, server) = (Arc::clone(&c.network), a.node.server.clone());
    let network = Arc::new(Silent { network, server });
    let mut to_b = Worker::new(c.node.clone(), network, b.node.server.clone());
    let view = c.node.peers.get(&b.node.server).unwrap();
    let second = Duration::from_secs(1);
    let asked = tokio::time::timeout(second, to_b.renew_manifest(&view)).await;
    asked.unwrap().unwrap_err();
}

/// Requests to `server` get no answer; others pass.
struct Silent {
    network: Arc<LocalNetwork>,
    server: ServerName,
}

impl Network for Silent {
    fn send<'a>(
        &'a self,
        server: &'a ServerName,
        _endpoints: &'a [String],
        request: Request<Bytes>,
        _within: Duration,
    ) -> BoxFuture<'a, Result<Response<ResponseBody>, ConnectionError>> {
        if *server == self.server {
            return Box::pin(std::future::pending());
        }
        Box::pin(self.network.request(server, request))
    }

    fn cut(&self, _server: &ServerName) {}
}

/// A message of `person` as a homeserver would send it to the hub.
pub(super) fn forged(person: &Person, at_ms: u64, sequence: u64) -> Outgoing {
    let attributes = MessageAttributes {
        ttl_seconds: 3600,
        burn_seconds: 0,
        label: 0,
        file: false,
    };
    let payload = Payload::Message(Message {
        room: ROOM,
        sender: Sender {
            account: person.of.account,
            device: person.of.device,
        },
        reference: 99,
        message: Bytes::from(application_message(ROOM, 1, attributes, b"forged")),
    });
    Outgoing {
        kind: Kind::Message,
        lane: ROOM.into(),
        sequence,
        created_ms: at_ms,
        expires_ms: 0,
        payload: HashedPayload::new(payload.encode().unwrap()),
    }
}

/// Goal, the drill for a stolen envelope key (docs/security/compromise-drill.md): before the revocation the thief
/// is believed; afterwards nothing that is signed with the key passes, neither new nor captured before; what
/// was accepted stays; where the thief has taken the place of the organisation's own mail, its sender is told; and
/// the revocation can't be taken back with a manifest. By a thief who has b's key and its connection.
#[tokio::test]
async fn drill_envelope_key() {
    let [a, b] = sides(["a.example", "b.example"]);
    let (alice, mut bob) = acquainted(&a, &b).await;
    let stolen: Arc<EnvelopeKey> = b.node.keys.envelope_key();
    let old = b.node.keys.manifest();
    bob.say(&b, ROOM, b"before", 3600).await;
    let mut to_a = worker(&b, &a);
    drain(&mut to_a).await;
    assert_eq!(alice.heard(&a).await, 1);
    let captured: Vec<_> = std::mem::take(&mut *b.network.sent.lock().unwrap());
    let by_thief = |sequence| {
        let link = link(&b, &a);
        let signed = transaction::sign(&stolen, &link, &[forged(&bob, now(&b), sequence)]);
        signed.unwrap().bytes
    };
    let (status, _) = post(&b, &a, paths::TRANSACTIONS, by_thief(2)).await;
    assert_eq!((status, alice.heard(&a).await), (StatusCode::OK, 2));

    for side in [&a, &b] {
        side.clock.advance_ms(1000);
    }
    revoke_known(&b, &a, stolen.id()).await;
    let (status, problem) = post(&b, &a, paths::TRANSACTIONS, by_thief(3)).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    let problem = String::from_utf8_lossy(&problem).into_owned();
    assert!(
        problem.contains("unknown-key") && problem.contains("was revoked"),
        "{problem}"
    );
    for (path, body) in &captured {
        if path == paths::TRANSACTIONS {
            let (status, _) = post(&b, &a, paths::TRANSACTIONS, body.clone()).await;
            assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "a replay");
        }
    }
    assert_eq!(alice.heard(&a).await, 2, "what was accepted stays");
    let log = audit::page(&a.node.store, a.node.random.as_ref(), 0, 100)
        .await
        .unwrap();
    let told = log
        .entries
        .iter()
        .any(|entry| entry.action == "transaction.refused" && entry.detail.contains("was revoked"));
    assert!(told, "a's administrator sees it");

    bob.say(&b, ROOM, b"in the thief's lane", 3600).await;
    drain(&mut to_a).await;
    assert_eq!((alice.heard(&a).await, waiting(&b, &a).await), (2, 0));
    let conflict = RefusalCode::LinkConflict;
    assert!(returned(&bob, &b, 2, conflict).await, "its sender knows");
    let log = audit::page(&a.node.store, a.node.random.as_ref(), 0, 100)
        .await
        .unwrap();
    assert!(
        log.entries
            .iter()
            .any(|entry| entry.action == "link.conflict")
    );

    // A manifest that no longer revokes it, as somebody with the issuing CA would sign.
    let again = ManifestBody {
        serial: b.node.keys.manifest().serial() + 1,
        ..old.body().clone()
    };
    let issuing = b.node.keys.issuing_key();
    let again = again.sign(&issuing, b.node.random.as_ref()).unwrap();
    let refused = peers::take_manifest(&a.node, &b.node.server, again).await;
    assert!(
        matches!(refused, Err(PeeringError::Document(_))),
        "{refused:?}"
    );
    let log = audit::page(&a.node.store, a.node.random.as_ref(), 0, 100)
        .await
        .unwrap();
    let told = log.entries.iter();
    let told = told.filter(|entry| entry.action == "peer.manifest-refused");
    assert_eq!(told.count(), 1, "a's administrator sees it");
}

/// Goal, the drill for a stolen envelope key whose thief raises the link epoch (docs/security/compromise-drill.md): he is
/// stopped at the partner's clock and five minutes, and nothing is kept of what lies beyond; the administrator is told what
/// helps; and ten minutes after the revocation mail flows again in a new link epoch, and nothing of the thief's. Method: a
/// thief who tries the highest epoch there is, the first that is too high, and the highest that is taken, with an envelope
/// of which none is accepted.
#[tokio::test]
async fn drill_raised_link_epoch() {
    let [a, b] = sides(["a.example", "b.example"]);
    let (alice, mut bob) = acquainted(&a, &b).await;
    let stolen = b.node.keys.envelope_key();
    let by_thief = async |link_epoch: u64| {
        let link = Link {
            link_epoch,
            ..link(&b, &a)
        };
        let ahead_of_its_lane = [outgoing(Lane::CONTROL, 9)];
        let signed = transaction::sign(&stolen, &link, &ahead_of_its_lane).unwrap();
        let (status, said) = post(&b, &a, paths::TRANSACTIONS, signed.bytes).await;
        (status, String::from_utf8_lossy(&said).into_owned())
    };
    let latest = now(&a) + CLOCK_SKEW_MS_MAX;
    for link_epoch in [u64::MAX, latest + 1] {
        let (status, said) = by_thief(link_epoch).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(said.contains("ahead of the clock here"), "{said}");
    }
    let log = audit::page(&a.node.store, a.node.random.as_ref(), 0, 100)
        .await
        .unwrap();
    let told = log.entries.iter().any(|entry| {
        entry.action == "transaction.refused" && entry.detail.contains("ahead of the clock")
    });
    assert!(told, "a's administrator sees it");
    let mut to_a = worker(&b, &a);
    bob.say(&b, ROOM, b"goes on", 3600).await;
    drain(&mut to_a).await;
    assert_eq!(alice.heard(&a).await, 1);

    assert_eq!(by_thief(latest).await.0, StatusCode::OK);
    bob.say(&b, ROOM, b"waits", 3600).await;
    assert!(matches!(drain(&mut to_a).await, Step::Delay(_)));
    let said = b.node.links.status(&a.node.server).last_error;
    let said = said.unwrap();
    assert!(said.contains("`hsctl outbox renumber a.example`"), "{said}");

    revoke_known(&b, &a, stolen.id()).await;
    let renumber = async || {
        peers::begin_link_epoch(&b.node, &admin(), &a.node.server)
            .await
            .unwrap();
    };
    renumber().await;
    assert!(matches!(drain(&mut to_a).await, Step::Delay(_)), "too soon");
    for side in [&a, &b] {
        side.clock.advance_ms(2 * CLOCK_SKEW_MS_MAX);
    }
    renumber().await;
    assert_eq!(drain(&mut to_a).await, Step::Idle);
    assert_eq!((alice.heard(&a).await, waiting(&b, &a).await), (2, 0));
    let (status, said) = by_thief(now(&a) + 1).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(said.contains("was revoked"), "{said}");
}

/// Goal: a relayed message is judged by the key at the hub's stamp: what the hub had before the revocation
/// arrives, what it was given afterwards does not, and its sender's server is told; by one message on each
/// side of it, the second signed by a thief who reached a hub that did not know yet.
#[tokio::test]
async fn a_revocation_counts_at_the_hubs_stamp() {
    let [a, b, c] = sides(["a.example", "b.example", "c.example"]);
    let (_, mut bob, carol, mut to_c) = room_of_three(&a, &b, &c).await;
    let stolen = b.node.keys.envelope_key();
    bob.say(&b, ROOM, b"before", 3600).await;
    drain(&mut worker(&b, &a)).await;
    for side in [&a, &b, &c] {
        side.clock.advance_ms(1000);
    }
    let revoke = Asked::RevokeEnvelope {
        key: Some(stolen.id()),
        since_ms: now(&b),
    };
    change(&b, revoke).await;
    for side in [&a, &b, &c] {
        side.clock.advance_ms(1000);
    }
    let forged = transaction::sign(&stolen, &link(&b, &a), &[forged(&bob, now(&b), 2)]).unwrap();
    let (status, _) = post(&b, &a, paths::TRANSACTIONS, forged.bytes).await;
    assert_eq!(status, StatusCode::OK, "the hub has not heard of it");

    let newest = b.node.keys.manifest().bytes().clone();
    peers::take_manifest(&c.node, &b.node.server, newest)
        .await
        .unwrap();
    assert_eq!(drain(&mut to_c).await, Step::Idle);
    assert_eq!(carol.heard(&c).await, 1, "only the one from before");
    let log = audit::page(&c.node.store, c.node.random.as_ref(), 0, 100)
        .await
        .unwrap();
    let hub = Actor::Peer(a.node.server.clone()).to_string();
    let told = log.entries.iter().any(|entry| {
        entry.action == "envelope.refused"
            && entry.actor == hub
            && entry.detail.contains("was revoked")
    });
    assert!(told);
}
