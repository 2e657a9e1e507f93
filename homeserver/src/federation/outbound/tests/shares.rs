//! Several transactions under way, and what one slow or hostile peer costs the others: nothing.

use std::sync::Mutex;
use std::time::Duration;

use federation_proto::ids::ServerName;
use federation_proto::limits::{
    TRANSACTION_BYTES_MAX, TRANSACTION_ENVELOPES_MAX, TRANSACTIONS_UNDER_WAY_BYTES_MAX,
    TRANSACTIONS_UNDER_WAY_MAX,
};
use futures_util::future::BoxFuture;
use homeserver_api::session::Commit;
use http::{Response, header};
use tokio::sync::oneshot;

use super::*;
use crate::delivery::limits::{INBOX_HANDSHAKE_FACTOR, INBOX_HANDSHAKE_SHARE, INBOX_SHARE};
use crate::delivery::mailboxes::{Class, Item};
use crate::federation::outbound::{Network, ResponseBody};
use crate::federation::testing::LocalNetwork;
use crate::http_client::ConnectionError;
use crate::rooms::mls_framing::testing::{commit_message, group_info_message};

/// Transactions to `server` are kept until the test lets them go; everything else passes.
struct Holding {
    network: Arc<LocalNetwork>,
    server: ServerName,
    held: Mutex<Vec<(Bytes, oneshot::Sender<()>)>>,
}

impl Holding {
    fn new(from: &Side, to: &Side) -> Arc<Self> {
        Arc::new(Self {
            network: from.network.clone(),
            server: to.node.server.clone(),
            held: Mutex::default(),
        })
    }

    /// The lanes of each transaction that is kept.
    fn lanes(&self) -> Vec<Vec<Lane>> {
        let held = self.held.lock().unwrap();
        let lanes = held.iter().map(|(bytes, _)| {
            let content = padding::unpad(bytes, TRANSACTION_BYTES_MAX).unwrap();
            let transaction = transaction::decode(content).unwrap();
            transaction.lanes().collect()
        });
        lanes.collect()
    }

    fn release(&self, index: usize) {
        let (_, release) = self.held.lock().unwrap().remove(index);
        release.send(()).unwrap();
    }
}

impl Network for Holding {
    fn send<'a>(
        &'a self,
        server: &'a ServerName,
        _endpoints: &'a [String],
        request: Request<Bytes>,
        _within: Duration,
    ) -> BoxFuture<'a, Result<Response<ResponseBody>, ConnectionError>> {
        Box::pin(async move {
            if *server == self.server && request.uri().path() == paths::TRANSACTIONS {
                let (release, released) = oneshot::channel();
                let held = (request.body().clone(), release);
                self.held.lock().unwrap().push(held);
                released.await.unwrap();
            }
            self.network.request(server, request).await
        })
    }

    fn cut(&self, _server: &ServerName) {}
}

fn holding(from: &Side, to: &Side, network: &Arc<Holding>) -> Worker {
    let server = to.node.server.clone();
    Worker::new(Arc::clone(&from.node), network.clone(), server)
}

/// Steps until only an answer is waited for.
async fn until_answer(worker: &mut Worker) {
    worker.mail();
    loop {
        match worker.step().await.unwrap() {
            Step::Again => {}
            Step::Answer => return,
            step => panic!("{step:?}"),
        }
    }
}

