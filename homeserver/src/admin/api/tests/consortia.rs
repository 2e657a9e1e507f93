//! Consortia through the admin API.

use homeserver_api::consortium::{CharterSummary, Consortia, JoinOutcome, Joined};

use super::*;

const A: &str = "/admin/v1/consortia";

async fn made(world: &World, path: &str, body: Value) -> String {
    let response = world.local("POST", &format!("{A}/{path}"), body).await;
    assert_eq!(response.status(), StatusCode::CREATED, "{path}");
    let made: PeeringDocument = read(response).await;
    made.document
}

async fn charter_of(a: &World, b: &World) -> String {
    let endpoints = json!(["192.0.2.1:8448"]);
    let introduced = made(b, "introductions", json!({"endpoints": endpoints})).await;
    let body = json!({"name": "Relief", "introductions": [introduced], "endpoints": endpoints});
    made(a, "charters", body).await
}

/// Goal: two administrators become peers by a charter through the API alone, and each misstep is a problem
/// that says what to do; by walking through it.
#[tokio::test]
async fn a_charter() {
    let (a, b) = (World::new("a.example"), World::new("b.example"));
    let introductions = format!("{A}/introductions");
    let unstated = a.local("POST", &introductions, Value::Null).await;
    let detail = problem(unstated, 400, "malformed-request").await;
    assert!(detail.contains("endpoints"), "{detail}");
    let charter = charter_of(&a, &b).await;
    let inspections = format!("{A}/inspections");
    let seen = b.local("POST", &inspections, json!({"document": charter}));
    let seen: CharterSummary = read(seen.await).await;
    assert_eq!((seen.serial, seen.members.len()), (1, 2));

    let join = json!({"document": charter});
    let early = b.local("POST", &format!("{A}/peers"), join).await;
    let detail = problem(early, 409, "conflict").await;
    assert!(detail.contains("sign it first"), "{detail}");
    let wrong = json!({"document": charter, "fingerprint": "0".repeat(64)});
    let refused = b.local("POST", &format!("{A}/signatures"), wrong).await;
    problem(refused, 409, "conflict").await;

    let sign = json!({"document": charter, "fingerprint": seen.words});
    let by_a = made(&a, "signatures", sign.clone()).await;
    let by_b = made(&b, "signatures", sign).await;
    let merged = made(&a, "merges", json!({"documents": [by_a, by_b]})).await;
    for (world, other) in [(&a, "b.example"), (&b, "a.example")] {
        let joined = world
            .local("POST", &format!("{A}/peers"), json!({"document": merged}))
            .await;
        let joined: Joined = read(joined).await;
        assert_eq!(joined.pairs[0].outcome, JoinOutcome::Made);
        let path = format!("/admin/v1/peers/{other}");
        let peer: PeerDetail = read(world.local("GET", &path, Value::Null).await).await;
        assert_eq!(peer.summary.state, PeerState::Active);
        assert!(peer.lines.iter().any(|line| line.contains("charter")));
    }
    let listed: Consortia = read(a.local("GET", A, Value::Null).await).await;
    assert!(listed.consortia[0].charter.members.iter().all(|m| m.signed));
}

/// Goal: what is no charter is refused with what it is, or how it was damaged; only routes of consortia take
/// large bodies, and those have a limit too. By one bad body after another.
#[tokio::test]
async fn bad_charters() {
    let (a, b) = (World::new("a.example"), World::new("b.example"));
    let charter = charter_of(&a, &b).await;
    let endpoints = json!(["192.0.2.1:8448"]);
    let introduced = made(&b, "introductions", json!({"endpoints": endpoints})).await;
    let mut damaged = charter.clone();
    let at = charter.find('\n').unwrap() + 10;
    let other = if &charter[at..=at] == "A" { "B" } else { "A" };
    damaged.replace_range(at..=at, other);
    for (document, named) in [
        ("hello".to_owned(), "BEGIN ENTENTE"),
        (introduced.clone(), "an introduction, not a charter"),
        (charter[..charter.len() / 2].to_owned(), "end is missing"),
        (damaged, "damaged"),
        (format!("{charter}{charter}"), "more than one"),
    ] {
        let asked = json!({"document": document});
        let response = a.local("POST", &format!("{A}/inspections"), asked).await;
        let detail = problem(response, 400, "malformed-request").await;
        assert!(detail.contains(named), "{named}: {detail}");
    }
    let wrong_place = json!({"document": charter});
    let response = a.local("POST", "/admin/v1/peers/inspections", wrong_place);
    let detail = problem(response.await, 400, "malformed-request").await;
    assert!(detail.contains("hsctl consortium"), "{detail}");

    let large = json!({"documents": vec![charter.as_str(); 60]});
    assert!(large.to_string().len() > 128 * 1024);
    made(&a, "merges", large).await;
    let large = json!({"document": "x".repeat(200 * 1024)});
    let response = a.local("POST", "/admin/v1/peers/inspections", large).await;
    problem(response, 413, "too-large").await;
    let huge = json!({"documents": ["x".repeat(9 * 1024 * 1024)]});
    let response = a.local("POST", &format!("{A}/merges"), huge).await;
    let detail = problem(response, 413, "too-large").await;
    assert!(detail.contains("8388608"), "{detail}");
}
