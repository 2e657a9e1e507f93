//! One of two is restored from an old copy of its store.

use std::time::Duration;

use federation_proto::ids::ServerName;
use futures_util::future::BoxFuture;
use homeserver_api::admin::AmendRequest;
use homeserver_api::attributes::MessageAttributes;
use http::Response;
use tokio::sync::Notify;

use super::*;
use crate::backup;
use crate::delivery::space::testing::set_free;
use crate::federation::outbound::{Network, ResponseBody};
use crate::federation::testing::LocalNetwork;
use crate::http_client::ConnectionError;
use crate::organisation::Keeper;
use crate::store::everything::Everything;
use crate::store::restored::{self, RestoredRecord};
use crate::store::{Key, Store, Value, reconcile};

const QUARTER_HOUR_MS: u64 = 15 * 60 * 1000;
const DAY_MS: u64 = 24 * 60 * 60 * 1000;
/// What the keys of their entries begin with.
const KEYS_OF_CONTENTS: &[u8] = b"1";

/// All that the side's store holds, contents as they were written: whatever store they come to has keys of its own.
async fn copy(side: &Side) -> Vec<(Key, Value)> {
    let mut all = Everything::of(&side.node.store).await.unwrap();
    let mut found = Vec::new();
    loop {
        let chunk = all.next().await.unwrap();
        if chunk.is_empty() {
            return found;
        }
        for (key, _) in chunk {
            if key.starts_with(KEYS_OF_CONTENTS) {
                continue;
            }
            if let Some(value) = side.node.store.get(&key).await.unwrap() {
                found.push((key, value));
            }
        }
    }
}

/// The side as it is when it has started on a copy of its store.
async fn come_back(side: &Side, copy: Vec<(Key, Value)>) -> Side {
    let store = Store::sealed_in_memory(Arc::clone(&side.node.random)).unwrap();
    let mut part = Part::default();
    for (key, value) in copy {
        part.put(key, value);
    }
    let record = RestoredRecord {
        made_ms: now(side),
        restored_ms: now(side),
        is_ready: false,
        is_confirmed: true,
    };
    restored::put(&mut part, &record).unwrap();
    store.commit(part).await.unwrap();
    let former = &side.node;
    let mut node = Node::new(
        former.config.clone(),
        Arc::clone(&former.keys),
        store,
        side.clock.clone(),
        Arc::clone(&former.random),
    );
    node.keeper = Keeper::in_memory(Arc::clone(&former.keys));
    let node = Arc::new(node);
    backup::resume(&node).await.unwrap();
    node.peers.refresh(&node).await.unwrap();
    Side {
        node,
        clock: side.clock.clone(),
        network: side.network.clone(),
        root_key: side.root_key.clone(),
    }
}

/// Alice and Anna at `a`, Bob at `b`, in a room that `a` hubs; Anna has not said anything yet.
async fn three_people(a: &Side, b: &Side) -> (Person, Person, Person) {
    peered(a, b).await;
    let mut alice = person(a, "alice").await;
    let anna = person(a, "anna").await;
    let bob = person(b, "bob").await;
    let created = alice.create_room(a, ROOM, &[&anna, &bob]).await;
    assert!(matches!(created, Outcome::Accepted { .. }), "{created:?}");
    assert_eq!(drain(&mut worker(a, b)).await, Step::Idle);
    (alice, anna, bob)
}

async fn says(who: &mut Person, side: &Side, text: &[u8]) {
    let said = who.say(side, ROOM, text, 24 * 3600).await;
    assert!(matches!(said, Outcome::Accepted { .. }), "{said:?}");
}

