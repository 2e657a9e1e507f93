//! The admin API from outside: requests into the router, answers out of it.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response, StatusCode, header};
use homeserver_api::admin::{
    CreatedUser, DocumentSummary, Outbox, PeerDetail, PeerState, PeeringDocument, ServerStatus,
    SignInResponse, Users,
};
use homeserver_api::keys::{KeyUse, KeysStatus};
use homeserver_api::problem::{PROBLEM_JSON, Problem};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::router;
use crate::admin::create_administrator;
use crate::audit::{self, Actor};
use crate::identity::Remote;
use crate::node::Node;
use crate::node::testing::{ManualClock, node};
use crate::store::Part;

mod audit_log;
mod consortia;
mod hanging_up;
mod reports;
mod segments;

const PASSWORD: &str = "correct horse battery";

struct World {
    node: Arc<Node>,
    clock: Arc<ManualClock>,
    router: Router,
}

/// Who asks.
#[derive(Clone)]
enum By {
    /// Through the local socket.
    Local,
    /// Over the network, with this token.
    Token(String),
}

impl World {
    fn new(server: &str) -> Self {
        let (node, clock) = node(server);
        let router = router(Arc::clone(&node));
        Self {
            node,
            clock,
            router,
        }
    }

    async fn call(&self, by: &By, method: &str, path: &str, body: Value) -> Response<Body> {
        let mut request = Request::builder().method(method).uri(path);
        match by {
            By::Local => request = request.extension(Actor::Local(1000)),
            By::Token(token) => {
                request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
            }
        }
        let body = match body {
            Value::Null => Body::empty(),
            body => {
                request = request.header(header::CONTENT_TYPE, "application/json");
                Body::from(body.to_string())
            }
        };
        let request = request.body(body).unwrap();
        self.router.clone().oneshot(request).await.unwrap()
    }

    /// The subjects of the audit log's entries of this action.
    async fn told(&self, action: &str) -> Vec<String> {
        let log = audit::page(&self.node.store, self.node.random.as_ref(), 0, 999)
            .await
            .unwrap();
        let entries = log.entries.iter();
        entries
            .filter(|entry| entry.action == action)
            .map(|entry| log.named(&entry.subject))
            .collect()
    }

    async fn local(&self, method: &str, path: &str, body: Value) -> Response<Body> {
        self.call(&By::Local, method, path, body).await
    }

    /// An administrator who can sign in.
    async fn administrator(&self) {
        let random = self.node.random.as_ref();
        let hash = self.node.sign_in.hash(PASSWORD, random).await.unwrap();
        let mut part = Part::default();
        create_administrator(&mut part, &"root".parse().unwrap(), hash, 0).unwrap();
        self.node.store.commit(part).await.unwrap();
    }
}

async fn read<T: serde::de::DeserializeOwned>(response: Response<Body>) -> T {
    let status = response.status();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    serde_json::from_slice(&bytes)
        .unwrap_or_else(|error| panic!("{status} {error}: {}", String::from_utf8_lossy(&bytes)))
}

async fn problem(response: Response<Body>, status: u16, code: &str) -> String {
    assert_eq!(response.headers()[header::CONTENT_TYPE], PROBLEM_JSON);
    let seen = response.status().as_u16();
    let problem: Problem = read(response).await;
    assert_eq!(
        (seen, problem.status, problem.code()),
        (status, status, code)
    );
    problem.detail
}

/// Goal: without a session nothing is answered; with the right password one begins, a wrong one and a
/// wrong name get one answer, and it ends after twelve hours; by signing in each way.
#[tokio::test]
async fn sessions() {
    let world = World::new("a.example");
    world.administrator().await;
    let nobody = By::Token("0".repeat(64));
    let refused = world.call(&nobody, "GET", "/admin/v1/server", Value::Null);
    problem(refused.await, 401, "not-signed-in").await;
    let mut answers = Vec::new();
    for name in ["root", "nobody"] {
        let body = json!({"name": name, "password": "wrong"});
        let refused = world.call(&nobody, "POST", "/admin/v1/sessions", body);
        answers.push(problem(refused.await, 401, "sign-in-failed").await);
    }
    assert_eq!(answers[0], answers[1]);
    let body = json!({"name": "root", "password": PASSWORD});
    let response = world
        .call(&nobody, "POST", "/admin/v1/sessions", body)
        .await;
    assert_eq!(response.status(), StatusCode::CREATED);
    let session: SignInResponse = read(response).await;
    let root = By::Token(session.token);
    let status: ServerStatus = read(
        world
            .call(&root, "GET", "/admin/v1/server", Value::Null)
            .await,
    )
    .await;
    assert_eq!(status.server, world.node.server);
    world.clock.advance_ms(12 * 60 * 60 * 1000);
    let ended = world.call(&root, "GET", "/admin/v1/server", Value::Null);
    problem(ended.await, 401, "not-signed-in").await;
}

