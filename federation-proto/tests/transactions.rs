//! Transactions, proofs, receipts and manifests: what verifies, and all that must not.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

mod support;

use std::collections::BTreeMap;

use bytes::Bytes;
use federation_proto::codec::{DecodeError, Wire};
use federation_proto::envelope::Kind;
use federation_proto::exchange::ExchangeProof;
use federation_proto::hash::Digest;
use federation_proto::ids::ServerName;
use federation_proto::keys::{EnvelopeKey, IssuingKey};
use federation_proto::limits::FORMER_ROOT_MS_MAX;
use federation_proto::manifest::{
    self, FormerRoot, Manifest, ManifestBody, ManifestError, SignError,
};
use federation_proto::organisation::{CertificateError, OrganisationIdentity};
use federation_proto::receipt::{self, ItemResult, LaneHead, ReceiptBody};
use federation_proto::refusal::{Refusal, RefusalCode};
use federation_proto::transaction::{self, EnvelopeProof, Link, VerifyError, sign};
use rcgen::{Issuer, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384};
use support::{DAY_MS, NOW_MS, Organisation, authority, lane, link, outgoing, random, server};

fn pair() -> (Organisation, Organisation) {
    (
        Organisation::new("a.example", 1),
        Organisation::new("b.example", 2),
    )
}

fn transaction_bytes(a: &Organisation, b: &Organisation, count: u64) -> Bytes {
    let envelopes: Vec<_> = (1..=count)
        .map(|n| outgoing(lane(1), n, format!("payload {n}").as_bytes()))
        .collect();
    sign(&a.envelope_key, &link(a, b, 5), &envelopes)
        .unwrap()
        .bytes
}

/// Goal: what one side signs the other verifies, each envelope also alone; by transactions of
/// several sizes, whose proofs go through their encoding.
#[test]
fn signed_is_verified_and_each_envelope_is_proved_alone() {
    let (a, b) = pair();
    let manifest = a.manifest(1);
    for count in [1, 2, 3, 7, 64] {
        let verified = transaction::decode(transaction_bytes(&a, &b, count))
            .unwrap()
            .verify(&manifest, &a.name, &b.name, NOW_MS)
            .unwrap();
        assert_eq!(verified.envelopes().len(), usize::try_from(count).unwrap());
        for (envelope, n) in verified.envelopes().iter().zip(1..) {
            assert_eq!(envelope.header().sequence, n);
            assert_eq!(envelope.payload(), format!("payload {n}"));
            assert_eq!(envelope.position_hash(), envelope.header().position_hash());
            let proof = EnvelopeProof::from_bytes(envelope.proof().to_bytes().unwrap()).unwrap();
            let alone = proof
                .verify(
                    envelope.bytes().clone(),
                    &manifest,
                    &a.name,
                    &b.name,
                    NOW_MS,
                )
                .unwrap();
            assert_eq!(alone.header(), envelope.header());
            assert_eq!(alone.position_hash(), envelope.position_hash());
            assert_eq!(alone.proof(), proof);
        }
    }
}

/// Goal: a transaction whose positions of a lane do not ascend is refused, whatever its signature, for no
/// origin could use its receipt, and several lanes may be mixed; by orders, one place twice among them.
#[test]
fn a_lane_stands_in_its_order() {
    let (a, b) = pair();
    let decoded = |places: &[(u8, u64)]| {
        let envelopes: Vec<_> = places
            .iter()
            .map(|(n, sequence)| outgoing(lane(*n), *sequence, b"x"))
            .collect();
        let signed = sign(&a.envelope_key, &link(&a, &b, 5), &envelopes).unwrap();
        transaction::decode(signed.bytes).map(|_| ())
    };
    assert_eq!(decoded(&[(1, 1), (2, 7), (1, 2), (2, 8), (3, 1)]), Ok(()));
    assert_eq!(decoded(&[(1, 5), (1, 9)]), Ok(()), "gaps are judged later");
    for wrong in [
        &[(1, 2), (1, 1), (1, 2)][..],
        &[(1, 2), (2, 1), (1, 1)],
        &[(2, 1), (1, 3), (1, 3)],
    ] {
        let refused = decoded(wrong).unwrap_err();
        assert_eq!(refused, DecodeError::LaneOrder(lane(1)));
        assert!(refused.to_string().contains("ENV-015"), "{refused}");
    }
}

