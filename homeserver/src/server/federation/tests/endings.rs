//! What ends a connection that is open.

use std::collections::HashMap;

use futures_util::FutureExt as _;

use super::*;
use crate::node::testing;
use crate::tls::PeerAnchor;

/// Goal: a connection whose certificate was replaced during its handshake gives way as any other does, and one that shows
/// today's stays. Method: look at each of a listener's certificates before and after a change of keys.
#[tokio::test]
async fn a_certificate_that_changes_during_the_handshake_is_noticed() {
    let [a] = sides(["a.example"]);
    let tls = ListenerTls::new(&a.node).unwrap();
    let gives_way = |shown: &Shown| {
        let newest = tls.federation.subscribe();
        other_certificate(shown.leaf.clone(), newest).now_or_never()
    };
    let before = tls.federation.borrow().clone();
    assert_eq!(gives_way(&before), None);
    change(&a, Asked::RotateTls { replaces: None }).await;
    tls.refresh(&a.node).unwrap();
    let after = tls.federation.borrow().clone();
    assert_eq!(gives_way(&before), Some(()));
    assert_eq!(gives_way(&after), None);
}

/// Goal: a connection ends at once when its key is revoked (the peer's newer manifest does not pin it), when the
/// agreement ends, and when its certificate has expired, and not before. Method: change the pins, take the peer
/// away, move the clock.
#[tokio::test(start_paused = true)]
async fn connections_end_with_what_they_rest_on() {
    let (node, clock) = testing::node("b.example");
    let peer: ServerName = "a.example".parse().unwrap();
    let authenticated = tls::Authenticated {
        peer: Peer(peer.clone()),
        not_after_ms: node.clock.now_ms() + 60_000,
        pin: [1; 32],
    };
    let pinned = |pins: Vec<[u8; 32]>| {
        let roots = vec![Vec::new().into()];
        HashMap::from([(peer.clone(), PeerAnchor { roots, pins })])
    };
    let both = pinned(vec![[1; 32], [2; 32]]);
    for after in [pinned(vec![[2; 32]]), HashMap::new()] {
        node.peer_roots.replace(both.clone());
        let mut ended = Box::pin(no_longer_welcome(&node, &authenticated));
        assert_eq!(ended.as_mut().now_or_never(), None);
        node.peer_roots.replace(after);
        assert_eq!(ended.now_or_never(), Some("the agreement has changed"));
    }
    node.peer_roots.replace(both);
    let ended = no_longer_welcome(&node, &authenticated);
    clock.advance_ms(60_000);
    assert_eq!(ended.await, "its certificate has expired");
}
