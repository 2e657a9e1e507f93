//! One organisation at two nodes over one store: agreements that one of them does not know of yet, rooms that both
//! serve, mail that arrives at either, and a node that writes after another has taken its work over.

use std::collections::BTreeSet;

use federation_proto::refusal::Refusal;

use super::super::settle;
use super::*;
use crate::node::testing::beside;
use crate::store::lease::Duty;
use crate::store::outbox as rows;

/// The same organisation at another node.
async fn at_another_node(side: &Side, name: &str) -> Side {
    Side {
        node: beside(&side.node, name).await,
        clock: Arc::clone(&side.clock),
        network: Arc::clone(&side.network),
        root_key: side.root_key.clone(),
    }
}

/// The node has a round in which it may take over sending to `peer`; whether it sends to it.
async fn serves(side: &Side, peer: &Side) -> bool {
    let (node, duty) = (&side.node, Duty::Outbound(peer.node.server.clone()));
    let duties = BTreeSet::from([duty.clone()]);
    let now_ms = node.clock.now_ms();
    node.cluster
        .round(&node.store, now_ms, &duties)
        .await
        .unwrap();
    node.cluster.holds(&duty)
}

/// Goal: a node that has not heard of an agreement's end accepts nothing under it: its commit fails, and it looks again.
/// Method: the agreement is revoked at one node, and a message for the peer submitted at the other.
#[tokio::test]
async fn a_stale_agreement_accepts_nothing() {
    let [a, b] = sides(["a.example", "b.example"]);
    let (mut alice, _bob) = acquainted(&a, &b).await;
    let two = at_another_node(&a, "two").await;
    let said = alice.say(&two, ROOM, b"before", 3600).await;
    assert!(matches!(said, Outcome::Accepted { .. }), "{said:?}");
    let before = waiting(&a, &b).await;
    peers::revoke(&a.node, &admin(), &b.node.server, "over")
        .await
        .unwrap();
    let agreed = |side: &Side| side.node.peers.get(&b.node.server).unwrap().agreed;
    assert_eq!(agreed(&two), Some(PeerState::Active), "it has not heard");
    let said = alice.say(&two, ROOM, b"after", 3600).await;
    let is_refused =
        matches!(&said, Outcome::Refused(refusal) if refusal.code == RefusalCode::AgreementRevoked);
    assert!(is_refused, "{said:?}");
    assert_eq!(agreed(&two), Some(PeerState::Revoked));
    assert_eq!(waiting(&a, &b).await, before);
}

/// Goal: a room has one order, however many nodes take what is said in it. Method: two people who write at the same time
/// at two nodes, and what two others find.
#[tokio::test]
async fn a_room_has_one_order() {
    const ROUNDS: usize = 10;
    let [a] = sides(["a.example"]);
    let mut alice = person(&a, "alice").await;
    let mut bob = person(&a, "bob").await;
    let carol = person(&a, "carol").await;
    let dan = person(&a, "dan").await;
    let created = alice.create_room(&a, ROOM, &[&bob, &carol, &dan]).await;
    assert!(matches!(created, Outcome::Accepted { .. }), "{created:?}");
    let two = at_another_node(&a, "two").await;
    for _ in 0..ROUNDS {
        let (first, second) = tokio::join!(
            alice.say(&a, ROOM, b"at one", 3600),
            bob.say(&two, ROOM, b"at the other", 3600),
        );
        assert!(matches!(first, Outcome::Accepted { .. }), "{first:?}");
        assert!(matches!(second, Outcome::Accepted { .. }), "{second:?}");
    }
    let of = async |person: &Person, side: &Side| -> Vec<InboxBody> {
        let inbox = person.inbox(side).await.into_iter();
        inbox
            .filter(|body| matches!(body, InboxBody::Message { .. }))
            .collect()
    };
    let carols = of(&carol, &a).await;
    assert_eq!(carols.len(), 2 * ROUNDS);
    assert_eq!(carols, of(&dan, &two).await);
}

