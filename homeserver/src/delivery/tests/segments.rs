//! Barriers between people of one organisation, and labels: where they hold.

use homeserver_api::admin::BarriersRequest;
use homeserver_api::policy::{BarrierRule, Barriers, Contact, Effect, Labels, Segment};
use homeserver_api::session::Sought;

use super::*;
use crate::delivery::explain;
use crate::identity::{IdentityError, barriers};

/// A wall between alice and bob; everybody else is in no segment.
fn wall(contacts: &[Contact]) -> Barriers {
    let segment = |name: &str, user: &str| Segment {
        name: name.to_owned(),
        user_types: Vec::new(),
        users: vec![user.parse().unwrap()],
    };
    Barriers {
        default: Effect::Allow,
        segments: vec![segment("research", "alice"), segment("trading", "bob")],
        rules: vec![BarrierRule {
            name: "wall".to_owned(),
            from: "research".to_owned(),
            to: "trading".to_owned(),
            one_way: false,
            contacts: contacts.to_vec(),
            effect: Effect::Deny,
        }],
    }
}

async fn put(world: &World, barriers: Barriers) {
    let request = BarriersRequest {
        barriers,
        follows: None,
        dry_run: false,
    };
    barriers::change(&world.node, &Actor::System, request)
        .await
        .unwrap();
}

async fn three(world: &World) -> [DeviceOf; 3] {
    let mut devices = Vec::new();
    for handle in ["alice", "bob", "carol"] {
        devices.push(device(&world.node, handle).await);
    }
    devices.try_into().unwrap()
}

/// What a device finds of bob.
async fn found(world: &World, of: DeviceOf, counter: u64) -> usize {
    let request = RequestId::from_bytes([u8::try_from(counter).unwrap(); 16]);
    let body = SubmissionBody::LookUp {
        request,
        server: "a.example".parse().unwrap(),
        sought: Sought::Handle("bob".parse().unwrap()),
    };
    world.submit(of, counter, body).await;
    let (bodies, _) = world.inbox(of).await;
    let mut answers = bodies.into_iter().filter_map(|body| match body {
        DeliveryBody::Directory {
            request: to,
            result,
        } if to == request => Some(result),
        _ => None,
    });
    answers.next().unwrap().unwrap().addresses.len()
}

/// Goal: whom a barrier hides is not found, at once after it is put up, and is again when it is gone; others are not touched.
/// Method: look-ups by somebody behind it and by somebody who is not.
#[tokio::test]
async fn nobody_is_found_across_a_barrier() {
    let world = World::new();
    let [alice, _, carol] = three(&world).await;
    assert_eq!(found(&world, alice, 1).await, 1);
    put(&world, wall(&[Contact::Find])).await;
    assert_eq!(found(&world, alice, 2).await, 0);
    assert_eq!(found(&world, carol, 1).await, 1);
    put(&world, wall(&[Contact::Message])).await;
    assert_eq!(found(&world, alice, 3).await, 1);
}

/// Goal: who may not be invited has no keys for the asker, as if there were no such account. Method: claims from both sides of
/// the question.
#[tokio::test]
async fn nobody_is_invited_across_a_barrier() {
    let world = World::new();
    let [alice, bob, carol] = three(&world).await;
    let last = Some(Bytes::from_static(b"last"));
    key_packages::publish(&world.node, bob.device, Vec::new(), last)
        .await
        .unwrap();
    put(&world, wall(&[Contact::Invite])).await;
    let claim = || SubmissionBody::ClaimKeys {
        request: RequestId::from_bytes([1; 16]),
        address: "bob@a.example".parse().unwrap(),
        known: Vec::new(),
    };
    for (of, expected) in [(alice, Some(RefusalCode::UnknownRecipient)), (carol, None)] {
        world.submit(of, 1, claim()).await;
        let (bodies, _) = world.inbox(of).await;
        let answer = bodies.into_iter().find_map(|body| match body {
            DeliveryBody::KeyMaterial { result, .. } => Some(result),
            _ => None,
        });
        let code = answer.unwrap().err().map(|refusal| refusal.code);
        assert_eq!(code, expected);
    }
}

