//! Submissions of devices of one homeserver, and what their inboxes hold afterwards.

use std::sync::Arc;

use bytes::Bytes;
use federation_proto::ids::{DeviceId, Handle, Member, RequestId, RoomId};
use federation_proto::refusal::{Refusal, RefusalCode};
use homeserver_api::admin::ChangeUserRequest;
use homeserver_api::attributes::MessageAttributes;
use homeserver_api::policy::{Bounds, UserTypePolicy};
use homeserver_api::session::{
    Commit, DeliveryBody, Outcome, Submission, SubmissionBody, SubmissionResult,
};

use super::batch::Batch;
use super::envelope::append_if_room;
use super::inbox;
use super::limits::{INBOX_BYTES_MAX, INBOX_HANDSHAKE_FACTOR, INBOX_RECOUNT_MS};
use super::mailboxes::{Class, Fill, Item};
use super::submit::submit;
use crate::audit::Actor;
use crate::identity::testing::{device, member};
use crate::identity::{accounts, devices, key_packages, user_types};
use crate::node::Node;
use crate::node::testing::{ManualClock, node};
use crate::rooms::mls_framing::testing::{
    application_message, commit_message, group_info_message, welcome_message,
};
use crate::rooms::testing;
use crate::store::device::DeviceOf;
use crate::store::inbox::InboxBody;
use crate::store::payload;

const ROOM: RoomId = RoomId::from_bytes([5; 16]);
const HOUR: MessageAttributes = MessageAttributes {
    ttl_seconds: 3600,
    burn_seconds: 0,
    label: 0,
    file: false,
};

struct World {
    node: Arc<Node>,
    clock: Arc<ManualClock>,
}

impl World {
    fn new() -> Self {
        let (node, clock) = node("a.example");
        Self { node, clock }
    }

    async fn submit(&self, of: DeviceOf, counter: u64, mut body: SubmissionBody) -> Outcome {
        testing::fill(&self.node, of, &mut body);
        let submission = Submission { counter, body };
        let results = submit(&self.node, of, std::slice::from_ref(&submission)).await;
        let outcome = results.unwrap().pop().unwrap().outcome;
        testing::submitted(of, &submission.body, &outcome);
        outcome
    }

    /// A room of these devices, the first of which makes it with its submission 1.
    async fn room(&self, devices: &[DeviceOf]) {
        let (creator, others) = devices.split_first().unwrap();
        let adds = others.iter().map(|of| member(&self.node, *of)).collect();
        let outcome = self.submit(*creator, 1, commit(0, adds, vec![])).await;
        assert!(matches!(outcome, Outcome::Accepted { .. }), "{outcome:?}");
        for device in devices {
            let (_, sent) = self.inbox(*device).await;
            inbox::acknowledge(&self.node, device.device, sent)
                .await
                .unwrap();
        }
    }

    async fn inbox(&self, of: DeviceOf) -> (Vec<DeliveryBody>, Vec<inbox::Sent>) {
        let page = inbox::read(&self.node, of.device, 0, 1000, usize::MAX);
        let deliveries = page.await.unwrap().deliveries.into_iter();
        deliveries
            .map(|(delivery, sent)| (delivery.body, sent))
            .unzip()
    }

    async fn messages(&self, of: DeviceOf) -> Vec<Bytes> {
        let bodies = self.inbox(of).await.0.into_iter();
        bodies
            .filter_map(|body| match body {
                DeliveryBody::Message { message, .. } => Some(message),
                _ => None,
            })
            .collect()
    }
}

fn commit(epoch: u64, adds: Vec<Member>, removes: Vec<Member>) -> SubmissionBody {
    SubmissionBody::Commit(Commit {
        room: ROOM,
        hub: "a.example".parse().unwrap(),
        epoch,
        commit: commit_message(ROOM, epoch, b"proposals").into(),
        welcome: (!adds.is_empty()).then(|| welcome_message().into()),
        adds,
        removes,
        group_info: group_info_message(ROOM, epoch + 1).into(),
        founding: None,
    })
}

fn message(epoch: u64, attributes: MessageAttributes, inside: &[u8]) -> SubmissionBody {
    SubmissionBody::Message {
        room: ROOM,
        message: application_message(ROOM, epoch, attributes, inside).into(),
    }
}

