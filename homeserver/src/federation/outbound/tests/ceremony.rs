//! Peering online: offered, accepted and activated between two homeservers.

use super::*;

/// Goal: the ceremony makes both sides active, each state in its turn, with the countersignature
/// brought online by the offerer's worker, again when its answer was lost; by walking through it.
#[tokio::test]
async fn ceremony_online() {
    let [a, b] = sides(["a.example", "b.example"]);
    let state = |at: &Side, of: &Side| at.node.peers.get(&of.node.server).unwrap().state;
    let acceptance = accepted(&a, &b, None).await;
    assert_eq!(state(&a, &b), PeerState::Offered);
    assert_eq!(state(&b, &a), PeerState::Accepted);
    assert!(a.node.peer_roots.get(&b.node.server).is_none());
    assert!(b.node.peer_roots.get(&a.node.server).is_some());

    countersigned(&a, acceptance).await;
    assert_eq!(state(&a, &b), PeerState::Active);
    assert_eq!(state(&b, &a), PeerState::Accepted);
    a.network.mute_from(paths::COUNTERSIGNATURE);
    let mut worker = worker(&a, &b);
    assert!(matches!(drain(&mut worker).await, Step::Delay(_)));
    assert_eq!(state(&b, &a), PeerState::Active);
    a.network.unmute();
    assert_eq!(drain(&mut worker).await, Step::Idle);
    let view = a.node.peers.get(&b.node.server).unwrap();
    assert_eq!(view.countersignature_to_deliver, None);
}

/// Goal: a document whose fingerprint was not the one read aloud changes nothing; by confirming
/// another organisation's.
#[tokio::test]
async fn wrong_fingerprint_is_refused() {
    let [a, b, c] = sides(["a.example", "b.example", "c.example"]);
    let acceptance = accepted(&a, &b, None).await;
    let others = federation_proto::fingerprint::Fingerprint::of_root(&c.node.keys.root());
    let request = homeserver_api::admin::CountersignRequest {
        document: acceptance,
        fingerprint: others.to_string(),
    };
    let error = peers::countersign(&a.node, &admin(), &request).await;
    assert!(
        matches!(error, Err(peers::PeeringError::State(_))),
        "{error:?}"
    );
    let view = a.node.peers.get(&b.node.server).unwrap();
    assert_eq!(view.state, PeerState::Offered);
}
