//! Bounds and consents that a homeserver would like to be wider.

use mls_rs::MlsMessage;

use super::super::outsiders::{Scene, info_of, leaf_of};
use super::*;
use crate::content::Part;
use crate::message::SendOptions;

const HOUR_SECONDS: u32 = 3600;

/// Rules of b: an hour at most; a consent that was signed a second before the one that counts allows everything.
fn strict(world: &mut World) {
    let b = world.b.server.clone();
    let rules = &mut world.network.rules;
    rules.insert(b, |consent| consent.ttl.max_seconds = HOUR_SECONDS);
}

/// Goal: a homeserver can't loosen what another organisation has signed for a room: no member follows a commit that puts in another
/// consent of it, whoever makes it and whatever the hub orders; a member is told who made it. A true newer one is followed. Method: Mallory, an
/// owner, commits b's consent as a has signed it, as b had signed it before, for another room, and none at all.
#[test]
fn loosened_consents_are_not_followed() {
    let table = [
        ("another's signature", false),
        ("an older one", false),
        ("another room's", false),
        ("none", false),
        ("a newer one", true),
    ];
    for (what, is_followed) in table {
        let mut world = World::new();
        strict(&mut world);
        let mut scene = Scene::in_world(world);
        let (room, mallory) = (scene.room, scene.address.clone());
        let World { alice, .. } = &mut scene.world;
        alice.run(|core| core.set_role(room, &mallory, Role::Owner));
        scene.world.settle();
        let promoted = scene.world.network.commits.last().unwrap().commit.clone();
        let (promoted, now) = (MlsMessage::from_bytes(&promoted).unwrap(), scene.now());
        let group = &mut scene.mallory;
        group
            .process_incoming_message_with_time(promoted, now)
            .unwrap();

        let mut context = room_rules::settings::Context::read(&group.context().extensions).unwrap();
        let network = &mut scene.world.network;
        let b = scene.world.b.server.clone();
        let names = ["a.example", "b.example"];
        network.rules.insert(
            b.clone(),
            match what {
                "an older one" => |consent| {
                    (consent.serial, consent.expires_ms) =
                        (consent.serial - 1000, consent.expires_ms - 1000);
                },
                _ => |consent| {
                    (consent.serial, consent.expires_ms) =
                        (consent.serial + 1000, consent.expires_ms + 1000);
                },
            },
        );
        network.forged_by = (what == "another's signature").then(|| scene.world.a.server.clone());
        let of = match what {
            "another room's" => RoomId::from_bytes([9; 16]),
            _ => room,
        };
        let other = network.consents_of(of, &names).remove(&b).unwrap();
        network.forged_by = None;
        let consents = &mut context.settings.consents;
        match what {
            "none" => consents.clear(),
            _ => drop(consents.insert(b, other)),
        }
        let output = group
            .commit_builder()
            .set_group_context_ext(context.extensions().unwrap())
            .unwrap()
            .commit_time(now)
            .build()
            .unwrap();
        let bytes = output.commit_message.to_bytes().unwrap();
        scene.mallory.apply_pending_commit().unwrap();
        let before = scene.epoch();
        scene
            .world
            .network
            .set_group_info(room, info_of(&scene.mallory));
        let commit = scene.as_commit(&bytes);
        scene.deliver(commit);
        let bob = &mut scene.world.bob;
        let told = |event: &Event| matches!(event, Event::RoomOutOfStep { by: Some(by), .. } if *by == mallory);
        assert_eq!(
            bob.events.iter().any(told),
            !is_followed,
            "{what}: {:?}",
            bob.events
        );
        let lasting = SendOptions {
            ttl_seconds: Some(2 * HOUR_SECONDS),
            ..SendOptions::default()
        };
        let text = || Part::Text("for two hours".to_owned());
        let sent = bob.try_run(|core| core.send(room, text(), lasting));
        assert_eq!(sent.is_ok(), is_followed, "{what}: {sent:?}");
        let epoch = bob.run(Core::rooms)[0].epoch;
        assert_eq!(epoch, before + u64::from(is_followed), "{what}");
    }
}

/// What the room's group has in its context, but for b's consent: that is one which was signed a second before or after the one
/// that counts.
fn with_other_consent(scene: &mut Scene, is_older: bool) -> mls_rs::ExtensionList {
    let (room, b) = (scene.room, scene.world.b.server.clone());
    let network = &mut scene.world.network;
    network.rules.insert(
        b.clone(),
        match is_older {
            true => |consent| {
                (consent.serial, consent.expires_ms) =
                    (consent.serial - 1000, consent.expires_ms - 1000);
            },
            false => |consent| {
                (consent.serial, consent.expires_ms) =
                    (consent.serial + 1000, consent.expires_ms + 1000);
            },
        },
    );
    let names = ["a.example", "b.example"];
    let other = network.consents_of(room, &names).remove(&b).unwrap();
    let extensions = &scene.mallory.context().extensions;
    let mut context = room_rules::settings::Context::read(extensions).unwrap();
    context.settings.consents.insert(b, other);
    context.extensions().unwrap()
}

