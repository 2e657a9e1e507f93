//! Successor rooms: a conversation goes on at another homeserver when its hub is gone, and nobody who may not say so is
//! believed.

use homeserver_api::codec::Wire as _;
use room_rules::continuation::Continuation;

use super::*;
use crate::core::records::{OperationKind, Succession};
use crate::core::rooms::settings;
use crate::event::Event;
use crate::ids::Address;
use crate::message::Continues;
use crate::refusal::{Refusal, RefusalCode};

/// Something else than what was said.
type Change = Box<dyn Fn(&mut Continuation)>;

/// Alice of `a`, whose homeserver orders the room and who owns it; Bob of `b`, a moderator, and Dave of `b`; Carol of `c`.
struct Scene {
    world: World,
    carol: TestDevice,
    dave: TestDevice,
    room: RoomId,
    c: Organisation,
}

impl Scene {
    fn new() -> Self {
        let mut world = World::new();
        let c = Organisation::new("c.example");
        let both = [&world.a, &world.b];
        let mut carol = TestDevice::enrol(&mut world.network, &world.clock, &c, "carol", 3, &both);
        let mut dave = world.device('b', "dave", 4);
        let room = world.conversation();
        let anchors = [anchor(&world.a), anchor(&world.b), anchor(&c)];
        for device in [&mut world.alice, &mut world.bob, &mut dave] {
            device.run(|core| core.set_anchors(&anchors).map(drop));
        }
        world.clock.advance(1);
        let add = [carol.address.clone(), dave.address.clone()];
        let number = world.alice.run(|core| core.add_members(room, &add));
        world.settle_with(&mut [&mut carol, &mut dave]);
        world.alice.ended(number).unwrap();
        for change in 0..2 {
            let bob = world.bob.address.clone();
            let number = world.alice.run(|core| match change {
                0 => core.set_role(room, &bob, Role::Moderator),
                _ => core.rename(room, "Lunch"),
            });
            world.settle_with(&mut [&mut carol, &mut dave]);
            world.alice.ended(number).unwrap();
        }
        Self {
            world,
            carol,
            dave,
            room,
            c,
        }
    }

    fn settle(&mut self) {
        self.world
            .settle_with(&mut [&mut self.carol, &mut self.dave]);
    }

    /// Bob continues the room.
    fn continued(&mut self) -> RoomId {
        let room = self.room;
        let number = self.world.bob.run(|core| core.start_successor(room));
        self.settle();
        self.world.bob.ended(number).unwrap()
    }
}

/// What a device was told of the rooms that it came into.
fn told(device: &TestDevice) -> Vec<(RoomId, Continues)> {
    let told = |event: &Event| match event {
        Event::RoomContinues { room, continues } => Some((*room, continues.clone())),
        _ => None,
    };
    device.events.iter().filter_map(told).collect()
}

fn not_invited(device: &TestDevice) -> Vec<Address> {
    let told = |event: &Event| match event {
        Event::NotInvited { address, .. } => Some(address.clone()),
        _ => None,
    };
    device.events.iter().filter_map(told).collect()
}

/// What a device shows of both rooms: which one the new one continues, and by which ones the former one is continued.
fn shown(device: &mut TestDevice, former: RoomId, new: RoomId) -> (Option<Continues>, Vec<RoomId>) {
    let rooms = device.run(|core| core.rooms());
    let find = |id| rooms.iter().find(|room| room.room == id).unwrap();
    (
        find(new).continues.clone(),
        find(former).continued_by.clone(),
    )
}

