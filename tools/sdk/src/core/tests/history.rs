//! What one own device knows, on another one: whole, once, in order, with its expiry, and from own devices alone.

use homeserver_api::ids::{Address, DeviceId};

use super::devices::know_own;
use super::expiry::{self, Witness};
use super::*;
use crate::backup::{self, BackupOf, RecoveryCode};
use crate::content::{Content, Part};
use crate::core::{Core, HistoryBounds};
use crate::event::Event;
use crate::message::{Message, MessageId, SendOptions};
use crate::testing::Log;

mod backups;

const ALL: HistoryBounds = HistoryBounds {
    messages: usize::MAX,
    bytes: usize::MAX,
    days: 10_000,
    burning: true,
};

impl World {
    /// Another device of Alice's, approved, and known to both.
    fn second(&mut self, number: u8) -> TestDevice {
        let mut second = self.device('a', "alice", number);
        know_own(&mut self.network, &mut self.alice);
        know_own(&mut self.network, &mut second);
        second
    }

    /// Queues what Alice's device knows for another one of hers.
    fn offer(&mut self, to: DeviceId, others: &mut [&mut TestDevice]) {
        let number = self.alice.run(|core| core.begin_history(to)).unwrap();
        self.settle_with(others);
        let room = self.alice.ended(number).unwrap();
        self.alice.run(|core| core.offer_history(room));
    }

    /// Sends it there.
    fn send_history(&mut self, second: &mut TestDevice) {
        let to = second.member.device;
        self.offer(to, &mut [&mut *second]);
        self.settle_with(&mut [second]);
    }

    fn restrain(&self, text: &str, ttl_seconds: u32, burn_seconds: u32) -> (Part, SendOptions) {
        let options = SendOptions {
            ttl_seconds: Some(ttl_seconds),
            burn_seconds: Some(burn_seconds),
            label: 0,
        };
        (Part::Text(text.to_owned()), options)
    }

    fn alice_says(&mut self, room: RoomId, text: &str, ttl: u32, burn: u32) -> MessageId {
        let (part, options) = self.restrain(text, ttl, burn);
        self.alice.run(|core| core.send(room, part, options))
    }

    fn bob_says(&mut self, room: RoomId, text: &str, ttl: u32, burn: u32) -> MessageId {
        let (part, options) = self.restrain(text, ttl, burn);
        self.bob.run(|core| core.send(room, part, options))
    }
}

impl TestDevice {
    fn messages(&mut self, room: RoomId) -> Vec<Message> {
        self.run(|core| core.history(room, 0, usize::MAX))
    }

    /// How each history that came ended: how many messages were new, and whether all of it came.
    fn histories(&self) -> Vec<(u64, bool)> {
        let received = |event: &Event| match event {
            Event::HistoryReceived {
                messages, complete, ..
            } => Some((*messages, *complete)),
            _ => None,
        };
        self.events.iter().filter_map(received).collect()
    }

    fn is_told(&self, told: impl Fn(&Event) -> bool) -> bool {
        self.events.iter().any(told)
    }
}

/// Goal: a new device has its predecessor's messages as they were there: authors, times, labels, expiry to the millisecond, in
/// order, marked as a history; as a conversation that it is not in, and without a word of the room in which they came.
#[test]
fn a_history_comes_over() {
    let mut world = World::new();
    let room = world.conversation();
    world.bob_says(room, "one", 3600, 0);
    world.settle();
    world.clock.advance(1234);
    world.alice_says(room, "two", 7200, 0);
    world.settle();
    let mut second = world.second(7);
    world.send_history(&mut second);

    let (hers, theirs) = (world.alice.messages(room), second.messages(room));
    assert_eq!(hers.len(), 2);
    for (old, new) in hers.iter().zip(&theirs) {
        assert!(!old.from_history && new.from_history);
        let as_there = Message {
            number: old.number,
            progress: old.progress.clone(),
            from_history: false,
            ..new.clone()
        };
        assert_eq!(as_there, *old);
    }
    assert_eq!(theirs.len(), 2);
    assert_eq!(second.histories(), [(2, true)]);
    let past = second.run(|core| core.past_rooms());
    assert_eq!(past.len(), 1);
    assert_eq!(past[0].room, room);
    assert_eq!(past[0].addresses.len(), 2);
    let nobody =
        second.try_run(|core| core.send(room, Part::Text(String::new()), SendOptions::default()));
    assert_eq!(nobody, Err(Error::UnknownRoom(room)));
    for device in [&mut world.alice, &mut second] {
        let rooms = device.run(Core::rooms);
        assert!(rooms.iter().all(|known| known.addresses.len() == 2));
    }
    assert!(
        !second.is_told(|event| matches!(event, Event::RoomJoined { .. } | Event::RoomLeft { .. }))
    );
    let sent = |event: &Event| {
        matches!(
            event,
            Event::HistorySent {
                messages: 2,
                left_out: 0,
                ..
            }
        )
    };
    assert!(world.alice.is_told(sent));
}

