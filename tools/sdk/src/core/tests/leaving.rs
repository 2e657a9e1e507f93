//! Who leaves is removed by the hub, and taken up by whoever commits next.

use room_rules::settings::RoomSettings;

use super::*;
use crate::core::Core;
use crate::core::leaving::TURN_MS;
use crate::core::rooms::settings;
use crate::event::Event;
use crate::ids::Address;
use crate::refusal::RefusalCode;

/// The room's list, as a device knows it.
fn list_of(device: &mut TestDevice, room: RoomId) -> RoomSettings {
    device.run(|core| settings(core.group(room)?))
}

fn left_by(device: &TestDevice) -> Vec<Address> {
    let left = |event: &Event| match event {
        Event::MembersChanged { left, .. } => Some(left.clone()),
        _ => None,
    };
    device.events.iter().filter_map(left).flatten().collect()
}

fn renames(device: &TestDevice) -> Vec<String> {
    let name = |event: &Event| match event {
        Event::RoomRenamed { name, .. } => Some(name.clone()),
        _ => None,
    };
    device.events.iter().filter_map(name).collect()
}

/// A conversation of Alice, who owns it, Bob, and these.
fn room_with(world: &mut World, others: &mut [&mut TestDevice]) -> RoomId {
    let room = world.conversation();
    let add: Vec<Address> = others.iter().map(|device| device.address.clone()).collect();
    let number = world.alice.run(|core| core.add_members(room, &add));
    world.settle_with(others);
    world.alice.ended(number).unwrap();
    room
}

/// Goal: who leaves sees it at once, keeps what was said, sends nothing more, and may come again; the others see who has left
/// and strike him from the list, and go on. Method: Carol leaves with two devices, of which one does it.
#[test]
fn a_person_leaves() {
    let mut world = World::new();
    let mut carol = world.device('a', "carol", 3);
    let mut second = world.device('a', "carol", 4);
    let room = room_with(&mut world, &mut [&mut carol, &mut second]);
    world.alice.send(room, "hello");
    world.settle_with(&mut [&mut carol, &mut second]);
    carol.run(|core| core.leave_room(room));
    assert!(carol.events.contains(&Event::RoomLeft { room }));
    assert_eq!(carol.texts(room), ["alice: hello"]);
    let past = carol.run(|core| core.past_rooms());
    assert_eq!((past[0].room, past[0].addresses.len()), (room, 3));
    assert!(past[0].over.is_some());
    let refused = carol.try_run(|core| {
        core.send(
            room,
            crate::content::Part::Text("one more".to_owned()),
            crate::SendOptions::default(),
        )
    });
    assert_eq!(refused, Err(Error::UnknownRoom(room)));
    world.settle_with(&mut [&mut carol, &mut second]);
    assert!(second.events.contains(&Event::RoomLeft { room }));
    // Nobody has anything to send; the first in turn takes it up.
    let World {
        clock,
        network,
        alice,
        bob,
        ..
    } = &mut world;
    for _ in 0..2 {
        clock.advance(TURN_MS);
        alice.run(Core::do_due);
        bob.run(Core::do_due);
        settle(network, &mut [alice, bob]);
    }
    for device in [&mut world.alice, &mut world.bob] {
        assert_eq!(left_by(device), [carol.address.clone()]);
        let list = list_of(device, room);
        assert_eq!(list.participants.len(), 2);
    }
    assert_eq!(world.network.commits.last().unwrap().removes.len(), 2);
    world.alice.send(room, "without her");
    world.settle_with(&mut [&mut carol, &mut second]);
    assert_eq!(
        world.bob.texts(room),
        ["alice: hello", "alice: without her"]
    );
    assert_eq!(carol.texts(room), ["alice: hello"]);
    let add = [carol.address.clone()];
    let number = world.alice.run(|core| core.add_members(room, &add));
    world.settle_with(&mut [&mut carol, &mut second]);
    world.alice.ended(number).unwrap();
    carol.send(room, "back again");
    world.settle_with(&mut [&mut carol, &mut second]);
    assert_eq!(world.bob.texts(room).last().unwrap(), "carol: back again");
    assert_eq!(carol.run(|core| core.past_rooms()), []);
}

