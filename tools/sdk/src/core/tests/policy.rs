//! The policy in the group: what may be written where, with whom a room may be, and how consents are renewed.

use super::*;
use crate::content::{FileReference, Part};
use crate::core::Core;
use crate::event::Event;
use crate::ids::{Address, FileId};
use crate::message::{Body, SendOptions};
use crate::refusal::RefusalCode;
use homeserver_api::policy::{FileTypes, Labels, UserTypePolicy};
use room_rules::consents::Bounds;

const HOUR_MS: u64 = 3_600_000;
const DAY_MS: u64 = 24 * HOUR_MS;

fn lasting(seconds: u32) -> SendOptions {
    SendOptions {
        ttl_seconds: Some(seconds),
        ..SendOptions::default()
    }
}

fn text() -> Part {
    Part::Text("hello".to_owned())
}

/// What a device knows of a room's end, and when it renews its organisation's consent.
fn ends(device: &mut TestDevice, room: RoomId) -> (Option<u64>, Option<u64>) {
    device.run(|core| {
        let policy = &core.room(room)?.policy;
        Ok((policy.ends.as_ref().map(|(at, _)| *at), policy.renew_at_ms))
    })
}

/// Everybody does what is due, and tells the others.
fn due(world: &mut World) {
    for _ in 0..4 {
        world.alice.run(Core::do_due);
        world.bob.run(Core::do_due);
        world.settle();
    }
}

/// Goal: what is written keeps to what all organisations in the room allow; without a choice it is within that by
/// itself; what a client of another make sends all the same is not shown. Method: a's messages live an hour at most, b's must
/// burn; then Bob's client forgets the bounds.
#[test]
fn messages_keep_to_what_all_allow() {
    let mut world = World::new();
    world
        .network
        .rules
        .insert("a.example".parse().unwrap(), |c| c.ttl.max_seconds = 3600);
    world
        .network
        .rules
        .insert("b.example".parse().unwrap(), |c| {
            (c.burn.min_seconds, c.burn.max_seconds, c.label_max) = (60, 120, 3);
        });
    let room = world.conversation();
    let asked = world.network.consents_asked;
    assert_eq!(asked, 2);
    let burning = |seconds: u32, burn_seconds: u32, label: u8| SendOptions {
        burn_seconds: Some(burn_seconds),
        label,
        ..lasting(seconds)
    };
    for wrong in [
        burning(3601, 60, 0),
        burning(3600, 0, 0),
        burning(3600, 60, 4),
    ] {
        for device in [&mut world.alice, &mut world.bob] {
            let refused = device.try_run(|core| core.send(room, text(), wrong));
            assert!(
                matches!(refused, Err(Error::OutOfBounds { .. })),
                "{refused:?}"
            );
        }
    }
    for right in [burning(3600, 120, 3), SendOptions::default()] {
        world.bob.run(|core| core.send(room, text(), right));
        world.settle();
    }
    let messages = world.alice.run(|core| core.history(room, 0, 9));
    let burn: Vec<u32> = messages.iter().map(|m| m.burn_seconds).collect();
    assert_eq!(burn, [120, 60]);
    assert!(matches!(messages[1].body, Body::Text { .. }));
    world.bob.run(|core| {
        let mut record = core.room(room)?.clone();
        for of in &mut record.policy.bounds {
            of.bounds = Bounds::default();
        }
        core.put_room(record)
    });
    world
        .bob
        .run(|core| core.send(room, text(), burning(7200, 60, 0)));
    world.settle();
    assert_eq!(world.alice.run(|core| core.history(room, 0, 9)).len(), 2);
    let said = world.alice.unreadable();
    assert!(said.iter().any(|said| said.contains("1 hours")), "{said:?}");
}

/// Goal: two organisations whose rules can't be kept together have no room, and whoever begins one is told both rules.
/// Method: a's messages live up to an hour, b's from a day on.
#[test]
fn rules_that_exclude_each_other_are_told() {
    let mut world = World::new();
    world
        .network
        .rules
        .insert("a.example".parse().unwrap(), |c| c.ttl.max_seconds = 3600);
    world
        .network
        .rules
        .insert("b.example".parse().unwrap(), |c| c.ttl.min_seconds = 86_400);
    let with = [world.bob.address.clone()];
    let number = world.alice.run(|core| core.start_conversation(&with));
    world.settle();
    let refused = world.alice.ended(number).unwrap_err().to_string();
    for said in ["a.example", "b.example", "to 1 hours", "from 1 days"] {
        assert!(refused.contains(said), "{refused}");
    }
    assert!(world.network.commits.is_empty());
    assert!(world.alice.run(|core| core.rooms()).is_empty());
}

