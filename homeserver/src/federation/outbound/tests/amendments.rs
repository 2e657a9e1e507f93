//! An agreement that stands is changed: by one side, by both, at the same time, and by nobody else.

use federation_proto::agreement::{Agreement, Amendment};
use federation_proto::hash::Digest;
use homeserver_api::admin::{
    AmendRequest, Amended, AmendmentEffect, ConsentRequest, PeerDetail, RefuseAmendmentRequest,
};
use homeserver_api::attributes::MessageAttributes;

use super::*;
use crate::audit;
use crate::store::peer::{self, OutgoingDocument, OutgoingKind};

/// What each end holds to be in force: the SHA-256 of both statements' documents, the offerer's first.
async fn in_force(at: &Side, with: &Side) -> Vec<Digest> {
    use federation_proto::agreement::Side::{Accepter, Offerer};
    let stored = peer::get(&at.node.store, &with.node.server).await.unwrap();
    let agreement = Agreement::restore(&stored.unwrap().0.current.unwrap()).unwrap();
    let signed = agreement.signed().unwrap();
    [Offerer, Accepter]
        .map(|side| signed.document_sha256(side))
        .to_vec()
}

async fn amend(at: &Side, with: &Side, request: &AmendRequest) -> Amended {
    peers::amend(&at.node, &admin(), &with.node.server, request)
        .await
        .unwrap()
}

async fn shown(at: &Side, of: &Side) -> PeerDetail {
    peers::detail(&at.node, &of.node.server).await.unwrap()
}

async fn consent(at: &Side, to: &Side) -> Result<String, peers::PeeringError> {
    let proposal = shown(at, to).await.proposal.unwrap();
    let request = ConsentRequest {
        amendment: proposal.amendment,
        fingerprint: None,
    };
    peers::consent(&at.node, &admin(), &to.node.server, &request).await
}

/// How often an action is in the audit log.
async fn audited(at: &Side, action: &str) -> usize {
    let log = audit::page(&at.node.store, at.node.random.as_ref(), 0, 1000)
        .await
        .unwrap();
    let entries = log.entries.iter();
    entries.filter(|entry| entry.action == action).count()
}

fn tighter() -> AmendRequest {
    AmendRequest {
        ttl_max_seconds: Some(60),
        ..AmendRequest::default()
    }
}

fn wider() -> AmendRequest {
    AmendRequest {
        file_bytes_max: Some(1 << 40),
        ..AmendRequest::default()
    }
}

/// Goal: what tightens holds at once on its maker's side and, brought online, on the other's, once, though
/// the answer was lost and the task died; a dry run shows it and changes nothing; by a shorter time-to-live.
#[tokio::test]
async fn tightening_is_in_force_at_once() {
    let [a, b] = sides(["a.example", "b.example"]);
    let (mut alice, _) = acquainted(&a, &b).await;
    let dry = AmendRequest {
        dry_run: true,
        ..tighter()
    };
    let seen = amend(&a, &b, &dry).await;
    assert_eq!(seen.effect, AmendmentEffect::InForce);
    assert_eq!(
        seen.changes,
        [
            "tightens: «Messages live between 1 second and 30 days.» becomes «Messages live between 1 second and 1 minute.»"
        ]
    );
    assert_eq!(in_force(&a, &b).await, in_force(&b, &a).await);
    let said = alice.say(&a, ROOM, b"x", 3600).await;
    assert!(matches!(said, Outcome::Accepted { .. }), "{said:?}");

    let confirmed = AmendRequest {
        follows: Some(seen.follows),
        ..tighter()
    };
    let made = amend(&a, &b, &confirmed).await;
    let stale = peers::amend(&a.node, &admin(), &b.node.server, &confirmed).await;
    assert!(matches!(stale, Err(peers::PeeringError::State(_))));
    let nothing = peers::amend(&a.node, &admin(), &b.node.server, &tighter()).await;
    assert!(matches!(nothing, Err(peers::PeeringError::Statement(_))));
    let refused = alice.say(&a, ROOM, b"x", 3600).await;
    assert!(
        matches!(&refused, Outcome::Refused(refusal) if refusal.code == RefusalCode::TtlOutOfBounds),
        "{refused:?}"
    );
    // The document says the same to whoever gets it as a file.
    let lines = peers::inspect(&b.node, &made.document.unwrap())
        .await
        .unwrap()
        .lines;
    assert!(lines.contains(&made.changes[0]), "{lines:?}");

    a.network.mute_from(paths::AMENDMENT);
    assert!(matches!(drain(&mut worker(&a, &b)).await, Step::Delay(_)));
    assert_eq!(in_force(&a, &b).await, in_force(&b, &a).await);
    a.network.unmute();
    assert_eq!(drain(&mut worker(&a, &b)).await, Step::Idle);
    assert_eq!(in_force(&a, &b).await, in_force(&b, &a).await);
    assert_eq!(audited(&b, "peer.amended-by-partner").await, 1);
    assert_eq!(audited(&a, "peer.amended").await, 1);
    assert_eq!(audited(&a, "peer.document-delivered").await, 1);
}