/// Goal: a moderator of another organisation continues a room at his own homeserver: with its name, roles and people, but
/// for those of the hub's organisation; everybody there sees that it does, in both rooms, and the former one stays as it was.
/// Method: the hub takes nothing any more, and Bob goes on.
#[test]
fn a_conversation_goes_on_elsewhere() {
    let mut scene = Scene::new();
    let former = scene.room;
    let before = scene.world.alice.run(|core| settings(core.group(former)?));
    let commits = scene.world.network.commits.len();
    let new = scene.continued();
    assert_ne!(new, former);
    assert_eq!(scene.world.network.commits.len(), commits + 1);
    let believed = Continues {
        room: former,
        doubt: None,
    };
    for device in [&mut scene.world.bob, &mut scene.carol, &mut scene.dave] {
        assert_eq!(told(device), [(new, believed.clone())]);
        let (continues, continued_by) = shown(device, former, new);
        assert_eq!(continues, Some(believed.clone()));
        assert_eq!(continued_by, [new]);
    }
    assert!(told(&scene.world.alice).is_empty());
    assert!(not_invited(&scene.world.bob).is_empty());
    let after = scene.world.alice.run(|core| settings(core.group(former)?));
    assert_eq!(after, before, "nothing of the former room changes");

    let rooms = scene.carol.run(|core| core.rooms());
    let room = rooms.iter().find(|room| room.room == new).unwrap();
    assert_eq!(room.name, "Lunch");
    assert_eq!(room.hub, "b.example".parse().unwrap());
    let role = |of: &TestDevice| room.roles.get(&of.address).copied();
    assert_eq!(role(&scene.world.bob), Some(Role::Owner));
    assert_eq!(role(&scene.dave), Some(Role::Member));
    assert_eq!(role(&scene.world.alice), None);
    scene.carol.send(new, "here we are");
    scene.settle();
    assert_eq!(scene.dave.texts(new), ["carol: here we are"]);
    // After a restart too.
    scene.dave.restart();
    assert_eq!(shown(&mut scene.dave, former, new).1, [new]);
}

/// Goal: who may not continue a room can't, and the error says what to do. Method: a member, the people of the hub's own homeserver,
/// a second one beside the first, and a room in which nobody else is left.
#[test]
fn who_may_continue_a_room() {
    let mut scene = Scene::new();
    let room = scene.room;
    let refused = |device: &mut TestDevice| {
        let refused = device.try_run(|core| core.start_successor(room));
        refused.unwrap_err().to_string()
    };
    assert!(refused(&mut scene.dave).contains("owners and moderators"));
    assert!(refused(&mut scene.world.alice).contains("your own homeserver"));
    let new = scene.continued();
    assert!(refused(&mut scene.world.bob).contains(&new.to_string()));

    let mut world = World::new();
    let room = world.conversation_of_owners();
    let alone = world.bob.try_run(|core| core.start_successor(room));
    assert!(alone.unwrap_err().to_string().contains("a.example"));
}

/// Goal: a room that says to continue another one is not believed unless an owner or moderator of that one said so, signed, from an
/// epoch that this device was in, at his own homeserver. Method: a plain member makes one all the same; then the good word with
/// each part changed.
#[test]
fn nobody_else_is_believed() {
    let mut scene = Scene::new();
    let former = scene.room;
    let new = RoomId::from_bytes([9; 16]);
    let with = [&scene.carol, &scene.dave].map(|device| device.address.clone());
    scene.dave.run(|core| {
        let succession = Succession {
            room: former,
            name: String::new(),
            roles: Vec::new(),
        };
        let with = with.iter().cloned().collect();
        core.new_operation(new, OperationKind::Create, with, Some(succession))
    });
    scene.settle();
    let doubts = |device: &TestDevice| {
        let told = told(device).into_iter();
        told.filter_map(|(_, continues)| continues.doubt)
            .collect::<Vec<_>>()
    };
    let doubt = doubts(&scene.carol);
    assert_eq!(doubt.len(), 1);
    assert!(doubt[0].contains("no owner or moderator"), "{doubt:?}");
    assert!(shown(&mut scene.carol, former, new).1.is_empty());

    let good = scene.continued();
    let record = scene.carol.run(|core| Ok(core.room(good)?.clone()));
    let said = record.policy.lineage.says.clone().unwrap();
    let said = Continuation::from_bytes(said).unwrap();
    let dave = scene.dave.member.clone();
    let alice = scene.world.alice.member.clone();
    let changes: [(&str, Change); 7] = [
        (
            "not in that conversation",
            Box::new(|s| s.room = RoomId::from_bytes([1; 16])),
        ),
        ("not signed", Box::new(|s| s.epoch -= 1)),
        ("not signed", Box::new(|s| s.authenticator[0] ^= 1)),
        ("not signed", Box::new(|s| s.signature[0] ^= 1)),
        (
            "no owner or moderator",
            Box::new(move |s| s.by = dave.clone()),
        ),
        (
            "another homeserver",
            Box::new(move |s| s.by = alice.clone()),
        ),
        (
            "not in that conversation",
            Box::new(|s| s.room = RoomId::from_bytes([2; 16])),
        ),
    ];
    for (why, change) in changes {
        let mut changed = said.clone();
        change(&mut changed);
        let mut record = record.clone();
        record.policy.lineage.says = Some(changed.to_bytes().unwrap());
        let continues = scene.carol.run(|core| Ok(core.continues(&record)));
        let doubt = continues.unwrap().doubt.unwrap();
        assert!(doubt.contains(why), "{why}: {doubt}");
    }
    // The good word, in another room.
    let mut record = record;
    record.room = RoomId::from_bytes([8; 16]);
    let continues = scene.carol.run(|core| Ok(core.continues(&record)));
    assert!(continues.unwrap().doubt.is_some());
}

