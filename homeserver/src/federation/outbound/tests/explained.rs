//! Which rule says what somebody may do at a partner's, with the partner's half; and scopes by direction and operation.

use homeserver_api::admin::{AmendRequest, BarriersRequest, Grant, Operation, PartnerState};
use homeserver_api::policy::Direction::{Inbound, Outbound};
use homeserver_api::policy::{
    BarrierRule, Barriers, Contact, DirectoryListing, Effect, ExternalRule, ExternalScope, Segment,
    UserTypePolicy,
};

use super::*;
use crate::delivery::explain;
use crate::delivery::limits::LOOK_UP_TTL_MS;
use crate::identity::{barriers, user_types};

async fn standard(side: &Side, change: impl FnOnce(&mut UserTypePolicy)) {
    let mut policy = UserTypePolicy::default();
    change(&mut policy);
    user_types::put(&side.node, &admin(), "standard", policy)
        .await
        .unwrap();
}

fn only(operation: Operation) -> AmendRequest {
    AmendRequest {
        outbound: Some(vec![Grant {
            operation,
            user_types: Vec::new(),
        }]),
        ..AmendRequest::default()
    }
}

/// Goal: an administrator hears whether somebody may write to a partner's person and which rule says so, and the partner's half where
/// look-ups are granted, as the person could see it; nothing of it reaches a device. Method: a person who is shown, one who is hidden,
/// nobody, and an agreement without look-ups.
#[tokio::test]
async fn explained_across_an_agreement() {
    let [a, b] = sides(["a.example", "b.example"]);
    peered(&a, &b).await;
    let (alice, _bob) = (person(&a, "alice").await, person(&b, "bob").await);
    let explain = async |to: &str| {
        let (from, to) = ("alice".parse().unwrap(), to.parse().unwrap());
        let explained = explain::explain(&a.node, &admin(), &from, &to).await;
        explained.unwrap()
    };
    let answered = async |explanation: &str| {
        drain(&mut worker(&a, &b)).await;
        drain(&mut worker(&b, &a)).await;
        let half = explain::answer(&a.node, explanation).await.unwrap();
        half.unwrap()
    };
    let shown = explain("bob@b.example").await;
    assert!(shown.allowed);
    let rules: Vec<&str> = shown.contacts.iter().map(|one| one.rule.as_str()).collect();
    assert_eq!(
        rules,
        [
            "agreement with b.example, outbound directory",
            "agreement with b.example, outbound invite",
            "agreement with b.example, outbound message",
        ]
    );
    let half = shown.partner.unwrap();
    assert_eq!(half.state, PartnerState::Asked);
    let asked = half.explanation.unwrap();
    let half = answered(&asked).await;
    assert_eq!(
        (half.state, half.allowed),
        (PartnerState::Answered, Some(true))
    );
    assert!(alice.inbox(&a).await.is_empty());

    standard(&b, |policy| policy.directory = DirectoryListing::Hidden).await;
    for address in ["bob@b.example", "nobody@b.example"] {
        let asked = explain(address).await.partner.unwrap().explanation.unwrap();
        assert_eq!(answered(&asked).await.allowed, Some(false), "{address}");
    }
    for side in [&a, &b] {
        side.clock.advance_ms(2 * LOOK_UP_TTL_MS);
    }
    let late = explain::answer(&a.node, &asked).await.unwrap();
    assert_eq!(late, None);
    assert_eq!(explain::answer(&a.node, "no such").await.unwrap(), None);

    let only_messages = only(Operation::Message);
    peers::amend(&a.node, &admin(), &b.node.server, &only_messages)
        .await
        .unwrap();
    let explained = explain("bob@b.example").await;
    assert!(explained.allowed, "messages are granted still");
    let invite = explained
        .contacts
        .iter()
        .find(|one| one.contact == Contact::Invite);
    assert!(!invite.unwrap().allowed);
    let half = explained.partner.unwrap();
    assert_eq!(half.state, PartnerState::NotShared);
    assert_eq!(waiting(&a, &b).await, 0, "nothing is asked");
}

