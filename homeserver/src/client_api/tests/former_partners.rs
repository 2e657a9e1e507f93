//! Whose roots devices are told when an agreement has ended.

use axum::Json;
use axum::extract::State;

use super::*;
use crate::client_api::anchors;
use crate::federation::peers;
use crate::federation::testing::{Side, admin, peered, sides};

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// Partners and former partners, as devices are told of them.
async fn named(side: &Side) -> (Vec<String>, Vec<String>) {
    let Json(Anchors { anchors, ended }) =
        anchors::list(State(Arc::clone(&side.node))).await.unwrap();
    let names = |of: Vec<homeserver_api::client::Anchor>| {
        of.into_iter()
            .map(|anchor| anchor.server.to_string())
            .collect()
    };
    (names(anchors), names(ended))
}

/// Goal: a former partner's root is told apart from those of partners, for 90 days, with the root that it had; a partner that is only
/// paused stays one, and one with which there is an agreement again is one again. Method: a pauses, then revokes, and waits.
#[tokio::test]
async fn former_partners_are_told_apart() {
    let [a, b] = sides(["a.example", "b.example"]);
    peered(&a, &b).await;
    let both = (vec!["a.example".to_owned(), "b.example".to_owned()], vec![]);
    assert_eq!(named(&a).await, both);
    peers::suspend(&a.node, &admin(), &b.node.server, "")
        .await
        .unwrap();
    assert_eq!(named(&a).await, both);
    peers::revoke(&a.node, &admin(), &b.node.server, "")
        .await
        .unwrap();
    let apart = (vec!["a.example".to_owned()], vec!["b.example".to_owned()]);
    assert_eq!(named(&a).await, apart);
    let Json(told) = anchors::list(State(Arc::clone(&a.node))).await.unwrap();
    assert_eq!(told.ended[0].root.0, b.node.keys.root().to_vec());
    assert_eq!(told.ended[0].log_head, None);
    // Also when nothing is left to be told to the partner, and from what is stored.
    a.clock.advance_ms(90 * DAY_MS - 1);
    a.node.peers.refresh(&a.node).await.unwrap();
    assert_eq!(named(&a).await, apart);
    a.clock.advance_ms(1);
    assert_eq!(named(&a).await, (apart.0, vec![]));
}
