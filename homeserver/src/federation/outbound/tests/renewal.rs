//! Agreements of a consortium go on by its next charter, while mail is on its way.

use federation_proto::agreement::{Agreement, Side as Which};
use federation_proto::hash::Digest;
use homeserver_api::admin::{AmendRequest, ConsentRequest, RefuseAmendmentRequest, Terms};
use homeserver_api::consortium::{
    CharterRequest, CharterSummary, IntroductionRequest, JoinOutcome, MergeRequest,
    SignCharterRequest,
};

use super::*;
use crate::audit;
use crate::federation::peers::consortium;
use crate::store::peer;

pub(super) const DAY_MS: u64 = 24 * 60 * 60 * 1000;
const SMALL: u64 = 1 << 20;
const LARGE: u64 = 1 << 30;

/// Terms that hold for so many days and let files of this size pass.
pub(super) fn terms(valid_days: u32, file_bytes_max: u64) -> Terms {
    Terms {
        valid_days,
        file_bytes_max,
        ..Terms::default()
    }
}

fn introduced(side: &Side) -> String {
    let request = IntroductionRequest {
        endpoints: vec!["192.0.2.1:8448".to_owned()],
        contact: String::new(),
    };
    consortium::introduce(&side.node, &request).unwrap()
}

/// What the first of them asks for, to make a charter of all.
fn request(all: &[&Side], terms: Terms) -> CharterRequest {
    CharterRequest {
        name: Some("Relief Network".to_owned()),
        terms: Some(terms),
        introductions: all[1..].iter().map(|side| introduced(side)).collect(),
        endpoints: vec!["192.0.2.1:8448".to_owned()],
        ..CharterRequest::default()
    }
}

/// The charter that follows `former`, with these terms.
pub(super) fn next(by: &Side, all: &[&Side], former: &str, terms: Terms) -> String {
    let request = CharterRequest {
        former: Some(former.to_owned()),
        name: None,
        ..request(all, terms)
    };
    consortium::charter(&by.node, &request).unwrap()
}

pub(super) async fn inspected(side: &Side, charter: &str) -> CharterSummary {
    consortium::inspect(&side.node, charter).await.unwrap()
}

pub(super) async fn signed(side: &Side, charter: &str) -> String {
    let request = SignCharterRequest {
        document: charter.to_owned(),
        fingerprint: inspected(side, charter).await.fingerprint,
    };
    consortium::sign(&side.node, &admin(), &request)
        .await
        .unwrap()
}

pub(super) async fn signed_by(all: &[&Side], charter: &str) -> String {
    let mut documents = Vec::new();
    for side in all {
        documents.push(signed(side, charter).await);
    }
    let request = MergeRequest { documents };
    consortium::merge(&all[0].node, &request).await.unwrap()
}

pub(super) async fn join(side: &Side, of: &Side, charter: &str) -> JoinOutcome {
    let joined = consortium::join(&side.node, &admin(), charter)
        .await
        .unwrap();
    let mut pairs = joined.pairs.into_iter();
    pairs
        .find(|pair| pair.server == of.node.server)
        .unwrap()
        .outcome
}

/// They are peers by a first charter of 40 days with small files, and 20 days of them are over. Its text.
pub(super) async fn chartered(all: &[&Side]) -> String {
    let charter = founded(all).await;
    pass_days(all, 20);
    charter
}

/// They have just become peers by a first charter of 40 days with small files. Its text.
async fn founded(all: &[&Side]) -> String {
    let charter = consortium::charter(&all[0].node, &request(all, terms(40, SMALL))).unwrap();
    let merged = signed_by(all, &charter).await;
    for side in all {
        consortium::join(&side.node, &admin(), &merged)
            .await
            .unwrap();
    }
    merged
}

fn pass_days(all: &[&Side], days: u64) {
    for side in all {
        side.clock.advance_ms(days * DAY_MS);
    }
}

/// Everything that waits has gone both ways, and what came of it.
pub(super) async fn settle(a: &Side, b: &Side) {
    for _ in 0..4 {
        for (from, to) in [(a, b), (b, a)] {
            drain(&mut worker(from, to)).await;
        }
    }
}

