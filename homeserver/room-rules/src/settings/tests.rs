//! The room extension: one encoding, and who may change it.

use federation_proto::ids::DeviceId;
use proptest::prelude::*;

use super::*;
use crate::testing::Organisation;

fn member(server: &str, number: u8) -> Member {
    Member {
        server: server.parse().unwrap(),
        account: AccountId::from_bytes([number; 16]),
        device: DeviceId::from_bytes([number; 16]),
    }
}

fn settings(roles: &[(&str, u8, Role)]) -> RoomSettings {
    let participants = roles
        .iter()
        .map(|(server, number, role)| (account(&member(server, *number)), *role));
    RoomSettings {
        hub: "a.example".parse().unwrap(),
        retained_epochs: RETAINED_EPOCHS,
        name: "Lunch".to_owned(),
        participants: participants.collect(),
        consents: Consents::new(),
        former: BTreeMap::new(),
        continues: None,
    }
}

fn context() -> Context {
    let a = Organisation::new("a.example");
    Context {
        settings: settings(&[
            ("a.example", 1, Role::Owner),
            ("b.example", 2, Role::Member),
        ]),
        hub: crate::hub_identity(&a.hub(&[7; 32])).unwrap(),
    }
}

/// Goal: settings come back as they were, and no cut or extension of them passes; by every prefix and one
/// trailing byte.
#[test]
fn one_encoding() {
    let settings = context().settings;
    let bytes = settings.to_bytes().unwrap();
    assert_eq!(RoomSettings::from_bytes(bytes.clone()).unwrap(), settings);
    for end in 0..bytes.len() {
        assert!(RoomSettings::from_bytes(bytes.slice(..end)).is_err());
    }
    let longer = [&bytes[..], &[0]].concat();
    assert!(RoomSettings::from_bytes(longer).is_err());
    // The version, the retained epochs, a role, the place of the policy and that of a former room.
    let changed = |at: usize, to: u8| {
        let mut changed = bytes.to_vec();
        changed[at] = to;
        RoomSettings::from_bytes(changed)
    };
    assert!(changed(0, 2).is_err());
    assert!(changed(12, 0).is_err() && changed(12, 33).is_err());
    assert!(changed(bytes.len() - 3, 4).is_err());
    for at in [bytes.len() - 2, bytes.len() - 1] {
        assert!(changed(at, 1).is_err() && changed(at, 2).is_err());
    }
    // The name: its length, and what it may not begin with, nor hold.
    assert!(changed(13, 4).is_err() && changed(13, 129).is_err());
    for wrong in [b' ', b'\n', 0x80] {
        assert!(changed(14, wrong).is_err());
    }
    assert_eq!(changed(14, b'l').unwrap().name, "lunch");
    for wrong in [
        " Lunch",
        "Lunch\t",
        "a\nb",
        &"x".repeat(ROOM_NAME_BYTES_MAX + 1),
    ] {
        let named = RoomSettings {
            name: wrong.to_owned(),
            ..settings.clone()
        };
        assert!(named.to_bytes().is_err(), "{wrong}");
    }
    let nobody = RoomSettings {
        participants: BTreeMap::new(),
        ..settings
    };
    assert!(nobody.to_bytes().is_err());
}

/// Goal: settings with a policy come back as they were, and have the consent of each organisation that takes part, its
/// own and no other's, in one order. Method: each prefix, and lists that are too short, too long or mixed up.
#[test]
fn policies() {
    let organisations = ["a.example", "b.example", "c.example"].map(Organisation::new);
    let room = federation_proto::ids::RoomId::from_bytes([7; 16]);
    let consent = |at: usize| {
        let of: &Organisation = &organisations[at];
        of.consents(of.consent(room, &[], 1))
    };
    let with = |consents: &[(usize, usize)]| RoomSettings {
        consents: consents
            .iter()
            .map(|(by, of)| (organisations[*by].server.clone(), consent(*of)))
            .collect(),
        ..context().settings
    };
    let good = with(&[(0, 0), (1, 1)]);
    let bytes = good.to_bytes().unwrap();
    assert_eq!(RoomSettings::from_bytes(bytes.clone()).unwrap(), good);
    for end in 0..bytes.len() {
        assert!(RoomSettings::from_bytes(bytes.slice(..end)).is_err());
    }
    for wrong in [
        &[(0, 0)][..],
        &[(0, 0), (1, 1), (2, 2)],
        &[(0, 0), (2, 2)],
        &[(0, 1), (1, 0)],
    ] {
        assert!(with(wrong).to_bytes().is_err(), "{wrong:?}");
    }
    // Written by hand: what no encoder writes is not read either.
    let plain = context().settings.to_bytes().unwrap();
    let by_hand = |consents: &[usize]| {
        let mut writer = Writer::new();
        writer.fixed(&plain[..plain.len() - 2]);
        writer.u8(1);
        writer.list("consents", 9, consents, |writer, at| {
            consent(*at).write(writer)
        });
        writer.u8(0);
        RoomSettings::from_bytes(writer.finish().unwrap())
    };
    assert!(by_hand(&[0, 1]).is_ok());
    for wrong in [&[][..], &[0], &[1, 0], &[0, 0], &[0, 1, 2], &[0, 2]] {
        assert!(by_hand(wrong).is_err(), "{wrong:?}");
    }
    let mut left = good;
    left.participants
        .retain(|(server, _), _| server.as_str() == "a.example");
    left.drop_unlisted();
    assert_eq!(left.consents.len(), 1);
    assert!(left.to_bytes().is_ok());
}

