//! Both ends of a link together: exactly once, in order, whatever is lost on the way.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    unreachable_pub,
    reason = "tests fail by panicking"
)]

mod support;
#[path = "links/world.rs"]
mod world;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use federation_proto::codec::Wire;
use federation_proto::envelope::{HashedPayload, Kind, Lane, Outgoing};
use federation_proto::hash::Digest;
use federation_proto::link::{
    Anomaly, Arrival, Batch, BatchLimits, Item, LanePosition, LinkEpoch, QueueError, ReceiptError,
    Receiver, Recent, Sender, Settled, judge_link_epoch, latest_link_epoch, next_link_epoch,
};
use federation_proto::manifest::Manifest;
use federation_proto::payload::Tombstone;
use federation_proto::receipt::{self, ItemResult, ReceiptBody};
use federation_proto::refusal::{Refusal, RefusalCode};
use federation_proto::transaction::{self, Link, SignedTransaction, sign};
use proptest::prelude::*;
use support::{NOW_MS, Organisation, lane, link, outgoing};
use world::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    /// Goal: every envelope takes effect exactly once and in its lane's order, or is buried by a
    /// tombstone, whatever answers and transactions are lost and whenever the sender restarts; by
    /// random schedules of all that, then draining the link.
    #[test]
    fn exactly_once_in_order(steps in prop::collection::vec((0..11_u8, 0..3_u8, 1..40_usize), 1..60)) {
        let mut world = World::new();
        let mut tails: BTreeMap<Lane, u64> = BTreeMap::new();
        let mut lost: Vec<Bytes> = Vec::new();
        let mut buried: BTreeSet<(Lane, u64)> = BTreeSet::new();
        let mut under_way = Vec::new();
        for (step, lane_number, size) in steps {
            let on = lane(lane_number + 1);
            match step {
                0..=2 => {
                    for _ in 0..size {
                        let tail = tails.entry(on).or_default();
                        *tail += 1;
                        world.queue(on, *tail);
                    }
                }
                3 => {
                    if world.sender.is_ready() {
                        world.exchange(size);
                    }
                }
                // The answer is lost.
                4 => {
                    if let Some((batch, signed)) = world.poll(size) {
                        world.receive(signed.bytes.clone());
                        lost.push(signed.bytes);
                        world.sender.handle_failure(batch);
                    }
                }
                // The transaction is lost.
                5 => {
                    if let Some((batch, _)) = world.poll(size) {
                        world.sender.handle_failure(batch);
                    }
                }
                // An old transaction arrives again.
                6 => {
                    if !lost.is_empty() {
                        let again = lost[size % lost.len()].clone();
                        world.receive(again);
                    }
                }
                // What waits first on the lane has expired.
                7 => {
                    let waiting = world.outbox.range((on, 0)..=(on, u64::MAX)).next();
                    if let Some(((_, first), envelope)) = waiting
                        && envelope.kind == Kind::Message
                        && !world.sender.is_in_flight(on, *first)
                    {
                        let first = *first;
                        buried.insert((on, first));
                        world.bury(on, first, 1);
                    }
                }
                // It arrives, and its answer takes its time: others are sent beside it.
                8 => {
                    if let Some((batch, signed)) = world.poll(size) {
                        let receipt = world.receive(signed.bytes.clone());
                        under_way.push((batch, signed, receipt));
                    }
                }
                // Answers come in any order.
                9 => {
                    if !under_way.is_empty() {
                        let (batch, signed, receipt) = under_way.swap_remove(size % under_way.len());
                        world.settle(batch, &signed, receipt).unwrap();
                    }
                }
                _ => {
                    under_way.clear();
                    world.restart_sender();
                }
            }
            let mut lanes = BTreeSet::new();
            for (batch, _, _) in &under_way {
                let batch: &Batch = batch;
                let its: BTreeSet<Lane> = batch.items().iter().map(|item| item.lane).collect();
                for item in batch.items() {
                    prop_assert!(world.sender.is_in_flight(item.lane, item.item.sequence));
                }
                prop_assert!(its.iter().all(|lane| lanes.insert(*lane)));
            }
        }
        for (batch, signed, receipt) in under_way {
            world.settle(batch, &signed, receipt).unwrap();
        }
        world.now_ms += 10_000;
        while !world.outbox.is_empty() {
            let settled = world.exchange(16);
            prop_assert_eq!(settled.anomalies, vec![]);
            prop_assert!(settled.refused.is_empty());
        }
        for (lane, tail) in tails {
            let delivered = world.delivered.remove(&lane).unwrap_or_default();
            let mut rest = delivered.iter();
            for n in 1..=tail {
                let payload = Bytes::from(format!("{lane} {n}"));
                if buried.contains(&(lane, n)) && !delivered.contains(&payload) {
                    continue;
                }
                prop_assert_eq!(rest.next(), Some(&payload));
            }
            prop_assert_eq!(rest.next(), None);
        }
    }
}