/// Goal: who can't be brought over stays behind, is named, and can be added later; nobody else waits for him. Method: Dave
/// lets nobody add him, and then does.
#[test]
fn who_can_not_be_brought_over() {
    let mut scene = Scene::new();
    let dave = scene.dave.address.clone();
    let refusal = Refusal::new(RefusalCode::ConsentRequired, "ask first");
    scene
        .world
        .network
        .refuse_claims
        .insert(dave.clone(), refusal);
    let new = scene.continued();
    assert_eq!(not_invited(&scene.world.bob), std::slice::from_ref(&dave));
    assert_eq!(told(&scene.carol).len(), 1);
    assert!(told(&scene.dave).is_empty());
    scene.world.network.refuse_claims.clear();
    let number = scene.world.bob.run(|core| core.add_members(new, &[dave]));
    scene.settle();
    scene.world.bob.ended(number).unwrap();
    assert_eq!(told(&scene.dave)[0].1.doubt, None);
}

/// Goal: the word counts also where the former room has ended meanwhile, and where its maker has missed the last commits; not for whoever
/// came later than that. Method: Carol's room is closed as when an agreement ends; Bob hears nothing of two commits, of which the second
/// adds Erin.
#[test]
fn after_the_end_and_from_behind() {
    let mut scene = Scene::new();
    let former = scene.room;
    let mut erin = scene.world.device('b', "erin", 6);
    let anchors = [&scene.world.a, &scene.world.b, &scene.c].map(anchor);
    erin.run(|core| core.set_anchors(&anchors).map(drop));
    let add = [erin.address.clone()];
    let World { network, alice, .. } = &mut scene.world;
    for change in 0..2 {
        let number = alice.run(|core| match change {
            0 => core.rename(former, "Dinner"),
            _ => core.add_members(former, &add),
        });
        settle(
            network,
            &mut [alice, &mut scene.carol, &mut scene.dave, &mut erin],
        );
        alice.ended(number).unwrap();
    }
    let hub = "a.example".parse().unwrap();
    scene.carol.run(|core| core.take_closed(former, &hub));
    // What waits for him does not come any more: his device goes on from what it has.
    let number = scene.world.bob.run(|core| core.start_successor(former));
    let bob = scene.world.bob.member.clone();
    scene.world.network.drop_deliveries(&bob);
    scene
        .world
        .settle_with(&mut [&mut scene.carol, &mut scene.dave, &mut erin]);
    let new = scene.world.bob.ended(number).unwrap();
    for device in [&scene.carol, &scene.dave] {
        assert_eq!(told(device)[0].1.doubt, None);
    }
    assert!(told(&erin).is_empty(), "he did not know of her");
    let add = [erin.address.clone()];
    let number = scene.world.bob.run(|core| core.add_members(new, &add));
    scene
        .world
        .settle_with(&mut [&mut scene.carol, &mut scene.dave, &mut erin]);
    scene.world.bob.ended(number).unwrap();
    let doubt = told(&erin)[0].1.doubt.clone().unwrap();
    assert!(doubt.contains("nothing of the time"), "{doubt}");
}
