//! What several organisations allow together, and when a room stands still.

use federation_proto::ids::{AccountId, DeviceId, Member, RoomId};
use federation_proto::limits::ROOM_CONSENT_MS_MAX;
use federation_proto::room_consent::RoomConsent;
use proptest::prelude::*;

use super::*;
use crate::settings::account;
use crate::testing::Organisation;

const NOW_MS: u64 = 1_790_000_000_000;
const ROOM: RoomId = RoomId::from_bytes([7; 16]);

fn signed(organisations: &[Organisation], change: impl Fn(usize, &mut RoomConsent)) -> Consents {
    let names: Vec<_> = organisations.iter().map(|o| o.server.as_str()).collect();
    let consents = organisations.iter().enumerate().map(|(at, organisation)| {
        let mut consent = organisation.consent(ROOM, &names, NOW_MS);
        change(at, &mut consent);
        (organisation.server.clone(), organisation.consents(consent))
    });
    consents.collect()
}

fn two() -> [Organisation; 2] {
    [
        Organisation::new("a.example"),
        Organisation::new("b.example"),
    ]
}

fn span((min_seconds, more): (u32, u32)) -> Span {
    Span {
        min_seconds,
        max_seconds: min_seconds + more,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Goal: together organisations allow exactly what each of them allows, and where that is nothing it is said.
    /// Method: every message of a small range against bounds of the same range, one organisation after the other.
    #[test]
    fn together_they_allow_what_each_allows(
        all in prop::collection::vec(((1_u32..5, 0_u32..4), (0_u32..4, 0_u32..4), 0_u8..3, 1_u16..4), 2..=2),
    ) {
        let consents = signed(&two(), |at, consent| {
            let (ttl, burn, label_max, epochs) = all[at];
            (consent.ttl, consent.burn) = (span(ttl), span(burn));
            (consent.label_max, consent.retained_epochs) = (label_max, epochs);
        });
        let each = || consents.values().map(SignedRoomConsent::claims);
        let any = |within: &dyn Fn(&RoomConsent, u32) -> bool| {
            (0..12).any(|value| each().all(|consent| within(consent, value)))
        };
        let possible = any(&|c, value| c.ttl.contains(value)) && any(&|c, value| c.burn.contains(value));
        let bounds = Bounds::of(&consents);
        prop_assert_eq!(bounds.is_ok(), possible);
        let Ok(bounds) = bounds else {
            let Err(Error::NoCommonBounds(reason)) = bounds else { panic!("{bounds:?}") };
            prop_assert!(reason.contains("a.example") && reason.contains("b.example"), "{}", reason);
            return Ok(());
        };
        prop_assert_eq!(Some(bounds.retained_epochs), each().map(|c| c.retained_epochs).min());
        for ttl in 0..10 {
            for burn in 0..10 {
                for label in 0..4 {
                    let by_each = each().all(|c| {
                        c.ttl.contains(ttl) && c.burn.contains(burn) && label <= c.label_max
                    });
                    prop_assert_eq!(bounds.check(ttl, burn, label).is_ok(), by_each);
                }
            }
        }
    }
}

/// Goal: a refusal says what each organisation allows, in words. Method: two whose times have nothing in common, a
/// message that lives too long, one that must burn, and a label.
#[test]
fn in_words_that_say_what_to_do() {
    let hours = |from: u32, to: u32| Span {
        min_seconds: from * 3600,
        max_seconds: to * 3600,
    };
    let consents = signed(&two(), |at, consent| {
        consent.ttl = if at == 0 { hours(1, 2) } else { hours(24, 48) };
    });
    assert_eq!(
        Bounds::of(&consents).unwrap_err().to_string(),
        "the organisations' rules can't be kept together: b.example lets messages live from 1 days to 2 days, \
         a.example from 1 hours to 2 hours: no value suits both; ask their administrators"
    );
    let bounds = Bounds {
        ttl_min_seconds: 90,
        ttl_max_seconds: 120,
        burn_min_seconds: 1,
        burn_max_seconds: 60,
        label_max: 2,
        retained_epochs: 32,
    };
    assert_eq!(bounds.check(90, 1, 2), Ok(()));
    for (ttl, burn, label, said) in [
        (121, 1, 2, "messages live from 90 seconds to 2 minutes"),
        (90, 0, 2, "read messages live from 1 seconds to 1 minutes"),
        (90, 1, 3, "messages have labels up to 2"),
    ] {
        let refused = bounds.check(ttl, burn, label).unwrap_err();
        assert!(refused.to_string().ends_with(said), "{refused}");
    }
    assert_eq!(Bounds::of(&Consents::new()), Ok(Bounds::default()));
}

/// Goal: whoever comes into a room finds consents of its organisations, for this room, each naming the others, or
/// does not come in; only a founder is held to their dates. Method: good ones, and each way in which they are not.
#[test]
fn what_whoever_comes_finds() {
    let organisations = two();
    let [a, b] = &organisations;
    let creator = Member {
        server: a.server.clone(),
        account: AccountId::from_bytes([1; 16]),
        device: DeviceId::from_bytes([1; 16]),
    };
    let mut anchors = AnchorSet::own(a.server.clone(), a.root.clone());
    anchors.replace_others(&a.server, [(b.server.clone(), b.root.clone().into())]);
    let check = |consents: Consents, room: RoomId, now_ms: Option<u64>| {
        let mut settings = RoomSettings::new(a.server.clone(), &creator);
        let of_b = (b.server.clone(), creator.account);
        settings.participants.insert(of_b, Role::Member);
        settings.consents = consents;
        check_all(&settings, room.as_bytes(), &anchors, now_ms)
    };
    let good = || signed(&organisations, |_, _| {});
    let late = NOW_MS + ROOM_CONSENT_MS_MAX;
    assert_eq!(check(good(), ROOM, Some(NOW_MS)), Ok(()));
    assert_eq!(check(good(), ROOM, None), Ok(()));
    assert_eq!(
        check(good(), ROOM, Some(late)),
        Err(Error::ConsentEnded(a.server.clone()))
    );
    let other_room = RoomId::from_bytes([8; 16]);
    assert!(check(good(), other_room, None).is_err());
    let alone = signed(&organisations, |at, consent| {
        if at == 1 {
            consent.domains.remove(&a.server);
        }
    });
    assert_eq!(
        check(alone, ROOM, None),
        Err(Error::NotFullMesh {
            one: b.server.clone(),
            other: a.server.clone(),
        })
    );
    let mut forged = good();
    let of_b = forged[&b.server].claims().clone();
    forged.insert(b.server.clone(), a.consents(of_b));
    assert_eq!(
        check(forged, ROOM, None),
        Err(Error::UnknownRoot(b.server.clone()))
    );
    // A recorder has to take part.
    let recorded = |account: AccountId| {
        signed(&organisations, move |at, consent| {
            consent.recorder = (at == 1).then_some(account);
        })
    };
    assert_eq!(check(recorded(creator.account), ROOM, Some(NOW_MS)), Ok(()));
    let stranger = recorded(AccountId::from_bytes([9; 16]));
    assert!(check(stranger, ROOM, Some(NOW_MS)).is_err());
    assert_eq!(account(&creator).0, a.server);
}

/// Goal: a room has as many organisations in its life as it may and not one more, and lets those who are there go all the same.
/// Method: B comes as the last one and as one too many; then B goes.
#[test]
fn a_room_has_so_many_organisations_in_its_life() {
    let organisations = two();
    let [a, b] = &organisations;
    let creator = Member {
        server: a.server.clone(),
        account: AccountId::from_bytes([1; 16]),
        device: DeviceId::from_bytes([1; 16]),
    };
    let mut anchors = AnchorSet::own(a.server.clone(), a.root.clone());
    anchors.replace_others(&a.server, [(b.server.clone(), b.root.clone().into())]);
    let both = signed(&organisations, |_, _| {});
    let with = |gone: usize, there: &[&Organisation]| {
        let mut settings = RoomSettings::new(a.server.clone(), &creator);
        let there = there.iter().map(|of| of.server.clone());
        settings.consents = there
            .map(|server| (server.clone(), both[&server].clone()))
            .collect();
        let gone = (0..gone).map(|n| (format!("gone{n}.example").parse().unwrap(), 1));
        settings.former = gone.collect();
        settings
    };
    let check = |current: &RoomSettings, next: &RoomSettings| {
        let acts = Acts {
            adds: false,
            removes: false,
        };
        let place = Place {
            room: ROOM.as_bytes(),
            now_ms: NOW_MS,
            anchors: &anchors,
        };
        check_commit(current, next, acts, place)
    };
    let last = ORGANISATIONS_EVER_MAX - 2;
    assert_eq!(check(&with(last, &[a]), &with(last, &[a, b])), Ok(()));
    let too_many = check(&with(last + 1, &[a]), &with(last + 1, &[a, b]));
    assert!(too_many.unwrap_err().to_string().contains("at most 256"));
    let mut left = with(last, &[a]);
    left.former.insert(b.server.clone(), NOW_MS);
    assert_eq!(check(&with(last, &[a, b]), &left), Ok(()));
}