/// Goal: a member that does nothing stops nobody: whoever is the only one awake takes the removal up within his turn, after
/// a restart too. Method: stall every member but one, each in turn, in a room of five that a sixth leaves.
#[test]
fn stalled_members_stop_nobody() {
    for awake in 0..5 {
        let mut world = World::new();
        let (mut c, mut d) = (world.device('a', "carol", 3), world.device('b', "dave", 4));
        let (mut e, mut f) = (world.device('a', "erin", 5), world.device('b', "frank", 6));
        let room = room_with(&mut world, &mut [&mut c, &mut d, &mut e, &mut f]);
        f.run(|core| core.leave_room(room));
        settle(&mut world.network, &mut [&mut f]);
        let before = world.network.commits.len();
        let World {
            clock,
            network,
            alice,
            bob,
            ..
        } = &mut world;
        let only = [alice, bob, &mut c, &mut d, &mut e].into_iter().nth(awake);
        let only = only.unwrap();
        settle(network, &mut [only]);
        only.restart();
        let mut waited = 0;
        while network.commits.len() == before {
            assert!(waited < 5, "it is somebody's turn within five steps");
            clock.advance(TURN_MS);
            only.run(Core::do_due);
            settle(network, &mut [only]);
            waited += 1;
        }
        assert_eq!(network.commits.len(), before + 1);
        assert_eq!(left_by(only), [f.address.clone()]);
        assert_eq!(list_of(only, room).participants.len(), 5);
        let only_one = only.member.clone();
        // The others find it done when they wake up.
        let mut others = [&mut world.alice, &mut world.bob, &mut c, &mut d, &mut e];
        settle(&mut world.network, &mut others);
        world.clock.advance(5 * TURN_MS);
        for device in &mut others {
            device.run(Core::do_due);
        }
        settle(&mut world.network, &mut others);
        assert_eq!(world.network.commits.len(), before + 1, "by {only_one:?}");
        world.bob.send(room, "all here");
        settle(
            &mut world.network,
            &mut [&mut world.alice, &mut world.bob, &mut c, &mut d, &mut e],
        );
        assert_eq!(e.texts(room).last().unwrap(), "bob: all here");
    }
}

/// Goal: who has something to send does not wait for his turn; what he sends comes after the commit, and is read.
#[test]
fn messages_take_removals_up_at_once() {
    let mut world = World::new();
    let mut carol = world.device('b', "carol", 3);
    let room = room_with(&mut world, &mut [&mut carol]);
    carol.run(|core| core.leave_room(room));
    settle(&mut world.network, &mut [&mut carol]);
    world.settle();
    for name in ["alice", "bob"] {
        let device = match name {
            "alice" => &mut world.alice,
            _ => &mut world.bob,
        };
        device.send(room, name);
        world.settle();
    }
    assert_eq!(world.alice.texts(room), ["alice: alice", "bob: bob"]);
    assert_eq!(world.bob.texts(room), ["alice: alice", "bob: bob"]);
    assert_eq!(left_by(&world.alice), [carol.address.clone()]);
    assert!(carol.texts(room).is_empty());
}

/// Goal: a commit that crosses with a removal is refused, and made again with it by itself, whether the removal or the
/// refusal comes first. Method: Alice adds Dave while Carol leaves; both orders.
#[test]
fn commits_are_made_again_with_the_removals() {
    for swapped in [false, true] {
        let mut world = World::new();
        let (mut carol, mut dave) = (world.device('b', "carol", 3), world.device('b', "dave", 4));
        let room = room_with(&mut world, &mut [&mut carol]);
        let add = [dave.address.clone()];
        let number = world.alice.run(|core| core.add_members(room, &add));
        world.alice.submit(&mut world.network).unwrap();
        world.alice.receive(&mut world.network).unwrap();
        carol.run(|core| core.leave_room(room));
        carol.submit(&mut world.network).unwrap();
        world.alice.submit(&mut world.network).unwrap();
        let inbox = world.network.inbox(&world.alice.member);
        let refused = inbox.iter().any(|delivery| {
            let code = match &delivery.body {
                crate::frames::DeliveryBody::CommitRefused { refusal, .. } => refusal.code,
                _ => return false,
            };
            code == RefusalCode::PendingRemoves
        });
        assert!(refused, "{inbox:?}");
        if swapped {
            world.network.swap_inbox(&world.alice.member);
        }
        world.settle_with(&mut [&mut carol, &mut dave]);
        world.alice.ended(number).unwrap();
        let list = list_of(&mut world.bob, room);
        assert_eq!(list.participants.len(), 3);
        dave.send(room, "here");
        world.settle_with(&mut [&mut carol, &mut dave]);
        assert_eq!(world.alice.texts(room), ["dave: here"]);
        assert!(carol.texts(room).is_empty());
    }
}