/// Goal: a tombstone that would expire is neither written nor read; by one, and its bytes made by hand.
#[test]
fn a_tombstone_does_not_expire() {
    let (a, b) = pair();
    let mut tombstone = outgoing(lane(1), 1, b"x");
    tombstone.kind = Kind::Tombstone;
    assert!(sign(&a.envelope_key, &link(&a, &b, 5), &[tombstone.clone()]).is_err());
    tombstone.expires_ms = 0;
    let signed = sign(&a.envelope_key, &link(&a, &b, 5), &[tombstone]).unwrap();
    let mut bytes = signed.bytes.to_vec();
    assert!(transaction::decode(signed.bytes).is_ok());
    // The payload's one byte, its hash and its length stand behind the time.
    let last_of_expires = bytes.len() - 1 - 32 - 4 - 1;
    bytes[last_of_expires] = 1;
    assert_eq!(
        transaction::decode(bytes.into()).unwrap_err(),
        DecodeError::Invalid("a tombstone's expires")
    );
}

/// Goal: a stranger who has both manifests and nothing else is convinced that one server sent a
/// transaction and the other took it, and by nothing that was changed or put together; by flipping a bit of
/// each byte of the proof, by the wrong manifests, and by another transaction's signature.
#[test]
fn an_exchange_is_proved_to_a_stranger() {
    let (a, b) = pair();
    let (origin, destination) = (a.manifest(1), b.manifest(1));
    let exchange = |count: u64| {
        let envelopes: Vec<_> = (1..=count).map(|n| outgoing(lane(1), n, b"x")).collect();
        let signed = sign(&a.envelope_key, &link(&a, &b, 5), &envelopes).unwrap();
        let head = LaneHead {
            sequence: count,
            chain_hash: Digest::of(b"chain"),
        };
        let receipt = ReceiptBody {
            link: link(&a, &b, 5),
            root: signed.root,
            at_ms: NOW_MS,
            results: vec![ItemResult::Accepted; envelopes.len()],
            lanes: BTreeMap::from([(lane(1), head)]),
        };
        ExchangeProof {
            signature: signed.signature,
            receipt: receipt.sign(&b.envelope_key).unwrap(),
        }
    };
    let proof = exchange(3);
    let bytes = proof.to_bytes().unwrap();
    let read = ExchangeProof::from_bytes(bytes.clone()).unwrap();
    let receipt = read.verify(&origin, &destination).unwrap();
    assert_eq!(receipt.body().lanes[&lane(1)].sequence, 3);
    for at in 0..bytes.len() {
        let mut changed = bytes.to_vec();
        changed[at] ^= 1;
        let accepted = ExchangeProof::from_bytes(changed)
            .ok()
            .and_then(|proof| proof.verify(&origin, &destination).ok());
        assert!(accepted.is_none(), "byte {at}");
    }
    assert!(proof.verify(&destination, &origin).is_err());
    assert!(proof.verify(&origin, &origin).is_err());
    let mixed = ExchangeProof {
        signature: exchange(2).signature,
        ..proof
    };
    assert_eq!(
        mixed.verify(&origin, &destination),
        Err(VerifyError::BadSignature)
    );
}

/// Goal: no byte of a transaction can be changed; by flipping one bit of each byte in turn.
#[test]
fn every_byte_is_signed() {
    let (a, b) = pair();
    let manifest = a.manifest(1);
    let bytes = transaction_bytes(&a, &b, 3);
    for at in 0..bytes.len() {
        let mut changed = bytes.to_vec();
        changed[at] ^= 1;
        let accepted = transaction::decode(changed.into())
            .ok()
            .and_then(|t| t.verify(&manifest, &a.name, &b.name, NOW_MS).ok());
        assert!(accepted.is_none(), "byte {at}");
    }
}

