//! Groups under a known room's id that a homeserver makes up, and draws somebody into by a welcome.

use bytes::Bytes;
use mls_rs::MlsMessage;

use super::super::outsiders::{Config, Lawless, none, raw};
use super::*;
use crate::clock::Clock as _;
use crate::ids::{Member, ServerName};
use crate::mls::time;
use crate::refusal::{Refusal, RefusalCode};

/// A group that Alice's homeserver makes up.
struct MadeUp {
    /// Whom it has certified for that; nobody has met her.
    eve: Member,
    group: mls_rs::Group<Config>,
    welcome: Bytes,
}

impl World {
    /// A group under this room's id, in a later epoch and ordered by a, with all that belongs in one of a's rooms that b's people have left. Eve and Alice are
    /// in it.
    fn made_up(&mut self, room: RoomId) -> MadeUp {
        let now = time(self.clock.now_ms());
        let (network, a, b) = (&mut self.network, &self.a, &self.b);
        let mut eve = TestDevice::without_keys(network, &self.clock, a, "eve", 8, &[b]);
        let client = raw(&mut eve, &Lawless::default());
        let others = [(self.alice.member.clone(), Role::Member)];
        let hub = self.a.hub_chain();
        let mut context = room_rules::testing::mls::context(&hub, &eve.member, &others);
        let settings = &mut context.settings;
        settings.consents = self.network.consents_of(room, &["a.example"]);
        let left = (self.b.server.clone(), self.clock.now_ms());
        settings.former.extend([left]);
        let extensions = context.extensions().unwrap();
        let mut group = client
            .create_group_with_id(room.as_bytes().to_vec(), extensions, none(), Some(now))
            .unwrap();
        for _ in 0..9 {
            group.commit_builder().commit_time(now).build().unwrap();
            group.apply_pending_commit().unwrap();
        }
        let waiting = self.network.waiting_key_packages(&self.alice.member);
        let output = group
            .commit_builder()
            .add_member(MlsMessage::from_bytes(&waiting[0]).unwrap())
            .unwrap()
            .commit_time(now)
            .build()
            .unwrap();
        group.apply_pending_commit().unwrap();
        MadeUp {
            eve: eve.member.clone(),
            group,
            welcome: output.welcome_messages[0].to_bytes().unwrap().into(),
        }
    }

    /// Alice's homeserver delivers a welcome of its own making.
    fn welcomes_alice(&mut self, room: RoomId, hub: &ServerName, made_up: &MadeUp) {
        let body = DeliveryBody::Welcome {
            room,
            hub: hub.clone(),
            welcome: made_up.welcome.clone(),
            accepted_ms: 0,
        };
        self.network.deliver(&self.alice.member, body);
        self.alice.receive(&mut self.network).unwrap();
    }

    /// Alice's homeserver keeps a commit of Bob's from her, and says that something is missing.
    fn keeps_a_commit_from_alice(&mut self, room: RoomId) {
        self.bob.run(|core| core.refresh(room));
        self.bob.submit(&mut self.network).unwrap();
        self.network.lose_commit(&self.alice.member);
        settle(&mut self.network, &mut [&mut self.bob]);
        let epoch = u64::MAX;
        let body = DeliveryBody::OutOfStep { room, epoch };
        self.network.deliver(&self.alice.member, body);
        self.alice.receive(&mut self.network).unwrap();
        assert!(self.alice.run(Core::rooms)[0].out_of_step);
    }
}

/// Goal: a group that the own homeserver makes up draws a device that is out of step into nothing; what waits goes to those alone who are in the
/// room, and that goes on. Method: the homeserver keeps a commit from Alice, says so, and welcomes her to a later epoch with Eve in it, whom it
/// has certified; then it delivers what the hub answers.
#[test]
fn a_made_up_group_while_out_of_step() {
    let mut world = World::new();
    let room = world.conversation();
    world.keeps_a_commit_from_alice(room);
    world.alice.send(room, "to Bob alone");
    let mut made_up = world.made_up(room);
    let a = world.a.server.clone();
    world.welcomes_alice(room, &a, &made_up);
    let told = world.alice.unreadable();
    assert!(
        told.len() == 1 && told[0].contains("came while this device was out of step"),
        "{told:?}"
    );
    assert!(world.alice.run(Core::rooms)[0].out_of_step);
    assert!(world.network.messages.is_empty());

    world.settle();
    let rooms = world.alice.run(Core::rooms);
    assert!(!rooms[0].out_of_step);
    assert!(rooms[0].members.iter().all(|who| who.member != made_up.eve));
    assert_eq!(world.bob.texts(room), ["alice: to Bob alone"]);
    assert_eq!(world.network.messages.len(), 1);
    let sent = MlsMessage::from_bytes(&world.network.messages[0]).unwrap();
    assert!(made_up.group.process_incoming_message(sent).is_err());
    world.bob.send(room, "and on");
    world.settle();
    assert_eq!(
        world.alice.texts(room),
        ["alice: to Bob alone", "bob: and on"]
    );
}

