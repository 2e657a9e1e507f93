//! What a peer can't do to us: fill the store, wear us out, go back, or make us lose mail.

use federation_proto::ids::{DeviceId, Member};
use federation_proto::limits::{LANE_RECENT_MAX, LINK_LANES_MAX};
use federation_proto::link::{BatchItem, BatchLimits, Item, LanePosition, Sender};
use federation_proto::payload::{Handshake, Payload, Welcome};

use super::bad_peers::{code, envelope};
use super::*;
use crate::delivery::limits::ROOMS_OF_PEER_MAX;
use crate::rooms::MEMBERS_MAX;
use crate::rooms::mls_framing::testing::{commit_message, welcome_message};
use crate::store::expiry::{self, Place};
use crate::store::link_position::{self, LaneCount};
use crate::store::tally;

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// Goal: an offer that nobody answers and an acceptance that nobody countersigns end by themselves,
/// and with the acceptance the peer's right to connect; by moving both clocks.
#[tokio::test]
async fn unanswered_offers_expire() {
    let [a, b] = sides(["a.example", "b.example"]);
    accepted(&a, &b, None).await;
    let state = |at: &Side, of: &Side| at.node.peers.get(&of.node.server).unwrap().state;
    for (days, at_a, at_b) in [
        (29, PeerState::Offered, PeerState::Accepted),
        (2, PeerState::Expired, PeerState::Accepted),
        (7, PeerState::Expired, PeerState::Expired),
    ] {
        for side in [&a, &b] {
            side.clock.advance_ms(days * DAY_MS);
            round(&side.node).await.unwrap();
        }
        assert_eq!((state(&a, &b), state(&b, &a)), (at_a, at_b));
        let may_connect = b.node.peer_roots.get(&a.node.server).is_some();
        assert_eq!(may_connect, at_b == PeerState::Accepted);
    }
}

/// Goal: a peer's keys don't go back with a new agreement; by a ceremony after a revocation, with a
/// manifest that is older than the last one known.
#[tokio::test]
async fn keys_never_go_back() {
    let [a, b] = sides(["a.example", "b.example"]);
    peered(&a, &b).await;
    let mut body = b.node.keys.manifest().body().clone();
    body.serial += 1;
    let newer = body.sign(&b.node.keys.issuing_key(), b.node.random.as_ref());
    peers::take_manifest(&a.node, &b.node.server, newer.unwrap())
        .await
        .unwrap();
    for (at, of) in [(&a, &b), (&b, &a)] {
        peers::revoke(&at.node, &admin(), &of.node.server, "over")
            .await
            .unwrap();
    }
    let acceptance = accepted(&a, &b, None).await;
    let seen = peers::inspect(&a.node, &acceptance).await.unwrap();
    let request = homeserver_api::admin::CountersignRequest {
        document: acceptance,
        fingerprint: seen.fingerprint,
    };
    let error = peers::countersign(&a.node, &admin(), &request)
        .await
        .unwrap_err();
    assert!(matches!(error, peers::PeeringError::Document(_)), "{error}");
    assert!(error.to_string().contains("is known already"), "{error}");
}

