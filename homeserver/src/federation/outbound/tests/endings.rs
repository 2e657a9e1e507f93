//! Agreements that end while there are rooms.

use super::*;
use crate::delivery::endings;
use crate::store::room::{self, RoomRecord};

async fn room_at(side: &Side) -> Option<RoomRecord> {
    let found = room::get(&side.node.store, ROOM).await.unwrap();
    found.map(|(record, _)| record)
}

async fn end(side: &Side) {
    assert!(endings::end_all(&side.node).await.unwrap());
}

fn going(room: &RoomRecord) -> Vec<&federation_proto::ids::Member> {
    room.going.iter().map(|going| &going.member).collect()
}

/// Goal: when an agreement ends, its two sides' people are apart in rooms that one of them orders: the hub removes the other's,
/// whose homeserver closes the room for them; a third organisation's stay, hear of it, and go on. A pause changes nothing. Method: a
/// orders a room of a, b and c; a pauses the agreement with b, then revokes it.
#[tokio::test]
async fn a_hub_and_its_former_partner() {
    let [a, b, c] = sides(["a.example", "b.example", "c.example"]);
    let (mut alice, bob, carol) = three_acquainted(&a, &b, &c).await;
    let (mut to_b, mut to_c) = (worker(&a, &b), worker(&a, &c));
    drain(&mut to_b).await;
    drain(&mut to_c).await;
    peers::suspend(&a.node, &admin(), &b.node.server, "")
        .await
        .unwrap();
    for side in [&a, &b, &c] {
        end(side).await;
        assert_eq!(room_at(side).await.unwrap().going, []);
    }
    peers::revoke(&a.node, &admin(), &b.node.server, "")
        .await
        .unwrap();
    drain(&mut to_b).await;
    let at_b = b.node.peers.get(&a.node.server).unwrap();
    assert_eq!(at_b.agreed, Some(PeerState::Revoked));
    for side in [&a, &b, &c] {
        end(side).await;
    }
    drain(&mut to_c).await;
    // At the hub and at the third, Bob alone is on his way out; at his own it is over.
    for side in [&a, &c] {
        let room = room_at(side).await.unwrap();
        assert_eq!(going(&room), [&bob.member]);
        assert!(room.going.iter().all(|going| going.account));
        assert_eq!(room.members.len(), 3);
    }
    assert_eq!(room_at(&b).await, None);
    let last = bob.inbox(&b).await.pop().unwrap();
    let closed = InboxBody::RoomClosed {
        room: ROOM,
        server: a.node.server.clone(),
    };
    assert_eq!(last, closed);
    for (person, side) in [(&alice, &a), (&carol, &c)] {
        let last = person.inbox(side).await.pop();
        assert!(matches!(last, Some(InboxBody::Removals { .. })), "{last:?}");
    }
    // Once is enough, after a start too.
    let stored = room_at(&a).await;
    a.node.observed_rooms.forget();
    for side in [&a, &b, &c] {
        end(side).await;
    }
    assert_eq!(room_at(&a).await, stored);
    alice.say(&a, ROOM, b"without him", 3600).await;
    drain(&mut to_c).await;
    assert_eq!(carol.heard(&c).await, 1);
    assert_eq!(bob.heard(&b).await, 0);
}

/// Goal: in a room that a third organisation orders nobody is removed when two others end their agreement. Method: c orders a room
/// of a, b and c; a revokes the agreement with b.
#[tokio::test]
async fn in_a_third_ones_room_both_stay() {
    let [c, a, b] = sides(["c.example", "a.example", "b.example"]);
    let (_carol, alice, bob) = three_acquainted(&c, &a, &b).await;
    drain(&mut worker(&c, &a)).await;
    drain(&mut worker(&c, &b)).await;
    peers::revoke(&a.node, &admin(), &b.node.server, "")
        .await
        .unwrap();
    drain(&mut worker(&a, &b)).await;
    for side in [&a, &b, &c] {
        end(side).await;
        let room = room_at(side).await.unwrap();
        assert_eq!((room.members.len(), room.going.len()), (3, 0));
    }
    for (person, side) in [(&alice, &a), (&bob, &b)] {
        let inbox = person.inbox(side).await;
        assert!(matches!(inbox.as_slice(), [InboxBody::Welcome { .. }]));
    }
}
