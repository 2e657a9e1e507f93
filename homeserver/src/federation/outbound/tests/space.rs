//! A peer whose disk is nearly full.

use super::*;
use crate::delivery::space::testing::set_free;

/// Goal: what a peer's disk has no room for waits here, and arrives once and in order when there is room. Method: messages
/// while it is nearly full, and after.
#[tokio::test]
async fn what_a_disk_has_no_room_for_waits_at_the_sender() {
    let [a, b] = sides(["a.example", "b.example"]);
    let (mut alice, bob) = acquainted(&a, &b).await;
    set_free(&b.node, 0).await;
    for text in [b"one", b"two"] {
        let said = alice.say(&a, ROOM, text, 3600).await;
        assert!(matches!(said, Outcome::Accepted { .. }), "{said:?}");
    }
    assert_ne!(drain(&mut worker(&a, &b)).await, Step::Idle);
    assert_eq!((bob.heard(&b).await, waiting(&a, &b).await), (0, 2));

    set_free(&b.node, u64::MAX).await;
    assert_eq!(drain(&mut worker(&a, &b)).await, Step::Idle);
    assert_eq!((bob.heard(&b).await, waiting(&a, &b).await), (2, 0));
    assert_eq!(dead_letters::newest(&a.node.store, 10).await.unwrap(), []);
}
