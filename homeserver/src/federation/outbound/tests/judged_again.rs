//! What waits is judged again when it is sent (PEER-027), and a relay on each of its ways (PEER-024, ROOM-014).

use homeserver_api::admin::{AmendRequest, ChangeUserRequest, Grant, Operation};
use homeserver_api::attributes::MessageAttributes;
use homeserver_api::policy::UserTypePolicy;

use super::*;
use crate::audit;
use crate::identity::{accounts, user_types};

/// Somebody of a user type of this name.
async fn typed(side: &Side, name: &str) -> Person {
    let person = person(side, name).await;
    user_types::put(&side.node, &admin(), name, UserTypePolicy::default())
        .await
        .unwrap();
    let change = ChangeUserRequest {
        user_type: Some(name.to_owned()),
        suspended: None,
    };
    accounts::change(&side.node, &admin(), &name.parse().unwrap(), &change)
        .await
        .unwrap();
    person
}

async fn amend(at: &Side, with: &Side, request: AmendRequest) {
    peers::amend(&at.node, &admin(), &with.node.server, &request)
        .await
        .unwrap();
}

fn attributes(ttl_seconds: u32, label: u8, file: bool) -> MessageAttributes {
    MessageAttributes {
        ttl_seconds,
        burn_seconds: 0,
        label,
        file,
    }
}

fn only(operation: Operation, user_types: &[&str]) -> Option<Vec<Grant>> {
    Some(vec![Grant {
        operation,
        user_types: user_types.iter().map(ToString::to_string).collect(),
    }])
}

fn label_at_most(label: u8) -> AmendRequest {
    AmendRequest {
        label_max: Some(label),
        ..AmendRequest::default()
    }
}

/// How many envelopes came to `at` and were refused there.
async fn refused_at(at: &Side) -> usize {
    let log = audit::page(&at.node.store, at.node.random.as_ref(), 0, 1000)
        .await
        .unwrap();
    let entries = log.entries.iter();
    entries
        .filter(|entry| entry.action == "envelope.refused")
        .count()
}

/// Goal: a message that waits leaves only while its sender's user type is granted it; by a clerk's and an
/// officer's, and an agreement that is narrowed to officers meanwhile.
#[tokio::test]
async fn waiting_messages_are_judged_by_user_type() {
    let [a, b] = sides(["a.example", "b.example"]);
    peered(&a, &b).await;
    let (mut clerk, mut officer) = (typed(&a, "clerk").await, typed(&a, "officer").await);
    let bob = person(&b, "bob").await;
    let other = RoomId::from_bytes([8; 16]);
    clerk.create_room(&a, ROOM, &[&bob]).await;
    officer.create_room(&a, other, &[&bob]).await;
    drain(&mut worker(&a, &b)).await;

    for (who, room) in [(&mut clerk, ROOM), (&mut officer, other)] {
        let said = who.say(&a, room, b"waits", 3600).await;
        assert!(matches!(said, Outcome::Accepted { .. }), "{said:?}");
    }
    let narrowed = AmendRequest {
        outbound: only(Operation::Message, &["officer"]),
        ..AmendRequest::default()
    };
    amend(&a, &b, narrowed).await;
    assert_eq!(drain(&mut worker(&a, &b)).await, Step::Idle);
    assert_eq!(bob.heard(&b).await, 1, "the officer's");
    assert!(returned(&clerk, &a, 2, RefusalCode::OutOfScope).await);
    assert!(!returned(&officer, &a, 2, RefusalCode::OutOfScope).await);
    assert_eq!(
        dead_letters::newest(&a.node.store, 9).await.unwrap().len(),
        1
    );
}

/// Goal: a message that waits leaves only within the bounds in force when it does, of either side's making: label,
/// time-to-live, and files; by one beyond each that was allowed when it was accepted, and one within all.
#[tokio::test]
async fn waiting_messages_are_judged_by_their_bounds() {
    let files = AmendRequest {
        outbound: only(Operation::Message, &[]),
        ..AmendRequest::default()
    };
    let ttl = AmendRequest {
        ttl_max_seconds: Some(60),
        ..AmendRequest::default()
    };
    for (request, beyond, code) in [
        (
            label_at_most(1),
            attributes(60, 2, false),
            RefusalCode::OutOfScope,
        ),
        (ttl, attributes(61, 0, false), RefusalCode::TtlOutOfBounds),
        (files, attributes(60, 0, true), RefusalCode::OutOfScope),
    ] {
        let [a, b] = sides(["a.example", "b.example"]);
        let (mut alice, bob) = acquainted(&a, &b).await;
        for waits in [beyond, attributes(60, 1, false)] {
            let said = alice.say_with(&a, ROOM, b"waits", waits).await;
            assert!(matches!(said, Outcome::Accepted { .. }), "{said:?}");
        }
        amend(&a, &b, request).await;
        assert_eq!(drain(&mut worker(&a, &b)).await, Step::Idle);
        assert!(returned(&alice, &a, 2, code).await, "{beyond:?}");
        assert_eq!(bob.heard(&b).await, 1, "{beyond:?}");
        assert_eq!(refused_at(&b).await, 0, "it has left: {beyond:?}");
    }
}

/// Goal: the agreement between hub and follower bounds a relay's label at three places: when the hub orders it, when
/// it leaves the hub, and when it comes; its writer is told, and everybody else gets it. By an agreement that is
/// tightened before, while it waits, and at the follower alone.
#[tokio::test]
async fn relays_keep_to_the_label_between_hub_and_follower() {
    for tightened in ["before", "while it waits", "at the follower alone"] {
        let [a, b, c] = sides(["a.example", "b.example", "c.example"]);
        let (alice, mut bob, carol) = three_acquainted(&a, &b, &c).await;
        let (mut to_b, mut to_c) = (worker(&a, &b), worker(&a, &c));
        drain(&mut to_b).await;
        drain(&mut to_c).await;
        if tightened == "before" {
            amend(&a, &c, label_at_most(1)).await;
        }
        for label in [2, 1] {
            let said = bob
                .say_with(&b, ROOM, b"to all", attributes(3600, label, false))
                .await;
            assert!(matches!(said, Outcome::Accepted { .. }), "{said:?}");
        }
        drain(&mut worker(&b, &a)).await;
        match tightened {
            "before" => {}
            "while it waits" => amend(&a, &c, label_at_most(1)).await,
            _ => amend(&c, &a, label_at_most(1)).await,
        }
        drain(&mut to_c).await;
        drain(&mut to_b).await;
        assert_eq!(alice.heard(&a).await, 2, "{tightened}");
        assert_eq!(carol.heard(&c).await, 1, "{tightened}");
        let has_come = usize::from(tightened == "at the follower alone");
        assert_eq!(refused_at(&c).await, has_come, "{tightened}");
        assert!(
            returned(&bob, &b, 1, RefusalCode::OutOfScope).await,
            "{tightened}"
        );
        assert!(!returned(&bob, &b, 2, RefusalCode::OutOfScope).await);
    }
}
