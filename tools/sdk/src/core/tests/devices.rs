//! Homeservers that show devices which are not there, and people who get new ones.

use homeserver_api::client::FormerAnchor;
use homeserver_api::codec::Wire as _;
use homeserver_api::device_log::DeviceHistory;
use homeserver_api::ids::{AccountId, DeviceId};

use super::*;
use crate::event::Event;
use crate::testing::Log;

mod own;

impl TestDevice {
    /// What was refused of what a homeserver says of devices.
    pub(super) fn refused(&self) -> Vec<&str> {
        self.events
            .iter()
            .filter_map(|event| match event {
                Event::DevicesRefused { reason, .. } => Some(reason.as_str()),
                _ => None,
            })
            .collect()
    }

    /// Why nothing is sent.
    pub(super) fn held(&self) -> Vec<&str> {
        self.events
            .iter()
            .filter_map(|event| match event {
                Event::Held { reason, .. } => Some(reason.as_str()),
                _ => None,
            })
            .collect()
    }

    fn devices_changed(&self) -> usize {
        let changed = |event: &&Event| matches!(event, Event::DevicesChanged { .. });
        self.events.iter().filter(changed).count()
    }
}

impl World {
    /// Begins to add Bob to a new room of Alice's; how that ended.
    pub(super) fn start(&mut self) -> Result<RoomId, Error> {
        let with = [self.bob.address.clone()];
        let number = self.alice.run(|core| core.start_conversation(&with));
        self.settle();
        self.alice.ended(number)
    }

    /// A device of Bob's that his homeserver has certified and given key packages, and nobody has approved: what a
    /// homeserver that was taken over makes.
    pub(super) fn ghost(&mut self, number: u8) -> TestDevice {
        let log = self.network.logs.remove(&self.b.server).unwrap();
        let ghost = self.device('b', "bob", number);
        self.network.logs.insert(self.b.server.clone(), log);
        ghost
    }

    /// A device of another account with the same address.
    fn shadow(&mut self, own: char, handle: &str, number: u8) -> TestDevice {
        let (own, other) = match own {
            'a' => (&self.a, &self.b),
            _ => (&self.b, &self.a),
        };
        let whose = (handle, AccountId::from_bytes([number; 16]));
        let network = &mut self.network;
        TestDevice::of_account(network, &self.clock, own, whose, number, &[other])
    }

    pub(super) fn bobs_log(&mut self) -> &mut Log {
        self.network.logs.get_mut(&self.b.server).unwrap()
    }
}

/// Lets a device look at its own account's devices, as with each session.
pub(super) fn know_own(network: &mut Network, device: &mut TestDevice) {
    let member = device.member.clone();
    let sizes = device.run(|core| Ok(core.own_log_sizes()));
    let history = network.history(&member, &member.server, member.account, &sizes);
    device.run(|core| core.take_own_history(&history, &sizes));
}

/// Goal: a device that no history has is never added, and told; by a homeserver that hands out its keys beside Bob's,
/// whose own device comes in all the same.
#[test]
fn a_ghost_is_not_added() {
    let mut world = World::new();
    let ghost = world.ghost(7);
    let room = world.start().unwrap();
    let members = world.alice.run(|core| core.rooms());
    let members = &members[0].members;
    assert!(members.iter().all(|member| member.member != ghost.member));
    assert_eq!(members.len(), 2);
    let told = world.alice.refused();
    assert!(told[0].contains("does not have"), "{told:?}");
    world.alice.send(room, "to Bob alone");
    world.settle();
    assert_eq!(world.bob.texts(room), ["alice: to Bob alone"]);
}

/// Goal: a device of Bob's with another key than his is never added, and told, whether he was met before or not; by a
/// homeserver that certifies a key of its own for his device, and hands it out.
#[test]
fn a_swapped_key_is_not_added() {
    for met in [false, true] {
        let mut world = World::new();
        if met {
            world.conversation();
        }
        world.network.withdraw_key_packages(&world.bob.member);
        let ghost = world.ghost(2);
        assert_eq!(ghost.member, world.bob.member);
        assert_ne!(ghost.public_key(), world.bob.public_key());
        let commits = world.network.commits.len();
        assert!(matches!(world.start(), Err(Error::Devices(_))));
        assert_eq!(world.network.commits.len(), commits);
        let told = world.alice.refused();
        assert!(told[0].contains("does not have"), "{told:?}");
    }
}

