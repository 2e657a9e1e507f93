//! One of two is restored from an old copy of its store.

use super::*;
use crate::backup;
use crate::organisation::Keeper;
use crate::store::engine::memory::MemoryEngine;
use crate::store::everything::Everything;
use crate::store::restored::{self, RestoredRecord};
use crate::store::{Key, Store, Value, reconcile};

const QUARTER_HOUR_MS: u64 = 15 * 60 * 1000;

/// All that the side's store holds.
async fn copy(side: &Side) -> Vec<(Key, Value)> {
    let mut all = Everything::of(&side.node.store).await.unwrap();
    let mut found = Vec::new();
    loop {
        let chunk = all.next().await.unwrap();
        if chunk.is_empty() {
            return found;
        }
        found.extend(chunk);
    }
}

/// The side as it is when it has started on a copy of its store.
async fn come_back(side: &Side, copy: Vec<(Key, Value)>) -> Side {
    let store = Store::new(Arc::new(MemoryEngine::default())).unwrap();
    let mut part = Part::default();
    for (key, value) in copy {
        part.put(key, value);
    }
    let record = RestoredRecord {
        made_ms: now(side),
        restored_ms: now(side),
        is_ready: false,
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
