use super::*;
use crate::Role;
use crate::core::Core;
use crate::event::Event;
use crate::refusal::{Refusal, RefusalCode};

fn handles(device: &mut TestDevice) -> Vec<String> {
    let rooms = device.run(Core::rooms);
    rooms[0]
        .addresses
        .iter()
        .map(|address| address.handle.to_string())
        .collect()
}

/// Goal: somebody who is added reads what follows, and not what was before.
#[test]
fn added_members_read_what_follows() {
    let mut world = World::new();
    let room = world.conversation_of_owners();
    let mut carol = world.device('a', "carol", 3);
    world.alice.send(room, "before");
    world.settle_with(&mut [&mut carol]);
    let add = [carol.address.clone()];
    let number = world.bob.run(|core| core.add_members(room, &add));
    world.settle_with(&mut [&mut carol]);
    world.bob.ended(number).unwrap();
    world.alice.send(room, "after");
    world.settle_with(&mut [&mut carol]);
    assert_eq!(carol.texts(room), ["alice: after"]);
    assert_eq!(handles(&mut world.alice), ["alice", "bob", "carol"]);
    let joined = world.alice.events.iter().any(|event| {
        matches!(event, Event::MembersChanged { added, .. } if added[0].member == carol.member)
    });
    assert!(joined);
}

/// Goal: somebody who is removed reads nothing more and is told; the others go on.
#[test]
fn removed_members_read_nothing_more() {
    let mut world = World::new();
    let room = world.conversation_of_owners();
    let mut carol = world.device('a', "carol", 3);
    let add = [carol.address.clone()];
    world.alice.run(|core| core.add_members(room, &add));
    world.settle_with(&mut [&mut carol]);
    let number = world.bob.run(|core| core.remove_members(room, &add));
    world.settle_with(&mut [&mut carol]);
    world.bob.ended(number).unwrap();
    world.alice.send(room, "without carol");
    world.settle_with(&mut [&mut carol]);
    assert_eq!(world.bob.texts(room), ["alice: without carol"]);
    assert!(carol.events.contains(&Event::RoomLeft { room }));
    assert!(carol.run(Core::rooms).is_empty());
    let refused = carol.try_run(|core| {
        core.send(
            room,
            crate::content::Part::Text("let me in".to_owned()),
            crate::SendOptions::default(),
        )
    });
    assert_eq!(refused, Err(Error::UnknownRoom(room)));
    // And may be added again.
    world.alice.run(|core| core.add_members(room, &add));
    world.settle_with(&mut [&mut carol]);
    carol.send(room, "thanks");
    world.settle_with(&mut [&mut carol]);
    assert_eq!(
        world.bob.texts(room),
        ["alice: without carol", "carol: thanks"]
    );
}

/// Goal: who was removed may be added again by somebody who came meanwhile; he is told who has come and gone, and what he wrote before is not sent
/// to them. Method: Carol comes after Bob's removal and adds him; then his earlier message comes back.
#[test]
fn newcomers_add_who_was_removed() {
    let mut world = World::new();
    let room = world.conversation();
    let mut carol = world.device('a', "carol", 3);
    let (with_bob, with_carol) = ([world.bob.address.clone()], [carol.address.clone()]);
    let early = world.bob.send(room, "to Alice alone");
    world.settle();
    let counter = world.network.last_counter(&world.bob.member);
    world.alice.run(|core| core.remove_members(room, &with_bob));
    world.settle();
    assert!(world.bob.events.contains(&Event::RoomLeft { room }));
    world.alice.run(|core| core.add_members(room, &with_carol));
    world.settle_with(&mut [&mut carol]);
    let [address] = &with_carol;
    world
        .alice
        .run(|core| core.set_role(room, address, Role::Moderator));
    world.settle_with(&mut [&mut carol]);
    let number = carol.run(|core| core.add_members(room, &with_bob));
    world.settle_with(&mut [&mut carol]);
    carol.ended(number).unwrap();
    let told = |event: &Event| match event {
        Event::MembersChanged { added, removed, .. } => {
            added.len() == 1 && added[0].member == carol.member && removed.is_empty()
        }
        _ => false,
    };
    assert!(world.bob.events.iter().any(told), "{:?}", world.bob.events);
    let (bob, hub) = (world.bob.member.clone(), world.a.server.clone());
    let over = Refusal::new(RefusalCode::EpochTooOld, "its epoch is over");
    let network = &mut world.network;
    network.return_message(&bob, room, counter, &hub, over);
    world.settle_with(&mut [&mut carol]);
    assert_eq!(world.network.messages.len(), 1, "it is not sent again");
    let returned =
        |event: &Event| matches!(event, Event::Returned { message, .. } if *message == early);
    assert!(world.bob.events.iter().any(returned));
    world.bob.send(room, "thanks");
    world.settle_with(&mut [&mut carol]);
    assert_eq!(carol.texts(room), ["bob: thanks"]);
}

