//! What one side decides alone, the other is told; and how an agreement's last days go.

use super::*;
use crate::audit;
use crate::federation::outbound::first_end;

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

async fn audited(at: &Side, action: &str) -> Vec<String> {
    let log = audit::page(&at.node.store, at.node.random.as_ref(), 0, 1000)
        .await
        .unwrap();
    let entries = log.entries.into_iter();
    let of_it = entries.filter(|entry| entry.action == action);
    of_it.map(|entry| entry.detail).collect()
}

fn state(at: &Side, of: &Side) -> PeerState {
    at.node.peers.get(&of.node.server).unwrap().state
}

/// When the agreement ends, as `at` goes by it.
fn ends_ms(at: &Side, with: &Side) -> u64 {
    let view = at.node.peers.get(&with.node.server).unwrap();
    view.agreement.expires_ms
}

/// Goal: a pause reaches the other side, which refuses new mail with that reason and keeps what waits, and
/// so does its end; an old pause that comes again changes nothing; by pausing, resuming and replaying.
#[tokio::test]
async fn a_pause_is_told() {
    let [a, b] = sides(["a.example", "b.example"]);
    let (mut alice, bob) = acquainted(&a, &b).await;
    alice.say(&a, ROOM, b"waits", 3600).await;
    let (mut to_a, mut to_b) = (worker(&b, &a), worker(&a, &b));
    peers::suspend(&b.node, &admin(), &a.node.server, "an audit")
        .await
        .unwrap();
    assert_eq!(drain(&mut to_a).await, Step::Idle);
    assert_eq!(state(&a, &b), PeerState::Suspended);
    let detail = peers::detail(&a.node, &b.node.server).await.unwrap();
    assert_eq!(
        detail.reason.as_deref(),
        Some("b.example says: \"an audit\"")
    );
    let said = alice.say(&a, ROOM, b"refused", 3600).await;
    assert!(
        matches!(&said, Outcome::Refused(refusal) if refusal.code == RefusalCode::AgreementSuspended),
        "{said:?}"
    );
    assert_eq!(drain(&mut to_b).await, Step::Idle);
    assert_eq!(waiting(&a, &b).await, 1);
    // Whoever writes nevertheless is told which side it was.
    for (from, to, who) in [
        (
            &b,
            &a,
            "b.example has suspended the agreement with a.example",
        ),
        (&a, &b, "b.example has suspended the agreement with you"),
    ] {
        let (status, told) = post(from, to, paths::TRANSACTIONS, Bytes::new()).await;
        assert_eq!(status, StatusCode::FORBIDDEN);
        let told = String::from_utf8_lossy(&told);
        assert!(told.contains(who), "{told}");
    }
    // Not ours to end.
    let error = peers::resume(&a.node, &admin(), &b.node.server).await;
    assert!(matches!(error, Err(peers::PeeringError::State(_))));

    peers::resume(&b.node, &admin(), &a.node.server)
        .await
        .unwrap();
    assert_eq!(drain(&mut to_a).await, Step::Idle);
    assert_eq!(state(&a, &b), PeerState::Active);
    assert_eq!(drain(&mut to_b).await, Step::Idle);
    assert_eq!(bob.heard(&b).await, 1);

    let sent = b.network.sent.lock().unwrap().clone();
    let told: Vec<Bytes> = sent
        .into_iter()
        .filter_map(|(path, body)| (path == paths::DECLARATION).then_some(body))
        .collect();
    assert_eq!(told.len(), 2);
    let (status, _) = post(&b, &a, paths::DECLARATION, told[0].clone()).await;
    assert_eq!(status, StatusCode::CONFLICT);
    let (status, _) = post(&b, &a, paths::DECLARATION, told[1].clone()).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(state(&a, &b), PeerState::Active);
    assert_eq!(audited(&a, "peer.suspended-by-partner").await, ["an audit"]);
}