/// A third organisation that the first two know, with Carol.
fn with_carol(world: &mut World) -> (Organisation, TestDevice) {
    let c = Organisation::new("c.example");
    let both = [&world.a, &world.b];
    let carol = TestDevice::enrol(&mut world.network, &world.clock, &c, "carol", 3, &both);
    for device in [&mut world.alice, &mut world.bob] {
        let anchors = [anchor(&world.a), anchor(&world.b), anchor(&c)];
        device.run(|core| core.set_anchors(&anchors).map(drop));
    }
    (c, carol)
}

/// Goal: nobody of c comes into a room of a's and b's while a and c have no agreement, and whoever tries is told which two lack
/// it; with agreements all of them consent anew, and she comes. Method: Bob, of b, which has an agreement with both, as an
/// owner; then the missing agreement is made.
#[test]
fn a_triangle_without_one_side() {
    let mut world = World::new();
    let (_c, mut carol) = with_carol(&mut world);
    let pair = || {
        let name = |name: &str| name.parse().unwrap();
        vec![(name("a.example"), name("c.example"))]
    };
    let room = world.conversation_of_owners();
    world.network.no_peers = pair();
    let add: [Address; 1] = [carol.address.clone()];
    let commits = world.network.commits.len();
    let number = world.bob.run(|core| core.add_members(room, &add));
    world.settle_with(&mut [&mut carol]);
    let refused = world.bob.ended(number).unwrap_err();
    let refusal = refused.refusal().unwrap();
    assert_eq!(refusal.code, RefusalCode::NotFullMesh);
    assert!(refusal.reason.contains("a.example") && refusal.reason.contains("c.example"));
    assert_eq!(world.network.commits.len(), commits);
    // Nor does she get into a new one with both.
    let with = [world.alice.address.clone(), carol.address.clone()];
    let number = world.bob.run(|core| core.start_conversation(&with));
    world.settle_with(&mut [&mut carol]);
    assert!(world.bob.ended(number).is_err());
    assert_eq!(world.network.commits.len(), commits);
    assert!(carol.run(|core| core.rooms()).is_empty());
    assert!(carol.events.is_empty(), "{:?}", carol.events);
    world.network.no_peers.clear();
    world.clock.advance(1);
    let number = world.bob.run(|core| core.add_members(room, &add));
    world.settle_with(&mut [&mut carol]);
    world.bob.ended(number).unwrap();
    carol.send(room, "here");
    world.settle_with(&mut [&mut carol]);
    assert_eq!(world.alice.texts(room), ["carol: here"]);
    // Her organisation's rules hold for the others from then on.
    assert_eq!(ends(&mut world.alice, room).0, ends(&mut carol, room).0);
}

/// Goal: a server that signs for organisations that are not its own brings nobody together. Method: b's server, which answers for
/// all, hands Bob a consent of a's that a has not signed.
#[test]
fn a_server_speaks_for_its_own_organisation() {
    let mut world = World::new();
    let (_c, mut carol) = with_carol(&mut world);
    let room = world.conversation_of_owners();
    world.network.forged_by = Some("b.example".parse().unwrap());
    let commits = world.network.commits.len();
    world.clock.advance(1);
    let add: [Address; 1] = [carol.address.clone()];
    let number = world.bob.run(|core| core.add_members(room, &add));
    world.settle_with(&mut [&mut carol]);
    assert!(world.bob.ended(number).is_err());
    assert_eq!(world.network.commits.len(), commits);
    assert!(carol.run(|core| core.rooms()).is_empty());
    world.bob.send(room, "still here");
    world.settle();
    assert_eq!(world.alice.texts(room), ["bob: still here"]);
}

/// Goal: a room is over on every device whose organisation has no agreement any more with the room's hub, and says why; no other
/// room is, and what was said stays. Method: the homeserver's word about the hub, and about another organisation.
#[test]
fn a_room_of_a_former_partner() {
    use crate::frames::DeliveryBody;
    let mut world = World::new();
    let room = world.conversation();
    world.alice.send(room, "hello");
    world.settle();
    let closed = |server: &str| DeliveryBody::RoomClosed {
        room,
        server: server.parse().unwrap(),
    };
    let bob = world.bob.member.clone();
    world.network.deliver(&bob, closed("c.example"));
    world.settle();
    world.bob.send(room, "still here");
    world.settle();
    world.network.deliver(&bob, closed("a.example"));
    world.settle();
    let refused = world
        .bob
        .try_run(|core| core.send(room, text(), SendOptions::default()))
        .unwrap_err();
    assert!(refused.to_string().contains("a.example"), "{refused}");
    assert_eq!(world.bob.texts(room), ["alice: hello", "bob: still here"]);
}

