//! Consortia: what follows from one charter for each pair that signed it, and what is refused.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests fail by panicking"
)]

mod support;

use std::collections::BTreeSet;

use bytes::Bytes;
use federation_proto::agreement::{
    Acceptance, Agreement, Charter, CharterBody, ConsortiumError, Direction, DocumentError,
    Introduction, Offer, Operation, Record, Side,
};
use federation_proto::codec::Wire;
use federation_proto::fingerprint::Fingerprint;
use federation_proto::hash::Digest;
use federation_proto::ids::ConsortiumId;
use federation_proto::limits::CONSORTIUM_MEMBERS_MAX;
use federation_proto::manifest::ManifestError;
use support::{DAY_MS, NOW_MS, Organisation, everything, random};

fn organisations(count: u8) -> Vec<Organisation> {
    (0..count)
        .map(|n| Organisation::new(&format!("m{n}.example"), n + 1))
        .collect()
}

fn body() -> CharterBody {
    CharterBody {
        consortium: ConsortiumId::from_bytes([9; 16]),
        name: "Relief Network".to_owned(),
        serial: 1,
        previous: Digest::ZERO,
        terms: everything(),
        members: Vec::new(),
        made_ms: NOW_MS,
        expires_ms: NOW_MS + 365 * DAY_MS,
    }
}

fn charter(members: &[Organisation]) -> Charter {
    let introductions: Vec<_> = members.iter().map(Organisation::introduction).collect();
    Charter::make(body(), &introductions).unwrap()
}

fn sign(charter: &mut Charter, by: &Organisation) -> Result<(), ConsortiumError> {
    let confirmed = charter.fingerprint();
    let us = (&by.name, &by.root);
    charter.sign(us, &confirmed, &by.issuing_key, &random(), NOW_MS)
}

/// The charter as each of them has signed it, merged in any order.
fn signed(members: &[Organisation]) -> Charter {
    let unsigned = charter(members);
    let mut merged = unsigned.clone();
    for by in members.iter().rev() {
        let mut theirs = unsigned.clone();
        sign(&mut theirs, by).unwrap();
        merged.merge(&theirs).unwrap();
    }
    merged
}

/// Goal: ten organisations that sign one document have the agreements of 45 pairs, the same at either
/// end, which a store keeps; by deriving every pair from either side and restoring it.
#[test]
fn ten_organisations() {
    let members = organisations(10);
    let text = signed(&members).to_armor().unwrap();
    let charter = Charter::from_armor(&text, NOW_MS).unwrap();
    let mut agreements = BTreeSet::new();
    for us in &members {
        for partner in members.iter().filter(|partner| partner.name != us.name) {
            let active = charter.pair(&us.name, &partner.name, NOW_MS).unwrap();
            let other = charter.pair(&partner.name, &us.name, NOW_MS).unwrap();
            let (ours, theirs) = (active.signed(), other.signed());
            assert_eq!(ours.offer().bytes(), theirs.offer().bytes());
            assert_eq!(ours.sha256(), theirs.sha256());
            assert_eq!(ours.theirs().from, partner.name);
            assert_eq!(ours.ours().root, us.root);
            assert_eq!(ours.side() == Side::Offerer, us.name < partner.name);
            assert!(
                ours.effective()
                    .allows_any(Direction::Outbound, Operation::Message)
            );
            agreements.insert(ours.sha256());
            let agreement = Agreement::Active(active);
            assert_eq!(Agreement::restore(&agreement.record()).unwrap(), agreement);
        }
    }
    assert_eq!(agreements.len(), 45);
}

/// Goal: what is derived is the same whichever signatures the two files hold; by signing twice, as ECDSA
/// signs differently each time, and leaving a third member out.
#[test]
fn only_the_charter_decides() {
    let members = organisations(3);
    let mut one = charter(&members);
    let mut other = one.clone();
    for by in &members {
        sign(&mut one, by).unwrap();
    }
    sign(&mut other, &members[0]).unwrap();
    sign(&mut other, &members[1]).unwrap();
    assert_ne!(one.to_bytes().unwrap(), other.to_bytes().unwrap());
    let (a, b) = (&members[0].name, &members[1].name);
    let left = one.pair(a, b, NOW_MS).unwrap();
    let right = other.pair(a, b, NOW_MS + DAY_MS).unwrap();
    assert_eq!(left.signed().sha256(), right.signed().sha256());
}

