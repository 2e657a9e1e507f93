//! Whoever asks may hang up at any moment: an act and its audit entry happen both, or neither.

use std::future::poll_fn;
use std::task::Poll;

use super::*;
use crate::identity::accounts;
use crate::store::user_type;

/// Runs a request until it was polled `polls` times, then drops it, as a connection that breaks does: at once, or
/// when it would be polled again. Whether it was answered before.
async fn dropped_after(call: impl Future, polls: usize, at_once: bool) -> bool {
    let mut call = Box::pin(call);
    let mut polled = 0;
    poll_fn(|context| {
        if polled == polls {
            return Poll::Ready(false);
        }
        polled += 1;
        match call.as_mut().poll(context) {
            Poll::Ready(_) => Poll::Ready(true),
            Poll::Pending if at_once && polled == polls => Poll::Ready(false),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// Goal: an act that was begun happens wholly or not at all, with its audit entry, when its connection breaks.
/// Method: acts of several kinds, each dropped after every number of polls that it takes.
#[tokio::test]
async fn acts_are_whole() {
    let world = World::new("a.example");
    let policy = json!(homeserver_api::policy::UserTypePolicy::default());
    for at_once in [true, false] {
        for polls in 1.. {
            let name = format!("t{polls}-{at_once}");
            let path = format!("/admin/v1/user-types/{name}");
            let put = world.local("PUT", &path, policy.clone());
            let answered = dropped_after(put, polls, at_once).await;
            // What was begun before this is done or never will be: there is one way to the store.
            let after = world.local("PUT", "/admin/v1/user-types/after", policy.clone());
            assert_eq!(after.await.status(), StatusCode::OK);
            let told = world.told("user-type.changed").await;
            let there = user_type::get(&world.node.store, &name).await.unwrap();
            assert_eq!(there.is_some(), told.contains(&name), "{name}");
            assert!(there.is_some() || !answered, "{name}");
            if answered {
                break;
            }
        }
    }
    let log = audit::check(&world.node.store).await.unwrap();
    assert!(log > 2, "several acts were tried");
}

/// Goal: a suspension that was begun is whole too, though it is more than one write: the account, its audit entry,
/// and the word to its sessions. Method: as above, an account each.
#[tokio::test]
async fn suspensions_are_whole() {
    let world = World::new("a.example");
    for polls in 1.. {
        let handle = format!("u{polls}");
        let user = json!({"handle": handle, "password": PASSWORD});
        let created = world.local("POST", "/admin/v1/users", user).await;
        assert_eq!(created.status(), StatusCode::CREATED);
        let path = format!("/admin/v1/users/{handle}");
        let suspend = world.local("PATCH", &path, json!({"suspended": true}));
        let answered = dropped_after(suspend, polls, true).await;
        // The act may still be on its way; its two sides are looked at in the order that can't mislead.
        let before = world.told("user.changed").await;
        let found = accounts::get(&world.node, &handle.parse().unwrap())
            .await
            .unwrap();
        let after = world.told("user.changed").await;
        let address = format!("{handle}@a.example");
        let suspended = found.summary.suspended;
        assert!(suspended || !before.contains(&address), "told and not done");
        assert!(!suspended || after.contains(&address), "done and not told");
        if answered {
            assert!(suspended);
            return;
        }
    }
}
