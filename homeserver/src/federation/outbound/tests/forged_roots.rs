//! Amendments that name a root which nobody in force vouches for, and the drill for a stolen issuing CA.

use federation_proto::agreement::{Agreement, Amendment};
use federation_proto::hash::Digest;
use federation_proto::manifest::ManifestBody;
use homeserver_api::admin::{AmendRequest, ConsentRequest};

use super::keys::{change, learn_issuing_ca, pass, rotate, serial_known, until};
use super::roots::{announce, prepare};
use super::*;
use crate::audit;
use crate::federation::outbound::{MANIFESTS_AT_ONCE_MAX, run};
use crate::federation::peers::PeeringError;
use crate::organisation::{Asked, issuing};
use crate::store::peer::{self, PeerRecord};

const MINUTE_MS: u64 = 60 * 1000;
const HOUR_MS: u64 = 60 * MINUTE_MS;

async fn record(at: &Side, of: &Side) -> PeerRecord {
    let stored = peer::get(&at.node.store, &of.node.server).await.unwrap();
    stored.unwrap().0
}

/// An amendment of `of` that names the root of `by`, who has the name and nothing else.
async fn forged(of: &Side, to: &Side, by: &Side, made_ms: u64) -> Amendment {
    let current = record(of, to).await.current.unwrap();
    let agreement = Agreement::restore(&current).unwrap();
    let signed = agreement.signed().unwrap();
    let mut statement = signed.ours().clone();
    statement.root = by.node.keys.root().to_vec().into();
    statement.manifest = by.node.keys.manifest().bytes().clone();
    statement.made_ms = made_ms;
    let (key, random) = (by.node.keys.issuing_key(), by.node.random.as_ref());
    signed.amendment(statement, &key, random).unwrap()
}

async fn propose(at: &Side, to: &Side, file_bytes_max: u64) {
    let wider = AmendRequest {
        file_bytes_max: Some(file_bytes_max),
        ..AmendRequest::default()
    };
    peers::amend(&at.node, &admin(), &to.node.server, &wider)
        .await
        .unwrap();
    drain(&mut worker(at, to)).await;
}

async fn audited(side: &Side, action: &str) -> Vec<String> {
    let log = audit::page(&side.node.store, side.node.random.as_ref(), 0, 1000)
        .await
        .unwrap();
    let entries = log.entries.into_iter();
    let entries = entries.filter(|entry| entry.action == action);
    entries.map(|entry| entry.detail).collect()
}

/// Goal: who has a partner's name, and its connection at the most, can keep no amendment from completing: one under a
/// root of his own is refused, online and as a file, and neither the open proposal nor the consent on its way nor the
/// next amendment is touched. By a stranger whose manifest is no newer than the known one, and by one whose is, who is
/// told to come again until the true one must have been there.
#[tokio::test]
async fn a_strangers_root_changes_nothing() {
    let [a, b] = sides(["a.example", "b.example"]);
    let [stranger] = sides(["b.example"]);
    peered(&a, &b).await;
    propose(&b, &a, 1 << 40).await;
    for consents in [false, true] {
        if consents {
            a.network.set_down(true);
            let detail = peers::detail(&a.node, &b.node.server).await.unwrap();
            let request = ConsentRequest {
                amendment: detail.proposal.unwrap().amendment,
                fingerprint: None,
            };
            peers::consent(&a.node, &admin(), &b.node.server, &request)
                .await
                .unwrap();
        }
        let before = record(&a, &b).await;
        assert_eq!(before.outgoing.len(), usize::from(consents));
        for is_newer in [false, true] {
            if is_newer && serial(&stranger) <= serial_known(&a, &b) {
                stranger.clock.advance_ms(1000);
                rotate(&stranger).await;
            }
            let amendment = forged(&b, &a, &stranger, now(&a) + 4 * MINUTE_MS).await;
            let text = amendment.to_armor();
            let as_file = peers::take(&a.node, &admin(), &text).await;
            assert!(
                matches!(&as_file, Err(PeeringError::Document(why)) if why.contains("another root")),
                "{as_file:?}"
            );
            let bytes = amendment.bytes().clone();
            if is_newer && !consents {
                let (status, _) = post(&b, &a, paths::AMENDMENT, bytes.clone()).await;
                assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
                assert_eq!(record(&a, &b).await, before);
                for side in [&a, &b, &stranger] {
                    side.clock.advance_ms(5 * MINUTE_MS);
                }
            }
            let (status, problem) = post(&b, &a, paths::AMENDMENT, bytes).await;
            let problem = String::from_utf8_lossy(&problem).into_owned();
            assert_eq!(status, StatusCode::BAD_REQUEST, "{problem}");
            assert!(problem.contains("malformed"), "{problem}");
            assert_eq!(record(&a, &b).await, before);
        }
    }
    assert_eq!(audited(&a, "peer.document-refused").await.len(), 4);

    a.network.set_down(false);
    drain(&mut worker(&a, &b)).await;
    assert!(record(&a, &b).await.outgoing.is_empty());
    assert_eq!(audited(&b, "peer.consented-by-partner").await.len(), 1);
    propose(&b, &a, 1 << 41).await;
    assert_eq!(
        audited(&a, "peer.amendment-proposed-by-partner")
            .await
            .len(),
        2
    );
}

