//! Two organisations part while a third one's room has people of both: who was there goes on being judged, nobody else is
//! let in by it, and whose side has ended it is out.

use super::*;
use crate::core::Core;
use crate::core::leaving::TURN_MS;
use crate::event::Event;
use crate::frames::DeliveryBody;

/// Bob's organisation orders a room with Alice and Carol, of a and c.
struct Triangle {
    world: World,
    c: Organisation,
    carol: TestDevice,
    room: RoomId,
}

impl Triangle {
    fn new() -> Self {
        let mut world = World::new();
        let c = Organisation::new("c.example");
        let both = [&world.a, &world.b];
        let mut carol = TestDevice::enrol(&mut world.network, &world.clock, &c, "carol", 3, &both);
        for device in [&mut world.alice, &mut world.bob] {
            let anchors = [anchor(&world.a), anchor(&world.b), anchor(&c)];
            device.run(|core| core.set_anchors(&anchors).map(drop));
        }
        let with = [world.alice.address.clone(), carol.address.clone()];
        let number = world.bob.run(|core| core.start_conversation(&with));
        world.settle_with(&mut [&mut carol]);
        let room = world.bob.ended(number).unwrap();
        let mut triangle = Self {
            world,
            c,
            carol,
            room,
        };
        triangle.everybody_talks("before");
        triangle
    }

    fn settle(&mut self) {
        self.world.settle_with(&mut [&mut self.carol]);
    }

    /// What the homeservers of both name from then on.
    fn part(&mut self) {
        let (a, b, c) = (&self.world.a, &self.world.b, &self.c);
        let sides = [
            (&mut self.world.alice, [anchor(a), anchor(b)], anchor(c)),
            (&mut self.carol, [anchor(c), anchor(b)], anchor(a)),
        ];
        for (device, anchors, ended) in sides {
            device.run(|core| {
                core.set_anchors(&anchors)?;
                core.set_former_partners(&[ended])
            });
        }
    }

    /// Carol's device shows a renewed certificate.
    fn carol_renews(&mut self) {
        self.world.clock.advance(21 * 86_400_000);
        let identity = self.carol.core().identity().clone();
        let public = identity.key.public().unwrap();
        let now_ms = crate::clock::Clock::now_ms(&self.world.clock);
        let (member, address) = (&identity.member, &identity.address);
        let chain = self.c.issue(member, address, &public, now_ms);
        self.carol.run(|core| core.renewed(chain));
    }

    fn everybody_talks(&mut self, text: &str) {
        let room = self.room;
        self.world.alice.send(room, text);
        self.world.bob.send(room, text);
        self.carol.send(room, text);
        self.settle();
        let (alice, bob) = (&mut self.world.alice, &mut self.world.bob);
        for device in [alice, bob, &mut self.carol] {
            let heard = device.texts(room);
            for name in ["alice", "bob", "carol"] {
                let said = format!("{name}: {text}");
                assert!(heard.contains(&said), "{said}: {heard:?}");
            }
        }
    }

    fn nobody_fell_out(&self) {
        for device in [&self.world.alice, &self.world.bob, &self.carol] {
            let told = |event: &&Event| {
                matches!(
                    event,
                    Event::RoomOutOfStep { .. } | Event::Unreadable { .. }
                )
            };
            assert_eq!(device.events.iter().find(told), None);
        }
    }
}

/// Goal: a pause between two members' organisations breaks nothing in a third one's room: a renewed certificate of one side's is taken
/// by the other. Method: homeservers name the same roots while paused; Carol's device renews, and everybody talks.
#[test]
fn a_pause_breaks_nothing() {
    let mut triangle = Triangle::new();
    triangle.carol_renews();
    triangle.settle();
    triangle.everybody_talks("paused");
    triangle.nobody_fell_out();
}

/// Goal: when two have parted, both sides' devices go on applying what the hub orders, the other side's renewed certificates and new
/// people too, and one that falls out of step comes back; after a restart too. Method: part; Carol renews, Bob adds somebody of hers, Alice
/// misses a commit.
#[test]
fn members_of_former_partners_are_judged_by_the_roots_they_had() {
    let mut triangle = Triangle::new();
    let room = triangle.room;
    triangle.part();
    triangle.world.alice.restart();
    triangle.carol_renews();
    triangle.settle();
    triangle.nobody_fell_out();
    assert_eq!(triangle.world.alice.run(Core::rooms)[0].members.len(), 3);
    let epoch = |device: &mut TestDevice| device.run(Core::rooms)[0].epoch;
    assert_eq!(epoch(&mut triangle.world.alice), epoch(&mut triangle.carol));
    let mut carl = TestDevice::enrol(
        &mut triangle.world.network,
        &triangle.world.clock,
        &triangle.c,
        "carl",
        5,
        &[&triangle.world.b, &triangle.world.a],
    );
    let add = [carl.address.clone()];
    let number = triangle.world.bob.run(|core| core.add_members(room, &add));
    triangle
        .world
        .settle_with(&mut [&mut triangle.carol, &mut carl]);
    triangle.world.bob.ended(number).unwrap();
    triangle.nobody_fell_out();
    assert_eq!(triangle.world.alice.run(Core::rooms)[0].members.len(), 4);
    // Out of step: the whole tree and every consent is verified again.
    triangle.world.bob.run(|core| core.refresh(room));
    triangle
        .world
        .bob
        .submit(&mut triangle.world.network)
        .unwrap();
    let alice = triangle.world.alice.member.clone();
    triangle.world.network.lose_commit(&alice);
    triangle.settle();
    triangle.world.bob.run(|core| core.refresh(room));
    triangle.settle();
    let back = |event: &&Event| matches!(event, Event::RoomResynced { .. });
    assert_eq!(triangle.world.alice.events.iter().filter(back).count(), 1);
    assert_eq!(epoch(&mut triangle.world.alice), epoch(&mut triangle.carol));
    triangle.world.bob.send(room, "still all here");
    triangle.settle();
    let heard = triangle.world.alice.texts(room);
    assert_eq!(heard.last().unwrap(), "bob: still all here");
}

