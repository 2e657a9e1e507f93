//! Amendments of an agreement that stands: what is in force at once, what waits, and what is refused.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests fail by panicking"
)]

mod support;

use federation_proto::agreement::{
    Agreement, AgreementError, Amendment, Consent, Decided, Declaration, Direction, DocumentError,
    Effect, Operation, Record, Side, Signed, Statement, Tendency, UserTypes,
};
use support::{DAY_MS, NOW_MS, Organisation, active, fingerprint, key_pair, pair, random};

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

/// An amendment that changes the root alone.
fn under_root_of(by: &Organisation, at: &Signed, made_ms: u64) -> Amendment {
    amended(by, at, |statement| {
        statement.root = by.root.clone();
        statement.manifest = by.manifest_bytes(2);
        statement.made_ms = made_ms;
    })
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

/// Goal: where the partner connects to is not the maker's to change alone, however little else an amendment says
/// (PEER-041); by endpoints that are others, fewer, none and in another order, and by the same ones.
#[test]
fn other_endpoints_need_both() {
    let (a, b) = pair();
    let (at_a, at_b) = signed(&a, &b);
    let known = at_a.ours().endpoints.clone();
    let own: Vec<_> = ["127.0.0.1:39777", "10.0.0.5:22"]
        .map(|endpoint| endpoint.parse().unwrap())
        .to_vec();
    let (more, turned) = (
        [known.clone(), own.clone()].concat(),
        [own.clone(), known.clone()].concat(),
    );
    for (endpoints, expected) in [
        (known.clone(), Effect::InForce),
        (own, Effect::Proposed),
        (Vec::new(), Effect::Proposed),
        (more, Effect::Proposed),
        (turned, Effect::Proposed),
    ] {
        let amendment = amended(&a, &at_a, |statement| {
            statement.terms.ttl.max_seconds = 3600;
            statement.endpoints.clone_from(&endpoints);
        });
        let (at_b, effect) = at_b.clone().amend(amendment, NOW_MS).unwrap();
        assert_eq!(effect, expected, "{endpoints:?}");
        assert_eq!(at_b.theirs().endpoints, known, "{endpoints:?}");
    }
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
    let file_max = |most: u64, made_ms: u64| {
        amended(&a, &at_a, |statement| {
            statement.terms.file_bytes_max = most;
            statement.made_ms = made_ms;
        })
    };
    let most = at_a.ours().terms.file_bytes_max;
    let wide = file_max(most + 1, NOW_MS);
    let wider = file_max(most + 2, NOW_MS + 1);
    let tight = file_max(0, NOW_MS + 2);
    let at_a = at_a.clone();
    let (at_a, _) = at_a.amend(wide, NOW_MS).unwrap();
    let (at_a, effect) = at_a.amend(wider.clone(), NOW_MS).unwrap();
    assert_eq!(effect, Effect::Proposed);
    let (_, effect) = at_a.clone().amend(wider.clone(), NOW_MS).unwrap();
    assert_eq!(effect, Effect::Known);
    assert_eq!(at_a.amendments(Side::Offerer).proposed(), Some(&wider));
    let back = amended(&a, &at_a, |_| {});
    let (back, effect) = at_a.clone().amend(back, NOW_MS).unwrap();
    assert_eq!(
        effect,
        Effect::InForce,
        "what is restated allows nothing new"
    );
    assert_eq!(back.amendments(Side::Offerer).proposed(), None);
    let (at_a, effect) = at_a.amend(tight, NOW_MS).unwrap();
    assert_eq!(effect, Effect::InForce);
    assert_eq!(at_a.amendments(Side::Offerer).proposed(), None);
    assert_eq!(at_a.effective().file_bytes_max(), 0);
}

/// Goal: an amendment that names a root of a stranger changes nothing at all: no proposal, no consent that has yet to
/// arrive, and not which amendment may come next; an issuing CA that was replaced vouches for none either. By a stranger
/// who says now, and that it is five minutes later, whatever manifests are known.
#[test]
fn a_strangers_root_changes_nothing() {
    let [root, second_root, issuing] = [(); 3].map(|()| key_pair());
    let a = Organisation::with_keys("a.example", 1, &root, &issuing);
    let b = Organisation::new("b.example", 2);
    let (at_a, at_b) = signed(&a, &b);
    let wide = amended(&a, &at_a, |statement| statement.terms.file_bytes_max *= 2);
    let (proposed, _) = at_b.clone().amend(wide.clone(), NOW_MS).unwrap();
    let (consented, _) = proposed
        .clone()
        .consent(None, &b.manifest(1), &b.issuing_key, &random(), NOW_MS)
        .unwrap();
    let stranger = Organisation::new("a.example", 9);
    let (own, his) = (a.manifest(1), stranger.manifest(7));
    for state in [at_b.clone(), proposed, consented] {
        for made_ms in [NOW_MS + 1, NOW_MS + 5 * 60 * 1000] {
            let forged = under_root_of(&stranger, &at_a, made_ms);
            for known in [&[][..], &[&own], &[&his], &[&own, &his]] {
                let refused = state.clone().amend_known(forged.clone(), known, NOW_MS);
                let refused = refused.unwrap_err();
                assert_eq!(refused.error, AgreementError::UnknownIssuer);
                assert_eq!(*refused.state, state);
            }
            let refused = state.clone().amend(forged, NOW_MS).unwrap_err();
            assert_eq!(refused.error, AgreementError::UnknownIssuer);
        }
        let later = amended(&a, &at_a, |statement| {
            statement.terms.file_bytes_max *= 3;
            statement.made_ms = NOW_MS + 1;
        });
        assert_eq!(state.amend(later, NOW_MS).unwrap().1, Effect::Proposed);
    }

    let renewed = Organisation::with_keys("a.example", 1, &root, &key_pair());
    let by_former = Organisation::with_keys("a.example", 1, &second_root, &issuing);
    let by_former = under_root_of(&by_former, &at_a, NOW_MS);
    let newest = renewed.manifest(2);
    let refused = at_b
        .clone()
        .amend_known(by_former.clone(), &[&newest], NOW_MS);
    assert_eq!(refused.unwrap_err().error, AgreementError::UnknownIssuer);
    assert!(at_b.amend_known(by_former, &[&own], NOW_MS).is_ok());
}

/// Goal: a new root is taken only with its fingerprint, read aloud; by an amendment under new keys.
#[test]
fn a_new_root_is_confirmed() {
    let [first_root, second_root, issuing] = [(); 3].map(|()| key_pair());
    let a = Organisation::with_keys("a.example", 1, &first_root, &issuing);
    let b = Organisation::new("b.example", 2);
    let (at_a, at_b) = signed(&a, &b);
    let renewed = Organisation::with_keys("a.example", 9, &second_root, &issuing);
    let amendment = under_root_of(&renewed, &at_a, NOW_MS);
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
    let (at_b, consent) = at_b
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

    // The proposer may not know of it yet: what it signs under the old root holds until it does (PEER-055).
    let (before, manifest) = at_b.before_our_consent().unwrap();
    assert_eq!((&before.root, manifest.serial()), (&a.root, 1));
    let declared = |organisation: &Organisation| {
        let made = at_a.clone().declare(
            Decided::Suspended,
            "",
            &organisation.manifest(1),
            &organisation.issuing_key,
            &random(),
            NOW_MS,
        );
        made.unwrap().1
    };
    for organisation in [&a, &renewed] {
        assert!(at_b.clone().hear(declared(organisation), NOW_MS).is_ok());
    }
    let stranger = Organisation::new("a.example", 8);
    assert!(at_b.clone().hear(declared(&stranger), NOW_MS).is_err());
    let at_b = at_b.consent_arrived(&consent);
    assert_eq!(at_b.before_our_consent(), None);
    assert!(at_b.clone().hear(declared(&a), NOW_MS).is_err());
    assert!(at_b.hear(declared(&renewed), NOW_MS).is_ok());
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
            "widens: «a.example is reached at a.example:8448.» becomes «a.example is reached where DNS says.»",
            "changes: «Contact: \"admin at a.example\".» becomes «Contact: \"x. Files of any size\".»",
        ],
    );
    // What the lines say of tightening, the agreement acts on.
    assert!(!old.only_tightens_to(&new));
    new.terms.waiting_bytes_max = old.terms.waiting_bytes_max;
    new.expires_ms = old.expires_ms;
    assert!(!old.only_tightens_to(&new));
    new.endpoints.clone_from(&old.endpoints);
    assert!(old.only_tightens_to(&new));
    assert!(
        old.changes_to(&new)
            .iter()
            .all(|change| change.tendency != Tendency::Widens)
    );
}

