//! A member whose client commits what nobody can apply: the others come back, and the room goes on.

use homeserver_api::session::Commit;
use room_rules::testing::hostile::{Hostile, Wrong};

use super::*;

impl World {
    /// A commit by Alice's key that is wrong in this way, and that the hub takes; her device has made an honest one.
    fn spoilt(&mut self, room: RoomId, wrong: Wrong) -> Commit {
        self.network.kept_commits = Some(Vec::new());
        self.alice.run(|core| core.refresh(room));
        self.alice.submit(&mut self.network).unwrap();
        let good = self.network.kept_commits.take().unwrap().remove(0);
        let before = self.network.newest_group_info(room);
        let core = self.alice.core();
        let store = &core.store;
        let state = store.get_bytes(crate::store::Family::GroupState, room.as_bytes(), 0);
        let key = crate::mls::signer(&core.identity().key).unwrap();
        let hostile = Hostile {
            seed: &key.as_bytes()[..32].try_into().unwrap(),
            before: &before,
            state: &state.unwrap().unwrap(),
        };
        let (commit, group_info) = hostile.spoil(&good.commit, &good.group_info, wrong);
        Commit {
            commit,
            group_info,
            ..good
        }
    }

    /// Orders a commit for everybody in the room.
    fn order(&mut self, commit: &Commit, more: &[&TestDevice]) {
        let mut members = vec![self.alice.member.clone(), self.bob.member.clone()];
        members.extend(more.iter().map(|device| device.member.clone()));
        self.network.order_for(&members, commit);
    }

    /// Lets everybody come back, with pauses.
    fn come_back(&mut self, carol: &mut TestDevice) {
        for _ in 0..4 {
            self.settle_with(&mut [&mut *carol]);
            self.wait();
            carol.run(Core::do_due);
        }
        self.settle_with(&mut [&mut *carol]);
    }
}

/// Goal: a commit that MLS's library can't go on with stops no client, names its author, and is stepped over. Method: a commit by Alice's key with an
/// update path without nodes, which is right in everything else; Bob takes it, is started again before he has acknowledged it, and takes
/// it again.
#[test]
fn a_path_without_nodes_stops_nobody() {
    let mut world = World::new();
    let room = world.conversation();
    let short = world.spoilt(room, Wrong::PathOf(0));
    world.order(&short, &[]);
    let waiting = world.network.inbox(&world.bob.member);
    world.bob.core().receive(waiting, true).unwrap();
    world.bob.restart();
    world.bob.receive(&mut world.network).unwrap();
    assert_eq!(out_of_step(&world.bob), 1);
    let told = |event: &Event| match event {
        Event::RoomOutOfStep { by, reason, .. } => {
            *by == Some(world.alice.address.clone()) && reason.contains("MLS library can't go on")
        }
        _ => false,
    };
    assert!(world.bob.events.iter().any(told), "{:?}", world.bob.events);
    world.settle();
    world.wait();
    world.settle();
    world.talks(room);
}

/// Goal: nobody ends a room for the others by commits that none of them can apply, however many: each time everybody comes back, and in
/// the end all hear each other. Method: Alice's key commits noise for path secrets, time and again, which the hub takes; Bob and Carol, and
/// Alice's own device, can't apply it.
#[test]
fn rubbish_ends_no_room() {
    let mut world = World::new();
    let room = world.conversation();
    let mut carol = world.device('b', "carol", 3);
    let with = [carol.address.clone()];
    world.alice.run(|core| core.add_members(room, &with));
    world.settle_with(&mut [&mut carol]);
    for times in 1..=12 {
        let rubbish = world.spoilt(room, Wrong::Secrets);
        world.order(&rubbish, &[&carol]);
        world.come_back(&mut carol);
        for device in [&world.bob, &carol] {
            assert_eq!(out_of_step(device), times);
            assert_eq!(gaps(device).len(), times);
        }
    }
    world.talks(room);
    world.settle_with(&mut [&mut carol]);
    carol.send(room, "still here");
    world.settle_with(&mut [&mut carol]);
    assert_eq!(world.bob.texts(room).last().unwrap(), "carol: still here");
}

/// Goal: nobody ends a room by a wrong key for coming back, either: whoever comes back by it is alone, and the others come back to him. Method: Alice's
/// group info has another external key, time and again, and Bob falls out after it.
#[test]
fn wrong_external_keys_end_no_room() {
    let mut world = World::new();
    let room = world.conversation();
    let mut carol = world.device('b', "carol", 3);
    let with = [carol.address.clone()];
    world.alice.run(|core| core.add_members(room, &with));
    world.settle_with(&mut [&mut carol]);
    for times in 1..=10 {
        let wrong = world.spoilt(room, Wrong::ExternalPub);
        world.order(&wrong, &[&carol]);
        world.network.lose_commit(&world.bob.member);
        let now = crate::clock::Clock::now_ms(&world.clock);
        world
            .bob
            .run(|core| core.begin_resync(room, now, None, "a test"));
        world.come_back(&mut carol);
        assert_eq!(gaps(&world.bob).len(), times);
        assert_eq!(gaps(&carol).len(), times, "his way back was none to her");
    }
    world.talks(room);
    world.settle_with(&mut [&mut carol]);
    carol.send(room, "still here");
    world.settle_with(&mut [&mut carol]);
    assert_eq!(world.bob.texts(room).last().unwrap(), "carol: still here");
}