/// Goal: what waited in a backup and was delivered after it does not arrive twice, what was not arrives, and what is sent after
/// the restore arrives although its numbers were given to others before (LINK-048, LINK-062). Method: two messages that wait
/// when the copy is made, of which one is delivered then, and a third that the copy knows nothing of; then a fourth.
#[tokio::test]
async fn a_restored_sender_goes_on() {
    let [a, b] = sides(["a.example", "b.example"]);
    let (mut alice, mut anna, bob) = three_people(&a, &b).await;
    let other = RoomId::from_bytes([9; 16]);
    a.network.set_down(true);
    says(&mut alice, &a, b"waits, and is delivered").await;
    let copied = copy(&a).await;
    a.network.set_down(false);
    says(&mut alice, &a, b"is not in the copy").await;
    assert_eq!(drain(&mut worker(&a, &b)).await, Step::Idle);
    assert_eq!(bob.heard(&b).await, 2);
    let before = link(&a, &b).link_epoch;

    let a = come_back(&a, copied).await;
    b.network.reach(&a.node);
    assert_eq!(waiting(&a, &b).await, 1);
    says(&mut anna, &a, b"after the restore").await;
    a.network.set_down(true);
    assert!(matches!(drain(&mut worker(&a, &b)).await, Step::Delay(_)));
    assert!(
        reconcile::is_due(&a.node.store, &b.node.server)
            .await
            .unwrap()
    );
    a.network.set_down(false);
    let mut to_b = worker(&a, &b);
    assert_eq!(drain(&mut to_b).await, Step::Idle);
    assert_eq!(bob.heard(&b).await, 3);
    assert_eq!(waiting(&a, &b).await, 0);
    assert!(link(&a, &b).link_epoch > before);
    assert_eq!(a.node.links.status(&b.node.server).held_lanes, 0);
    assert!(
        !reconcile::is_due(&a.node.store, &b.node.server)
            .await
            .unwrap()
    );
    assert_eq!(dead_letters::newest(&a.node.store, 10).await.unwrap(), []);

    // From here on as ever, after a restart too.
    let begun = link(&a, &b).link_epoch;
    anna.create_room(&a, other, &[&bob]).await;
    says(&mut anna, &a, b"later").await;
    assert_eq!(drain(&mut worker(&a, &b)).await, Step::Idle);
    assert_eq!(bob.heard(&b).await, 4);
    assert_eq!(link(&a, &b).link_epoch, begun);
}

/// Goal: what waited in a backup and was never delivered is delivered once. Method: a copy whose original is lost before it
/// could send anything.
#[tokio::test]
async fn what_waited_in_a_backup_is_delivered() {
    let [a, b] = sides(["a.example", "b.example"]);
    let (mut alice, _, bob) = three_people(&a, &b).await;
    for text in [b"one", b"two"] {
        says(&mut alice, &a, text).await;
    }
    let copied = copy(&a).await;
    let a = come_back(&a, copied).await;
    b.network.reach(&a.node);
    assert_eq!(drain(&mut worker(&a, &b)).await, Step::Idle);
    assert_eq!(bob.heard(&b).await, 2);
    assert_eq!(waiting(&a, &b).await, 0);
}

/// Goal: a restored homeserver that its peer has seen in a later numbering goes on in one of its own. Method: a new link epoch
/// between the copy and the restore.
#[tokio::test]
async fn a_numbering_that_was_left_is_left() {
    let [a, b] = sides(["a.example", "b.example"]);
    let (mut alice, _, bob) = three_people(&a, &b).await;
    a.network.set_down(true);
    says(&mut alice, &a, b"waits").await;
    let copied = copy(&a).await;
    a.network.set_down(false);
    a.clock.advance_ms(1000);
    b.clock.advance_ms(1000);
    peers::begin_link_epoch(&a.node, &admin(), &b.node.server)
        .await
        .unwrap();
    let other = RoomId::from_bytes([9; 16]);
    alice.create_room(&a, other, &[&bob]).await;
    let mut to_b = worker(&a, &b);
    assert_eq!(drain(&mut to_b).await, Step::Idle);
    let left = link(&a, &b).link_epoch;
    a.clock.advance_ms(1000);
    b.clock.advance_ms(1000);
    let a = come_back(&a, copied).await;
    assert_eq!(drain(&mut worker(&a, &b)).await, Step::Idle);
    assert!(link(&a, &b).link_epoch > left);
    // Nobody can tell any more that it had arrived: devices know it by its generation.
    assert_eq!(bob.heard(&b).await, 2);
}