/// Goal: a transaction that takes its time holds up its own lanes alone: another one goes out beside it,
/// each lane is in one of them at a time, answers may come in any order, and what waits meanwhile is not
/// given up under way; by a network that keeps transactions.
#[tokio::test(start_paused = true)]
async fn several_transactions_are_under_way() {
    let [a, b] = sides(["a.example", "b.example"]);
    let (mut alice, bob) = acquainted(&a, &b).await;
    let other = RoomId::from_bytes([8; 16]);
    alice.create_room(&a, other, &[&bob]).await;
    drain(&mut worker(&a, &b)).await;
    let network = Holding::new(&a, &b);
    let mut to_b = holding(&a, &b, &network);

    alice.say(&a, ROOM, b"first", 60).await;
    until_answer(&mut to_b).await;
    assert_eq!(network.lanes(), [[Lane::from(ROOM)]]);
    alice.say(&a, other, b"beside it", 3600).await;
    until_answer(&mut to_b).await;
    assert_eq!(
        network.lanes().len(),
        1,
        "worth no transaction of its own yet"
    );
    tokio::time::advance(Duration::from_millis(25)).await;
    alice.say(&a, ROOM, b"second", 3600).await;
    until_answer(&mut to_b).await;
    assert_eq!(network.lanes(), [[Lane::from(ROOM)], [Lane::from(other)]]);
    tokio::time::advance(Duration::from_secs(10)).await;
    a.clock.advance_ms(61_000);
    until_answer(&mut to_b).await;
    to_b.expire().await.unwrap();
    assert_eq!(network.lanes().len(), 2, "the lane is under way");

    network.release(1);
    network.release(0);
    loop {
        match to_b.step().await.unwrap() {
            Step::Again => {}
            Step::Answer if network.lanes().is_empty() => to_b.answer().await,
            Step::Answer => network.release(0),
            step => break assert_eq!(step, Step::Idle),
        }
    }
    assert_eq!(bob.heard(&b).await, 3);
    assert_eq!(waiting(&a, &b).await, 0);
    assert_eq!(dead_letters::newest(&a.node.store, 10).await.unwrap(), []);
}

/// Goal: while a transaction is not answered, our changed keys are announced and the peer's are fetched at once, and asked
/// for again a second later when they are missed again (NET-025). Method: a network that keeps the transaction.
#[tokio::test(start_paused = true)]
async fn keys_wait_for_no_answer() {
    let [a, b] = sides(["a.example", "b.example"]);
    let (mut alice, _bob) = acquainted(&a, &b).await;
    let network = Holding::new(&a, &b);
    let mut to_b = holding(&a, &b, &network);
    alice.say(&a, ROOM, b"held", 3600).await;
    until_answer(&mut to_b).await;
    assert_eq!(network.lanes().len(), 1);
    let asked = |path: &str| {
        let sent = a.network.sent.lock().unwrap();
        sent.iter().filter(|(to, _)| to == path).count()
    };
    let (links, server) = (&a.node.links, &b.node.server);
    let heard = async |to_b: &mut Worker, within_ms| {
        let within = Duration::from_millis(within_ms);
        let answer = tokio::time::timeout(within, to_b.answer()).await;
        answer.expect("it hears of keys");
        until_answer(to_b).await;
    };
    let probes = asked(paths::PROBE);
    links.announce(server);
    heard(&mut to_b, 1).await;
    assert_eq!(asked(paths::PROBE), probes + 1);

    a.clock.advance_ms(1000);
    let manifests = asked(paths::MANIFEST);
    links.fetch_manifest(server);
    heard(&mut to_b, 1).await;
    assert_eq!(asked(paths::MANIFEST), manifests + 1);
    links.fetch_manifest(server);
    heard(&mut to_b, 1).await;
    assert_eq!(asked(paths::MANIFEST), manifests + 1, "too soon");
    a.clock.advance_ms(1000);
    heard(&mut to_b, 1100).await;
    assert_eq!(asked(paths::MANIFEST), manifests + 2);
    assert_eq!(network.lanes().len(), 1, "it is still under way");
}

