//! A room goes on without whoever has no room for what is ordered, and he comes back by himself, or learns that he was
//! removed.

use federation_proto::payload::{Handshake, Payload, Removals};
use federation_proto::refusal::Refusal;
use homeserver_api::session::GroupInfo;

use super::*;
use crate::config::Config;
use crate::delivery::mailboxes::{Class, Fill};
use crate::federation::testing::sides_with;
use crate::rooms::mls_framing::testing::commit_message;
use crate::rooms::pace::DEVICE_COMMIT_EVERY_MS;

const REQUEST: RequestId = RequestId::from_bytes([1; 16]);

async fn ordered(author: &mut Person, hub: &Side, epoch: u64, removes: &[&Person]) {
    let outcome = author.submit(hub, commit(hub, epoch, removes)).await;
    assert!(matches!(outcome, Outcome::Accepted { .. }), "{outcome:?}");
}

/// The epochs that a device was told to have fallen out of step before.
async fn told(person: &Person, at: &Side) -> Vec<u64> {
    let inbox = person.inbox(at).await.into_iter();
    let epoch = inbox.filter_map(|body| match body {
        InboxBody::OutOfStep { epoch, .. } => Some(epoch),
        _ => None,
    });
    epoch.collect()
}

/// The person's device asks for the way back, and is answered.
async fn asks(person: &mut Person, at: &Side, hub: &Side) -> Result<GroupInfo, Refusal> {
    let ask = SubmissionBody::RequestGroupInfo {
        request: REQUEST,
        room: ROOM,
    };
    let outcome = person.submit(at, ask).await;
    assert!(matches!(outcome, Outcome::Accepted { .. }), "{outcome:?}");
    drain(&mut worker(at, hub)).await;
    drain(&mut worker(hub, at)).await;
    let answers = person.inbox(at).await.into_iter();
    let answers = answers.filter_map(|body| match body {
        InboxBody::GroupInfo { result, .. } => Some(result),
        _ => None,
    });
    answers.last().unwrap()
}

/// Alice at the hub, Bob at `b`, and Carol at `c`, which has taken nothing until its outbox was full; the room has gone on
/// since. And the epoch that it is in.
async fn left_behind() -> ([Side; 3], [Person; 3], u64) {
    let own_max = |config: &mut Config| config.limits.peer_outbox_bytes_max = 16_000;
    let [a, b, c] = sides_with(["a.example", "b.example", "c.example"], own_max);
    let (mut alice, bob, carol) = three_acquainted(&a, &b, &c).await;
    drain(&mut worker(&a, &b)).await;
    drain(&mut worker(&a, &c)).await;
    let mut epoch = 1;
    while !room_at(&a).await.unwrap().is_server_behind(&c.node.server) {
        ordered(&mut alice, &a, epoch, &[]).await;
        epoch += 1;
        assert!(epoch < 500, "nothing fills the outbox");
        drain(&mut worker(&a, &b)).await;
        // As fast as one device may.
        for side in [&a, &b, &c] {
            side.clock.advance_ms(DEVICE_COMMIT_EVERY_MS);
        }
    }
    ordered(&mut alice, &a, epoch, &[]).await;
    drain(&mut worker(&a, &b)).await;
    assert_eq!(room_at(&b).await.unwrap().epoch, epoch + 1);
    ([a, b, c], [alice, bob, carol], epoch + 1)
}