/// Goal: what widens is in force nowhere before the partner's administrator has consented to exactly what
/// was shown, and then at both ends; by larger files, with a consent to something else on the way.
#[tokio::test]
async fn widening_waits_for_consent() {
    let [a, b] = sides(["a.example", "b.example"]);
    peered(&a, &b).await;
    let before = in_force(&a, &b).await;
    let made = amend(&a, &b, &wider()).await;
    assert_eq!(made.effect, AmendmentEffect::Proposed);
    drain(&mut worker(&a, &b)).await;
    let at_b = shown(&b, &a).await;
    assert_eq!(at_b.proposal.unwrap().changes, made.changes);
    assert_eq!(at_b.summary.warnings.len(), 1, "{:?}", at_b.summary);
    assert_eq!(peers::warnings(&b.node).await.unwrap().len(), 1);
    assert_eq!(shown(&a, &b).await.own_proposal.unwrap().serial, 2);
    assert_eq!(
        (&in_force(&a, &b).await, &in_force(&b, &a).await),
        (&before, &before)
    );

    let other = ConsentRequest {
        amendment: "00".repeat(32),
        fingerprint: None,
    };
    let error = peers::consent(&b.node, &admin(), &a.node.server, &other).await;
    assert!(matches!(error, Err(peers::PeeringError::State(_))));
    consent(&b, &a).await.unwrap();
    assert_eq!(in_force(&a, &b).await, before);
    drain(&mut worker(&b, &a)).await;
    assert_ne!(in_force(&a, &b).await, before);
    assert_eq!(in_force(&a, &b).await, in_force(&b, &a).await);
    assert_eq!(shown(&a, &b).await.own_proposal, None);
    assert_eq!(audited(&b, "peer.consented").await, 1);
    assert_eq!(audited(&a, "peer.consented-by-partner").await, 1);
}