/// Goal: both sides may amend at the same serial, each arriving after the other was made, and both ends come
/// to the same; by a tightening of the one that crosses a widening of the other.
#[test]
fn amendments_of_both_sides_cross() {
    let (a, b) = pair();
    let (at_a, at_b) = signed(&a, &b);
    let by_a = amended(&a, &at_a, |statement| {
        statement.terms.ttl.max_seconds = 3600
    });
    let by_b = amended(&b, &at_b, |statement| statement.terms.file_bytes_max *= 2);
    assert_eq!(by_a.statement().serial, by_b.statement().serial);
    let (at_a, _) = at_a.amend(by_a.clone(), NOW_MS).unwrap();
    let (at_b, _) = at_b.amend(by_b.clone(), NOW_MS).unwrap();
    let (at_a, _) = at_a.amend(by_b, NOW_MS).unwrap();
    let (at_b, _) = at_b.amend(by_a, NOW_MS).unwrap();
    let (at_a, consent) = at_a
        .consent(None, &a.manifest(1), &a.issuing_key, &random(), NOW_MS)
        .unwrap();
    let at_b = at_b.consented(consent, NOW_MS).unwrap();
    assert_eq!(at_a.ours(), at_b.theirs());
    assert_eq!(at_a.theirs(), at_b.ours());
    assert_eq!(at_a.ours().terms.ttl.max_seconds, 3600);
    assert_eq!(at_a.theirs().terms.file_bytes_max, 2 * (100 << 20));
}

