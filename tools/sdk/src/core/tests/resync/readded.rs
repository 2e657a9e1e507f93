//! Somebody adds a device again that is on its way back.

use super::*;

impl World {
    /// Alice takes Bob out of the room, of whose step he is, and adds him again.
    fn add_bob_again(&mut self, room: RoomId) {
        let bob = [self.bob.address.clone()];
        self.alice.receive(&mut self.network).unwrap();
        self.alice.run(|core| core.remove_members(room, &bob));
        self.settle_but_bob();
        let number = self.alice.run(|core| core.add_members(room, &bob));
        self.settle_but_bob();
        self.alice.ended(number).unwrap();
    }
}

/// Goal: a member may be quicker to add a device again than its way back is: it goes on, is told who has come and between when messages may be missing, and what
/// waited is sent. Method: Carol is added, and Bob removed and added by Alice, before he has asked for anything.
#[test]
fn a_member_is_quicker() {
    let mut world = World::new();
    let room = world.conversation();
    let mut carol = world.device('a', "carol", 3);
    world.fall_out(room);
    world.bob.receive(&mut world.network).unwrap();
    assert_eq!(out_of_step(&world.bob), 1);
    world.bob.send(room, "written while out of step");
    world.alice.receive(&mut world.network).unwrap();
    let with = [carol.address.clone()];
    world.alice.run(|core| core.add_members(room, &with));
    settle(&mut world.network, &mut [&mut world.alice, &mut carol]);
    world.add_bob_again(room);
    world.bob.receive(&mut world.network).unwrap();
    assert_eq!(gaps(&world.bob).len(), 1);
    let here = world.bob.run(Core::rooms).remove(0);
    assert!(!here.out_of_step && here.gap.is_some());
    assert_eq!(here.members.len(), 3);
    let told = |event: &Event| match event {
        Event::MembersChanged { added, removed, .. } => {
            added.len() == 1 && added[0].member == carol.member && removed.is_empty()
        }
        _ => false,
    };
    assert!(world.bob.events.iter().any(told), "{:?}", world.bob.events);
    world.settle_with(&mut [&mut carol]);
    assert_eq!(carol.texts(room), ["bob: written while out of step"]);
    world.talks(room);
    assert!(world.bob.unreadable().is_empty());
    assert_eq!(gaps(&world.bob).len(), 1, "the answer comes too late");
}

/// Goal: a newcomer's welcome brings a device nowhere while it is out of step, for a homeserver could make the newcomer up; it comes back by itself behind a member
/// whom it knew, and what waited is sent then. Method: Carol is added and adds Bob again; then Alice commits.
#[test]
fn newcomers_welcomes_are_refused() {
    let mut world = World::new();
    let room = world.conversation();
    let mut carol = world.device('a', "carol", 3);
    let (with_bob, with_carol) = ([world.bob.address.clone()], [carol.address.clone()]);
    world.fall_out(room);
    world.bob.receive(&mut world.network).unwrap();
    world.bob.send(room, "written while out of step");
    world.alice.receive(&mut world.network).unwrap();
    world.alice.run(|core| core.add_members(room, &with_carol));
    settle(&mut world.network, &mut [&mut world.alice, &mut carol]);
    let [address] = &with_carol;
    world
        .alice
        .run(|core| core.set_role(room, address, crate::Role::Moderator));
    settle(&mut world.network, &mut [&mut world.alice, &mut carol]);
    world.alice.run(|core| core.remove_members(room, &with_bob));
    settle(&mut world.network, &mut [&mut world.alice, &mut carol]);
    let number = carol.run(|core| core.add_members(room, &with_bob));
    settle(&mut world.network, &mut [&mut world.alice, &mut carol]);
    carol.ended(number).unwrap();
    for _ in 0..3 {
        world.settle_with(&mut [&mut carol]);
        assert_eq!(gaps(&world.bob), []);
        world.wait();
    }
    let told = world.bob.unreadable();
    assert!(
        told.len() == 1 && told[0].contains("came while this device was out of step"),
        "{told:?}"
    );
    assert!(carol.texts(room).is_empty());
    world.alice.run(|core| core.refresh(room));
    world.settle_with(&mut [&mut carol]);
    world.wait();
    world.settle_with(&mut [&mut carol]);
    assert_eq!(gaps(&world.bob).len(), 1);
    assert_eq!(carol.texts(room), ["bob: written while out of step"]);
    world.talks(room);
}

/// Goal: a welcome that comes behind the way back which leads beyond it undoes nothing. Method: Bob is removed and added again; he hears of that by the group info that he
/// asks for, and gets the welcome when his commit is on its way.
#[test]
fn late_welcomes_are_passed_over() {
    let mut world = World::new();
    let room = world.conversation();
    world.fall_out(room);
    world.bob.receive(&mut world.network).unwrap();
    world.add_bob_again(room);
    let bob = world.bob.member.clone();
    let welcome = world.network.withhold(&bob, |body| {
        matches!(body, crate::frames::DeliveryBody::Welcome { .. })
    });
    world.bob.receive(&mut world.network).unwrap();
    world.bob.submit(&mut world.network).unwrap();
    world.bob.receive(&mut world.network).unwrap();
    world.network.deliver(&bob, welcome);
    world.bob.receive(&mut world.network).unwrap();
    assert!(world.bob.run(Core::rooms)[0].out_of_step);
    assert!(world.bob.unreadable().is_empty());
    world.settle();
    assert_eq!(gaps(&world.bob).len(), 1);
    assert!(!world.bob.events.contains(&Event::RoomLeft { room }));
    world.talks(room);
}