async fn signed_at(at: &Side, with: &Side) -> federation_proto::agreement::Signed {
    let stored = peer::get(&at.node.store, &with.node.server).await.unwrap();
    let agreement = Agreement::restore(&stored.unwrap().0.current.unwrap()).unwrap();
    agreement.signed().unwrap().clone()
}

/// The agreement's name, and both statements' documents, as this end has them.
pub(super) async fn documents(at: &Side, with: &Side) -> [Digest; 3] {
    let signed = signed_at(at, with).await;
    [
        signed.sha256(),
        signed.document_sha256(Which::Offerer),
        signed.document_sha256(Which::Accepter),
    ]
}

async fn audited(side: &Side, action: &str) -> Vec<String> {
    let log = audit::page(&side.node.store, side.node.random.as_ref(), 0, 1000)
        .await
        .unwrap();
    let entries = log.entries.into_iter();
    let of_action = entries.filter(|entry| entry.action == action);
    of_action.map(|entry| entry.detail).collect()
}

async fn lines(at: &Side, of: &Side) -> String {
    let detail = peers::detail(&at.node, &of.node.server).await.unwrap();
    detail.lines.join("\n")
}

/// Largest file and end of the agreement, as this end goes by it.
pub(super) fn in_force(at: &Side, with: &Side) -> (u64, u64) {
    let agreement = &at.node.peers.get(&with.node.server).unwrap().agreement;
    (agreement.file_bytes_max, agreement.expires_ms)
}

async fn amend(at: &Side, with: &Side, request: AmendRequest) {
    peers::amend(&at.node, &admin(), &with.node.server, &request)
        .await
        .unwrap();
}

fn smaller_files(file_bytes_max: u64) -> AmendRequest {
    AmendRequest {
        file_bytes_max: Some(file_bytes_max),
        ..AmendRequest::default()
    }
}

/// Goal: a pair that has signed the next charter goes on by it whoever joins first: the same agreement, link and
/// queue, the charter's terms and end, the same documents at both ends, each act audited; and nobody consents by hand.
/// By mail before, between and after, on either order.
#[tokio::test]
async fn a_pair_goes_on() {
    for first in 0..2_u8 {
        let all = sides(["a.example", "b.example"]);
        let [a, b] = &all;
        let (one, other) = if first == 0 { (a, b) } else { (b, a) };
        let room = RoomId::from_bytes([70 + first; 16]);
        let former = founded(&[a, b]).await;
        let mut alice = person(a, "alice").await;
        let mut bob = person(b, "bob").await;
        let created = alice.create_room(a, room, &[&bob]).await;
        assert!(matches!(created, Outcome::Accepted { .. }), "{created:?}");
        settle(a, b).await;
        pass_days(&[a, b], 20);
        let before = documents(a, b).await;
        let epoch = a.node.peers.get(&b.node.server).unwrap().link_epoch;

        let charter = next(a, &[a, b], &former, terms(365, LARGE));
        let shown = inspected(b, &charter).await;
        let changes = &shown.members[0].changes;
        assert_eq!(changes.len(), 4, "size and end of both: {changes:?}");
        assert!(changes.iter().all(|change| change.starts_with("widens: ")));
        let merged = signed_by(&[a, b], &charter).await;
        let said = alice.say(a, room, b"on its way", 3600).await;
        assert!(matches!(said, Outcome::Accepted { .. }), "{said:?}");
        assert_eq!(waiting(a, b).await, 1);
        assert_eq!(join(one, other, &merged).await, JoinOutcome::Renewing);
        drain(&mut worker(one, other)).await;
        assert_eq!(documents(other, one).await[0], before[0]);
        bob.say(b, room, b"between", 3600).await;
        join(other, one, &merged).await;
        settle(a, b).await;

        let after = documents(a, b).await;
        assert_eq!(after, documents(b, a).await, "the same bytes");
        assert_eq!(after[0], before[0], "the same agreement");
        let end_ms = shown.expires_ms;
        assert_eq!(
            (in_force(a, b), in_force(b, a)),
            ((LARGE, end_ms), (LARGE, end_ms))
        );
        let view = a.node.peers.get(&b.node.server).unwrap();
        assert_eq!((view.link_epoch, view.outgoing.len()), (epoch, 0));
        alice.say(a, room, b"after", 3600).await;
        settle(a, b).await;
        assert_eq!((alice.heard(a).await, bob.heard(b).await), (1, 2));
        for (at, of) in [(a, b), (b, a)] {
            assert_eq!(audited(at, "peer.renewal-proposed").await.len(), 1);
            let consents = audited(at, "peer.consented-by-charter").await;
            assert!(consents[0].contains("charter 2 of \"Relief Network\""));
            assert_eq!(audited(at, "peer.consented").await.len(), 0);
            let taken = audited(at, "peer.consented-by-partner").await;
            assert!(taken[0].ends_with("which states charter 2"), "{taken:?}");
            assert!(lines(at, of).await.contains("Charter 2 of it has renewed"));
            assert_eq!(join(at, of, &merged).await, JoinOutcome::Renewed);
            assert_eq!(inspected(at, &merged).await.members[0].changes.len(), 0);
            assert!(
                dead_letters::newest(&at.node.store, 1)
                    .await
                    .unwrap()
                    .is_empty()
            );
        }
        assert_eq!(
            documents(a, b).await,
            after,
            "joining again changes nothing"
        );
    }
}

