//! The peering ceremony: from an offer to an active agreement, and everything that must stop it.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

mod support;

use federation_proto::agreement::{
    Acceptance, Accepted, Agreement, AgreementError, Countersignature, CountersignatureBody,
    Direction, Document, DocumentError, Draft, Offer, OfferBody, Offered, Operation, Record, Side,
    State, Statement, TermsError, UserTypes,
};
use federation_proto::armor::{self, ArmorError};
use federation_proto::codec::Wire;
use federation_proto::hash::Digest;
use federation_proto::version::{Version, VersionSet};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use support::{
    DAY_MS, NOW_MS, Organisation, accept, acceptance, active, fingerprint, offer, pair, random,
    server,
};

fn accept_error(offer: Offer, by: &Organisation, change: fn(&mut Statement)) -> AgreementError {
    let confirmed = offer.manifest().identity().fingerprint();
    let mut statement = by.statement(&offer.statement().from.clone());
    change(&mut statement);
    Accepted::accept(
        offer,
        &confirmed,
        statement,
        &by.issuing_key,
        &random(),
        NOW_MS,
    )
    .unwrap_err()
}

/// Goal: offer, acceptance and countersignature, each sent as text, make the same active agreement
/// at both ends; by holding the ceremony.
#[test]
fn the_ceremony() {
    let (a, b) = pair();
    let offered = offer(&a, &b);
    let offer_text = offered.offer().to_armor();

    let at_b = Offer::from_armor(&offer_text, NOW_MS).unwrap();
    let accepted = accept(at_b, &b);
    let acceptance_text = accepted.acceptance().to_armor();

    let at_a = Acceptance::from_armor(&acceptance_text, NOW_MS).unwrap();
    let active_a = offered
        .countersign(at_a, &fingerprint(&b), &a.issuing_key, &random(), NOW_MS)
        .unwrap();
    let countersignature_text = active_a.signed().countersignature().to_armor();

    let at_b = Countersignature::from_armor(&countersignature_text).unwrap();
    let active_b = accepted.activate(at_b, NOW_MS).unwrap();

    assert_eq!(active_a.signed().side(), Side::Offerer);
    assert_eq!(active_b.signed().side(), Side::Accepter);
    assert_eq!(active_a.signed().theirs(), active_b.signed().ours());
    assert_eq!(active_a.signed().ours(), active_b.signed().theirs());
    assert_eq!(active_a.signed().partner_manifest().server(), &b.name);
    let effective = active_b.signed().effective();
    assert!(effective.allows(Direction::Outbound, Operation::Message, "standard"));
}

/// Goal: an offer is signed whole; by flipping one bit of each byte in turn.
#[test]
fn every_byte_of_an_offer_is_signed() {
    let (a, b) = pair();
    let offered = offer(&a, &b);
    let bytes = offered.offer().bytes();
    for at in 0..bytes.len() {
        let mut changed = bytes.to_vec();
        changed[at] ^= 1;
        assert!(Offer::open(changed.into(), NOW_MS).is_err(), "byte {at}");
    }
}

/// Goal: an offer in another's name is not countersigned, and not accepted, once the fingerprints
/// are compared; by an attacker who makes an acceptance and an offer of its own.
#[test]
fn fingerprints_stop_an_impostor() {
    let (a, b) = pair();
    let mallory = Organisation::new("b.example", 3);
    let offered = offer(&a, &b);
    let forged = accept(offered.offer().clone(), &mallory);
    let rejected = offered
        .countersign(
            forged.acceptance().clone(),
            &fingerprint(&b),
            &a.issuing_key,
            &random(),
            NOW_MS,
        )
        .unwrap_err();
    assert_eq!(
        rejected.error,
        AgreementError::WrongFingerprint {
            found: fingerprint(&mallory)
        }
    );
    // The offer is still there, for the true answer.
    let true_answer = accept(rejected.state.offer().clone(), &b);
    rejected
        .state
        .countersign(
            true_answer.acceptance().clone(),
            &fingerprint(&b),
            &a.issuing_key,
            &random(),
            NOW_MS,
        )
        .unwrap();

    let error = Accepted::accept(
        offer(&Organisation::new("a.example", 4), &b)
            .offer()
            .clone(),
        &fingerprint(&a),
        b.statement(&a.name),
        &b.issuing_key,
        &random(),
        NOW_MS,
    )
    .unwrap_err();
    assert!(matches!(error, AgreementError::WrongFingerprint { .. }));
}