/// Goal: a transaction counts only from whom, for whom, under whose manifest and while the key is
/// valid; by changing each expectation.
#[test]
fn the_right_transaction_in_the_wrong_place() {
    let (a, b) = pair();
    let c = Organisation::new("c.example", 3);
    let decoded = transaction::decode(transaction_bytes(&a, &b, 1)).unwrap();
    let verify = |manifest: &Manifest, origin: &ServerName, destination: &ServerName, at_ms| {
        decoded
            .clone()
            .verify(manifest, origin, destination, at_ms)
            .unwrap_err()
    };
    let manifest = a.manifest(1);
    assert!(matches!(
        verify(&manifest, &c.name, &b.name, NOW_MS),
        VerifyError::WrongOrigin { .. }
    ));
    assert!(matches!(
        verify(&manifest, &a.name, &c.name, NOW_MS),
        VerifyError::WrongDestination { .. }
    ));
    assert!(matches!(
        verify(&c.manifest(1), &a.name, &b.name, NOW_MS),
        VerifyError::WrongManifest { .. }
    ));
    let id = a.envelope_key.id();
    for at_ms in [NOW_MS - 2 * DAY_MS, NOW_MS + 89 * DAY_MS] {
        assert_eq!(
            verify(&manifest, &a.name, &b.name, at_ms),
            VerifyError::KeyNotValid(id)
        );
    }
    let other = Organisation {
        envelope_key: EnvelopeKey::from_seed(&[9; 32]).unwrap(),
        ..Organisation::new("a.example", 9)
    };
    assert_eq!(
        verify(&other.manifest(1), &other.name, &b.name, NOW_MS),
        VerifyError::UnknownKey(id)
    );
}

/// Goal: a proof serves its own envelope and no other; by trying each proof of a transaction on each
/// of its envelopes, and on a changed payload.
#[test]
fn a_proof_proves_one_envelope() {
    let (a, b) = pair();
    let manifest = a.manifest(1);
    let verified = transaction::decode(transaction_bytes(&a, &b, 5))
        .unwrap()
        .verify(&manifest, &a.name, &b.name, NOW_MS)
        .unwrap();
    for (i, one) in verified.envelopes().iter().enumerate() {
        let proof = one.proof();
        for (j, other) in verified.envelopes().iter().enumerate() {
            let result = proof.verify(other.bytes().clone(), &manifest, &a.name, &b.name, NOW_MS);
            assert_eq!(result.is_ok(), i == j);
        }
        let mut changed = one.bytes().to_vec();
        *changed.last_mut().unwrap() ^= 1;
        let error = proof
            .verify(changed.into(), &manifest, &a.name, &b.name, NOW_MS)
            .unwrap_err();
        assert_eq!(error, VerifyError::PayloadHash(i));
    }
}

/// Goal: the envelopes of a transaction share origin, destination, key and epoch, else it does not
/// decode; by splicing envelopes of two transactions together that differ in one of them.
#[test]
fn a_transaction_has_one_origin() {
    let (a, b) = pair();
    let same = link(&a, &b, 5);
    let first = sign(&a.envelope_key, &same, &[outgoing(lane(1), 1, b"payload")]).unwrap();
    let envelope = [outgoing(lane(2), 1, b"payload")];
    let signed = |key: &EnvelopeKey, link: &Link| sign(key, link, &envelope).unwrap().bytes;
    // After version, suite, signature and the length of the list.
    let start = 2 + 1 + 64 + 4;
    let spliced = |other: Bytes| {
        let mut mixed = first.bytes.to_vec();
        mixed.extend_from_slice(&other[start..]);
        let length = u32::try_from(mixed.len() - start).unwrap();
        mixed[start - 4..start].copy_from_slice(&length.to_be_bytes());
        transaction::decode(mixed.into()).map(|t| t.size())
    };
    assert_eq!(spliced(signed(&a.envelope_key, &same)), Ok(2));
    let c = server("c.example");
    let others = [
        signed(&b.envelope_key, &same),
        signed(
            &a.envelope_key,
            &Link {
                origin: c.clone(),
                ..same.clone()
            },
        ),
        signed(
            &a.envelope_key,
            &Link {
                destination: c,
                ..same.clone()
            },
        ),
        signed(
            &a.envelope_key,
            &Link {
                link_epoch: 6,
                ..same.clone()
            },
        ),
    ];
    for other in others {
        assert_eq!(
            spliced(other),
            Err(DecodeError::Invalid("the envelopes' common part"))
        );
    }
}