/// Goal: when a maker amends while the consent to its proposal is on its way, the later amendment counts at
/// both ends, and neither is stuck; once the consent has arrived, nothing is undone any more; by every order
/// of the two documents.
#[test]
fn a_consent_that_crosses_is_undone() {
    let (a, b) = pair();
    let (at_a, at_b) = signed(&a, &b);
    let wide = amended(&a, &at_a, |statement| {
        statement.terms.file_bytes_max *= 2;
        statement.terms.ttl.max_seconds = 60;
    });
    let (at_a, _) = at_a.amend(wide.clone(), NOW_MS).unwrap();
    let (at_b, _) = at_b.amend(wide, NOW_MS).unwrap();
    let (consented, consent) = at_b
        .consent(None, &b.manifest(1), &b.issuing_key, &random(), NOW_MS)
        .unwrap();
    // Not within what b consented to, but within what was in force before.
    let later = amended(&a, &at_a, |statement| statement.terms.file_bytes_max = 5);
    assert_eq!(later.statement().serial, consented.theirs().serial);
    let (at_a, effect) = at_a.amend(later.clone(), NOW_MS).unwrap();
    assert_eq!(effect, Effect::InForce);
    let error = at_a.clone().consented(consent.clone(), NOW_MS);
    assert_eq!(error.unwrap_err().error, AgreementError::NothingProposed);

    // The store keeps what may come back.
    let record = Record::Active(record_of(&consented));
    let restored = Agreement::restore(&record).unwrap();
    assert_eq!(restored.signed(), Some(&consented));
    let (at_b, effect) = consented.clone().amend(later.clone(), NOW_MS).unwrap();
    assert_eq!(effect, Effect::InForce);
    assert_eq!(at_b.theirs(), at_a.ours());
    assert_eq!(at_b.theirs().terms.ttl.max_seconds, 30 * 86_400);
    let next = amended(&a, &at_a, |statement| statement.terms.file_bytes_max = 4);
    assert_eq!(at_b.amend(next, NOW_MS).unwrap().1, Effect::InForce);

    let arrived = consented.consent_arrived(&consent);
    let error = arrived.amend(later, NOW_MS).unwrap_err().error;
    assert_eq!(error, AgreementError::NotTheNext);
}