/// Goal: what a side narrowed before it signed, it has signed to be as the charter has it; what it narrowed afterwards
/// stays; and a pause stays a pause. By smaller files at both ends, before and after, and a pause over the renewal.
#[tokio::test]
async fn what_was_narrowed() {
    let [a, b] = sides(["a.example", "b.example"]);
    let former = chartered(&[&a, &b]).await;
    amend(&a, &b, smaller_files(7)).await;
    settle(&a, &b).await;
    assert_eq!(in_force(&b, &a).0, 7);
    pass_days(&[&a, &b], 1);
    let charter = next(&a, &[&a, &b], &former, terms(365, LARGE));
    let widened = &inspected(&a, &charter).await.members[1].changes;
    assert!(
        widened.iter().any(|change| change.contains("7 bytes")),
        "{widened:?}"
    );
    let merged = signed_by(&[&a, &b], &charter).await;
    pass_days(&[&a, &b], 1);
    peers::suspend(&a.node, &admin(), &b.node.server, "drill")
        .await
        .unwrap();
    let stricter = AmendRequest {
        ttl_max_seconds: Some(60),
        ..AmendRequest::default()
    };
    amend(&b, &a, stricter).await;
    for (side, other) in [(&a, &b), (&b, &a)] {
        join(side, other, &merged).await;
    }
    settle(&a, &b).await;
    assert_eq!(documents(&a, &b).await, documents(&b, &a).await);
    for (at, with) in [(&a, &b), (&b, &a)] {
        let agreement = &at.node.peers.get(&with.node.server).unwrap().agreement;
        assert_eq!(
            (agreement.file_bytes_max, agreement.ttl_max_seconds),
            (LARGE, 60)
        );
        assert_eq!(
            agreement.expires_ms,
            inspected(at, &merged).await.expires_ms
        );
        let state = at.node.peers.get(&with.node.server).unwrap().state;
        assert_eq!(state, PeerState::Suspended, "{}", at.node.server);
    }
    peers::resume(&a.node, &admin(), &b.node.server)
        .await
        .unwrap();
    settle(&a, &b).await;
    assert_eq!(
        b.node.peers.get(&a.node.server).unwrap().state,
        PeerState::Active
    );
    // An end that was brought forward after signing stays too.
    let sooner = AmendRequest {
        valid_days: Some(100),
        ..AmendRequest::default()
    };
    let third = next(&a, &[&a, &b], &merged, terms(700, LARGE));
    let third = signed_by(&[&a, &b], &third).await;
    amend(&b, &a, sooner).await;
    let sooner_ms = now(&b) + 100 * DAY_MS;
    for (side, other) in [(&a, &b), (&b, &a)] {
        join(side, other, &third).await;
    }
    settle(&a, &b).await;
    assert_eq!(documents(&a, &b).await, documents(&b, &a).await);
    assert_eq!(
        (in_force(&a, &b).1, in_force(&b, &a).1),
        (sooner_ms, sooner_ms)
    );
}