/// Goal: a peer's mail has its effect once and in its order, whichever node each transaction arrives at. Method: one message
/// after the other, to each node in turn.
#[tokio::test]
async fn mail_arrives_at_either_node() {
    let [a, b] = sides(["a.example", "b.example"]);
    let (alice, mut bob) = acquainted(&a, &b).await;
    let two = at_another_node(&a, "two").await;
    let mut to_a = worker(&b, &a);
    for node in [&a, &two, &a, &two] {
        b.network.reach(&node.node);
        bob.say(&b, ROOM, b"hello", 3600).await;
        assert_eq!(drain(&mut to_a).await, Step::Idle);
    }
    assert_eq!(alice.heard(&a).await, 4);
    assert_eq!(waiting(&b, &a).await, 0);
}

/// Goal: a node whose work another has taken over writes nothing of it any more, and stops; what waits is sent by the other,
/// once. Method: a node gives up a message under the lease that it had, after another has taken that.
#[tokio::test]
async fn a_former_sender_is_fenced() {
    let [a, b] = sides(["a.example", "b.example"]);
    let (mut alice, bob) = acquainted(&a, &b).await;
    let one = at_another_node(&a, "one").await;
    assert!(serves(&one, &b).await);
    let fence = one
        .node
        .cluster
        .fence(&Duty::Outbound(b.node.server.clone()))
        .unwrap();
    let mut former = worker(&one, &b);
    alice.say(&one, ROOM, b"hello", 3600).await;
    one.node.cluster.leave(&one.node.store).await.unwrap();
    let two = at_another_node(&a, "two").await;
    assert!(serves(&two, &b).await);

    let (store, server) = (&one.node.store, &b.node.server);
    let waits = rows::rows_after(store, server, None, 10).await.unwrap();
    assert_eq!(waits.len(), 1);
    let refusal = Refusal::new(RefusalCode::Expired, "by a clock that had stopped");
    let given_up: Vec<_> = waits
        .into_iter()
        .map(|waits| (waits, refusal.clone()))
        .collect();
    let buried = settle::bury(&one.node, server, &given_up, &fence).await;
    assert!(buried.unwrap().is_none());
    let peer = one.node.peers.get(server).unwrap();
    let cleared = settle::clear(&one.node, &peer, &refusal, Some(&fence)).await;
    assert!(!cleared.unwrap());
    let waits = rows::rows_after(store, server, None, 10).await.unwrap();
    assert_eq!(waits.len(), 1);
    assert_eq!(drain(&mut former).await, Step::Gone);
    assert_eq!(drain(&mut worker(&one, &b)).await, Step::Gone);
    assert_eq!(bob.heard(&b).await, 0);

    assert_eq!(drain(&mut worker(&two, &b)).await, Step::Idle);
    assert_eq!(bob.heard(&b).await, 1);
    assert_eq!(waiting(&a, &b).await, 0);
}

/// Goal: whoever gives up what waits under an ended agreement, and is slower than whoever makes a new one, touches nothing of
/// the new one's mail. Method: cleared under a view from before, after the agreement was made anew and something waits.
#[tokio::test]
async fn a_new_agreements_mail_is_not_cleared() {
    let [a, b] = sides(["a.example", "b.example"]);
    acquainted(&a, &b).await;
    for (at, of) in [(&a, &b), (&b, &a)] {
        peers::revoke(&at.node, &admin(), &of.node.server, "over")
            .await
            .unwrap();
    }
    let ended = a.node.peers.get(&b.node.server).unwrap();
    assert_eq!(ended.agreed, Some(PeerState::Revoked));
    peered(&a, &b).await;
    let mut part = Part::default();
    let row = OutboxItem {
        kind: Kind::Message,
        payload: Bytes::from_static(b"under the new one"),
        created_ms: 0,
        expires_ms: u64::MAX,
        sender: None,
        origin: None,
    };
    queue_up(&mut part, &b, Lane::from(ROOM), &row);
    a.node.store.commit(part).await.unwrap();
    let before = waiting(&a, &b).await;
    assert!(before > 0);
    let refusal = Refusal::new(RefusalCode::AgreementRevoked, "it had ended");
    let cleared = settle::clear(&a.node, &ended, &refusal, None).await;
    assert!(!cleared.unwrap());
    assert_eq!(waiting(&a, &b).await, before);
    let tails = rows::tails(&a.node.store, &b.node.server, 10).await;
    assert!(!tails.unwrap().is_empty());
}