/// Goal: a document counts for the pair of servers that it names; by answering offers in the wrong
/// names.
#[test]
fn documents_name_their_pair() {
    let (a, b) = pair();
    let c = Organisation::new("c.example", 3);
    let error = accept_error(offer(&a, &b).offer().clone(), &c, |_| {});
    assert!(matches!(error, AgreementError::OtherPartner { .. }));
    let error = accept_error(offer(&a, &b).offer().clone(), &b, |statement| {
        statement.to = server("c.example");
    });
    assert!(matches!(error, AgreementError::NotForUs { .. }));
    assert_eq!(
        Draft::new(a.statement(&a.name), NOW_MS + DAY_MS).unwrap_err(),
        AgreementError::WithItself
    );
}

/// Goal: an acceptance counts for exactly the offer that it signs; by answering one of two offers
/// that say the same.
#[test]
fn an_acceptance_is_of_one_offer() {
    let (a, b) = pair();
    let answered = accept(offer(&a, &b).offer().clone(), &b);
    let rejected = offer(&a, &b)
        .countersign(
            answered.acceptance().clone(),
            &fingerprint(&b),
            &a.issuing_key,
            &random(),
            NOW_MS,
        )
        .unwrap_err();
    assert_eq!(rejected.error, AgreementError::OtherOffer);
}

/// Goal: a countersignature counts for exactly its two documents, and only by the offerer; by
/// presenting another pair's, and one that the accepter made itself.
#[test]
fn a_countersignature_is_of_one_pair() {
    let (a, b) = pair();
    let (other, _) = active(&a, &b);
    let accepted = accept(offer(&a, &b).offer().clone(), &b);
    let rejected = accepted
        .activate(other.signed().countersignature().clone(), NOW_MS)
        .unwrap_err();
    assert_eq!(
        rejected.error,
        AgreementError::Document(DocumentError::OtherDocuments)
    );

    // The right documents and names, signed by the accepter's own issuing CA; and, to see that
    // nothing else is wrong with it, by the offerer's.
    let keys = [keys(), keys()];
    let [a, b] = [("a.example", 1, &keys[0]), ("b.example", 2, &keys[1])]
        .map(|(name, seed, keys)| Organisation::with_keys(name, seed, &keys[0], &keys[1]));
    let (at_a, _) = active(&a, &b);
    let signed = at_a.signed();
    let body = signed.countersignature().body();
    let check = |key| countersignature(body, key).check(signed.offer(), signed.acceptance());
    assert_eq!(check(&keys[1][1]), Err(DocumentError::BadSignature));
    assert_eq!(check(&keys[0][1]), Ok(()));
}

/// A root's key and an issuing CA's.
fn keys() -> [KeyPair; 2] {
    [(); 2].map(|()| KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap())
}

/// A countersignature that says this, signed with this key, whosever it is.
fn countersignature(body: &CountersignatureBody, key: &KeyPair) -> Countersignature {
    let body = body.to_bytes().unwrap();
    let label = b"entente countersignature";
    let message = [&[24], &label[..], &body].concat();
    let pair = EcdsaKeyPair::from_pkcs8(
        &ECDSA_P256_SHA256_ASN1_SIGNING,
        &key.serialize_der(),
        &random(),
    )
    .unwrap();
    let signature = pair.sign(&random(), &message).unwrap();
    let length = u8::try_from(signature.as_ref().len()).unwrap();
    let bytes = [&body[..], &[length], signature.as_ref()].concat();
    Countersignature::decode(bytes.into()).unwrap()
}