/// Goal: a peer can't fill the store with lanes: beyond the limit a new one is put off and nothing of
/// it is stored, and lanes that are there go on, for the origin finds the receipt whole (LINK-040). By a count that is one
/// below the limit, and an origin's own reading of the receipt.
#[tokio::test]
async fn lanes_are_limited() {
    let [a, b] = sides(["a.example", "b.example"]);
    peered(&a, &b).await;
    let store = &b.node.store;
    let server = &a.node.server;
    let before = link_position::lane_count(store, server).await.unwrap();
    let mut part = Part::default();
    let almost = LaneCount {
        link_epoch: a.node.peers.get(&b.node.server).unwrap().link_epoch,
        lanes: LINK_LANES_MAX - 1,
        former: 0,
    };
    link_position::put_lane_count(&mut part, server, &before, &almost).unwrap();
    store.commit(part).await.unwrap();
    let (first, second) = (Lane::from_bytes([1; 16]), Lane::from_bytes([2; 16]));
    let put_off = |result: &ItemResult| {
        let code = RefusalCode::Quota;
        matches!(result, ItemResult::Deferred { code: found, .. } if *found == code)
    };
    let sent = vec![outgoing(first, 1), outgoing(second, 1), outgoing(first, 2)];
    let results = exchange(&a, &b, sent).await;
    assert_eq!(
        results.iter().map(put_off).collect::<Vec<_>>(),
        [false, true, false]
    );
    let results = exchange(&a, &b, vec![outgoing(second, 1), outgoing(first, 3)]).await;
    assert_eq!(
        results.iter().map(put_off).collect::<Vec<_>>(),
        [true, false]
    );
    let stored = link_position::position(store, &a.node.server, second).await;
    assert_eq!(stored.unwrap().record, None);
    let count = link_position::lane_count(store, server).await.unwrap();
    assert_eq!(count.record.unwrap().lanes, LINK_LANES_MAX);

    let mut sender = Sender::new(almost.link_epoch);
    for (lane, sequence) in [(first, 4), (second, 1)] {
        let item = Item {
            sequence,
            count: 1,
            tombstone: true,
            bytes: 100,
        };
        sender.enqueue(lane, item).unwrap();
    }
    let sent = sender.poll_batch(0, BatchLimits::default()).unwrap();
    let envelopes = sent.items().iter();
    let envelopes: Vec<_> = envelopes
        .map(|sent| outgoing(sent.lane, sent.item.sequence))
        .collect();
    let (signed, receipt) = answered(&a, &b, &envelopes).await;
    let start = LanePosition::start(almost.link_epoch).head();
    assert_eq!(receipt.body().lanes.get(&second), Some(&start));
    let settled = sender.handle_receipt(sent, &signed, &receipt, 0, 0);
    let settled = settled.unwrap();
    let lanes = |items: &[BatchItem]| items.iter().map(|item| item.lane).collect::<Vec<_>>();
    assert_eq!(lanes(&settled.done), [first]);
    let deferred: Vec<_> = settled.deferred.into_iter().map(|(item, _)| item).collect();
    assert_eq!(lanes(&deferred), [second]);
}

/// Goal: a peer that raises its link epoch begins no second set of lanes beside the first (LINK-026): those of
/// former epochs count until they are deleted, and from then on no more. By a count at the limit, and a sweep.
#[tokio::test]
async fn lanes_of_former_epochs_are_limited_too() {
    let [a, b] = sides(["a.example", "b.example"]);
    peered(&a, &b).await;
    let (store, server) = (&b.node.store, &a.node.server);
    exchange(&a, &b, vec![outgoing(Lane::from_bytes([1; 16]), 1)]).await;
    let before = link_position::lane_count(store, server).await.unwrap();
    let mut part = Part::default();
    let full = LaneCount {
        lanes: LINK_LANES_MAX,
        ..before.record.unwrap()
    };
    link_position::put_lane_count(&mut part, server, &before, &full).unwrap();
    store.commit(part).await.unwrap();
    peers::begin_link_epoch(&a.node, &admin(), &b.node.server)
        .await
        .unwrap();

    let begin = |n: u8| vec![outgoing(Lane::from_bytes([n; 16]), 1)];
    let result = exchange(&a, &b, begin(2)).await.pop().unwrap();
    let quota = RefusalCode::Quota;
    assert!(matches!(result, ItemResult::Deferred { code, .. } if code == quota));
    crate::delivery::expiry::sweep(&b.node).await.unwrap();
    let result = exchange(&a, &b, begin(2)).await.pop().unwrap();
    assert!(!matches!(result, ItemResult::Deferred { .. }), "{result:?}");
    let count = link_position::lane_count(store, server).await.unwrap();
    let count = count.record.unwrap();
    assert_eq!((count.lanes, count.former), (1, 0));
    assert!(count.link_epoch > full.link_epoch);
}

