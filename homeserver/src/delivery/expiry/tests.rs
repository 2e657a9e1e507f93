//! What neither a hostile peer nor damage does to the sweeper: stop it for the others.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use federation_proto::envelope::Lane;
use federation_proto::hash::Digest;
use federation_proto::ids::RoomId;
use federation_proto::limits::LANE_RECENT_MAX;
use federation_proto::link::{LanePosition, Recent, RecentOutcome};

use super::*;
use crate::node::testing::{ManualClock, founded};
use crate::store::engine::memory::MemoryEngine;
use crate::store::engine::{self, Answer};
use crate::store::inbox::{self as stored_inbox, InboxRecord};
use crate::store::link_position::Read;
use crate::store::payload::PayloadId;
use crate::store::{Engine, Key, Store, Value, tally};

const DEVICE: DeviceId = DeviceId::from_bytes([1; 16]);
const OTHER: DeviceId = DeviceId::from_bytes([2; 16]);

fn peer() -> ServerName {
    "a.example".parse().unwrap()
}

fn node_over(engine: Arc<dyn Engine>) -> (Node, Arc<ManualClock>) {
    let (mut node, clock, _) = founded("b.example");
    node.store = Store::new(engine).unwrap();
    (node, clock)
}

/// An item that expires now, in the inbox of a device.
fn put_expiring(part: &mut Part, device: DeviceId, now_ms: u64) {
    let record = InboxRecord {
        expires_ms: now_ms,
        source: None,
        body: InboxBody::RoomClosed {
            room: RoomId::from_bytes([3; 16]),
            server: peer(),
        },
    };
    let value = stored_inbox::value(&record).unwrap();
    stored_inbox::append(part, device, None, value);
    expiry::put(part, now_ms, Place::Inbox(device));
}

async fn items(node: &Node, device: DeviceId) -> usize {
    let items = stored_inbox::range(&node.store, device, 0, 10).await;
    items.unwrap().len()
}

fn lane(number: u64) -> Lane {
    let mut id = [1; 16];
    id[..8].copy_from_slice(&number.to_be_bytes());
    Lane::from_bytes(id)
}

/// The positions of these lanes in a link epoch.
async fn put_lanes(node: &Node, part: &mut Part, lanes: Range<u64>, link_epoch: u64) {
    let position = LanePosition {
        sequence: 1,
        ..LanePosition::start(link_epoch)
    };
    for number in lanes {
        let none = link_position::position(&node.store, &peer(), lane(number)).await;
        let none: Read<LanePosition> = none.unwrap();
        link_position::put_position(part, &peer(), lane(number), &none, &position).unwrap();
    }
}

/// The link epoch that the peer has come to, with what is counted.
fn put_epoch(part: &mut Part, count: &LaneCount) {
    let (epoch, none) = (count.link_epoch, Read::default());
    link_position::put_epoch(part, &peer(), &none, epoch).unwrap();
    link_position::put_lane_count(part, &peer(), &Read::default(), count).unwrap();
}

async fn former(node: &Node) -> u64 {
    let count = link_position::lane_count(&node.store, &peer()).await;
    count.unwrap().record.unwrap().former
}

/// Whether a lane remembers a position.
async fn remembers(node: &Node, number: u64, sequence: u64) -> bool {
    let found = link_position::recent(&node.store, &peer(), lane(number), sequence).await;
    found.unwrap().is_some()
}

/// Whether a row of a former link epoch is stored.
async fn any_former(node: &Node) -> bool {
    let (mut part, peer) = (Part::default(), peer());
    let found = link_position::delete_former(&node.store, &mut part, &peer, None, 100_000);
    found.await.unwrap();
    !part.writes.is_empty()
}

/// An engine whose peer raises its link epoch, and goes on with one of its lanes in that, after each look at its rows.
#[derive(Default)]
struct Rising {
    memory: MemoryEngine,
    /// The link epoch; 0: the peer rests.
    epoch: AtomicU64,
    looks: AtomicU64,
}

/// Lanes that are left of the first link epoch.
const LANES: u64 = 5;
/// More looks than a sweep may need.
const LOOKS_MAX: u64 = 100;

impl Rising {
    async fn rise(&self) -> Result<(), StoreError> {
        let looks = self.looks.fetch_add(1, Ordering::SeqCst);
        assert!(looks < LOOKS_MAX, "the sweep does not come to an end");
        let link_epoch = self.epoch.fetch_add(1, Ordering::SeqCst) + 1;
        let mut part = Part::default();
        let count = LaneCount {
            link_epoch,
            lanes: 1,
            former: LANES,
        };
        put_epoch(&mut part, &count);
        put_slot(&mut part, link_epoch);
        // Whatever was there before.
        part.preconditions.clear();
        self.memory.apply(&[part]).await?;
        Ok(())
    }
}