/// Goal: consents are renewed 30 days ahead of their end by whoever is of the organisation, and the room goes on past the first
/// end. Method: consents of 40 days, and the clock on the days around.
#[test]
fn consents_are_renewed_ahead() {
    let mut world = World::new();
    for name in ["a.example", "b.example"] {
        let rules = &mut world.network.rules;
        rules.insert(name.parse().unwrap(), |c| {
            c.expires_ms = c.serial + 40 * DAY_MS
        });
    }
    let room = world.conversation();
    let (first, renew_at) = ends(&mut world.alice, room);
    assert_eq!(renew_at.unwrap() + 30 * DAY_MS, first.unwrap());
    let asked = world.network.consents_asked;
    world.clock.advance(10 * DAY_MS - HOUR_MS);
    due(&mut world);
    assert_eq!(world.network.consents_asked, asked);
    world.clock.advance(2 * HOUR_MS);
    due(&mut world);
    assert_eq!(world.network.consents_asked, asked + 2);
    for device in [&mut world.alice, &mut world.bob] {
        let (end, renew_at) = ends(device, room);
        assert_eq!(end.unwrap(), first.unwrap() + 10 * DAY_MS + HOUR_MS);
        assert!(renew_at.unwrap() > first.unwrap() - 30 * DAY_MS);
    }
    world.alice.send(room, "goes on");
    world.settle();
    assert_eq!(world.bob.texts(room), ["alice: goes on"]);
}

/// Goal: once a consent has ended nothing is sent, and the error says whose has; it goes on when that organisation has renewed
/// it, and what had waited goes out. Nobody has to be there but one of its people. Method: a's consent of an hour; a message that waits
/// from before.
#[test]
fn a_room_whose_consent_has_ended() {
    let mut world = World::new();
    let rules = &mut world.network.rules;
    rules.insert("a.example".parse().unwrap(), |c| {
        c.expires_ms = c.serial + HOUR_MS
    });
    let room = world.conversation();
    world.clock.advance(HOUR_MS);
    for device in [&mut world.alice, &mut world.bob] {
        let refused = device.try_run(|core| core.send(room, text(), SendOptions::default()));
        let Err(Error::Policy(said)) = refused else {
            panic!("{refused:?}");
        };
        assert!(said.contains("the consent of a.example"), "{said}");
    }
    // What else they may do has to wait too.
    let number = world.alice.run(|core| core.rename(room, "Lunch"));
    world.settle();
    assert!(matches!(world.alice.ended(number), Err(Error::Policy(_))));
    let (commits, messages) = (world.network.commits.len(), world.network.messages.len());
    world.clock.advance(24 * HOUR_MS);
    due(&mut world);
    assert!(world.network.commits.len() > commits);
    world.bob.send(room, "hello again");
    world.settle();
    assert_eq!(world.alice.texts(room), ["bob: hello again"]);
    assert!(world.network.messages.len() > messages);
    let unreadable = |event: &Event| matches!(event, Event::Unreadable { .. });
    assert!(!world.bob.events.iter().any(unreadable));
}

/// Goal: a message without a label has the user type's, one that is chosen stays, and a file that does not go with the label is
/// refused before anything is sent. Method: a user type with a usual label and file types from a label on.
#[test]
fn labels_and_files_are_as_the_user_type_has_them() {
    let mut world = World::new();
    let room = world.conversation();
    let policy = UserTypePolicy {
        labels: Labels {
            min: 1,
            max: 3,
            default: 2,
            names: Vec::new(),
        },
        file_types: vec![FileTypes {
            label: 2,
            endings: vec!["pdf".to_owned()],
        }],
        ..UserTypePolicy::default()
    };
    world.alice.run(|core| {
        core.set_policy(policy);
        Ok(())
    });
    let file = |name: &str| {
        Part::File(FileReference {
            server: "a.example".parse().unwrap(),
            file: FileId::from_bytes([7; 16]),
            name: name.to_owned(),
            bytes: 1,
            key: [8; 32],
            sha256: [9; 32],
        })
    };
    let labelled = |label| SendOptions {
        label,
        ..SendOptions::default()
    };
    for (part, label, expected) in [
        (text(), 0, Some(2)),
        (text(), 3, Some(3)),
        (file("a.pdf"), 0, Some(2)),
        (file("a.exe"), 1, Some(1)),
        (file("a.exe"), 0, None),
        (file("a.exe"), 3, None),
    ] {
        let content = world.alice.try_run(|core| {
            let bounds = core.bounds(room)?;
            core.content(part, labelled(label), bounds)
        });
        match (content, expected) {
            (Ok(content), Some(expected)) => assert_eq!(content.label, expected),
            (Err(Error::Refused(refusal)), None) => {
                assert_eq!(refusal.code, RefusalCode::FilesNotAllowed);
            }
            (other, _) => panic!("{label}: {other:?}"),
        }
    }
}
