//! What was true once, delivered again.

use super::*;

/// Goal: a welcome of once draws nobody into anything: not while he is in the room, not after he was removed; both are told. Method: Bob's
/// first welcome is delivered again, twice; a new one is taken.
#[test]
fn replayed_welcomes() {
    let mut world = World::new();
    let mut carol = world.device('a', "carol", 3);
    let with = [world.bob.address.clone(), carol.address.clone()];
    let number = world.alice.run(|core| core.start_conversation(&with));
    let mut welcome = None;
    while welcome.is_none() {
        world.alice.try_step(&mut world.network).unwrap();
        let waiting = world.network.inbox(&world.bob.member).into_iter();
        let is_welcome = |body: &DeliveryBody| matches!(body, DeliveryBody::Welcome { .. });
        welcome = waiting.map(|delivery| delivery.body).find(is_welcome);
    }
    let welcome = welcome.unwrap();
    world.settle_with(&mut [&mut carol]);
    let room = world.alice.ended(number).unwrap();
    world.write(room, 1, 1);
    world.settle_with(&mut [&mut carol]);
    let before = world.bob.run(Core::rooms);
    world.network.deliver(&world.bob.member, welcome.clone());
    world.settle_with(&mut [&mut carol]);
    assert_eq!(world.bob.run(Core::rooms), before);
    assert_eq!(world.bob.unreadable().len(), 1);

    let bob = [world.bob.address.clone()];
    world.alice.run(|core| core.remove_members(room, &bob));
    world.settle_with(&mut [&mut carol]);
    world.network.deliver(&world.bob.member, welcome);
    world.settle_with(&mut [&mut carol]);
    assert!(world.bob.run(Core::rooms).is_empty());
    assert_eq!(world.bob.unreadable().len(), 2);

    world.alice.run(|core| core.add_members(room, &bob));
    world.settle_with(&mut [&mut carol]);
    world.write(room, 2, 1);
    world.settle_with(&mut [&mut carol]);
    world.wait_for_gaps();
    assert_eq!(of_alice(&mut world.bob, room), ["1", "2"]);
    assert!(
        world.bob.missing().is_empty(),
        "what was sent meanwhile was not for him"
    );
}

/// Goal: messages, commits and removals that come again change nothing and are not shown again. Method: everything that Bob got in
/// a room's first epochs is delivered to him a second time.
#[test]
fn replayed_deliveries() {
    let mut world = World::new();
    let mut carol = world.device('b', "carol", 3);
    let room = world.conversation_of_owners();
    let with = [carol.address.clone()];
    let mut seen = Vec::new();
    let number = world.alice.run(|core| core.add_members(room, &with));
    for round in 1..=3 {
        world.write(room, round, 1);
        if round == 2 {
            let carol = carol.member.clone();
            world.network.leaves(room, |member| *member == carol);
        }
        for step in 0..40 {
            for device in [&mut world.alice, &mut carol] {
                device.try_step(&mut world.network).unwrap();
            }
            seen.extend(world.network.inbox(&world.bob.member));
            world.bob.try_step(&mut world.network).unwrap();
            if step == 20 {
                world.wait_for_gaps();
            }
        }
    }
    world.alice.ended(number).unwrap();
    let before = (world.bob.texts(room), world.bob.run(Core::rooms));
    let has = |is: fn(&DeliveryBody) -> bool| seen.iter().any(|delivery| is(&delivery.body));
    assert!(has(|body| matches!(body, DeliveryBody::Message { .. })));
    assert!(has(|body| matches!(body, DeliveryBody::Commit { .. })));
    assert!(has(|body| matches!(body, DeliveryBody::Removals { .. })));
    for delivery in seen {
        world.network.deliver(&world.bob.member, delivery.body);
    }
    world.settle_with(&mut [&mut carol]);
    world.wait_for_gaps();
    assert_eq!((world.bob.texts(room), world.bob.run(Core::rooms)), before);
    assert!(world.bob.missing().is_empty());
    assert!(world.bob.forks().is_empty());
    world.write(room, 4, 1);
    world.settle();
    assert_eq!(of_alice(&mut world.bob, room).last().unwrap(), "4");
}

/// Goal: who comes back is not led into an epoch that he has been in: its keys are spent. Method: Bob, out of step, gets the
/// true group info of an earlier epoch, under its own number and under a later one; then the newest one.
#[test]
fn stale_group_infos() {
    let mut world = World::new();
    let room = world.conversation();
    let stale = world.network.newest_group_info(room);
    world.alice.run(|core| core.refresh(room));
    world.settle();
    for lost in [true, false] {
        world.alice.run(|core| core.refresh(room));
        world.alice.submit(&mut world.network).unwrap();
        if lost {
            world.network.lose_commit(&world.bob.member);
        }
        settle(&mut world.network, &mut [&mut world.alice]);
    }
    let newest = world.network.newest_group_info(room);
    world.network.set_group_info(room, stale);
    let commits = world.network.commits.len();
    world.settle();
    assert_eq!(world.bob.out_of_step().len(), 1);
    assert_eq!(
        world.network.commits.len(),
        commits,
        "nothing is built on it"
    );
    world.network.set_group_info(room, newest);
    world.clock.advance(10 * 60 * 1000);
    world.bob.run(Core::do_due);
    world.settle();
    assert!(!world.bob.run(Core::rooms)[0].out_of_step);
    world.write(room, 1, 1);
    world.settle();
    assert_eq!(of_alice(&mut world.bob, room), ["1"]);
}
