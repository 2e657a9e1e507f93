//! Consent to people of other organisations, over HTTP.

use homeserver_api::contacts::{ContactInfo, ContactStanding, Contacts};

use super::*;

/// Goal: what was decided is listed for every device of the account and for nobody else, taken back once, and mistakes
/// are problems that say what to do; by a block, the list and wrong requests.
#[tokio::test]
async fn decided_and_taken_back() {
    let world = World::new().await;
    let (alice, phone) = (world.enrolled("alice").await, world.enrolled("alice").await);
    let bob = world.enrolled("bob").await;
    let path = "/v1/contacts/eve@c.example";
    let blocked = json!({"act": "block"});
    problem(
        world.json("PUT", path, "", &blocked).await,
        401,
        "not-signed-in",
    )
    .await;
    let done: ContactInfo = read(world.json("PUT", path, &alice.token, &blocked).await).await;
    assert_eq!(done.standing, ContactStanding::Blocked);
    for (token, expected) in [(&alice.token, 1), (&phone.token, 1), (&bob.token, 0)] {
        let list: Contacts = read(world.get("/v1/contacts", token).await).await;
        assert_eq!(list.contacts.len(), expected);
    }
    let removed = world.json("DELETE", path, &phone.token, &Value::Null).await;
    assert_eq!(removed.status(), StatusCode::NO_CONTENT);
    let again = world.json("DELETE", path, &phone.token, &Value::Null).await;
    problem(again, 404, "unknown-recipient").await;

    for (path, body, status, code) in [
        ("/v1/contacts/nobody", blocked.clone(), 400, "bad-path"),
        (path, json!({"act": "kiss"}), 400, "bad-json"),
        (path, json!({"act": "ask"}), 403, "no-agreement"),
        ("/v1/contacts/bob@a.example", blocked, 422, "malformed"),
    ] {
        let answer = world.json("PUT", path, &alice.token, &body).await;
        problem(answer, status, code).await;
    }
    let by = format!("by account {}", alice.account);
    assert_eq!(world.told("contact.blocked").await, [by]);
}
