//! A device that has fallen out of its room's step comes back by itself.

use super::*;
use crate::core::Core;
use crate::event::Event;
use crate::refusal::{Refusal, RefusalCode};

/// Longest pause before the hub is asked again, with its jitter.
const PAUSE_MS: u64 = 8 * 60 * 1000;

impl World {
    /// Alice renews her leaf, and Bob never hears of it; the next commit shows him the gap.
    fn fall_out(&mut self, room: RoomId) {
        self.alice.run(|core| core.refresh(room));
        self.alice.submit(&mut self.network).unwrap();
        self.network.lose_commit(&self.bob.member);
        self.settle();
        self.alice.run(|core| core.refresh(room));
        self.alice.submit(&mut self.network).unwrap();
    }

    fn wait(&mut self) {
        self.clock.advance(PAUSE_MS);
        self.bob.run(Core::do_due);
        self.alice.run(Core::do_due);
    }

    /// Both hear each other.
    fn talks(&mut self, room: RoomId) {
        self.alice.send(room, "can you hear me?");
        self.settle();
        self.bob.send(room, "yes");
        self.settle();
        let heard = |texts: Vec<String>, text: &str| texts.iter().filter(|t| *t == text).count();
        assert_eq!(heard(self.bob.texts(room), "alice: can you hear me?"), 1);
        assert_eq!(heard(self.alice.texts(room), "bob: yes"), 1);
    }
}

fn out_of_step(device: &TestDevice) -> usize {
    let told = |event: &&Event| matches!(event, Event::RoomOutOfStep { .. });
    device.events.iter().filter(told).count()
}

fn gaps(device: &TestDevice) -> Vec<(u64, u64)> {
    let gap = |event: &Event| match event {
        Event::RoomResynced {
            from_ms, until_ms, ..
        } => Some((*from_ms, *until_ms)),
        _ => None,
    };
    device.events.iter().filter_map(gap).collect()
}

/// Goal: a device that never got a commit comes back: what it had it keeps, what was sent while it was out is
/// told as a gap and not shown, nothing is shown twice, and the conversation goes on both ways. Method: lose
/// one commit in the inbox.
#[test]
fn a_lost_commit_heals() {
    let mut world = World::new();
    let room = world.conversation();
    world.alice.send(room, "before");
    world.settle();
    let began_ms = crate::clock::Clock::now_ms(&world.clock);
    world.clock.advance(60_000);
    world.alice.run(|core| core.refresh(room));
    world.alice.submit(&mut world.network).unwrap();
    world.network.lose_commit(&world.bob.member);
    world.alice.receive(&mut world.network).unwrap();
    world.alice.send(room, "between");
    world.settle();
    assert!(gaps(&world.bob).is_empty());
    world.alice.run(|core| core.refresh(room));
    world.clock.advance(60_000);
    world.settle();
    assert_eq!(out_of_step(&world.bob), 1);
    assert_eq!(gaps(&world.bob), [(began_ms, began_ms + 120_000)]);
    world.talks(room);
    assert_eq!(
        world.bob.texts(room),
        ["alice: before", "alice: can you hear me?", "bob: yes"]
    );
    // Who is in the room is as before, for everybody.
    for device in [&mut world.alice, &mut world.bob] {
        let rooms = device.run(Core::rooms);
        assert_eq!(rooms[0].members.len(), 2);
        assert!(!rooms[0].out_of_step);
    }
    let gap = world.bob.run(Core::rooms)[0].gap.unwrap();
    assert_eq!(gap.until_ms - gap.from_ms, 120_000);
    assert_eq!(gaps(&world.alice), []);
    // A later message of the epochs in between is no news.
    let late = world.network.messages[1].clone();
    world.network.deliver(
        &world.bob.member,
        crate::frames::DeliveryBody::Message {
            room,
            message: late,
            accepted_ms: began_ms,
            expires_ms: u64::MAX,
        },
    );
    let told = world.bob.unreadable().len();
    world.settle();
    assert_eq!(world.bob.unreadable().len(), told);
}