/// Goal: what a restored homeserver had acknowledged after the backup holds up nothing that comes later: its peer goes on by
/// itself, says what happened, and does so no more often than every ten minutes (LINK-061). Method: messages that are lost with
/// the original, and some after that; twice, a moment after each other.
#[tokio::test]
async fn a_peer_goes_on_without_what_is_lost() {
    let [a, b] = sides(["a.example", "b.example"]);
    let (mut alice, _, bob) = three_people(&a, &b).await;
    says(&mut alice, &a, b"in the copy").await;
    assert_eq!(drain(&mut worker(&a, &b)).await, Step::Idle);
    let copied = copy(&b).await;
    for _ in 0..2 {
        says(&mut alice, &a, b"lost").await;
    }
    assert_eq!(drain(&mut worker(&a, &b)).await, Step::Idle);
    for side in [&a, &b] {
        side.clock.advance_ms(QUARTER_HOUR_MS);
    }
    let restored_b = come_back(&b, copied.clone()).await;
    a.network.reach(&restored_b.node);
    says(&mut alice, &a, b"after the restore").await;
    let before = link(&a, &b).link_epoch;
    assert_eq!(drain(&mut worker(&a, &b)).await, Step::Idle);
    assert_eq!(bob.heard(&restored_b).await, 2);
    assert!(link(&a, &b).link_epoch > before);
    let log = crate::audit::page(&a.node.store, a.node.random.as_ref(), 0, 1000)
        .await
        .unwrap();
    let told = |action: &str| log.entries.iter().any(|entry| entry.action == action);
    assert!(told("link.behind") && told("link.epoch-begun"));

    let again = come_back(&b, copied).await;
    a.network.reach(&again.node);
    let before = link(&a, &b).link_epoch;
    says(&mut alice, &a, b"a moment after that").await;
    assert_ne!(drain(&mut worker(&a, &b)).await, Step::Idle);
    assert_eq!(link(&a, &b).link_epoch, before);
    assert_eq!(waiting(&a, &b).await, 1);
    for side in [&a, &again] {
        side.clock.advance_ms(QUARTER_HOUR_MS);
    }
    assert_eq!(drain(&mut worker(&a, &b)).await, Step::Idle);
    assert!(link(&a, &b).link_epoch > before);
    assert_eq!(bob.heard(&again).await, 2);
}

/// Goal: a second restore, before the peer was reached after the first, loses nothing (LINK-062). Method: a message that has got the
/// number of one that is in no copy, between the two restores.
#[tokio::test]
async fn what_waited_at_a_second_restore_is_delivered() {
    let [a, b] = sides(["a.example", "b.example"]);
    let (mut alice, mut anna, bob) = three_people(&a, &b).await;
    a.network.set_down(true);
    says(&mut alice, &a, b"waits, and is delivered").await;
    let copied = copy(&a).await;
    a.network.set_down(false);
    says(&mut alice, &a, b"is not in the copy").await;
    assert_eq!(drain(&mut worker(&a, &b)).await, Step::Idle);
    assert_eq!(bob.heard(&b).await, 2);

    let a = come_back(&a, copied).await;
    b.network.reach(&a.node);
    a.network.set_down(true);
    says(&mut anna, &a, b"between the restores").await;
    assert!(matches!(drain(&mut worker(&a, &b)).await, Step::Delay(_)));
    let copied = copy(&a).await;
    let a = come_back(&a, copied).await;
    b.network.reach(&a.node);
    a.network.set_down(false);
    assert_eq!(drain(&mut worker(&a, &b)).await, Step::Idle);
    assert_eq!(bob.heard(&b).await, 3);
    assert_eq!(waiting(&a, &b).await, 0);
    assert_eq!(dead_letters::newest(&a.node.store, 10).await.unwrap(), []);
}

