use std::fs;
use std::path::Path;

use super::*;
use crate::content::Part;
use crate::event::Event;
use crate::message::{MessageId, Progress, SendOptions};
use crate::refusal::{Refusal, RefusalCode};
use crate::store::Family;

const SECRET: &str = "a text that must be gone from every file on this device";

fn every_file(folder: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        bytes.extend(fs::read(entry.unwrap().path()).unwrap());
    }
    bytes
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack
        .windows(needle.len())
        .any(|window| window == needle)
}

fn salts(folder: &Path) -> Vec<Vec<u8>> {
    fs::read(folder.join("salts"))
        .unwrap()
        .chunks(32)
        .filter(|salt| salt.iter().any(|byte| *byte != 0))
        .map(<[u8]>::to_vec)
        .collect()
}

pub(super) fn send(device: &mut TestDevice, room: RoomId, ttl: u32, burn: u32) -> MessageId {
    device.run(|core| {
        core.send(
            room,
            Part::Text(SECRET.to_owned()),
            SendOptions {
                ttl_seconds: Some(ttl),
                burn_seconds: Some(burn),
                label: 0,
            },
        )
    })
}

/// What could still open a message's content: where it lies, its sealed bytes, and its salt.
pub(super) struct Witness {
    room: RoomId,
    number: u64,
    sealed: Vec<u8>,
    salt: Vec<u8>,
}

impl Witness {
    pub(super) fn of(device: &mut TestDevice, room: RoomId, id: MessageId) -> Self {
        let number = device.run(|core| core.message(id)).number;
        let content = Family::MessageContent;
        let store = device.core().store();
        let (sealed, salt) = store.sealed(content, room.as_bytes(), number).unwrap();
        assert!(store.opens(content, room.as_bytes(), number, &sealed, &salt));
        assert!(salts(device.folder.path()).contains(&salt));
        Self {
            room,
            number,
            sealed,
            salt,
        }
    }

    /// The salt is in no file, and no salt that is left opens the bytes.
    pub(super) fn is_unreadable(&self, device: &mut TestDevice) {
        let bytes = every_file(device.folder.path());
        assert!(!contains(&bytes, SECRET.as_bytes()));
        assert!(!contains(&bytes, &self.salt), "the salt is still there");
        let left = salts(device.folder.path());
        let scope = self.room.as_bytes();
        let content = Family::MessageContent;
        let store = device.core().store();
        for salt in left {
            assert!(!store.opens(content, scope, self.number, &self.sealed, &salt));
        }
        assert!(store.sealed(content, scope, self.number).is_none());
    }
}

/// Goal: an expired message is gone from both devices, from the history as from the disk. Method:
/// keep its content record's sealed bytes and salt while it lives; after its time the salt is in no
/// file and no salt that is left opens the bytes, nor is any ratchet state's salt from before.
#[test]
fn expired_messages_are_unreadable() {
    let mut world = World::new();
    let room = world.conversation();
    let mut seen: [Vec<Vec<u8>>; 2] = [Vec::new(), Vec::new()];
    let id = send(&mut world.alice, room, 60, 0);
    for _ in 0..4 {
        world.alice.try_step(&mut world.network).unwrap();
        world.bob.try_step(&mut world.network).unwrap();
        seen[0].extend(salts(world.alice.folder.path()));
        seen[1].extend(salts(world.bob.folder.path()));
    }
    let witnesses = [
        Witness::of(&mut world.alice, room, id),
        Witness::of(&mut world.bob, room, id),
    ];
    world.clock.advance(61_000);
    for ((device, witness), seen) in [&mut world.alice, &mut world.bob]
        .into_iter()
        .zip(witnesses)
        .zip(seen)
    {
        assert!(
            device.texts(room).is_empty(),
            "not shown even before it is deleted"
        );
        device.run(crate::core::Core::delete_due);
        witness.is_unreadable(device);
        device.core().forget_replaced().unwrap();
        assert!(
            device
                .events
                .contains(&Event::Deleted { room, message: id })
        );
        assert!(device.try_run(|core| core.message(id)).is_err());
        let bytes = every_file(device.folder.path());
        let left = salts(device.folder.path());
        for salt in seen.iter().filter(|salt| !left.contains(salt)) {
            assert!(!contains(&bytes, salt));
        }
    }
}

/// Goal: a burning message goes its burn time after it was first shown, not before, also across a
/// restart, and unreadably; by its content record's sealed bytes and salt.
#[test]
fn burnt_messages_are_unreadable() {
    let mut world = World::new();
    let room = world.conversation();
    let id = send(&mut world.alice, room, 3600, 30);
    world.settle();
    world.clock.advance(120_000);
    world.bob.run(crate::core::Core::delete_due);
    assert_eq!(world.bob.texts(room).len(), 1, "it was not shown yet");
    let witness = Witness::of(&mut world.bob, room, id);
    world.bob.run(|core| core.mark_shown(id));
    world.clock.advance(20_000);
    world.bob.run(|core| core.mark_shown(id));
    world.bob.restart();
    assert_eq!(world.bob.texts(room).len(), 1);
    world.clock.advance(10_000);
    assert!(
        world.bob.texts(room).is_empty(),
        "thirty seconds after the first time"
    );
    // Deleted by opening the store.
    world.bob.restart();
    witness.is_unreadable(&mut world.bob);
    assert_eq!(world.alice.texts(room).len(), 1, "burning is the reader's");
}

