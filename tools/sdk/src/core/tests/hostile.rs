use homeserver_api::attributes::MessageAttributes;

use super::*;
use crate::content::{Content, Order, Part};
use crate::event::Event;
use crate::frames::DeliveryBody;
use crate::message::MessageId;

fn content(id: u8) -> Content {
    Content {
        id: MessageId::from_bytes([id; 16]),
        sent_ms: 0,
        ttl_seconds: 600,
        burn_seconds: 0,
        label: 0,
        order: Order {
            number: u64::from(id),
            ..Order::default()
        },
        part: Part::Text("hello".to_owned()),
    }
}

impl World {
    /// Has Alice encrypt anything at all, and the homeservers deliver it to Bob.
    fn deliver_from_alice(&mut self, room: RoomId, bytes: &[u8], attributes: &[u8]) {
        let message = self.alice.run(|core| {
            core.group_mut(room)?
                .encrypt_application_message(bytes, attributes.to_vec())
                .and_then(|message| message.to_bytes())
                .map_err(crate::mls::error)
        });
        self.network.deliver(
            &self.bob.member,
            DeliveryBody::Message {
                room,
                message: message.into(),
                accepted_ms: crate::clock::Clock::now_ms(&self.clock),
                expires_ms: u64::MAX,
            },
        );
        self.bob.receive(&mut self.network).unwrap();
    }
}

/// Goal: what a message says to the servers must be what its content says; unpadded content, content
/// without attributes and another message's id are refused; the room goes on.
#[test]
fn lying_messages_are_refused() {
    let mut world = World::new();
    let room = world.conversation();
    let honest = content(1).encode().unwrap();
    let attributes = content(1).attributes();
    world.deliver_from_alice(room, &honest, &attributes.encode());
    assert_eq!(world.bob.texts(room), ["alice: hello"]);

    let longer = MessageAttributes {
        ttl_seconds: 601,
        ..attributes
    };
    let unpadded = &honest[..100];
    let other = content(2).encode().unwrap();
    world.deliver_from_alice(room, &other, &longer.encode());
    world.deliver_from_alice(room, &other, b"");
    world.deliver_from_alice(room, unpadded, &attributes.encode());
    assert_eq!(world.bob.unreadable().len(), 3);

    // Its own id again is a repetition and silent; from another device it is a lie.
    world.deliver_from_alice(room, &honest, &attributes.encode());
    assert_eq!(world.bob.unreadable().len(), 3);
    let id = MessageId::from_bytes([1; 16]);
    let mine = world.bob.send(room, "mine");
    let mut stolen = content(3);
    stolen.id = mine;
    world.deliver_from_alice(
        room,
        &stolen.encode().unwrap(),
        &stolen.attributes().encode(),
    );
    assert_eq!(world.bob.unreadable().len(), 4);
    assert!(world.bob.try_run(|core| core.message(id)).is_ok());

    world.alice.send(room, "and on");
    world.settle();
    assert!(world.bob.texts(room).contains(&"alice: and on".to_owned()));
}

/// Goal: bytes that are no MLS message, cut or changed ones, and replays change nothing: what comes
/// after them is read.
#[test]
fn garbage_is_put_aside() {
    let mut world = World::new();
    let room = world.conversation();
    world.alice.send(room, "first");
    world.alice.submit(&mut world.network).unwrap();
    let good = world.network.messages[0].clone();
    let mut changed = good.to_vec();
    let last = changed.len() - 1;
    changed[last] ^= 1;
    let mut longer = good.to_vec();
    longer.push(0);
    let now = crate::clock::Clock::now_ms(&world.clock);
    // The changed one comes before the good one: it must not use up the good one's key.
    let inbox = world.network.inbox(&world.bob.member);
    let first = inbox.last().unwrap().number;
    let mut deliveries = Vec::new();
    for (number, bytes) in [
        changed,
        longer,
        good[..50].to_vec(),
        vec![],
        good.to_vec(),
        good.to_vec(),
    ]
    .into_iter()
    .enumerate()
    {
        deliveries.push(crate::frames::Delivery {
            number: first + u64::try_from(number).unwrap(),
            body: DeliveryBody::Message {
                room,
                message: bytes.into(),
                accepted_ms: now,
                expires_ms: u64::MAX,
            },
        });
    }
    world.bob.run(|core| core.receive(deliveries, true));
    assert_eq!(world.bob.texts(room), ["alice: first"]);
    assert_eq!(world.bob.unreadable().len(), 5);
}

/// Goal: a server that answers a claim with somebody else's keys adds nobody.
#[test]
fn swapped_keys_are_refused() {
    let mut world = World::new();
    let mallory = world.device('a', "mallory", 6);
    let bob = world.bob.address.clone();
    world
        .network
        .swap_claims
        .insert(bob.clone(), mallory.address.clone());
    let number = world.alice.run(|core| core.start_conversation(&[bob]));
    world.settle();
    assert!(matches!(
        world.alice.ended(number),
        Err(Error::Certificate(_))
    ));
    assert!(world.network.commits.is_empty());
}