/// Goal: a receipt proves what the destination answered, to this link only; by verifying it as it
/// is, changed in each byte, and for other links.
#[test]
fn receipts() {
    let (a, b) = pair();
    let link_ab = link(&a, &b, 5);
    let body = ReceiptBody {
        link: link_ab.clone(),
        root: Digest::of(b"root"),
        at_ms: NOW_MS,
        results: vec![
            ItemResult::Accepted,
            ItemResult::Duplicate,
            ItemResult::Refused(Refusal::new(RefusalCode::OutOfScope, "not granted")),
            ItemResult::Deferred {
                code: RefusalCode::LaneGap,
                retry_after_ms: 0,
            },
        ],
        lanes: BTreeMap::from([(
            lane(1),
            LaneHead {
                sequence: 3,
                chain_hash: Digest::of(b"chain"),
            },
        )]),
    };
    let bytes = body.sign(&b.envelope_key).unwrap();
    let manifest = b.manifest(1);
    let receipt = receipt::decode(bytes.clone())
        .unwrap()
        .verify(&manifest, &link_ab, NOW_MS)
        .unwrap();
    assert_eq!(*receipt.body(), body);
    for at in 0..bytes.len() {
        let mut changed = bytes.to_vec();
        changed[at] ^= 1;
        let accepted = receipt::decode(changed.into())
            .ok()
            .and_then(|receipt| receipt.verify(&manifest, &link_ab, NOW_MS).ok());
        assert!(accepted.is_none(), "byte {at}");
    }
    for other in [link(&b, &a, 5), link(&a, &b, 6)] {
        let receipt = receipt::decode(bytes.clone()).unwrap();
        assert!(receipt.verify(&manifest, &other, NOW_MS).is_err());
    }
    // The origin's own signature is not an answer.
    let by_origin = receipt::decode(body.sign(&a.envelope_key).unwrap()).unwrap();
    assert!(by_origin.verify(&manifest, &link_ab, NOW_MS).is_err());
}

/// Goal: a reason of any length and any characters travels, shortened and cleaned, and never keeps
/// a receipt from being signed; by a hostile one.
#[test]
fn reasons_are_cleaned() {
    let (a, b) = pair();
    let reason = format!("line\nbreak \u{1b}[31m{}", "ä".repeat(1000));
    let body = ReceiptBody {
        link: link(&a, &b, 5),
        root: Digest::ZERO,
        at_ms: NOW_MS,
        results: vec![ItemResult::Refused(Refusal::new(
            RefusalCode::Quota,
            reason,
        ))],
        lanes: BTreeMap::new(),
    };
    let receipt = receipt::decode(body.sign(&b.envelope_key).unwrap())
        .unwrap()
        .verify(&b.manifest(1), &body.link, NOW_MS)
        .unwrap();
    let ItemResult::Refused(refusal) = &receipt.body().results[0] else {
        panic!("another result");
    };
    assert!(refusal.reason.starts_with("line break  [31mä"));
    assert_eq!(refusal.reason.len(), 512);
}

