//! Keys and roots change between a charter that was signed and the agreements that go on by it.

use federation_proto::agreement::Agreement;
use homeserver_api::consortium::JoinOutcome;
use homeserver_api::keys::PartnerRootStanding;

use super::keys::learn_issuing_ca;
use super::renewal::{
    DAY_MS, chartered, documents, in_force, inspected, join, next, settle, signed_by, terms,
};
use super::roots::{announce, consent, prepare, standing, switch, take_over};
use super::*;
use crate::organisation::issuing;
use crate::store::peer;

/// The root of `of` that the agreement pins at `at`.
async fn pinned(at: &Side, of: &Side) -> Bytes {
    let stored = peer::get(&at.node.store, &of.node.server).await.unwrap();
    let agreement = Agreement::restore(&stored.unwrap().0.current.unwrap()).unwrap();
    agreement.signed().unwrap().theirs().root.clone()
}

async fn joined_both(a: &Side, b: &Side, charter: &str) {
    for (side, other) in [(a, b), (b, a)] {
        join(side, other, charter).await;
    }
    settle(a, b).await;
}

async fn renewed(a: &Side, b: &Side, charter: &str) {
    assert_eq!(documents(a, b).await, documents(b, a).await);
    let end_ms = inspected(a, charter).await.expires_ms;
    assert_eq!((in_force(a, b).1, in_force(b, a).1), (end_ms, end_ms));
    for (at, of) in [(a, b), (b, a)] {
        assert_eq!(join(at, of, charter).await, JoinOutcome::Renewed);
    }
}

/// Goal: the renewal is stated with the keys of today, not with those of the charter, and is taken; by an issuing CA
/// that is replaced between signing and joining, on one side known there before and on the other not.
#[tokio::test]
async fn another_issuing_ca() {
    let [a, b] = sides(["a.example", "b.example"]);
    let former = chartered(&[&a, &b]).await;
    let charter = next(&a, &[&a, &b], &former, terms(365, 7));
    let merged = signed_by(&[&a, &b], &charter).await;
    for side in [&a, &b] {
        side.clock.advance_ms(DAY_MS);
        let random = side.node.random.as_ref();
        issuing::renew_in_memory(&side.node.keys, &side.root_key, now(side), random).unwrap();
    }
    learn_issuing_ca(&a, &b).await;
    joined_both(&a, &b, &merged).await;
    renewed(&a, &b, &merged).await;
}

/// Goal: a new root is nobody's to consent to but the administrator's: the renewal goes with its announcement, waits for
/// the fingerprint, and both are in force together; the next charter introduces the new root and renews as well. By a
/// root that is announced before one joins, and taken over afterwards.
#[tokio::test]
async fn another_root() {
    let [a, b] = sides(["a.example", "b.example"]);
    let former = chartered(&[&a, &b]).await;
    let charter = next(&a, &[&a, &b], &former, terms(365, 7));
    let merged = signed_by(&[&a, &b], &charter).await;
    for side in [&a, &b] {
        side.clock.advance_ms(DAY_MS);
    }
    let before = pinned(&b, &a).await;
    let fingerprint = prepare(&a);
    announce(&a).await;
    joined_both(&a, &b, &merged).await;
    round(&b.node).await.unwrap();
    assert_eq!(pinned(&b, &a).await, before, "no charter speaks of it");
    assert_eq!(join(&a, &b, &merged).await, JoinOutcome::Renewing);
    let proposal = peers::detail(&b.node, &a.node.server)
        .await
        .unwrap()
        .proposal;
    assert_eq!(
        proposal.unwrap().new_fingerprint,
        Some(fingerprint.to_string())
    );
    consent(&b, &a, &fingerprint).await.unwrap();
    settle(&a, &b).await;
    assert_eq!(standing(&a, &b), PartnerRootStanding::Consented);
    assert_ne!(pinned(&b, &a).await, before);
    renewed(&a, &b, &merged).await;
    take_over(&a, &switch(&fingerprint, &[])).await;
    settle(&a, &b).await;

    let third = next(&a, &[&a, &b], &merged, terms(700, 8));
    let third = signed_by(&[&a, &b], &third).await;
    joined_both(&a, &b, &third).await;
    renewed(&a, &b, &third).await;
    assert_eq!(
        pinned(&b, &a).await,
        Bytes::from(a.node.keys.root().to_vec())
    );
}

/// Goal: a root that is announced while our half waits is announced with it: the half is not lost, and not stated
/// twice; by an announcement between joining and the partner's joining.
#[tokio::test]
async fn a_root_announced_over_a_half() {
    let [a, b] = sides(["a.example", "b.example"]);
    let former = chartered(&[&a, &b]).await;
    let charter = next(&a, &[&a, &b], &former, terms(365, 7));
    let merged = signed_by(&[&a, &b], &charter).await;
    for side in [&a, &b] {
        side.clock.advance_ms(DAY_MS);
    }
    join(&a, &b, &merged).await;
    settle(&a, &b).await;
    let fingerprint = prepare(&a);
    announce(&a).await;
    settle(&a, &b).await;
    round(&a.node).await.unwrap();
    assert_eq!(join(&b, &a, &merged).await, JoinOutcome::Renewing);
    settle(&a, &b).await;
    let own = peers::detail(&a.node, &b.node.server).await.unwrap();
    assert_eq!(own.own_proposal.unwrap().serial, 2);
    consent(&b, &a, &fingerprint).await.unwrap();
    settle(&a, &b).await;
    renewed(&a, &b, &merged).await;
}