/// Goal: nothing goes on by one signature: who has not signed, or does not know the other's signature, is bound by
/// nothing, and nothing is consented to in an administrator's place; by one who signs late, and whose administrator is
/// asked meanwhile.
#[tokio::test]
async fn one_signature_is_none() {
    let [a, b] = sides(["a.example", "b.example"]);
    let former = chartered(&[&a, &b]).await;
    let end_ms = in_force(&a, &b).1;
    let charter = next(&a, &[&a, &b], &former, terms(365, LARGE));
    let by_a = signed(&a, &charter).await;
    assert_eq!(join(&a, &b, &by_a).await, JoinOutcome::NotSigned);
    // The same words, without the charter.
    let by_hand = AmendRequest {
        file_bytes_max: Some(LARGE),
        valid_days: Some(365),
        ..AmendRequest::default()
    };
    amend(&a, &b, by_hand).await;
    settle(&a, &b).await;
    round(&b.node).await.unwrap();
    let by_b = signed(&b, &charter).await;
    round(&b.node).await.unwrap();
    assert_eq!(join(&b, &a, &by_b).await, JoinOutcome::NotSigned);
    settle(&a, &b).await;
    assert_eq!(
        in_force(&b, &a),
        (SMALL, end_ms),
        "an administrator is asked"
    );
    let proposal = peers::detail(&b.node, &a.node.server)
        .await
        .unwrap()
        .proposal;
    assert!(proposal.is_some());
    // From both signatures on, what waits is covered by the charter, and a has nothing to add.
    assert_eq!(join(&b, &a, &by_a).await, JoinOutcome::Renewing);
    join(&a, &b, &by_b).await;
    settle(&a, &b).await;
    round(&a.node).await.unwrap();
    settle(&a, &b).await;
    assert_eq!(in_force(&a, &b).0, LARGE);
    assert_eq!(documents(&a, &b).await, documents(&b, &a).await);
    assert_eq!(join(&a, &b, &by_b).await, JoinOutcome::Renewed);

    // More than the charter states is asked for as ever.
    amend(&a, &b, smaller_files(LARGE + 1)).await;
    settle(&a, &b).await;
    let proposal = peers::detail(&b.node, &a.node.server)
        .await
        .unwrap()
        .proposal;
    assert_eq!(proposal.unwrap().changes.len(), 1);
}

/// Goal: an administrator who refuses by hand has refused: our half is not brought again and again; by one who has
/// signed and not joined yet.
#[tokio::test]
async fn a_half_that_is_refused() {
    let [a, b] = sides(["a.example", "b.example"]);
    let former = chartered(&[&a, &b]).await;
    let charter = next(&a, &[&a, &b], &former, terms(365, LARGE));
    let merged = signed_by(&[&a, &b], &charter).await;
    join(&a, &b, &merged).await;
    settle(&a, &b).await;
    let proposal = peers::detail(&b.node, &a.node.server)
        .await
        .unwrap()
        .proposal;
    let refusal = RefuseAmendmentRequest {
        amendment: proposal.unwrap().amendment,
        reason: "not this year".to_owned(),
    };
    peers::refuse(&b.node, &admin(), &a.node.server, &refusal)
        .await
        .unwrap();
    settle(&a, &b).await;
    round(&a.node).await.unwrap();
    settle(&a, &b).await;
    assert_eq!(join(&a, &b, &merged).await, JoinOutcome::Kept);
    assert_eq!(audited(&a, "peer.renewal-proposed").await.len(), 1);
    assert!(lines(&a, &b).await.contains("did not consent to our half"));
}