/// Goal: a manifest never goes back, forks or changes hands; by presenting older ones, another one
/// of the same serial, another server's and a changed one.
#[test]
fn manifests_go_forward_only() {
    let (a, b) = pair();
    let current = a.manifest(5);
    let verify = |bytes, server, root: &Bytes, at_ms| {
        manifest::decode(bytes)
            .unwrap()
            .verify(server, root, Some(&current), at_ms)
    };
    assert!(verify(a.manifest_bytes(6), &a.name, &a.root, NOW_MS).is_ok());
    assert!(verify(current.bytes().clone(), &a.name, &a.root, NOW_MS).is_ok());
    assert_eq!(
        verify(a.manifest_bytes(4), &a.name, &a.root, NOW_MS),
        Err(ManifestError::Rollback { known: 5, found: 4 })
    );
    // The same content, but another signature: ECDSA signatures are never the same twice.
    assert_eq!(
        verify(a.manifest_bytes(5), &a.name, &a.root, NOW_MS),
        Err(ManifestError::Fork(5))
    );
    assert!(matches!(
        verify(a.manifest_bytes(6), &b.name, &a.root, NOW_MS),
        Err(ManifestError::WrongServer { .. })
    ));
    assert_eq!(
        verify(a.manifest_bytes(6), &a.name, &b.root, NOW_MS),
        Err(ManifestError::Certificate(
            CertificateError::NotSignedByRoot("issuing certificate")
        ))
    );
    let before_the_root = 1_700_000_000_000;
    assert_eq!(
        verify(a.manifest_bytes(6), &a.name, &a.root, before_the_root),
        Err(ManifestError::Certificate(CertificateError::NotValidNow(
            "root certificate"
        )))
    );
    // Known of another server, or signed tomorrow.
    let others = manifest::decode(a.manifest_bytes(6)).unwrap();
    assert!(matches!(
        others.verify(&a.name, &a.root, Some(&b.manifest(1)), NOW_MS),
        Err(ManifestError::WrongServer { .. })
    ));
    assert_eq!(
        verify(a.manifest_bytes(6), &a.name, &a.root, NOW_MS - 2 * DAY_MS),
        Err(ManifestError::FromTheFuture)
    );
    let bytes = a.manifest_bytes(6);
    for at in 0..bytes.len() {
        let mut changed = bytes.to_vec();
        changed[at] ^= 1;
        let accepted = manifest::decode(changed.into())
            .ok()
            .and_then(|m| m.verify(&a.name, &a.root, None, NOW_MS).ok());
        assert!(accepted.is_none(), "byte {at}");
    }
}

/// Goal: a key counts for what is received before its revocation and not from then on, also where a hub
/// stamped the receipt; by one envelope at both times, alone and in its transaction.
#[test]
fn revoked_keys_count_for_what_was_received_before() {
    let (a, b) = pair();
    let mut body = a.manifest_body(2);
    body.envelope_keys[0].revoked_ms = Some(NOW_MS);
    let bytes = body.sign(&a.issuing_key, &random()).unwrap();
    let manifest = manifest::decode(bytes)
        .unwrap()
        .verify(&a.name, &a.root, Some(&a.manifest(1)), NOW_MS)
        .unwrap();
    let signed = sign(
        &a.envelope_key,
        &link(&a, &b, 1),
        &[outgoing(lane(1), 1, b"one")],
    )
    .unwrap();
    let verify = |at_ms| {
        transaction::decode(signed.bytes.clone())
            .unwrap()
            .verify(&manifest, &a.name, &b.name, at_ms)
    };
    let revoked = VerifyError::KeyRevoked(a.envelope_key.id());
    let before = verify(NOW_MS - 1).unwrap();
    assert_eq!(verify(NOW_MS).unwrap_err(), revoked);
    let envelope = &before.envelopes()[0];
    let prove = |at_ms| {
        let bytes = envelope.bytes().clone();
        envelope
            .proof()
            .verify(bytes, &manifest, &a.name, &b.name, at_ms)
    };
    assert!(prove(NOW_MS - 1).is_ok());
    assert_eq!(prove(NOW_MS).unwrap_err(), revoked);
}