/// Goal: a countersignature counts when it was made in the offer's time, not in the future (PEER-002),
/// and reaches the accepter within a week after; by moving its time and the clock.
#[test]
fn a_countersignature_is_made_in_time() {
    const MINUTE_MS: u64 = 60_000;
    let issuing = keys();
    let a = Organisation::with_keys("a.example", 1, &issuing[0], &issuing[1]);
    let b = Organisation::new("b.example", 2);
    let accepted = accept(offer(&a, &b).offer().clone(), &b);
    let last_ms = accepted.offer().body().answer_by_ms;
    let body = |made_ms| CountersignatureBody {
        from: a.name.clone(),
        to: b.name.clone(),
        offer_sha256: accepted.offer().sha256(),
        acceptance_sha256: accepted.acceptance().sha256(),
        made_ms,
    };
    let activate = |made_ms, now_ms| {
        let signed = countersignature(&body(made_ms), &issuing[1]);
        let activated = accepted.clone().activate(signed, now_ms);
        activated.map(drop).map_err(|rejected| rejected.error)
    };
    assert_eq!(activate(NOW_MS + 5 * MINUTE_MS, NOW_MS), Ok(()));
    assert_eq!(
        activate(NOW_MS + 5 * MINUTE_MS + 1, NOW_MS),
        Err(AgreementError::Document(DocumentError::FromTheFuture))
    );
    assert_eq!(activate(last_ms, last_ms + 7 * DAY_MS), Ok(()));
    let too_late = Err(AgreementError::TooLate);
    assert_eq!(activate(last_ms, last_ms + 7 * DAY_MS + 1), too_late);
    assert_eq!(activate(last_ms + 1, last_ms + 1), too_late);
}

/// Goal: an offer that nobody answers and an acceptance that nobody countersigns end, at the times
/// when nothing may come of them any more; by moving the clock.
#[test]
fn what_is_not_completed_expires() {
    let (a, b) = pair();
    let offered = offer(&a, &b);
    let accepted = accept(offered.offer().clone(), &b);
    let last_ms = offered.offer().body().answer_by_ms;
    let offered = *offered.expire(last_ms).unwrap_err();
    let accepted = *accepted.expire(last_ms + 7 * DAY_MS).unwrap_err();
    let expired = [
        (offered.expire(last_ms + 1).unwrap(), &b),
        (accepted.expire(last_ms + 7 * DAY_MS + 1).unwrap(), &a),
    ];
    for (expired, partner) in expired {
        let agreement = Agreement::Expired(expired);
        assert_eq!(agreement.state(), State::Expired);
        assert_eq!(agreement.partner(), &partner.name);
        assert!(agreement.signed().is_none());
        assert_eq!(Agreement::restore(&agreement.record()).unwrap(), agreement);
    }
}

/// Goal: time is kept: an offer has a last day, an agreement too, a document isn't made in the
/// future, and certificates must be valid; by moving the clock.
#[test]
fn time_is_kept() {
    let (a, b) = pair();
    let late = NOW_MS + 8 * DAY_MS;
    let error = Accepted::accept(
        offer(&a, &b).offer().clone(),
        &fingerprint(&a),
        b.statement(&a.name),
        &b.issuing_key,
        &random(),
        late,
    )
    .unwrap_err();
    assert_eq!(error, AgreementError::TooLate);

    let error = accept_error(offer(&a, &b).offer().clone(), &b, |statement| {
        statement.expires_ms = NOW_MS;
    });
    assert_eq!(error, AgreementError::Expired);

    let bytes = offer(&a, &b).offer().bytes().clone();
    assert_eq!(
        Offer::open(bytes.clone(), NOW_MS - 10 * 60 * 1000),
        Err(DocumentError::FromTheFuture)
    );
    let after_the_root = 2_500_000_000_000;
    assert!(matches!(
        Offer::open(bytes.clone(), after_the_root),
        Err(DocumentError::Manifest(_))
    ));
    assert!(Offer::restore(bytes).is_ok());

    let (active, _) = active(&a, &b);
    let end = NOW_MS + 365 * DAY_MS;
    let active = *active.expire(end - 1).unwrap_err();
    let suspended = active.clone().suspend(String::new(), NOW_MS);
    assert!(suspended.expire(end).is_ok());
    let expired = active.expire(end).unwrap();
    assert_eq!(expired.at_ms(), end);
}