/// Goal: a refused proposal is gone at both ends, its maker reads why, and the agreement goes on; where
/// nothing arrives online, files do; by refusing one and carrying another by hand.
#[tokio::test]
async fn a_refusal_reaches_the_maker() {
    let [a, b] = sides(["a.example", "b.example"]);
    peered(&a, &b).await;
    let made = amend(&a, &b, &wider()).await;
    drain(&mut worker(&a, &b)).await;
    let request = RefuseAmendmentRequest {
        amendment: shown(&b, &a).await.proposal.unwrap().amendment,
        reason: "too large for us".to_owned(),
    };
    peers::refuse(&b.node, &admin(), &a.node.server, &request)
        .await
        .unwrap();
    drain(&mut worker(&b, &a)).await;
    let at_a = shown(&a, &b).await;
    assert_eq!(at_a.own_proposal, None);
    assert!(
        at_a.lines
            .iter()
            .any(|line| line.contains("\"too large for us\"")),
        "{:?}",
        at_a.lines
    );
    // The same document again, by hand, is not proposed again.
    let document = made.document.unwrap();
    peers::take(&b.node, &admin(), &document).await.unwrap();
    assert_eq!(shown(&b, &a).await.proposal, None);

    let again = amend(&a, &b, &wider()).await.document.unwrap();
    peers::take(&b.node, &admin(), &again).await.unwrap();
    let consented = consent(&b, &a).await.unwrap();
    peers::take(&a.node, &admin(), &consented).await.unwrap();
    assert_eq!(in_force(&a, &b).await, in_force(&b, &a).await);
    assert_eq!(drain(&mut worker(&a, &b)).await, Step::Idle);
    assert_eq!(drain(&mut worker(&b, &a)).await, Step::Idle);
    assert_eq!(audited(&a, "peer.document-not-taken").await, 0);
}

/// Goal: both sides amend at the same serial before either hears of it, and a maker amends again while the
/// consent is on its way: both ends come to the same, whichever document arrives first.
#[tokio::test]
async fn amendments_cross() {
    for consent_first in [true, false] {
        let [a, b] = sides(["a.example", "b.example"]);
        peered(&a, &b).await;
        amend(&a, &b, &wider()).await;
        amend(&b, &a, &tighter()).await;
        let (mut to_a, mut to_b) = (worker(&b, &a), worker(&a, &b));
        drain(&mut to_a).await;
        drain(&mut to_b).await;
        consent(&b, &a).await.unwrap();
        let later = AmendRequest {
            label_max: Some(1),
            ..AmendRequest::default()
        };
        amend(&a, &b, &later).await;
        if consent_first {
            drain(&mut to_a).await;
            assert_eq!(audited(&b, "peer.document-not-taken").await, 1);
        }
        drain(&mut to_b).await;
        drain(&mut to_a).await;
        assert_eq!(in_force(&a, &b).await, in_force(&b, &a).await);
        let view = b.node.peers.get(&a.node.server).unwrap();
        assert_eq!(
            (view.agreement.label_max, view.agreement.ttl_max_seconds),
            (1, 60)
        );
        assert_eq!(view.outgoing, []);
        // Nobody is stuck: the next one follows.
        amend(&a, &b, &wider()).await;
        drain(&mut to_b).await;
        consent(&b, &a).await.unwrap();
        drain(&mut to_a).await;
        assert_eq!(in_force(&a, &b).await, in_force(&b, &a).await);
    }
}

/// Goal: nobody amends another's agreement, and nothing that is not an amendment is taken for one; by what c
/// signed, on its own connection and on a's, by noise, and by an amendment of an agreement that is over.
#[tokio::test]
async fn foreign_amendments_are_refused() {
    let [a, b, c] = sides(["a.example", "b.example", "c.example"]);
    peered(&a, &b).await;
    peered(&c, &b).await;
    let before = in_force(&b, &a).await;
    amend(&c, &b, &tighter()).await;
    let of_c = c.node.peers.get(&b.node.server).unwrap().outgoing[0]
        .bytes
        .clone();
    let (status, _) = post(&a, &b, paths::AMENDMENT, of_c).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    let noise = Bytes::from_static(b"noise");
    for path in [paths::AMENDMENT, paths::CONSENT, paths::DECLARATION] {
        let (status, _) = post(&a, &b, path, noise.clone()).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{path}");
    }
    amend(&a, &b, &tighter()).await;
    let old = a.node.peers.get(&b.node.server).unwrap().outgoing[0]
        .bytes
        .clone();
    peered(&a, &b).await;
    let (status, _) = post(&a, &b, paths::AMENDMENT, old).await;
    assert_eq!(status, StatusCode::CONFLICT);
    assert_ne!(in_force(&b, &a).await, before, "the new agreement");
    assert_eq!(in_force(&b, &a).await, in_force(&a, &b).await);
}