/// Goal: a revocation is never taken back or moved to a later time, an issuing CA that another has followed
/// signs nothing any more, and no serial is used up ahead of its time; by manifests that each try one.
#[test]
fn what_a_thief_may_not_undo() {
    let (root_key, first_key, second_key) = (
        KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap(),
        KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap(),
        KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap(),
    );
    let first = Organisation::with_keys("a.example", 1, &root_key, &first_key);
    let root_params = authority("a.example root", 1);
    let mut params = authority("a.example issuing", 0);
    params.not_before = rcgen::date_time_ymd(2026, 6, 1);
    let issuer = Issuer::from_params(&root_params, &root_key);
    let renewed = params.signed_by(&second_key, &issuer).unwrap();
    let second = Organisation {
        name: first.name.clone(),
        root: first.root.clone(),
        issuing: Bytes::copy_from_slice(renewed.der()),
        issuing_key: IssuingKey::from_pkcs8(&second_key.serialize_der(), &random()).unwrap(),
        envelope_key: EnvelopeKey::from_seed(&[2; 32]).unwrap(),
    };
    let take = |by: &Organisation, body: &ManifestBody, current: &Manifest| {
        manifest::decode(body.sign(&by.issuing_key, &random()).unwrap())
            .unwrap()
            .verify(&first.name, &first.root, Some(current), NOW_MS)
    };
    let id = first.envelope_key.id();
    let mut revoking = first.manifest_body(2);
    revoking.envelope_keys[0].revoked_ms = Some(NOW_MS);
    let known = take(&first, &revoking, &first.manifest(1)).unwrap();
    let again = |since_ms| {
        let mut body = first.manifest_body(3);
        body.envelope_keys[0].revoked_ms = since_ms;
        take(&first, &body, &known).map(|_| ())
    };
    for since_ms in [None, Some(NOW_MS + 1)] {
        assert_eq!(again(since_ms), Err(ManifestError::RevocationWithdrawn(id)));
    }
    assert_eq!(again(Some(NOW_MS - DAY_MS)), Ok(()));
    let mut without = first.manifest_body(3);
    without.envelope_keys[0].public = *second.envelope_key.public();
    assert!(take(&first, &without, &known).is_ok());

    // The renewed CA takes over, whoever holds the former one's key.
    let renewed = take(&second, &second.manifest_body(3), &first.manifest(1)).unwrap();
    let by_thief = take(&first, &first.manifest_body(4), &renewed);
    assert_eq!(by_thief, Err(ManifestError::FormerIssuer));

    let ahead = first.manifest_body(NOW_MS + DAY_MS);
    let by_thief = take(&first, &ahead, &first.manifest(1));
    assert_eq!(by_thief, Err(ManifestError::SerialAhead(NOW_MS + DAY_MS)));
}

/// Goal: a manifest may name roots that its organisation had before, of the same name, until a bounded time; by a true
/// one, the present root itself, another organisation's, a certificate that did not sign itself, and noise.
#[test]
fn former_roots() {
    let (a, b) = pair();
    let before = Organisation::new("a.example", 3);
    let take = |former: &Bytes| {
        let mut body = a.manifest_body(2);
        body.former_roots = vec![FormerRoot {
            root: former.clone(),
            until_ms: NOW_MS,
        }];
        let bytes = body.sign(&a.issuing_key, &random()).unwrap();
        let read = manifest::decode(bytes.clone()).unwrap();
        assert_eq!(read.to_bytes().unwrap(), bytes);
        let taken = read.verify(&a.name, &a.root, Some(&a.manifest(1)), NOW_MS);
        taken.map(|taken| taken.body().former_roots.clone())
    };
    assert_eq!(take(&before.root).unwrap()[0].root, before.root);
    let other = CertificateError::OtherOrganisation;
    for (wrong, why) in [
        (&a.root, other),
        (&b.root, other),
        (
            &before.issuing,
            CertificateError::NotSignedByRoot("former root certificate"),
        ),
        (
            &Bytes::from_static(b"noise"),
            CertificateError::Malformed("former root certificate"),
        ),
    ] {
        assert_eq!(take(wrong), Err(ManifestError::Certificate(why)));
    }
}