/// Goal: whoever does not follow a commit that puts an older consent back does not come back behind it either, though a member whom he knew has
/// signed the group info. Method: Mallory, who may not change the settings, puts in another consent of b's; a hub in league with her has ordered that. By a newer one
/// Bob comes back, so the refusal means something.
#[test]
fn older_consents_are_not_come_back_into() {
    for is_older in [true, false] {
        let mut scene = Scene::new();
        let (room, now, epoch) = (scene.room, scene.now(), scene.epoch());
        let extensions = with_other_consent(&mut scene, is_older);
        let output = scene
            .mallory
            .commit_builder()
            .set_group_context_ext(extensions)
            .unwrap()
            .commit_time(now)
            .build()
            .unwrap();
        scene.mallory.apply_pending_commit().unwrap();
        let commit = crate::frames::Commit {
            room,
            hub: scene.world.a.server.clone(),
            epoch,
            commit: output.commit_message.to_bytes().unwrap().into(),
            adds: Vec::new(),
            removes: Vec::new(),
            welcome: None,
            group_info: info_of(&scene.mallory),
            founding: None,
        };
        let World { network, bob, .. } = &mut scene.world;
        network.order_for(std::slice::from_ref(&bob.member), &commit);
        let ordered = network.commits.len();
        while bob.try_step(network).unwrap() {}
        assert_eq!(bob.out_of_step().len(), 1);
        let still_out = bob.run(Core::rooms)[0].out_of_step;
        assert_eq!(still_out, is_older);
        let by_bob = usize::from(!is_older);
        assert_eq!(network.commits.len(), ordered + by_bob);
    }
}

/// Goal: an older consent is not put back by a welcome into a room that somebody knows. Method: Mallory, whom Bob knows, takes him out of her group and adds
/// him again, with another consent of b's in it, while he is out of step. With a newer one he comes in, so the refusal means something.
#[test]
fn older_consents_are_not_welcomed_back() {
    for is_older in [true, false] {
        let mut scene = Scene::new();
        let (room, now) = (scene.room, scene.now());
        let epoch = u64::MAX;
        scene.deliver(DeliveryBody::OutOfStep { room, epoch });
        let bob = scene.world.bob.core().identity().clone();
        let bob = crate::mls::signing_identity(&bob.chain, &bob.key).unwrap();
        let place = leaf_of(&scene.mallory, &bob);
        let extensions = with_other_consent(&mut scene, is_older);
        scene
            .mallory
            .commit_builder()
            .remove_member(place)
            .unwrap()
            .set_group_context_ext(extensions)
            .unwrap()
            .commit_time(now)
            .build()
            .unwrap();
        scene.mallory.apply_pending_commit().unwrap();
        let World { network, bob, .. } = &scene.world;
        let waiting = network.waiting_key_packages(&bob.member);
        let output = scene
            .mallory
            .commit_builder()
            .add_member(MlsMessage::from_bytes(&waiting[0]).unwrap())
            .unwrap()
            .commit_time(now)
            .build()
            .unwrap();
        scene.deliver(DeliveryBody::Welcome {
            room,
            hub: "a.example".parse().unwrap(),
            welcome: output.welcome_messages[0].to_bytes().unwrap().into(),
            accepted_ms: 0,
        });
        let bob = &mut scene.world.bob;
        assert_eq!(bob.run(Core::rooms)[0].out_of_step, is_older);
        let told = bob.unreadable();
        assert_eq!(told.len(), usize::from(is_older), "{told:?}");
        let why = "older than the one that was there before";
        assert!(told.iter().all(|told| told.contains(why)), "{told:?}");
    }
}

/// Goal: a message that outlives what an organisation in the room has signed is not shown, whatever its homeserver lets through, and the
/// reader is told. Method: Mallory's client, which follows no rule, and homeservers that check nothing.
#[test]
fn messages_beyond_the_bounds_are_not_shown() {
    use crate::content::{Content, Order};
    use crate::message::MessageId;
    let mut world = World::new();
    strict(&mut world);
    let mut scene = Scene::in_world(world);
    for (number, ttl_seconds) in [(1, HOUR_SECONDS), (2, HOUR_SECONDS + 1)] {
        let content = Content {
            id: MessageId::from_bytes([u8::try_from(number).unwrap(); 16]),
            sent_ms: 1,
            ttl_seconds,
            burn_seconds: 0,
            label: 0,
            order: Order {
                number,
                ..Order::default()
            },
            part: Part::Text("hello".to_owned()),
        };
        let attributes = content.attributes().encode().to_vec();
        let message = scene
            .mallory
            .encrypt_application_message(&content.encode().unwrap(), attributes)
            .and_then(|message| message.to_bytes())
            .unwrap();
        let body = scene.as_message(&message);
        scene.deliver(body);
    }
    let room = scene.room;
    assert_eq!(scene.world.bob.texts(room), ["mallory: hello"]);
    let told = scene.world.bob.unreadable();
    assert!(told.len() == 1 && told[0].contains("hours"), "{told:?}");
}
