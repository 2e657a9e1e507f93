//! Segments and explanations through the API.

use homeserver_api::admin::{BarriersChanged, BarriersState, Explanation};

use super::*;

fn wall() -> Value {
    json!({
        "segments": [
            {"name": "research", "users": ["alice"]},
            {"name": "trading", "users": ["bob"]},
        ],
        "rules": [{"name": "wall", "from": "research", "to": "trading", "effect": "deny"}],
    })
}

/// Goal: a change is shown first, applied only to what it was shown for, recorded with who made it, and explained by its rule;
/// mistakes are told. Method: each request in turn.
#[tokio::test]
async fn segments_are_shown_applied_and_explained() {
    let world = World::new("a.example");
    for handle in ["alice", "bob"] {
        let made = json!({ "handle": handle });
        let made = world.local("POST", "/admin/v1/users", made).await;
        assert_eq!(made.status(), StatusCode::CREATED);
    }
    let path = "/admin/v1/segments";
    let put = async |body: Value| world.local("PUT", path, body).await;
    let would = put(json!({ "barriers": wall(), "dry_run": true })).await;
    let would: BarriersChanged = read(would).await;
    assert_eq!(
        (would.applied, would.serial, would.lost.len()),
        (false, 0, 6)
    );
    let state: BarriersState = read(world.local("GET", path, Value::Null).await).await;
    assert_eq!(state.serial, 0);
    assert!(world.told("segments.changed").await.is_empty());

    let late = put(json!({ "barriers": wall(), "follows": 7 })).await;
    problem(late, 409, "segments-changed").await;
    let applied = put(json!({ "barriers": wall(), "follows": 0 })).await;
    let applied: BarriersChanged = read(applied).await;
    assert_eq!((applied.applied, applied.serial), (true, 1));
    assert_eq!(world.told("segments.changed").await, ["a.example"]);
    let wrong = json!({ "barriers": { "segments": [{ "name": "X" }] } });
    let said = problem(put(wrong).await, 400, "malformed-request").await;
    assert!(said.contains("\"X\""), "{said}");

    let explain = async |from: &str, to: &str| {
        let body = json!({ "from": from, "to": to });
        world.local("POST", "/admin/v1/explanations", body).await
    };
    let explained: Explanation = read(explain("alice", "bob@a.example").await).await;
    assert!(!explained.allowed && explained.partner.is_none());
    assert_eq!(explained.contacts[2].rule, "segments, rule wall");
    let stranger: Explanation = read(explain("alice", "bob@b.example").await).await;
    assert!(!stranger.allowed);
    assert!(stranger.contacts[2].rule.contains("b.example"));
    problem(explain("nobody", "bob@a.example").await, 404, "not-found").await;
    let path = "/admin/v1/explanations/00";
    let none = world.local("GET", path, Value::Null).await;
    problem(none, 404, "not-found").await;
    assert_eq!(world.told("policy.explained").await.len(), 2);
}