/// Goal: of two commits at once the hub takes one; the other is made again on top of it, and both
/// changes come about.
#[test]
fn losing_commits_are_made_again() {
    let mut world = World::new();
    let room = world.conversation_of_owners();
    let mut carol = world.device('a', "carol", 3);
    let mut dave = world.device('b', "dave", 4);
    let (with_carol, with_dave) = ([carol.address.clone()], [dave.address.clone()]);
    let first = world.alice.run(|core| core.add_members(room, &with_carol));
    let second = world.bob.run(|core| core.add_members(room, &with_dave));
    // Both claim, then both commit in the same epoch before either hears of the other.
    for _ in 0..2 {
        world.alice.submit(&mut world.network).unwrap();
        world.bob.submit(&mut world.network).unwrap();
        world.alice.receive(&mut world.network).unwrap();
        world.bob.receive(&mut world.network).unwrap();
    }
    world.settle_with(&mut [&mut carol, &mut dave]);
    world.alice.ended(first).unwrap();
    world.bob.ended(second).unwrap();
    for device in [&mut world.alice, &mut world.bob, &mut carol, &mut dave] {
        assert_eq!(handles(device), ["alice", "bob", "carol", "dave"]);
    }
    carol.send(room, "all here");
    world.settle_with(&mut [&mut carol, &mut dave]);
    assert_eq!(dave.texts(room), ["carol: all here"]);
    assert_eq!(world.network.commits.len(), 4);
}

/// Goal: nobody stays in a room because others' commits are always first: a removal is not given up. Method: forty times Alice's commit is ordered
/// before Bob's, which removes Carol.
#[test]
fn removals_are_not_given_up() {
    let mut world = World::new();
    let room = world.conversation_of_owners();
    let mut carol = world.device('a', "carol", 3);
    let with = [carol.address.clone()];
    world.alice.run(|core| core.add_members(room, &with));
    world.settle_with(&mut [&mut carol]);
    let number = world.bob.run(|core| core.remove_members(room, &with));
    for _ in 0..40 {
        // Whoever loses often waits for a moment.
        world.clock.advance(4_000);
        world.bob.run(Core::do_due);
        world.alice.run(|core| core.refresh(room));
        world.alice.submit(&mut world.network).unwrap();
        world.bob.submit(&mut world.network).unwrap();
        world.alice.receive(&mut world.network).unwrap();
        world.bob.receive(&mut world.network).unwrap();
        assert!(!world.bob.has_ended(number));
    }
    world.clock.advance(4_000);
    world.bob.run(Core::do_due);
    world.settle_with(&mut [&mut carol]);
    world.bob.ended(number).unwrap();
    assert!(carol.events.contains(&Event::RoomLeft { room }));
}

/// Goal: a change for which the room changes too fast is made again after a moment, by the clock alone, and holds up nothing that is
/// written meanwhile; where that has no end, whoever waits for it is told. Method: a hub that refuses every commit, for a while and for good.
#[test]
fn changes_that_come_too_fast_are_made_again() {
    let mut world = World::new();
    let room = world.conversation();
    let too_fast = Refusal::new(RefusalCode::RateLimited, "commit again in 5 seconds");
    world.network.refuse_commits = Some(too_fast.clone());
    let number = world.alice.run(|core| core.rename(room, "later"));
    world.settle();
    world.alice.send(room, "meanwhile");
    world.settle();
    assert_eq!(world.bob.texts(room), ["alice: meanwhile"]);
    world.network.refuse_commits = None;
    world.alice.run(Core::do_due);
    world.settle();
    assert!(!world.alice.has_ended(number));
    let later = |world: &mut World| {
        world.clock.advance(8_000);
        world.alice.run(Core::do_due);
        world.settle();
    };
    later(&mut world);
    assert_eq!(world.alice.ended(number), Ok(room));

    world.network.refuse_commits = Some(too_fast);
    let number = world.alice.run(|core| core.rename(room, "never"));
    world.settle();
    let mut times = 0;
    while !world.alice.has_ended(number) {
        later(&mut world);
        times += 1;
        assert!(times < 50, "it never ends");
    }
    assert!(times > 20, "{times}");
    let refused = world.alice.ended(number).unwrap_err();
    assert_eq!(
        refused.refusal().map(|r| r.code),
        Some(RefusalCode::RateLimited)
    );
}