fn code(outcome: &Outcome) -> Option<RefusalCode> {
    match outcome {
        Outcome::Refused(refusal) => Some(refusal.code),
        Outcome::Accepted { .. } => None,
        Outcome::Deferred { .. } => panic!("deferred"),
    }
}

/// Goal: a message reaches every other device of the room once and never its sender; a repeated
/// counter gets its first result and delivers nothing; a gap is refused and uses nothing up.
#[tokio::test]
async fn delivered_once() {
    let world = World::new();
    let (alice, bob) = (
        device(&world.node, "alice").await,
        device(&world.node, "bob").await,
    );
    world.room(&[alice, bob]).await;
    let gap = world.submit(alice, 5, message(1, HOUR, b"x")).await;
    assert_eq!(code(&gap), Some(RefusalCode::CounterGap));
    let first = world.submit(alice, 2, message(1, HOUR, b"one")).await;
    world.clock.advance_ms(1000);
    let again = world.submit(alice, 2, message(1, HOUR, b"another")).await;
    assert_eq!(first, again);
    let frame = [(2, 1, &b"one"[..]), (3, 1, b"two"), (4, 0, b"three")];
    let frame = frame.map(|(counter, epoch, inside)| Submission {
        counter,
        body: message(epoch, HOUR, inside),
    });
    let results = submit(&world.node, alice, &frame);
    let counters: Vec<u64> = results.await.unwrap().iter().map(|r| r.counter).collect();
    assert_eq!(counters, [2, 3, 4]);
    let got = world.messages(bob).await;
    let expected = [(1, &b"one"[..]), (1, b"two"), (0, b"three")]
        .map(|(epoch, inside)| Bytes::from(application_message(ROOM, epoch, HOUR, inside)));
    assert_eq!(got, expected);
    assert!(world.messages(alice).await.is_empty());
}

/// Goal: what a message says of itself is held to the sender's rules and to the room; by one message
/// for each way to be wrong.
#[tokio::test]
async fn bad_messages_are_refused() {
    let world = World::new();
    let (alice, bob) = (
        device(&world.node, "alice").await,
        device(&world.node, "bob").await,
    );
    let eve = device(&world.node, "eve").await;
    world.room(&[alice, bob]).await;
    let short = MessageAttributes {
        ttl_seconds: 59,
        ..HOUR
    };
    let burning = MessageAttributes {
        burn_seconds: 90_000,
        ..HOUR
    };
    let other_room = SubmissionBody::Message {
        room: ROOM,
        message: application_message(RoomId::from_bytes([6; 16]), 1, HOUR, b"x").into(),
    };
    let noise = SubmissionBody::Message {
        room: ROOM,
        message: Bytes::from_static(b"noise"),
    };
    let large = message(1, HOUR, &[0; 70_000]);
    for (n, (body, expected)) in [
        (message(1, short, b"x"), RefusalCode::TtlOutOfBounds),
        (message(1, burning, b"x"), RefusalCode::BurnOutOfBounds),
        (message(2, HOUR, b"x"), RefusalCode::Malformed),
        (other_room, RefusalCode::Malformed),
        (noise, RefusalCode::Malformed),
        (large, RefusalCode::TooLarge),
    ]
    .into_iter()
    .enumerate()
    {
        let counter = u64::try_from(n).unwrap() + 2;
        let outcome = world.submit(alice, counter, body).await;
        assert_eq!(code(&outcome), Some(expected), "{n}");
    }
    let outcome = world.submit(eve, 1, message(1, HOUR, b"x")).await;
    assert_eq!(code(&outcome), Some(RefusalCode::UnknownRoom));
    assert!(world.messages(bob).await.is_empty());
    let removed = commit(1, vec![], vec![member(&world.node, bob)]);
    world.submit(alice, 8, removed).await;
    let outcome = world.submit(bob, 1, message(1, HOUR, b"x")).await;
    assert_eq!(code(&outcome), Some(RefusalCode::UnknownRoom));
}