/// Goal: statements that leave nothing to do, name no common version, amend what is not there or
/// are out of order make no agreement; by each of them.
#[test]
fn statements_must_fit() {
    let (a, b) = pair();
    let error = accept_error(offer(&a, &b).offer().clone(), &b, |statement| {
        statement.terms.outbound.clear();
        statement.terms.inbound.clear();
    });
    assert_eq!(error, AgreementError::NothingInCommon);
    let error = accept_error(offer(&a, &b).offer().clone(), &b, |statement| {
        statement.terms.ttl.min_seconds = 40 * 86_400;
        statement.terms.ttl.max_seconds = 50 * 86_400;
    });
    assert_eq!(error, AgreementError::NothingInCommon);
    let error = accept_error(offer(&a, &b).offer().clone(), &b, |statement| {
        statement.terms.ttl.min_seconds = 0;
    });
    assert_eq!(error, AgreementError::Terms(TermsError::Ttl));
    let error = accept_error(offer(&a, &b).offer().clone(), &b, |statement| {
        statement.versions = VersionSet::new([Version(2)]).unwrap();
    });
    assert_eq!(
        error.to_string(),
        "a.example speaks the protocol versions 1, b.example speaks 2: one of them must be upgraded"
    );
    let error = accept_error(offer(&a, &b).offer().clone(), &b, |statement| {
        statement.serial = 2;
        statement.previous = Digest::of(b"an earlier one");
    });
    assert_eq!(error, AgreementError::NotTheFirst);
}

/// Goal: a document's keys must be its maker's: nobody signs with another's manifest; by an offer
/// that carries the true manifest of another organisation.
#[test]
fn nobody_borrows_keys() {
    let (a, b) = pair();
    let mallory = Organisation::new("m.example", 3);
    let body = OfferBody {
        statement: a.statement(&b.name),
        answer_by_ms: NOW_MS + DAY_MS,
    };
    assert_eq!(
        Document::make(&body, &mallory.issuing_key, &random()),
        Err(DocumentError::BadSignature)
    );
}

/// Goal: the wrong paper is named for what it is; by handing in each document where another is due.
#[test]
fn the_wrong_paper_is_named() {
    let (a, b) = pair();
    let (active, _) = active(&a, &b);
    let signed = active.signed();
    assert_eq!(
        Offer::from_armor(&signed.acceptance().to_armor(), NOW_MS)
            .unwrap_err()
            .to_string(),
        "this is an acceptance, not an offer"
    );
    assert_eq!(
        Countersignature::from_armor(&signed.offer().to_armor()).unwrap_err(),
        DocumentError::Armor(ArmorError::OtherKind {
            expected: armor::Kind::Countersignature,
            found: armor::Kind::Offer
        })
    );
    // Relabelled, it still does not pass: the label is in the signature, the shape is another.
    let relabelled = armor::write(armor::Kind::Offer, signed.acceptance().bytes());
    assert!(Offer::from_armor(&relabelled, NOW_MS).is_err());
}

