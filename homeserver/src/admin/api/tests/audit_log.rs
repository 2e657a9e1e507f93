//! The audit log over the API: proved, searched, and people forgotten in it.

use homeserver_api::Digest;
use homeserver_api::admin::{AuditGrowth, AuditHead, AuditPage, AuditProof, AuditWitnesses};
use homeserver_api::merkle::{has_grown, root_from_path};

use super::*;

/// The digests that the API writes in hexadecimal digits.
fn digests(path: &[String]) -> Vec<Digest> {
    let digest = |text: &String| {
        let bytes: [u8; 32] = hex::decode(text).unwrap().try_into().unwrap();
        Digest::from_bytes(bytes)
    };
    path.iter().map(digest).collect()
}

/// Goal: the head counts under the organisation's root, an entry leads to it, it has grown from an earlier one, and what the
/// log never had is not found. Method: a log that grows by two accounts.
#[tokio::test]
async fn the_log_is_proved() {
    let world = World::new("a.example");
    let get = async |path: &str| world.local("GET", path, Value::Null).await;
    let create = async |handle: &str| {
        let body = json!({"handle": handle});
        let made = world.local("POST", "/admin/v1/users", body).await;
        assert_eq!(made.status(), StatusCode::CREATED);
    };
    create("alice").await;
    let before: AuditHead = read(get("/admin/v1/audit/head").await).await;
    create("bob").await;
    let head: AuditHead = read(get("/admin/v1/audit/head").await).await;
    let signed = head.signed().unwrap();
    let root = world.node.keys.root().to_vec().into();
    let now_ms = world.node.clock.now_ms();
    let judged = signed.verify(&world.node.server, &root, &[], now_ms);
    assert_eq!(judged.unwrap().size, head.size);
    assert_eq!((before.size, head.size), (1, 2));

    let proof: AuditProof = read(get("/admin/v1/audit/entries/2").await).await;
    let leaf = proof.entry.leaf().unwrap();
    let found = root_from_path(leaf, 1, proof.size, &digests(&proof.path));
    assert_eq!(found.unwrap().to_string(), head.root);
    let proof: AuditProof = read(get("/admin/v1/audit/entries/1?size=1").await).await;
    assert_eq!((proof.size, proof.path.len()), (1, 0));
    let growth: AuditGrowth = read(get("/admin/v1/audit/growth/1").await).await;
    let roots = digests(&[before.root, head.root]);
    assert!(has_grown(
        (1, roots[0]),
        (2, roots[1]),
        &digests(&growth.path)
    ));
    for path in [
        "/admin/v1/audit/entries/3",
        "/admin/v1/audit/entries/0",
        "/admin/v1/audit/entries/1?size=3",
        "/admin/v1/audit/growth/3",
    ] {
        problem(get(path).await, 404, "not-found").await;
    }
    let witnesses: AuditWitnesses = read(get("/admin/v1/audit/witnesses").await).await;
    assert!(witnesses.witnesses.is_empty());
    let settle = "/admin/v1/audit/witnesses/b.example/settle";
    let settled = world.local("POST", settle, Value::Null).await;
    problem(settled, 404, "not-found").await;
}

/// Goal: somebody is found by address and shown by it, is forgotten only once the account is gone, and then found no more while
/// the entries stay. Method: the life of one account.
#[tokio::test]
async fn people_are_forgotten() {
    let world = World::new("a.example");
    let body = json!({"handle": "alice"});
    world.local("POST", "/admin/v1/users", body).await;
    let about_alice = "/admin/v1/audit?subject=alice%40a.example&action=user";
    let found =
        async || -> AuditPage { read(world.local("GET", about_alice, Value::Null).await).await };
    let page = found().await;
    assert_eq!(page.entries.len(), 1);
    assert!(page.entries[0].subject.starts_with("person:"));
    assert_eq!(page.named(&page.entries[0].subject), "alice@a.example");
    let erase = async || {
        let body = json!({"address": "alice@a.example"});
        let path = "/admin/v1/audit/erasures";
        world.local("POST", path, body).await
    };
    problem(erase().await, 409, "user-exists").await;
    let gone = world.local("DELETE", "/admin/v1/users/alice", Value::Null);
    assert_eq!(gone.await.status(), StatusCode::NO_CONTENT);
    assert_eq!(erase().await.status(), StatusCode::NO_CONTENT);
    problem(erase().await, 404, "not-found").await;
    assert!(found().await.entries.is_empty());
    let path = "/admin/v1/audit?action=person.erased";
    let page: AuditPage = read(world.local("GET", path, Value::Null).await).await;
    assert_eq!(page.entries.len(), 1);
    assert!(page.people.is_empty());
    audit::check(&world.node.store).await.unwrap();
    let long = format!("/admin/v1/audit?subject={}", "x".repeat(513));
    let refused = world.local("GET", &long, Value::Null).await;
    problem(refused, 400, "malformed-request").await;
}