/// Goal: the other side of a revocation learns of it, gives up what waits and tells its senders, though the
/// revoker lets it connect no more; nobody else can say so; by revoking with mail in the other's queue.
#[tokio::test]
async fn a_revocation_is_told() {
    let [a, b, c] = sides(["a.example", "b.example", "c.example"]);
    let (mut alice, _) = acquainted(&a, &b).await;
    peered(&a, &c).await;
    a.network.set_down(true);
    alice.say(&a, ROOM, b"too late", 3600).await;
    let (mut to_a, mut to_b) = (worker(&b, &a), worker(&a, &b));
    assert!(matches!(drain(&mut to_b).await, Step::Delay(_)));

    peers::revoke(&c.node, &admin(), &a.node.server, "mine")
        .await
        .unwrap();
    let of_c = c.node.peers.get(&a.node.server).unwrap().outgoing[0]
        .bytes
        .clone();
    let (status, _) = post(&b, &a, paths::DECLARATION, of_c).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(state(&a, &b), PeerState::Active);

    peers::revoke(&b.node, &admin(), &a.node.server, "over")
        .await
        .unwrap();
    assert_eq!(
        b.node.peer_roots.get(&a.node.server),
        None,
        "it may not connect"
    );
    assert!(b.node.peer_roots.get_to_call(&a.node.server).is_some());
    b.network.mute_from(paths::DECLARATION);
    assert!(matches!(drain(&mut to_a).await, Step::Delay(_)));
    assert_eq!(state(&a, &b), PeerState::Revoked);
    assert_eq!(a.node.peer_roots.get(&b.node.server), None);
    assert_eq!(drain(&mut to_b).await, Step::Idle);
    assert_eq!(waiting(&a, &b).await, 0);
    assert!(returned(&alice, &a, 2, RefusalCode::AgreementRevoked).await);
    let detail = peers::detail(&a.node, &b.node.server).await.unwrap();
    assert_eq!(detail.reason.as_deref(), Some("b.example says: \"over\""));

    // The answer was lost; the other side knows it, and says that there is nothing left to end.
    b.network.unmute();
    assert_eq!(drain(&mut to_a).await, Step::Idle);
    assert_eq!(b.node.peer_roots.get_to_call(&a.node.server), None);
    assert_eq!(audited(&a, "peer.revoked-by-partner").await, ["over"]);
}

/// Goal: a new agreement that is complete before the end of the old one was told takes its place on the other side
/// too, and mail passes both ways; until then senders are told that the old one was revoked. By revoking and
/// agreeing anew while the other is away.
#[tokio::test]
async fn a_new_agreement_overtakes_the_end_of_the_old_one() {
    let [a, b] = sides(["a.example", "b.example"]);
    let (mut alice, mut bob) = acquainted(&a, &b).await;
    bob.say(&b, ROOM, b"before", 3600).await;
    assert_eq!(drain(&mut worker(&b, &a)).await, Step::Idle);
    assert_eq!(alice.heard(&a).await, 1);
    a.network.set_down(true);
    peers::revoke(&a.node, &admin(), &b.node.server, "over")
        .await
        .unwrap();
    assert!(matches!(drain(&mut worker(&a, &b)).await, Step::Delay(_)));
    let ended = |said: &Outcome| matches!(said, Outcome::Refused(refusal) if refusal.code == RefusalCode::AgreementRevoked);
    let said = alice.say(&a, ROOM, b"too late", 3600).await;
    assert!(ended(&said), "{said:?}");
    let acceptance = accepted(&a, &b, None).await;
    let said = alice.say(&a, ROOM, b"too early", 3600).await;
    assert!(ended(&said), "{said:?}");
    countersigned(&a, acceptance).await;
    a.network.set_down(false);
    alice.say(&a, ROOM, b"to b", 3600).await;
    bob.say(&b, ROOM, b"to a", 3600).await;
    assert_eq!(drain(&mut worker(&a, &b)).await, Step::Idle);
    assert_eq!(drain(&mut worker(&b, &a)).await, Step::Idle);
    assert_eq!(state(&a, &b), PeerState::Active);
    assert_eq!(state(&b, &a), PeerState::Active);
    assert_eq!(bob.heard(&b).await, 1);
    assert_eq!(alice.heard(&a).await, 2);
}