/// Goal: the hub takes one commit for each epoch, tells the loser, and keeps 32 epochs; lists that
/// contradict the room are refused.
#[tokio::test]
async fn one_commit_for_each_epoch() {
    let world = World::new();
    let (alice, bob) = (
        device(&world.node, "alice").await,
        device(&world.node, "bob").await,
    );
    let carol = device(&world.node, "carol").await;
    world.room(&[alice, bob]).await;
    let (a, b, c) = (
        member(&world.node, alice),
        member(&world.node, bob),
        member(&world.node, carol),
    );
    for (counter, body, expected) in [
        (
            2,
            commit(1, vec![b.clone()], vec![]),
            RefusalCode::Malformed,
        ),
        (
            3,
            commit(1, vec![c.clone(), c.clone()], vec![]),
            RefusalCode::Malformed,
        ),
        (
            4,
            commit(1, vec![], vec![c.clone()]),
            RefusalCode::Malformed,
        ),
        (
            5,
            commit(1, vec![], vec![a.clone()]),
            RefusalCode::Malformed,
        ),
        (6, commit(0, vec![], vec![]), RefusalCode::WrongEpoch),
    ] {
        let outcome = world.submit(alice, counter, body).await;
        assert_eq!(code(&outcome), Some(expected), "{counter}");
    }
    // Somebody else's room with this id.
    let outcome = world.submit(carol, 1, commit(0, vec![], vec![])).await;
    assert_eq!(code(&outcome), Some(RefusalCode::RoomExists));

    let won = world
        .submit(bob, 1, commit(1, vec![c.clone()], vec![]))
        .await;
    assert_eq!(code(&won), None);
    let lost = world.submit(alice, 7, commit(1, vec![], vec![])).await;
    assert_eq!(code(&lost), Some(RefusalCode::WrongEpoch));
    // Both members before it get the commit, its maker too; the new one gets the welcome.
    for of in [alice, bob] {
        let (bodies, _) = world.inbox(of).await;
        assert!(
            matches!(bodies[..], [DeliveryBody::Commit { epoch: 1, .. }]),
            "{bodies:?}"
        );
    }
    let (bodies, _) = world.inbox(carol).await;
    assert!(
        matches!(bodies[..], [DeliveryBody::Welcome { .. }]),
        "{bodies:?}"
    );

    for epoch in 2..35 {
        let outcome = world
            .submit(bob, epoch, commit(epoch, vec![], vec![]))
            .await;
        assert_eq!(code(&outcome), None);
    }
    let outcome = world.submit(carol, 2, message(2, HOUR, b"x")).await;
    assert_eq!(code(&outcome), Some(RefusalCode::EpochTooOld));
    let outcome = world.submit(carol, 3, message(3, HOUR, b"x")).await;
    assert_eq!(code(&outcome), None);
}

/// Goal: of commits for one epoch that arrive at the same moment exactly one wins; by eight devices
/// that submit concurrently.
#[tokio::test]
async fn concurrent_commits() {
    let world = World::new();
    let mut all = Vec::new();
    for n in 0..8 {
        all.push(device(&world.node, &format!("user{n}")).await);
    }
    world.room(&all).await;
    let attempts = all.iter().map(|of| {
        let counter = if *of == all[0] { 2 } else { 1 };
        world.submit(*of, counter, commit(1, vec![], vec![]))
    });
    let outcomes = futures_util::future::join_all(attempts).await;
    let won = outcomes
        .iter()
        .filter(|outcome| code(outcome).is_none())
        .count();
    assert_eq!(won, 1);
    let lost = outcomes.iter().filter_map(code);
    assert!(lost.into_iter().all(|code| code == RefusalCode::WrongEpoch));
}

/// Goal: a message for several devices is stored once and deleted with the last acknowledgement; a
/// device that never acknowledges is waited for.
#[tokio::test]
async fn shared_payloads() {
    let world = World::new();
    let (alice, bob) = (
        device(&world.node, "alice").await,
        device(&world.node, "bob").await,
    );
    let carol = device(&world.node, "carol").await;
    world.room(&[alice, bob, carol]).await;
    world.submit(alice, 2, message(1, HOUR, b"to both")).await;
    let (_, bobs) = world.inbox(bob).await;
    let (_, carols) = world.inbox(carol).await;
    let id = bobs[0].payload().unwrap();
    assert_eq!(carols[0].payload(), Some(id));
    let kept = async || payload::get(&world.node.store, id).await.unwrap().is_some();
    inbox::acknowledge(&world.node, bob.device, bobs)
        .await
        .unwrap();
    assert!(kept().await);
    assert_eq!(world.messages(carol).await.len(), 1);
    inbox::acknowledge(&world.node, carol.device, carols)
        .await
        .unwrap();
    assert!(!kept().await);
}

