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
use super::limits::{INBOX_HANDSHAKE_FACTOR, INBOX_RECOUNT_MS};
use super::mailboxes::{Class, Fill, Item};
use super::submit::submit;
use super::{evidence, inbox};
use crate::audit::Actor;
use crate::identity::testing::{device, member};
use crate::identity::{accounts, devices, key_packages, user_types};
use crate::node::Node;
use crate::node::testing::{ManualClock, node};
use crate::rooms::mls_framing::testing::{
    application_message, commit_message, group_info_message, welcome_message,
};
use crate::rooms::pace::DEVICE_COMMIT_EVERY_MS;
use crate::rooms::testing;
use crate::store::device::DeviceOf;
use crate::store::evidence::Reason;
use crate::store::inbox::InboxBody;
use crate::store::{Part, payload};

mod behind;
mod segments;
mod space;

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

/// Goal: no message has an acceptance stamp after its device's cut, although the cut's time is taken before it is written. Method:
/// messages while one is being written, and once that has come to nothing.
#[tokio::test]
async fn nothing_is_taken_while_a_cut_is_written() {
    let world = World::new();
    let (alice, bob) = (
        device(&world.node, "alice").await,
        device(&world.node, "bob").await,
    );
    world.room(&[alice, bob]).await;
    let handle: Handle = "alice".parse().unwrap();
    let cut = evidence::Cut {
        account: alice.account,
        handle: &handle,
        reason: Reason::DeviceRemoved,
        actor: &Actor::System,
        devices: vec![(alice.device, [1; 32])],
    };
    let opened = evidence::open(&world.node, &mut Part::default(), cut).unwrap();
    let held = world.submit(alice, 2, message(1, HOUR, b"late")).await;
    assert!(matches!(held, Outcome::Deferred { .. }), "{held:?}");
    let others = world.submit(bob, 1, message(1, HOUR, b"bob's")).await;
    assert!(matches!(others, Outcome::Accepted { .. }), "{others:?}");
    drop(opened);
    let taken = world.submit(alice, 2, message(1, HOUR, b"late")).await;
    assert!(matches!(taken, Outcome::Accepted { .. }), "{taken:?}");
    assert_eq!(world.messages(bob).await.len(), 1);
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
        // As fast as one device may.
        world.clock.advance_ms(DEVICE_COMMIT_EVERY_MS);
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