/// Goal: a former peer that is away is told for 30 days, seldom after the first one, and at once when it shows that it
/// is there; no longer, and not beyond the agreement's own last day, so that nothing of it stays. By moving the clock.
#[tokio::test]
async fn a_farewell_ends() {
    let [a, b] = sides(["a.example", "b.example"]);
    peered(&a, &b).await;
    a.network.set_down(true);
    peers::revoke(&a.node, &admin(), &b.node.server, "over")
        .await
        .unwrap();
    let mut to_b = worker(&a, &b);
    assert!(matches!(drain(&mut to_b).await, Step::Delay(_)));
    // A new offer under way changes nothing of that.
    accepted(&a, &b, None).await;
    assert_eq!(state(&a, &b), PeerState::Offered);
    assert!(a.node.peer_roots.get_to_call(&b.node.server).is_some());
    a.clock.advance_ms(DAY_MS - 1);
    let soon = drain(&mut to_b).await;
    assert!(
        matches!(soon, Step::Delay(delay) if delay.as_secs() <= 30),
        "{soon:?}"
    );
    a.clock.advance_ms(1);
    for _ in 0..2 {
        let seldom = drain(&mut to_b).await;
        assert!(
            matches!(seldom, Step::Delay(delay) if delay.as_secs() >= 300),
            "{seldom:?}"
        );
    }
    a.clock.advance_ms(29 * DAY_MS - 1);
    assert!(matches!(drain(&mut to_b).await, Step::Delay(_)));
    a.clock.advance_ms(1);
    assert_eq!(drain(&mut to_b).await, Step::Idle);
    assert_eq!(a.node.peer_roots.get_to_call(&b.node.server), None);
    assert_eq!(audited(&a, "peer.document-not-taken").await.len(), 1);

    // One that would have ended by itself meanwhile.
    let [a, b] = sides(["a.example", "b.example"]);
    peered(&a, &b).await;
    let last_day_ms = ends_ms(&a, &b);
    a.clock.advance_ms(last_day_ms - 2 * DAY_MS - now(&a));
    a.network.set_down(true);
    peers::revoke(&a.node, &admin(), &b.node.server, "over")
        .await
        .unwrap();
    let mut to_b = worker(&a, &b);
    a.clock.advance_ms(2 * DAY_MS - 1);
    assert!(matches!(drain(&mut to_b).await, Step::Delay(_)));
    a.clock.advance_ms(1);
    assert_eq!(drain(&mut to_b).await, Step::Idle);
    assert_eq!(audited(&a, "peer.document-not-taken").await.len(), 1);
}

/// Goal: administrators are warned 30, 7 and 1 days before the end, once each, and are shown it meanwhile;
/// then the agreement ends by itself and gives up what waits; by moving the clock in rounds.
#[tokio::test]
async fn an_end_is_announced() {
    let [a, b] = sides(["a.example", "b.example"]);
    let (mut alice, _) = acquainted(&a, &b).await;
    let end_ms = ends_ms(&a, &b);
    for (days_left, warnings) in [(31, 0), (30, 1), (29, 1), (7, 2), (6, 2), (1, 3)] {
        let now_ms = now(&a);
        a.clock.advance_ms(end_ms - days_left * DAY_MS - now_ms);
        for _ in 0..2 {
            round(&a.node).await.unwrap();
        }
        let warned = audited(&a, "peer.expires-soon").await;
        assert_eq!(warned.len(), warnings, "{days_left} days: {warned:?}");
        assert_eq!(
            peers::warnings(&a.node).await.unwrap().is_empty(),
            warnings == 0
        );
    }
    assert_eq!(
        audited(&a, "peer.expires-soon").await,
        ["within 30 days", "within 7 days", "within 1 day"]
    );
    a.network.set_down(true);
    let said = alice.say(&a, ROOM, b"too late", 7 * 86_400).await;
    assert!(matches!(said, Outcome::Accepted { .. }), "{said:?}");
    a.clock.advance_ms(DAY_MS);
    round(&a.node).await.unwrap();
    assert_eq!(state(&a, &b), PeerState::Expired);
    assert_eq!(
        a.node.peer_roots.get(&b.node.server),
        None,
        "connections are cut"
    );
    assert_eq!(drain(&mut worker(&a, &b)).await, Step::Idle);
    assert_eq!(waiting(&a, &b).await, 0);
    assert!(returned(&alice, &a, 2, RefusalCode::AgreementExpired).await);
}

/// Goal: an agreement's end is not left to the next round; by the time that is waited for it, shortly before
/// and after.
#[tokio::test(start_paused = true)]
async fn an_end_is_met_in_time() {
    let [a, b] = sides(["a.example", "b.example"]);
    peered(&a, &b).await;
    let end_ms = ends_ms(&a, &b);
    let now_ms = now(&a);
    a.clock.advance_ms(end_ms - 700 - now_ms);
    for (advance_ms, waited_ms) in [(0, 700), (700, 100), (5000, 100)] {
        a.clock.advance_ms(advance_ms);
        let before = tokio::time::Instant::now();
        first_end(&a.node).await;
        assert_eq!(before.elapsed().as_millis(), waited_ms);
    }
}