/// Goal: what is over never comes over, also when its time ends on the way; what burns and was read does not either, what was not
/// read burns on the new device; and what expires there is gone from its disk. Method: one message of each, looked for in
/// every file of the new device.
#[test]
fn expiry_is_kept() {
    let mut world = World::new();
    let room = world.conversation();
    world.bob_says(room, "over", 60, 0);
    world.bob_says(room, "over on its way", 120, 0);
    let read = world.bob_says(room, "read", 3600, 30);
    let unread = world.bob_says(room, "unread", 3600, 30);
    let kept = expiry::send(&mut world.bob, room, 600, 0);
    world.settle();
    world.alice.run(|core| core.mark_shown(read));
    world.clock.advance(61_000);
    let mut second = world.second(7);
    let to = second.member.device;
    world.offer(to, &mut [&mut second]);
    world.clock.advance(60_000);
    world.settle_with(&mut [&mut second]);

    let came: Vec<_> = second.messages(room).iter().map(|m| m.id).collect();
    assert_eq!(came, [unread, kept]);
    second.run(|core| core.mark_shown(unread));
    world.clock.advance(29_999);
    assert_eq!(second.messages(room).len(), 2);
    world.clock.advance(1);
    assert_eq!(
        second.messages(room).len(),
        1,
        "it burns after as long as it would have"
    );
    second.run(Core::delete_due);

    let witness = Witness::of(&mut second, room, kept);
    let at = world
        .alice
        .run(|core| core.message(kept))
        .expires_ms
        .unwrap();
    let left = at - crate::clock::Clock::now_ms(&world.clock);
    world.clock.advance(left - 1);
    assert_eq!(second.messages(room).len(), 1);
    world.clock.advance(1);
    assert_eq!(second.messages(room).len(), 0, "to the millisecond");
    // Deleted by opening the store: conversations that came with a history are looked after too.
    second.restart();
    witness.is_unreadable(&mut second);
    assert!(second.run(|core| core.past_rooms()).is_empty());
    let known = second.try_run(|core| core.history(room, 0, 1));
    assert_eq!(known, Err(Error::UnknownRoom(room)), "nor who was in it");
}

/// Goal: a history that is sent again doubles nothing, and brings back nothing that was read and burnt on the new device; by
/// sending it twice, with one message read in between.
#[test]
fn twice_is_once() {
    let mut world = World::new();
    let room = world.conversation();
    let burns = world.bob_says(room, "burns", 3600, 30);
    world.bob_says(room, "stays", 3600, 0);
    world.settle();
    let mut second = world.second(7);
    world.send_history(&mut second);
    assert_eq!(second.messages(room).len(), 2);
    world.send_history(&mut second);
    assert_eq!(second.messages(room).len(), 2);
    second.run(|core| core.mark_shown(burns));
    world.clock.advance(30_000);
    second.run(Core::delete_due);
    second.restart();
    assert_eq!(world.alice.messages(room).len(), 2, "unread there");
    world.send_history(&mut second);
    assert_eq!(second.texts(room), ["bob: stays"]);
    assert_eq!(second.histories(), [(2, true), (0, true), (0, true)]);
    world.clock.advance(3_600_000);
    second.run(Core::tidy);
}

/// Goal: when somebody adds the new device, its conversation is one with what came before: older messages stand before newer
/// ones, whenever they came; and one that it got itself is not doubled. Method: it is added and written to before the history
/// comes.
#[test]
fn one_with_the_conversation() {
    let mut world = World::new();
    let room = world.conversation();
    for text in ["1", "2", "3"] {
        world.bob_says(room, text, 3600, 0);
        world.settle();
        world.clock.advance(1000);
    }
    let mut second = world.second(7);
    let own = [world.alice.address.clone()];
    let number = world.alice.run(|core| core.add_members(room, &own));
    world.settle_with(&mut [&mut second]);
    world.alice.ended(number).unwrap();
    world.bob_says(room, "4", 3600, 0);
    world.settle_with(&mut [&mut second]);
    assert_eq!(second.texts(room), ["bob: 4"]);
    world.clock.advance(1000);
    world.send_history(&mut second);
    let texts = ["bob: 1", "bob: 2", "bob: 3", "bob: 4"];
    assert_eq!(second.texts(room), texts);
    let marked: Vec<_> = second
        .messages(room)
        .iter()
        .map(|m| m.from_history)
        .collect();
    assert_eq!(marked, [true, true, true, false]);
    assert!(
        second.run(|core| core.past_rooms()).is_empty(),
        "it is in it"
    );
    world.bob_says(room, "5", 3600, 0);
    world.settle_with(&mut [&mut second]);
    assert_eq!(second.texts(room).last().unwrap(), "bob: 5");
}