/// Goal: a full outbox stops no room, and the organisation behind it comes back when it takes its mail, although nothing more
/// is sent: its homeserver is told in the room's order, its devices by it, and with the answer to the first of them it
/// is in step again; until then a message says whom it can't reach. Method: a follower that is away while commits are
/// ordered beside another one.
#[tokio::test]
async fn a_follower_with_a_full_outbox_comes_back() {
    let ([a, _b, c], [mut alice, _bob, mut carol], epoch) = left_behind().await;
    let refused = async |alice: &mut Person| {
        let before = alice.inbox(&a).await.len();
        let attributes = homeserver_api::attributes::MessageAttributes {
            ttl_seconds: 3600,
            burn_seconds: 0,
            label: 0,
            file: false,
        };
        let epoch = room_at(&a).await.unwrap().epoch;
        let message =
            crate::rooms::mls_framing::testing::application_message(ROOM, epoch, attributes, b"x");
        let message = message.into();
        let said = SubmissionBody::Message {
            room: ROOM,
            message,
        };
        let outcome = alice.submit(&a, said).await;
        assert!(matches!(outcome, Outcome::Accepted { .. }), "{outcome:?}");
        let inbox = alice.inbox(&a).await;
        let servers = inbox[before..].iter().filter_map(|body| match body {
            InboxBody::Returned {
                server, refusal, ..
            } => Some((server.clone(), refusal.code)),
            _ => None,
        });
        servers.collect::<Vec<_>>()
    };
    let unreached = vec![(c.node.server.clone(), RefusalCode::Quota)];
    assert_eq!(refused(&mut alice).await, unreached);

    drain(&mut worker(&a, &c)).await;
    let behind = room_at(&c).await.unwrap();
    assert!(behind.epoch < epoch, "{}", behind.epoch);
    assert_eq!(told(&carol, &c).await, [behind.epoch + 1]);
    let info = asks(&mut carol, &c, &a).await.unwrap();
    assert_eq!(info.epoch, epoch);
    let (there, here) = (room_at(&a).await.unwrap(), room_at(&c).await.unwrap());
    assert!(there.servers_behind.is_empty());
    assert_eq!((here.epoch, &here.members), (epoch, &there.members));
    assert!(here.behind.is_empty());

    // From here on as before: what is ordered comes, and what is written.
    ordered(&mut alice, &a, epoch, &[]).await;
    assert_eq!(refused(&mut alice).await, []);
    drain(&mut worker(&a, &c)).await;
    assert_eq!(room_at(&c).await.unwrap().epoch, epoch + 1);
    let inbox = carol.inbox(&c).await;
    assert!(matches!(
        inbox[inbox.len() - 2..],
        [InboxBody::Commit { .. }, InboxBody::Message { .. }]
    ));
}

/// Goal: who is removed while his homeserver takes nothing is out at once, and learns it when that takes its mail again;
/// his homeserver forgets the room. Method: as above, and the owner removes Carol.
#[tokio::test]
async fn who_was_removed_meanwhile_learns_it() {
    let ([a, b, c], [mut alice, _bob, mut carol], epoch) = left_behind().await;
    ordered(&mut alice, &a, epoch, &[&carol]).await;
    drain(&mut worker(&a, &b)).await;
    for side in [&a, &b] {
        assert!(!room_at(side).await.unwrap().has(&carol.member));
    }
    drain(&mut worker(&a, &c)).await;
    assert_eq!(told(&carol, &c).await.len(), 1);
    let refusal = asks(&mut carol, &c, &a).await.unwrap_err();
    assert_eq!(refusal.code, RefusalCode::UnknownRoom);
    assert!(room_at(&c).await.is_none());
}