/// Goal: a peer that takes transactions and never answers is kept no more of than the protocol says,
/// however much waits for it, and mail to others passes; by one of three peers.
#[tokio::test(start_paused = true)]
async fn a_stalled_peer_costs_the_others_nothing() {
    let [a, b, c] = sides(["a.example", "b.example", "c.example"]);
    peered(&a, &b).await;
    peered(&a, &c).await;
    let mut alice = person(&a, "alice").await;
    let (bob, carol) = (person(&b, "bob").await, person(&c, "carol").await);
    let room = |n: u8| RoomId::from_bytes([n; 16]);
    alice.create_room(&a, ROOM, &[&bob]).await;
    for n in 20..30 {
        alice.create_room(&a, room(n), &[&carol]).await;
    }
    let (mut to_b, mut first_to_c) = (worker(&a, &b), worker(&a, &c));
    drain(&mut to_b).await;
    drain(&mut first_to_c).await;
    let network = Holding::new(&a, &c);
    let mut to_c = holding(&a, &c, &network);
    for n in 20..30 {
        for _ in 0..30 {
            alice.say(&a, room(n), &[b'm'; 60_000], 3600).await;
        }
        alice.say(&a, ROOM, b"passes", 3600).await;
        tokio::time::advance(Duration::from_millis(25)).await;
        until_answer(&mut to_c).await;
        drain(&mut to_b).await;
    }
    assert_eq!(bob.heard(&b).await, 10);
    let held = network.held.lock().unwrap();
    let bytes: usize = held.iter().map(|(bytes, _)| bytes.len()).sum();
    assert!((1..=TRANSACTIONS_UNDER_WAY_MAX).contains(&held.len()));
    assert!(u64::try_from(bytes).unwrap() <= TRANSACTIONS_UNDER_WAY_BYTES_MAX);
}

/// Goal: a peer that sends rubbish is slowed down and told for how long, mail of others passes meanwhile,
/// and its own good mail comes in once it has waited as it was asked; by a thousand refusals at a time.
#[tokio::test]
async fn a_flood_of_rubbish_costs_the_others_nothing() {
    let [a, b, c] = sides(["a.example", "b.example", "c.example"]);
    peered(&a, &c).await;
    let mut carol = person(&c, "carol").await;
    let (alice, mut bob) = acquainted(&a, &b).await;
    carol
        .create_room(&c, RoomId::from_bytes([9; 16]), &[&alice])
        .await;
    let before = alice.inbox(&a).await.len();

    let lane = Lane::from_bytes([1; 16]);
    let (mut sequence, mut transactions) = (0, 0);
    let refused = loop {
        let rubbish = (0..TRANSACTION_ENVELOPES_MAX).map(|_| {
            sequence += 1;
            Outgoing {
                kind: Kind::Message,
                payload: HashedPayload::new(Bytes::from_static(b"rubbish")),
                ..outgoing(lane, sequence)
            }
        });
        let key = c.node.keys.envelope_key();
        let signed = transaction::sign(&key, &link(&c, &a), &rubbish.collect::<Vec<_>>());
        let request = Request::post(paths::TRANSACTIONS)
            .body(padding::pad(&signed.unwrap().bytes))
            .unwrap();
        let response = c.network.request(&a.node.server, request).await.unwrap();
        if response.status() != StatusCode::OK {
            break response;
        }
        transactions += 1;
    };
    assert!((1..5).contains(&transactions), "{transactions}");
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    let wait_s: u64 = refused.headers()[header::RETRY_AFTER]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    assert!(wait_s > 0);

    for _ in 0..10 {
        let outcome = bob.say(&b, ROOM, b"passes", 3600).await;
        assert!(matches!(outcome, Outcome::Accepted { .. }), "{outcome:?}");
    }
    assert_eq!(drain(&mut worker(&b, &a)).await, Step::Idle);
    assert_eq!(alice.heard(&a).await, 10);

    let mut to_a = worker(&c, &a);
    let Step::Delay(delay) = drain(&mut to_a).await else {
        panic!("it was not put off");
    };
    assert!(
        delay >= Duration::from_secs(wait_s),
        "{delay:?} of {wait_s} s"
    );
    a.clock.advance_ms(wait_s * 1000);
    assert_eq!(drain(&mut to_a).await, Step::Idle);
    assert_eq!(alice.inbox(&a).await.len(), before + 11);
}

