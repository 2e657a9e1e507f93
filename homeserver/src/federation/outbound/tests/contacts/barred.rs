//! Whom consent keeps away, and whom not.

use federation_proto::ids::Member;
use homeserver_api::policy::ExternalScope;
use homeserver_api::session::Commit;

use super::*;
use crate::rooms::mls_framing::testing::{commit_message, group_info_message, welcome_message};

/// Adds `whom` to the room in epoch 1.
async fn add(who: &mut Person, side: &Side, hub: &Side, whom: &Person) -> Outcome {
    let commit = Commit {
        room: ROOM,
        hub: hub.node.server.clone(),
        epoch: 1,
        commit: commit_message(ROOM, 1, &[1; 40]).into(),
        adds: vec![whom.member.clone()],
        removes: Vec::new(),
        welcome: Some(welcome_message().into()),
        group_info: group_info_message(ROOM, 2).into(),
        founding: None,
    };
    who.submit(side, SubmissionBody::Commit(commit)).await
}

/// Goal: nothing tells who asks whether there is such a person, one who may not be reached, or one who has
/// blocked him; and claims of keys don't tell the blocked from the unknown; by asking for all of them.
#[tokio::test]
async fn silence_is_the_same_for_all() {
    let [a, b] = sides(["a.example", "b.example"]);
    let (mut alice, bob) = strangers(&a, &b, OutsideContacts::Open).await;
    let mole = person(&b, "mole").await;
    let inside = UserTypePolicy {
        external: ExternalScope::None,
        ..UserTypePolicy::default()
    };
    user_types::put(&b.node, &admin(), "inside", inside)
        .await
        .unwrap();
    let request = homeserver_api::admin::ChangeUserRequest {
        user_type: Some("inside".to_owned()),
        suspended: None,
    };
    let handle = "mole".parse().unwrap();
    crate::identity::accounts::change(&b.node, &admin(), &handle, &request)
        .await
        .unwrap();
    act(&b, &bob, "alice@a.example", ContactAct::Block)
        .await
        .unwrap();
    for whom in ["bob@b.example", "mole@b.example", "nobody@b.example"] {
        let asked = act(&a, &alice, whom, ContactAct::Ask).await.unwrap();
        assert_eq!(asked.standing, ContactStanding::Asked);
    }
    drain(&mut worker(&a, &b)).await;
    assert_eq!(waiting(&a, &b).await, 0, "all are accepted");
    assert_eq!(waiting(&b, &a).await, 0, "and none is answered");
    assert_eq!(dead_letters::newest(&a.node.store, 9).await.unwrap(), []);
    assert_eq!(changes(&alice, &a).await, []);
    assert_eq!(told(&bob, &b).await, []);
    assert_eq!(told(&mole, &b).await, []);
    assert_eq!(audited(&b, "contact.ignored").await, 3);

    let blocked = claim(&mut alice, (&a, &b), "bob@b.example", 1).await;
    let unknown = claim(&mut alice, (&a, &b), "nobody@b.example", 2).await;
    assert_eq!(blocked, unknown);
    assert_eq!(code(blocked), RefusalCode::UnknownRecipient);
}

/// Goal: key packages that were claimed before a block or before the setting changed bring nobody into a room, at a
/// follower and at the hub, while a colleague needs no consent; by adding people with them.
#[tokio::test]
async fn keys_claimed_before_are_of_no_use() {
    let [a, b] = sides(["a.example", "b.example"]);
    let (mut alice, bob) = strangers(&a, &b, OutsideContacts::Open).await;
    claim(&mut alice, (&a, &b), "bob@b.example", 1)
        .await
        .unwrap();
    // Bob knows the name alone; his homeserver has seen whose it is.
    act(&b, &bob, "alice@a.example", ContactAct::Block)
        .await
        .unwrap();
    let other = RoomId::from_bytes([8; 16]);
    alice.create_room(&a, other, &[&bob]).await;
    post_goes(&a, &b).await;
    assert_eq!(welcomed(&bob, &b).await, 0);
    let given_up = dead_letters::newest(&a.node.store, 9).await.unwrap();
    assert_eq!(given_up[0].code, RefusalCode::UnknownRecipient.number());

    // At the hub of his own side.
    let mut dave = person(&b, "dave").await;
    dave.create_room(&b, ROOM, &[&alice]).await;
    post_goes(&a, &b).await;
    let epoch = |commit: Outcome| assert!(matches!(commit, Outcome::Accepted { .. }), "{commit:?}");
    epoch(add(&mut alice, &a, &b, &bob).await);
    post_goes(&a, &b).await;
    let commit_refused = |inbox: Vec<InboxBody>| {
        inbox.into_iter().rev().find_map(|body| match body {
            InboxBody::CommitRefused { refusal, .. } => Some(refusal.code),
            _ => None,
        })
    };
    assert_eq!(
        commit_refused(alice.inbox(&a).await),
        Some(RefusalCode::UnknownRecipient)
    );
    remove(&b, &bob, "alice@a.example").await.unwrap();
    set(&b, OutsideContacts::Ask).await;
    epoch(add(&mut alice, &a, &b, &bob).await);
    post_goes(&a, &b).await;
    assert_eq!(
        commit_refused(alice.inbox(&a).await),
        Some(RefusalCode::ConsentRequired)
    );
    epoch(add(&mut dave, &b, &b, &bob).await);
    assert_eq!(welcomed(&bob, &b).await, 1, "a colleague has added him");
}