/// Goal: an inbox without room at a follower puts off neither what its neighbours get nor that its device is removed, and the
/// device is told once. Method: two devices at `b`, one of them with a full inbox, while the room goes on.
#[tokio::test]
async fn a_full_inbox_at_a_follower_stops_nobody() {
    let [a, b] = sides(["a.example", "b.example"]);
    peered(&a, &b).await;
    let mut alice = person(&a, "alice").await;
    let (mut bob, bert) = (person(&b, "bob").await, person(&b, "bert").await);
    alice.create_room(&a, ROOM, &[&bob, &bert]).await;
    let mut to_b = worker(&a, &b);
    drain(&mut to_b).await;
    let full = Fill::full_of(Class::Handshake);
    b.node.mailboxes.set_fill(bob.of.device, full, now(&b));
    for epoch in 1..4 {
        ordered(&mut alice, &a, epoch, &[]).await;
        assert_eq!(drain(&mut to_b).await, Step::Idle);
    }
    assert_eq!(waiting(&a, &b).await, 0, "nothing is put off");
    let commits = async |person: &Person| {
        let inbox = person.inbox(&b).await.into_iter();
        let commits = inbox.filter(|body| matches!(body, InboxBody::Commit { .. }));
        commits.count()
    };
    assert_eq!((commits(&bob).await, commits(&bert).await), (0, 3));
    assert_eq!(told(&bob, &b).await, [2]);
    assert!(told(&bert, &b).await.is_empty());

    ordered(&mut alice, &a, 4, &[&bob]).await;
    assert_eq!(drain(&mut to_b).await, Step::Idle);
    let room = room_at(&b).await.unwrap();
    assert!(!room.has(&bob.member) && room.behind.is_empty());
    let ask = SubmissionBody::RequestGroupInfo {
        request: REQUEST,
        room: ROOM,
    };
    let outcome = bob.submit(&b, ask).await;
    let code = match outcome {
        Outcome::Refused(refusal) => Some(refusal.code),
        _ => None,
    };
    assert_eq!(code, Some(RefusalCode::UnknownRoom));
}

/// Goal: a device that had no room for removals gets them when it asks, for no commit passes without them. Method: Bert
/// leaves while Alice's inbox is full.
#[tokio::test]
async fn missed_removals_come_with_the_answer() {
    let [a, b] = sides(["a.example", "b.example"]);
    peered(&a, &b).await;
    let mut alice = person(&a, "alice").await;
    let (bob, mut bert) = (person(&b, "bob").await, person(&b, "bert").await);
    alice.create_room(&a, ROOM, &[&bob, &bert]).await;
    drain(&mut worker(&a, &b)).await;
    let full = Fill::full_of(Class::Handshake);
    a.node.mailboxes.set_fill(alice.of.device, full, now(&a));
    bert.submit(&b, SubmissionBody::Leave { room: ROOM }).await;
    drain(&mut worker(&b, &a)).await;
    assert_eq!(told(&alice, &a).await, [1]);
    a.node
        .mailboxes
        .set_fill(alice.of.device, Fill::default(), now(&a));
    let info = asks(&mut alice, &a, &b).await.unwrap();
    assert_eq!(info.epoch, 1);
    let inbox = alice.inbox(&a).await;
    let removals = |body: &InboxBody| matches!(body, InboxBody::Removals { epoch: 1, proposals, .. } if proposals.len() == 1);
    assert!(inbox.iter().any(removals), "{inbox:?}");
}

/// Goal: a follower that sees that something is missing has its devices ask, by whatever shows it, and once; what it has had
/// shows nothing. Method: a commit and removals of a later epoch, and such of an epoch that is over, made up.
#[tokio::test]
async fn a_gap_is_noticed() {
    let [a, b] = sides(["a.example", "b.example"]);
    let (mut alice, bob) = acquainted(&a, &b).await;
    ordered(&mut alice, &a, 1, &[]).await;
    drain(&mut worker(&a, &b)).await;
    let nothing = |epoch| {
        Payload::Removals(Removals {
            room: ROOM,
            epoch,
            stamp_ms: 1,
            removals: Vec::new(),
        })
    };
    let later = Payload::Handshake(Handshake {
        room: ROOM,
        hub: a.node.server.clone(),
        epoch: 7,
        sender: alice.member.clone(),
        reference: 1,
        commit: commit_message(ROOM, 7, &[2; 40]).into(),
        adds: Vec::new(),
        removes: Vec::new(),
        welcome: None,
        group_info: None,
        stamp_ms: 1,
    });
    for (sequence, payload, expected) in [
        (3, nothing(1), vec![]),
        (4, later, vec![8]),
        (5, nothing(9), vec![8]),
    ] {
        let sent = bad_peers::envelope(&a, ROOM.into(), sequence, &payload);
        let results = exchange(&a, &b, vec![sent]).await;
        assert_eq!(bad_peers::code(&results[0]), None);
        assert_eq!(told(&bob, &b).await, expected);
    }
    assert_eq!(room_at(&b).await.unwrap().epoch, 2);
}