/// Goal: however often a peer raises its link epoch, one entry of the sweeper stands for what is left of all former ones;
/// by ten rises, each at a time of its own, and a sweep.
#[tokio::test]
async fn rising_link_epochs_leave_one_entry() {
    let [a, b] = sides(["a.example", "b.example"]);
    peered(&a, &b).await;
    let (store, server) = (&b.node.store, &a.node.server);
    for n in 0..10 {
        exchange(&a, &b, vec![outgoing(Lane::from_bytes([n; 16]), 1)]).await;
        a.clock.advance_ms(1_000);
        b.clock.advance_ms(1_000);
        peers::begin_link_epoch(&a.node, &admin(), &b.node.server)
            .await
            .unwrap();
    }
    exchange(&a, &b, vec![outgoing(Lane::from_bytes([1; 16]), 1)]).await;
    let due = expiry::due(store, u64::MAX, 100).await.unwrap();
    let place = Place::Lanes(server.clone());
    let lanes = due.entries.iter().filter(|(_, of)| *of == place);
    assert_eq!(lanes.count(), 1);
    crate::delivery::expiry::sweep(&b.node).await.unwrap();
    let count = link_position::lane_count(store, server).await.unwrap();
    let count = count.record.unwrap();
    assert_eq!((count.lanes, count.former), (1, 0));
}

/// Goal: a lane of which nothing was taken counts for nothing, however often it comes; by an envelope that
/// is ahead of its lane's first.
#[tokio::test]
async fn lanes_that_have_not_begun_do_not_count() {
    let [a, b] = sides(["a.example", "b.example"]);
    peered(&a, &b).await;
    let (begun, gap) = (Lane::from_bytes([1; 16]), Lane::from_bytes([2; 16]));
    for _ in 0..3 {
        exchange(&a, &b, vec![outgoing(gap, 2)]).await;
    }
    exchange(&a, &b, vec![outgoing(begun, 1), outgoing(gap, 2)]).await;
    let count = link_position::lane_count(&b.node.store, &a.node.server).await;
    assert_eq!(count.unwrap().record.unwrap().lanes, 1);
}

/// An envelope that is refused alone, whatever it is about.
fn unreadable(lane: Lane, sequence: u64) -> Outgoing {
    Outgoing {
        kind: Kind::Notice,
        payload: HashedPayload::new(Bytes::from_static(b"?")),
        ..outgoing(lane, sequence)
    }
}

/// How many positions of a lane of a's are remembered at b.
async fn remembered(a: &Side, b: &Side, lane: Lane) -> usize {
    let mut remembered = 0;
    for slot in 0..LANE_RECENT_MAX {
        let found = link_position::recent(&b.node.store, &a.node.server, lane, slot).await;
        remembered += usize::from(found.unwrap().is_some());
    }
    remembered
}

/// Goal: the more lanes a link has, the fewer positions of each are remembered (LINK-060), and what is forgotten has no
/// effect when it comes again. Method: a hundred refused envelopes of one lane, twice, on a link that counts many.
#[tokio::test]
async fn many_lanes_are_remembered_in_part() {
    const REMEMBERED: usize = 64;
    let [a, b] = sides(["a.example", "b.example"]);
    peered(&a, &b).await;
    let (store, server) = (&b.node.store, &a.node.server);
    let before = link_position::lane_count(store, server).await.unwrap();
    let mut part = Part::default();
    let many = LaneCount {
        link_epoch: link(&a, &b).link_epoch,
        lanes: 20_000,
        former: 0,
    };
    link_position::put_lane_count(&mut part, server, &before, &many).unwrap();
    store.commit(part).await.unwrap();
    let lane = Lane::from_bytes([1; 16]);
    let sent: Vec<_> = (1..=100).map(|n| unreadable(lane, n)).collect();
    let refused = |result: &ItemResult| code(result) == Some(RefusalCode::Malformed);
    let first = exchange(&a, &b, sent.clone()).await;
    assert!(first.iter().all(refused), "{first:?}");
    assert_eq!(remembered(&a, &b, lane).await, REMEMBERED);
    let again = exchange(&a, &b, sent).await;
    let (forgotten, kept) = again.split_at(100 - REMEMBERED);
    let duplicate = |result: &ItemResult| *result == ItemResult::Duplicate;
    assert!(forgotten.iter().all(duplicate), "{forgotten:?}");
    assert!(kept.iter().all(refused), "{kept:?}");
}