/// Goal: nobody is added to a room by, or with, somebody across a barrier, whoever makes the commit. Method: alice adds bob; carol
/// adds both; and the same without the barrier.
#[tokio::test]
async fn nobody_is_added_across_a_barrier() {
    let world = World::new();
    let [alice, bob, carol] = three(&world).await;
    put(&world, wall(&[])).await;
    let member = |of| member(&world.node, of);
    let refused = world
        .submit(alice, 1, commit(0, vec![member(bob)], vec![]))
        .await;
    assert_eq!(code(&refused), Some(RefusalCode::OutOfScope));
    let both = vec![member(alice), member(bob)];
    let refused = world
        .submit(carol, 1, commit(0, both.clone(), vec![]))
        .await;
    assert_eq!(code(&refused), Some(RefusalCode::OutOfScope));
    put(&world, Barriers::default()).await;
    let taken = world.submit(carol, 2, commit(0, both, vec![])).await;
    assert_eq!(code(&taken), None, "{taken:?}");
}

/// Goal: in a room that there was before, nobody reads what is written across a barrier, the writer is told, and everybody else reads
/// it. Method: a room of three, and one of two.
#[tokio::test]
async fn nothing_is_written_across_a_barrier() {
    let world = World::new();
    let [alice, bob, carol] = three(&world).await;
    world.room(&[alice, bob, carol]).await;
    put(&world, wall(&[Contact::Message])).await;
    let outcome = world.submit(alice, 2, message(1, HOUR, b"news")).await;
    assert_eq!(code(&outcome), None, "carol gets it");
    assert_eq!(world.messages(carol).await.len(), 1);
    assert!(world.messages(bob).await.is_empty());
    let (bodies, _) = world.inbox(alice).await;
    let told = bodies.into_iter().find_map(|body| match body {
        DeliveryBody::Returned { refusal, .. } => Some(refusal),
        _ => None,
    });
    let told = told.unwrap();
    assert_eq!(told.code, RefusalCode::OutOfScope);
    assert!(told.reason.contains("rule wall"), "{told}");
    // The other way as well; carol is told nothing.
    world.submit(bob, 1, message(1, HOUR, b"prices")).await;
    assert!(world.messages(alice).await.is_empty());
    assert_eq!(world.messages(carol).await.len(), 2);
}

/// Goal: a message that reaches nobody is refused. Method: a room of two who may not write to each other any more.
#[tokio::test]
async fn a_message_for_nobody_is_refused() {
    let world = World::new();
    let [alice, bob, _] = three(&world).await;
    world.room(&[alice, bob]).await;
    put(&world, wall(&[])).await;
    let outcome = world.submit(alice, 2, message(1, HOUR, b"news")).await;
    assert_eq!(code(&outcome), Some(RefusalCode::OutOfScope));
}

/// Goal: a change says beforehand who loses whom, applies only to what it was shown for, and names what it does not know. Method: a
/// dry run, a change in between, and a document with a user and a user type that there are not.
#[tokio::test]
async fn changes_are_shown_beforehand() {
    let world = World::new();
    three(&world).await;
    let change = async |barriers: Barriers, follows, dry_run| {
        let request = BarriersRequest {
            barriers,
            follows,
            dry_run,
        };
        barriers::change(&world.node, &Actor::System, request).await
    };
    let would = change(wall(&[Contact::Message]), None, true).await.unwrap();
    assert!(!would.applied && would.gained.is_empty());
    assert_eq!(would.lost.len(), 2);
    assert_eq!(barriers::state(&world.node).await.unwrap().serial, 0);
    put(&world, Barriers::default()).await;
    let late = change(wall(&[]), Some(would.serial), false).await;
    assert!(matches!(late, Err(IdentityError::SegmentsChanged)));
    let mut wrong = wall(&[]);
    wrong.segments[0].user_types.push("nothing".to_owned());
    wrong.segments[1].users.push("nobody".parse().unwrap());
    let error = change(wrong, None, false).await.unwrap_err().to_string();
    assert!(
        error.contains("`nothing`") && error.contains("`nobody`"),
        "{error}"
    );
}