/// Goal: an administrator changes the own password and ends sessions, all others with the old password; nobody
/// does so without it, nor through the socket, which has none; by two sessions of one administrator.
#[tokio::test]
async fn own_password_and_sign_out() {
    const NEW: &str = "another correct horse";
    let world = World::new("a.example");
    world.administrator().await;
    let sign_in = async |password: &str| {
        let body = json!({"name": "root", "password": password});
        let nobody = By::Token(String::new());
        world
            .call(&nobody, "POST", "/admin/v1/sessions", body)
            .await
    };
    let signed_in = async |password: &str| {
        let session: SignInResponse = read(sign_in(password).await).await;
        By::Token(session.token)
    };
    let (here, there) = (signed_in(PASSWORD).await, signed_in(PASSWORD).await);
    let change = async |by: &By, old: &str, new: &str| {
        let body = json!({"old": old, "new": new});
        world.call(by, "POST", "/admin/v1/password", body).await
    };
    let status = async |by: &By| {
        let response = world.call(by, "GET", "/admin/v1/server", Value::Null).await;
        response.status().as_u16()
    };
    problem(change(&here, "guess", NEW).await, 403, "wrong-password").await;
    let short = change(&here, PASSWORD, "short").await;
    problem(short, 400, "malformed-request").await;
    let local = change(&By::Local, PASSWORD, NEW).await;
    problem(local, 409, "no-session").await;
    assert_eq!((status(&here).await, status(&there).await), (200, 200));

    let changed = change(&here, PASSWORD, NEW).await;
    assert_eq!(changed.status(), StatusCode::NO_CONTENT);
    assert_eq!((status(&here).await, status(&there).await), (200, 401));
    problem(sign_in(PASSWORD).await, 401, "sign-in-failed").await;
    let again = signed_in(NEW).await;

    let sign_out = async |by: &By| {
        world
            .call(by, "DELETE", "/admin/v1/sessions", Value::Null)
            .await
    };
    assert_eq!(sign_out(&here).await.status(), StatusCode::NO_CONTENT);
    problem(sign_out(&here).await, 401, "not-signed-in").await;
    problem(sign_out(&By::Local).await, 409, "no-session").await;
    assert_eq!((status(&here).await, status(&again).await), (401, 200));

    let log = audit::page(&world.node.store, world.node.random.as_ref(), 0, 99)
        .await
        .unwrap();
    let told: Vec<(&str, &str)> = log
        .entries
        .iter()
        .filter(|entry| entry.actor == "admin:root")
        .map(|entry| (entry.action.as_str(), entry.detail.as_str()))
        .filter(|(action, _)| *action != "administrator.signed-in")
        .collect();
    assert_eq!(
        told,
        [
            ("administrator.password-refused", ""),
            ("administrator.password-changed", "1 other sessions ended"),
            ("administrator.signed-out", ""),
        ]
    );
}