/// Goal: a store that is put back from an older copy is noticed, also when it wrote a lot before its
/// first session: the homeserver has taken counters that it never sent. The original goes on.
#[test]
fn older_copies_are_noticed() {
    let mut world = World::new();
    let room = world.conversation();
    let copy = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(world.alice.folder.path()).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
    }
    world.alice.send(room, "after the copy");
    world.settle();
    let last = world.network.last_counter(&world.alice.member);
    world.alice.restart();
    world.alice.run(|core| core.greeted(last));
    world.alice.send(room, "sent before the answer was lost");
    world.alice.run(|core| core.greeted(last + 1));

    world.alice.folder = copy;
    world.alice.restart();
    for _ in 0..3 {
        world.alice.send(room, "from the copy");
    }
    let refused = world.alice.try_run(|core| core.greeted(last));
    assert_eq!(refused, Err(Error::StaleStore));
    let again = world.alice.try_run(|core| core.greeted(last));
    assert_eq!(again, Err(Error::StaleStore));
}

/// Goal: a homeserver that was put back from an older copy is named as such, with mail waiting and
/// without; its own last counter is fine.
#[test]
fn older_homeservers_are_noticed() {
    let mut world = World::new();
    let room = world.conversation();
    world.alice.send(room, "taken, then forgotten");
    world.settle();
    world.alice.restart();
    let last = world.network.last_counter(&world.alice.member);
    let older = world.alice.try_run(|core| core.greeted(last - 1));
    assert_eq!(older, Err(Error::RestoredServer));
    world.alice.send(room, "waiting");
    let older = world.alice.try_run(|core| core.greeted(last - 1));
    assert_eq!(older, Err(Error::RestoredServer));
    world.alice.run(|core| core.greeted(last));
    // It took this one and its answer was lost.
    world.alice.run(|core| core.greeted(last + 1));
}

/// Goal: a commit that is on its way survives what else comes with the answer that it was made for;
/// by a frame with the key packages of a newcomer and a message of that room that nobody can read.
#[test]
fn commits_survive_garbage_in_the_same_frame() {
    let mut world = World::new();
    let room = world.conversation();
    let mut carol = world.device('a', "carol", 3);
    let with = [carol.address.clone()];
    let number = world.alice.run(|core| core.add_members(room, &with));
    world.alice.submit(&mut world.network).unwrap();
    world.network.deliver(
        &world.alice.member,
        DeliveryBody::Message {
            room,
            message: vec![1, 2, 3].into(),
            accepted_ms: crate::clock::Clock::now_ms(&world.clock),
            expires_ms: u64::MAX,
        },
    );
    assert!(world.network.inbox(&world.alice.member).len() >= 2);
    world.settle_with(&mut [&mut carol]);
    assert_eq!(world.alice.unreadable().len(), 1);
    assert_eq!(world.alice.ended(number), Ok(room));
    carol.send(room, "here");
    world.settle_with(&mut [&mut carol]);
    assert_eq!(world.alice.texts(room), ["carol: here"]);
}

/// Goal: what can't be read undoes nothing that came before it in the same frame, neither what was shown nor the keys that
/// it used up. Method: a frame whose middle one of three is changed; then the first one's bytes again, after a restart.
#[test]
fn one_that_fails_undoes_no_other() {
    let mut world = World::new();
    let room = world.conversation();
    for text in ["one", "two", "three"] {
        world.alice.send(room, text);
    }
    world.alice.submit(&mut world.network).unwrap();
    let mut frame = world.network.inbox(&world.bob.member);
    let [.., first, second, third] = &mut frame[..] else {
        panic!("three messages wait");
    };
    let DeliveryBody::Message { message, .. } = &mut second.body else {
        panic!("{second:?}");
    };
    let mut changed = message.to_vec();
    *changed.last_mut().unwrap() ^= 1;
    *message = changed.into();
    let (again, next) = (first.body.clone(), third.number + 1);
    world.bob.run(|core| core.receive(frame, true));
    assert_eq!(world.bob.texts(room), ["alice: one", "alice: three"]);
    let shown = world.bob.events.iter();
    let shown = shown.filter(|event| matches!(event, Event::Message(_)));
    assert_eq!(shown.count(), 2);
    assert_eq!(world.bob.unreadable().len(), 1);

    let replayed = crate::frames::Delivery {
        number: next,
        body: again,
    };
    world.bob.restart();
    world.bob.run(|core| core.receive(vec![replayed], true));
    assert_eq!(world.bob.unreadable().len(), 2, "its key was used up");
}