/// Goal: a commit that one device alone can't apply costs that device nothing but the messages of the moment;
/// what it wrote and what it wanted to change while it was out comes about afterwards. Method: spoil the commit
/// for Bob, who has a message waiting and is about to add Carol.
#[test]
fn a_spoilt_commit_heals() {
    let mut world = World::new();
    let room = world.conversation_of_owners();
    let mut carol = world.device('b', "carol", 3);
    let with = [carol.address.clone()];
    let adding = world.bob.run(|core| core.add_members(room, &with));
    world.bob.submit(&mut world.network).unwrap();
    world.bob.receive(&mut world.network).unwrap();
    // Bob's commit is made; Alice's is first, and spoilt on its way to him.
    world.alice.run(|core| core.refresh(room));
    world.alice.submit(&mut world.network).unwrap();
    world.network.spoil_commit(&world.bob.member);
    world.bob.receive(&mut world.network).unwrap();
    assert_eq!(out_of_step(&world.bob), 1);
    assert!(world.bob.run(Core::rooms)[0].out_of_step);
    world.bob.send(room, "written while out of step");
    world.settle_with(&mut [&mut carol]);
    assert_eq!(gaps(&world.bob).len(), 1);
    world.bob.ended(adding).unwrap();
    assert_eq!(world.alice.texts(room), ["bob: written while out of step"]);
    // She was being added when it was written.
    assert_eq!(carol.texts(room), ["bob: written while out of step"]);
    world.talks(room);
    world.settle_with(&mut [&mut carol]);
    assert!(carol.texts(room).contains(&"bob: yes".to_owned()));
}

/// Goal: whoever loses the race for the epoch asks again, and comes back. Method: Alice's commit is ordered
/// between the group info and Bob's commit.
#[test]
fn losers_ask_again() {
    let mut world = World::new();
    let room = world.conversation();
    world.fall_out(room);
    world.bob.receive(&mut world.network).unwrap();
    world.bob.submit(&mut world.network).unwrap();
    world.bob.receive(&mut world.network).unwrap();
    world.alice.receive(&mut world.network).unwrap();
    world.alice.run(|core| core.refresh(room));
    world.alice.submit(&mut world.network).unwrap();
    world.settle();
    assert_eq!(gaps(&world.bob), []);
    assert_eq!(world.network.group_infos_asked, 1);
    world.wait();
    world.settle();
    assert_eq!(world.network.group_infos_asked, 2);
    assert_eq!(gaps(&world.bob).len(), 1);
    world.talks(room);
}

/// Goal: a crash anywhere on the way back loses nothing. Method: start the device anew after every step.
#[test]
fn crashes_on_the_way_back() {
    let mut world = World::new();
    let room = world.conversation();
    world.fall_out(room);
    for _ in 0..6 {
        world.bob.restart();
        world.bob.receive(&mut world.network).unwrap();
        world.bob.restart();
        world.bob.submit(&mut world.network).unwrap();
    }
    assert_eq!(gaps(&world.bob).len(), 1);
    world.settle();
    world.talks(room);
}

/// Goal: coming back again and again has an end, which is told; the day after it starts afresh in other rooms.
/// Method: lose one commit after the other.
#[test]
fn falling_out_again_and_again_ends() {
    let mut world = World::new();
    let room = world.conversation();
    for _ in 0..8 {
        world.fall_out(room);
        world.settle();
    }
    assert_eq!(gaps(&world.bob).len(), 8);
    // A day later the count begins anew.
    world.clock.advance(25 * 60 * 60 * 1000);
    for _ in 0..8 {
        world.fall_out(room);
        world.settle();
    }
    assert_eq!(gaps(&world.bob).len(), 16);
    world.fall_out(room);
    world.settle();
    assert_eq!(gaps(&world.bob).len(), 16);
    let told = world.bob.unreadable();
    assert!(told[0].contains("8 times within a day"), "{told:?}");
    assert!(world.bob.run(Core::rooms).is_empty());
}

/// Goal: a hub that has no group info to give is asked again more and more slowly, and not for ever. Method:
/// refuse every request, and count them.
#[test]
fn asking_has_an_end() {
    let mut world = World::new();
    let room = world.conversation();
    world.network.refuse_group_infos =
        Some(Refusal::new(RefusalCode::RateLimited, "too many requests"));
    world.fall_out(room);
    world.settle();
    assert_eq!(world.network.group_infos_asked, 1);
    // No time has passed.
    world.bob.run(Core::do_due);
    world.settle();
    assert_eq!(world.network.group_infos_asked, 1);
    for _ in 0..100 {
        world.wait();
        world.settle();
    }
    assert_eq!(world.network.group_infos_asked, 64);
    let told = world.bob.unreadable();
    assert!(told[0].contains("too many requests"), "{told:?}");
}