/// Goal: a request that says something unknown is refused with the field's name, a path and a method
/// that do not exist with a problem too; by one of each.
#[tokio::test]
async fn requests_are_read_strictly() {
    let world = World::new("a.example");
    let body = json!({"handle": "alice", "pasword": "x"});
    let detail = problem(
        world.local("POST", "/admin/v1/users", body).await,
        400,
        "malformed-request",
    )
    .await;
    assert!(detail.contains("`pasword`"), "{detail}");
    let response = world.local("GET", "/admin/v1/nothing", Value::Null).await;
    problem(response, 404, "no-such-path").await;
    let response = world.local("DELETE", "/admin/v1/users", Value::Null).await;
    let allowed = response.headers().get_all(header::ALLOW).iter();
    let allowed: Vec<&str> = allowed.map(|value| value.to_str().unwrap()).collect();
    assert_eq!(allowed, ["GET,HEAD,POST"]);
    problem(response, 405, "method-not-allowed").await;
    let nobody = By::Token(String::new());
    for (method, path, status, code) in [
        ("GET", "/admin/", 404, "no-such-path"),
        ("GET", "/admin/v1/%FF", 404, "no-such-path"),
        ("GET", "/admin/v1/sessions", 405, "method-not-allowed"),
    ] {
        let response = world.call(&nobody, method, path, Value::Null).await;
        problem(response, status, code).await;
    }
    let response = world.local("GET", "/admin/v1/users/%FF", Value::Null).await;
    let detail = problem(response, 400, "malformed-request").await;
    assert!(
        detail.starts_with("the path is wrong: Invalid UTF-8 in `handle`; write each name"),
        "{detail}"
    );
    for kind in [None, Some("text/plain"), Some("application/jsonx")] {
        let mut request = Request::post("/admin/v1/users").extension(Actor::Local(1000));
        if let Some(kind) = kind {
            request = request.header(header::CONTENT_TYPE, kind);
        }
        let request = request.body(Body::from("{\"handle\":\"alice\"}")).unwrap();
        let response = world.router.clone().oneshot(request).await.unwrap();
        problem(response, 415, "unsupported-media-type").await;
    }
    for (query, expected) in [
        (
            "audit?befor=1",
            "the query is wrong: befor: unknown field `befor`, expected one of `after`, `limit`, `since`, `until`, `action`, \
             `actor`, `subject`",
        ),
        (
            "audit?after=x",
            "the query is wrong: after: it takes a whole number from 0 to 18446744073709551615, and `x` is none",
        ),
        (
            "dead-letters?limit=-1",
            "the query is wrong: limit: it takes a whole number from 0 to 18446744073709551615, and `-1` is none",
        ),
    ] {
        let path = format!("/admin/v1/{query}");
        let response = world.local("GET", &path, Value::Null).await;
        assert_eq!(problem(response, 400, "malformed-request").await, expected);
    }
    let large = json!({"handle": "a".repeat(200_000)});
    let response = world.local("POST", "/admin/v1/users", large).await;
    problem(response, 413, "too-large").await;
}

/// Goal: a stranger's body that does not come is given up; by one that never ends, with the time moved.
#[tokio::test(start_paused = true)]
async fn slow_bodies_are_given_up() {
    let world = World::new("a.example");
    let endless = futures_util::stream::pending::<Result<&str, std::io::Error>>();
    let request = Request::post("/admin/v1/sessions")
        .body(Body::from_stream(endless))
        .unwrap();
    let response = world.router.clone().oneshot(request).await.unwrap();
    problem(response, 408, "body-too-slow").await;
}

/// Goal: whoever guesses names gets a bounded number of tries from one address and of entries in the audit
/// log, and is told what to do; by failing again and again under new names.
#[tokio::test]
async fn guessing_is_bounded() {
    let world = World::new("a.example");
    let sign_in = |number: u64| {
        let body = json!({"name": format!("n{number}"), "password": "x".repeat(300)});
        let request = Request::post("/admin/v1/sessions")
            .extension(Remote("192.0.2.1:5000".parse().unwrap()))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Body::from(body.to_string()))
            .unwrap();
        world.router.clone().oneshot(request)
    };
    for number in 0..20 {
        let detail = problem(sign_in(number).await.unwrap(), 401, "sign-in-failed").await;
        assert!(detail.contains("check both"), "{detail}");
    }
    let refused = sign_in(20).await.unwrap();
    assert_eq!(refused.headers()[header::RETRY_AFTER], "1");
    problem(refused, 429, "rate-limited").await;
    world.clock.advance_ms(1000);
    problem(sign_in(21).await.unwrap(), 401, "sign-in-failed").await;

    let log = audit::page(&world.node.store, world.node.random.as_ref(), 0, 99)
        .await
        .unwrap();
    assert_eq!(log.entries.len(), 5, "the rest is counted");
}

/// Goal: accounts are created, listed, changed and deleted, and what is not there is a problem; by
/// the life of one account.
#[tokio::test]
async fn users() {
    let world = World::new("a.example");
    let response = world
        .local("POST", "/admin/v1/users", json!({"handle": "alice"}))
        .await;
    assert_eq!(response.status(), StatusCode::CREATED);
    let created: CreatedUser = read(response).await;
    assert!(created.password.is_some());
    let again = world
        .local("POST", "/admin/v1/users", json!({"handle": "alice"}))
        .await;
    problem(again, 409, "handle-taken").await;
    let response = world
        .local("PATCH", "/admin/v1/users/alice", json!({"suspended": true}))
        .await;
    assert_eq!(response.status(), StatusCode::OK);
    let users: Users = read(world.local("GET", "/admin/v1/users", Value::Null).await).await;
    assert!(users.users[0].suspended);
    let response = world
        .local("DELETE", "/admin/v1/users/alice", Value::Null)
        .await;
    assert_eq!(response.status(), StatusCode::NO_CONTENT);
    let gone = world
        .local("GET", "/admin/v1/users/alice", Value::Null)
        .await;
    problem(gone, 404, "not-found").await;
}