/// Goal: a device that has a history passes it on; by a third device, after the first one's end.
#[test]
fn it_goes_on() {
    let mut world = World::new();
    let room = world.conversation();
    for text in ["1", "2", "3"] {
        world.bob_says(room, text, 3600, 0);
    }
    world.settle();
    let mut second = world.second(7);
    world.send_history(&mut second);
    let mut third = world.second(8);
    std::mem::swap(&mut world.alice, &mut second);
    know_own(&mut world.network, &mut world.alice);
    world.send_history(&mut third);
    assert_eq!(third.texts(room), ["bob: 1", "bob: 2", "bob: 3"]);
}

/// Goal: nobody else's history is taken, and no device's that the account does not have; nothing of it is kept. Method: Bob sends one, in
/// the common room, and a device of Alice's that her homeserver made up sends one in a room with hers.
#[test]
fn others_are_refused() {
    let mut world = World::new();
    let room = world.conversation();
    let forged = |core: &mut Core, room| {
        let gathered = core.gather(ALL)?;
        let (_, entries) = crate::history::cut(gathered.entries).remove(0);
        let part = crate::history::encode_part([1; 16], 0, 1, &entries);
        core.send(room, Part::History(part), SendOptions::default())
    };
    world.bob_says(room, "in it", 3600, 0);
    world.settle();
    world.bob.run(|core| forged(core, room));
    world.settle();
    let told = world.alice.unreadable().join("; ");
    assert!(
        told.contains("only another device of this account"),
        "{told}"
    );
    assert_eq!(world.alice.texts(room), ["bob: in it"]);
    assert!(world.alice.histories().is_empty());

    let log: Log = world.network.logs.remove(&world.a.server).unwrap();
    let mut ghost = world.device('a', "alice", 9);
    world.network.logs.insert(world.a.server.clone(), log);
    know_own(&mut world.network, &mut world.alice);
    let with = [world.alice.address.clone()];
    let number = ghost.run(|core| core.start_conversation(&with));
    world.settle_with(&mut [&mut ghost]);
    let own_room = ghost.ended(number).unwrap();
    ghost.run(|core| core.confirm(&with[0]));
    ghost.run(|core| forged(core, own_room));
    world.settle_with(&mut [&mut ghost]);
    let told = world.alice.unreadable().join("; ");
    assert!(
        told.contains("none that this account is known to have"),
        "{told}"
    );
    assert!(world.alice.histories().is_empty());
}

/// Goal: a history goes to the device that it is meant for and to no other one of the account, and only to one that the account
/// has. Method: a third device stands by; then one that does not exist, and the sender itself.
#[test]
fn for_one_device() {
    let mut world = World::new();
    let room = world.conversation();
    world.bob_says(room, "one", 3600, 0);
    world.settle();
    let (mut second, mut third) = (world.second(7), world.second(8));
    know_own(&mut world.network, &mut world.alice);
    let to = second.member.device;
    world.offer(to, &mut [&mut second, &mut third]);
    world.settle_with(&mut [&mut second, &mut third]);
    assert_eq!(second.messages(room).len(), 1);
    assert!(
        third.histories().is_empty()
            && third.events.iter().all(|event| {
                !matches!(
                    event,
                    Event::RoomJoined { .. } | Event::HistoryReceived { .. }
                )
            })
    );
    let own = world.alice.member.device;
    for none in [own, DeviceId::from_bytes([99; 16])] {
        assert!(
            world
                .alice
                .try_run(|core| core.begin_history(none))
                .is_err()
        );
    }
}

/// Goal: a long history comes whole over crashes of both devices, in many parts, and what the homeserver refuses is told. Method: large
/// messages; both devices stop without a word between any two parts.
#[test]
fn many_parts_and_crashes() {
    let mut world = World::new();
    let room = world.conversation();
    let text = "x".repeat(40_000);
    for number in 0..5 {
        world.bob_says(room, &format!("{number}{text}"), 3600, 0);
    }
    world.settle();
    let mut second = world.second(7);
    let to = second.member.device;
    world.offer(to, &mut [&mut second]);
    world.alice.restart();
    assert_eq!(
        world.alice.run(|core| core.begin_history(to)),
        None,
        "it is on its way"
    );
    world.settle();
    let deliveries = world.network.inbox(&second.member);
    assert!(deliveries.len() >= 5, "{}", deliveries.len());
    for delivery in deliveries {
        let number = second.run(|core| core.receive(vec![delivery.clone()], true));
        second.restart();
        // Delivered again, as after a crash before the acknowledgement.
        second.run(|core| core.receive(vec![delivery], true));
        world.network.acknowledge(&second.member, number);
    }
    assert_eq!(second.messages(room).len(), 5);
    assert_eq!(second.histories(), [(5, true)]);

    let refusal = homeserver_api::refusal::Refusal::new(
        homeserver_api::refusal::RefusalCode::TtlOutOfBounds,
        "another one",
    );
    world.offer(to, &mut [&mut second]);
    world.network.refuse_messages.push(refusal);
    world.settle_with(&mut [&mut second]);
    assert!(
        world
            .alice
            .is_told(|event| matches!(event, Event::HistoryRefused { .. }))
    );
    assert_eq!(second.messages(room).len(), 5);
    let last = second.histories().last().copied();
    assert_eq!(
        last,
        Some((0, false)),
        "a part is missing, and that is told"
    );
}

