//! Whole conversations between devices over homeservers without a network.

mod conversation;
mod crashes;
mod devices;
mod evil_server;
mod expiry;
mod history;
mod hostile;
mod leaving;
mod membership;
mod outsiders;
mod partings;
mod policy;
mod resync;
mod successors;

use homeserver_api::client::Anchor;

use crate::Role;
use crate::clock::tests::TestClock;
use crate::error::Error;
use crate::ids::RoomId;
use crate::testing::{Network, Organisation, TestDevice, settle};

/// An organisation's root as its homeserver names it.
fn anchor(of: &Organisation) -> Anchor {
    Anchor {
        server: of.server.clone(),
        root: of.root.clone().into(),
        former: Vec::new(),
        handover: None,
        log_head: None,
    }
}

/// Two organisations that trust each other, with Alice at one and Bob at the other.
struct World {
    clock: TestClock,
    network: Network,
    a: Organisation,
    b: Organisation,
    alice: TestDevice,
    bob: TestDevice,
}

impl World {
    fn new() -> Self {
        let clock = TestClock::default();
        let mut network = Network::new(&clock);
        let (a, b) = (
            Organisation::new("a.example"),
            Organisation::new("b.example"),
        );
        let alice = TestDevice::enrol(&mut network, &clock, &a, "alice", 1, &[&b]);
        let bob = TestDevice::enrol(&mut network, &clock, &b, "bob", 2, &[&a]);
        Self {
            clock,
            network,
            a,
            b,
            alice,
            bob,
        }
    }

    /// Another device of organisation `a` or `b`.
    fn device(&mut self, own: char, handle: &str, number: u8) -> TestDevice {
        let (own, other) = if own == 'a' {
            (&self.a, &self.b)
        } else {
            (&self.b, &self.a)
        };
        TestDevice::enrol(
            &mut self.network,
            &self.clock,
            own,
            handle,
            number,
            &[other],
        )
    }

    fn settle(&mut self) {
        settle(&mut self.network, &mut [&mut self.alice, &mut self.bob]);
    }

    fn settle_with(&mut self, more: &mut [&mut TestDevice]) {
        let mut devices = vec![&mut self.alice, &mut self.bob];
        devices.extend(more.iter_mut().map(|device| &mut **device));
        settle(&mut self.network, &mut devices);
    }

    /// A conversation that Alice has started with Bob.
    fn conversation(&mut self) -> RoomId {
        let with = [self.bob.address.clone()];
        let number = self.alice.run(|core| core.start_conversation(&with));
        self.settle();
        self.alice.ended(number).unwrap()
    }

    /// A conversation in which Bob may do what Alice may.
    fn conversation_of_owners(&mut self) -> RoomId {
        let room = self.conversation();
        let bob = self.bob.address.clone();
        let number = self
            .alice
            .run(|core| core.set_role(room, &bob, Role::Owner));
        self.settle();
        self.alice.ended(number).unwrap();
        room
    }
}

impl TestDevice {
    /// How an operation ended.
    fn ended(&mut self, number: u64) -> Result<RoomId, Error> {
        let at = self.ended.iter().position(|(n, _)| *n == number);
        self.ended.remove(at.expect("the operation has ended")).1
    }

    fn has_ended(&self, number: u64) -> bool {
        self.ended.iter().any(|(n, _)| *n == number)
    }
}