/// Goal: a refused envelope uses up its position, those behind it pass, and the sender learns of the
/// refusal even when the first answer is lost; by losing it.
#[test]
fn a_refusal_survives_a_lost_answer() {
    let mut world = World::new();
    (1..=3).for_each(|n| world.queue(lane(1), n));
    world.refused.push(format!("{} 2", lane(1)).into());
    let (batch, signed) = world.poll(10).unwrap();
    world.receive(signed.bytes);
    world.sender.handle_failure(batch);
    // Nobody would refuse it any more, but refused is refused.
    world.refused.clear();
    let settled = world.exchange(10);
    assert_eq!(settled.done.len(), 2);
    assert_eq!(settled.refused.len(), 1);
    assert_eq!(settled.refused[0].0.item.sequence, 2);
    assert_eq!(settled.refused[0].1.code, RefusalCode::OutOfScope);
    assert_eq!(world.delivered[&lane(1)].len(), 2);
}

/// Goal: a lane of which nothing is taken waits twice as long each time, from what it was asked to wait or
/// 1 s up to 300 s, and once something was taken it starts over; by putting it off again and again.
#[test]
fn a_lane_that_is_put_off_waits_longer() {
    let mut world = World::new();
    (1..=2).for_each(|n| world.queue(lane(1), n));
    world.deferred.push(format!("{} 1", lane(1)).into());
    let mut waits = Vec::new();
    for _ in 0..10 {
        world.exchange(10);
        let until_ms = world.sender.poll_timeout().unwrap();
        waits.push((until_ms - world.now_ms) / 1000);
        world.now_ms = until_ms;
    }
    assert_eq!(waits, [2, 2, 4, 8, 16, 32, 64, 128, 256, 300]);
    world.deferred = vec![format!("{} 2", lane(1)).into()];
    world.exchange(10);
    assert_eq!(world.sender.poll_timeout(), Some(world.now_ms + 2000));
    world.now_ms += 2000;
    world.exchange(10);
    assert_eq!(world.sender.poll_timeout(), Some(world.now_ms + 2000));
}

/// Goal: a deferred envelope holds up its own lane until its time, and no other lane; by deferring
/// one of two lanes.
#[test]
fn a_deferred_envelope_holds_up_its_lane_only() {
    let mut world = World::new();
    for n in 1..=2 {
        world.queue(lane(1), n);
        world.queue(lane(2), n);
    }
    world.deferred.push(format!("{} 1", lane(1)).into());
    let settled = world.exchange(10);
    assert_eq!(settled.done.len(), 2);
    assert_eq!(settled.deferred.len(), 2);
    assert_eq!(settled.anomalies, []);
    world.queue(lane(2), 3);
    assert_eq!(world.exchange(10).done.len(), 1);
    assert!(!world.sender.is_ready());
    assert_eq!(world.sender.poll_timeout(), Some(NOW_MS + 2000));
    assert!(world.poll(10).is_none());
    world.deferred.clear();
    world.now_ms += 2000;
    assert_eq!(world.exchange(10).done.len(), 2);
    assert_eq!(world.sender.queued(), 0);
}

