//! What becomes of two homeservers whose clocks lie apart.

use homeserver_api::session::Commit;

use super::*;
use crate::rooms::mls_framing::testing::{commit_message, group_info_message};

const HOUR_MS: u64 = 60 * 60 * 1000;

async fn renews(alice: &mut Person, hub: &Side, epoch: u64) {
    let commit = SubmissionBody::Commit(Commit {
        room: ROOM,
        hub: hub.node.server.clone(),
        epoch,
        commit: commit_message(ROOM, epoch, &[2; 40]).into(),
        adds: Vec::new(),
        removes: Vec::new(),
        welcome: None,
        group_info: group_info_message(ROOM, epoch + 1).into(),
        founding: None,
    });
    let outcome = alice.submit(hub, commit).await;
    assert!(matches!(outcome, Outcome::Accepted { .. }), "{outcome:?}");
}

/// Goal: a follower's devices judge what a hub has ordered by the hub's own stamp, even when its clock is an hour ahead, so
/// that all members judge alike; the administrators of both see that the clocks lie apart; and a stamp that is absurdly
/// far ahead is cut. Method: the hub's clock goes on alone, by an hour and then by a week.
#[tokio::test]
async fn hubs_stamps_are_handed_on() {
    let [a, b] = sides(["a.example", "b.example"]);
    let (mut alice, bob) = acquainted(&a, &b).await;
    let stamps = async || {
        let inbox = bob.inbox(&b).await.into_iter();
        let stamps = inbox.filter_map(|body| match body {
            InboxBody::Commit { accepted_ms, .. } => Some(accepted_ms),
            _ => None,
        });
        stamps.collect::<Vec<_>>()
    };
    let problem = || a.node.links.status(&b.node.server).last_error;
    renews(&mut alice, &a, 1).await;
    drain(&mut worker(&a, &b)).await;
    assert_eq!(problem(), None);
    let first = a.node.clock.now_ms();
    a.clock.advance_ms(HOUR_MS);
    let second = a.node.clock.now_ms();
    renews(&mut alice, &a, 2).await;
    drain(&mut worker(&a, &b)).await;
    assert_eq!(stamps().await, [first, second]);
    let said = problem().unwrap_or_default();
    assert!(said.contains("3600 seconds behind ours"), "{said}");
    let noted = async || {
        let page = crate::audit::page(&b.node.store, b.node.random.as_ref(), 0, 1000)
            .await
            .unwrap();
        let ahead = page.entries.into_iter();
        let ahead = ahead.filter(|entry| entry.action == "room.clock-ahead");
        ahead.map(|entry| entry.detail).collect::<Vec<_>>()
    };
    let noted = noted().await;
    assert!(
        matches!(&noted[..], [detail] if detail.contains("3600 seconds ahead of ours")),
        "{noted:?}"
    );

    a.clock.advance_ms(7 * 24 * HOUR_MS);
    renews(&mut alice, &a, 3).await;
    drain(&mut worker(&a, &b)).await;
    let latest = b.node.clock.now_ms() + 24 * HOUR_MS;
    assert_eq!(stamps().await.last(), Some(&latest));
}
