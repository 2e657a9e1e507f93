//! Evidence of deprovisioning: whose word counts, and what is none.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "tests fail by panicking"
)]

mod support;

use bytes::Bytes;
use federation_proto::armor;
use federation_proto::codec::Wire;
use federation_proto::deprovisioning::{
    Evidence, EvidenceError, HubError, Judged, Pages, SignedEvidence, What,
};
use federation_proto::ids::{DeviceId, RoomId};
use support::evidence::{FOREIGN, alice, commit, of_alice, removals, word};
use support::golden::{both, member, read};
use support::{NOW_MS, Organisation, random};

fn signed(by: &Organisation, evidence: Evidence) -> SignedEvidence {
    evidence
        .sign(by.issuing.clone(), &by.issuing_key, &random())
        .unwrap()
}

/// Evidence whose word `step` of the foreign room is changed.
fn changed(evidence: &Evidence, step: usize, change: impl FnOnce(&mut What)) -> Evidence {
    let mut evidence = evidence.clone();
    change(&mut evidence.rooms[1].steps[step].what);
    evidence
}

fn hub_error(a: &Organisation, evidence: Evidence) -> HubError {
    match signed(a, evidence).verify(&a.root, NOW_MS).unwrap_err() {
        EvidenceError::Hub { room, reason, .. } if room == FOREIGN => reason,
        other => unreachable!("{other}"),
    }
}

/// Goal: evidence holds under its organisation's root, says what it shows, and does not hold with a bit of it turned nor under
/// another root. Method: the golden one.
#[test]
fn whose_word_counts() {
    let (a, b) = both();
    let bytes = read("evidence.bin");
    let text = String::from_utf8(read("evidence.txt").to_vec()).unwrap();
    let armored = armor::read_all(armor::Kind::Evidence, &text).unwrap();
    assert_eq!(armored, std::slice::from_ref(&bytes));
    let golden = SignedEvidence::from_bytes(bytes.clone()).unwrap();
    assert_eq!(golden.claims(), &of_alice(&a, &b));
    let judged = Judged {
        rooms: 2,
        foreign: 1,
        waiting: 0,
        proved: 2,
        unproved: 0,
        complete: true,
    };
    assert_eq!(golden.verify(&a.root, NOW_MS).unwrap(), judged);
    assert!(golden.verify(&b.root, NOW_MS).is_err());
    let early = golden.verify(&a.root, NOW_MS - 6 * 60 * 1000);
    assert_eq!(early, Err(EvidenceError::FromTheFuture));
    for at in 0..bytes.len() {
        let mut changed = bytes.to_vec();
        changed[at] ^= 1;
        if let Ok(read) = SignedEvidence::from_bytes(Bytes::from(changed)) {
            assert!(read.verify(&a.root, NOW_MS).is_err(), "byte {at}");
        }
    }
    let forged = signed(&b, of_alice(&a, &b));
    assert!(forged.verify(&a.root, NOW_MS).is_err());
}

/// Goal: an organisation that signs evidence can't make up what a partner's hub has said. Method: words of others, about
/// others, of another room, epoch, stamp or kind, to somebody else, without the manifest, and of its own hub.
#[test]
fn a_hubs_word_is_the_hubs() {
    let (a, b) = both();
    let good = of_alice(&a, &b);
    let ordered = 2;
    let with = |proof| {
        changed(&good, ordered, |what| {
            if let What::Ordered(said) = what {
                said.proof = Some(proof);
            }
        })
    };
    let carol = member("a.example", 0xc1);
    let about_another = with(word(&a, &b, &removals(carol)));
    assert_eq!(hub_error(&a, about_another), HubError::SomethingElse);
    let of_another_kind = with(word(&a, &b, &commit(alice())));
    assert_eq!(hub_error(&a, of_another_kind), HubError::SomethingElse);
    let by_myself = with(word(&b, &a, &removals(alice())));
    assert!(matches!(
        hub_error(&a, by_myself),
        HubError::NoManifest | HubError::Envelope(_)
    ));
    let another_epoch = changed(&good, ordered, |what| {
        if let What::Ordered(said) = what {
            said.epoch += 1;
        }
    });
    assert_eq!(hub_error(&a, another_epoch), HubError::SomethingElse);
    let another_stamp = changed(&good, 3, |what| {
        if let What::Removed(said) = what {
            said.stamp_ms += 1;
        }
    });
    assert_eq!(hub_error(&a, another_stamp), HubError::SomethingElse);
    let mut without = good.clone();
    without.hubs.clear();
    assert_eq!(hub_error(&a, without), HubError::NoManifest);
    let mut turned = word(&a, &b, &removals(alice()));
    let mut envelope = turned.envelope.to_vec();
    *envelope.last_mut().unwrap() ^= 1;
    turned.envelope = envelope.into();
    assert!(matches!(hub_error(&a, with(turned)), HubError::Envelope(_)));

    let unproved = changed(&good, ordered, |what| {
        if let What::Ordered(said) = what {
            said.proof = None;
        }
    });
    let judged = signed(&a, unproved).verify(&a.root, NOW_MS).unwrap();
    assert_eq!((judged.proved, judged.unproved), (1, 1));
    let mut own = good.clone();
    own.rooms[1].hub = a.name.clone();
    assert_eq!(hub_error(&a, own), HubError::OwnWord);
}