/// Goal: a partner can't make us connect elsewhere by an amendment alone (PEER-041, DISC-009): other endpoints wait for a
/// consent, though everything else in it tightens. By endpoints on this machine, brought online.
#[tokio::test]
async fn other_endpoints_wait_for_a_consent() {
    let [a, b] = sides(["a.example", "b.example"]);
    peered(&a, &b).await;
    let endpoints = || b.node.peers.get(&a.node.server).unwrap().endpoints.clone();
    let before = endpoints();
    let elsewhere = vec!["127.0.0.1:39777".to_owned(), "10.0.0.5:22".to_owned()];
    let request = AmendRequest {
        endpoints: Some(elsewhere.clone()),
        ..tighter()
    };
    let made = amend(&a, &b, &request).await;
    assert_eq!(made.effect, AmendmentEffect::Proposed);
    drain(&mut worker(&a, &b)).await;
    assert_eq!(endpoints(), before);
    let proposal = shown(&b, &a).await.proposal.unwrap();
    assert!(
        proposal.changes.iter().any(|change| change
            == "widens: «a.example is reached at 192.0.2.1:8448.» becomes «a.example is reached at 127.0.0.1:39777, 10.0.0.5:22.»"),
        "{:?}",
        proposal.changes
    );
    consent(&b, &a).await.unwrap();
    assert_eq!(endpoints(), elsewhere);
}

/// Goal: the bounds of labels and of the time-to-live hold where a message is sent and where it is received,
/// though only one of the two knows of them yet; by a tightening that has not reached the sender.
#[tokio::test]
async fn bounds_hold_at_both_ends() {
    for (request, ttl_seconds, label, code) in [
        (tighter(), 61, 0, RefusalCode::TtlOutOfBounds),
        (
            AmendRequest {
                label_max: Some(1),
                ..AmendRequest::default()
            },
            60,
            2,
            RefusalCode::OutOfScope,
        ),
    ] {
        let [a, b] = sides(["a.example", "b.example"]);
        let (mut alice, bob) = acquainted(&a, &b).await;
        amend(&b, &a, &request).await;
        let attributes = |ttl_seconds, label| MessageAttributes {
            ttl_seconds,
            burn_seconds: 0,
            label,
            file: false,
        };
        let beyond = attributes(ttl_seconds, label);
        let said = alice.say_with(&a, ROOM, b"beyond", beyond).await;
        assert!(matches!(said, Outcome::Accepted { .. }), "{said:?}");
        drain(&mut worker(&a, &b)).await;
        assert!(returned(&alice, &a, 2, code).await, "{code}");
        drain(&mut worker(&b, &a)).await;
        let said = alice.say_with(&a, ROOM, b"beyond", beyond).await;
        assert!(
            matches!(&said, Outcome::Refused(refusal) if refusal.code == code),
            "{said:?}"
        );
        let within = attributes(60, 1);
        let said = alice.say_with(&a, ROOM, b"within", within).await;
        assert!(matches!(said, Outcome::Accepted { .. }), "{said:?}");
        drain(&mut worker(&a, &b)).await;
        assert_eq!(bob.heard(&b).await, 1, "{code}");
    }
}