/// Goal: the serials of organisations that are gone come back as they were, in one order, apart from those that are there; a room
/// without any is written as before. Method: each prefix; lists mixed up, empty, and with somebody who is there.
#[test]
fn serials_of_who_is_gone() {
    let organisation = Organisation::new("a.example");
    let room = federation_proto::ids::RoomId::from_bytes([7; 16]);
    let consent = organisation.consents(organisation.consent(room, &[], 1));
    let former = |names: &[&str]| -> BTreeMap<ServerName, u64> {
        let names = names.iter().zip(5..);
        let names = names.map(|(name, serial)| (name.parse().unwrap(), serial));
        names.collect()
    };
    let mut good = settings(&[("a.example", 1, Role::Owner)]);
    good.consents
        .insert(organisation.server.clone(), consent.clone());
    let plain = good.to_bytes().unwrap();
    let with = |names: &[&str]| RoomSettings {
        former: former(names),
        ..good.clone()
    };
    let gone = with(&["b.example", "c.example"]);
    let bytes = gone.to_bytes().unwrap();
    assert_eq!(RoomSettings::from_bytes(bytes.clone()).unwrap(), gone);
    for end in 0..bytes.len() {
        assert!(RoomSettings::from_bytes(bytes.slice(..end)).is_err());
    }
    assert!(with(&["a.example"]).to_bytes().is_err());
    let never_any = RoomSettings {
        consents: Consents::new(),
        ..gone.clone()
    };
    assert!(never_any.to_bytes().is_err());
    let consents_bytes = {
        let mut writer = Writer::new();
        writer.list("consents", 9, &[&consent], |writer, consent| {
            consent.write(writer)
        });
        writer.finish().unwrap().len()
    };
    // Written by hand, behind the policy's number.
    let head = plain.len() - consents_bytes - 2;
    let by_hand = |names: &[&str]| {
        let mut writer = Writer::new();
        writer.fixed(&plain[..head]);
        writer.u8(2);
        writer.fixed(&plain[head + 1..plain.len() - 1]);
        writer.list("former", 9, names, |writer, name| {
            writer.server_name(&name.parse().unwrap());
            writer.u64(5);
        });
        writer.u8(0);
        RoomSettings::from_bytes(writer.finish().unwrap())
    };
    assert!(by_hand(&["b.example", "c.example"]).is_ok());
    for wrong in [
        &[][..],
        &["c.example", "b.example"],
        &["b.example", "b.example"],
        &["a.example"],
    ] {
        assert!(by_hand(wrong).is_err(), "{wrong:?}");
    }
}

/// Goal: a group context has the three extensions, as they are written here, and nothing else; by lists with
/// one less, one more, in another order, and with another hub.
#[test]
fn contexts() {
    let good = context();
    let extensions = good.extensions().unwrap();
    assert_eq!(Context::read(&extensions).unwrap(), good);
    assert!(Context::read(&ExtensionList::new()).is_err());
    for at in 0..3 {
        let mut less = extensions.to_vec();
        less.remove(at);
        assert!(Context::read(&less.into()).is_err());
    }
    let mut more = extensions.to_vec();
    more.push(Extension::new(ExtensionType::new(0xF0E2), Vec::new()));
    assert!(Context::read(&more.into()).is_err());
    let mut turned = extensions.to_vec();
    turned.swap(0, 1);
    assert!(Context::read(&turned.into()).is_err());
    let b = Organisation::new("b.example");
    let other = Context {
        hub: crate::hub_identity(&b.hub(&[7; 32])).unwrap(),
        ..good.clone()
    };
    assert!(Context::read(&other.extensions().unwrap()).is_err());
    let mut two = extensions.clone();
    two.set_from(ExternalSendersExt::new(vec![good.hub.clone(), other.hub]))
        .unwrap();
    assert!(Context::read(&two).is_err());
}

