//! A homeserver that was taken over, on the organisation's own side: whatever it does, a client refuses it or tells its user.
//!
//! `docs/security/evil-server.md` lists what is tried, with the test that holds it so. The homeservers of these tests
//! ([`crate::testing::Network`]) certify, sign and order whatever a test wants.

mod devices;
mod forks;
mod messages;
mod names;
mod policy;
mod proposals;
mod removed;
mod replays;
mod welcomes;

use super::*;
use crate::core::Core;
use crate::core::sequence::MISSING_TOLD_AFTER_MS;
use crate::event::Event;
use crate::frames::DeliveryBody;

impl TestDevice {
    /// What was told to be missing: how many messages, and whether they had expired.
    fn missing(&self) -> Vec<(u64, bool)> {
        let told = |event: &Event| match event {
            Event::MessagesMissing { count, expired, .. } => Some((*count, *expired)),
            _ => None,
        };
        self.events.iter().filter_map(told).collect()
    }

    /// How many messages were told to have come after later ones.
    fn late(&self) -> usize {
        let is_late = |event: &&Event| matches!(event, Event::OutOfOrder { .. });
        self.events.iter().filter(is_late).count()
    }

    /// Epochs of which two commits were told.
    fn forks(&self) -> Vec<u64> {
        let told = |event: &Event| match event {
            Event::RoomForked { epoch, .. } => Some(*epoch),
            _ => None,
        };
        self.events.iter().filter_map(told).collect()
    }

    /// Why it fell out of a room's step.
    fn out_of_step(&self) -> Vec<&str> {
        let told = self.events.iter().filter_map(|event| match event {
            Event::RoomOutOfStep { reason, .. } => Some(reason.as_str()),
            _ => None,
        });
        told.collect()
    }
}

impl World {
    /// So long that whatever is missing is told.
    fn wait_for_gaps(&mut self) {
        self.clock.advance(MISSING_TOLD_AFTER_MS);
        self.alice.run(Core::do_due);
        self.bob.run(Core::do_due);
    }

    /// Alice writes so many texts, numbered from `from`, and her homeserver has them.
    fn write(&mut self, room: RoomId, from: usize, count: usize) {
        for number in from..from + count {
            self.alice.send(room, &format!("{number}"));
        }
        self.alice.submit(&mut self.network).unwrap();
    }
}

/// Texts that a device of Alice's wrote, in the order in which they are shown.
fn of_alice(device: &mut TestDevice, room: RoomId) -> Vec<String> {
    let texts = device.texts(room).into_iter();
    let of_her = |text: String| text.strip_prefix("alice: ").map(str::to_owned);
    texts.filter_map(of_her).collect()
}