/// Goal: an expired message is never delivered, swept or not, and the sweep leaves nothing of it.
#[tokio::test]
async fn expiry() {
    let world = World::new();
    let (alice, bob) = (
        device(&world.node, "alice").await,
        device(&world.node, "bob").await,
    );
    let carol = device(&world.node, "carol").await;
    world.room(&[alice, bob, carol]).await;
    world.submit(alice, 2, message(1, HOUR, b"soon gone")).await;
    let day = MessageAttributes {
        ttl_seconds: 86_400,
        ..HOUR
    };
    world.submit(alice, 3, message(1, day, b"stays")).await;
    let id = world.inbox(bob).await.1[0].payload().unwrap();
    world.clock.advance_ms(3_600_000 - 1);
    assert_eq!(world.messages(bob).await.len(), 2);
    world.clock.advance_ms(1);
    assert_eq!(world.messages(bob).await.len(), 1);
    super::expiry::sweep(&world.node).await.unwrap();
    world.clock.advance_ms(20 * 60_000);
    super::expiry::sweep(&world.node).await.unwrap();
    assert!(payload::get(&world.node.store, id).await.unwrap().is_none());
    let store = &world.node.store;
    let stored = crate::store::inbox::range(store, bob.device, 0, 10)
        .await
        .unwrap();
    assert_eq!(stored.len(), 1);
    let fill = world.node.mailboxes.fill(bob.device).unwrap();
    assert_eq!(fill.of(Class::Message, None).0.items, 1);
}

/// Goal: a full inbox refuses messages and tells the sender, and leaves other rooms' devices alone;
/// handshakes still come in.
#[tokio::test]
async fn full_inboxes() {
    let world = World::new();
    let (alice, bob) = (
        device(&world.node, "alice").await,
        device(&world.node, "bob").await,
    );
    let carol = device(&world.node, "carol").await;
    world.room(&[alice, bob]).await;
    let full = Fill::full_of(Class::Message);
    let now_ms = world.node.clock.now_ms();
    world.node.mailboxes.set_fill(bob.device, full, now_ms);
    let outcome = world.submit(alice, 2, message(1, HOUR, b"x")).await;
    assert_eq!(code(&outcome), Some(RefusalCode::Quota));
    let add = commit(1, vec![member(&world.node, carol)], vec![]);
    assert_eq!(code(&world.submit(alice, 3, add).await), None);
    // One of two is full: the other gets it, and the sender is told.
    let outcome = world.submit(alice, 4, message(2, HOUR, b"x")).await;
    assert_eq!(code(&outcome), None);
    assert_eq!(world.messages(carol).await.len(), 1);
    assert!(world.messages(bob).await.is_empty());
    let (bodies, _) = world.inbox(alice).await;
    let returned = bodies.iter().any(|body| {
        matches!(body, DeliveryBody::Returned { counter: 4, refusal, .. } if refusal.code == RefusalCode::Quota)
    });
    assert!(returned, "{bodies:?}");
}

/// Goal: a count that has come to be wrong refuses nothing for long: it is taken again before something is refused, though
/// not each time. By a count that an acknowledgement has passed by while it was taken: as if all of it were still there.
#[tokio::test]
async fn wrong_counts_are_put_right() {
    let world = World::new();
    let (alice, bob) = (
        device(&world.node, "alice").await,
        device(&world.node, "bob").await,
    );
    world.room(&[alice, bob]).await;
    let mailboxes = &world.node.mailboxes;
    let full = Fill::full_of(Class::Message);
    mailboxes.set_fill(bob.device, full, world.node.clock.now_ms());
    world.clock.advance_ms(INBOX_RECOUNT_MS - 1);
    let outcome = world.submit(alice, 2, message(1, HOUR, b"x")).await;
    assert_eq!(code(&outcome), Some(RefusalCode::Quota));
    world.clock.advance_ms(1);
    for (counter, text) in [(3, b"y"), (4, b"z")] {
        let outcome = world.submit(alice, counter, message(1, HOUR, text)).await;
        assert_eq!(code(&outcome), None);
    }
    let fill = mailboxes.fill(bob.device).unwrap();
    assert_eq!(fill.of(Class::Message, None).0.items, 2);
}