/// Goal: a refused proposal is gone at both ends and stays gone when it comes again, and the refusal says
/// why; by refusing one, and by refusing what is not proposed.
#[test]
fn a_proposal_is_refused() {
    let (a, b) = pair();
    let (at_a, at_b) = signed(&a, &b);
    let wide = amended(&a, &at_a, |statement| statement.terms.file_bytes_max *= 2);
    let (at_a, _) = at_a.amend(wide.clone(), NOW_MS).unwrap();
    let (at_b, _) = at_b.amend(wide.clone(), NOW_MS).unwrap();
    let other = declare(&b, at_b.clone(), Decided::Refused(at_b.sha256()));
    assert_eq!(other.unwrap_err(), AgreementError::NothingProposed);
    let (at_b, refusal) = declare(&b, at_b, Decided::Refused(wide.sha256())).unwrap();
    assert_eq!(at_b.amendments(Side::Offerer).proposed(), None);
    let (at_b, effect) = at_b.amend(wide.clone(), NOW_MS).unwrap();
    assert_eq!(effect, Effect::Known);
    assert_eq!(at_b.amendments(Side::Offerer).proposed(), None);
    let (at_a, news) = at_a.hear(refusal, NOW_MS).unwrap();
    assert!(news);
    assert_eq!(at_a.amendments(Side::Offerer).proposed(), None);
    assert_eq!(at_a.heard().refusal().unwrap().reason, "drill");
    assert_eq!(at_a.ours(), at_b.theirs());
}

fn declare(
    by: &Organisation,
    at: Signed,
    decided: Decided,
) -> Result<(Signed, Declaration), AgreementError> {
    let (manifest, key) = (by.manifest(1), &by.issuing_key);
    at.declare(decided, "drill", &manifest, key, &random(), NOW_MS)
        .map_err(|rejected| rejected.error)
}

/// Goal: what a side declares is taken once, in its order, and only from that side about that agreement; by
/// pausing, taking up and ending, with repetitions, replays, and declarations of others in between.
#[test]
fn declarations_keep_their_order() {
    let (a, b) = pair();
    let (at_a, at_b) = signed(&a, &b);
    let maker = at_a.clone();
    let (at_a, pause) = declare(&a, at_a, Decided::Suspended).unwrap();
    let (at_a, resume) = declare(&a, at_a, Decided::Resumed).unwrap();
    let (_, end) = declare(&a, at_a, Decided::Revoked).unwrap();
    let text = pause.to_armor();
    let pause = Declaration::from_armor(&text).unwrap();

    let (paused, news) = at_b.clone().hear(pause.clone(), NOW_MS).unwrap();
    assert!(news && paused.heard().pause().unwrap().reason == "drill");
    let (paused, news) = paused.hear(pause.clone(), NOW_MS).unwrap();
    assert!(!news, "a second delivery changes nothing");
    let restored = Agreement::restore(&Record::Active(record_of(&paused))).unwrap();
    assert_eq!(restored.signed(), Some(&paused));
    let (taken_up, _) = paused.hear(resume, NOW_MS).unwrap();
    assert_eq!(taken_up.heard().pause(), None);
    let replayed = taken_up.clone().hear(pause.clone(), NOW_MS).unwrap_err();
    assert_eq!(replayed.error, AgreementError::Overtaken);
    let (ended, _) = taken_up.clone().hear(end.clone(), NOW_MS).unwrap();
    assert!(ended.heard().end().is_some());

    let refused = |declaration: Declaration, now_ms| {
        let refused = taken_up.clone().hear(declaration, now_ms).unwrap_err();
        assert_eq!(*refused.state, taken_up);
        refused.error
    };
    assert_eq!(
        refused(end, NOW_MS - DAY_MS),
        DocumentError::FromTheFuture.into()
    );
    let (elsewhere, _) = signed(&a, &b);
    let (_, other) = declare(&a, elsewhere, Decided::Revoked).unwrap();
    assert_eq!(refused(other, NOW_MS), DocumentError::OtherDocuments.into());
    let (_, own) = declare(&b, at_b.clone(), Decided::Revoked).unwrap();
    assert_eq!(refused(own, NOW_MS), DocumentError::OtherDocuments.into());
    let mallory = Organisation::new("a.example", 3);
    let forge = |manifest_of: &Organisation| {
        let manifest = manifest_of.manifest(1);
        let key = &mallory.issuing_key;
        let forged = maker
            .clone()
            .declare(Decided::Revoked, "", &manifest, key, &random(), NOW_MS);
        forged.unwrap().1
    };
    assert_eq!(
        refused(forge(&a), NOW_MS),
        DocumentError::BadSignature.into()
    );
    let error = refused(forge(&mallory), NOW_MS);
    assert!(
        matches!(error, AgreementError::Document(DocumentError::Manifest(_))),
        "{error}"
    );
}