/// Goal: an agreement that follows from a charter is an ordinary one; by narrowing, suspending, resuming
/// and revoking it, one side alone.
#[test]
fn it_is_an_ordinary_agreement() {
    let members = organisations(2);
    let (a, b) = (&members[0], &members[1]);
    let charter = signed(&members);
    let at_a = charter.pair(&a.name, &b.name, NOW_MS).unwrap();
    let at_b = charter.pair(&b.name, &a.name, NOW_MS).unwrap();
    let mut statement = at_a.signed().ours().clone();
    statement.terms.outbound.remove(&Operation::Files);
    let narrowed = at_a
        .signed()
        .amendment(statement, &a.issuing_key, &random())
        .unwrap();
    let at_b = Agreement::Active(at_b)
        .change(|signed| signed.amend(narrowed, NOW_MS))
        .unwrap()
        .0;
    assert_eq!(Agreement::restore(&at_b.record()).unwrap(), at_b);
    let Agreement::Active(at_b) = at_b else {
        panic!("suspended");
    };
    let ended = at_b
        .suspend("drill".to_owned(), NOW_MS)
        .resume()
        .revoke("left".to_owned(), NOW_MS);
    let ended = Agreement::Revoked(ended);
    assert_eq!(Agreement::restore(&ended.record()).unwrap(), ended);
}

/// Goal: nobody is bound who has not signed, whoever else has; by leaving signatures out.
#[test]
fn a_signature_is_missing() {
    let members = organisations(3);
    let mut charter = charter(&members);
    sign(&mut charter, &members[0]).unwrap();
    let (a, b, c) = (&members[0].name, &members[1].name, &members[2].name);
    let refused = |charter: &Charter, us, partner| charter.pair(us, partner, NOW_MS).unwrap_err();
    assert_eq!(
        refused(&charter, a, b),
        ConsortiumError::NotSigned(b.clone())
    );
    sign(&mut charter, &members[1]).unwrap();
    assert!(charter.pair(a, b, NOW_MS).is_ok());
    assert_eq!(
        refused(&charter, b, c),
        ConsortiumError::NotSigned(c.clone())
    );
    let stranger = "stranger.example".parse().unwrap();
    assert_eq!(
        refused(&charter, a, &stranger),
        ConsortiumError::NotAMember(stranger)
    );
}

/// Goal: a signature in somebody's name that another made, or over another charter, opens nothing; by
/// giving b's place to c's signature, and to b's of a charter with another name.
#[test]
fn forged_signatures() {
    let members = organisations(3);
    let names: Vec<_> = members.iter().map(|member| member.name.clone()).collect();
    let whole = signed(&members).to_bytes().unwrap();
    let mut of_c = charter(&members);
    sign(&mut of_c, &members[2]).unwrap();
    // The name of who signed last stands last in the file.
    let file = of_c.to_bytes().unwrap();
    let at = file
        .windows(11)
        .rposition(|w| w == b"\x0am2.example")
        .unwrap();
    let mut forged = file.to_vec();
    forged[at + 2] = b'1';
    let refused = Charter::open(Bytes::from(forged), NOW_MS).unwrap_err();
    assert_eq!(refused, ConsortiumError::BadSignature(names[1].clone()));

    // The charter's name is changed after it was signed: nothing that was signed holds.
    let at = whole.windows(6).position(|w| w == b"Relief").unwrap();
    let mut changed = whole.to_vec();
    changed[at] = b'B';
    let refused = Charter::open(Bytes::from(changed), NOW_MS).unwrap_err();
    assert_eq!(refused, ConsortiumError::BadSignature(names[0].clone()));

    let mut other = body();
    other.name = "Another".to_owned();
    let introductions: Vec<_> = members.iter().map(Organisation::introduction).collect();
    let mut other = Charter::make(other, &introductions).unwrap();
    sign(&mut other, &members[1]).unwrap();
    assert_eq!(
        of_c.merge(&other).unwrap_err(),
        ConsortiumError::OtherCharter
    );
}