/// Goal: a former partner's root is good for nothing but rooms that one is in: nobody is claimed by it, and no new room with its people
/// is joined. Method: part; Alice begins a conversation with Carol and adds her to one with Bob; Bob begins one with both.
#[test]
fn former_roots_bring_nobody_together() {
    let mut triangle = Triangle::new();
    triangle.part();
    let world = &mut triangle.world;
    let mut carol = triangle.carol;
    let with = [carol.address.clone()];
    let number = world.alice.run(|core| core.start_conversation(&with));
    world.settle_with(&mut [&mut carol]);
    let refused = world.alice.ended(number).unwrap_err();
    assert!(
        matches!(&refused, Error::UnknownOrganisation(server) if *server == carol.address.server),
        "{refused}"
    );
    let two = world.conversation();
    let number = world.alice.run(|core| core.add_members(two, &with));
    world.settle_with(&mut [&mut carol]);
    assert!(world.alice.ended(number).is_err());
    let both = [world.alice.address.clone(), carol.address.clone()];
    let rooms = world.alice.run(Core::rooms).len();
    let number = world.bob.run(|core| core.start_conversation(&both));
    world.settle_with(&mut [&mut carol]);
    world.bob.ended(number).unwrap();
    assert_eq!(world.alice.run(Core::rooms).len(), rooms);
    let unreadable = world.alice.unreadable();
    assert!(
        unreadable.iter().any(|said| said.contains("c.example")),
        "{unreadable:?}"
    );
}

/// Goal: who has ended the agreement is out of a third one's room at once and told why, keeps what was said, and nothing of the room
/// reaches him any more; the others see him leave, talk on, and their new devices join. Method: part; a's homeserver closes the room and
/// asks the hub; Carol renews between and after.
#[test]
fn whoever_ends_it_is_out_and_the_others_go_on() {
    let mut triangle = Triangle::new();
    let room = triangle.room;
    triangle.part();
    let alice = triangle.world.alice.member.clone();
    let closed = |server: &str| DeliveryBody::RoomClosed {
        room,
        server: server.parse().unwrap(),
    };
    triangle.world.network.deliver(&alice, closed("d.example"));
    triangle.settle();
    triangle.world.bob.send(room, "still with her");
    triangle.settle();
    triangle.world.network.deliver(&alice, closed("c.example"));
    triangle.settle();
    let told = triangle
        .world
        .alice
        .unreadable()
        .last()
        .copied()
        .unwrap_or_default()
        .to_owned();
    assert!(
        told.contains("ended its agreement with c.example"),
        "{told}"
    );
    let refused = triangle.world.alice.try_run(|core| {
        let part = crate::content::Part::Text("one more".to_owned());
        core.send(room, part, crate::SendOptions::default())
    });
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("c.example"), "{refused}");
    let kept = triangle.world.alice.texts(room);
    assert_eq!(kept.last().unwrap(), "bob: still with her");
    let past = triangle.world.alice.run(|core| core.past_rooms());
    assert_eq!((past[0].room, past[0].addresses.len()), (room, 3));
    let over = past[0].over.as_ref().unwrap();
    assert!(over.contains("c.example"), "{over}");
    // The hub has not heard of it yet.
    triangle.carol_renews();
    triangle.settle();
    triangle
        .world
        .network
        .leaves(room, |member| *member == alice);
    triangle.settle();
    for _ in 0..3 {
        triangle.world.clock.advance(TURN_MS);
        triangle.world.bob.run(Core::do_due);
        triangle.carol.run(Core::do_due);
        triangle.settle();
    }
    triangle.carol_renews();
    triangle.settle();
    triangle.world.bob.send(room, "without her");
    triangle.settle();
    triangle.carol.send(room, "without her too");
    triangle.settle();
    for device in [&mut triangle.world.bob, &mut triangle.carol] {
        let heard = device.texts(room);
        let without_her = ["bob: without her", "carol: without her too"];
        let last = heard.len().saturating_sub(without_her.len());
        assert_eq!(heard[last..], without_her);
        assert_eq!(device.run(Core::rooms)[0].members.len(), 2);
        assert_eq!(device.unreadable(), Vec::<&str>::new());
    }
    // Nothing of a's is in the room any more, so whoever comes has nothing to judge by a's root.
    let mut second = TestDevice::enrol(
        &mut triangle.world.network,
        &triangle.world.clock,
        &triangle.c,
        "carl",
        5,
        &[&triangle.world.b],
    );
    let add = [second.address.clone()];
    let number = triangle.world.bob.run(|core| core.add_members(room, &add));
    triangle
        .world
        .settle_with(&mut [&mut triangle.carol, &mut second]);
    triangle.world.bob.ended(number).unwrap();
    second.send(room, "hello");
    triangle
        .world
        .settle_with(&mut [&mut triangle.carol, &mut second]);
    assert_eq!(
        triangle.world.bob.texts(room).last().unwrap(),
        "carl: hello"
    );
}
