//! `waiting_bytes_max` of an agreement: what waits for a peer, and what waits here from one, is counted and
//! bounded, and nothing that was accepted is lost by it.

use homeserver_api::admin::Terms;

use super::*;
use crate::config::Config;
use crate::delivery::inbox;
use crate::delivery::mailboxes::{Class, Fill};
use crate::federation::testing::sides_with;
use crate::store::tally::{self, Tally};

const MESSAGE: [u8; 1000] = [b'm'; 1000];

/// As [`acquainted`], with an agreement by which only so much waits.
async fn acquainted_within(a: &Side, b: &Side, bytes_max: u64) -> (Person, Person) {
    let terms = Terms {
        waiting_bytes_max: bytes_max,
        ..Terms::default()
    };
    let acceptance = accepted(a, b, Some(terms)).await;
    let countersignature = countersigned(a, acceptance).await;
    peers::take(&b.node, &admin(), &countersignature)
        .await
        .unwrap();
    let mut alice = person(a, "alice").await;
    let bob = person(b, "bob").await;
    alice.create_room(a, ROOM, &[&bob]).await;
    drain(&mut worker(a, b)).await;
    (alice, bob)
}

async fn outbound(from: &Side, to: &Side) -> Tally {
    let key = tally::outbound(&to.node.server);
    tally::get(&from.node.store, &key).await.unwrap()
}

async fn inbound(at: &Side, from: &Side) -> Tally {
    let key = tally::inbound(&from.node.server);
    tally::get(&at.node.store, &key).await.unwrap()
}

/// Goal: how much waits here for a peer is not the peer's to say: whatever it offers, our own bound holds, for messages
/// and, four times as much, for handshakes (LINK-055). By an offer of as much as can be written, and a bound of 4,000
/// bytes.
#[tokio::test]
async fn our_own_outbox_is_bounded_by_us() {
    let own_max = |config: &mut Config| config.limits.peer_outbox_bytes_max = 4_000;
    let [a, b] = sides_with(["a.example", "b.example"], own_max);
    let (mut alice, _) = acquainted_within(&a, &b, u64::MAX).await;
    let mut said = 0;
    let refusal = loop {
        match alice.say(&a, ROOM, &MESSAGE, 3600).await {
            Outcome::Refused(refusal) => break refusal,
            _ => said += 1,
        }
        assert!(said <= 4, "more than our own bound");
    };
    assert_eq!((said, refusal.code), (3, RefusalCode::Quota));
    let mut rooms = 0;
    let carol = person(&b, "carol").await;
    for n in 0..150 {
        let room = RoomId::from_bytes([100 + n; 16]);
        match alice.create_room(&a, room, &[&carol]).await {
            Outcome::Refused(refusal) => {
                assert_eq!(refusal.code, RefusalCode::Quota);
                break;
            }
            _ => rooms += 1,
        }
    }
    assert!((1..150).contains(&rooms), "{rooms}");
    let tally = outbound(&a, &b).await;
    assert!((4_000..=16_000).contains(&tally.bytes), "{tally:?}");
}

/// Goal: what one account has sent and waits is bounded by itself, whoever it is for, and told; others of its homeserver find
/// room beside it; what is taken, given up or buried is counted out. Method: messages until one is refused, by a bound of
/// three; then the peer takes them, and others expire.
#[tokio::test]
async fn one_account_leaves_room_for_others() {
    let bound = |config: &mut Config| config.limits.account_outbox_messages_max = 3;
    let [a, b] = sides_with(["a.example", "b.example"], bound);
    let (mut alice, bob) = acquainted_within(&a, &b, u64::MAX).await;
    let mut anna = person(&a, "anna").await;
    let other = RoomId::from_bytes([9; 16]);
    anna.create_room(&a, other, &[&bob]).await;
    drain(&mut worker(&a, &b)).await;
    let sent = async || {
        let key = tally::sent(alice.of.account);
        tally::get(&a.node.store, &key).await.unwrap().entries
    };
    assert_eq!(sent().await, 0, "what was taken is counted out");
    let mut said = async |ttl_seconds| alice.say(&a, ROOM, &MESSAGE, ttl_seconds).await;
    for _ in 0..3 {
        let taken = said(3600).await;
        assert!(matches!(taken, Outcome::Accepted { .. }), "{taken:?}");
    }
    let Outcome::Refused(refusal) = said(3600).await else {
        panic!("beyond the bound");
    };
    assert_eq!(refusal.code, RefusalCode::Quota);
    assert!(refusal.reason.contains("3 of at most 3"), "{refusal}");
    let beside = anna.say(&a, other, &MESSAGE, 3600).await;
    assert!(matches!(beside, Outcome::Accepted { .. }), "{beside:?}");

    assert_eq!(drain(&mut worker(&a, &b)).await, Step::Idle);
    assert_eq!(bob.heard(&b).await, 4);
    let again = said(60).await;
    assert!(matches!(again, Outcome::Accepted { .. }), "{again:?}");
    a.clock.advance_ms(61_000);
    drain(&mut worker(&a, &b)).await;
    let key = tally::sent(alice.of.account);
    let left = tally::get(&a.node.store, &key).await.unwrap();
    assert_eq!(left, Tally::default());
}