/// Goal: a group info is taken from members that the device knew alone, for a homeserver could make up others:
/// after a newcomer's commit it waits for the next. Method: Carol is added and commits while Bob is out of step.
#[test]
fn newcomers_group_infos_wait() {
    let mut world = World::new();
    let room = world.conversation();
    let mut carol = world.device('a', "carol", 3);
    world.alice.run(|core| core.refresh(room));
    world.alice.submit(&mut world.network).unwrap();
    world.network.lose_commit(&world.bob.member);
    let with = [carol.address.clone()];
    world.alice.run(|core| core.add_members(room, &with));
    // Bob is away.
    settle(&mut world.network, &mut [&mut world.alice, &mut carol]);
    carol.run(|core| core.refresh(room));
    settle(&mut world.network, &mut [&mut world.alice, &mut carol]);
    for _ in 0..3 {
        world.settle_with(&mut [&mut carol]);
        assert_eq!(gaps(&world.bob), []);
        world.wait();
    }
    world.alice.run(|core| core.refresh(room));
    world.settle_with(&mut [&mut carol]);
    world.wait();
    world.settle_with(&mut [&mut carol]);
    assert_eq!(gaps(&world.bob).len(), 1);
    let joined = |event: &Event| matches!(event, Event::MembersChanged { added, .. } if added[0].member == carol.member);
    assert!(world.bob.events.iter().any(joined));
    world.talks(room);
}

/// Goal: an answer that is lost on its way is asked for again, in the end. Method: lose it, and wait.
#[test]
fn lost_answers_are_asked_for_again() {
    let mut world = World::new();
    let room = world.conversation();
    world.fall_out(room);
    world.bob.receive(&mut world.network).unwrap();
    world.bob.submit(&mut world.network).unwrap();
    let lost = world.network.inbox(&world.bob.member)[0].number;
    world.network.acknowledge(&world.bob.member, lost);
    world.wait();
    world.settle();
    assert_eq!(gaps(&world.bob), []);
    world.clock.advance(50 * 60 * 60 * 1000);
    world.bob.run(Core::do_due);
    world.settle();
    assert_eq!(gaps(&world.bob).len(), 1);
    world.talks(room);
}

/// Goal: whoever was removed while out of step hears that. Method: Alice removes Bob, who has lost a commit.
#[test]
fn removed_while_out_of_step() {
    let mut world = World::new();
    let room = world.conversation();
    world.fall_out(room);
    world.alice.receive(&mut world.network).unwrap();
    let bob = [world.bob.address.clone()];
    world.alice.run(|core| core.remove_members(room, &bob));
    world.alice.submit(&mut world.network).unwrap();
    world.settle();
    assert!(world.bob.events.contains(&Event::RoomLeft { room }));
    assert!(world.bob.run(Core::rooms).is_empty());
    // And may be added again, by a welcome.
    world.alice.run(|core| core.add_members(room, &bob));
    world.settle();
    world.talks(room);
}

/// Goal: a group info is believed only as far as it proves itself: another room's, one of an epoch that the
/// device was in, and a changed one bring it nowhere; the true one afterwards does. Method: have the hub hand
/// out each.
#[test]
fn false_group_infos_are_refused() {
    let mut world = World::new();
    let room = world.conversation();
    let other = world.conversation();
    let old = world.network.newest_group_info(room);
    world.fall_out(room);
    let good = world.network.newest_group_info(room);
    let mut changed = good.to_vec();
    let last = changed.len() - 1;
    changed[last] ^= 1;
    let mut longer = good.to_vec();
    longer.push(0);
    for false_one in [
        world.network.newest_group_info(other),
        old,
        changed.into(),
        longer.into(),
        bytes::Bytes::new(),
    ] {
        world.network.set_group_info(room, false_one);
        world.settle();
        assert_eq!(gaps(&world.bob), []);
        world.wait();
    }
    world.network.set_group_info(room, good);
    world.settle();
    world.wait();
    world.settle();
    assert_eq!(gaps(&world.bob).len(), 1);
    world.talks(room);
}

/// Goal: a member who has missed a thousand epochs comes back in one step, and hears what follows. Method: Alice
/// commits a thousand times while nothing reaches Bob.
#[test]
fn a_thousand_epochs_later() {
    let mut world = World::new();
    let room = world.conversation();
    for _ in 0..1_000 {
        world.alice.run(|core| core.refresh(room));
        while world.alice.try_step(&mut world.network).unwrap() {}
        world.network.lose_commit(&world.bob.member);
    }
    assert_eq!(world.alice.run(Core::rooms)[0].epoch, 1_001);
    assert_eq!(world.bob.run(Core::rooms)[0].epoch, 1);
    // The next one shows him that he has missed something.
    world.alice.run(|core| core.refresh(room));
    world.settle();
    world.wait();
    world.settle();
    assert_eq!(out_of_step(&world.bob), 1);
    assert_eq!(gaps(&world.bob).len(), 1);
    assert_eq!(world.bob.run(Core::rooms)[0].epoch, 1_003);
    world.talks(room);
}