/// Goal: of a former partner's lanes nothing is remembered but where they stand, so that nothing of before comes again under
/// a new agreement. Method: a transaction, a revocation by both and a sweep; then a new agreement, and the same bytes.
#[tokio::test]
async fn former_partners_lanes_stand() {
    let [a, b] = sides(["a.example", "b.example"]);
    peered(&a, &b).await;
    let (before, lane) = (link(&a, &b), Lane::from_bytes([1; 16]));
    let sent = [unreadable(lane, 1), unreadable(lane, 2)];
    let signed = transaction::sign(&a.node.keys.envelope_key(), &before, &sent).unwrap();
    let (status, _) = post(&a, &b, paths::TRANSACTIONS, signed.bytes.clone()).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(remembered(&a, &b, lane).await, 2);
    crate::delivery::expiry::sweep(&b.node).await.unwrap();
    assert_eq!(remembered(&a, &b, lane).await, 2, "while it lasts");

    for (at, of) in [(&a, &b), (&b, &a)] {
        peers::revoke(&at.node, &admin(), &of.node.server, "over")
            .await
            .unwrap();
    }
    crate::delivery::expiry::sweep(&b.node).await.unwrap();
    assert_eq!(remembered(&a, &b, lane).await, 0);
    peered(&a, &b).await;
    let (status, answer) = post(&a, &b, paths::TRANSACTIONS, signed.bytes).await;
    assert_eq!(status, StatusCode::OK);
    let receipt = receipt::decode(answer).unwrap();
    let receipt = receipt.verify(&b.node.keys.manifest(), &before, now(&a));
    let receipt = receipt.unwrap();
    assert_eq!(receipt.body().results, [const { ItemResult::Duplicate }; 2]);
    let head = receipt.body().lanes.get(&lane).unwrap();
    assert_eq!(head.sequence, 2);
}

/// Goal: mail of a homeserver that was restored from an old copy is not taken for what the peer had got
/// at its position: it waits; by a lane that starts its numbering again.
#[tokio::test]
async fn restored_mail_is_held() {
    let [a, b] = sides(["a.example", "b.example"]);
    let (mut alice, bob) = acquainted(&a, &b).await;
    let mut to_b = worker(&a, &b);
    for _ in 0..3 {
        alice.say(&a, ROOM, b"before", 3600).await;
    }
    drain(&mut to_b).await;
    assert_eq!(bob.heard(&b).await, 3);
    let (store, server) = (&a.node.store, &b.node.server);
    let mut part = Part::default();
    for tail in crate::store::outbox::tails(store, server, 10)
        .await
        .unwrap()
    {
        crate::store::outbox::delete_tail(&mut part, server, &tail);
    }
    store.commit(part).await.unwrap();
    alice.say(&a, ROOM, b"after", 3600).await;
    let mut restarted = worker(&a, &b);
    assert!(matches!(drain(&mut restarted).await, Step::Mail(_)));
    assert_eq!(waiting(&a, &b).await, 1);
    // An administrator sees it, and what to do.
    let status = a.node.links.status(server);
    assert_eq!(status.held_lanes, 1);
    assert!(status.next_attempt_ms.is_some());
    let warnings = peers::warnings(&a.node).await.unwrap().join("\n");
    assert!(
        warnings.contains("`hsctl outbox renumber b.example`"),
        "{warnings}"
    );

    // Numbered anew it goes out; what is sent in the old numbering is refused from then on.
    let old = link(&a, &b);
    peers::begin_link_epoch(&a.node, &admin(), server)
        .await
        .unwrap();
    assert_eq!(drain(&mut restarted).await, Step::Idle);
    assert_eq!(a.node.links.status(server).held_lanes, 0);
    assert_eq!(bob.heard(&b).await, 4);
    assert_eq!(waiting(&a, &b).await, 0);
    assert!(link(&a, &b).link_epoch > old.link_epoch);
    let key = a.node.keys.envelope_key();
    let signed = transaction::sign(&key, &old, &[outgoing(ROOM.into(), 5)]).unwrap();
    let (status, _) = post(&a, &b, paths::TRANSACTIONS, signed.bytes).await;
    assert_eq!(status, StatusCode::CONFLICT);
}