/// What was given up at a side, by its codes.
async fn given_up(side: &Side) -> Vec<RefusalCode> {
    let found = dead_letters::newest(&side.node.store, 10).await.unwrap();
    found.iter().map(|letter| letter.refusal_code()).collect()
}

/// Goal: after a restore mail for a peer that is away expires as ever, and what waited in the backup a week later, for it may have
/// arrived. Method: one of each, that end in an hour; the clock before and after the week.
#[tokio::test]
async fn mail_expires_while_a_peer_is_away_after_a_restore() {
    let [a, b] = sides(["a.example", "b.example"]);
    let (mut alice, mut anna, bob) = three_people(&a, &b).await;
    a.network.set_down(true);
    alice.say(&a, ROOM, b"waited in the backup", 3600).await;
    let copied = copy(&a).await;
    let a = come_back(&a, copied).await;
    b.network.reach(&a.node);
    anna.say(&a, ROOM, b"new", 3600).await;
    let mut to_b = worker(&a, &b);
    assert!(matches!(drain(&mut to_b).await, Step::Delay(_)));
    let later = |ms| {
        a.clock.advance_ms(ms);
        b.clock.advance_ms(ms);
    };
    later(DAY_MS);
    to_b.expire().await.unwrap();
    assert_eq!(given_up(&a).await, [RefusalCode::Expired]);
    assert!(returned(&anna, &a, 1, RefusalCode::Expired).await);
    later(5 * DAY_MS);
    for _ in 0..2 {
        to_b.expire().await.unwrap();
    }
    assert_eq!(given_up(&a).await.len(), 1);
    later(2 * DAY_MS);
    for _ in 0..2 {
        to_b.expire().await.unwrap();
    }
    assert_eq!(given_up(&a).await, [RefusalCode::Expired; 2]);

    // The tombstones go out like anything else.
    a.network.set_down(false);
    assert_eq!(drain(&mut to_b).await, Step::Idle);
    assert_eq!((bob.heard(&b).await, waiting(&a, &b).await), (0, 0));
}

/// Goal: what is not granted any more does not go out because it waited in a backup. Method: labels are narrowed after the restore.
#[tokio::test]
async fn what_waited_in_a_backup_is_judged_again() {
    let [a, b] = sides(["a.example", "b.example"]);
    let (mut alice, _, bob) = three_people(&a, &b).await;
    let labelled = MessageAttributes {
        ttl_seconds: 3600,
        burn_seconds: 0,
        label: 2,
        file: false,
    };
    let said = alice.say_with(&a, ROOM, b"labelled", labelled).await;
    assert!(matches!(said, Outcome::Accepted { .. }), "{said:?}");
    let copied = copy(&a).await;
    let a = come_back(&a, copied).await;
    b.network.reach(&a.node);
    let tighter = AmendRequest {
        label_max: Some(1),
        ..AmendRequest::default()
    };
    peers::amend(&a.node, &admin(), &b.node.server, &tighter)
        .await
        .unwrap();
    drain(&mut worker(&a, &b)).await;
    assert_eq!(bob.heard(&b).await, 0);
    assert_eq!(given_up(&a).await, [RefusalCode::OutOfScope]);
    let log = crate::audit::page(&b.node.store, b.node.random.as_ref(), 0, 1000)
        .await
        .unwrap();
    let refused = |action: &str| log.entries.iter().any(|entry| entry.action == action);
    assert!(!refused("envelope.refused"), "it has left");
}

/// Passes everything on at once and gives some of the answers later.
struct Later {
    network: Arc<LocalNetwork>,
    /// Where answers wait,
    path: &'static str,
    /// so many of the first ones,
    held: std::sync::atomic::AtomicUsize,
    /// until this.
    go_on: Notify,
}

impl Later {
    fn new(side: &Side, held: usize) -> Arc<Self> {
        Arc::new(Self {
            network: side.network.clone(),
            path: paths::TRANSACTIONS,
            held: held.into(),
            go_on: Notify::new(),
        })
    }

    fn worker(self: &Arc<Self>, from: &Side, to: &Side) -> Worker {
        let (node, server) = (Arc::clone(&from.node), to.node.server.clone());
        let network: Arc<dyn Network> = self.clone();
        Worker::new(node, network, server)
    }
}