/// Goal: every state goes into the store and comes back the same; by writing and reading each.
#[test]
fn every_state_is_stored() {
    let (a, b) = pair();
    let (active, _) = active(&a, &b);
    let offered = offer(&a, &b);
    let accepted = accept(offered.offer().clone(), &b);
    let reason = || "because".to_owned();
    let expired = active.clone().expire(NOW_MS + 400 * DAY_MS).unwrap();
    let states = [
        (Agreement::Offered(offered.clone()), State::Offered),
        (Agreement::Accepted(accepted.clone()), State::Accepted),
        (Agreement::Active(active.clone()), State::Active),
        (
            Agreement::Suspended(active.clone().suspend(reason(), NOW_MS)),
            State::Suspended,
        ),
        (Agreement::Expired(expired.clone()), State::Expired),
        (
            Agreement::Revoked(offered.revoke(reason(), NOW_MS)),
            State::Revoked,
        ),
        (
            Agreement::Revoked(accepted.revoke(reason(), NOW_MS)),
            State::Revoked,
        ),
        (
            Agreement::Revoked(active.clone().revoke(reason(), NOW_MS)),
            State::Revoked,
        ),
        (
            Agreement::Revoked(expired.revoke(reason(), NOW_MS)),
            State::Revoked,
        ),
    ];
    for (agreement, state) in states {
        assert_eq!(agreement.state(), state);
        let partner = if state == State::Accepted { &a } else { &b };
        if !matches!(&agreement, Agreement::Revoked(_)) {
            assert_eq!(agreement.partner(), &partner.name);
        }
        let stored = postcard::to_stdvec(&agreement.record()).unwrap();
        let record: Record = postcard::from_bytes(&stored).unwrap();
        assert_eq!(Agreement::restore(&record).unwrap(), agreement);
    }
    let suspended = active.clone().suspend(reason(), NOW_MS);
    assert_eq!(suspended.reason(), "because");
    assert_eq!(suspended.resume(), active);
}

/// Goal: a record that was changed in the store does not come back; by exchanging a document.
#[test]
fn a_damaged_record_is_noticed() {
    let (a, b) = pair();
    let (active, _) = active(&a, &b);
    let (another, _) = self::active(&a, &b);
    let Record::Active(mut record) = Agreement::Active(active).record() else {
        panic!("another state");
    };
    record.acceptance = another.signed().acceptance().bytes().clone();
    assert_eq!(
        Agreement::restore(&Record::Active(record)),
        Err(DocumentError::OtherDocuments)
    );
    let accepted = accept(offer(&a, &b).offer().clone(), &b);
    let Record::Accepted(mut record) = Agreement::Accepted(accepted).record() else {
        panic!("another state");
    };
    record.acceptance = another.signed().acceptance().bytes().clone();
    assert_eq!(
        Agreement::restore(&Record::Accepted(record)),
        Err(DocumentError::OtherDocuments)
    );
}

/// Goal: the countersignature alone does not make a pair of documents: the acceptance must be of the
/// offer (PEER-011); by a record whose countersignature is truly signed for documents that are not
/// of each other.
#[test]
fn a_signed_record_is_of_one_agreement() {
    let issuing = keys();
    let a = Organisation::with_keys("a.example", 1, &issuing[0], &issuing[1]);
    let b = Organisation::new("b.example", 2);
    let (active, _) = active(&a, &b);
    let swapped = acceptance(offer(&a, &b).offer().clone(), &b);
    let body = CountersignatureBody {
        acceptance_sha256: swapped.sha256(),
        ..active.signed().countersignature().body().clone()
    };
    let Record::Active(mut record) = Agreement::Active(active).record() else {
        panic!("another state");
    };
    record.acceptance = swapped.bytes().clone();
    record.countersignature = countersignature(&body, &issuing[1]).bytes().clone();
    assert_eq!(
        Agreement::restore(&Record::Active(record)),
        Err(DocumentError::OtherDocuments)
    );
}