/// What one of the lanes has at its first position.
fn put_slot(part: &mut Part, link_epoch: u64) {
    put_recent(part, 0, 1, link_epoch);
}

/// What a lane remembers of a position.
fn put_recent(part: &mut Part, number: u64, sequence: u64, link_epoch: u64) {
    let recent = Recent {
        link_epoch,
        sequence,
        position_hash: Digest::ZERO,
        outcome: RecentOutcome::Accepted,
    };
    link_position::put_recent(part, &peer(), lane(number), sequence, &recent).unwrap();
}

impl Engine for Rising {
    fn apply<'a>(&'a self, parts: &'a [Part]) -> Answer<'a, Vec<PartOutcome>> {
        self.memory.apply(parts)
    }

    fn snapshot(&self) -> Answer<'_, Box<dyn engine::Read>> {
        self.memory.snapshot()
    }
}

impl engine::Read for Rising {
    fn get<'a>(&'a self, key: &'a [u8]) -> Answer<'a, Option<Value>> {
        self.memory.get(key)
    }

    fn range<'a>(&'a self, range: engine::Range<'a>) -> Answer<'a, Vec<(Key, Value)>> {
        Box::pin(async move {
            let found = self.memory.range(range).await?;
            if range.from.first() == Some(&b'I') && self.epoch.load(Ordering::SeqCst) > 0 {
                self.rise().await?;
            }
            Ok(found)
        })
    }
}

/// Goal: a peer that raises its link epoch all the time, while the sweeper looks at its lanes, holds up nobody else's expiry,
/// and what is left of its lanes goes when it rests. By an engine that raises it between each look and the deletion
/// that follows.
#[tokio::test]
async fn rising_link_epochs_hold_up_nobody() {
    let engine = Arc::new(Rising::default());
    let (node, clock) = node_over(engine.clone());
    let now_ms = node.clock.now_ms();
    let mut part = Part::default();
    put_lanes(&node, &mut part, 0..LANES, 1).await;
    put_slot(&mut part, 1);
    let count = LaneCount {
        link_epoch: 2,
        lanes: 0,
        former: LANES,
    };
    put_epoch(&mut part, &count);
    expiry::put(&mut part, now_ms - 1, Place::Lanes(peer()));
    put_expiring(&mut part, OTHER, now_ms);
    assert_eq!(
        node.store.commit(part).await.unwrap(),
        PartOutcome::Committed
    );

    engine.epoch.store(2, Ordering::SeqCst);
    sweep(&node).await.unwrap();
    assert_eq!(items(&node, OTHER).await, 0);
    engine.epoch.store(0, Ordering::SeqCst);
    assert!(any_former(&node).await);
    assert_eq!(former(&node).await, LANES, "as long as any are stored");

    clock.advance_ms(LANES_AGAIN_MS);
    sweep(&node).await.unwrap();
    assert!(!any_former(&node).await);
    assert_eq!(former(&node).await, 0);
    assert_eq!(expiry::next_ms(&node.store).await.unwrap(), None);
}

/// Goal: however many lanes a peer has, one turn of the sweeper looks through a bounded part of them, and the next goes on
/// where it was: what is left of former link epochs is found behind any number of others. By one turn's worth of lanes that
/// stay, and three behind them that don't.
#[tokio::test]
async fn lanes_are_swept_part_by_part() {
    let (node, clock) = node_over(Arc::new(MemoryEngine::default()));
    let now_ms = node.clock.now_ms();
    let rows = LANE_PAGES_AT_ONCE_MAX * INBOX_PAGE_ITEMS;
    let rows = u64::try_from(rows).unwrap();
    let mut part = Part::default();
    put_lanes(&node, &mut part, 0..rows, 2).await;
    put_lanes(&node, &mut part, rows..rows + 3, 1).await;
    let count = LaneCount {
        link_epoch: 2,
        lanes: rows,
        former: 3,
    };
    put_epoch(&mut part, &count);
    expiry::put(&mut part, now_ms, Place::Lanes(peer()));
    node.store.commit(part).await.unwrap();

    sweep(&node).await.unwrap();
    assert_eq!(former(&node).await, 3);
    let again = [(now_ms + LANES_AGAIN_MS, Place::Lanes(peer()))];
    let due = expiry::due(&node.store, u64::MAX, 10).await.unwrap();
    assert_eq!(due.entries, again);

    clock.advance_ms(LANES_AGAIN_MS);
    sweep(&node).await.unwrap();
    assert_eq!(former(&node).await, 0);
    assert!(!any_former(&node).await);
    let pass = link_position::lane_pass(&node.store, &peer()).await;
    assert_eq!(pass.unwrap(), None);
    assert_eq!(expiry::next_ms(&node.store).await.unwrap(), None);
}