/// Goal: what a homeserver of ill will can show in place of a history is refused, told, and adds nobody; by a table, each
/// after an honest meeting.
#[test]
fn hostile_histories() {
    type Spoil = fn(&mut DeviceHistory);
    let table: [(&str, Spoil, &str); 5] = [
        (
            "a proof for another leaf",
            |history| history.index ^= 1,
            "not in the device log",
        ),
        (
            "a history without its newest statement",
            |history| history.statements.truncate(history.statements.len() - 1),
            "not in the device log",
        ),
        (
            "no history at all",
            |history| history.statements.clear(),
            "is empty",
        ),
        (
            "a swapped key",
            |history| history.statements[0].key[0] ^= 1,
            "does not follow",
        ),
        (
            "no growth from what was known",
            |history| history.growth.clear(),
            "has forked",
        ),
    ];
    for (what, spoil, expected) in table {
        let mut world = World::new();
        world.conversation();
        let other = world.device('b', "bob", 8);
        let third = world.device('b', "eve", 9);
        world.network.spoil_history = Some(spoil);
        let commits = world.network.commits.len();
        assert!(world.start().is_err(), "{what}");
        assert_eq!(world.network.commits.len(), commits, "{what}");
        let told = world.alice.refused();
        assert!(
            told.iter().any(|told| told.contains(expected)),
            "{what}: {told:?}"
        );
        // Told once the homeserver is honest again: nothing that was refused has stayed.
        world.network.spoil_history = None;
        world.start().unwrap();
        drop((other, third));
    }
}

/// Goal: a log that forks, goes back, or rewrites an account's history is refused and told: Alice has seen another one
/// before; by logs that a homeserver shows to her alone.
#[test]
fn hostile_logs() {
    type Change = fn(&mut Log, AccountId);
    let table: [(&str, Change, &str); 4] = [
        (
            "a log that goes back",
            |log, _| log.leaves.truncate(1),
            "gone back",
        ),
        (
            "a log of the same length with other statements",
            |log, _| {
                let last = log.leaves.len() - 1;
                log.leaves[last] = homeserver_api::Digest::of(b"another one's");
            },
            "forked",
        ),
        (
            "a log that has grown from something else",
            |log, _| {
                let at = log.leaves.len() - 1;
                log.leaves[at] = homeserver_api::Digest::of(b"another one's");
                log.leaves.push(homeserver_api::Digest::of(b"and more"));
            },
            "forked",
        ),
        (
            "an account whose history begins anew",
            |log, account| {
                log.accounts.remove(&account);
                log.add(account, DeviceId::from_bytes([9; 16]), [9; 32], None);
            },
            "another history",
        ),
    ];
    for (what, change, expected) in table {
        let mut world = World::new();
        // Another device's statement, so that Bob's is not the last one.
        let eve = world.device('b', "eve", 9);
        world.conversation();
        let bob = world.bob.member.account;
        let mut shown = world.bobs_log().clone();
        change(&mut shown, bob);
        let alice = world.alice.member.clone();
        world.network.shown_logs.insert(alice.clone(), shown);
        let commits = world.network.commits.len();
        assert!(world.start().is_err(), "{what}");
        assert_eq!(world.network.commits.len(), commits, "{what}");
        let told = world.alice.refused();
        assert!(
            told.iter().any(|told| told.contains(expected)),
            "{what}: {told:?}"
        );
        world.network.shown_logs.remove(&alice);
        world.start().unwrap();
        drop(eve);
    }
}

/// Goal: another account of the same organisation, with its own true history, is not taken for Bob's; by a homeserver that
/// answers with it.
#[test]
fn another_account_is_not_his() {
    let mut world = World::new();
    let mallory = world.device('b', "mallory", 6);
    let bob = world.bob.address.clone();
    let swapped = mallory.address.clone();
    world.network.swap_claims.insert(bob.clone(), swapped);
    assert!(matches!(world.start(), Err(Error::Certificate(_))));
    know_own(&mut world.network, &mut world.alice);
    let met = world.alice.try_run(|core| core.safety(&bob));
    assert!(met.is_err(), "nobody was met under his address");
    world.network.swap_claims.clear();
    world.start().unwrap();
    world.alice.run(|core| core.safety(&bob));
}