/// Goal: a link epoch that is begun with mail waiting numbers it from 1 in each lane, tombstones and all,
/// goes on after a restart where it was, and nothing is lost or doubled by it; by lanes of which one has
/// had an answer lost and one is new.
#[tokio::test]
async fn a_link_epoch_begins_with_mail_waiting() {
    let [a, b] = sides(["a.example", "b.example"]);
    let (mut alice, bob) = acquainted(&a, &b).await;
    let other = RoomId::from_bytes([8; 16]);
    for _ in 0..3 {
        alice.say(&a, ROOM, b"before", 3600).await;
    }
    drain(&mut worker(&a, &b)).await;
    a.network.set_down(true);
    alice.say(&a, ROOM, b"expires", 60).await;
    alice.say(&a, ROOM, b"waits", 3600).await;
    alice.create_room(&a, other, &[&bob]).await;
    assert!(matches!(drain(&mut worker(&a, &b)).await, Step::Delay(_)));
    peers::begin_link_epoch(&a.node, &admin(), &b.node.server)
        .await
        .unwrap();
    a.clock.advance_ms(61_000);
    b.clock.advance_ms(61_000);
    a.network.set_down(false);
    a.network.mute_from(paths::TRANSACTIONS);
    let mut first = worker(&a, &b);
    assert!(matches!(drain(&mut first).await, Step::Delay(_)));
    a.network.unmute();
    alice.say(&a, ROOM, b"after", 3600).await;
    alice.say(&a, other, b"after", 3600).await;
    let mut restarted = worker(&a, &b);
    assert_eq!(drain(&mut restarted).await, Step::Idle);
    assert_eq!(bob.heard(&b).await, 6);
    assert_eq!(waiting(&a, &b).await, 0);
    assert!(returned(&alice, &a, 5, RefusalCode::Expired).await);
    let position = |lane: RoomId| {
        let (store, server) = (&b.node.store, &a.node.server);
        link_position::position(store, server, lane.into())
    };
    let positions = [position(ROOM).await, position(other).await];
    let sequences = positions.map(|read| read.unwrap().record.unwrap().sequence);
    assert_eq!(sequences, [3, 2]);

    // Idle lanes go on from their base, and so do those that were never read in this epoch.
    alice.say(&a, ROOM, b"and on", 3600).await;
    assert_eq!(drain(&mut worker(&a, &b)).await, Step::Idle);
    assert_eq!(bob.heard(&b).await, 7);
}