/// Goal: a block given with the account that a client knows from a shared room holds for who was never met
/// otherwise; a follower whose people are in the room already keeps out whom an outsider adds, and delivers the
/// commit all the same; by adding a colleague of a member.
#[tokio::test]
async fn a_follower_keeps_out_who_is_added() {
    let [a, b] = sides(["a.example", "b.example"]);
    let (mut alice, bob) = strangers(&a, &b, OutsideContacts::Open).await;
    alice.create_room(&a, ROOM, &[&bob]).await;
    let erin = person(&b, "erin").await;
    let known = Some(alice.of.account);
    act_with(&b, &erin, "alice@a.example", ContactAct::Block, None, known)
        .await
        .unwrap();
    let added = add(&mut alice, &a, &a, &erin).await;
    assert!(matches!(added, Outcome::Accepted { .. }), "{added:?}");
    post_goes(&a, &b).await;
    assert_eq!(
        (welcomed(&bob, &b).await, welcomed(&erin, &b).await),
        (1, 0)
    );
    let commits = bob.inbox(&b).await.into_iter();
    let commits = commits.filter(|body| matches!(body, InboxBody::Commit { .. }));
    assert_eq!(commits.count(), 1, "the room goes on");
    let (room, _) = store::room::get(&b.node.store, ROOM)
        .await
        .unwrap()
        .unwrap();
    assert!(room.has(&bob.member) && !room.has(&erin.member));
}

/// Goal: nobody passes for a colleague: a welcome whose commit is said to be by somebody of the own homeserver who
/// is not in the room, or by nobody in it, is refused; by welcomes that a hub makes up.
#[tokio::test]
async fn a_hub_can_name_no_colleague() {
    let [a, b] = sides(["a.example", "b.example"]);
    let (alice, bob) = strangers(&a, &b, OutsideContacts::Ask).await;
    let dave = person(&b, "dave").await;
    let nobody = Member {
        account: AccountId::from_bytes([7; 16]),
        ..alice.member.clone()
    };
    let envelopes = [&dave.member, &nobody].map(|sender| {
        let welcome = federation_proto::payload::Welcome {
            room: ROOM,
            hub: a.node.server.clone(),
            epoch: 1,
            sender: sender.clone(),
            members: vec![
                alice.member.clone(),
                bob.member.clone(),
                dave.member.clone(),
            ],
            recipients: vec![bob.of.device],
            welcome: welcome_message().into(),
            stamp_ms: now(&a),
        };
        Outgoing {
            kind: Kind::Welcome,
            lane: ROOM.into(),
            sequence: 1,
            created_ms: now(&a),
            expires_ms: 0,
            payload: HashedPayload::new(welcome.to_bytes().unwrap()),
        }
    });
    let [first, mut second] = envelopes;
    second.sequence = 2;
    let results = exchange(&a, &b, vec![first, second]).await;
    assert!(
        results
            .iter()
            .all(|result| matches!(result, ItemResult::Refused(refusal)
            if refusal.code == RefusalCode::Malformed)),
        "{results:?}"
    );
    assert_eq!(welcomed(&bob, &b).await, 0);
}

/// Goal: a block ends what may come, not what there is: messages pass both ways in a shared room; by writing in it.
#[tokio::test]
async fn shared_rooms_go_on() {
    let [a, b] = sides(["a.example", "b.example"]);
    let (mut alice, mut bob) = acquainted(&a, &b).await;
    act(&b, &bob, "alice@a.example", ContactAct::Block)
        .await
        .unwrap();
    set(&b, OutsideContacts::Ask).await;
    alice.say(&a, ROOM, b"still there?", 3600).await;
    bob.say(&b, ROOM, b"yes", 3600).await;
    post_goes(&a, &b).await;
    assert_eq!((alice.heard(&a).await, bob.heard(&b).await), (1, 1));
}