/// Goal: what is remembered of the lanes of a peer without an agreement goes, a bounded part in one turn of the sweeper, and
/// where the lanes stand stays. By more than one turn looks through.
#[tokio::test]
async fn what_is_remembered_goes_part_by_part() {
    let (node, clock) = node_over(Arc::new(MemoryEngine::default()));
    let now_ms = node.clock.now_ms();
    let rows = u64::try_from(LANE_PAGES_AT_ONCE_MAX * INBOX_PAGE_ITEMS).unwrap();
    let lanes = rows / LANE_RECENT_MAX + 1;
    let mut part = Part::default();
    put_lanes(&node, &mut part, 0..lanes, 1).await;
    for number in 0..lanes {
        for sequence in 0..LANE_RECENT_MAX {
            put_recent(&mut part, number, sequence, 1);
        }
    }
    let all = Place::Remembered(peer(), Lane::CONTROL);
    expiry::put(&mut part, now_ms, all);
    node.store.commit(part).await.unwrap();
    let last = LANE_RECENT_MAX - 1;

    sweep(&node).await.unwrap();
    assert!(!remembers(&node, 0, 0).await && !remembers(&node, 0, last).await);
    assert!(remembers(&node, lanes - 1, last).await);
    let due = expiry::due(&node.store, u64::MAX, 10).await.unwrap();
    let [(at_ms, Place::Remembered(_, next))] = &due.entries[..] else {
        panic!("{due:?}");
    };
    assert_eq!(*at_ms, now_ms + LANES_AGAIN_MS);
    assert!(*next > lane(0));

    clock.advance_ms(LANES_AGAIN_MS);
    sweep(&node).await.unwrap();
    assert!(!remembers(&node, lanes - 1, last).await);
    assert_eq!(expiry::next_ms(&node.store).await.unwrap(), None);
    let stands = link_position::position(&node.store, &peer(), lane(0)).await;
    assert!(stands.unwrap().record.is_some());
}

/// Goal: a record that does not decode holds up the place where it lies and no other, and is looked at again later; an entry
/// that names no place is deleted. By an inbox with a damaged item, and one beside it.
#[tokio::test]
async fn damage_holds_up_its_own_place() {
    let (node, _) = node_over(Arc::new(MemoryEngine::default()));
    let now_ms = node.clock.now_ms();
    let mut part = Part::default();
    part.put(
        Key::from_static(b"E\0\0\0\0\0\0\0\x01?"),
        Value::from_static(&[1]),
    );
    stored_inbox::append(&mut part, DEVICE, None, Value::from_static(b"\xffgarbage"));
    expiry::put(&mut part, now_ms - 1, Place::Inbox(DEVICE));
    put_expiring(&mut part, OTHER, now_ms);
    node.store.commit(part).await.unwrap();

    sweep(&node).await.unwrap();
    assert_eq!(items(&node, OTHER).await, 0);
    let due = expiry::due(&node.store, u64::MAX, 10).await.unwrap();
    let again = (now_ms + SWEEP_DAMAGED_RETRY_MS, Place::Inbox(DEVICE));
    assert_eq!(due.entries, [again]);
    assert_eq!(due.damaged, Vec::<Key>::new());
}

/// Goal: a payload that nobody waits for, which a process may leave that ends in the midst of an acknowledgement, does not stay
/// until it expires; one that is waited for does, and what is counted of the peer follows. Method: one of each.
#[tokio::test]
async fn payloads_that_nobody_waits_for_are_deleted() {
    let (node, _) = node_over(Arc::new(MemoryEngine::default()));
    let [orphan, awaited] = [1, 2].map(|n| PayloadId([n; 16]));
    let words = Value::from_static(b"words");
    let mut part = Part::default();
    for id in [orphan, awaited] {
        payload::put(&mut part, id, Some(&peer()), &words);
        expiry::put(&mut part, u64::MAX, Place::Payload(id, Some(peer())));
    }
    payload::wait_for(&mut part, awaited, DeviceId::from_bytes([5; 16]));
    node.store.commit(part).await.unwrap();
    delete_orphans(&node).await.unwrap();
    assert!(!payload::is_kept(&node.store, orphan).await.unwrap());
    let kept = payload::get(&node.store, awaited).await.unwrap();
    assert_eq!(kept, Some(words));
    let counted = tally::get(&node.store, &tally::inbound(&peer())).await;
    assert_eq!(counted.unwrap().entries, 1);
}