/// Goal: a lane has one unanswered transaction at most, so a later one can't overtake; by polling
/// twice.
#[test]
fn one_unanswered_transaction_per_lane() {
    let mut world = World::new();
    (1..=4).for_each(|n| world.queue(lane(1), n));
    let (first, _) = world.poll(2).unwrap();
    assert!(world.poll(2).is_none());
    world.queue(lane(2), 1);
    let (second, _) = world.poll(2).unwrap();
    assert_eq!(second.items()[0].lane, lane(2));
    world.sender.handle_failure(first);
    assert_eq!(world.poll(9).unwrap().0.items().len(), 4);
}

/// Goal: a batch keeps to its limits in number and bytes, and a larger item still goes, alone; by
/// queues that are over each.
#[test]
fn batches_keep_to_their_limits() {
    let mut sender = Sender::new(1);
    for n in 1..=5 {
        sender.enqueue(lane(1), item(n)).unwrap();
    }
    let limits = BatchLimits {
        envelopes_max: 10,
        bytes_max: 350,
    };
    let batch = sender.poll_batch(0, limits).unwrap();
    assert_eq!(batch.items().len(), 3);
    sender.handle_failure(batch);
    let limits = BatchLimits {
        envelopes_max: 10,
        bytes_max: 50,
    };
    assert_eq!(sender.poll_batch(0, limits).unwrap().items().len(), 1);
}

/// Goal: expired mail is buried by one tombstone over its range, which the receiver takes in one
/// step, also where it had taken a part of the range before; by burying after a lost answer.
#[test]
fn tombstones_cover_ranges() {
    let mut world = World::new();
    (1..=10).for_each(|n| world.queue(lane(1), n));
    let (batch, signed) = world.poll(4).unwrap();
    world.receive(signed.bytes.clone());
    world.sender.handle_failure(batch);
    // a does not know that b has 1 to 4.
    world.bury(lane(1), 3, 6);
    let settled = world.exchange(10);
    assert_eq!(settled.anomalies, []);
    assert_eq!(settled.done.len(), 5);
    assert_eq!(world.positions[&lane(1)].sequence, 10);
    let expected: Vec<Bytes> = [1, 2, 3, 4, 9, 10]
        .map(|n| format!("{} {n}", lane(1)).into())
        .to_vec();
    assert_eq!(world.delivered[&lane(1)], expected);
    // The transaction that was on its way arrives again: no effect, and no false alarm.
    let receipt = receipt::decode(world.receive(signed.bytes))
        .unwrap()
        .verify(&world.b_manifest, &world.link, NOW_MS)
        .unwrap();
    assert_eq!(receipt.body().results, vec![ItemResult::Duplicate; 4]);
    assert_eq!(world.delivered[&lane(1)], expected);
}

/// Goal: one transaction's positions of a lane stay within what the receiver remembers, so that a
/// lost answer never hides a refusal; by a tombstone over a long range behind a message.
#[test]
fn a_batch_stays_within_what_is_remembered() {
    let mut sender = Sender::new(1);
    let long = Item {
        count: 1024,
        tombstone: true,
        ..item(2)
    };
    for item in [item(1), long, item(1026)] {
        sender.enqueue(lane(1), item).unwrap();
    }
    let mut sizes = Vec::new();
    while let Some(batch) = sender.poll_batch(0, BatchLimits::default()) {
        sizes.push(batch.items().len());
        let next = batch.items().last().unwrap().item;
        let mut rest = Sender::new(1);
        for item in [long, item(1026)] {
            if item.sequence > next.sequence {
                rest.enqueue(lane(1), item).unwrap();
            }
        }
        sender = rest;
    }
    assert_eq!(sizes, [1, 1, 1]);
}

