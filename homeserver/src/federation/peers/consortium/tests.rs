//! Consortia of several nodes: what one document makes of each pair, and what it leaves alone.

use federation_proto::agreement::Agreement;
use federation_proto::hash::Digest;
use homeserver_api::admin::{Operation, PeerState, Terms};
use homeserver_api::consortium::{
    CharterRequest, IntroductionRequest, JoinOutcome, Joined, MergeRequest, SignCharterRequest,
};

use super::super::error::PeeringError;
use super::{charter, consortia, inspect, introduce, join, merge, sign};
use crate::audit;
use crate::federation::peers::{self, Direction};
use crate::federation::testing::{Side, accepted, admin, countersigned, peered, sides};
use crate::node::testing::node;
use crate::store::peer;

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

fn introduced(side: &Side) -> String {
    let request = IntroductionRequest {
        endpoints: vec!["192.0.2.1:8448".to_owned()],
        contact: format!("admin at {}", side.node.server),
    };
    introduce(&side.node, &request).unwrap()
}

/// What `by` asks for to make a charter with the others.
fn request(others: &[&Side]) -> CharterRequest {
    CharterRequest {
        name: Some("Relief Network".to_owned()),
        introductions: others.iter().map(|side| introduced(side)).collect(),
        endpoints: vec!["192.0.2.1:8448".to_owned()],
        ..CharterRequest::default()
    }
}

fn chartered(by: &Side, others: &[&Side]) -> String {
    charter(&by.node, &request(others)).unwrap()
}

/// Signs what everybody has compared: the words of the charter as `side` sees it.
async fn signed(side: &Side, document: &str) -> Result<String, PeeringError> {
    let request = SignCharterRequest {
        document: document.to_owned(),
        fingerprint: inspect(&side.node, document).await.unwrap().words,
    };
    sign(&side.node, &admin(), &request).await
}

/// The charter as all of them have signed it.
async fn signed_by(by: &[&Side], document: &str) -> String {
    let mut documents = Vec::new();
    for side in by {
        documents.push(signed(side, document).await.unwrap());
    }
    let merged = merge(&by[0].node, &MergeRequest { documents }).await;
    merged.unwrap()
}

async fn joined(side: &Side, document: &str) -> Joined {
    join(&side.node, &admin(), document).await.unwrap()
}

fn outcome(joined: &Joined, of: &Side) -> JoinOutcome {
    let pair = joined
        .pairs
        .iter()
        .find(|pair| pair.server == of.node.server);
    pair.unwrap().outcome
}

fn state(at: &Side, of: &Side) -> Option<PeerState> {
    Some(at.node.peers.get(&of.node.server)?.state)
}

/// The name of the agreement of `at` with `of`.
async fn agreement(at: &Side, of: &Side) -> Digest {
    let (record, _) = peer::get(&at.node.store, &of.node.server)
        .await
        .unwrap()
        .unwrap();
    let agreement = Agreement::restore(record.current.as_ref().unwrap()).unwrap();
    agreement.signed().unwrap().sha256()
}

async fn audited(side: &Side, action: &str) -> usize {
    let page = audit::page(&side.node.store, side.node.random.as_ref(), 0, 1000)
        .await
        .unwrap();
    let of_action = page.entries.iter().filter(|entry| entry.action == action);
    of_action.count()
}

async fn refused(side: &Side, document: &str) -> String {
    let error = join(&side.node, &admin(), document).await.unwrap_err();
    assert!(matches!(error, PeeringError::State(_)), "{error:?}");
    error.to_string()
}