/// Goal: what is put into an inbox beside messages and handshakes is let in by all that it takes there, not by a part of
/// that. By an inbox with a few bytes left, and an answer whose text is none.
#[tokio::test]
async fn items_are_let_in_by_their_whole_length() {
    let world = World::new();
    let bob = device(&world.node, "bob").await;
    let body = || InboxBody::Directory {
        request: RequestId::from_bytes([1; 16]),
        result: Err(Refusal::new(RefusalCode::Unavailable, "")),
    };
    let batch = Batch::open(&world.node).await.unwrap();
    let bytes = inbox::appended_bytes(&batch, &body()).unwrap();
    let most = usize::try_from(INBOX_BYTES_MAX * INBOX_HANDSHAKE_FACTOR).unwrap();
    let now_ms = world.node.clock.now_ms();
    for (left, fits) in [(bytes - 1, false), (bytes, true)] {
        let mut fill = Fill::default();
        fill.add(&Item::new(Class::Handshake, None, most - left));
        world.node.mailboxes.set_fill(bob.device, fill, now_ms);
        let mut batch = Batch::open(&world.node).await.unwrap();
        let taken = append_if_room(&mut batch, bob.device, body()).await;
        assert_eq!(taken.is_ok(), fits, "{left} of {bytes} bytes left");
    }
}

/// Goal: a device whose inbox has no room for what is ordered stops nobody: the room goes on, others commit, and it is
/// told once, and again only after it has asked for the way back; it can be removed, and can't commit what it could not
/// hear of. Method: a full inbox, with Bob's device behind it.
#[tokio::test]
async fn a_full_inbox_stops_no_room() {
    let world = World::new();
    let (alice, bob) = (
        device(&world.node, "alice").await,
        device(&world.node, "bob").await,
    );
    world.room(&[alice, bob]).await;
    let full = || Fill::full_of(Class::Handshake);
    let told = async || {
        let (bodies, _) = world.inbox(bob).await;
        let epoch = |body: &DeliveryBody| match body {
            DeliveryBody::OutOfStep { room, epoch } if *room == ROOM => Some(*epoch),
            _ => None,
        };
        let commits = bodies
            .iter()
            .filter(|b| matches!(b, DeliveryBody::Commit { .. }));
        (
            commits.count(),
            bodies.iter().filter_map(epoch).collect::<Vec<_>>(),
        )
    };
    world
        .node
        .mailboxes
        .set_fill(bob.device, full(), world.node.clock.now_ms());
    for (counter, epoch) in [(2, 1), (3, 2)] {
        let outcome = world
            .submit(alice, counter, commit(epoch, vec![], vec![]))
            .await;
        assert_eq!(code(&outcome), None);
    }
    assert_eq!(told().await, (0, vec![2]));
    let outcome = world.submit(bob, 1, commit(3, vec![], vec![])).await;
    assert_eq!(code(&outcome), Some(RefusalCode::Quota));
    let (bodies, _) = world.inbox(alice).await;
    assert_eq!(bodies.len(), 2, "both of her own commits");

    // He has read, and asks.
    world
        .node
        .mailboxes
        .set_fill(bob.device, Fill::default(), world.node.clock.now_ms());
    let request = RequestId::from_bytes([1; 16]);
    let ask = SubmissionBody::RequestGroupInfo {
        request,
        room: ROOM,
    };
    assert_eq!(code(&world.submit(bob, 2, ask).await), None);
    let (bodies, _) = world.inbox(bob).await;
    let answered = bodies.iter().any(
        |body| matches!(body, DeliveryBody::GroupInfo { result: Ok(info), .. } if info.epoch == 3),
    );
    assert!(answered, "{bodies:?}");
    world
        .node
        .mailboxes
        .set_fill(bob.device, full(), world.node.clock.now_ms());
    for (counter, epoch) in [(4, 3), (5, 4)] {
        let outcome = world
            .submit(alice, counter, commit(epoch, vec![], vec![]))
            .await;
        assert_eq!(code(&outcome), None);
    }
    assert_eq!(told().await, (0, vec![2, 4]));
    let removed = commit(5, vec![], vec![member(&world.node, bob)]);
    assert_eq!(code(&world.submit(alice, 6, removed).await), None);
    world
        .node
        .mailboxes
        .set_fill(bob.device, Fill::default(), world.node.clock.now_ms());
    let ask = SubmissionBody::RequestGroupInfo {
        request,
        room: ROOM,
    };
    let outcome = world.submit(bob, 3, ask).await;
    assert_eq!(code(&outcome), Some(RefusalCode::UnknownRoom));
}