/// Goal: a commit that is refused because too much waits for one peer of its room leaves nothing behind: neither in inboxes
/// here, nor in another peer's outbox, nor a room; and what is sent after it is judged as if it had never been. Method: a
/// room of devices of three organisations, for one of which as much waits as may.
#[tokio::test]
async fn refused_commits_leave_nothing() {
    let own_max = |config: &mut Config| config.limits.peer_outbox_bytes_max = 1_000;
    let [a, b, c] = sides_with(["a.example", "b.example", "c.example"], own_max);
    let (mut alice, bob) = acquainted_within(&a, &b, u64::MAX).await;
    peered(&a, &c).await;
    let anna = person(&a, "anna").await;
    let carol = person(&c, "carol").await;
    let refused = async |alice: &mut Person, room, with: &[&Person]| {
        let outcome = alice.create_room(&a, room, with).await;
        matches!(outcome, Outcome::Refused(refusal) if refusal.code == RefusalCode::Quota)
    };
    let mut room = 100;
    while !refused(&mut alice, RoomId::from_bytes([room; 16]), &[&carol]).await {
        room += 1;
    }
    let shared = RoomId::from_bytes([99; 16]);
    acknowledge_all(&a, &anna).await;
    let refusals = async || {
        let page = crate::audit::page(&a.node.store, a.node.random.as_ref(), 0, 1000)
            .await
            .unwrap();
        let actions = page.entries.into_iter().map(|entry| entry.action);
        actions.filter(|action| action == "commit.refused").count()
    };
    let (before, noted) = (outbound(&a, &b).await, refusals().await);
    assert!(refused(&mut alice, shared, &[&anna, &bob, &carol]).await);
    assert_eq!(outbound(&a, &b).await, before);
    assert!(anna.inbox(&a).await.is_empty());
    let unknown = alice.say(&a, shared, &MESSAGE, 3600).await;
    assert!(
        matches!(&unknown, Outcome::Refused(refusal) if refusal.code == RefusalCode::UnknownRoom),
        "{unknown:?}"
    );
    assert_eq!(refusals().await, noted + 1);
}

/// Goal: a peer that asks without end and takes nothing stops no room that it shares with others: what it asks for takes
/// no room from what is ordered, and when that is used up too, its people can be removed all the same (LINK-055). Method:
/// questions until they are refused and then commits until the room goes on without a peer that is away, beside a third one.
#[tokio::test]
async fn a_peer_that_takes_nothing_stops_no_room() {
    let own_max = |config: &mut Config| config.limits.peer_outbox_bytes_max = 2_000;
    let [a, b, c] = sides_with(["a.example", "b.example", "c.example"], own_max);
    let (mut alice, bob, mut carol) = three_acquainted(&a, &b, &c).await;
    drain(&mut worker(&a, &b)).await;
    drain(&mut worker(&a, &c)).await;
    let mut to_a = worker(&c, &a);
    for n in 0..60_u8 {
        let claim = SubmissionBody::ClaimKeys {
            request: RequestId::from_bytes([n; 16]),
            address: "nobody@a.example".parse().unwrap(),
            known: Vec::new(),
        };
        carol.submit(&c, claim).await;
        drain(&mut to_a).await;
    }
    let answers = outbound(&a, &c).await;
    assert!((3_500..=4_000).contains(&answers.bytes), "{answers:?}");
    let no_room = |body: &InboxBody| match body {
        InboxBody::KeyMaterial { result, .. } => {
            matches!(result, Err(refusal) if refusal.code == RefusalCode::Quota)
        }
        _ => false,
    };
    let inbox = carol.inbox(&c).await;
    assert!(inbox.iter().any(no_room), "{inbox:?}");

    let room = async || {
        let room = crate::store::room::get(&a.node.store, ROOM).await;
        room.unwrap().unwrap().0
    };
    let mut epoch = 1;
    while !room().await.is_server_behind(&c.node.server) {
        let ordered = alice.submit(&a, commit(&a, epoch, &[])).await;
        assert!(matches!(ordered, Outcome::Accepted { .. }), "{ordered:?}");
        drain(&mut worker(&a, &b)).await;
        epoch += 1;
    }
    assert!(epoch > 3, "answers took all the room");
    let full = outbound(&a, &c).await;
    let ordered = alice.submit(&a, commit(&a, epoch, &[])).await;
    assert!(matches!(ordered, Outcome::Accepted { .. }), "{ordered:?}");
    epoch += 1;
    assert_eq!(outbound(&a, &c).await, full, "told once");
    let removed = alice.submit(&a, commit(&a, epoch, &[&carol])).await;
    assert!(matches!(removed, Outcome::Accepted { .. }), "{removed:?}");
    drain(&mut worker(&a, &b)).await;
    let commits = |body: &InboxBody| matches!(body, InboxBody::Commit { .. });
    let inbox = bob.inbox(&b).await;
    let arrived = inbox.iter().filter(|body| commits(body)).count();
    assert_eq!(u64::try_from(arrived).unwrap(), epoch);
}