/// Goal: a homeserver can make another account under an address, with a true history of its own, and its devices get nothing
/// from who knows better: from the address's owner, who knows his account, and from who has met him, until a person confirms
/// it. Method: keys of such accounts are handed out, to Alice for herself and for Bob.
#[test]
fn another_account_under_the_address() {
    let mut world = World::new();
    let shadow = world.shadow('a', "alice", 7);
    let refused = world.start();
    assert!(matches!(refused, Err(Error::Devices(_))), "{refused:?}");
    assert_eq!(world.alice.run(|core| core.rooms()).len(), 0);
    world.network.withdraw_key_packages(&shadow.member);
    world.conversation();
    know_own(&mut world.network, &mut world.alice);

    let bob = world.bob.address.clone();
    let before = world.alice.run(|core| core.safety(&bob));
    world.network.withdraw_key_packages(&world.bob.member);
    let ghost = world.shadow('b', "bob", 8);
    let commits = world.network.commits.len();
    assert!(matches!(world.start(), Err(Error::Unconfirmed(_))));
    assert_eq!(world.network.commits.len(), commits);
    assert_eq!(world.alice.devices_changed(), 1);
    let after = world.alice.try_run(|core| core.safety(&bob));
    assert!(after.is_err(), "{before:?} {after:?}");
    world.alice.run(|core| core.confirm(&bob));
    let room = world.start().unwrap();
    let rooms = world.alice.run(|core| core.rooms());
    let found = rooms.iter().find(|found| found.room == room).unwrap();
    assert!(
        found
            .members
            .iter()
            .any(|member| member.member == ghost.member)
    );
}

/// Goal: keys of a device that its owner has removed are not used, though its statements are true; by a homeserver that
/// hands them out again, with the history of today and with that of before.
#[test]
fn a_removed_device_stays_removed() {
    let mut world = World::new();
    let old = world.device('b', "bob", 7);
    world.conversation();
    let before = world.bobs_log().clone();
    let (account, device) = (old.member.account, old.member.device);
    world.bobs_log().remove(account, device);
    let room = world.start().unwrap();
    let told = world.alice.refused().join("; ");
    assert!(told.contains("has removed"), "{told}");
    let rooms = world.alice.run(|core| core.rooms());
    let newest = rooms.iter().find(|found| found.room == room).unwrap();
    assert!(
        newest
            .members
            .iter()
            .all(|member| member.member != old.member)
    );
    // The history of before is the beginning of what Alice knows, but the log has gone back.
    let alice = world.alice.member.clone();
    world.network.shown_logs.insert(alice, before);
    assert!(world.start().is_err());
}

/// Goal: who hears from his own homeserver of a head that the partner's answer has not grown from is told of the fork;
/// by a head of another history with the same length, and by a longer one.
#[test]
fn heads_are_compared() {
    for more in [0, 1] {
        let mut world = World::new();
        world.conversation();
        let mut forked = world.bobs_log().clone();
        let last = forked.leaves.len() - 1;
        forked.leaves[last] = homeserver_api::Digest::of(b"another one's");
        for n in 0..more {
            forked.leaves.push(homeserver_api::Digest::of(&[n]));
        }
        let head = forked.head().to_bytes().unwrap();
        let server = world.b.server.clone();
        world.alice.run(|core| core.hear_head(&server, &head));
        // The true log grows beyond both.
        let eve = world.device('b', "eve", 9);
        let dave = world.device('b', "dave", 10);
        if more > 0 {
            assert!(world.alice.refused().is_empty());
            assert!(world.start().is_err());
        }
        let told = world.alice.refused();
        assert!(told.iter().any(|told| told.contains("forked")), "{told:?}");
        drop((eve, dave));
    }
}