/// Goal: a device is added only when it can be told: nothing else leads it into the room. Method: one with a full inbox,
/// and the same when that is read.
#[tokio::test]
async fn who_is_added_has_to_hear_of_it() {
    let world = World::new();
    let (alice, bob) = (
        device(&world.node, "alice").await,
        device(&world.node, "bob").await,
    );
    world.room(&[alice]).await;
    let full = Fill::full_of(Class::Handshake);
    world
        .node
        .mailboxes
        .set_fill(bob.device, full, world.node.clock.now_ms());
    let add = || commit(1, vec![member(&world.node, bob)], vec![]);
    let outcome = world.submit(alice, 2, add()).await;
    assert_eq!(code(&outcome), Some(RefusalCode::Quota));
    world
        .node
        .mailboxes
        .set_fill(bob.device, Fill::default(), world.node.clock.now_ms());
    assert_eq!(code(&world.submit(alice, 3, add()).await), None);
}

/// Goal: a message from an epoch that ended six days ago is taken, and a moment later comes back to be encrypted again:
/// devices keep what reads it for seven; an epoch that goes on is never too old. Method: two epochs and a clock.
#[tokio::test]
async fn epochs_end_by_the_clock() {
    let world = World::new();
    let (alice, bob) = (
        device(&world.node, "alice").await,
        device(&world.node, "bob").await,
    );
    world.room(&[alice, bob]).await;
    let outcome = world.submit(alice, 2, commit(1, vec![], vec![])).await;
    assert_eq!(code(&outcome), None);
    world.clock.advance_ms(crate::rooms::ENDED_EPOCH_MS_MAX);
    let outcome = world.submit(bob, 1, message(1, HOUR, b"x")).await;
    assert_eq!(code(&outcome), None);
    world.clock.advance_ms(1);
    let outcome = world.submit(bob, 2, message(1, HOUR, b"x")).await;
    assert_eq!(code(&outcome), Some(RefusalCode::EpochTooOld));
    world.clock.advance_ms(crate::rooms::ENDED_EPOCH_MS_MAX);
    let outcome = world.submit(bob, 3, message(2, HOUR, b"x")).await;
    assert_eq!(code(&outcome), None);
}

/// Goal: rules hold from the moment they are changed: a suspended account sends nothing, a device
/// that is gone gets nothing and its correspondent is told, a tightened user type binds at once.
#[tokio::test]
async fn changed_rules_hold_at_once() {
    let world = World::new();
    let (alice, bob) = (
        device(&world.node, "alice").await,
        device(&world.node, "bob").await,
    );
    world.room(&[alice, bob]).await;
    let (node, actor) = (&world.node, &Actor::System);
    let handle: Handle = "alice".parse().unwrap();
    let set = |suspended| ChangeUserRequest {
        user_type: None,
        suspended: Some(suspended),
    };
    accounts::change(node, actor, &handle, &set(true))
        .await
        .unwrap();
    let outcome = world.submit(alice, 2, message(1, HOUR, b"x")).await;
    assert_eq!(code(&outcome), Some(RefusalCode::AccountSuspended));
    let outcome = world.submit(alice, 3, commit(1, vec![], vec![])).await;
    assert_eq!(code(&outcome), Some(RefusalCode::AccountSuspended));
    // Mail for a suspended account waits.
    assert_eq!(
        code(&world.submit(bob, 1, message(1, HOUR, b"x")).await),
        None
    );
    accounts::change(node, actor, &handle, &set(false))
        .await
        .unwrap();
    assert_eq!(world.messages(alice).await.len(), 1);

    let ttl = Bounds {
        min_seconds: 1,
        max_seconds: 60,
        default_seconds: 60,
    };
    let policy = UserTypePolicy {
        ttl,
        ..UserTypePolicy::default()
    };
    user_types::put(node, actor, "standard", policy)
        .await
        .unwrap();
    let outcome = world.submit(alice, 4, message(1, HOUR, b"x")).await;
    assert_eq!(code(&outcome), Some(RefusalCode::TtlOutOfBounds));

    devices::remove(node, actor, bob).await.unwrap();
    let minute = MessageAttributes {
        ttl_seconds: 60,
        ..HOUR
    };
    let outcome = world.submit(alice, 5, message(1, minute, b"x")).await;
    assert_eq!(code(&outcome), Some(RefusalCode::RecipientGone));
    let outcome = world.submit(bob, 2, message(1, minute, b"x")).await;
    assert!(code(&outcome).is_some());
}