/// Goal: a change that loses against others again and again is not used up in a moment: it waits for a gap. Method: Bob commits before
/// each of Alice's commits, as often as she makes one at once.
#[test]
fn losing_commits_wait_for_a_gap() {
    let mut world = World::new();
    let room = world.conversation();
    let number = world.alice.run(|core| core.rename(room, "at last"));
    let mut lost = 0;
    while !world
        .alice
        .core()
        .submissions_after(0, 10)
        .unwrap()
        .is_empty()
    {
        world.bob.receive(&mut world.network).unwrap();
        world.bob.run(|core| core.refresh(room));
        world.bob.submit(&mut world.network).unwrap();
        world.alice.submit(&mut world.network).unwrap();
        world.alice.receive(&mut world.network).unwrap();
        lost += 1;
        assert!(lost < 32, "it does not wait");
    }
    assert_eq!(lost, 9);
    world.settle();
    assert!(!world.alice.has_ended(number));
    world.clock.advance(4_000);
    world.alice.run(Core::do_due);
    world.settle();
    assert_eq!(world.alice.ended(number), Ok(room));
}

/// Goal: when the loser hears of its loss before it hears of the winner, it waits for the winner.
#[test]
fn losing_before_the_winner_is_seen() {
    let mut world = World::new();
    let room = world.conversation_of_owners();
    let mut carol = world.device('a', "carol", 3);
    let add = [carol.address.clone()];
    let number = world.bob.run(|core| core.add_members(room, &add));
    world.bob.submit(&mut world.network).unwrap();
    world.bob.receive(&mut world.network).unwrap();
    world.alice.run(|core| core.refresh(room));
    world.alice.submit(&mut world.network).unwrap();
    world.bob.submit(&mut world.network).unwrap();
    world.network.swap_inbox(&world.bob.member);
    let refused = world.network.inbox(&world.bob.member)[..1].to_vec();
    assert!(matches!(
        refused[0].body,
        crate::frames::DeliveryBody::CommitRefused { .. }
    ));
    world.bob.run(|core| core.receive(refused, true));
    assert!(!world.bob.has_ended(number));
    assert!(world.bob.core().submissions_after(0, 9).unwrap().is_empty());
    world.settle_with(&mut [&mut carol]);
    world.bob.ended(number).unwrap();
    assert_eq!(handles(&mut world.alice), ["alice", "bob", "carol"]);
}

/// Goal: what is written while members are being added waits, so that they can read it too.
#[test]
fn messages_wait_for_members() {
    let mut world = World::new();
    let room = world.conversation();
    let mut carol = world.device('a', "carol", 3);
    let add = [carol.address.clone()];
    world.alice.run(|core| core.add_members(room, &add));
    world.alice.submit(&mut world.network).unwrap();
    world.alice.receive(&mut world.network).unwrap();
    // The commit is made and under way.
    world.alice.send(room, "welcome, carol");
    assert_eq!(
        world.alice.core().submissions_after(0, 10).unwrap().len(),
        1
    );
    world.settle_with(&mut [&mut carol]);
    assert_eq!(carol.texts(room), ["alice: welcome, carol"]);
    assert_eq!(world.bob.texts(room), ["alice: welcome, carol"]);
}

/// Goal: an account without key packages is refused with a reason that says what to do.
#[test]
fn accounts_without_keys() {
    let mut world = World::new();
    let carol = TestDevice::without_keys(
        &mut world.network,
        &world.clock,
        &world.a,
        "carol",
        3,
        &[&world.b],
    );
    let with = [carol.address.clone()];
    let number = world.alice.run(|core| core.start_conversation(&with));
    world.settle();
    let error = world.alice.ended(number).unwrap_err();
    assert_eq!(
        error.refusal().map(|r| r.code),
        Some(RefusalCode::NoKeyPackages)
    );
}

/// Goal: whoever talks to himself from an only device is told so, not that somebody must come online. Method: a
/// conversation with the own address.
#[test]
fn alone_with_oneself() {
    let mut world = World::new();
    let own = [world.alice.address.clone()];
    let number = world.alice.run(|core| core.start_conversation(&own));
    world.settle();
    let error = world.alice.ended(number).unwrap_err();
    assert!(error.to_string().contains("only device"), "{error}");
}

/// Goal: single-use key packages are used once, the last-resort one again and again; by starting
/// more conversations than there are key packages.
#[test]
fn key_packages_run_out() {
    let mut world = World::new();
    for _ in 0..8 {
        let room = world.conversation();
        world.alice.send(room, "again");
        world.settle();
        assert_eq!(world.bob.texts(room), ["alice: again"]);
    }
    assert_eq!(world.network.key_packages(&world.bob.member), 0);
    assert_eq!(world.bob.core().key_packages_used(), 8);
    assert_eq!(world.bob.unreadable(), Vec::<&str>::new());
}