/// Goal: an administrator is not misled by text of the other side's: it stands in quotation marks, and
/// characters that are not seen are not even taken (ENC-008); by names that try.
#[test]
fn summaries_are_not_spoofed() {
    let (a, b) = pair();
    let mut statement = a.statement(&b.name);
    let name = "staff.\" It ends tomorrow".to_owned();
    statement.terms.outbound = [(Operation::Message, UserTypes::from_names([name]))].into();
    statement.contact = "a\". Files of up to 1 byte. \"b".to_owned();
    let make = |statement: &Statement| {
        let draft = Draft::new(statement.clone(), NOW_MS + DAY_MS);
        draft.map(|draft| draft.offer(&a.issuing_key, &random()).map_err(|r| r.error))
    };
    let offered = make(&statement).unwrap().unwrap();
    let text = offered.offer().summary().join("\n");
    assert!(
        text.contains(r#"only the user type "staff.\" It ends tomorrow"."#),
        "{text}"
    );
    assert!(
        text.contains(r#"Contact: "a\". Files of up to 1 byte. \"b"."#),
        "{text}"
    );
    // What is allowed and hardly meant is pointed out.
    let mut odd = a.statement(&b.name);
    odd.expires_ms = NOW_MS + 20 * 366 * DAY_MS;
    odd.terms.waiting_bytes_max = 0;
    let lines = |statement: Statement, answer_by_ms| {
        let offered = Draft::new(statement, answer_by_ms).unwrap();
        let offered = offered.offer(&a.issuing_key, &random()).unwrap();
        let lines = offered.offer().summary();
        lines
            .iter()
            .filter(|line| line.starts_with("Beware"))
            .count()
    };
    assert_eq!(lines(odd.clone(), odd.expires_ms + 1), 3);
    let mut boundless = a.statement(&b.name);
    boundless.terms.waiting_bytes_max = u64::MAX;
    assert_eq!(lines(boundless.clone(), NOW_MS + DAY_MS), 1);
    boundless.terms.waiting_bytes_max = 1 << 40;
    assert_eq!(lines(boundless, NOW_MS + DAY_MS), 0);
    assert_eq!(lines(a.statement(&b.name), NOW_MS + DAY_MS), 0);
    for unseen in ['\u{202e}', '\u{2028}', '\u{200b}', '\u{7f}'] {
        let mut changed = statement.clone();
        changed.contact = format!("a{unseen}b");
        assert!(make(&changed).unwrap().is_err());
        let mut changed = statement.clone();
        let name = format!("a{unseen}b");
        changed.terms.inbound = [(Operation::Message, UserTypes::from_names([name]))].into();
        assert!(make(&changed).is_err());
    }
}

/// Goal: an administrator reads in plain words what is signed; by the whole text of a narrowed
/// offer, and of what follows from both sides.
#[test]
fn summaries() {
    let (a, b) = pair();
    let mut statement = a.statement(&b.name);
    let staff = UserTypes::from_names(["staff".to_owned(), "board".to_owned()]);
    statement.terms.outbound = [(Operation::Message, staff)].into();
    statement.terms.inbound = [].into();
    let offered: Offered = Draft::new(statement, NOW_MS + 7 * DAY_MS)
        .unwrap()
        .offer(&a.issuing_key, &random())
        .unwrap();
    assert_eq!(
        offered.offer().summary(),
        [
            "a.example offers b.example an agreement, to be accepted by 2026-11-29 10:15 UTC.",
            "People of a.example may exchange messages with people of b.example, of a.example \
             only the user types \"board\", \"staff\".",
            "People of b.example may do nothing towards people of a.example.",
            "Messages live between 1 second and 30 days.",
            "Up to 1 GiB for people of a.example may wait there.",
            "Files of up to 100 MiB.",
            "It ends on 2027-11-22 10:15 UTC.",
            "a.example is reached at a.example:8448.",
            "Contact: \"admin at a.example\".",
            "a.example speaks protocol version 1.",
        ]
    );
    let accepted = accept(offered.offer().clone(), &b);
    let active = offered
        .countersign(
            accepted.acceptance().clone(),
            &fingerprint(&b),
            &a.issuing_key,
            &random(),
            NOW_MS,
        )
        .unwrap();
    assert_eq!(
        active.signed().summary()[..2],
        [
            "People of a.example may exchange messages with people of b.example, of a.example \
             only the user types \"board\", \"staff\".",
            "People of b.example may do nothing towards people of a.example.",
        ]
    );
}