/// Goal: who joins after the last day makes another agreement by the charter, the same at both ends, over an empty
/// outbox; until then both had come to the same end. By one who joins in time and one who does not.
#[tokio::test]
async fn too_late() {
    let [a, b] = sides(["a.example", "b.example"]);
    let former = chartered(&[&a, &b]).await;
    let before = documents(&a, &b).await;
    let charter = next(&a, &[&a, &b], &former, terms(365, LARGE));
    let merged = signed_by(&[&a, &b], &charter).await;
    assert_eq!(join(&a, &b, &merged).await, JoinOutcome::Renewing);
    settle(&a, &b).await;
    let epoch = a.node.peers.get(&b.node.server).unwrap().link_epoch;
    pass_days(&[&a, &b], 20);
    for side in [&a, &b] {
        round(&side.node).await.unwrap();
    }
    assert_eq!(
        a.node.peers.get(&b.node.server).unwrap().state,
        PeerState::Expired
    );
    assert_eq!(
        b.node.peers.get(&a.node.server).unwrap().state,
        PeerState::Expired
    );
    assert_eq!(join(&b, &a, &merged).await, JoinOutcome::Made);
    assert_eq!(join(&a, &b, &merged).await, JoinOutcome::Made);
    let after = documents(&a, &b).await;
    assert_ne!(after[0], before[0]);
    assert_eq!(after, documents(&b, &a).await);
    assert!(a.node.peers.get(&b.node.server).unwrap().link_epoch > epoch);
    assert_eq!(join(&a, &b, &merged).await, JoinOutcome::Known);
}

/// Goal: an amendment that crosses with the renewal counts, and the renewal is stated over it: nothing that was
/// narrowed after signing is widened, and both ends agree; by one made while the partner's consent was on its way.
#[tokio::test]
async fn amendments_cross() {
    let [a, b] = sides(["a.example", "b.example"]);
    let former = chartered(&[&a, &b]).await;
    let charter = next(&a, &[&a, &b], &former, terms(365, LARGE));
    let merged = signed_by(&[&a, &b], &charter).await;
    join(&b, &a, &merged).await;
    join(&a, &b, &merged).await;
    pass_days(&[&a, &b], 1);
    // b consents to a's half, which a has replaced by the time the consent comes.
    drain(&mut worker(&a, &b)).await;
    assert_eq!(audited(&b, "peer.consented-by-charter").await.len(), 1);
    amend(&a, &b, smaller_files(5)).await;
    drain(&mut worker(&b, &a)).await;
    assert_eq!(in_force(&a, &b).0, 5);
    settle(&a, &b).await;
    round(&a.node).await.unwrap();
    settle(&a, &b).await;
    assert_eq!(documents(&a, &b).await, documents(&b, &a).await);
    let end_ms = inspected(&a, &merged).await.expires_ms;
    assert_eq!(
        (in_force(&a, &b), in_force(&b, &a)),
        ((5, end_ms), (5, end_ms))
    );
    assert_eq!(join(&a, &b, &merged).await, JoinOutcome::Renewed);

    // A proposal of another kind is answered first.
    let third = next(&a, &[&a, &b], &merged, terms(500, LARGE));
    let third = signed_by(&[&a, &b], &third).await;
    amend(&b, &a, smaller_files(LARGE * 2)).await;
    assert_eq!(join(&b, &a, &third).await, JoinOutcome::Renewing);
    join(&a, &b, &third).await;
    settle(&a, &b).await;
    assert_eq!(in_force(&a, &b).1, end_ms);
    let proposal = peers::detail(&a.node, &b.node.server)
        .await
        .unwrap()
        .proposal;
    let consent = ConsentRequest {
        amendment: proposal.unwrap().amendment,
        fingerprint: None,
    };
    peers::consent(&a.node, &admin(), &b.node.server, &consent)
        .await
        .unwrap();
    settle(&a, &b).await;
    assert_eq!(join(&b, &a, &third).await, JoinOutcome::Renewing);
    settle(&a, &b).await;
    assert_eq!(documents(&a, &b).await, documents(&b, &a).await);
    assert_eq!(in_force(&a, &b).1, inspected(&a, &third).await.expires_ms);
}