/// Goal: a partner that lets nothing wait for it keeps no room from changing; by one with a bound of zero.
#[tokio::test]
async fn handshakes_wait_for_everybody() {
    let [a, b] = sides(["a.example", "b.example"]);
    let (mut alice, bob) = acquainted_within(&a, &b, 0).await;
    let outcome = alice.say(&a, ROOM, &MESSAGE, 3600).await;
    assert!(matches!(outcome, Outcome::Refused(_)), "{outcome:?}");
    let another = RoomId::from_bytes([100; 16]);
    let outcome = alice.create_room(&a, another, &[&bob]).await;
    assert!(matches!(outcome, Outcome::Accepted { .. }), "{outcome:?}");
    drain(&mut worker(&a, &b)).await;
    assert_eq!(outbound(&a, &b).await, Tally::default());
}

async fn acknowledge_all(at: &Side, person: &Person) {
    let device = person.of.device;
    let page = inbox::read(&at.node, device, 0, 1000, usize::MAX).await;
    let sent = page.unwrap().deliveries.into_iter().map(|(_, sent)| sent);
    inbox::acknowledge(&at.node, device, sent.collect())
        .await
        .unwrap();
}

/// Goal: no more waits for a peer than was agreed: a message beyond it is refused with what to do, one
/// after the peer has taken some goes, and what is counted is what is stored, to the byte; by a peer that
/// is away for a while.
#[tokio::test]
async fn an_outbox_is_bounded() {
    let [a, b] = sides(["a.example", "b.example"]);
    let (mut alice, bob) = acquainted_within(&a, &b, 4_000).await;
    acknowledge_all(&b, &bob).await;
    assert_eq!(outbound(&a, &b).await, Tally::default());
    for _ in 0..3 {
        let outcome = alice.say(&a, ROOM, &MESSAGE, 3600).await;
        assert!(matches!(outcome, Outcome::Accepted { .. }), "{outcome:?}");
    }
    let outcome = alice.say(&a, ROOM, &MESSAGE, 3600).await;
    let Outcome::Refused(refusal) = outcome else {
        panic!("{outcome:?}");
    };
    assert_eq!(refusal.code, RefusalCode::Quota);
    assert!(refusal.reason.contains("b.example"), "{refusal}");
    let rows = crate::store::outbox::rows_after(&a.node.store, &b.node.server, None, 10).await;
    let lengths = rows.unwrap().into_iter().map(|waits| {
        let value = crate::store::outbox::value(&waits.row).unwrap();
        u64::try_from(value.len()).unwrap()
    });
    let tally = outbound(&a, &b).await;
    assert_eq!((tally.entries, tally.bytes), (3, lengths.sum()));

    drain(&mut worker(&a, &b)).await;
    assert_eq!(outbound(&a, &b).await, Tally::default());
    assert_eq!(bob.heard(&b).await, 3);
    acknowledge_all(&b, &bob).await;
    let outcome = alice.say(&a, ROOM, &MESSAGE, 3600).await;
    assert!(matches!(outcome, Outcome::Accepted { .. }), "{outcome:?}");
    drain(&mut worker(&a, &b)).await;
    assert_eq!(bob.heard(&b).await, 1);
}