/// Goal: no manifest is signed that every decoder would refuse; by bodies that are each wrong in one
/// thing.
#[test]
fn manifests_that_nobody_reads_are_not_signed() {
    fn former(root: u8, until_ms: u64) -> FormerRoot {
        let root = vec![root].into();
        FormerRoot { root, until_ms }
    }
    let (a, _) = pair();
    type Change = fn(&mut ManifestBody);
    let wrong: [Change; 11] = [
        |body| body.envelope_keys[0].revoked_ms = Some(body.envelope_keys[0].not_after_ms),
        |body| body.envelope_keys.clear(),
        |body| body.envelope_keys.push(body.envelope_keys[0]),
        |body| {
            let mut again = body.envelope_keys[0];
            again.not_after_ms += 1;
            body.envelope_keys.push(again);
        },
        |body| body.envelope_keys[0].not_after_ms = body.envelope_keys[0].not_before_ms,
        |body| body.tls_pins.clear(),
        |body| body.tls_pins.push(body.tls_pins[0]),
        |body| body.issuing_certificate = vec![0; 4097].into(),
        |body| body.former_roots = vec![former(1, body.issued_ms + FORMER_ROOT_MS_MAX + 1)],
        |body| body.former_roots = vec![former(1, 1), former(1, 2)],
        |body| body.former_roots = [1, 2, 3].map(|n| former(n, 1)).to_vec(),
    ];
    for (index, change) in wrong.into_iter().enumerate() {
        let mut body = a.manifest_body(1);
        change(&mut body);
        let signed = body.sign(&a.issuing_key, &random());
        assert!(
            matches!(signed, Err(SignError::Encode(_))),
            "change {index}"
        );
    }
}

/// Goal: only a P-256 root and a P-256 issuing CA of depth 0 below it are an organisation; by
/// certificates that are each wrong in one thing.
#[test]
fn organisations() {
    let p256 = || KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let (root_key, issuing_key) = (p256(), p256());
    let root_params = authority("root", 1);
    let root = root_params.self_signed(&root_key).unwrap();
    let issuer = Issuer::from_params(&root_params, &root_key);
    let der = |certificate: &rcgen::Certificate| Bytes::copy_from_slice(certificate.der());
    let parse = |root: &rcgen::Certificate, issuing: &rcgen::Certificate| {
        OrganisationIdentity::parse(der(root), der(issuing), NOW_MS)
    };

    let good = authority("issuing", 0)
        .signed_by(&issuing_key, &issuer)
        .unwrap();
    assert!(parse(&root, &good).is_ok());

    let deep = authority("issuing", 1)
        .signed_by(&issuing_key, &issuer)
        .unwrap();
    assert_eq!(
        parse(&root, &deep),
        Err(CertificateError::NotAnAuthority("issuing certificate"))
    );
    let mut leaf_params = authority("issuing", 0);
    leaf_params.is_ca = rcgen::IsCa::NoCa;
    let leaf = leaf_params.signed_by(&issuing_key, &issuer).unwrap();
    assert_eq!(
        parse(&root, &leaf),
        Err(CertificateError::NotAnAuthority("issuing certificate"))
    );
    let p384 = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
    let other_curve = authority("issuing", 0).signed_by(&p384, &issuer).unwrap();
    assert_eq!(
        parse(&root, &other_curve),
        Err(CertificateError::Algorithm("issuing certificate"))
    );
    let self_made = authority("issuing", 0).self_signed(&issuing_key).unwrap();
    assert_eq!(
        parse(&root, &self_made),
        Err(CertificateError::NotSignedByRoot("issuing certificate"))
    );
    // The right name, another key.
    let impostor = authority("root", 1).self_signed(&p256()).unwrap();
    assert_eq!(
        parse(&impostor, &good),
        Err(CertificateError::NotSignedByRoot("issuing certificate"))
    );
    let mut critical = authority("issuing", 0);
    let mut unknown = rcgen::CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 9], vec![5, 0]);
    unknown.set_criticality(true);
    critical.custom_extensions.push(unknown);
    let critical = critical.signed_by(&issuing_key, &issuer).unwrap();
    assert_eq!(
        parse(&root, &critical),
        Err(CertificateError::CriticalExtension("issuing certificate"))
    );
    let trailing = [good.der().as_ref(), &[0]].concat();
    assert_eq!(
        OrganisationIdentity::parse(der(&root), trailing.into(), NOW_MS),
        Err(CertificateError::Malformed("issuing certificate"))
    );
}