/// Goal: a user type's scope may be narrower for one operation in one direction, and the other direction and operations are not
/// touched. Method: messages to one partner barred for alice's type; then messages from it.
#[tokio::test]
async fn scopes_by_direction_and_operation() {
    let [a, b] = sides(["a.example", "b.example"]);
    let (mut alice, mut bob) = acquainted(&a, &b).await;
    let barred = |direction| {
        move |policy: &mut UserTypePolicy| {
            policy.external_rules = vec![ExternalRule {
                direction,
                operation: Operation::Message,
                scope: ExternalScope::None,
            }];
        }
    };
    standard(&a, barred(Outbound)).await;
    let refused = alice.say(&a, ROOM, b"out", 3600).await;
    let Outcome::Refused(refusal) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(refusal.code, RefusalCode::ExternalScope);
    bob.say(&b, ROOM, b"in", 3600).await;
    drain(&mut worker(&b, &a)).await;
    assert_eq!(alice.heard(&a).await, 1);
    standard(&a, barred(Inbound)).await;
    let taken = alice.say(&a, ROOM, b"out", 3600).await;
    assert!(matches!(taken, Outcome::Accepted { .. }), "{taken:?}");
    bob.say(&b, ROOM, b"in again", 3600).await;
    drain(&mut worker(&b, &a)).await;
    assert_eq!(alice.heard(&a).await, 1, "the second one is refused");
}

/// Goal: a barrier holds between colleagues in a room that a partner's homeserver orders: in messages that come back from there, and when
/// somebody there adds both. Method: a room of bob's with two people of `a`, before the barrier and after it; then another one.
#[tokio::test]
async fn a_partners_hub_leads_around_no_barrier() {
    const LATER: RoomId = RoomId::from_bytes([6; 16]);
    let [a, b] = sides(["a.example", "b.example"]);
    peered(&a, &b).await;
    let (mut alice, anna) = (person(&a, "alice").await, person(&a, "anna").await);
    let mut bob = person(&b, "bob").await;
    let created = bob.create_room(&b, ROOM, &[&alice, &anna]).await;
    assert!(matches!(created, Outcome::Accepted { .. }), "{created:?}");
    drain(&mut worker(&b, &a)).await;
    alice.say(&a, ROOM, b"before", 3600).await;
    drain(&mut worker(&a, &b)).await;
    drain(&mut worker(&b, &a)).await;
    assert_eq!((bob.heard(&b).await, anna.heard(&a).await), (1, 1));

    let segment = |name: &str, user: &str| Segment {
        name: name.to_owned(),
        user_types: Vec::new(),
        users: vec![user.parse().unwrap()],
    };
    let request = BarriersRequest {
        barriers: Barriers {
            default: Effect::Allow,
            segments: vec![segment("one", "alice"), segment("two", "anna")],
            rules: vec![BarrierRule {
                name: "wall".to_owned(),
                from: "one".to_owned(),
                to: "two".to_owned(),
                one_way: false,
                contacts: vec![Contact::Message],
                effect: Effect::Deny,
            }],
        },
        follows: None,
        dry_run: false,
    };
    barriers::change(&a.node, &admin(), request).await.unwrap();
    alice.say(&a, ROOM, b"after", 3600).await;
    drain(&mut worker(&a, &b)).await;
    drain(&mut worker(&b, &a)).await;
    assert_eq!((bob.heard(&b).await, anna.heard(&a).await), (2, 1));

    let welcomes = async |person: &Person| {
        let inbox = person.inbox(&a).await;
        let welcomes = inbox.iter().filter(|body| match body {
            InboxBody::Welcome { room, .. } => *room == LATER,
            _ => false,
        });
        welcomes.count()
    };
    bob.create_room(&b, LATER, &[&alice, &anna]).await;
    drain(&mut worker(&b, &a)).await;
    assert_eq!((welcomes(&alice).await, welcomes(&anna).await), (0, 0));
}