/// Goal: several submissions at once don't get past the bound together; by a crowd of them, of which each
/// alone would fit.
#[tokio::test]
async fn a_crowd_does_not_get_past_the_bound() {
    let [a, b] = sides(["a.example", "b.example"]);
    acquainted_within(&a, &b, 4_000).await;
    let bob = person(&b, "bert").await;
    let mut people = Vec::new();
    for n in 0..8_u8 {
        let mut person = person(&a, &format!("person{n}")).await;
        let room = RoomId::from_bytes([n; 16]);
        person.create_room(&a, room, &[&bob]).await;
        people.push((person, room));
    }
    drain(&mut worker(&a, &b)).await;
    let said = people.iter_mut().map(|(person, room)| {
        let (room, side) = (*room, &a);
        async move { person.say(side, room, &MESSAGE, 3600).await }
    });
    let outcomes = futures_util::future::join_all(said).await;
    let taken = outcomes
        .iter()
        .filter(|outcome| matches!(outcome, Outcome::Accepted { .. }))
        .count();
    assert_eq!(taken, 3, "{outcomes:?}");
    assert!(outbound(&a, &b).await.bytes <= 4_000);
}

/// Goal: no more of a peer's mail waits here than was agreed: what is beyond it is put off, arrives once
/// there is room, in its order, and a commit still passes; by a recipient who is offline for a while.
#[tokio::test]
async fn what_waits_here_is_bounded() {
    let [a, b] = sides(["a.example", "b.example"]);
    let (mut alice, bob) = acquainted_within(&a, &b, 10_000).await;
    acknowledge_all(&b, &bob).await;
    assert_eq!(inbound(&b, &a).await, Tally::default());
    let mut to_b = worker(&a, &b);
    for _ in 0..12 {
        alice.say(&a, ROOM, &MESSAGE, 3600).await;
        drain(&mut to_b).await;
    }
    let arrived = bob.heard(&b).await;
    assert!((7..=9).contains(&arrived), "{arrived}");
    let tally = inbound(&b, &a).await;
    assert_eq!(tally.entries, u64::try_from(arrived).unwrap());
    assert!(tally.bytes <= 10_000, "{tally:?}");
    let waits = outbound(&a, &b).await.entries;
    assert_eq!(waits, u64::try_from(12 - arrived).unwrap());

    acknowledge_all(&b, &bob).await;
    assert_eq!(inbound(&b, &a).await, Tally::default());
    a.clock.advance_ms(400_000);
    assert_eq!(drain(&mut to_b).await, Step::Idle);
    assert_eq!(bob.heard(&b).await, 12 - arrived);
}

/// Goal: what waits for several devices is counted once, and gone when the last has it or it has expired;
/// by a message for two.
#[tokio::test]
async fn shared_mail_is_counted_once() {
    let [a, b] = sides(["a.example", "b.example"]);
    peered(&a, &b).await;
    let mut alice = person(&a, "alice").await;
    let (bob, bert) = (person(&b, "bob").await, person(&b, "bert").await);
    alice.create_room(&a, ROOM, &[&bob, &bert]).await;
    let mut to_b = worker(&a, &b);
    drain(&mut to_b).await;
    acknowledge_all(&b, &bob).await;
    acknowledge_all(&b, &bert).await;
    alice.say(&a, ROOM, &MESSAGE, 60).await;
    drain(&mut to_b).await;
    let tally = inbound(&b, &a).await;
    assert_eq!(tally.entries, 3);
    assert!((1_000..1_500).contains(&tally.bytes), "{tally:?}");
    acknowledge_all(&b, &bob).await;
    assert_eq!(inbound(&b, &a).await.entries, 2);
    b.clock.advance_ms(200_000);
    crate::delivery::expiry::sweep(&b.node).await.unwrap();
    assert_eq!(inbound(&b, &a).await, Tally::default());
}

/// Goal: a hub whose own device has no room left takes a peer's commit all the same, and one that removes that device;
/// the device is told. Method: a full inbox beside the author's room.
#[tokio::test]
async fn a_hub_takes_commits_beside_a_full_inbox() {
    let [a, b] = sides(["a.example", "b.example"]);
    let (alice, mut bob) = acquainted(&a, &b).await;
    let full = Fill::full_of(Class::Handshake);
    a.node.mailboxes.set_fill(alice.of.device, full, now(&a));
    bob.submit(&b, commit(&a, 1, &[])).await;
    let mut to_a = worker(&b, &a);
    assert_eq!(drain(&mut to_a).await, Step::Idle);
    let told = InboxBody::OutOfStep {
        room: ROOM,
        epoch: 2,
    };
    assert_eq!(alice.inbox(&a).await.last(), Some(&told));
    drain(&mut worker(&a, &b)).await;
    bob.submit(&b, commit(&a, 2, &[&alice])).await;
    assert_eq!(drain(&mut to_a).await, Step::Idle);
    assert_eq!(waiting(&b, &a).await, 0);
    assert_eq!(dead_letters::newest(&b.node.store, 10).await.unwrap(), []);
    let room = crate::store::room::get(&a.node.store, ROOM).await;
    let room = room.unwrap().unwrap().0;
    assert!(!room.has(&alice.member));
}