/// Goal: ten organisations become 45 pairs by one document that each handles twice, the same agreement at
/// both ends, written with its audit; joining again changes nothing. By ten nodes.
#[tokio::test]
async fn ten_organisations() {
    let all = sides([
        "m0.example",
        "m1.example",
        "m2.example",
        "m3.example",
        "m4.example",
        "m5.example",
        "m6.example",
        "m7.example",
        "m8.example",
        "m9.example",
    ]);
    let by: Vec<&Side> = all.iter().collect();
    let document = chartered(by[0], &by[1..]);
    let merged = signed_by(&by, &document).await;
    let mut pairs = std::collections::BTreeSet::new();
    for side in &all {
        let joined = joined(side, &merged).await;
        assert_eq!(joined.pairs.len(), 9);
        assert!(
            joined
                .pairs
                .iter()
                .all(|pair| pair.outcome == JoinOutcome::Made),
            "{joined:?}"
        );
    }
    for (at, side) in all.iter().enumerate() {
        for (of, other) in all.iter().enumerate().filter(|(of, _)| *of != at) {
            let view = side.node.peers.get(&other.node.server).unwrap();
            assert_eq!(view.state, PeerState::Active);
            assert_eq!(view.root, other.node.keys.root().to_vec());
            assert!(side.node.peer_roots.get(&other.node.server).is_some());
            let name = agreement(side, other).await;
            assert_eq!(name, agreement(other, side).await, "{at} {of}");
            pairs.insert(name);
        }
    }
    assert_eq!(pairs.len(), 45);
    let again = joined(&all[3], &merged).await;
    assert!(
        again
            .pairs
            .iter()
            .all(|pair| pair.outcome == JoinOutcome::Known)
    );
    assert_eq!(audited(&all[3], "consortium.charter-signed").await, 1);
    assert_eq!(audited(&all[3], "peer.joined").await, 9);
    let listed = consortia(&all[3].node).await.unwrap().consortia;
    assert_eq!(listed.len(), 1);
    assert!(listed[0].charter.members.iter().all(|member| member.signed));
}

/// Goal: what is missing is made up for when it comes, and nobody is bound before he has signed; by one
/// member who signs last.
#[tokio::test]
async fn a_signature_that_comes_late() {
    let [a, b, c] = sides(["a.example", "b.example", "c.example"]);
    let document = chartered(&a, &[&b, &c]);
    let two = signed_by(&[&a, &b], &document).await;
    let first = joined(&a, &two).await;
    assert_eq!(outcome(&first, &b), JoinOutcome::Made);
    assert_eq!(outcome(&first, &c), JoinOutcome::NotSigned);
    assert_eq!(state(&a, &c), None);
    assert!(refused(&c, &two).await.contains("sign it first"));
    // The file of c alone: what a knows of b is kept.
    let late = signed(&c, &document).await.unwrap();
    let second = joined(&a, &late).await;
    assert_eq!(outcome(&second, &b), JoinOutcome::Known);
    assert_eq!(outcome(&second, &c), JoinOutcome::Made);
    assert_eq!(audited(&a, "consortium.signatures-kept").await, 2);
    // Signing again gives the same signature.
    let again = signed(&c, &document).await.unwrap();
    assert_eq!(again, late);
    assert_eq!(state(&a, &b), Some(PeerState::Active));
}

/// Goal: a pair that has an agreement keeps it, to the letter: nothing widens, and an offer under way goes
/// on; by a narrow agreement under a wide charter, and an acceptance that waits.
#[tokio::test]
async fn agreements_that_stand_are_kept() {
    let [a, b, c] = sides(["a.example", "b.example", "c.example"]);
    let narrow = Terms {
        outbound: Terms::default().outbound.into_iter().take(1).collect(),
        file_bytes_max: 0,
        ..Terms::default()
    };
    let acceptance = accepted(&a, &b, Some(narrow)).await;
    let countersignature = countersigned(&a, acceptance).await;
    peers::take(&b.node, &admin(), &countersignature)
        .await
        .unwrap();
    let acceptance = accepted(&a, &c, None).await;
    let before = a.node.peers.get(&b.node.server).unwrap();
    let document = chartered(&a, &[&b, &c]);
    let merged = signed_by(&[&a, &b, &c], &document).await;
    for (side, other) in [(&a, &b), (&b, &a)] {
        let joined = joined(side, &merged).await;
        assert_eq!(outcome(&joined, other), JoinOutcome::Kept);
    }
    assert_eq!(a.node.peers.get(&b.node.server).unwrap(), before);
    assert_eq!(outcome(&joined(&a, &merged).await, &c), JoinOutcome::Kept);
    assert_eq!(state(&a, &c), Some(PeerState::Offered));
    countersigned(&a, acceptance).await;
    assert_eq!(outcome(&joined(&c, &merged).await, &a), JoinOutcome::Kept);
}