/// Goal: a device that came by a reset is not added and holds what is sent to rooms in which it is, until a person
/// confirms it; then what waited goes out. Whoever meets the account for the first time takes it as it is.
#[test]
fn resets_are_held() {
    let mut world = World::new();
    let room = world.conversation();
    let reset = world.ghost(7);
    let key = reset_key(&reset);
    let (account, device) = (reset.member.account, reset.member.device);
    world.bobs_log().reset(account, device, key);

    let newer = world.start().unwrap();
    let rooms = world.alice.run(|core| core.rooms());
    assert!(rooms.iter().all(|known| known.members.len() == 2));
    assert!(world.alice.refused().is_empty(), "it is no lie");
    let changed = world.alice.events.iter().any(|event| {
        matches!(event, Event::DevicesChanged { unconfirmed, .. } if *unconfirmed == [device])
    });
    assert!(changed);

    // Bob, who knows it is his own, adds it to the room.
    let own = [world.bob.address.clone()];
    let bob = world.bob.address.clone();
    let number = world.bob.run(|core| core.add_members(room, &own));
    let mut reset = reset;
    world.settle_with(&mut [&mut reset]);
    world.bob.ended(number).unwrap();
    world.alice.send(room, "held");
    world.settle_with(&mut [&mut reset]);
    assert!(reset.texts(room).is_empty());
    assert!(world.bob.texts(room).is_empty());
    let told = world.alice.held();
    assert!(told[0].contains("chat confirm bob@b.example"), "{told:?}");
    world.alice.restart();
    world.settle_with(&mut [&mut reset]);
    assert!(reset.texts(room).is_empty(), "held over a restart");
    world.alice.send(newer, "it is not in this one");
    world.settle_with(&mut [&mut reset]);
    assert_eq!(world.bob.texts(newer).len(), 1);

    world.alice.run(|core| core.confirm(&bob));
    world.settle_with(&mut [&mut reset]);
    assert_eq!(reset.texts(room), ["alice: held"]);
    assert_eq!(world.bob.texts(room), ["alice: held"]);
}

/// Goal: a room in which an account has a device that its known history never had holds what is sent, until the history
/// is had and has it; by a device that is approved, and whose homeserver keeps the history back at first.
#[test]
fn unlisted_devices_are_held() {
    let mut world = World::new();
    let room = world.conversation();
    let mut second = world.device('b', "bob", 7);
    world.network.withhold_devices = true;
    let own = [world.bob.address.clone()];
    let number = world.bob.run(|core| core.add_members(room, &own));
    world.settle_with(&mut [&mut second]);
    world.bob.ended(number).unwrap();
    world.alice.send(room, "held");
    world.settle_with(&mut [&mut second]);
    assert!(second.texts(room).is_empty());
    let told = world.alice.held();
    assert!(told[0].contains("is being asked"), "{told:?}");

    // The next claim brings what was kept back.
    world.network.withhold_devices = false;
    world.start().unwrap();
    world.settle_with(&mut [&mut second]);
    assert_eq!(second.texts(room), ["alice: held"]);
}

/// Goal: a new device that an old one has approved needs nobody's confirmation, and is told; by one that comes while
/// Alice knows Bob already.
#[test]
fn approved_devices_come_in() {
    let mut world = World::new();
    world.conversation();
    let mut second = world.device('b', "bob", 7);
    let room = world.start().unwrap();
    assert_eq!(world.alice.devices_changed(), 1);
    world.alice.send(room, "to both");
    world.settle_with(&mut [&mut second]);
    assert_eq!(second.texts(room), ["alice: to both"]);
    assert!(world.alice.held().is_empty());
}

/// Goal: both sides read the same safety number, and another one once a device has come; by asking both.
#[test]
fn safety_numbers_are_the_same() {
    let mut world = World::new();
    world.conversation();
    let both = |world: &mut World| {
        know_own(&mut world.network, &mut world.alice);
        know_own(&mut world.network, &mut world.bob);
        let (alice, bob) = (world.alice.address.clone(), world.bob.address.clone());
        world.alice.run(|core| core.ask_about(&bob));
        world.bob.run(|core| core.ask_about(&alice));
        world.settle();
        let hers = world.alice.run(|core| core.safety(&bob));
        let his = world.bob.run(|core| core.safety(&alice));
        assert_eq!(hers, his);
        hers
    };
    let before = both(&mut world);
    let second = world.device('b', "bob", 7);
    let after = both(&mut world);
    assert_ne!(before, after);
    let nobody = "nobody@b.example".parse().unwrap();
    assert!(world.alice.try_run(|core| core.safety(&nobody)).is_err());
    drop(second);
}

