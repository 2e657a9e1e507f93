//! Devices that a homeserver makes up, and keys that it exchanges.

use homeserver_api::ids::DeviceId;

use super::super::devices::know_own;
use super::super::outsiders::{Scene, leaf_of, raw};
use super::*;
use crate::mls::DeviceKey;
use crate::testing::approved;

/// How a ghost comes into the device log.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Logged {
    Not,
    Reset,
    ForgedApproval,
}

impl World {
    /// A device of Alice's account that her own homeserver has certified and given key packages.
    fn own_ghost(&mut self, number: u8, logged: Logged) -> TestDevice {
        let server = self.a.server.clone();
        let mut log = self.network.logs.remove(&server).unwrap();
        let ghost = self.device('a', "alice", number);
        let key: [u8; 32] = ghost.public_key().try_into().unwrap();
        let (account, device) = (ghost.member.account, ghost.member.device);
        match logged {
            Logged::Not => {}
            Logged::Reset => log.reset(account, device, key),
            Logged::ForgedApproval => {
                let chain = log.chain(account);
                let signs = DeviceKey::generate().unwrap();
                let by = self.alice.member.device;
                log.write_unchecked(approved(&chain, device, key, by, &signs));
            }
        }
        self.network.logs.insert(server, log);
        ghost
    }

    /// Whether any device sees this one in a room.
    fn is_anywhere(&mut self, ghost: &TestDevice) -> bool {
        [&mut self.alice, &mut self.bob].into_iter().any(|device| {
            let rooms = device.run(Core::rooms);
            let members = rooms.iter().flat_map(|room| &room.members);
            members.into_iter().any(|m| m.member == ghost.member)
        })
    }
}

/// Goal: a device that the own homeserver adds to a user's account gets into no room, neither by his own devices nor by who has met
/// him, and both are told; as one that no log has, that the log has by a reset, and that it has with an approval nobody has signed.
/// Method: each, after Alice and Bob have met; both begin a room.
#[test]
fn a_ghost_of_the_own_account() {
    for logged in [Logged::Not, Logged::Reset, Logged::ForgedApproval] {
        let mut world = World::new();
        world.conversation();
        know_own(&mut world.network, &mut world.alice);
        let ghost = world.own_ghost(7, logged);
        know_own_if_it_holds(&mut world);
        let [bob, alice] = [&world.bob.address, &world.alice.address].map(|a| [a.clone()]);
        world.alice.run(|core| core.start_conversation(&bob));
        world.bob.run(|core| core.start_conversation(&alice));
        world.settle();
        assert!(!world.is_anywhere(&ghost), "{logged:?}");
        for (who, device) in [("alice", &world.alice), ("bob", &world.bob)] {
            let told = device.events.iter().any(|event| match (event, logged) {
                (Event::DevicesRefused { .. }, Logged::Not | Logged::ForgedApproval) => true,
                (Event::DevicesChanged { unconfirmed, .. }, Logged::Reset) => {
                    *unconfirmed == [ghost.member.device]
                }
                _ => false,
            });
            assert!(told, "{who} is not told: {logged:?}");
        }
    }
}

fn know_own_if_it_holds(world: &mut World) {
    let member = world.alice.member.clone();
    let sizes = world.alice.run(|core| Ok(core.own_log_sizes()));
    let network = &world.network;
    let history = network.history(&member, &member.server, member.account, &sizes);
    let taken = world
        .alice
        .try_run(|core| core.take_own_history(&history, &sizes));
    assert!(taken.is_ok() || matches!(taken, Err(Error::Devices(_))));
}

