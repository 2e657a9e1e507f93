//! A device that has fallen out of its room's step comes back by itself.

mod readded;
mod spoilt;

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

    fn settle_but_bob(&mut self) {
        settle(&mut self.network, &mut [&mut self.alice]);
    }

    /// How much Bob's device has submitted.
    fn bob_submitted(&self) -> u64 {
        self.network.last_counter(&self.bob.member)
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

/// Goal: a device whose inbox had no room for a commit comes back although nothing more is ever sent in its room; to be told
/// of what it has had long since changes nothing. Method: lose the last commit, and tell so.
#[test]
fn a_full_inbox_heals() {
    let mut world = World::new();
    let room = world.conversation();
    let told = |epoch| crate::frames::DeliveryBody::OutOfStep { room, epoch };
    world.network.deliver(&world.bob.member, told(0));
    world.settle();
    assert_eq!(out_of_step(&world.bob), 0);
    world.alice.run(|core| core.refresh(room));
    world.alice.submit(&mut world.network).unwrap();
    world.network.lose_commit(&world.bob.member);
    world.settle();
    assert_eq!(out_of_step(&world.bob), 0, "nothing shows it");
    world.network.deliver(&world.bob.member, told(u64::MAX));
    world.settle();
    assert_eq!(out_of_step(&world.bob), 1);
    assert_eq!(gaps(&world.bob).len(), 1);
    world.talks(room);
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
    // Whose commit it was is told: what is wrong with it no server can see.
    let named = |event: &Event| matches!(event, Event::RoomOutOfStep { by: Some(by), .. } if *by == world.alice.address);
    assert!(world.bob.events.iter().any(named));
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

/// Goal: whoever loses the race for the epoch asks again, and comes back; the secrets of the group that he did not come
/// back into are deleted meanwhile. Method: Alice's commit is ordered between the group info and Bob's commit.
#[test]
fn losers_ask_again() {
    let mut world = World::new();
    let room = world.conversation();
    world.fall_out(room);
    world.bob.receive(&mut world.network).unwrap();
    world.bob.submit(&mut world.network).unwrap();
    world.bob.receive(&mut world.network).unwrap();
    let kept = |device: &mut TestDevice| {
        let (store, group) = (&device.core().store, room.as_bytes());
        let pending = store.get_bytes(crate::store::Family::PendingGroup, group, 0);
        pending.unwrap().is_some()
    };
    assert!(kept(&mut world.bob));
    world.alice.receive(&mut world.network).unwrap();
    world.alice.run(|core| core.refresh(room));
    world.alice.submit(&mut world.network).unwrap();
    world.settle();
    assert_eq!(gaps(&world.bob), []);
    assert!(!kept(&mut world.bob));
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

/// Goal: coming back again and again becomes slower, and never ends the room: the ninth time within a day waits for about a second, and none
/// for more than a minute and a half; the day after it starts afresh. Method: lose one commit after the other.
#[test]
fn falling_out_again_and_again_slows_down() {
    let mut world = World::new();
    let room = world.conversation();
    for _ in 0..8 {
        world.fall_out(room);
        world.settle();
    }
    assert_eq!(gaps(&world.bob).len(), 8);
    let come_back_after = |world: &mut World, ms: u64| {
        world.clock.advance(ms);
        world.bob.run(Core::do_due);
        world.settle();
        gaps(&world.bob).len()
    };
    world.fall_out(room);
    world.settle();
    assert!(world.bob.run(Core::rooms)[0].out_of_step);
    assert_eq!(come_back_after(&mut world, 400), 8);
    // Also when it starts anew.
    world.bob.restart();
    assert_eq!(come_back_after(&mut world, 1_200), 9);
    for times in 10..40 {
        world.fall_out(room);
        world.settle();
        assert_eq!(gaps(&world.bob).len(), times - 1);
        assert_eq!(come_back_after(&mut world, 90_000), times);
    }
    world.fall_out(room);
    world.settle();
    assert_eq!(come_back_after(&mut world, 20_000), 39, "it is slower now");
    assert_eq!(come_back_after(&mut world, 70_000), 40);
    world.clock.advance(25 * 60 * 60 * 1000);
    world.fall_out(room);
    world.settle();
    assert_eq!(gaps(&world.bob).len(), 41);
    world.talks(room);
}

/// Goal: others who are first, however often, are no reason to give the room up. Method: seventy times Alice commits between Bob's question and
/// his commit.
#[test]
fn losing_races_ends_no_room() {
    let mut world = World::new();
    let room = world.conversation();
    world.fall_out(room);
    for _ in 0..70 {
        world.bob.receive(&mut world.network).unwrap();
        world.bob.submit(&mut world.network).unwrap();
        world.bob.receive(&mut world.network).unwrap();
        world.alice.receive(&mut world.network).unwrap();
        world.alice.run(|core| core.refresh(room));
        world.alice.submit(&mut world.network).unwrap();
        world.bob.submit(&mut world.network).unwrap();
        world.bob.receive(&mut world.network).unwrap();
        assert_eq!(gaps(&world.bob), []);
        world.wait();
    }
    world.settle();
    world.wait();
    world.settle();
    assert_eq!(gaps(&world.bob).len(), 1);
    world.talks(room);
}

/// Goal: a way back that is refused because many come back at once is made again, however often that happens. Method: seventy times, and
/// then it is taken.
#[test]
fn ways_back_that_come_too_fast_are_made_again() {
    let mut world = World::new();
    let room = world.conversation();
    world.fall_out(room);
    let too_fast = Refusal::new(RefusalCode::RateLimited, "commit again in 5 seconds");
    world.network.refuse_commits = Some(too_fast);
    for _ in 0..70 {
        world.settle();
        world.wait();
    }
    assert_eq!(gaps(&world.bob), []);
    world.network.refuse_commits = None;
    world.settle();
    assert_eq!(gaps(&world.bob).len(), 1);
    world.talks(room);
}

/// Goal: a way back that was ordered and never comes is told when the room goes on, and another one is made. Method: lose the order of Bob's
/// commit from outside; Alice commits after it.
#[test]
fn a_way_back_that_is_kept_back_is_told() {
    let mut world = World::new();
    let room = world.conversation();
    world.fall_out(room);
    world.bob.receive(&mut world.network).unwrap();
    world.bob.submit(&mut world.network).unwrap();
    world.bob.receive(&mut world.network).unwrap();
    world.bob.submit(&mut world.network).unwrap();
    world.network.lose_commit(&world.bob.member);
    assert_eq!(out_of_step(&world.bob), 1);
    world.alice.receive(&mut world.network).unwrap();
    world.alice.run(|core| core.refresh(room));
    world.settle();
    let told = |event: &&Event| matches!(event, Event::RoomOutOfStep { reason, .. } if reason.contains("keeps it back"));
    assert_eq!(world.bob.events.iter().filter(told).count(), 1);
    assert_eq!(gaps(&world.bob), []);
    world.wait();
    world.settle();
    assert_eq!(gaps(&world.bob).len(), 1);
    world.talks(room);
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
/// device was in, and a changed one bring it nowhere, and nothing is built on them; the true one afterwards does.
/// Method: have the hub hand out each, the other room's in the same epoch too, and count what comes back.
#[test]
fn false_group_infos_are_refused() {
    let mut world = World::new();
    let room = world.conversation();
    let other = world.conversation();
    let old = world.network.newest_group_info(room);
    world.fall_out(room);
    for _ in 0..2 {
        world.alice.run(|core| core.refresh(other));
        world.settle_but_bob();
    }
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
        let before = world.bob_submitted() - world.network.group_infos_asked;
        world.settle();
        assert_eq!(gaps(&world.bob), []);
        let after = world.bob_submitted() - world.network.group_infos_asked;
        assert_eq!(after, before, "he asks, and commits nothing");
        world.wait();
    }
    world.network.set_group_info(room, good);
    world.settle();
    world.wait();
    world.settle();
    assert_eq!(gaps(&world.bob).len(), 1);
    world.talks(room);
}

/// Goal: a group info that nobody asked for draws no device into anything, whether it is in step or waits for another
/// answer. Method: the newest one of a room, which Bob lacks a commit of, delivered before and after he asks.
#[test]
fn unasked_group_infos_have_no_effect() {
    let mut world = World::new();
    let room = world.conversation();
    world.alice.run(|core| core.refresh(room));
    world.settle_but_bob();
    world.network.lose_commit(&world.bob.member);
    let unasked = |world: &mut World| {
        let info = crate::frames::GroupInfo {
            epoch: 2,
            group_info: world.network.newest_group_info(room),
        };
        let body = crate::frames::DeliveryBody::GroupInfo {
            request: crate::ids::RequestId::from_bytes([9; 16]),
            room,
            result: Ok(info),
        };
        world.network.deliver(&world.bob.member, body);
        world.bob.receive(&mut world.network).unwrap();
    };
    let before = world.bob_submitted();
    unasked(&mut world);
    world.bob.submit(&mut world.network).unwrap();
    assert_eq!(world.bob_submitted(), before);

    world.alice.send(room, "in the next epoch");
    world.alice.run(|core| core.refresh(room));
    world.settle_but_bob();
    world.bob.receive(&mut world.network).unwrap();
    world.bob.submit(&mut world.network).unwrap();
    assert_eq!(world.bob_submitted(), before + 1, "he asks");
    let answer = world.network.inbox(&world.bob.member).remove(0);
    world.network.acknowledge(&world.bob.member, answer.number);
    unasked(&mut world);
    world.bob.submit(&mut world.network).unwrap();
    assert_eq!(
        world.bob_submitted(),
        before + 1,
        "and waits for his answer"
    );
    world.network.deliver(&world.bob.member, answer.body);
    world.settle();
    assert_eq!(gaps(&world.bob).len(), 1);
    world.talks(room);
}

/// Goal: a device whose own commit is spoilt on its way back knows afterwards that it was ordered: what it wanted to
/// change ends well. Method: Bob adds Carol, and his copy of his commit is spoilt.
#[test]
fn own_commits_that_are_spoilt_are_found_again() {
    let mut world = World::new();
    let room = world.conversation_of_owners();
    let mut carol = world.device('b', "carol", 3);
    let with = [carol.address.clone()];
    let adding = world.bob.run(|core| core.add_members(room, &with));
    world.bob.submit(&mut world.network).unwrap();
    world.bob.receive(&mut world.network).unwrap();
    world.bob.submit(&mut world.network).unwrap();
    world.network.spoil_commit(&world.bob.member);
    world.settle_with(&mut [&mut carol]);
    assert_eq!(gaps(&world.bob).len(), 1);
    assert!(world.bob.has_ended(adding));
    world.talks(room);
    world.settle_with(&mut [&mut carol]);
    assert!(carol.texts(room).contains(&"bob: yes".to_owned()));
}

/// Goal: a room that was never entered is not come back into: whoever can't take its first commit is told, and asks
/// nobody. Method: Alice's first commit is spoilt on its way back.
#[test]
fn rooms_that_never_began_end() {
    let mut world = World::new();
    let with = [world.bob.address.clone()];
    world.alice.run(|core| core.start_conversation(&with));
    world.alice.submit(&mut world.network).unwrap();
    world.alice.receive(&mut world.network).unwrap();
    world.alice.submit(&mut world.network).unwrap();
    world.network.spoil_commit(&world.alice.member);
    world.settle();
    assert_eq!(world.network.group_infos_asked, 0);
    assert_eq!(out_of_step(&world.alice), 0);
    assert!(world.alice.run(Core::rooms).is_empty());
    assert_eq!(world.alice.unreadable().len(), 1);
}

/// Goal: a group info with people of an organisation that became a peer a moment ago is no failed attempt: the job says
/// that a root is missing, and succeeds once it is there. Method: Carol of a third organisation is added while Bob,
/// who does not know it yet, is out of step.
#[test]
fn new_peers_in_a_group_info() {
    let mut world = World::new();
    let room = world.conversation();
    let c = crate::testing::Organisation::new("c.example");
    let (network, clock) = (&mut world.network, world.clock.clone());
    let mut carol = TestDevice::enrol(network, &clock, &c, "carol", 3, &[&world.a, &world.b]);
    let roots = [&world.b, &c].map(anchor);
    world.alice.run(|core| core.set_anchors(&roots));
    world.alice.run(|core| core.refresh(room));
    world.settle_but_bob();
    world.network.lose_commit(&world.bob.member);
    let with = [carol.address.clone()];
    // Consents to the third organisation come after those that the room has.
    world.clock.advance(1);
    world.alice.run(|core| core.add_members(room, &with));
    settle(&mut world.network, &mut [&mut world.alice, &mut carol]);
    world.bob.receive(&mut world.network).unwrap();
    world.bob.submit(&mut world.network).unwrap();
    let answer = world.network.inbox(&world.bob.member);
    let first = world.bob.try_run(|core| core.receive(answer, false));
    assert_eq!(first, Err(Error::UnknownOrganisation(c.server.clone())));
    let roots = [&world.a, &c].map(anchor);
    world.bob.run(|core| core.set_anchors(&roots));
    world.settle_with(&mut [&mut carol]);
    assert_eq!(gaps(&world.bob).len(), 1);
    assert_eq!(world.network.group_infos_asked, 1);
    world.talks(room);
}

/// Goal: whoever has sent his commit from outside waits for what becomes of it, however long, and asks for nothing
/// meanwhile. Method: the hub's word does not come for a week.
#[test]
fn who_has_committed_waits() {
    let mut world = World::new();
    let room = world.conversation();
    world.fall_out(room);
    world.bob.receive(&mut world.network).unwrap();
    world.bob.submit(&mut world.network).unwrap();
    world.bob.receive(&mut world.network).unwrap();
    world.bob.submit(&mut world.network).unwrap();
    let submitted = world.bob_submitted();
    for _ in 0..7 {
        world.clock.advance(24 * 60 * 60 * 1000);
        world.bob.run(Core::do_due);
        world.bob.submit(&mut world.network).unwrap();
    }
    assert_eq!(world.bob_submitted(), submitted);
    world.settle();
    assert_eq!(gaps(&world.bob).len(), 1);
    world.talks(room);
}

/// Goal: a commit that the hub has not ordered costs a device nothing, not even what it was about to change itself.
/// Method: Bob is about to add Carol when his homeserver hands him a spoilt commit of Alice's that she never sent.
#[test]
fn made_up_commits_cost_nothing() {
    let mut world = World::new();
    let room = world.conversation_of_owners();
    let mut carol = world.device('b', "carol", 3);
    let with = [carol.address.clone()];
    let adding = world.bob.run(|core| core.add_members(room, &with));
    world.bob.submit(&mut world.network).unwrap();
    world.bob.receive(&mut world.network).unwrap();
    world.alice.run(|core| core.refresh(room));
    let unsent = world.alice.core().submissions_after(0, 100).unwrap();
    let crate::frames::SubmissionBody::Commit(commit) = &unsent[0].body else {
        panic!("{unsent:?}");
    };
    let mut spoilt = commit.commit.to_vec();
    *spoilt.last_mut().unwrap() ^= 1;
    let body = crate::frames::DeliveryBody::Commit {
        room,
        epoch: commit.epoch,
        commit: spoilt.into(),
        accepted_ms: crate::clock::Clock::now_ms(&world.clock),
    };
    world.network.deliver(&world.bob.member, body);
    world.bob.receive(&mut world.network).unwrap();
    assert_eq!(out_of_step(&world.bob), 1);
    for _ in 0..3 {
        world.settle_with(&mut [&mut carol]);
        world.wait();
    }
    world.settle_with(&mut [&mut carol]);
    assert!(world.bob.has_ended(adding));
    world.talks(room);
    world.settle_with(&mut [&mut carol]);
    assert!(carol.texts(room).contains(&"bob: yes".to_owned()));
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

/// Goal: nobody is led back into an epoch that he has been in, by whatever the hub says of it. Method: the answer to
/// Bob's request is replaced by the true group info of an earlier epoch.
#[test]
fn earlier_epochs_are_not_come_back_into() {
    let mut world = World::new();
    let room = world.conversation();
    let earlier = world.network.newest_group_info(room);
    world.alice.run(|core| core.refresh(room));
    world.settle();
    world.fall_out(room);
    world.bob.receive(&mut world.network).unwrap();
    world.bob.submit(&mut world.network).unwrap();
    let submitted = world.bob_submitted();
    let answer = world.network.inbox(&world.bob.member).remove(0);
    world.network.acknowledge(&world.bob.member, answer.number);
    let mut body = answer.body;
    let crate::frames::DeliveryBody::GroupInfo {
        result: Ok(info), ..
    } = &mut body
    else {
        panic!("{body:?}");
    };
    (info.epoch, info.group_info) = (1, earlier);
    world.network.deliver(&world.bob.member, body);
    world.bob.receive(&mut world.network).unwrap();
    world.bob.submit(&mut world.network).unwrap();
    assert_eq!(world.bob_submitted(), submitted);
    world.wait();
    world.settle();
    assert_eq!(gaps(&world.bob).len(), 1);
    world.talks(room);
}