impl Network for Later {
    fn send<'a>(
        &'a self,
        server: &'a ServerName,
        _endpoints: &'a [String],
        request: Request<Bytes>,
        _within: Duration,
    ) -> BoxFuture<'a, Result<Response<ResponseBody>, ConnectionError>> {
        use std::sync::atomic::Ordering::SeqCst;

        Box::pin(async move {
            let is_one = request.uri().path() == self.path;
            let less = |left: usize| left.checked_sub(1);
            let is_held = is_one && self.held.fetch_update(SeqCst, SeqCst, less).is_ok();
            let answer = self.network.request(server, request).await;
            if is_held {
                self.go_on.notified().await;
            }
            answer
        })
    }

    fn cut(&self, _server: &ServerName) {}
}

/// Goal: while it is found out what a peer has had, and it does not answer, nothing turns in a circle. Method: virtual time; the steps
/// of a minute.
#[tokio::test]
async fn a_silent_peer_costs_nothing_after_a_restore() {
    const STEPS_MAX: usize = 100;
    let [a, b] = sides(["a.example", "b.example"]);
    let (mut alice, _, _) = three_people(&a, &b).await;
    says(&mut alice, &a, b"waits").await;
    let copied = copy(&a).await;
    let a = come_back(&a, copied).await;
    b.network.reach(&a.node);
    let network = Later::new(&a, usize::MAX);
    let mut to_b = network.worker(&a, &b);
    to_b.mail();
    while to_b.go_on().await.unwrap() == Step::Again {}
    tokio::time::pause();
    let mut steps = 0;
    let minute = tokio::time::timeout(Duration::from_secs(60), async {
        while steps < STEPS_MAX {
            steps += 1;
            match to_b.go_on().await.unwrap() {
                Step::Answer => to_b.answer().await,
                Step::Delay(delay) | Step::Mail(delay) => tokio::time::sleep(delay).await,
                _ => tokio::task::yield_now().await,
            }
        }
    });
    assert!(minute.await.is_err(), "so many steps in less than a minute");
    let is_due = reconcile::is_due(&a.node.store, &b.node.server).await;
    assert!(is_due.unwrap());
}

/// Goal: what was under way when a peer is found to miss something arrives once: it is not sent again under its new number (LINK-061).
/// Method: two rooms; the answer to the one transaction comes after that to the other, which shows what is missing.
#[tokio::test]
async fn what_is_under_way_is_answered_before_a_new_numbering() {
    let [a, b] = sides(["a.example", "b.example"]);
    let (mut alice, mut anna, bob) = three_people(&a, &b).await;
    let other = RoomId::from_bytes([9; 16]);
    anna.create_room(&a, other, &[&bob]).await;
    says(&mut alice, &a, b"in the copy").await;
    assert_eq!(drain(&mut worker(&a, &b)).await, Step::Idle);
    let copied = copy(&b).await;
    says(&mut alice, &a, b"lost").await;
    assert_eq!(drain(&mut worker(&a, &b)).await, Step::Idle);
    for side in [&a, &b] {
        side.clock.advance_ms(QUARTER_HOUR_MS);
    }
    let b = come_back(&b, copied).await;
    a.network.reach(&b.node);
    let network = Later::new(&a, 1);
    let mut to_b = network.worker(&a, &b);
    let said = anna.say(&a, other, b"under way", 24 * 3600).await;
    assert!(matches!(said, Outcome::Accepted { .. }), "{said:?}");
    to_b.mail();
    while to_b.step().await.unwrap() == Step::Again {}
    let before = link(&a, &b).link_epoch;
    says(&mut alice, &a, b"after the restore").await;
    let answers = tokio::spawn({
        let network = Arc::clone(&network);
        async move {
            tokio::time::sleep(Duration::from_millis(500)).await;
            network.go_on.notify_one();
        }
    });
    assert_eq!(drain(&mut to_b).await, Step::Idle);
    answers.await.unwrap();
    assert!(link(&a, &b).link_epoch > before);
    assert_eq!(bob.heard(&b).await, 3);
    assert_eq!(waiting(&a, &b).await, 0);
}