/// Goal: a device that a homeserver certifies for somebody who is in a room does not get in by a commit of its own. Method: one of
/// Bob's account, from outside, with nothing removed and in the place of his device, as his hub would order it.
#[test]
fn a_ghost_does_not_come_into_a_room() {
    let mut scene = Scene::new();
    let (network, a, b) = (&mut scene.world.network, &scene.world.a, &scene.world.b);
    let clock = scene.world.clock.clone();
    let mut ghost = TestDevice::without_keys(network, &clock, b, "bob", 9, &[a]);
    let ghost = raw(&mut ghost, &scene.rules);
    let info = scene.mallory.group_info_message_allowing_ext_commit(true);
    let info = info.unwrap();
    let (_, commit) = ghost.commit_external(info.clone()).unwrap();
    let bytes = commit.to_bytes().unwrap();
    scene.refuses_because("beside it", &bytes, "it comes from outside");
    let bob = scene.world.bob.core().identity().clone();
    let bob = crate::mls::signing_identity(&bob.chain, &bob.key).unwrap();
    let place = leaf_of(&scene.mallory, &bob);
    let builder = ghost.external_commit_builder().unwrap();
    let (_, commit) = builder.with_removal(place).build(info).unwrap();
    let bytes = commit.to_bytes().unwrap();
    scene.refuses_because("in its place", &bytes, "takes another's place");
    scene.goes_on();
}

/// Goal: a device that a homeserver certifies for somebody, and that a member in league with it adds, is told and gets nothing to read.
/// Method: Mallory adds a second device of Alice's account, which the log does not have; then Bob writes.
#[test]
fn a_ghost_that_a_member_adds_reads_nothing() {
    let mut scene = Scene::new();
    let now = scene.now();
    let ghost = scene.world.own_ghost(9, Logged::Not);
    let waiting = scene.world.network.waiting_key_packages(&ghost.member);
    let package = mls_rs::MlsMessage::from_bytes(&waiting[0]).unwrap();
    let output = scene
        .mallory
        .commit_builder()
        .add_member(package)
        .unwrap()
        .commit_time(now)
        .build()
        .unwrap();
    let commit = scene.as_commit(&output.commit_message.to_bytes().unwrap());
    scene.deliver(commit);
    let room = scene.room;
    let sent = scene.world.network.messages.len();
    scene.world.bob.send(room, "a secret");
    scene.world.settle();
    assert_eq!(scene.world.network.messages.len(), sent, "it is held");
    let told = |event: &Event| matches!(event, Event::Held { .. });
    assert!(scene.world.bob.events.iter().any(told));
}

/// Goal: keys that are exchanged for others' get nothing: another account's, and another key for the same device. Method: the answer to
/// Alice's claim for Bob is Mallory's; then one for a device of Bob's id that his homeserver has certified with a key of its own.
#[test]
fn a_swapped_key() {
    let mut world = World::new();
    world.conversation();
    let mallory = world.device('b', "mallory", 6);
    let bob = world.bob.address.clone();
    let commits = world.network.commits.len();
    world
        .network
        .swap_claims
        .insert(bob, mallory.address.clone());
    assert!(matches!(world.start(), Err(Error::Certificate(_))));
    world.network.swap_claims.clear();
    world.network.withdraw_key_packages(&world.bob.member);
    let ghost = world.ghost(2);
    assert_eq!(ghost.member, world.bob.member);
    assert!(matches!(world.start(), Err(Error::Devices(_))));
    assert_eq!(world.network.commits.len(), commits, "nobody was added");
    let told = world.alice.refused();
    assert!(
        told.iter().any(|told| told.contains("does not have")),
        "{told:?}"
    );
}

/// Goal: a device log that is shown differently to different people is told by whoever hears of both. Method: b's homeserver shows
/// Alice a log with a ghost in it and tells her of the head that all others see.
#[test]
fn a_forked_device_log_is_told() {
    let mut world = World::new();
    world.conversation();
    let mut shown = world.bobs_log().clone();
    shown.reset(
        world.bob.member.account,
        DeviceId::from_bytes([7; 16]),
        [7; 32],
    );
    drop(world.device('b', "eve", 9));
    let head = world.bobs_log().head();
    let head = homeserver_api::codec::Wire::to_bytes(&head).unwrap();
    let server = world.b.server.clone();
    world.alice.run(|core| core.hear_head(&server, &head));
    let alice = world.alice.member.clone();
    world.network.shown_logs.insert(alice, shown);
    let commits = world.network.commits.len();
    assert!(world.start().is_err());
    assert_eq!(world.network.commits.len(), commits);
    let told = world.alice.refused();
    assert!(told.iter().any(|told| told.contains("forked")), "{told:?}");
}