fn serial(side: &Side) -> u64 {
    side.node.keys.manifest().serial()
}

/// Goal: an amendment under a new root that is signed by an issuing CA of which the partner has not heard is taken once
/// it has, without anybody's help; brought as a file, it says what to wait for; and when it undoes a consent, the audit
/// log says so. By a root that is announced before the manifest is known, and withdrawn while the consent is on its way.
#[tokio::test(start_paused = true)]
async fn a_new_issuing_ca_is_learnt_first() {
    let [a, b] = sides(["a.example", "b.example"]);
    peered(&a, &b).await;
    for side in [&a, &b] {
        side.clock.advance_ms(HOUR_MS);
    }
    let fingerprint = prepare(&a);
    announce(&a).await;
    let waits = record(&a, &b).await.outgoing[0].bytes.clone();
    let text = Amendment::open(waits, now(&b)).unwrap().to_armor();
    let early = peers::take(&b.node, &admin(), &text).await;
    assert!(
        matches!(&early, Err(PeeringError::Document(why)) if why.contains("is asked for")),
        "{early:?}"
    );
    let running = [&a, &b].map(|side| {
        let network = Arc::clone(&side.network);
        tokio::spawn(run(Arc::clone(&side.node), network))
    });
    let has_proposal = async || {
        let detail = peers::detail(&b.node, &a.node.server).await.unwrap();
        detail.proposal.is_some() && record(&a, &b).await.outgoing.is_empty()
    };
    until(&[&a, &b], has_proposal).await;
    assert_eq!(audited(&b, "peer.document-refused").await.len(), 0);
    running.iter().for_each(tokio::task::JoinHandle::abort);
    pass(&[&a, &b], 10).await;

    b.network.set_down(true);
    let detail = peers::detail(&b.node, &a.node.server).await.unwrap();
    let request = ConsentRequest {
        amendment: detail.proposal.unwrap().amendment,
        fingerprint: Some(fingerprint.to_string()),
    };
    peers::consent(&b.node, &admin(), &a.node.server, &request)
        .await
        .unwrap();
    pass(&[&a, &b], 10).await;
    peers::root::withdraw(&a.node, &admin()).await.unwrap();
    drain(&mut worker(&a, &b)).await;
    let told = audited(&b, "peer.amended-by-partner").await;
    assert!(told[0].contains("is undone"), "{told:?}");
    assert!(record(&b, &a).await.outgoing.is_empty());
}