/// Goal: documents that follow from a charter pass as nothing by themselves; by reading them as an offer
/// and an acceptance, and restoring a record whose charter is gone, cut, or another pair's.
#[test]
fn nothing_holds_without_the_charter() {
    let members = organisations(3);
    let charter = signed(&members);
    let pair = |one: usize, other: usize| {
        let active = charter.pair(&members[one].name, &members[other].name, NOW_MS);
        Agreement::Active(active.unwrap())
    };
    let agreement = pair(0, 1);
    let signed = agreement.signed().unwrap();
    assert_eq!(
        Offer::open(signed.offer().bytes().clone(), NOW_MS).unwrap_err(),
        DocumentError::BadSignature
    );
    assert_eq!(
        Acceptance::restore(signed.acceptance().bytes().clone()).unwrap_err(),
        DocumentError::BadSignature
    );
    let damaged = |charter: Option<Bytes>| {
        let Record::Active(mut record) = agreement.record() else {
            panic!("not active");
        };
        record.charter = charter;
        Agreement::restore(&Record::Active(record)).unwrap_err()
    };
    assert_eq!(damaged(None), DocumentError::BadSignature);
    assert_eq!(
        damaged(pair(0, 2).signed().unwrap().charter().cloned()),
        DocumentError::OtherDocuments
    );
    assert_eq!(
        damaged(Some(charter.to_bytes().unwrap())),
        DocumentError::OtherDocuments,
        "a proof is of two"
    );
}

/// Goal: whoever does not make sense as a member is refused when the charter is made; by a table.
#[test]
fn charters_that_are_not_made() {
    let members = organisations(2);
    let (a, b) = (members[0].introduction(), members[1].introduction());
    let make = |body: CharterBody, introductions: &[_]| Charter::make(body, introductions);
    let twice = make(body(), &[a.clone(), b.clone(), a.clone()]).unwrap_err();
    assert_eq!(twice, ConsortiumError::Twice(a.server.clone()));
    assert_eq!(
        make(body(), std::slice::from_ref(&a)).unwrap_err(),
        ConsortiumError::TooFew
    );
    let crowd = vec![a.clone(); CONSORTIUM_MEMBERS_MAX + 1];
    assert_eq!(make(body(), &crowd).unwrap_err(), ConsortiumError::TooMany);
    let mut foreign = b.clone();
    foreign.manifest = a.manifest.clone();
    let refused = make(body(), &[a.clone(), foreign]).unwrap_err();
    assert!(matches!(
        refused,
        ConsortiumError::Keys { server, error: ManifestError::WrongServer { .. } } if server == b.server
    ));
    for (name, fits) in [("", false), ("a\u{202e}b", false), ("Réseau", true)] {
        let named = CharterBody {
            name: name.to_owned(),
            ..body()
        };
        assert_eq!(make(named, &[a.clone(), b.clone()]).is_ok(), fits, "{name}");
    }
    let mut nothing = body();
    nothing.terms.outbound.clear();
    assert!(make(nothing, &[a.clone(), b.clone()]).is_err());
    let past = CharterBody {
        expires_ms: NOW_MS,
        ..body()
    };
    assert_eq!(make(past, &[a, b]).unwrap_err(), ConsortiumError::Expired);
}

/// Goal: nobody signs a charter that introduces somebody else in his name, one that was not confirmed, or
/// one that does not name him; by a charter with an impostor's root for b.
#[test]
fn signing_something_else() {
    let members = organisations(2);
    let (a, b) = (&members[0], &members[1]);
    let impostor = Organisation::new("m1.example", 7);
    let introductions = [a.introduction(), impostor.introduction()];
    let mut forged = Charter::make(body(), &introductions).unwrap();
    assert_eq!(
        sign(&mut forged, b).unwrap_err(),
        ConsortiumError::ForeignRoot(b.name.clone())
    );
    let mut charter = charter(&members);
    let confirmed = forged.fingerprint();
    let us = (&b.name, &b.root);
    let refused = charter
        .sign(us, &confirmed, &b.issuing_key, &random(), NOW_MS)
        .unwrap_err();
    assert_eq!(
        refused,
        ConsortiumError::WrongFingerprint(charter.fingerprint())
    );
    let stranger = Organisation::new("m3.example", 8);
    assert_eq!(
        sign(&mut charter, &stranger).unwrap_err(),
        ConsortiumError::NotAMember(stranger.name.clone())
    );
    // The issuing key was renewed since the introduction.
    let us = (&b.name, &b.root);
    let confirmed = charter.fingerprint();
    let refused = charter.sign(us, &confirmed, &impostor.issuing_key, &random(), NOW_MS);
    assert_eq!(
        refused.unwrap_err(),
        ConsortiumError::OldKeys(b.name.clone())
    );
    assert!(!charter.is_signed_by(&b.name));
    let words = charter.fingerprint().words().join(" ");
    assert_eq!(words.parse::<Fingerprint>().unwrap(), charter.fingerprint());
}