/// Goal: another envelope at a consumed position is a conflict within the remembered 1,024, and a
/// harmless duplicate beyond; by a sender restored from an old copy.
#[test]
fn conflicts_are_noticed() {
    let mut world = World::new();
    (1..=1100).for_each(|n| world.queue(lane(1), n));
    while !world.outbox.is_empty() {
        world.exchange(1024);
    }
    let resend = |world: &mut World, sequence: u64| {
        let forged = outgoing(lane(1), sequence, b"another");
        let signed = sign(&world.a.envelope_key, &world.link, &[forged]).unwrap();
        let receipt = receipt::decode(world.receive(signed.bytes)).unwrap();
        let receipt = receipt.verify(&world.b_manifest, &world.link, NOW_MS);
        receipt.unwrap().body().results[0].clone()
    };
    for sequence in [1100, 77] {
        let ItemResult::Refused(refusal) = resend(&mut world, sequence) else {
            panic!("position {sequence} was not refused");
        };
        assert_eq!(refusal.code, RefusalCode::LinkConflict);
    }
    for sequence in [76, 1] {
        assert_eq!(resend(&mut world, sequence), ItemResult::Duplicate);
    }
    assert_eq!(world.delivered[&lane(1)].len(), 1100);
}

/// Goal: a receiver that lost its store, or is ahead of this side, is reported and not asked in a
/// tight loop; by taking the receiver's positions away, and by restoring an old sender.
#[test]
fn disagreement_is_reported() {
    let mut world = World::new();
    (1..=5).for_each(|n| world.queue(lane(1), n));
    world.exchange(10);
    world.queue(lane(1), 6);
    let kept = std::mem::take(&mut world.positions);
    let settled = world.exchange(10);
    assert_eq!(
        settled.anomalies,
        [Anomaly::PeerBehind {
            lane: lane(1),
            theirs: 0,
            ours: 6
        }]
    );
    assert_eq!(world.sender.poll_timeout(), Some(NOW_MS + 1000));

    world.positions = kept;
    world.restart_sender();
    assert_eq!(world.exchange(10).anomalies, []);
    world.sender = Sender::new(5);
    world.outbox.clear();
    world.queue(lane(1), 4);
    let settled = world.exchange(10);
    assert_eq!(
        settled.anomalies,
        [Anomaly::PeerAhead {
            lane: lane(1),
            theirs: 6,
            ours: 4
        }]
    );
    // What was restored may be something else than what the receiver has: it is not given up.
    assert_eq!((settled.done.len(), settled.held.len()), (0, 1));
    assert_eq!(world.sender.queued(), 1);
    assert!(world.outbox.contains_key(&(lane(1), 4)));
    assert_eq!(world.sender.poll_timeout(), Some(NOW_MS + 300_000));
}

/// Goal: a receiver that took what is not queued again yet after a restart is not ahead, once the
/// caller says that its store holds it; by queueing a part of what was consumed.
#[test]
fn what_the_store_holds_was_given_out() {
    let mut world = World::new();
    (1..=5).for_each(|n| world.queue(lane(1), n));
    let (batch, signed) = world.poll(10).unwrap();
    world.receive(signed.bytes);
    world.sender.handle_failure(batch);
    world.sender = Sender::new(5);
    (1..=2).for_each(|n| world.sender.enqueue(lane(1), item(n)).unwrap());
    let (batch, signed) = world.poll(10).unwrap();
    let bytes = world.receive(signed.bytes.clone());
    let receipt = receipt::decode(bytes.clone())
        .unwrap()
        .verify(&world.b_manifest, &world.link, NOW_MS)
        .unwrap();
    assert_eq!(world.sender.ahead(&batch, &receipt), [(lane(1), 5)]);
    world.sender.note_given_out(lane(1), 5);
    assert_eq!(world.sender.ahead(&batch, &receipt), []);
    let settled = world.settle(batch, &signed, bytes).unwrap();
    assert_eq!((settled.done.len(), settled.anomalies.len()), (2, 0));
}