/// Goal, the drill for a stolen issuing CA (docs/security/compromise-drill.md): the thief's manifest, with a higher serial
/// and his own keys, is taken by the partner, which then takes none of the organisation's; once its root has signed a new
/// issuing CA, the partner takes its manifest, and nothing of the thief's any more: no manifest, however high its serial,
/// no amendment, and no new root. By a thief who has b's issuing key and its connection.
#[tokio::test]
async fn drill_issuing_ca() {
    let [a, b] = sides(["a.example", "b.example"]);
    let (alice, mut bob) = acquainted(&a, &b).await;
    let stolen = b.node.keys.issuing_key();
    let random = b.node.random.as_ref();
    let copied = b.node.keys.manifest();
    let by_thief = |serial| {
        let body = ManifestBody {
            serial,
            issued_ms: now(&b),
            tls_pins: vec![Digest::of(b"the thief's")],
            ..copied.body().clone()
        };
        body.sign(&stolen, random).unwrap()
    };
    // As far ahead as a serial may be.
    let ahead = now(&b) + 5 * MINUTE_MS;
    let his = by_thief(ahead);
    // He may keep the partner busy.
    for serial in ahead - u64::from(MANIFESTS_AT_ONCE_MAX) + 1..=ahead {
        peers::take_manifest(&a.node, &b.node.server, by_thief(serial))
            .await
            .unwrap();
    }
    assert_eq!(serial_known(&a, &b), ahead);
    rotate(&b).await;
    let own = b.node.keys.manifest().bytes().clone();
    let refused = peers::take_manifest(&a.node, &b.node.server, own).await;
    assert!(
        matches!(&refused, Err(PeeringError::Document(why)) if why.contains("is known already")),
        "{refused:?}"
    );
    let amendment = {
        let current = record(&b, &a).await.current.unwrap();
        let agreement = Agreement::restore(&current).unwrap();
        let signed = agreement.signed().unwrap();
        let mut statement = signed.ours().clone();
        statement.manifest = his.clone();
        statement.terms.file_bytes_max *= 2;
        statement.made_ms = now(&b) + 4 * MINUTE_MS;
        signed.amendment(statement, &stolen, random).unwrap()
    };

    // Ten minutes later the clock is past what he could claim, and he has used up what came back.
    for side in [&a, &b] {
        side.clock.advance_ms(10 * MINUTE_MS);
    }
    let his = [1, 2, 3].map(|n| by_thief(now(&b) + n));
    let mut last = Ok(());
    for manifest in &his {
        let taken = peers::take_manifest(&a.node, &b.node.server, manifest.clone()).await;
        last = taken.map(drop);
    }
    assert!(matches!(last, Err(PeeringError::NotYet(_))), "{last:?}");
    for side in [&a, &b] {
        side.clock.advance_ms(MINUTE_MS);
    }
    issuing::renew_in_memory(&b.node.keys, &b.root_key, now(&b), random).unwrap();
    let since_ms = now(&b);
    change(
        &b,
        Asked::RevokeEnvelope {
            key: None,
            since_ms,
        },
    )
    .await;
    let own = b.node.keys.manifest().bytes().clone();
    peers::take_manifest(&a.node, &b.node.server, own)
        .await
        .unwrap();
    assert_eq!(serial_known(&a, &b), serial(&b));
    let known = a.node.peers.get(&b.node.server).unwrap().manifest.clone();
    assert!(!known.unwrap().has_tls_pin(&Digest::of(b"the thief's")));
    let [_, _, his] = his;
    for later in [his, by_thief(now(&b) + 5 * MINUTE_MS)] {
        let refused = peers::take_manifest(&a.node, &b.node.server, later).await;
        assert!(refused.is_err(), "{refused:?}");
    }
    assert_eq!(serial_known(&a, &b), serial(&b));
    let (status, _) = post(&b, &a, paths::AMENDMENT, amendment.bytes().clone()).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    let detail = peers::detail(&a.node, &b.node.server).await.unwrap();
    assert!(detail.proposal.is_none());

    // And their mail passes.
    bob.say(&b, ROOM, b"afterwards", 3600).await;
    assert_eq!(drain(&mut worker(&b, &a)).await, Step::Idle);
    assert_eq!(alice.heard(&a).await, 1);
    // A new root may follow.
    for side in [&a, &b] {
        side.clock.advance_ms(HOUR_MS);
    }
    prepare(&b);
    learn_issuing_ca(&a, &b).await;
    announce(&b).await;
    drain(&mut worker(&b, &a)).await;
    let detail = peers::detail(&a.node, &b.node.server).await.unwrap();
    assert!(detail.proposal.unwrap().new_fingerprint.is_some());
}