/// Goal: what is due must not be shown, even while it is not deleted yet, and a sender's own message
/// does not burn by being looked at.
#[test]
fn due_messages_are_not_shown() {
    let mut world = World::new();
    let room = world.conversation();
    let id = send(&mut world.alice, room, 60, 10);
    world.settle();
    world.alice.run(|core| core.mark_shown(id));
    world.clock.advance(59_000);
    world.alice.run(|core| core.mark_shown(id));
    world.bob.run(|core| core.mark_shown(id));
    world.clock.advance(1000);
    for device in [&mut world.alice, &mut world.bob] {
        let late = device.try_run(|core| core.mark_shown(id));
        assert_eq!(late, Err(Error::UnknownMessage(id)));
    }
}

/// Goal: no server can stretch a message's life by what it says about time.
#[test]
fn servers_may_only_shorten() {
    let mut world = World::new();
    let room = world.conversation();
    send(&mut world.alice, room, 60, 0);
    world.alice.submit(&mut world.network).unwrap();
    let mut deliveries = world.network.inbox(&world.bob.member);
    for delivery in &mut deliveries {
        if let crate::frames::DeliveryBody::Message {
            accepted_ms,
            expires_ms,
            ..
        } = &mut delivery.body
        {
            *accepted_ms += 86_400_000;
            *expires_ms = u64::MAX;
        }
    }
    world.bob.run(|core| core.receive(deliveries, true));
    assert_eq!(world.bob.texts(room).len(), 1);
    world.clock.advance(60_000);
    assert!(world.bob.texts(room).is_empty());
}

/// The hub's answer to Alice's last message: its epoch is over.
fn comes_back(world: &mut World, room: RoomId) {
    let counter = world.network.last_counter(&world.alice.member);
    let refusal = Refusal::new(RefusalCode::EpochTooOld, "its epoch is over");
    let (alice, hub) = (world.alice.member.clone(), world.a.server.clone());
    world
        .network
        .return_message(&alice, room, counter, &hub, refusal);
}

/// Sends a message that reaches nobody.
fn send_in_vain(world: &mut World, room: RoomId, ttl: u32) -> MessageId {
    let id = send(&mut world.alice, room, ttl, 0);
    world.alice.submit(&mut world.network).unwrap();
    world.network.drop_deliveries(&world.bob.member);
    id
}

/// Whether Alice was told, with a reason of this code, that it did not reach anybody.
fn told_as(world: &World, id: MessageId, code: RefusalCode) -> bool {
    world.alice.events.iter().any(|event| {
        matches!(event, Event::Returned { message, refusal, .. } if *message == id && refusal.code == code)
    })
}

/// Goal: a message that is encrypted again goes everywhere when its time since its first acceptance is over, however often that was.
/// Method: it comes back twice, forty and ten seconds later; then by the clock.
#[test]
fn encrypted_again_for_what_is_left() {
    let mut world = World::new();
    let room = world.conversation();
    let id = send_in_vain(&mut world, room, 60);
    for later_ms in [40_000, 10_000] {
        world.clock.advance(later_ms);
        comes_back(&mut world, room);
        world.alice.receive(&mut world.network).unwrap();
        world.network.drop_deliveries(&world.bob.member);
        world.alice.submit(&mut world.network).unwrap();
    }
    world.settle();
    let message = |device: &mut TestDevice| device.run(|core| core.message(id));
    let at_first = message(&mut world.alice).expires_ms;
    assert!(at_first.is_some());
    assert_eq!(message(&mut world.bob).expires_ms, at_first);
    world.clock.advance(9_999);
    assert_eq!(world.bob.texts(room).len(), 1);
    world.clock.advance(1);
    assert!(world.bob.texts(room).is_empty());
    assert!(world.alice.texts(room).is_empty());
}

/// Goal: what has less time left than the room lets messages live is not sent again, and its author is told; it still goes when it was to
/// go. Method: b's messages live twenty seconds at least; it comes back with nineteen left.
#[test]
fn too_late_to_encrypt_again() {
    let mut world = World::new();
    let b = world.b.server.clone();
    let rules = &mut world.network.rules;
    rules.insert(b, |consent| consent.ttl.min_seconds = 20);
    let room = world.conversation();
    let id = send_in_vain(&mut world, room, 60);
    world.clock.advance(41_000);
    comes_back(&mut world, room);
    world.settle();
    assert!(told_as(&world, id, RefusalCode::Expired));
    let message = world.alice.run(|core| core.message(id));
    assert!(matches!(message.progress, Progress::Returned { .. }));
    assert!(world.bob.texts(room).is_empty());
    world.clock.advance(19_000);
    assert!(world.alice.texts(room).is_empty());
}

/// Goal: the author is told, too, when a message's time runs out while it waits to be encrypted again. Method: a commit of his that the
/// hub does not order holds it.
#[test]
fn expired_before_it_was_encrypted_again() {
    let mut world = World::new();
    let room = world.conversation();
    let id = send_in_vain(&mut world, room, 60);
    comes_back(&mut world, room);
    world.network.kept_commits = Some(Vec::new());
    world.alice.run(|core| core.rename(room, "held"));
    world.alice.submit(&mut world.network).unwrap();
    world.settle();
    assert!(!told_as(&world, id, RefusalCode::Expired));
    world.clock.advance(60_000);
    world.alice.run(crate::core::Core::delete_due);
    assert!(told_as(&world, id, RefusalCode::Expired));
    assert!(world.bob.texts(room).is_empty());
}
