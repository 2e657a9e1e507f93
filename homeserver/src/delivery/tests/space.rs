//! A disk that is nearly full.

use super::*;
use crate::delivery::space::testing::set_free;
use crate::delivery::{NotTaken, files};
use crate::store::file::{self, Whose};

const MUCH: u64 = u64::MAX;

/// Goal: while the disk is nearly full nothing new is taken, and is said to be put off; reading and acknowledging go on; and
/// when there is room again the same submission is taken, once. Method: a conversation before, during and after.
#[tokio::test]
async fn nothing_new_is_taken_and_all_else_goes_on() {
    let world = World::new();
    let (alice, bob) = (
        device(&world.node, "alice").await,
        device(&world.node, "bob").await,
    );
    world.room(&[alice, bob]).await;
    world.submit(alice, 2, message(1, HOUR, b"before")).await;
    set_free(&world.node, 0).await;
    for counter in [2, 3] {
        let put_off = world.submit(alice, counter, message(1, HOUR, b"during"));
        let Outcome::Deferred {
            retry_after_ms,
            refusal,
        } = put_off.await
        else {
            panic!("taken");
        };
        assert_eq!(refusal.code, RefusalCode::Unavailable);
        assert!(retry_after_ms > 0);
    }
    let (bodies, sent) = world.inbox(bob).await;
    assert_eq!(bodies.len(), 1);
    inbox::acknowledge(&world.node, bob.device, sent)
        .await
        .unwrap();
    assert!(world.inbox(bob).await.0.is_empty());

    set_free(&world.node, MUCH).await;
    let taken = world.submit(alice, 3, message(1, HOUR, b"during")).await;
    assert!(matches!(taken, Outcome::Accepted { .. }), "{taken:?}");
    assert_eq!(world.messages(bob).await.len(), 1);
}

/// Goal: no file is begun while the disk is nearly full, and one on its way leaves nothing behind. Method: one before, one
/// that is half in.
#[tokio::test]
async fn files_are_put_off() {
    let world = World::new();
    let alice = device(&world.node, "alice").await;
    let is_put_off = |error: &NotTaken| matches!(error, NotTaken::Refused(refusal) if refusal.code == RefusalCode::Unavailable);
    let mut incoming = files::begin_upload(&world.node, alice, 300_000, 3600)
        .await
        .unwrap();
    set_free(&world.node, 0).await;
    let written = incoming.write(vec![0; 300_000].into()).await;
    assert!(is_put_off(&written.unwrap_err()));
    incoming.abandon().await.unwrap();
    let whose = Whose::Account(alice.account);
    let (used, _) = file::usage(&world.node.store, &whose).await.unwrap();
    assert_eq!(used, 0);
    let begun = files::begin_upload(&world.node, alice, 10, 3600).await;
    assert!(is_put_off(&begun.err().unwrap()));

    set_free(&world.node, MUCH).await;
    let begun = files::begin_upload(&world.node, alice, 10, 3600).await;
    assert!(begun.is_ok());
}
