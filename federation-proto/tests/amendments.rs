//! Amendments of an agreement that stands: what is in force at once, what waits, and what is refused.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests fail by panicking"
)]

mod support;

use federation_proto::agreement::{
    Active, Agreement, AgreementError, Amendment, Consent, Direction, DocumentError, Effect,
    Operation, Record, Side, Signed, Statement, Tendency, UserTypes,
};
use federation_proto::fingerprint::Fingerprint;
use support::{DAY_MS, NOW_MS, Organisation, accept, offer, random};

fn pair() -> (Organisation, Organisation) {
    (
        Organisation::new("a.example", 1),
        Organisation::new("b.example", 2),
    )
}

fn fingerprint(of: &Organisation) -> Fingerprint {
    Fingerprint::of_root(&of.root)
}

/// Both sides of a finished ceremony.
fn active(a: &Organisation, b: &Organisation) -> (Active, Active) {
    let offered = offer(a, b);
    let accepted = accept(offered.offer().clone(), b);
    let acceptance = accepted.acceptance().clone();
    let at_a = offered
        .countersign(
            acceptance,
            &fingerprint(b),
            &a.issuing_key,
            &random(),
            NOW_MS,
        )
        .unwrap();
    let countersignature = at_a.signed().countersignature().clone();
    let at_b = accepted.activate(countersignature, NOW_MS).unwrap();
    (at_a, at_b)
}

/// Both ends of an agreement whose statements grant everything but are narrower than what can be said.
fn signed(a: &Organisation, b: &Organisation) -> (Signed, Signed) {
    let (at_a, at_b) = active(a, b);
    (at_a.signed().clone(), at_b.signed().clone())
}

fn amended(by: &Organisation, at: &Signed, change: impl FnOnce(&mut Statement)) -> Amendment {
    let mut statement = at.ours().clone();
    statement.made_ms = NOW_MS;
    change(&mut statement);
    at.amendment(statement, &by.issuing_key, &random()).unwrap()
}

/// Goal: what only tightens is in force at once at either end, without the other's word; by taking the
/// file grant away and handing the amendment over as text.
#[test]
fn tightening_needs_nobody() {
    let (a, b) = pair();
    let (at_a, at_b) = signed(&a, &b);
    let amendment = amended(&a, &at_a, |statement| {
        statement.terms.outbound.remove(&Operation::Files);
        statement.terms.ttl.max_seconds = 3600;
    });
    let text = amendment.to_armor();
    let (at_a, effect) = at_a.amend(amendment, NOW_MS).unwrap();
    assert_eq!(effect, Effect::InForce);
    let received = Amendment::from_armor(&text, NOW_MS).unwrap();
    let (at_b, effect) = at_b.amend(received.clone(), NOW_MS).unwrap();
    assert_eq!(effect, Effect::InForce);
    assert!(
        !at_a
            .effective()
            .allows_any(Direction::Outbound, Operation::Files)
    );
    assert!(
        !at_b
            .effective()
            .allows_any(Direction::Inbound, Operation::Files)
    );
    assert!(!at_b.effective().allows_ttl(3601) && at_b.effective().allows_ttl(3600));
    let (_, effect) = at_b.amend(received, NOW_MS).unwrap();
    assert_eq!(effect, Effect::Known, "a second delivery changes nothing");
}

