//! Devices that their accounts have removed, and that a room's hub leaves in it.

use super::super::devices::know_own;
use super::*;
use crate::core::devices::gone::GONE_TOLD_AFTER_MS;
use crate::refusal::{Refusal, RefusalCode};

/// A room of Alice and Bob, whose second device was stolen.
struct Theft {
    world: World,
    stolen: TestDevice,
    room: RoomId,
}

impl Theft {
    /// The room is Alice's, or Bob's: whoever begins one owns it.
    fn begun_by(alice: bool) -> Self {
        let mut world = World::new();
        let mut stolen = world.device('b', "bob", 7);
        let (starts, with) = match alice {
            true => (&mut world.alice, [world.bob.address.clone()]),
            false => (&mut world.bob, [world.alice.address.clone()]),
        };
        let number = starts.run(|core| core.start_conversation(&with));
        world.settle_with(&mut [&mut stolen]);
        let started = match alice {
            true => &mut world.alice,
            false => &mut world.bob,
        };
        let room = started.ended(number).unwrap();
        let mut theft = Self {
            world,
            stolen,
            room,
        };
        theft.world.alice.send(room, "before");
        theft.settle();
        assert_eq!(theft.stolen.texts(room), ["alice: before"]);
        theft
    }

    /// Bob signs the device out, by an honest statement in the log.
    fn signs_out(&mut self) {
        let (account, device) = (self.stolen.member.account, self.stolen.member.device);
        self.world.bobs_log().remove(account, device);
    }

    /// Alice's device looks at Bob's devices.
    fn alice_asks(&mut self) {
        let bob = self.world.bob.address.clone();
        self.world.alice.run(|core| core.ask_about(&bob));
    }

    fn settle(&mut self) {
        self.world.settle_with(&mut [&mut self.stolen]);
    }

    /// So long that a removed device that is still there is told.
    fn wait(&mut self) {
        self.world.clock.advance(GONE_TOLD_AFTER_MS);
        self.world.alice.run(Core::do_due);
        self.world.bob.run(Core::do_due);
        self.settle();
    }

    /// The hub takes the device out, as an honest one does at once.
    fn hub_removes(&mut self) {
        let stolen = self.stolen.member.clone();
        let is_meant = |member: &homeserver_api::ids::Member| *member == stolen;
        self.world.network.removes(self.room, false, is_meant);
    }
}

/// Goal: nothing goes to a device of which a client knows that its account has removed it, though the hub never takes it out: what is written
/// waits, also on the account's other devices, which is told when it lasts, over a restart; and whoever may takes the device out himself as
/// soon as the hub orders that. Method: Bob's device is stolen and signed out, and the hub takes no commit for a while.
#[test]
fn nothing_is_sent_to_a_removed_device() {
    let mut theft = Theft::begun_by(true);
    let room = theft.room;
    theft.signs_out();
    theft.alice_asks();
    know_own(&mut theft.world.network, &mut theft.world.bob);
    theft.settle();
    let refusal = Refusal::new(RefusalCode::RateLimited, "not now");
    theft.world.network.refuse_commits = Some(refusal);
    let sent = theft.world.network.messages.len();
    theft.world.alice.send(room, "by Alice");
    theft.world.bob.send(room, "by Bob");
    theft.settle();
    assert_eq!(theft.world.network.messages.len(), sent, "it is held");
    for device in [&theft.world.alice, &theft.world.bob] {
        assert!(device.held().is_empty(), "it may be over in a moment");
    }
    theft.world.alice.restart();
    theft.wait();
    assert_eq!(theft.world.network.messages.len(), sent, "it is held");
    for device in [&theft.world.alice, &theft.world.bob] {
        let told = device.held();
        assert!(told[0].contains("has removed the device"), "{told:?}");
    }
    theft.world.network.refuse_commits = None;
    // They don't try again at once.
    theft.world.clock.advance(8_000);
    theft.world.alice.run(Core::do_due);
    theft.world.bob.run(Core::do_due);
    theft.settle();
    for device in [&mut theft.world.alice, &mut theft.world.bob] {
        let texts = device.texts(room);
        for text in ["alice: by Alice", "bob: by Bob"] {
            assert!(texts.contains(&text.to_owned()), "{texts:?}");
        }
    }
    assert_eq!(theft.stolen.texts(room), ["alice: before"]);
    assert!(theft.stolen.events.contains(&Event::RoomLeft { room }));
}

/// Goal: who may not take the removed device out waits until the hub does, and is told; then what waited goes out. Method: Alice is a
/// member of Bob's room, and Bob's other device does not know yet.
#[test]
fn members_wait_for_the_hub() {
    let mut theft = Theft::begun_by(false);
    let room = theft.room;
    theft.signs_out();
    theft.alice_asks();
    theft.settle();
    let commits = theft.world.network.commits.len();
    theft.world.alice.send(room, "to Bob");
    theft.wait();
    assert_eq!(theft.world.network.commits.len(), commits);
    assert!(!theft.world.alice.held().is_empty());
    assert_eq!(theft.world.bob.texts(room), ["alice: before"]);
    theft.hub_removes();
    theft.settle();
    assert_eq!(
        theft.world.bob.texts(room),
        ["alice: before", "alice: to Bob"]
    );
    assert_eq!(theft.stolen.texts(room), ["alice: before"]);
}

/// Goal: with an honest hub a sign-out delays what is written by the one commit that takes the device out, and nobody hears of it. Method: the
/// hub removes the device after Alice has learnt of it, and Alice writes in between.
#[test]
fn an_honest_sign_out_is_no_alarm() {
    let mut theft = Theft::begun_by(true);
    let room = theft.room;
    theft.signs_out();
    theft.alice_asks();
    theft.settle();
    theft.world.alice.send(room, "to Bob");
    theft.hub_removes();
    theft.settle();
    assert_eq!(
        theft.world.bob.texts(room),
        ["alice: before", "alice: to Bob"]
    );
    assert_eq!(theft.stolen.texts(room), ["alice: before"]);
    theft.wait();
    assert!(theft.world.alice.held().is_empty());
}

/// Goal: what a device learns of a removal while it is out of a room's step counts there when it is back. Method: Alice's device asks for
/// the room's group info, hears of the sign-out before the answer, and has missed nothing.
#[test]
fn what_is_learnt_out_of_step_counts() {
    let mut theft = Theft::begun_by(true);
    let room = theft.room;
    theft.signs_out();
    theft.alice_asks();
    let now_ms = crate::clock::Clock::now_ms(&theft.world.clock);
    let alice = &mut theft.world.alice;
    alice.run(|core| core.begin_resync(room, now_ms, None, "a test"));
    theft.settle();
    let back = |event: &Event| matches!(event, Event::RoomResynced { .. });
    assert!(theft.world.alice.events.iter().any(back));
    let sent = theft.world.network.messages.len();
    theft.world.alice.send(room, "held");
    theft.settle();
    assert_eq!(theft.world.network.messages.len(), sent, "it is held");
}