/// Goal: a device that was away for six weeks, longer than its certificate lasts, comes back: it renews by its old key and
/// reads and writes in its room again; by moving the clock.
#[test]
fn late_return() {
    let mut world = World::new();
    let room = world.conversation();
    world.clock.advance(42 * 86_400_000);
    world.renew_alice();
    world.alice.send(room, "are you there?");
    settle(&mut world.network, &mut [&mut world.alice]);
    // Bob comes back: his certificate ended two weeks ago.
    world.renew_bob();
    world.settle();
    world.bob.send(room, "here I am");
    world.settle();
    assert_eq!(
        world.alice.texts(room),
        ["alice: are you there?", "bob: here I am"]
    );
    assert_eq!(
        world.bob.texts(room),
        ["alice: are you there?", "bob: here I am"]
    );
    assert!(world.alice.held().is_empty() && world.bob.held().is_empty());
}

/// Goal: a change of the root and the device log go together: statements of before count, a device certified under the former
/// root approves one that is certified under the new one, and neither is held or refused; who does not know the new root yet
/// fetches the roots first. By an organisation that changes its root between two devices of Bob's.
#[test]
fn a_change_of_the_root() {
    let mut world = World::new();
    world.conversation();
    let (next, handover) = world.b.successor();
    let former = std::mem::replace(&mut world.b, next);
    let log = world.network.logs.get_mut(&former.server).unwrap();
    log.sign_by(&world.b);
    let mut second = world.device('b', "bob", 7);
    let with = [world.bob.address.clone()];
    let number = world.alice.run(|core| core.start_conversation(&with));
    world.alice.submit(&mut world.network).unwrap();
    let answer = world.network.inbox(&world.alice.member);
    let first = world.alice.try_run(|core| core.receive(answer, false));
    assert_eq!(first, Err(Error::UnknownRoot(world.b.server.clone())));

    let own = Anchor {
        former: vec![FormerAnchor {
            root: former.root.clone().into(),
            until_ms: crate::clock::Clock::now_ms(&world.clock) + 30 * 86_400_000,
        }],
        ..anchor(&world.b)
    };
    world
        .alice
        .run(|core| core.set_anchors(std::slice::from_ref(&own)));
    let own = Anchor {
        handover: Some(handover.into()),
        ..own
    };
    let of_both = [own, anchor(&world.a)];
    for device in [&mut world.bob, &mut second] {
        device.run(|core| core.set_anchors(&of_both));
    }
    world.settle_with(&mut [&mut second]);
    let room = world.alice.ended(number).unwrap();
    world.alice.send(room, "to both");
    world.settle_with(&mut [&mut second]);
    for device in [&mut world.bob, &mut second] {
        assert_eq!(device.texts(room), ["alice: to both"]);
    }
    assert_eq!(world.alice.devices_changed(), 1);
    let sizes = world.bob.run(|core| Ok(core.own_log_sizes()));
    let bob = world.bob.member.clone();
    let history = world
        .network
        .history(&bob, &bob.server, bob.account, &sizes);
    world
        .bob
        .run(|core| core.take_own_history(&history, &sizes));
    for device in [&world.alice, &world.bob, &second] {
        assert!(device.refused().is_empty() && device.held().is_empty());
    }
}

impl World {
    fn renew_alice(&mut self) {
        renew(&mut self.alice, &self.a);
    }

    fn renew_bob(&mut self) {
        renew(&mut self.bob, &self.b);
    }
}

/// Renews a device's certificate as its homeserver does: for the same key.
fn renew(device: &mut TestDevice, own: &Organisation) {
    let request = device.run(|core| core.renewal_request());
    assert!(request.is_some(), "it is time");
    let key = device.core().identity().key.public().unwrap();
    let now_ms = crate::clock::Clock::now_ms(&device.clock);
    let chain = own.issue(&device.member, &device.address, &key, now_ms);
    device.run(|core| core.renewed(chain));
}

fn reset_key(device: &TestDevice) -> [u8; 32] {
    device.public_key().try_into().unwrap()
}