/// Goal: each single-use key package is handed out once, also to claims in one frame; then the
/// last-resort one; unknown, suspended and device-less accounts are told apart by nobody who
/// should not.
#[tokio::test]
async fn key_packages_are_claimed_once() {
    let world = World::new();
    let (alice, bob) = (
        device(&world.node, "alice").await,
        device(&world.node, "bob").await,
    );
    let single = vec![Bytes::from_static(b"one"), Bytes::from_static(b"two")];
    let last = Some(Bytes::from_static(b"last"));
    key_packages::publish(&world.node, bob.device, single, last)
        .await
        .unwrap();
    let claim = |counter: u64, address: &str| Submission {
        counter,
        body: SubmissionBody::ClaimKeys {
            request: RequestId::from_bytes([u8::try_from(counter).unwrap(); 16]),
            address: address.parse().unwrap(),
            known: Vec::new(),
        },
    };
    let frame = [
        claim(1, "bob@a.example"),
        claim(2, "bob@a.example"),
        claim(3, "bob@a.example"),
        claim(4, "bob@a.example"),
        claim(5, "nobody@a.example"),
        claim(6, "alice@a.example"),
        claim(7, "bob@c.example"),
    ];
    let results: Vec<SubmissionResult> = submit(&world.node, alice, &frame).await.unwrap();
    assert_eq!(code(&results[6].outcome), Some(RefusalCode::NoAgreement));
    let (bodies, _) = world.inbox(alice).await;
    let answers: Vec<_> = bodies
        .into_iter()
        .map(|body| match body {
            DeliveryBody::KeyMaterial { result, .. } => match result {
                Ok(claimed) => Ok(claimed.devices[0].key_package.clone()),
                Err(refusal) => Err(refusal.code),
            },
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(
        answers,
        [
            Ok(Bytes::from_static(b"one")),
            Ok(Bytes::from_static(b"two")),
            Ok(Bytes::from_static(b"last")),
            Ok(Bytes::from_static(b"last")),
            Err(RefusalCode::UnknownRecipient),
            Err(RefusalCode::NoKeyPackages),
        ]
    );
}

/// Goal: a device that does not exist can't be added, whoever it is said to belong to.
#[tokio::test]
async fn only_devices_that_exist_are_added() {
    let world = World::new();
    let (alice, bob) = (
        device(&world.node, "alice").await,
        device(&world.node, "bob").await,
    );
    let carol = device(&world.node, "carol").await;
    let mut ghost = member(&world.node, bob);
    ghost.device = DeviceId::from_bytes([9; 16]);
    let mut of_another = member(&world.node, bob);
    of_another.account = carol.account;
    let mut stranger = member(&world.node, bob);
    stranger.server = "c.example".parse().unwrap();
    for (n, (bad, expected)) in [
        (ghost, RefusalCode::UnknownRecipient),
        (of_another, RefusalCode::UnknownRecipient),
        (stranger, RefusalCode::NoAgreement),
    ]
    .into_iter()
    .enumerate()
    {
        let counter = u64::try_from(n).unwrap() + 1;
        let outcome = world
            .submit(alice, counter, commit(0, vec![bad], vec![]))
            .await;
        assert_eq!(code(&outcome), Some(expected), "{n}");
    }
}