/// Goal: roles change as roles may, and a room keeps an owner. Method: a table of changes, each with whether
/// each role may make it.
#[test]
fn changes() {
    use Role::{Member, Moderator, Owner};
    let before = settings(&[
        ("a.example", 1, Owner),
        ("a.example", 2, Moderator),
        ("a.example", 3, Member),
    ]);
    let with = |changes: &[(u8, Option<Role>)]| {
        let mut next = before.clone();
        for (number, role) in changes {
            let who = account(&member("a.example", *number));
            match role {
                Some(role) => drop(next.participants.insert(who, *role)),
                None => drop(next.participants.remove(&who)),
            }
        }
        next
    };
    let other_hub = RoomSettings {
        hub: "b.example".parse().unwrap(),
        ..before.clone()
    };
    let renamed = RoomSettings {
        name: String::new(),
        ..before.clone()
    };
    let shorter = RoomSettings {
        retained_epochs: 4,
        ..before.clone()
    };
    for (next, owner, moderator) in [
        (with(&[(4, Some(Member))]), true, true),
        (with(&[(4, Some(Moderator))]), true, true),
        (with(&[(4, Some(Owner))]), true, false),
        (with(&[(3, None)]), true, true),
        (with(&[(2, None)]), true, true),
        (with(&[(3, Some(Moderator))]), true, true),
        (with(&[(3, Some(Owner))]), true, false),
        (with(&[(2, Some(Member))]), true, true),
        (with(&[(1, Some(Member)), (2, Some(Owner))]), true, false),
        (with(&[(1, Some(Member))]), false, false),
        (with(&[(1, None)]), false, false),
        (renamed, true, true),
        (other_hub, false, false),
        (shorter, true, false),
    ] {
        assert_eq!(before.check_change(Owner, &next).is_ok(), owner, "{next:?}");
        let by_moderator = before.check_change(Moderator, &next).is_ok();
        assert_eq!(by_moderator, moderator, "{next:?}");
        assert!(before.check_change(Member, &next).is_err(), "{next:?}");
    }
}

/// Goal: while nobody owns a room, the first moderator that is in it does, else the first member; nobody does while
/// there is an owner, in the room or not. Method: a table of lists and of who has a device.
#[test]
fn succession() {
    use Role::{Member, Moderator, Owner};
    let who = |server: &str, number: u8| account(&member(server, number));
    let everybody = BTreeSet::from([
        who("a.example", 1),
        who("a.example", 2),
        who("b.example", 1),
        who("b.example", 2),
    ]);
    let but = |absent: &[Account]| {
        let mut present = everybody.clone();
        present.retain(|account| !absent.contains(account));
        present
    };
    let orphaned = settings(&[
        ("a.example", 1, Member),
        ("a.example", 2, Member),
        ("b.example", 1, Moderator),
        ("b.example", 2, Moderator),
    ]);
    for (absent, heir) in [
        (vec![], Some(who("b.example", 1))),
        (vec![who("b.example", 1)], Some(who("b.example", 2))),
        (
            vec![who("b.example", 1), who("b.example", 2)],
            Some(who("a.example", 1)),
        ),
        (everybody.iter().cloned().collect(), None),
    ] {
        assert_eq!(successor(&orphaned, &but(&absent)), heir.as_ref());
    }
    let owned = settings(&[("a.example", 1, Owner), ("b.example", 1, Moderator)]);
    assert_eq!(successor(&owned, &but(&[who("a.example", 1)])), None);
}

proptest! {
    /// Goal: no bytes make the reader panic, and what it reads has one encoding.
    #[test]
    fn any_bytes(start in 0_usize..80, tail in prop::collection::vec(any::<u8>(), 0..120)) {
        let honest = settings(&[("a.example", 1, Role::Owner), ("b.example", 2, Role::Member)])
            .to_bytes()
            .unwrap();
        let bytes = [&honest[..start.min(honest.len())], &tail].concat();
        if let Ok(read) = RoomSettings::from_bytes(bytes.clone()) {
            prop_assert_eq!(&read.to_bytes().unwrap()[..], &bytes[..]);
        }
    }
}

/// Goal: that a room continues another one is in its one encoding, and nobody changes it afterwards, an owner neither. Method: settings
/// with and without it, each made of the other.
#[test]
fn what_it_continues_stays() {
    let plain = context().settings;
    let continuing = RoomSettings {
        continues: Some(Continuation {
            room: federation_proto::ids::RoomId::from_bytes([7; 16]),
            epoch: 4,
            authenticator: [1; 32],
            by: member("a.example", 1),
            signature: [2; 64],
        }),
        ..plain.clone()
    };
    let bytes = continuing.to_bytes().unwrap();
    assert_eq!(RoomSettings::from_bytes(bytes.clone()).unwrap(), continuing);
    for end in 0..bytes.len() {
        assert!(RoomSettings::from_bytes(bytes.slice(..end)).is_err());
    }
    for (present, next) in [(&plain, &continuing), (&continuing, &plain)] {
        assert!(present.check_change(Role::Owner, next).is_err());
    }
    let renamed = RoomSettings {
        name: "Dinner".to_owned(),
        ..continuing.clone()
    };
    assert!(continuing.check_change(Role::Owner, &renamed).is_ok());
}
