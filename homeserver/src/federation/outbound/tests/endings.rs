//! Agreements that end while there are rooms.

use super::*;
use crate::delivery::endings;
use crate::store::room::RoomRecord;

/// As a process does it that has just started.
async fn end(side: &Side) {
    let asked = &mut endings::Asked::new();
    assert!(endings::end_all(&side.node, asked).await.unwrap());
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

/// Goal: in a room that a third organisation orders the people of the side that ends an agreement go, at once and told why, and no
/// others; a pause changes nothing; the hub is asked once, however long it is away. Method: c orders a room of a, b and c; a pauses
/// the agreement with b, then revokes it while c hears nothing.
#[tokio::test]
async fn a_third_ones_room_is_left_by_who_ends_it() {
    let [c, a, b] = sides(["c.example", "a.example", "b.example"]);
    let (mut carol, alice, bob) = three_acquainted(&c, &a, &b).await;
    drain(&mut worker(&c, &a)).await;
    drain(&mut worker(&c, &b)).await;
    peers::suspend(&a.node, &admin(), &b.node.server, "")
        .await
        .unwrap();
    drain(&mut worker(&a, &b)).await;
    for side in [&a, &b, &c] {
        end(side).await;
        let room = room_at(side).await.unwrap();
        assert_eq!((room.members.len(), room.going.len()), (3, 0));
    }
    assert_eq!(waiting(&a, &c).await, 0);
    peers::revoke(&a.node, &admin(), &b.node.server, "")
        .await
        .unwrap();
    drain(&mut worker(&a, &b)).await;
    let at_b = b.node.peers.get(&a.node.server).unwrap();
    assert!(!at_b.parted.as_ref().unwrap().by_us);
    let mut asked = endings::Asked::new();
    for _ in 0..3 {
        assert!(endings::end_all(&a.node, &mut asked).await.unwrap());
        end(&b).await;
        end(&c).await;
    }
    assert_eq!((waiting(&a, &c).await, waiting(&b, &c).await), (1, 0));
    let closed = InboxBody::RoomClosed {
        room: ROOM,
        server: b.node.server.clone(),
    };
    let inbox = alice.inbox(&a).await;
    assert!(matches!(inbox.as_slice(), [InboxBody::Welcome { .. }, last] if *last == closed));
    drain(&mut worker(&a, &c)).await;
    drain(&mut worker(&c, &a)).await;
    drain(&mut worker(&c, &b)).await;
    for side in [&a, &b, &c] {
        let room = room_at(side).await.unwrap();
        assert_eq!(going(&room), [&alice.member]);
        assert!(room.going.iter().all(|going| going.account));
    }
    assert!(endings::end_all(&a.node, &mut asked).await.unwrap());
    assert!(asked.is_empty(), "nobody is left to be asked about");
    assert_eq!(waiting(&a, &c).await, 0);
    carol.say(&c, ROOM, b"without her", 3600).await;
    drain(&mut worker(&c, &a)).await;
    drain(&mut worker(&c, &b)).await;
    assert_eq!((bob.heard(&b).await, alice.heard(&a).await), (1, 0));
}

/// Goal: when both sides have ended an agreement, the people of both leave a third one's room. Method: c orders a room of a, b and
/// c; a and b revoke before either hears of the other.
#[tokio::test]
async fn a_third_ones_room_is_left_by_both_who_end_it() {
    let [c, a, b] = sides(["c.example", "a.example", "b.example"]);
    let _people = three_acquainted(&c, &a, &b).await;
    drain(&mut worker(&c, &a)).await;
    drain(&mut worker(&c, &b)).await;
    for (one, other) in [(&a, &b), (&b, &a)] {
        peers::revoke(&one.node, &admin(), &other.node.server, "")
            .await
            .unwrap();
    }
    drain(&mut worker(&a, &b)).await;
    drain(&mut worker(&b, &a)).await;
    for side in [&a, &b] {
        end(side).await;
        assert_eq!(waiting(side, &c).await, 1);
        drain(&mut worker(side, &c)).await;
    }
    assert_eq!(going(&room_at(&c).await.unwrap()).len(), 2);
}

/// Goal: an agreement that runs out makes nobody leave a third one's room: neither side has decided that. Method: c orders a room of
/// a, b and c; at a the clock passes the last day, and the agreement with b alone is looked at.
#[tokio::test]
async fn in_a_third_ones_room_both_stay_when_it_runs_out() {
    let [c, a, b] = sides(["c.example", "a.example", "b.example"]);
    let _people = three_acquainted(&c, &a, &b).await;
    drain(&mut worker(&c, &a)).await;
    let ends_ms = a.node.peers.get(&b.node.server).unwrap().ends_ms().unwrap();
    a.clock.advance_ms(ends_ms - a.node.clock.now_ms());
    peers::expire(&a.node, &b.node.server).await.unwrap();
    let view = a.node.peers.get(&b.node.server).unwrap();
    assert_eq!(view.agreed, Some(PeerState::Expired));
    assert!(!view.parted.as_ref().unwrap().by_us);
    end(&a).await;
    let room = room_at(&a).await.unwrap();
    assert_eq!((room.members.len(), room.going.len()), (3, 0));
    assert_eq!(waiting(&a, &c).await, 0);
}