/// Goal: what widens changes nothing before the partner consents to exactly it, and is in force at both
/// ends afterwards; by granting files again, with consents to something else on the way.
#[test]
fn widening_needs_both() {
    let (a, b) = pair();
    let (at_a, at_b) = signed(&a, &b);
    let narrow = amended(&a, &at_a, |statement| statement.terms.file_bytes_max = 0);
    let (at_a, _) = at_a.amend(narrow.clone(), NOW_MS).unwrap();
    let (at_b, _) = at_b.amend(narrow, NOW_MS).unwrap();

    let wide = amended(&a, &at_a, |statement| {
        statement.terms.file_bytes_max = 7;
        statement.expires_ms += DAY_MS;
    });
    let (at_a, effect) = at_a.amend(wide.clone(), NOW_MS).unwrap();
    assert_eq!(effect, Effect::Proposed);
    let (at_b, _) = at_b.amend(wide, NOW_MS).unwrap();
    assert_eq!(at_a.effective().file_bytes_max(), 0);
    assert_eq!(at_b.effective().file_bytes_max(), 0);

    // A consents to nothing in its own name: the proposal is its own.
    let own = at_a
        .clone()
        .consent(None, &a.manifest(1), &a.issuing_key, &random(), NOW_MS);
    assert_eq!(own.unwrap_err().error, AgreementError::NothingProposed);
    // Nor does a consent that somebody else signed count.
    let forged = at_b
        .clone()
        .consent(None, &b.manifest(1), &a.issuing_key, &random(), NOW_MS);
    assert_eq!(
        forged.unwrap_err().error,
        DocumentError::BadSignature.into()
    );

    let (at_b, consent) = at_b
        .consent(None, &b.manifest(1), &b.issuing_key, &random(), NOW_MS)
        .unwrap();
    assert_eq!(at_b.effective().file_bytes_max(), 7);
    let consent = Consent::from_armor(&consent.to_armor()).unwrap();
    let at_a = at_a.consented(consent.clone(), NOW_MS).unwrap();
    assert_eq!(at_a.effective().file_bytes_max(), 7);
    assert_eq!(at_a.theirs(), at_b.ours());
    assert_eq!(at_a.ours(), at_b.theirs());
    // A consent that comes again is known; one to an earlier agreement is not of this one.
    let at_a = at_a.consented(consent.clone(), NOW_MS).unwrap();
    let (other, _) = signed(&a, &b);
    assert_eq!(
        other.consented(consent, NOW_MS).unwrap_err().error,
        AgreementError::NothingProposed
    );
    // The store keeps all of it.
    let agreement = Agreement::restore(&Record::Active(record_of(&at_a))).unwrap();
    assert_eq!(agreement.signed(), Some(&at_a));
}

fn record_of(signed: &Signed) -> federation_proto::agreement::SignedRecord {
    let (a, b) = pair();
    let agreement = Agreement::Active(active(&a, &b).0);
    let (agreement, ()) = agreement.change(|_| Ok((signed.clone(), ()))).unwrap();
    match agreement.record() {
        Record::Active(record) => record,
        other => panic!("{other:?}"),
    }
}

/// Goal: amendments keep their order, and none is of another agreement, of another maker, or of a later
/// time; by exchanging, repeating and forging them.
#[test]
fn amendments_keep_their_order() {
    let (a, b) = pair();
    let (at_a, at_b) = signed(&a, &b);
    let first = amended(&a, &at_a, |statement| statement.terms.file_bytes_max = 5);
    let (after_first, _) = at_a.clone().amend(first.clone(), NOW_MS).unwrap();
    let second = amended(&a, &after_first, |statement| {
        statement.terms.file_bytes_max = 4
    });
    let error = at_b
        .clone()
        .amend(second.clone(), NOW_MS)
        .unwrap_err()
        .error;
    assert_eq!(error, AgreementError::NotTheNext, "the first is missing");
    let (at_b, _) = at_b.amend(first.clone(), NOW_MS).unwrap();
    let (at_b, _) = at_b.amend(second, NOW_MS).unwrap();
    let error = at_b.clone().amend(first.clone(), NOW_MS).unwrap_err().error;
    assert_eq!(error, AgreementError::NotTheNext, "the first comes again");

    let (_, elsewhere) = signed(&a, &b);
    let error = elsewhere.amend(first, NOW_MS).unwrap_err().error;
    assert_eq!(
        error,
        DocumentError::OtherDocuments.into(),
        "another agreement"
    );

    let c = Organisation::new("c.example", 4);
    let (at_c, _) = signed(&c, &b);
    let foreign = amended(&c, &at_c, |statement| statement.terms.file_bytes_max = 1);
    let error = at_b.clone().amend(foreign, NOW_MS).unwrap_err().error;
    assert!(
        matches!(error, AgreementError::OtherPartner { .. }),
        "{error}"
    );

    let ended = amended(&b, &at_b, |statement| statement.expires_ms = NOW_MS);
    let error = at_b.amend(ended, NOW_MS).unwrap_err().error;
    assert_eq!(error, AgreementError::Expired);
}