/// Goal: what is no removal by the room's hub is put aside and changes nothing: one with another key, of another epoch or
/// room, of a leaf that is not there, noise, and one whose account flag was turned. Method: each, then a true one.
#[test]
fn forged_removals_are_put_aside() {
    use room_rules::{Observed, RoomKey};
    let mut world = World::new();
    let mut carol = world.device('b', "carol", 3);
    let room = room_with(&mut world, &mut [&mut carol]);
    let info = world.network.newest_group_info(room);
    let observe = |key: &RoomKey| {
        let anchors = crate::certificate::AnchorSet::default();
        Observed::open(&info, anchors, Some(key)).unwrap()
    };
    let hub = observe(&world.a.room_key());
    let good = hub.propose_removals(&[(2, false)]).unwrap().remove(0);
    let changed = |at: usize, to: u8| {
        let mut bytes = good.to_vec();
        bytes[at] = to;
        bytes::Bytes::from(bytes)
    };
    let forged = [
        changed(35, 2),
        changed(28, 9),
        changed(5, 9),
        changed(42, 9),
        changed(42, 1),
        bytes::Bytes::from_static(b"noise"),
        changed(good.len() - 1, good[good.len() - 1] ^ 1),
    ];
    let members = [world.alice.member.clone()];
    for forged in forged {
        let before = world.alice.events.len();
        let (epoch, proposals) = (2, [forged]);
        world
            .network
            .order_removals(room, &members, epoch, &proposals);
        world.settle();
        let told = &world.alice.events[before..];
        assert!(matches!(told, [Event::Unreadable { .. }]), "{told:?}");
    }
    world.alice.send(room, "nothing has happened");
    world.settle_with(&mut [&mut carol]);
    assert_eq!(carol.texts(room), ["alice: nothing has happened"]);
    world
        .network
        .removes(room, false, |member| *member == carol.member);
    world.settle_with(&mut [&mut carol]);
    world.alice.send(room, "without her");
    world.settle_with(&mut [&mut carol]);
    assert_eq!(world.bob.texts(room).len(), 2);
    assert_eq!(carol.texts(room).len(), 1);
    // A device went, not the account: it stays listed, and anybody adds its next device.
    assert_eq!(list_of(&mut world.bob, room).participants.len(), 3);
    assert!(left_by(&world.bob).is_empty());
}

/// Goal: when the owner leaves, the first in the list acts as an owner, is shown as such, and is one after the first change;
/// nobody else may. Method: Alice leaves Bob and Carol; each tries to rename the room.
#[test]
fn an_owner_is_succeeded() {
    let mut world = World::new();
    let mut carol = world.device('b', "carol", 3);
    let room = room_with(&mut world, &mut [&mut carol]);
    world.alice.run(|core| core.leave_room(room));
    world.settle_with(&mut [&mut carol]);
    world.clock.advance(2 * TURN_MS);
    world.bob.run(Core::do_due);
    carol.run(Core::do_due);
    world.settle_with(&mut [&mut carol]);
    let list = list_of(&mut carol, room);
    assert!(!list.has_owner());
    let (first, _) = list.participants.first_key_value().unwrap();
    let first = first.clone();
    let (bob, carols) = (&mut world.bob, &mut carol);
    let acting = bob.run(Core::rooms)[0].acting_owner.clone().unwrap();
    assert_eq!(
        carols.run(Core::rooms)[0].acting_owner,
        Some(acting.clone())
    );
    let is_first = (bob.member.server.clone(), bob.member.account) == first;
    assert_eq!(is_first, bob.address == acting);
    let (heir, other) = if is_first {
        (bob, carols)
    } else {
        (carols, bob)
    };
    assert!(other.try_run(|core| core.rename(room, "Mine")).is_ok());
    let (_, refused) = other.ended.pop().unwrap();
    assert!(refused.is_err());
    let number = heir.run(|core| core.rename(room, "Ours"));
    settle(&mut world.network, &mut [heir, other]);
    heir.ended(number).unwrap();
    for device in [heir, other] {
        let rooms = device.run(Core::rooms);
        assert_eq!(
            (rooms[0].name.as_str(), &rooms[0].acting_owner),
            ("Ours", &None)
        );
        assert_eq!(rooms[0].roles[&acting], Role::Owner);
        assert_eq!(renames(device), ["Ours"]);
    }
}

/// Goal: owners name the room, all see the same, and a name is one short line. Method: Alice names it and takes the name
/// away; Bob, a member, and bad names are refused.
#[test]
fn rooms_have_names() {
    let mut world = World::new();
    let room = world.conversation();
    for name in ["Lunch", ""] {
        let number = world.alice.run(|core| core.rename(room, name));
        world.settle();
        world.alice.ended(number).unwrap();
        for device in [&mut world.alice, &mut world.bob] {
            assert_eq!(device.run(Core::rooms)[0].name, name);
        }
    }
    assert_eq!(renames(&world.bob), ["Lunch", ""]);
    for bad in [" Lunch", "a\nb", &"x".repeat(200)] {
        assert!(world.alice.try_run(|core| core.rename(room, bad)).is_err());
    }
    world.bob.run(|core| core.rename(room, "Mine"));
    world.settle();
    assert!(world.bob.ended.pop().unwrap().1.is_err());
}