/// Goal: a batch of an earlier numbering settles nothing in the new one, neither by an answer nor by a
/// failure; by a sender of the next link epoch while it is under way.
#[test]
fn a_stale_batch_settles_nothing() {
    let mut world = World::new();
    (1..=3).for_each(|n| world.queue(lane(1), n));
    let (first, signed) = world.poll(10).unwrap();
    let receipt = receipt::decode(world.receive(signed.bytes.clone()))
        .unwrap()
        .verify(&world.b_manifest, &world.link, NOW_MS)
        .unwrap();
    let mut sender = Sender::new(6);
    for n in 1..=3 {
        sender.enqueue(lane(1), item(n)).unwrap();
    }
    let _under_way = sender.poll_batch(NOW_MS, BatchLimits::default()).unwrap();
    assert_eq!(
        sender.handle_receipt(first, &signed, &receipt, NOW_MS, 0),
        Err(ReceiptError::OtherLinkEpoch)
    );
    assert_eq!(sender.queued(), 3);
    assert!(!sender.is_ready());
    let mut other = Sender::new(5);
    other.enqueue(lane(1), item(1)).unwrap();
    let stale = other.poll_batch(NOW_MS, BatchLimits::default()).unwrap();
    sender.handle_failure(stale);
    assert!(!sender.is_ready(), "what is under way was queued again");
}

/// Goal: lanes that have nothing to send any more don't fill the memory, and their numbering goes on
/// where their next item says; by more lanes than are kept.
#[test]
fn idle_lanes_are_forgotten() {
    let mut world = World::new();
    let number = |n: u64| {
        let mut bytes = [1; 16];
        bytes[..8].copy_from_slice(&n.to_be_bytes());
        Lane::from_bytes(bytes)
    };
    let lanes = 5 * 1024;
    for n in 0..lanes {
        world.queue(number(n), 1);
    }
    assert_eq!(world.sender.lanes(), 5 * 1024);
    while !world.outbox.is_empty() {
        world.exchange(1024);
    }
    assert_eq!(world.sender.lanes(), 4096);
    for n in [0, lanes - 1] {
        world.queue(number(n), 2);
        let settled = world.exchange(10);
        assert_eq!((settled.done.len(), settled.anomalies.len()), (1, 0));
    }
    // What is known of a lane that was kept still counts.
    let hole = world.sender.enqueue(number(lanes - 1), item(9));
    assert_eq!(
        hole,
        Err(QueueError::NotNext {
            expected: 3,
            found: 9
        })
    );
}

