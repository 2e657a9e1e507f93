//! Room consents: whose word counts, and what is none.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "tests fail by panicking"
)]

mod support;

use bytes::Bytes;
use federation_proto::codec::Wire;
use federation_proto::limits::{ROOM_CONSENT_MS_MAX, ROOM_CONSENT_PAST_ROOT_MS_MAX};
use federation_proto::manifest::FormerRoot;
use federation_proto::room_consent::{RoomConsent, SignedRoomConsent, Span};
use support::golden::{both, organisation, read, room_consent};
use support::{DAY_MS, NOW_MS, Organisation, random, server};

fn signed(by: &Organisation, consent: RoomConsent) -> SignedRoomConsent {
    consent
        .sign(by.issuing.clone(), &by.issuing_key, &random())
        .unwrap()
}

/// Goal: a consent holds when the issuing CA of the organisation with that root has signed it, and not when another
/// has, or when a bit of it is another. Method: the golden one, each of its bits turned, and one that another
/// organisation has signed in its name.
#[test]
fn whose_word_counts() {
    let (a, b) = both();
    let bytes = read("room-consent.bin");
    let golden = SignedRoomConsent::from_bytes(bytes.clone()).unwrap();
    assert_eq!(golden.verify(&a.root, &[]).unwrap(), &room_consent(&a));
    assert!(golden.verify(&b.root, &[]).is_err());
    for at in 0..bytes.len() {
        let mut changed = bytes.to_vec();
        changed[at] ^= 1;
        if let Ok(read) = SignedRoomConsent::from_bytes(Bytes::from(changed)) {
            assert!(read.verify(&a.root, &[]).is_err(), "byte {at}");
        }
    }
    let forged = signed(&b, room_consent(&a));
    assert!(forged.verify(&a.root, &[]).is_err());
    // It would hold for whoever took the certificate's word for whose it is.
    assert!(forged.verify(&b.root, &[]).is_ok());
}

/// Goal: a former root vouches for consents that end within 30 days after it, and for no later one. Method: one
/// consent, and the former root with an end a millisecond too early.
#[test]
fn former_roots() {
    let (before, now) = (organisation("a", 1), organisation("b", 2));
    let consent = signed(&before, room_consent(&before));
    let until = |until_ms| {
        [FormerRoot {
            root: before.root.clone(),
            until_ms,
        }]
    };
    let enough = consent.claims().expires_ms - ROOM_CONSENT_PAST_ROOT_MS_MAX;
    assert!(consent.verify(&now.root, &until(enough)).is_ok());
    assert!(consent.verify(&now.root, &until(enough - 1)).is_err());
}

/// Goal: what is no consent is neither written nor read. Method: one that breaks each rule, and the bound beside it.
#[test]
fn rules() {
    let (a, _) = both();
    let good = room_consent(&a);
    let may = |change: fn(&mut RoomConsent)| {
        let mut changed = good.clone();
        change(&mut changed);
        let signed = changed.sign(a.issuing.clone(), &a.issuing_key, &random());
        signed.is_ok_and(|signed| {
            let bytes = signed.to_bytes().unwrap();
            SignedRoomConsent::from_bytes(bytes) == Ok(signed)
        })
    };
    assert!(may(|_| {}));
    assert!(!may(|c| assert!(c.domains.remove(&c.server.clone()))));
    assert!(!may(|c| c.ttl.min_seconds = 0));
    assert!(!may(|c| c.ttl.min_seconds = c.ttl.max_seconds + 1));
    assert!(may(|c| c.ttl.min_seconds = c.ttl.max_seconds));
    assert!(!may(|c| c.burn.min_seconds = c.burn.max_seconds + 1));
    assert!(may(|c| c.burn = Span {
        min_seconds: 0,
        max_seconds: 0,
    }));
    assert!(!may(|c| c.retained_epochs = 0));
    assert!(!may(|c| c.retained_epochs = 33));
    assert!(!may(|c| c.expires_ms = c.serial));
    assert!(may(|c| c.expires_ms = c.serial + ROOM_CONSENT_MS_MAX));
    assert!(!may(|c| c.expires_ms = c.serial + ROOM_CONSENT_MS_MAX + 1));
    let names = |count: u32| (0..count).map(|n| server(&format!("s{n}.example")));
    for (others, fits) in [(63, true), (64, false)] {
        let mut many = good.clone();
        many.domains.extend(names(others));
        // The own name, and b's.
        many.domains.remove(&server("b.example"));
        let signed = many.sign(a.issuing.clone(), &a.issuing_key, &random());
        assert_eq!(signed.is_ok(), fits, "{others}");
    }
}

/// Goal: a consent counts from when it was signed, give or take the clocks' difference, to its end. Method: the
/// moments around both.
#[test]
fn dates() {
    let (a, _) = both();
    let consent = room_consent(&a);
    let skew_ms = 5 * 60 * 1000;
    assert!(consent.is_in_force(NOW_MS));
    assert!(consent.is_in_force(consent.serial - skew_ms));
    assert!(!consent.is_in_force(consent.serial - skew_ms - 1));
    assert!(consent.is_in_force(consent.expires_ms - 1));
    assert!(!consent.is_in_force(consent.expires_ms));
    assert_eq!(consent.expires_ms - consent.serial, 60 * DAY_MS);
}