/// Goal: nobody is drawn back into a room by the welcome of once, and a new one is taken; by removing
/// Bob, delivering his first welcome again, and adding him again.
#[test]
fn old_welcomes_are_refused() {
    let mut world = World::new();
    let mut carol = world.device('a', "carol", 3);
    let with = [world.bob.address.clone(), carol.address.clone()];
    let number = world.alice.run(|core| core.start_conversation(&with));
    world.alice.submit(&mut world.network).unwrap();
    world.alice.receive(&mut world.network).unwrap();
    world.alice.submit(&mut world.network).unwrap();
    let welcome = world.network.inbox(&world.bob.member)[0].body.clone();
    world.settle_with(&mut [&mut carol]);
    let room = world.alice.ended(number).unwrap();
    let bob = [world.bob.address.clone()];
    world.alice.run(|core| core.remove_members(room, &bob));
    world.settle_with(&mut [&mut carol]);
    assert!(world.bob.run(crate::core::Core::rooms).is_empty());

    world.network.deliver(&world.bob.member, welcome);
    world.settle_with(&mut [&mut carol]);
    assert!(world.bob.run(crate::core::Core::rooms).is_empty());
    assert_eq!(world.bob.unreadable().len(), 1);

    world.alice.run(|core| core.add_members(room, &bob));
    world.settle_with(&mut [&mut carol]);
    assert_eq!(world.bob.run(crate::core::Core::rooms).len(), 1);
}

/// Goal: members write and nothing else, moderators see to members, and owners to everybody; the last owner stays
/// one. Method: Bob as each of them, with what he may not do refused before anything is sent.
#[test]
fn roles_say_who_may() {
    let mut world = World::new();
    let room = world.conversation();
    let mut carol = world.device('a', "carol", 3);
    let (alice, bob) = (world.alice.address.clone(), world.bob.address.clone());
    let with_carol = [carol.address.clone()];
    let roles = world.bob.run(Core::rooms).remove(0).roles;
    assert_eq!(roles[&alice], Role::Owner);
    assert_eq!(roles[&bob], Role::Member);
    let number = world.bob.run(|core| core.add_members(room, &with_carol));
    world.settle_with(&mut [&mut carol]);
    let refused = world.bob.ended(number).unwrap_err();
    assert!(refused.to_string().contains("only owners and moderators"));
    let number = world
        .alice
        .run(|core| core.set_role(room, &alice, Role::Member));
    world.settle_with(&mut [&mut carol]);
    let refused = world.alice.ended(number).unwrap_err();
    assert!(refused.to_string().contains("a room has an owner"));

    let number = world
        .alice
        .run(|core| core.set_role(room, &bob, Role::Moderator));
    world.settle_with(&mut [&mut carol]);
    world.alice.ended(number).unwrap();
    let number = world.bob.run(|core| core.add_members(room, &with_carol));
    world.settle_with(&mut [&mut carol]);
    world.bob.ended(number).unwrap();
    let with_alice = [alice.clone()];
    let number = world.bob.run(|core| core.remove_members(room, &with_alice));
    world.settle_with(&mut [&mut carol]);
    let refused = world.bob.ended(number).unwrap_err();
    assert!(refused.to_string().contains("above him"), "{refused}");
    let number = world.bob.run(|core| core.set_role(room, &bob, Role::Owner));
    world.settle_with(&mut [&mut carol]);
    assert!(world.bob.ended(number).is_err());
    let number = world.bob.run(|core| core.remove_members(room, &with_carol));
    world.settle_with(&mut [&mut carol]);
    world.bob.ended(number).unwrap();
    let nobody = "dora@a.example".parse().unwrap();
    assert!(
        world
            .alice
            .try_run(|core| core.set_role(room, &nobody, Role::Owner))
            .is_err()
    );

    let number = world
        .alice
        .run(|core| core.set_role(room, &bob, Role::Owner));
    world.settle_with(&mut [&mut carol]);
    world.alice.ended(number).unwrap();
    let number = world
        .alice
        .run(|core| core.set_role(room, &alice, Role::Member));
    world.settle_with(&mut [&mut carol]);
    world.alice.ended(number).unwrap();
    let roles = world.bob.run(Core::rooms).remove(0).roles;
    assert_eq!((roles[&alice], roles[&bob]), (Role::Member, Role::Owner));
}