/// Goal: evidence that says that all is done while a room waits is refused; one that says that it waits is not.
/// Method: the last step of a room is left out.
#[test]
fn complete_means_that_nothing_waits() {
    let (a, b) = both();
    let mut waits = of_alice(&a, &b);
    waits.rooms[1].steps.truncate(3);
    let refused = signed(&a, waits.clone()).verify(&a.root, NOW_MS);
    assert_eq!(refused, Err(EvidenceError::Contradiction(FOREIGN)));
    waits.completed_ms = None;
    let judged = signed(&a, waits).verify(&a.root, NOW_MS).unwrap();
    assert_eq!((judged.waiting, judged.complete), (1, false));
}

/// Goal: of several pages none can be left out, come twice, or be of another cut. Method: two pages in every order.
#[test]
fn pages_are_whole() {
    let (a, b) = both();
    let whole = of_alice(&a, &b);
    let [first, second] = [0, 1].map(|at| {
        let mut page = whole.clone();
        page.rooms = vec![whole.rooms[at].clone()];
        (page.more, page.after) = match at {
            0 => (true, None),
            _ => (false, Some(whole.rooms[0].room)),
        };
        signed(&a, page)
    });
    let take = |pages: &[&SignedEvidence]| {
        let mut taken = Pages::default();
        for page in pages {
            taken.take(page, &a.root, NOW_MS)?;
        }
        taken.finish()
    };
    let (cut, judged) = take(&[&first, &second]).unwrap();
    assert_eq!(cut, whole.cut);
    assert_eq!((judged.rooms, judged.proved, judged.complete), (2, 2, true));
    for wrong in [
        &[&first][..],
        &[&second],
        &[&second, &first],
        &[&first, &first, &second],
        &[&first, &second, &second],
        &[],
    ] {
        assert!(matches!(take(wrong), Err(EvidenceError::Pages(_))));
    }
    let mut another = second.claims().clone();
    another.cut.cut_ms += 1;
    let another = signed(&a, another);
    assert!(take(&[&first, &another]).is_err());
}

/// Goal: what contradicts itself is not signed, and does not decode. Method: rooms and devices out of order, devices that were
/// not cut, steps about devices that are not in the room, a page that ends before it begins.
#[test]
fn its_own_rules() {
    let (a, b) = both();
    let good = of_alice(&a, &b);
    let wrong: [fn(&mut Evidence); 6] = [
        |evidence| evidence.rooms.swap(0, 1),
        |evidence| evidence.rooms[0].devices = vec![DeviceId::from_bytes([1; 16])],
        |evidence| evidence.rooms[0].steps[0].devices.clear(),
        |evidence| evidence.rooms[0].devices.clear(),
        |evidence| evidence.after = Some(RoomId::from_bytes([0x0a; 16])),
        |evidence| {
            evidence.rooms.clear();
            evidence.more = true;
        },
    ];
    for (number, change) in wrong.into_iter().enumerate() {
        let mut evidence = good.clone();
        change(&mut evidence);
        let signed = evidence.sign(a.issuing.clone(), &a.issuing_key, &random());
        assert!(signed.is_err(), "{number}");
    }
}
