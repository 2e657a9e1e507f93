//! Two protocol versions at once, as while peers upgrade. There is one version so far; in the unit
//! tests of this crate `Version(2)` is spoken too, with the formats of version 1.

#![allow(clippy::indexing_slicing, reason = "tests fail by panicking")]

#[path = "../../tests/support/mod.rs"]
mod support;

use std::collections::BTreeMap;

use bytes::Bytes;

use self::support::{NOW_MS, Organisation, lane, outgoing};
use crate::codec::DecodeError;
use crate::link::{Arrival, Receiver};
use crate::receipt::{self, ItemResult, ReceiptBody};
use crate::transaction::{self, Link, SignedTransaction, VerifiedEnvelope, sign};
use crate::version::{Version, VersionSet, negotiate};

const V2: Version = Version(2);

fn pair() -> (Organisation, Organisation) {
    (
        Organisation::new("a.example", 1),
        Organisation::new("b.example", 2),
    )
}

fn link(a: &Organisation, b: &Organisation, version: Version) -> Link {
    Link {
        version,
        ..support::link(a, b, 5)
    }
}

fn signed(a: &Organisation, b: &Organisation, version: Version, n: u64) -> SignedTransaction {
    let envelope = outgoing(lane(1), n, format!("payload {n}").as_bytes());
    sign(&a.envelope_key, &link(a, b, version), &[envelope]).unwrap()
}

fn verified(a: &Organisation, b: &Organisation, bytes: Bytes) -> VerifiedEnvelope {
    let verified = transaction::decode(bytes)
        .unwrap()
        .verify(&a.manifest(1), &a.name, &b.name, NOW_MS)
        .unwrap();
    verified.into_envelopes().remove(0)
}

/// Goal: one receiver takes transactions of both versions on one lane, and what is sent again under
/// the other version is the same envelope, not a conflict; by changing the version in between, with
/// a lost answer.
#[test]
fn one_lane_takes_both() {
    let (a, b) = pair();
    let mut receiver = Receiver::resume(5, None);
    let first = verified(&a, &b, signed(&a, &b, Version::V1, 1).bytes);
    let Arrival::Next(next) = receiver.judge(&first, None) else {
        panic!("not next");
    };
    let record = next.accept().record();
    // The answer was lost, both sides were updated, and it is sent again.
    let again = verified(&a, &b, signed(&a, &b, V2, 1).bytes);
    assert_eq!(again.header().version, V2);
    assert_eq!(again.position_hash(), first.position_hash());
    let arrival = receiver.judge(&again, record.as_ref());
    assert!(matches!(arrival, Arrival::Duplicate { refused: None }));
    let second = verified(&a, &b, signed(&a, &b, V2, 2).bytes);
    assert!(matches!(receiver.judge(&second, None), Arrival::Next(_)));
}

/// Goal: a receipt answers the transaction in its version, and is refused for another (LINK-041); by
/// verifying one of each version for links of both.
#[test]
fn receipts_keep_to_their_version() {
    let (a, b) = pair();
    let manifest = b.manifest(1);
    for version in [Version::V1, V2] {
        let bytes = ReceiptBody {
            link: link(&a, &b, version),
            root: signed(&a, &b, version, 1).root,
            at_ms: NOW_MS,
            results: vec![ItemResult::Accepted],
            lanes: BTreeMap::new(),
        }
        .sign(&b.envelope_key)
        .unwrap();
        for asked in [Version::V1, V2] {
            let receipt = receipt::decode(bytes.clone()).unwrap();
            let verified = receipt.verify(&manifest, &link(&a, &b, asked), NOW_MS);
            assert_eq!(verified.is_ok(), asked == version);
        }
    }
}

/// Goal: a version that is not spoken is neither written nor read, also where the two sides have it in
/// common; by a third one.
#[test]
fn a_version_that_is_not_spoken() {
    let (a, b) = pair();
    let unknown = Version(3);
    assert_eq!(
        negotiate(&VersionSet::ours(), &VersionSet::ours()),
        Some(V2)
    );
    let envelope = outgoing(lane(1), 1, b"payload");
    assert!(sign(&a.envelope_key, &link(&a, &b, unknown), &[envelope]).is_err());
    let mut bytes = signed(&a, &b, Version::V1, 1).bytes.to_vec();
    bytes[1] = 3;
    let error = transaction::decode(bytes.into()).unwrap_err();
    assert_eq!(error, DecodeError::UnsupportedVersion(3));
}