/// Goal: nothing follows from a charter that has expired, is of the future, or whose partner's keys have
/// ended; by moving the clock.
#[test]
fn out_of_time() {
    let members = organisations(2);
    let (a, b) = (&members[0], &members[1]);
    let charter = signed(&members);
    let end_ms = charter.body().expires_ms;
    assert!(charter.pair(&a.name, &b.name, end_ms - 1).is_ok());
    assert_eq!(
        charter.pair(&a.name, &b.name, end_ms).unwrap_err(),
        ConsortiumError::Expired
    );
    let file = charter.to_bytes().unwrap();
    assert_eq!(
        Charter::open(file, NOW_MS - 3_600_000).unwrap_err(),
        ConsortiumError::Document(DocumentError::FromTheFuture)
    );
    let mut long = body();
    long.expires_ms = u64::MAX;
    let introductions = [a.introduction(), b.introduction()];
    let mut long = Charter::make(long, &introductions).unwrap();
    sign(&mut long, a).unwrap();
    sign(&mut long, b).unwrap();
    let certificates_ended_ms = NOW_MS + 30 * 365 * DAY_MS;
    assert!(matches!(
        long.pair(&a.name, &b.name, certificates_ended_ms).unwrap_err(),
        ConsortiumError::Keys { server, .. } if server == b.name
    ));
}

/// Goal: a charter follows the one before it, and no other: not itself, not an older one, not another
/// consortium's, not one beside the known; by a table of successors.
#[test]
fn successors() {
    let members = organisations(3);
    let introductions: Vec<_> = members.iter().map(Organisation::introduction).collect();
    let first = Charter::make(body(), &introductions[..2]).unwrap();
    let next = |change: &dyn Fn(&mut CharterBody)| {
        let mut body = CharterBody {
            serial: 2,
            previous: first.sha256(),
            ..body()
        };
        change(&mut body);
        Charter::make(body, &introductions).unwrap()
    };
    let second = next(&|_| {});
    second.check_follows(&first).unwrap();
    let later = next(&|body| {
        body.serial = 3;
        body.previous = Digest::of(b"a charter that was not signed here");
    });
    later.check_follows(&first).unwrap();
    for wrong in [
        next(&|body| body.previous = Digest::of(b"another")),
        next(&|body| body.consortium = ConsortiumId::from_bytes([8; 16])),
        first.clone(),
    ] {
        assert_eq!(
            wrong.check_follows(&first).unwrap_err(),
            ConsortiumError::NotTheNext
        );
    }
    assert!(first.check_follows(&second).is_err());
    let unrooted = CharterBody {
        serial: 2,
        ..body()
    };
    assert!(Charter::make(unrooted, &introductions).is_err());
}

/// Goal: an introduction that was exchanged, or left out, is noticed; by rebuilding the file.
#[test]
fn introductions_are_bound() {
    let members = organisations(2);
    let charter = signed(&members);
    let file = charter.to_bytes().unwrap();
    let contact = b"admin at m1.example";
    let at = file
        .windows(contact.len())
        .position(|window| window == contact)
        .unwrap();
    let mut changed = file.to_vec();
    changed[at] = b'A';
    assert_eq!(
        Charter::open(changed.into(), NOW_MS).unwrap_err(),
        ConsortiumError::OtherIntroduction(members[1].name.clone())
    );
    let alone = charter
        .pair(&members[0].name, &members[1].name, NOW_MS)
        .unwrap();
    let proof = alone.signed().charter().unwrap().clone();
    Charter::open(proof, NOW_MS).unwrap();
    let three = organisations(3);
    let pair = signed(&three)
        .pair(&three[0].name, &three[1].name, NOW_MS)
        .unwrap();
    assert_eq!(
        Charter::open(pair.signed().charter().unwrap().clone(), NOW_MS).unwrap_err(),
        ConsortiumError::NoIntroduction(three[2].name.clone())
    );
    let introduction = three[0].introduction();
    let text = introduction.to_armor().unwrap();
    let read = Introduction::from_armor(&text).unwrap();
    assert_eq!(read.to_bytes().unwrap(), introduction.to_bytes().unwrap());
}