/// Goal: of too much the newest goes, and it is told how much was left out; by each bound.
#[test]
fn bounds_keep_the_newest() {
    let mut world = World::new();
    let room = world.conversation();
    for number in 0..6 {
        world.bob_says(room, &number.to_string(), 864_000, 0);
        world.settle();
        world.clock.advance(43_200_000);
    }
    let texts = |core: &mut Core, bounds: HistoryBounds| {
        let gathered = core.gather(bounds)?;
        let entries = gathered.entries.iter().map(|(_, bytes)| {
            let mut reader = crate::content::Reader::new(bytes);
            crate::history::Entry::read(&mut reader).unwrap()
        });
        let text = |entry| match entry {
            crate::history::Entry::Message(message) => match message.content.part {
                Part::Text(text) => Some(text),
                _ => None,
            },
            _ => None,
        };
        let texts: Vec<String> = entries.filter_map(text).collect();
        assert_eq!(usize::try_from(gathered.messages), Ok(texts.len()));
        Ok((texts.concat(), gathered.left_out))
    };
    let all = world.alice.run(|core| core.gather(ALL));
    let bytes: usize = all.entries.iter().map(|(_, entry)| entry.len()).sum();
    for (bounds, expected) in [
        (ALL, ("012345", 0)),
        (HistoryBounds { messages: 2, ..ALL }, ("45", 4)),
        (HistoryBounds { days: 1, ..ALL }, ("45", 4)),
        (
            HistoryBounds {
                bytes: bytes - 1,
                ..ALL
            },
            ("12345", 1),
        ),
    ] {
        let got = world.alice.run(|core| texts(core, bounds));
        assert_eq!((got.0.as_str(), got.1), expected, "{bounds:?}");
    }
}

/// Goal: whom a person has confirmed on the old device is confirmed on the new one, and whom he has not is held there too: a new device does not
/// take for granted what the old one doubts. Method: Bob has a device by a reset; a history from before the confirmation and one from
/// after it.
#[test]
fn confirmations_come_over() {
    for confirmed in [false, true] {
        let mut world = World::new();
        world.conversation();
        let reset = world.ghost(7);
        let key: [u8; 32] = reset.public_key().try_into().unwrap();
        let (account, device) = (reset.member.account, reset.member.device);
        world.bobs_log().reset(account, device, key);
        world.start().unwrap();
        let bob: Address = world.bob.address.clone();
        if confirmed {
            world.alice.run(|core| core.confirm(&bob));
        }
        let mut second = world.second(9);
        world.send_history(&mut second);
        world.network.withdraw_key_packages(&world.bob.member);
        let number = second.run(|core| core.start_conversation(std::slice::from_ref(&bob)));
        world.settle_with(&mut [&mut second]);
        let started = second.ended(number);
        assert_eq!(started.is_ok(), confirmed, "{started:?}");
        assert!(confirmed || matches!(started, Err(Error::Unconfirmed(_))));
    }
}

/// Goal: two devices that were shown different histories of Bob tell of it; by a homeserver that shows each another one.
#[test]
fn what_does_not_agree_is_told() {
    let mut world = World::new();
    world.conversation();
    let mut second = world.second(9);
    let mut shown = world.bobs_log().clone();
    let account = world.bob.member.account;
    shown.accounts.remove(&account);
    let key = world.bob.public_key().try_into().unwrap();
    shown.at_ms += 1;
    shown.add(account, world.bob.member.device, key, None);
    world
        .network
        .shown_logs
        .insert(second.member.clone(), shown);
    let bob = [world.bob.address.clone()];
    let number = second.run(|core| core.start_conversation(&bob));
    world.settle_with(&mut [&mut second]);
    second.ended(number).unwrap();
    world.send_history(&mut second);
    let told = second.refused().join("; ");
    assert!(
        told.contains("another device of yours knows another history"),
        "{told}"
    );
}
