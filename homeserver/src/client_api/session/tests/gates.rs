//! Sessions that the user type bars, at their beginning and while they are open.

use homeserver_api::admin::BarriersRequest;
use homeserver_api::policy::{BarrierRule, Barriers, Effect, Segment};
use homeserver_api::session::CLOSE_BARRED;

use super::*;
use crate::identity::barriers;

async fn rule(node: &Arc<Node>, change: impl FnOnce(&mut UserTypePolicy)) {
    let mut policy = UserTypePolicy::default();
    change(&mut policy);
    user_types::put(node, &Actor::System, "standard", policy)
        .await
        .unwrap();
}

/// The status that a client of this version is answered with.
async fn status(node: &Arc<Node>, token: &str, version: Option<&str>) -> u16 {
    match connect_as(node, token, SUBPROTOCOL, version).await {
        Ok(_) => 101,
        Err(tungstenite::Error::Http(response)) => response.status().as_u16(),
        Err(error) => panic!("{error}"),
    }
}

/// Goal: a client that is older than the user type asks for gets no session, nor does one that does not say what it is, and an
/// open session of one ends when the user type asks for a newer one. Method: versions around the bound.
#[tokio::test]
async fn old_clients_get_no_session() {
    let (node, _) = node("a.example");
    let (_, token) = device_with_token(&node, "alice").await;
    let (mut open, _) = session(&node, &token).await;
    rule(&node, |policy| {
        policy.clients.version_min = "1.2.0".parse().ok();
    })
    .await;
    assert_eq!(closed(&mut open).await, CLOSE_BARRED);
    for (version, expected) in [
        (None, 403),
        (Some("1.1.9"), 403),
        (Some("newest"), 403),
        (Some("1.2.0"), 101),
        (Some("2.0.0"), 101),
    ] {
        assert_eq!(
            status(&node, &token, version).await,
            expected,
            "{version:?}"
        );
    }
}

/// Goal: an open session ends when its user's sign-in does, by itself, and when a notice comes that nobody has agreed to. Method:
/// a notice, and a sign-in that ends while nothing happens.
#[tokio::test]
async fn sessions_end_when_something_is_asked_for() {
    let (node, clock) = node("a.example");
    let (_, token) = device_with_token(&node, "alice").await;
    let (mut first, _) = session(&node, &token).await;
    rule(&node, |policy| {
        policy.clients.banner = Some("read this".to_owned());
    })
    .await;
    assert_eq!(closed(&mut first).await, CLOSE_BARRED);
    rule(&node, |policy| {
        policy.sessions.sign_in_seconds_max = Some(60);
    })
    .await;
    clock.advance_ms(59_900);
    let (mut second, _) = session(&node, &token).await;
    clock.advance_ms(100);
    // It has looked at the clock before, and looks again when its time is over.
    assert_eq!(closed(&mut second).await, CLOSE_BARRED);
}

/// Goal: a change of the rules reaches open sessions at once, not when some time has passed. Method: a user type that changes, one that
/// bars, and virtual time that stands still meanwhile.
#[tokio::test]
async fn changes_take_no_time() {
    let (node, _) = node("a.example");
    let (_, alice) = device_with_token(&node, "alice").await;
    let (mut open, _) = session(&node, &alice).await;
    tokio::time::pause();
    // While a blocking task is at work the paused clock does not run ahead to the next timer.
    let (work, wait) = std::sync::mpsc::channel::<()>();
    let blocking = tokio::task::spawn_blocking(move || wait.recv());
    let before = tokio::time::Instant::now();
    rule(&node, |policy| policy.labels.max = 3).await;
    assert_eq!(next(&mut open).await, ServerFrame::AccountChanged);
    rule(&node, |policy| {
        policy.clients.version_min = "1.0.0".parse().ok();
    })
    .await;
    assert_eq!(closed(&mut open).await, CLOSE_BARRED);
    assert_eq!(before.elapsed(), std::time::Duration::ZERO);
    drop(work);
    let _ = blocking.await;
}

/// Goal: a change of the segments reaches every open session at once. Method: one rule, two sessions.
#[tokio::test]
async fn segments_reach_open_sessions() {
    let (node, _) = node("a.example");
    let (_, alice) = device_with_token(&node, "alice").await;
    let (_, bob) = device_with_token(&node, "bob").await;
    let (mut a, _) = session(&node, &alice).await;
    let (mut b, _) = session(&node, &bob).await;
    let segment = |name: &str, user: &str| Segment {
        name: name.to_owned(),
        user_types: Vec::new(),
        users: vec![user.parse().unwrap()],
    };
    let request = BarriersRequest {
        barriers: Barriers {
            default: Effect::Allow,
            segments: vec![segment("one", "alice"), segment("two", "bob")],
            rules: vec![BarrierRule {
                name: "wall".to_owned(),
                from: "one".to_owned(),
                to: "two".to_owned(),
                one_way: false,
                contacts: Vec::new(),
                effect: Effect::Deny,
            }],
        },
        follows: Some(0),
        dry_run: false,
    };
    let changed = barriers::change(&node, &Actor::System, request)
        .await
        .unwrap();
    assert_eq!((changed.serial, changed.lost.len()), (1, 6));
    assert_eq!(next(&mut a).await, ServerFrame::AccountChanged);
    assert_eq!(next(&mut b).await, ServerFrame::AccountChanged);
}
