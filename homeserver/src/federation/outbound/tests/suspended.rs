//! An agreement that is suspended: keys go on to be known, and what the partner sends nevertheless is bounded.

use super::keys::{change, pass, serial_known, until};
use super::*;
use crate::federation::outbound::run;
use crate::organisation::Asked;

/// Goal: whoever changes TLS keys twice during a suspension is known by the newest at its partner, and brings the end of
/// the suspension; its partner's keys, which change too, are known here. Method: both run on a network that lets
/// nothing pass that TLS would not; two changes on each side, then the resumption and a message.
#[tokio::test(start_paused = true)]
async fn keys_are_told_during_a_suspension() {
    let [a, b] = sides(["a.example", "b.example"]);
    let (mut alice, bob) = acquainted(&a, &b).await;
    for side in [&a, &b] {
        side.network.judge([a.node.clone(), b.node.clone()]);
    }
    let running = [&a, &b].map(|side| {
        let network = Arc::clone(&side.network);
        tokio::spawn(run(Arc::clone(&side.node), network))
    });
    let both = [&a, &b];
    let state = |at: &Side, of: &Side| at.node.peers.get(&of.node.server).unwrap().state;
    peers::suspend(&a.node, &admin(), &b.node.server, "an incident")
        .await
        .unwrap();
    until(&both, async || state(&b, &a) == PeerState::Suspended).await;
    for _ in 0..2 {
        for (side, other) in [(&a, &b), (&b, &a)] {
            change(side, Asked::RotateTls { replaces: None }).await;
            let newest = side.node.keys.manifest().serial();
            until(&both, async || serial_known(other, side) == newest).await;
        }
        pass(&both, 60_000).await;
    }
    assert_eq!(state(&b, &a), PeerState::Suspended);

    peers::resume(&a.node, &admin(), &b.node.server)
        .await
        .unwrap();
    until(&both, async || state(&b, &a) == PeerState::Active).await;
    alice.say(&a, ROOM, b"back", 3600).await;
    until(&both, async || bob.heard(&b).await == 1).await;
    for task in running {
        task.abort();
    }
}

/// Goal: a homeserver that starts during a suspension tells its partner of keys that changed while it was away; by a
/// change before its worker's first step.
#[tokio::test]
async fn a_start_tells_of_keys_during_a_suspension() {
    let [a, b] = sides(["a.example", "b.example"]);
    peered(&a, &b).await;
    peers::suspend(&a.node, &admin(), &b.node.server, "an incident")
        .await
        .unwrap();
    assert_eq!(drain(&mut worker(&a, &b)).await, Step::Idle);
    change(&a, Asked::RotateTls { replaces: None }).await;
    let asked = |path: &str| {
        let sent = a.network.sent.lock().unwrap();
        sent.iter().filter(|(to, _)| to == path).count()
    };
    let before = asked(paths::PROBE);
    let mut to_b = worker(&a, &b);
    assert_eq!(drain(&mut to_b).await, Step::Idle);
    assert_eq!(asked(paths::PROBE), before + 1);
    assert_eq!(drain(&mut to_b).await, Step::Idle);
    assert_eq!(asked(paths::PROBE), before + 1, "it was told once");
}

/// Goal: a suspended partner's transactions are bounded like any small request, each of them and not only what is
/// audited of them. Method: as many as are saved up, and one more; others have their own bound.
#[tokio::test]
async fn transactions_of_a_suspended_peer_are_bounded() {
    let [a, b, c] = sides(["a.example", "b.example", "c.example"]);
    peered(&a, &b).await;
    peered(&c, &b).await;
    for server in [&a.node.server, &c.node.server] {
        peers::suspend(&b.node, &admin(), server, "an incident")
            .await
            .unwrap();
    }
    let send = async |from: &Side| {
        let sent = post(from, &b, paths::TRANSACTIONS, Bytes::from_static(b"x"));
        sent.await.0
    };
    let mut refused = 0;
    loop {
        match send(&a).await {
            StatusCode::FORBIDDEN => refused += 1,
            status => break assert_eq!(status, StatusCode::TOO_MANY_REQUESTS),
        }
        assert!(refused <= 1_000, "there is no bound");
    }
    assert!(refused >= 100, "{refused}");
    assert_eq!(send(&c).await, StatusCode::FORBIDDEN);
    b.clock.advance_ms(1_000);
    assert_eq!(send(&a).await, StatusCode::FORBIDDEN);
}