/// Goal: a hub can't have a server keep rooms without end (ROOM-040): beyond the bound no further one comes in, while those
/// that stand go on and grow; and what the last of our people has left is counted no longer. By a count with place for
/// one room more.
#[tokio::test]
async fn a_hubs_rooms_are_bounded() {
    let [a, b] = sides(["a.example", "b.example"]);
    peered(&a, &b).await;
    let (alice, bob) = (person(&a, "alice").await, person(&b, "bob").await);
    let key = tally::rooms(&a.node.server);
    let counted = async || tally::get(&b.node.store, &key).await.unwrap();
    let before = [
        (ROOMS_OF_PEER_MAX - 1).to_be_bytes(),
        1_000_u64.to_be_bytes(),
    ];
    let mut part = Part::default();
    part.put(key.clone(), before.concat().into());
    b.node.store.commit(part).await.unwrap();
    let before = counted().await;
    let (first, second) = (RoomId::from_bytes([1; 16]), RoomId::from_bytes([2; 16]));
    let welcome = |room: RoomId, sequence| {
        let welcome = Payload::Welcome(Welcome {
            room,
            hub: a.node.server.clone(),
            epoch: 1,
            sender: alice.member.clone(),
            members: vec![alice.member.clone(), bob.member.clone()],
            recipients: vec![bob.of.device],
            welcome: welcome_message().into(),
            stamp_ms: now(&a),
        });
        envelope(&a, room.into(), sequence, &welcome)
    };
    let commit = |epoch, adds: Vec<Member>, removes: Vec<Member>| {
        let commit = Payload::Handshake(Handshake {
            room: first,
            hub: a.node.server.clone(),
            epoch,
            sender: alice.member.clone(),
            reference: 0,
            commit: commit_message(first, epoch, b"proposals").into(),
            adds,
            removes,
            welcome: None,
            group_info: None,
            stamp_ms: now(&a),
        });
        envelope(&a, first.into(), epoch + 1, &commit)
    };
    let results = exchange(&a, &b, vec![welcome(first, 1), welcome(second, 1)]).await;
    let codes: Vec<_> = results.iter().map(code).collect();
    assert_eq!(codes, [None, Some(RefusalCode::Quota)]);
    let small = counted().await;
    assert_eq!(small.entries, ROOMS_OF_PEER_MAX);

    let further = Member {
        device: DeviceId::from_bytes([0xff; 16]),
        ..alice.member.clone()
    };
    let results = exchange(&a, &b, vec![commit(1, vec![further], Vec::new())]).await;
    assert_eq!(code(&results[0]), None);
    let grown = counted().await;
    assert_eq!(grown.entries, small.entries);
    assert!(grown.bytes > small.bytes);

    let results = exchange(
        &a,
        &b,
        vec![commit(2, Vec::new(), vec![bob.member.clone()])],
    )
    .await;
    assert_eq!(code(&results[0]), None);
    let kept = crate::store::room::get(&b.node.store, first).await;
    assert_eq!(kept.unwrap(), None);
    assert_eq!(counted().await, before);
    let results = exchange(&a, &b, vec![welcome(second, 2)]).await;
    assert_eq!(code(&results[0]), None);
}

/// Goal: a follower that can't bear a room as large as the protocol allows says so, and what it bears (ROOM-029); by a
/// welcome to a room of exactly that many devices, and to one with one more.
#[tokio::test]
async fn a_room_that_is_too_large_is_named_so() {
    let [a, b] = sides(["a.example", "b.example"]);
    peered(&a, &b).await;
    let (alice, bob) = (person(&a, "alice").await, person(&b, "bob").await);
    let further = |n: usize| {
        let mut device = [0xff; 16];
        device[..8].copy_from_slice(&n.to_be_bytes());
        Member {
            device: DeviceId::from_bytes(device),
            ..alice.member.clone()
        }
    };
    let mut results = Vec::new();
    for (n, devices) in [(1, MEMBERS_MAX), (2, MEMBERS_MAX + 1)] {
        let room = RoomId::from_bytes([n; 16]);
        let two = [alice.member.clone(), bob.member.clone()];
        let welcome = Payload::Welcome(Welcome {
            room,
            hub: a.node.server.clone(),
            epoch: 1,
            sender: alice.member.clone(),
            members: two.into_iter().chain((2..devices).map(further)).collect(),
            recipients: vec![bob.of.device],
            welcome: welcome_message().into(),
            stamp_ms: now(&a),
        });
        let sent = Outgoing {
            kind: Kind::Welcome,
            payload: HashedPayload::new(welcome.encode().unwrap()),
            ..outgoing(room.into(), 1)
        };
        results.extend(exchange(&a, &b, vec![sent]).await);
    }
    let [ItemResult::Accepted, ItemResult::Refused(refusal)] = &results[..] else {
        panic!("{results:?}");
    };
    assert_eq!(refusal.code, RefusalCode::TooLarge);
    assert!(refusal.reason.contains("2000"), "{refusal}");
}