/// Goal: a charter that follows before the one before has been taken everywhere takes its place, half by half, and nobody
/// consents by hand; by two charters, joined in either order.
#[tokio::test]
async fn one_charter_overtakes_another() {
    for b_first in [true, false] {
        let [a, b] = sides(["a.example", "b.example"]);
        let former = chartered(&[&a, &b]).await;
        let second = next(&a, &[&a, &b], &former, terms(365, LARGE));
        let second = signed_by(&[&a, &b], &second).await;
        join(&a, &b, &second).await;
        settle(&a, &b).await;
        pass_days(&[&a, &b], 1);
        let third = next(&a, &[&a, &b], &second, terms(700, LARGE));
        let third = signed_by(&[&a, &b], &third).await;
        let joining = if b_first {
            [(&b, &a), (&a, &b)]
        } else {
            [(&a, &b), (&b, &a)]
        };
        for (side, other) in joining {
            assert_eq!(join(side, other, &third).await, JoinOutcome::Renewing);
        }
        settle(&a, &b).await;
        assert_eq!(documents(&a, &b).await, documents(&b, &a).await);
        let end_ms = inspected(&a, &third).await.expires_ms;
        assert_eq!((in_force(&a, &b).1, in_force(&b, &a).1), (end_ms, end_ms));
        assert_eq!(join(&a, &b, &third).await, JoinOutcome::Renewed);
        assert_eq!(audited(&b, "peer.consented").await.len(), 0);
    }
}

/// Goal: before the end administrators are told what the next charter makes of it, also who is left out of it, and
/// that one's agreement ends on its day; by three members, one left out and one who has not signed.
#[tokio::test]
async fn the_end_and_the_next_charter() {
    let [a, b, c] = sides(["a.example", "b.example", "c.example"]);
    let former = chartered(&[&a, &b, &c]).await;
    let warned = peers::warnings(&a.node).await.unwrap();
    assert!(warned[0].ends_with("No later charter of \"Relief Network\" was signed here."));
    round(&a.node).await.unwrap();
    let request = CharterRequest {
        without: vec![c.node.server.clone()],
        former: Some(former.clone()),
        name: None,
        ..request(&[&a, &b], terms(365, LARGE))
    };
    let charter = consortium::charter(&a.node, &request).unwrap();
    let left_out = &inspected(&a, &charter).await.left_out;
    assert_eq!(left_out.len(), 1);
    assert_eq!(left_out[0].server, c.node.server);
    assert_eq!(left_out[0].expires_ms, in_force(&a, &c).1);
    let by_a = signed(&a, &charter).await;
    pass_days(&[&a, &b, &c], 14);
    let warned = peers::warnings(&a.node).await.unwrap().join("\n");
    assert!(
        warned.contains("was signed here, but not by b.example"),
        "{warned}"
    );
    assert!(warned.contains("leaves c.example out"), "{warned}");
    round(&a.node).await.unwrap();
    let details = audited(&a, "peer.expires-soon").await;
    assert_eq!(details.len(), 4, "{details:?}");
    assert!(details[2].starts_with("within 7 days. Charter 2 of "));
    let merged = signed_by(&[&b, &a], &by_a).await;
    for (side, other) in [(&a, &b), (&b, &a)] {
        join(side, other, &merged).await;
    }
    let warned = peers::warnings(&a.node).await.unwrap().join("\n");
    assert!(warned.contains("renews it; that is under way"), "{warned}");
    settle(&a, &b).await;
    pass_days(&[&a, &b, &c], 6);
    for side in [&a, &b, &c] {
        round(&side.node).await.unwrap();
    }
    assert_eq!(
        a.node.peers.get(&b.node.server).unwrap().state,
        PeerState::Active
    );
    assert_eq!(
        a.node.peers.get(&c.node.server).unwrap().state,
        PeerState::Expired
    );
    assert_eq!(
        c.node.peers.get(&a.node.server).unwrap().state,
        PeerState::Expired
    );
    assert!(
        lines(&a, &b)
            .await
            .contains("It follows from charter 1 of the consortium")
    );
}