/// Goal: who left a partner after signing has left him, however often he joins; an agreement that ended
/// before is made anew. By revoking on either side of the signature.
#[tokio::test]
async fn left_singly() {
    let [a, b, c] = sides(["a.example", "b.example", "c.example"]);
    peered(&a, &b).await;
    for (side, other) in [(&a, &b), (&b, &a)] {
        peers::revoke(&side.node, &admin(), &other.node.server, "over")
            .await
            .unwrap();
        side.clock.advance_ms(1);
    }
    let before = a.node.peers.get(&b.node.server).unwrap().link_epoch;
    let document = chartered(&a, &[&b, &c]);
    let merged = signed_by(&[&a, &b, &c], &document).await;
    let first = joined(&a, &merged).await;
    assert_eq!(outcome(&first, &b), JoinOutcome::Made);
    assert!(a.node.peers.get(&b.node.server).unwrap().link_epoch > before);
    a.clock.advance_ms(1);
    peers::suspend(&a.node, &admin(), &b.node.server, "drill")
        .await
        .unwrap();
    peers::revoke(&a.node, &admin(), &c.node.server, "quarrel")
        .await
        .unwrap();
    let second = joined(&a, &merged).await;
    assert_eq!(outcome(&second, &b), JoinOutcome::Known);
    assert_eq!(outcome(&second, &c), JoinOutcome::Left);
    assert_eq!(state(&a, &b), Some(PeerState::Suspended));
    assert_eq!(state(&a, &c), Some(PeerState::Revoked));
}

/// Goal: a newcomer binds who signs the charter that brings it; a member who is left out keeps its
/// agreements; the former charter is of no use to who has signed the next. By a second charter with d and
/// without c, which b does not sign.
#[tokio::test]
async fn a_second_charter() {
    let [a, b, c, d] = sides(["a.example", "b.example", "c.example", "d.example"]);
    let first = signed_by(&[&a, &b, &c], &chartered(&a, &[&b, &c])).await;
    for side in [&a, &b] {
        joined(side, &first).await;
    }
    let next = CharterRequest {
        former: Some(first.clone()),
        without: vec![c.node.server.clone()],
        name: None,
        ..request(&[&d])
    };
    let next = charter(&a.node, &next).unwrap();
    let summary = inspect(&a.node, &next).await.unwrap();
    assert_eq!(
        (summary.serial, summary.name.as_str()),
        (2, "Relief Network")
    );
    let next = signed_by(&[&a, &d], &next).await;
    let at_d = joined(&d, &next).await;
    assert_eq!(outcome(&at_d, &a), JoinOutcome::Made);
    assert_eq!(outcome(&at_d, &b), JoinOutcome::NotSigned);
    let at_a = joined(&a, &next).await;
    assert_eq!(outcome(&at_a, &d), JoinOutcome::Made);
    assert_eq!(state(&a, &c), Some(PeerState::Active), "left out, and kept");
    assert!(refused(&b, &next).await.contains("sign it first"));
    assert_eq!(state(&b, &d), None);

    assert!(refused(&a, &first).await.contains("charter 2"));
    let error = signed(&a, &first).await.unwrap_err();
    assert!(error.to_string().contains("does not follow"), "{error}");
    // Another second charter beside the one that was signed.
    let beside = CharterRequest {
        former: Some(first),
        name: Some("Another".to_owned()),
        ..request(&[])
    };
    let beside = charter(&c.node, &beside).unwrap();
    assert!(signed(&a, &beside).await.is_err());
    // b, who has signed no second one yet, may; what stands goes on.
    let beside = signed(&b, &beside).await.unwrap();
    assert_eq!(
        outcome(&joined(&b, &beside).await, &a),
        JoinOutcome::NotSigned
    );
    assert_eq!(state(&b, &a), Some(PeerState::Active));
}