/// Goal: whoever grants something to a user type that is not there is warned, and whoever names those that are, or
/// none, is not. Method: offers with one of each, and an amendment that is only considered.
#[tokio::test]
async fn grants_to_user_types_that_are_not_here() {
    let world = World::new("a.example");
    let warnings = async |user_types: &[&str]| {
        let grant = json!([{"operation": "message", "user_types": user_types}]);
        let mut terms = json!(homeserver_api::admin::Terms::default());
        terms["inbound"] = grant;
        let offer = json!({
            "server": "b.example", "endpoints": ["192.0.2.1:8448"], "terms": terms,
        });
        let offer = world.local("POST", "/admin/v1/peers/offers", offer);
        read::<PeeringDocument>(offer.await).await.warnings
    };
    assert_eq!(warnings(&[]).await, [""; 0]);
    assert_eq!(warnings(&["standard"]).await, [""; 0]);
    let said = warnings(&["standard", "duty-desk", "oficer"]).await;
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said[0].contains("\"duty-desk\""), "{said:?}");
}

/// Goal: two administrators make, pause and end an agreement through the API alone, and each misstep is
/// a problem that says so; by walking through it.
#[tokio::test]
async fn peering() {
    let (a, b) = (World::new("a.example"), World::new("b.example"));
    let unstated = json!({"server": "b.example"});
    let response = a.local("POST", "/admin/v1/peers/offers", unstated).await;
    let detail = problem(response, 400, "malformed-request").await;
    assert!(detail.contains("endpoints"), "{detail}");
    let offer = json!({"server": "b.example", "endpoints": ["192.0.2.1:8448"]});
    let response = a.local("POST", "/admin/v1/peers/offers", offer).await;
    assert_eq!(response.status(), StatusCode::CREATED);
    let offer: PeeringDocument = read(response).await;
    let seen = b.local("POST", "/admin/v1/peers/inspections", json!(offer));
    let seen: DocumentSummary = read(seen.await).await;
    assert_eq!(
        (seen.kind.as_str(), seen.from.as_str()),
        ("offer", "a.example")
    );

    let mut accept = json!({
        "document": offer.document,
        "fingerprint": "0".repeat(64),
        "endpoints": ["192.0.2.2:8448"],
    });
    let response = b.local("POST", "/admin/v1/peers/acceptances", accept.clone());
    problem(response.await, 409, "conflict").await;
    accept["fingerprint"] = json!(seen.fingerprint);
    let response = b.local("POST", "/admin/v1/peers/acceptances", accept);
    let acceptance: PeeringDocument = read(response.await).await;
    let seen = a.local("POST", "/admin/v1/peers/inspections", json!(acceptance));
    let seen: DocumentSummary = read(seen.await).await;
    let countersign = json!({"document": acceptance.document, "fingerprint": seen.fingerprint});
    let response = a.local("POST", "/admin/v1/peers/countersignatures", countersign);
    let countersignature: PeeringDocument = read(response.await).await;
    let elsewhere = World::new("b.example");
    let path = "/admin/v1/peers/activations";
    let refused = elsewhere.local("POST", path, json!(countersignature)).await;
    problem(refused, 404, "not-found").await;
    let told = elsewhere.told("peer.document-refused").await;
    assert_eq!(told, ["a.example"]);
    let response = b.local("POST", path, json!(countersignature));
    let detail: PeerDetail = read(response.await).await;
    assert_eq!(detail.summary.state, PeerState::Active);
    assert!(!detail.lines.is_empty());

    let suspend = json!({"reason": "audit"});
    let response = a.local("POST", "/admin/v1/peers/b.example/suspend", suspend);
    let detail: PeerDetail = read(response.await).await;
    assert_eq!(detail.summary.state, PeerState::Suspended);
    assert_eq!(detail.reason.as_deref(), Some("audit"));
    let again = a.local("POST", "/admin/v1/peers/b.example/suspend", Value::Null);
    problem(again.await, 409, "conflict").await;
    let response = a.local("POST", "/admin/v1/peers/b.example/resume", Value::Null);
    let detail: PeerDetail = read(response.await).await;
    assert_eq!(detail.summary.state, PeerState::Active);
    let outbox: Outbox = read(a.local("GET", "/admin/v1/outbox", Value::Null).await).await;
    assert_eq!(outbox.destinations[0].waiting, 0);
    let retry = a.local("POST", "/admin/v1/outbox/b.example/retry", Value::Null);
    assert_eq!(retry.await.status(), StatusCode::ACCEPTED);
    let nobody = a.local("POST", "/admin/v1/outbox/c.example/retry", Value::Null);
    problem(nobody.await, 404, "not-found").await;
    assert_eq!(a.told("outbox.retried").await, ["b.example"]);
    let response = a.local("POST", "/admin/v1/peers/b.example/revoke", Value::Null);
    let detail: PeerDetail = read(response.await).await;
    assert_eq!(detail.summary.state, PeerState::Revoked);
    let unknown = a.local("GET", "/admin/v1/peers/c.example", Value::Null);
    problem(unknown.await, 404, "not-found").await;
}

