//! Whoever is signed in changes the own password.

use super::*;

/// Goal: whoever is signed in and knows the password changes it, nobody else does, guesses are slowed down as at
/// sign-in, and the audit log tells; by right and wrong ones, and by signing in before and after.
#[tokio::test]
async fn own_password() {
    const NEW: &str = "another long password";
    let world = World::new().await;
    let (alice, phone) = (world.enrolled("alice").await, world.enrolled("alice").await);
    let change = |token: &str, old: &str, new: &str| {
        let (token, body) = (token.to_owned(), json!({"old": old, "new": new}));
        let world = &world;
        async move {
            let path = "/v1/account/password";
            world.json("POST", path, &token, &body).await
        }
    };
    problem(change("", PASSWORD, NEW).await, 401, "not-signed-in").await;
    let wrong = change(&alice.token, "wrong", NEW).await;
    let wrong = problem(wrong, 403, "wrong-password").await;
    assert!(wrong.detail.contains("administrator"), "{}", wrong.detail);
    let short = change(&alice.token, PASSWORD, "short").await;
    problem(short, 422, "invalid").await;
    assert_eq!(world.enrol("alice", PASSWORD).await.status(), 201);

    let changed = change(&alice.token, PASSWORD, NEW).await;
    assert_eq!(changed.status(), StatusCode::NO_CONTENT);
    problem(world.enrol("alice", PASSWORD).await, 401, "sign-in-failed").await;
    assert_eq!(world.enrol("alice", NEW).await.status(), 201);
    for token in [&alice.token, &phone.token] {
        assert_eq!(world.get("/v1/account", token).await.status(), 200);
    }
    for _ in 0..5 {
        let guessed = change(&phone.token, "guess", "guess that long").await;
        problem(guessed, 403, "wrong-password").await;
    }
    let slowed = change(&phone.token, NEW, PASSWORD).await;
    problem(slowed, 429, "rate-limited").await;

    let log = audit::page(&world.node.store, world.node.random.as_ref(), 0, 99)
        .await
        .unwrap();
    let of_alice = |action: &str| {
        let mut found = log.entries.iter();
        found.find(|entry| entry.action == action && log.named(&entry.subject) == "alice@a.example")
    };
    let changed = of_alice("user.password-changed").unwrap();
    assert_eq!(changed.actor, format!("device:{}", alice.device));
    assert!(of_alice("user.password-refused").is_some());
}