/// Goal: nobody signs for a stranger: a charter with another root for us, one that was not confirmed, or
/// one that we are not in is refused with the reason, and audited; by an impostor's introduction.
#[tokio::test]
async fn charters_that_are_not_signed() {
    let [a, b] = sides(["a.example", "b.example"]);
    let (impostor, _) = node("b.example");
    let mut forged = request(&[]);
    let introduction = IntroductionRequest {
        endpoints: vec!["192.0.2.9:8448".to_owned()],
        contact: String::new(),
    };
    forged
        .introductions
        .push(introduce(&impostor, &introduction).unwrap());
    let forged = charter(&a.node, &forged).unwrap();
    let error = signed(&b, &forged).await.unwrap_err();
    assert!(error.to_string().contains("another root"), "{error}");
    assert_eq!(audited(&b, "consortium.charter-refused").await, 1);

    let honest = chartered(&a, &[&b]);
    let other = SignCharterRequest {
        document: honest.clone(),
        fingerprint: inspect(&b.node, &forged).await.unwrap().words,
    };
    let error = sign(&b.node, &admin(), &other).await.unwrap_err();
    assert!(error.to_string().contains("not the one that was confirmed"));
    assert!(consortia(&b.node).await.unwrap().consortia.is_empty());

    let [c, _] = sides(["c.example", "e.example"]);
    let error = signed(&c, &honest).await.unwrap_err();
    assert!(error.to_string().contains("not a member"), "{error}");

    // The same introduction twice, and no name.
    let twice = CharterRequest {
        introductions: vec![introduced(&b), introduced(&b)],
        ..request(&[])
    };
    let error = charter(&a.node, &twice).unwrap_err();
    assert!(error.to_string().contains("listed twice"), "{error}");
    let nameless = CharterRequest {
        name: None,
        ..request(&[&b])
    };
    assert!(charter(&a.node, &nameless).is_err());
    assert!(
        merge(
            &a.node,
            &MergeRequest {
                documents: Vec::new()
            }
        )
        .await
        .is_err()
    );
}

/// Goal: a charter ends on its day, with all that followed from it; by moving the clock past it.
#[tokio::test]
async fn expiry() {
    let [a, b, c] = sides(["a.example", "b.example", "c.example"]);
    let mut short = request(&[&b, &c]);
    short.terms = Some(Terms {
        valid_days: 2,
        ..Terms::default()
    });
    let document = charter(&a.node, &short).unwrap();
    let merged = signed_by(&[&a, &b], &document).await;
    joined(&a, &merged).await;
    a.clock.advance_ms(2 * DAY_MS);
    let late = joined(&a, &merged).await;
    assert_eq!(outcome(&late, &b), JoinOutcome::Refused);
    let view = a.node.peers.get(&b.node.server).unwrap();
    let now_ms = a.node.clock.now_ms();
    assert!(
        view.judge(Direction::Outbound, Operation::Message, None, now_ms)
            .is_err()
    );
    peers::expire(&a.node, &b.node.server).await.unwrap();
    assert_eq!(state(&a, &b), Some(PeerState::Expired));
    c.clock.advance_ms(2 * DAY_MS);
    let error = signed(&c, &document).await.unwrap_err();
    assert!(error.to_string().contains("expired"), "{error}");
}