/// Goal: nobody is drawn into another homeserver's room under the id of one that he knows, neither out of its step nor out of the room. Method: Bob's
/// homeserver orders a room; Alice's welcomes her to one that it orders itself, and then calls that one Bob's homeserver's.
#[test]
fn a_known_room_keeps_its_hub() {
    for is_out in [false, true] {
        let mut world = World::new();
        let with = [world.alice.address.clone()];
        let number = world.bob.run(|core| core.start_conversation(&with));
        world.settle();
        let room = world.bob.ended(number).unwrap();
        if is_out {
            world.bob.run(|core| core.remove_members(room, &with));
            world.settle();
            assert!(world.alice.events.contains(&Event::RoomLeft { room }));
        } else {
            world.keeps_a_commit_from_alice(room);
        }
        let before = world.alice.run(Core::rooms);
        let made_up = world.made_up(room);
        for hub in [world.a.server.clone(), world.b.server.clone()] {
            world.welcomes_alice(room, &hub, &made_up);
        }
        let told = world.alice.unreadable();
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(
            told.iter().all(|told| told.contains("another hub")),
            "{told:?}"
        );
        assert_eq!(world.alice.run(Core::rooms), before);
    }
}

/// Goal: whoever is drawn into a made-up group once he is out of the room is told who is in it and who is not; nothing that was written before goes
/// there, neither what waited nor what comes back. Method: Alice's homeserver says that the hub knows no such room, welcomes her to one that it has made
/// up, and returns her earlier message; then she writes another one.
#[test]
fn a_made_up_group_after_the_end() {
    let mut world = World::new();
    let room = world.conversation();
    let early = world.alice.send(room, "to Bob alone");
    world.settle();
    let counter = world.network.last_counter(&world.alice.member);
    world.keeps_a_commit_from_alice(room);
    let waiting = world.alice.send(room, "to him alone, too");
    let unknown = Refusal::new(RefusalCode::UnknownRoom, "there is none");
    world.network.refuse_group_infos = Some(unknown);
    world.alice.try_step(&mut world.network).unwrap();
    assert!(world.alice.events.contains(&Event::RoomLeft { room }));
    let refused =
        |event: &Event| matches!(event, Event::Refused { message, .. } if *message == waiting);
    assert!(world.alice.events.iter().any(refused));

    let made_up = world.made_up(room);
    let a = world.a.server.clone();
    world.welcomes_alice(room, &a, &made_up);
    assert_eq!(world.alice.run(Core::rooms).len(), 1);
    let bob = world.bob.member.clone();
    let told = |event: &Event| match event {
        Event::MembersChanged { added, removed, .. } => {
            added.iter().any(|who| who.member == made_up.eve)
                && removed.iter().any(|who| who.member == bob)
        }
        _ => false,
    };
    assert!(
        world.alice.events.iter().any(told),
        "{:?}",
        world.alice.events
    );
    let (alice, b) = (world.alice.member.clone(), world.b.server.clone());
    let over = Refusal::new(RefusalCode::EpochTooOld, "its epoch is over");
    let network = &mut world.network;
    network.return_message(&alice, room, counter, &b, over);
    world.alice.receive(&mut world.network).unwrap();
    world.alice.submit(&mut world.network).unwrap();
    assert_eq!(world.network.messages.len(), 1, "it is not sent again");
    let returned =
        |event: &Event| matches!(event, Event::Returned { message, .. } if *message == early);
    assert!(world.alice.events.iter().any(returned));
    world.alice.send(room, "who are you?");
    world.alice.submit(&mut world.network).unwrap();
    assert_eq!(world.network.messages.len(), 2);
}