/// Goal: keys are shown, changed by hand once for each request, and revoked, under the name of who did it; keys
/// that do not exist and times to come are refused; by every request of both kinds.
#[tokio::test]
async fn keys() {
    let world = World::new("a.example");
    let show = || async {
        let shown = world.local("GET", "/admin/v1/keys", Value::Null).await;
        read::<KeysStatus>(shown).await
    };
    let post = |path: &'static str, body: Value| async { world.local("POST", path, body).await };
    let before = show().await;
    let uses: Vec<_> = before.envelope.iter().map(|key| key.used_as).collect();
    assert_eq!(uses, [KeyUse::Current, KeyUse::Next]);
    let (first, next) = (&before.envelope[0].id, &before.envelope[1].id);

    let once = json!({"replaces": first});
    let after: KeysStatus = read(post("/admin/v1/keys/envelope/rotate", once.clone()).await).await;
    assert_eq!(&after.envelope[0].id, next);
    assert_eq!(after.envelope[2].used_as, KeyUse::Former);
    let again: KeysStatus = read(post("/admin/v1/keys/envelope/rotate", once).await).await;
    assert_eq!(again, after, "it has been done");

    let once = json!({"replaces": before.tls[0].pin});
    let rotated: KeysStatus = read(post("/admin/v1/keys/tls/rotate", once.clone()).await).await;
    assert_eq!(rotated.tls[0].pin, before.tls[1].pin);
    assert_eq!(rotated.tls[2].pin, before.tls[0].pin);
    let again: KeysStatus = read(post("/admin/v1/keys/tls/rotate", once).await).await;
    assert_eq!(again, rotated);

    let pin = json!({"pin": before.tls[0].pin});
    let revoked: KeysStatus = read(post("/admin/v1/keys/tls/revoke", pin.clone()).await).await;
    assert_eq!(revoked.tls.len(), 2);
    let gone = post("/admin/v1/keys/tls/revoke", pin).await;
    problem(gone, 404, "not-found").await;
    let since = world.node.clock.now_ms() - 1000;
    let revoke = json!({"key": next, "since_ms": since});
    let revoked: KeysStatus = read(post("/admin/v1/keys/envelope/revoke", revoke).await).await;
    let of = |id: &String| revoked.envelope.iter().find(|key| key.id == *id).cloned();
    let of_next = of(next).unwrap();
    assert_eq!(
        (of_next.used_as, of_next.revoked_ms),
        (KeyUse::Revoked, Some(since))
    );
    assert_eq!(of(first).unwrap().used_as, KeyUse::Former);

    for (path, body, status, code) in [
        (
            "/admin/v1/keys/envelope/revoke",
            json!({"key": "00"}),
            400,
            "malformed-request",
        ),
        (
            "/admin/v1/keys/envelope/revoke",
            json!({"key": "00".repeat(8)}),
            404,
            "not-found",
        ),
        (
            "/admin/v1/keys/envelope/revoke",
            json!({"since_ms": u64::MAX}),
            400,
            "malformed-request",
        ),
        (
            "/admin/v1/keys/envelope/rotate",
            json!({"replaces": "x"}),
            400,
            "malformed-request",
        ),
        (
            "/admin/v1/keys/tls/rotate",
            json!({"all": true}),
            400,
            "malformed-request",
        ),
    ] {
        problem(post(path, body).await, status, code).await;
    }
    let log = audit::page(&world.node.store, world.node.random.as_ref(), 0, 99)
        .await
        .unwrap();
    let acts: Vec<_> = log
        .entries
        .iter()
        .map(|entry| entry.action.as_str())
        .collect();
    let (rotated, revoked) = ("keys.rotated", "keys.revoked");
    assert_eq!(acts, [rotated, rotated, revoked, revoked]);
    assert!(log.entries.iter().all(|entry| entry.actor == "local:1000"));
}