/// Goal: one peer fills no more than its share of anybody's inbox: what others send, messages and commits, arrives beside
/// it, and what is counted for whom is what is stored. Method: a device that is away, for whom as much of one peer's
/// waits as may.
#[tokio::test]
async fn one_peer_fills_its_share_of_an_inbox() {
    let [a, b, c] = sides(["a.example", "b.example", "c.example"]);
    let other = RoomId::from_bytes([9; 16]);
    let alice = person(&a, "alice").await;
    let [mut bob, mut carol] = [person(&b, "bob").await, person(&c, "carol").await];
    for (person, side, room) in [(&mut bob, &b, ROOM), (&mut carol, &c, other)] {
        peered(side, &a).await;
        person.create_room(side, room, &[&alice]).await;
        person.say(side, room, b"counted", 3600).await;
        assert_eq!(drain(&mut worker(side, &a)).await, Step::Idle);
    }
    let boxes = &a.node.mailboxes;
    let device = alice.of.device;
    let counted = boxes.fill(device).unwrap();
    boxes.forget(device);
    let stored = crate::delivery::inbox::fill(&a.node, device).await.unwrap();
    assert_eq!(counted, stored);
    for side in [&b, &c] {
        for class in [Class::Message, Class::Handshake] {
            let (all, brought) = stored.of(class, Some(&side.node.server));
            assert_eq!((all.items, brought.items), (2, 1));
        }
    }

    let mut full = stored;
    let most = a.node.config.limits.inbox_messages_max;
    let share = |class| match class {
        Class::Message => most / INBOX_SHARE,
        Class::Handshake => most * INBOX_HANDSHAKE_FACTOR / INBOX_HANDSHAKE_SHARE,
    };
    for class in [Class::Message, Class::Handshake] {
        let item = Item::new(class, Some(c.node.server.clone()), 1);
        (1..share(class)).for_each(|_| full.add(&item));
    }
    boxes.set_fill(device, full, now(&a));

    let said = async |who: &mut Person, side: &Side, room| {
        who.say(side, room, b"more", 3600).await;
        who.submit(side, renewal(side, room, 1)).await;
        drain(&mut worker(side, &a)).await
    };
    assert_eq!(said(&mut bob, &b, ROOM).await, Step::Idle);
    assert_eq!(said(&mut carol, &c, other).await, Step::Idle);
    assert_eq!(waiting(&c, &a).await, 0, "nothing is put off");
    let returned = |body: &InboxBody| match body {
        InboxBody::Returned { refusal, .. } => refusal.code == RefusalCode::Quota,
        _ => false,
    };
    assert!(carol.inbox(&c).await.iter().any(returned));
    let inbox = alice.inbox(&a).await;
    let of_room = |wanted: RoomId| {
        let mut kinds = [0, 0];
        for body in &inbox {
            match body {
                InboxBody::Message { room, .. } if *room == wanted => kinds[0] += 1,
                InboxBody::Commit { room, .. } if *room == wanted => kinds[1] += 1,
                _ => {}
            }
        }
        kinds
    };
    assert_eq!((of_room(ROOM), of_room(other)), ([2, 1], [1, 0]));
    let told = InboxBody::OutOfStep {
        room: other,
        epoch: 2,
    };
    assert!(inbox.contains(&told), "her room goes on without it");
}

/// A commit that changes nothing, in a room that `hub` orders.
fn renewal(hub: &Side, room: RoomId, epoch: u64) -> SubmissionBody {
    SubmissionBody::Commit(Commit {
        room,
        hub: hub.node.server.clone(),
        epoch,
        commit: commit_message(room, epoch, &[2; 40]).into(),
        adds: Vec::new(),
        removes: Vec::new(),
        welcome: None,
        group_info: group_info_message(room, epoch + 1).into(),
        founding: None,
    })
}