/// Goal: an administrator is told by which rule somebody may or may not write, by the same rules that decide. Method: before and after
/// a barrier, and of somebody who is suspended.
#[tokio::test]
async fn explained_by_the_rule_that_decides() {
    let world = World::new();
    three(&world).await;
    let explain = async |from: &str, to: &str| {
        let (from, to): (Handle, _) = (from.parse().unwrap(), to.parse().unwrap());
        let explained = explain::explain(&world.node, &Actor::System, &from, &to).await;
        let explained = explained.unwrap();
        let of_message = explained
            .contacts
            .iter()
            .find(|one| one.contact == Contact::Message);
        (explained.allowed, of_message.unwrap().rule.clone())
    };
    let (allowed, rule) = explain("alice", "bob@a.example").await;
    assert!(allowed);
    assert_eq!(rule, "segments, the default");
    put(&world, wall(&[])).await;
    let (allowed, rule) = explain("bob", "alice@a.example").await;
    assert!(!allowed);
    assert_eq!(rule, "segments, rule wall");
    let suspend = ChangeUserRequest {
        user_type: None,
        suspended: Some(true),
    };
    let carol: Handle = "carol".parse().unwrap();
    accounts::change(&world.node, &Actor::System, &carol, &suspend)
        .await
        .unwrap();
    let (allowed, rule) = explain("carol", "alice@a.example").await;
    assert!(!allowed);
    assert_eq!(rule, "the account's suspension");
    let nobody = "nobody".parse().unwrap();
    let to = "alice@a.example".parse().unwrap();
    let unknown = explain::explain(&world.node, &Actor::System, &nobody, &to).await;
    assert!(matches!(unknown, Err(IdentityError::UnknownUser(_))));
}

/// Goal: a message's label lies within the writer's bounds and below the reader's, and who may not read it does not get it. Method:
/// labels around the bounds, and a reader with a lower one than the writer's.
#[tokio::test]
async fn labels_are_held_to() {
    let world = World::new();
    let [alice, bob, carol] = three(&world).await;
    world.room(&[alice, bob, carol]).await;
    let labelled = |name: &'static str, min, max| {
        let node = Arc::clone(&world.node);
        async move {
            let policy = UserTypePolicy {
                labels: Labels {
                    min,
                    max,
                    default: min,
                    names: Vec::new(),
                },
                ..UserTypePolicy::default()
            };
            let actor = &Actor::System;
            user_types::put(&node, actor, name, policy).await.unwrap();
            let to = ChangeUserRequest {
                user_type: Some(name.to_owned()),
                suspended: None,
            };
            let handle: Handle = name.parse().unwrap();
            accounts::change(&node, actor, &handle, &to).await.unwrap();
        }
    };
    labelled("alice", 1, 3).await;
    labelled("bob", 0, 2).await;
    for (counter, label, expected) in [
        (2, 0, Some(RefusalCode::OutOfScope)),
        (3, 4, Some(RefusalCode::OutOfScope)),
        (4, 2, None),
        (5, 3, None),
    ] {
        let attributes = MessageAttributes { label, ..HOUR };
        let outcome = world
            .submit(alice, counter, message(1, attributes, b"x"))
            .await;
        assert_eq!(code(&outcome), expected, "{label}");
    }
    assert_eq!(world.messages(carol).await.len(), 2);
    assert_eq!(
        world.messages(bob).await.len(),
        1,
        "the one that he may read"
    );
}