/// Goal: a peer that only puts off what waited in a backup is waited for, and not for ever. Method: one whose disk is full; the link
/// epoch, before and after it has room, and of another that never has.
#[tokio::test]
async fn a_peer_that_puts_off_is_waited_for() {
    for has_room_again in [true, false] {
        let [a, b] = sides(["a.example", "b.example"]);
        let (mut alice, _, bob) = three_people(&a, &b).await;
        says(&mut alice, &a, b"waits").await;
        let copied = copy(&a).await;
        let a = come_back(&a, copied).await;
        b.network.reach(&a.node);
        let before = link(&a, &b).link_epoch;
        set_free(&b.node, 0).await;
        let mut to_b = worker(&a, &b);
        assert!(matches!(drain(&mut to_b).await, Step::Mail(_)));
        assert_eq!(link(&a, &b).link_epoch, before);
        assert_eq!(bob.heard(&b).await, 0);
        if has_room_again {
            set_free(&b.node, u64::MAX).await;
        }
        for side in [&a, &b] {
            side.clock.advance_ms(QUARTER_HOUR_MS);
        }
        drain(&mut to_b).await;
        assert!(link(&a, &b).link_epoch > before);
        assert_eq!(bob.heard(&b).await, usize::from(has_room_again));
        assert_eq!(waiting(&a, &b).await, u64::from(!has_room_again));
    }
}

/// Goal: a restored homeserver whose clock does not reach beyond the numbering that its peer knows finds one that it takes, by itself and
/// after a restart (LINK-059). Method: link epochs that were begun after the copy, more than one.
#[tokio::test]
async fn a_clock_that_is_behind_only_delays() {
    let [a, b] = sides(["a.example", "b.example"]);
    let (mut alice, mut anna, bob) = three_people(&a, &b).await;
    let copied = copy(&a).await;
    for _ in 0..5 {
        peers::begin_link_epoch(&a.node, &admin(), &b.node.server)
            .await
            .unwrap();
    }
    says(&mut alice, &a, b"under a later number").await;
    assert_eq!(drain(&mut worker(&a, &b)).await, Step::Idle);
    let theirs = link(&a, &b).link_epoch;
    let a = come_back(&a, copied).await;
    b.network.reach(&a.node);
    says(&mut anna, &a, b"after the restore").await;
    for _ in 0..6 {
        // After a restart as well.
        if drain(&mut worker(&a, &b)).await == Step::Idle {
            break;
        }
        // Not through the very number that the peer knows: by the clock that is as good as impossible.
        a.clock.advance_ms(3);
    }
    assert_eq!(bob.heard(&b).await, 2);
    assert_eq!(waiting(&a, &b).await, 0);
    assert!(link(&a, &b).link_epoch > theirs);
    let left = reconcile::left(&a.node.store, &b.node.server).await;
    assert_eq!(left.unwrap(), None);
}

/// Goal: nothing that a restore has left to find out outlives the agreement. Method: revoke it before the peer was reached.
#[tokio::test]
async fn an_agreement_that_ends_leaves_nothing_to_find_out() {
    let [a, b] = sides(["a.example", "b.example"]);
    let (mut alice, _, _) = three_people(&a, &b).await;
    says(&mut alice, &a, b"waits").await;
    let copied = copy(&a).await;
    let a = come_back(&a, copied).await;
    a.network.set_down(true);
    let mut to_b = worker(&a, &b);
    assert!(matches!(drain(&mut to_b).await, Step::Delay(_)));
    peers::revoke(&a.node, &admin(), &b.node.server, "over")
        .await
        .unwrap();
    drain(&mut to_b).await;
    let left = reconcile::left(&a.node.store, &b.node.server).await;
    assert_eq!(left.unwrap(), None);
    assert_eq!(waiting(&a, &b).await, 0);
}