fn any_result() -> impl Strategy<Value = ItemResult> {
    let code = || prop::sample::select(RefusalCode::ALL);
    prop_oneof![
        Just(ItemResult::Accepted),
        Just(ItemResult::Duplicate),
        code().prop_map(|code| ItemResult::Refused(Refusal::new(code, "no"))),
        (code(), 0..=300_000_u32).prop_map(|(code, retry_after_ms)| ItemResult::Deferred {
            code,
            retry_after_ms
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Goal: whatever a peer signs, its receipt neither makes the sender panic nor loses an item: each
    /// is named as settled or still queued; by receipts with arbitrary results and heads, also at
    /// the ends of the numbers, for one batch after the other.
    #[test]
    fn any_signed_receipt(
        start in prop_oneof![Just(1), Just(u64::MAX - 6), 1..100_u64],
        answers in prop::collection::vec(
            (
                prop::collection::vec(any_result(), 0..6),
                prop_oneof![Just(0), Just(u64::MAX), Just(u64::MAX - 1), 0..110_u64],
                any::<bool>(),
                any::<bool>(),
            ),
            1..8,
        ),
    ) {
        let mut world = World::new();
        for n in start..start + 5 {
            world.queue(lane(1), n);
        }
        for (results, head, whole, fits) in answers {
            let Some((batch, signed)) = world.poll(3) else {
                world.now_ms += 400_000;
                continue;
            };
            let before = world.sender.queued();
            let sent = batch.items().len();
            let last = batch.items()[sent - 1].item.sequence;
            let mut results = results;
            if whole {
                results.resize(sent, ItemResult::Accepted);
            }
            if results.is_empty() {
                results.push(ItemResult::Duplicate);
            }
            let body = ReceiptBody {
                link: world.link.clone(),
                root: signed.root,
                at_ms: world.now_ms,
                results,
                lanes: BTreeMap::from([(lane(1), receipt::LaneHead {
                    sequence: if fits { last } else { head },
                    chain_hash: Digest::ZERO,
                })]),
            };
            let receipt = body.sign(&world.b.envelope_key).unwrap();
            if let Ok(settled) = world.settle(batch, &signed, receipt) {
                let gone = settled.done.len() + settled.refused.len();
                prop_assert_eq!(gone + settled.deferred.len() + settled.held.len(), sent);
                prop_assert_eq!(before - gone, world.sender.queued());
                prop_assert_eq!(world.outbox.len(), world.sender.queued());
            } else {
                prop_assert_eq!(before, world.sender.queued());
            }
        }
    }
}

/// Goal: the sender notices when the receiver has other envelopes at its positions; by a receiver
/// whose chain hash is another one.
#[test]
fn the_chain_is_compared() {
    let mut world = World::new();
    world.queue(lane(1), 1);
    world.exchange(10);
    world.positions.get_mut(&lane(1)).unwrap().chain_hash = Digest::of(b"another past");
    world.queue(lane(1), 2);
    let settled = world.exchange(10);
    assert_eq!(
        settled.anomalies,
        [Anomaly::ChainMismatch {
            lane: lane(1),
            sequence: 2
        }]
    );
}

/// Goal: a receipt that answers another transaction, or contradicts itself, settles nothing, and
/// everything is sent again; by exchanging and changing receipts.
#[test]
fn wrong_receipts_settle_nothing() {
    let mut world = World::new();
    (1..=2).for_each(|n| world.queue(lane(1), n));
    let (batch, signed) = world.poll(10).unwrap();
    let good = receipt::decode(world.receive(signed.bytes.clone()))
        .unwrap()
        .verify(&world.b_manifest, &world.link, NOW_MS)
        .unwrap();
    let mut batch = Some(batch);
    type Change = fn(&mut ReceiptBody);
    let wrong: [(Change, ReceiptError); 5] = [
        (
            |body| body.root = Digest::ZERO,
            ReceiptError::OtherTransaction,
        ),
        (|body| drop(body.results.pop()), ReceiptError::Contradiction),
        (|body| body.lanes.clear(), ReceiptError::Contradiction),
        (
            |body| body.lanes.values_mut().for_each(|head| head.sequence = 1),
            ReceiptError::Contradiction,
        ),
        (
            |body| {
                body.results[0] = ItemResult::Deferred {
                    code: RefusalCode::Quota,
                    retry_after_ms: 1,
                }
            },
            ReceiptError::Contradiction,
        ),
    ];
    for (change, expected) in wrong {
        let mut body = good.body().clone();
        change(&mut body);
        let receipt = body.sign(&world.b.envelope_key).unwrap();
        let error = world.settle(batch.take().unwrap(), &signed, receipt);
        assert_eq!(error, Err(expected));
        batch = Some(world.poll(10).unwrap().0);
        assert_eq!(batch.as_ref().unwrap().items().len(), 2);
    }
}

/// Goal: in a new link epoch the receiver starts every lane at 0, whatever the one before had come to; an old epoch is
/// stale. Method: a lane that has gone on, and a sender that numbers from 1 again.
#[test]
fn a_new_link_epoch_starts_anew() {
    let mut world = World::new();
    (1..=6).for_each(|n| world.queue(lane(1), n));
    world.exchange(3);
    world.sender = Sender::new(6);
    world.link.link_epoch = 6;
    world.outbox.clear();
    (1..=2).for_each(|n| world.queue(lane(1), n));
    let settled = world.exchange(10);
    assert_eq!((settled.done.len(), settled.anomalies.len()), (2, 0));
    assert_eq!(world.positions[&lane(1)].link_epoch, 6);
    assert_eq!(world.positions[&lane(1)].sequence, 2);
    assert_eq!(world.delivered[&lane(1)].len(), 5);

    assert_eq!(judge_link_epoch(None, 5, NOW_MS), LinkEpoch::New);
    assert_eq!(judge_link_epoch(Some(5), 5, NOW_MS), LinkEpoch::Current);
    assert_eq!(judge_link_epoch(Some(5), 6, NOW_MS), LinkEpoch::New);
    assert_eq!(judge_link_epoch(Some(6), 5, NOW_MS), LinkEpoch::Stale);
}

/// Goal: nobody leads a link to an epoch ahead of the receiver's clock, step by step neither, and a link that is there
/// goes on (LINK-025). Method: the latest that is taken and the one behind it, of an origin that is new and of one that
/// is known.
#[test]
fn link_epochs_keep_to_the_clock() {
    let latest = latest_link_epoch(NOW_MS);
    for known in [None, Some(5), Some(latest - 1)] {
        assert_eq!(judge_link_epoch(known, latest, NOW_MS), LinkEpoch::New);
        for ahead in [latest + 1, u64::MAX] {
            let judged = judge_link_epoch(known, ahead, NOW_MS);
            assert_eq!(judged, LinkEpoch::Ahead, "{ahead} after {known:?}");
        }
    }
    let next = judge_link_epoch(Some(latest), latest + 1, NOW_MS);
    assert_eq!(next, LinkEpoch::Ahead);
    // As when the receiver's clock was ahead for a while.
    let stays = judge_link_epoch(Some(u64::MAX), u64::MAX, NOW_MS);
    assert_eq!(stays, LinkEpoch::Current);
}

/// Goal: an origin's next link epoch is higher than every one that a receiver may have taken, and one that was begun by a
/// clock far ahead is left (LINK-058). Method: former ones around both bounds, two receivers' clocks.
#[test]
fn the_next_link_epoch_is_taken() {
    for former in [0, 5, NOW_MS - 1] {
        assert_eq!(next_link_epoch(former, NOW_MS), NOW_MS);
    }
    assert_eq!(next_link_epoch(NOW_MS, NOW_MS), NOW_MS + 1);
    let ahead = latest_link_epoch(NOW_MS);
    let taken = latest_link_epoch(ahead);
    assert_eq!(next_link_epoch(taken, NOW_MS), taken + 1);
    for wrong in [taken + 1, u64::MAX] {
        assert_eq!(next_link_epoch(wrong, NOW_MS), NOW_MS);
    }
    for clock_ms in [NOW_MS, ahead] {
        let next = next_link_epoch(NOW_MS, NOW_MS);
        let judged = judge_link_epoch(Some(NOW_MS), next, clock_ms);
        assert_eq!(judged, LinkEpoch::New);
    }
}

/// Goal: positions are queued without holes, and only whole waiting items are buried; by breaking
/// each rule.
#[test]
fn the_queue_has_no_holes() {
    let mut sender = Sender::new(1);
    sender.enqueue(lane(1), item(7)).unwrap();
    assert_eq!(
        sender.enqueue(lane(1), item(9)),
        Err(QueueError::NotNext {
            expected: 8,
            found: 9
        })
    );
    sender.enqueue(lane(1), item(8)).unwrap();
    let tombstone = |first, count| Item {
        count,
        tombstone: true,
        ..item(first)
    };
    for wrong in [tombstone(7, 0), tombstone(7, 1_000_001)] {
        assert_eq!(
            sender.replace_by_tombstone(lane(1), wrong),
            Err(QueueError::Count)
        );
        assert_eq!(sender.enqueue(lane(1), wrong), Err(QueueError::Count));
    }
    for wrong in [tombstone(6, 2), tombstone(8, 2), tombstone(9, 1), item(7)] {
        assert_eq!(
            sender.replace_by_tombstone(lane(1), wrong),
            Err(QueueError::NotWaiting)
        );
    }
    let batch = sender.poll_batch(0, BatchLimits::default()).unwrap();
    assert_eq!(
        sender.replace_by_tombstone(lane(1), tombstone(7, 2)),
        Err(QueueError::InFlight)
    );
    sender.handle_failure(batch);
    sender
        .replace_by_tombstone(lane(1), tombstone(7, 2))
        .unwrap();
    assert_eq!(sender.queued(), 1);
    sender.enqueue(lane(1), item(9)).unwrap();
}