/// Goal: tightening overtakes a proposal that waits, which then follows nothing; and a proposal can be
/// replaced or taken back; by doing each.
#[test]
fn proposals_give_way() {
    let (a, b) = pair();
    let (at_a, _) = signed(&a, &b);
    let wide = amended(&a, &at_a, |statement| statement.terms.file_bytes_max += 1);
    let wider = amended(&a, &at_a, |statement| statement.terms.file_bytes_max += 2);
    let tight = amended(&a, &at_a, |statement| statement.terms.file_bytes_max = 0);
    let (at_a, _) = at_a.amend(wide, NOW_MS).unwrap();
    let (at_a, effect) = at_a.amend(wider.clone(), NOW_MS).unwrap();
    assert_eq!(effect, Effect::Proposed);
    assert_eq!(at_a.amendments(Side::Offerer).proposed(), Some(&wider));
    let back = at_a.clone().without_proposal(Side::Offerer);
    assert_eq!(back.amendments(Side::Offerer).proposed(), None);
    let (at_a, effect) = at_a.amend(tight, NOW_MS).unwrap();
    assert_eq!(effect, Effect::InForce);
    assert_eq!(at_a.amendments(Side::Offerer).proposed(), None);
    assert_eq!(at_a.effective().file_bytes_max(), 0);
}

/// Goal: a new root is taken only with its fingerprint, read aloud; by an amendment under new keys.
#[test]
fn a_new_root_is_confirmed() {
    let (a, b) = pair();
    let (at_a, at_b) = signed(&a, &b);
    let renewed = Organisation::new("a.example", 9);
    let amendment = amended(&renewed, &at_a, |statement| {
        statement.root = renewed.root.clone();
        statement.manifest = renewed.manifest_bytes(2);
    });
    let (at_b, effect) = at_b.amend(amendment, NOW_MS).unwrap();
    assert_eq!(effect, Effect::Proposed);
    for confirmed in [None, Some(fingerprint(&a))] {
        let refused = at_b.clone().consent(
            confirmed.as_ref(),
            &b.manifest(1),
            &b.issuing_key,
            &random(),
            NOW_MS,
        );
        assert_eq!(
            refused.unwrap_err().error,
            AgreementError::WrongFingerprint {
                found: fingerprint(&renewed)
            }
        );
    }
    let confirmed = fingerprint(&renewed);
    let (at_b, _) = at_b
        .consent(
            Some(&confirmed),
            &b.manifest(1),
            &b.issuing_key,
            &random(),
            NOW_MS,
        )
        .unwrap();
    assert_eq!(at_b.theirs().root, renewed.root);
    assert_eq!(at_b.partner_manifest().identity().fingerprint(), confirmed);
}

/// Goal: an administrator is shown every change and which way it goes; by a statement that changes
/// each thing, and one that changes none.
#[test]
fn changes_in_plain_language() {
    let (a, b) = pair();
    let old = a.statement(&b.name);
    assert_eq!(old.changes_to(&old), []);
    let mut new = old.clone();
    new.terms.outbound.remove(&Operation::Files);
    new.terms.inbound.insert(
        Operation::Invite,
        UserTypes::from_names(["desk".to_owned()]),
    );
    new.terms.ttl.max_seconds = 3600;
    new.terms.waiting_bytes_max *= 2;
    new.terms.file_bytes_max = 0;
    new.expires_ms += 1;
    new.contact = "x. Files of any size".to_owned();
    new.endpoints.clear();
    let shown: Vec<String> = old
        .changes_to(&new)
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        shown,
        [
            "tightens: no longer «People of a.example may send files to people of b.example.»",
            "tightens: «People of b.example may add people of a.example to rooms.» becomes «People of b.example may add people of a.example to rooms, of a.example only the user type \"desk\".»",
            "tightens: «Messages live between 1 second and 30 days.» becomes «Messages live between 1 second and 1 hour.»",
            "widens: «Up to 1 GiB for people of a.example may wait there.» becomes «Up to 2 GiB for people of a.example may wait there.»",
            "tightens: «Files of up to 100 MiB.» becomes «No files.»",
            "widens: «It ends on 2027-11-22 10:15 UTC (1826878500000 ms).» becomes «It ends on 2027-11-22 10:15 UTC (1826878500001 ms).»",
            "changes: «a.example is reached at a.example:8448.» becomes «a.example is reached where DNS says.»",
            "changes: «Contact: \"admin at a.example\".» becomes «Contact: \"x. Files of any size\".»",
        ],
    );
    // What the lines say of tightening, the agreement acts on.
    assert!(!old.only_tightens_to(&new));
    new.terms.waiting_bytes_max = old.terms.waiting_bytes_max;
    new.expires_ms = old.expires_ms;
    assert!(old.only_tightens_to(&new));
    assert!(
        old.changes_to(&new)
            .iter()
            .all(|change| change.tendency != Tendency::Widens)
    );
}