/// Goal: what can't be read, or fits no more, is brought once and its maker told, and a document from the
/// future comes again when its time has come; by noise, by one of a replaced agreement, and by a clock
/// that is behind.
#[tokio::test]
async fn deliveries_end() {
    let [a, b] = sides(["a.example", "b.example"]);
    peered(&a, &b).await;
    amend(&a, &b, &tighter()).await;
    let old = a.node.peers.get(&b.node.server).unwrap().outgoing[0]
        .bytes
        .clone();
    peered(&a, &b).await;
    let (record, read) = peer::get(&a.node.store, &b.node.server)
        .await
        .unwrap()
        .unwrap();
    let outgoing = [old, Bytes::from_static(b"noise")].map(|bytes| OutgoingDocument {
        kind: OutgoingKind::Amendment,
        bytes,
    });
    let mut part = Part::default();
    let record = peer::PeerRecord {
        outgoing: outgoing.to_vec(),
        ..record
    };
    peer::put(&mut part, &b.node.server, record, Some(read)).unwrap();
    a.node.store.commit(part).await.unwrap();
    a.node.peers.refresh(&a.node).await.unwrap();
    assert_eq!(drain(&mut worker(&a, &b)).await, Step::Idle);
    assert_eq!(a.node.peers.get(&b.node.server).unwrap().outgoing, []);
    assert_eq!(audited(&a, "peer.document-not-taken").await, 2);

    let ahead_ms = 6 * 60 * 1000;
    a.clock.advance_ms(ahead_ms);
    amend(&a, &b, &tighter()).await;
    assert!(matches!(drain(&mut worker(&a, &b)).await, Step::Mail(_)));
    assert_eq!(a.node.peers.get(&b.node.server).unwrap().outgoing.len(), 1);
    b.clock.advance_ms(ahead_ms);
    assert_eq!(drain(&mut worker(&a, &b)).await, Step::Idle);
    assert_eq!(in_force(&a, &b).await, in_force(&b, &a).await);
    assert_eq!(audited(&a, "peer.document-not-taken").await, 2);
}

/// Goal: a ceremony over an agreement in force leaves it as it is until both have signed, then takes its
/// place, and mail goes on in the same numbering (PEER-034); by mail that waits meanwhile.
#[tokio::test]
async fn an_agreement_is_replaced() {
    let [a, b] = sides(["a.example", "b.example"]);
    let (mut alice, bob) = acquainted(&a, &b).await;
    let before = in_force(&a, &b).await;
    let epoch = link(&a, &b).link_epoch;
    a.network.set_down(true);
    alice.say(&a, ROOM, b"waits", 3600).await;
    let acceptance = accepted(&a, &b, None).await;
    assert_eq!(in_force(&a, &b).await, before);
    assert_eq!(in_force(&b, &a).await, before);
    a.network.set_down(false);
    countersigned(&a, acceptance).await;
    assert_ne!(in_force(&a, &b).await, before);
    assert_eq!(drain(&mut worker(&a, &b)).await, Step::Idle);
    assert_eq!(in_force(&a, &b).await, in_force(&b, &a).await);
    assert_eq!(link(&a, &b).link_epoch, epoch);
    assert_eq!(bob.heard(&b).await, 1);
}

/// Goal: an amendment that comes again is answered as it was before, also when newer keys of its maker have become known
/// since, which it was not signed with. Method: one in force, two changes of keys that the partner hears of, and the document
/// once more.
#[tokio::test]
async fn known_ones_come_again_after_newer_keys() {
    let [a, b] = sides(["a.example", "b.example"]);
    let (mut alice, _bob) = acquainted(&a, &b).await;
    let made = amend(&a, &b, &tighter()).await;
    assert_eq!(drain(&mut worker(&a, &b)).await, Step::Idle);
    keys::rotate(&a).await;
    keys::rotate(&a).await;
    let said = alice.say(&a, ROOM, b"x", 60).await;
    assert!(matches!(said, Outcome::Accepted { .. }), "{said:?}");
    let mut to_b = worker(&a, &b);
    let step = drain(&mut to_b).await;
    assert!(matches!(step, Step::Delay(_)), "{step:?}");
    drain(&mut worker(&b, &a)).await;
    assert_eq!(drain(&mut to_b).await, Step::Idle);
    assert_eq!(keys::serial_known(&b, &a), a.node.keys.manifest().serial());

    let document = Amendment::from_armor(&made.document.unwrap(), now(&b)).unwrap();
    let again = peers::amendment_from(&b.node, &a.node.server, document.bytes().clone());
    again.await.unwrap();
    assert_eq!(audited(&b, "peer.amended-by-partner").await, 1);
}
