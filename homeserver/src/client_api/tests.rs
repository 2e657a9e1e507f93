//! The client API from outside: requests into the router, answers out of it.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response, StatusCode, header};
use federation_proto::ids::Handle;
use futures_util::StreamExt as _;
use homeserver_api::admin::{ChangeUserRequest, CreateUserRequest};
use homeserver_api::client::{
    AccountInfo, Anchors, EnrolResponse, FileInfo, KEY_PACKAGES_MAX, KeyPackageCount,
    RenewResponse, ServerInfo, TTL_HEADER,
};
use homeserver_api::policy::UserTypePolicy;
use homeserver_api::problem::{PROBLEM_JSON, Problem};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::router;
use crate::audit::{self, Actor};
use crate::identity::{self, Remote, accounts, user_types};
use crate::node::Node;
use crate::node::testing::{ManualClock, node};
use crate::store::key_package;

mod contacts;
mod devices;
mod former_partners;
mod managed;
mod own_password;

const PASSWORD: &str = "a long password";

struct World {
    node: Arc<Node>,
    clock: Arc<ManualClock>,
    router: Router,
}

impl World {
    async fn new() -> Self {
        let (node, clock) = node("a.example");
        for name in ["alice", "bob"] {
            create(&node, name).await;
        }
        let router = router(Arc::clone(&node));
        Self {
            node,
            clock,
            router,
        }
    }

    /// The details of the audit log's entries of this action.
    async fn told(&self, action: &str) -> Vec<String> {
        let log = audit::page(&self.node.store, self.node.random.as_ref(), 0, 99)
            .await
            .unwrap();
        let entries = log.entries.into_iter();
        entries
            .filter(|entry| entry.action == action)
            .map(|entry| entry.detail)
            .collect()
    }

    async fn call(&self, request: Request<Body>) -> Response<Body> {
        self.router.clone().oneshot(request).await.unwrap()
    }

    async fn json(&self, method: &str, path: &str, token: &str, body: &Value) -> Response<Body> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::AUTHORIZATION, format!("Bearer {token}"))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Body::from(body.to_string()))
            .unwrap();
        self.call(request).await
    }

    async fn get(&self, path: &str, token: &str) -> Response<Body> {
        self.json("GET", path, token, &Value::Null).await
    }

    async fn enrol(&self, handle: &str, password: &str) -> Response<Body> {
        let body = enrol_body(handle, password, &csr(&device_key()));
        self.json("POST", "/v1/devices", "", &body).await
    }

    async fn enrolled(&self, handle: &str) -> EnrolResponse {
        let response = self.enrol(handle, PASSWORD).await;
        assert_eq!(response.status(), StatusCode::CREATED);
        read(response).await
    }
}

async fn create(node: &Node, name: &str) {
    let request = CreateUserRequest {
        handle: name.parse().unwrap(),
        user_type: None,
        password: Some(PASSWORD.into()),
    };
    accounts::create(node, &Actor::System, request)
        .await
        .unwrap();
}

fn device_key() -> rcgen::KeyPair {
    rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap()
}

fn csr(key: &rcgen::KeyPair) -> Vec<u8> {
    let request = rcgen::CertificateParams::default().serialize_request(key);
    request.unwrap().der().to_vec()
}

fn enrol_body(handle: &str, password: &str, csr: &[u8]) -> Value {
    json!({
        "handle": handle,
        "password": password,
        "csr": homeserver_api::Base64(csr.to_vec()),
        "device_name": "laptop",
        // Has no effect for an account's first device.
        "reset": true,
    })
}

async fn read<T: serde::de::DeserializeOwned>(response: Response<Body>) -> T {
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    serde_json::from_slice(&bytes).unwrap()
}

/// The problem in an answer, whose status it repeats and which says what to do.
async fn problem(response: Response<Body>, status: u16, code: &str) -> Problem {
    assert_eq!(response.status().as_u16(), status);
    assert_eq!(response.headers()[header::CONTENT_TYPE], PROBLEM_JSON);
    let problem: Problem = read(response).await;
    assert_eq!((problem.status, problem.code()), (status, code));
    assert!(!problem.detail.is_empty());
    problem
}

/// Goal: whatever is wrong with a request is told as a problem; by one request for each mistake.
#[tokio::test]
async fn mistakes_are_problems() {
    let world = World::new().await;
    let request = |method: &str, path: &str, kind: &str, body: &str| {
        Request::builder()
            .method(method)
            .uri(path)
            .header(header::CONTENT_TYPE, kind)
            .body(Body::from(body.to_owned()))
            .unwrap()
    };
    let json_type = "application/json";
    for (request, status, code) in [
        (request("GET", "/", json_type, ""), 404, "no-such-path"),
        (
            request("GET", "/v2/server", json_type, ""),
            404,
            "no-such-path",
        ),
        (
            request("POST", "/v1/devices/", json_type, "{}"),
            404,
            "no-such-path",
        ),
        (
            request("GET", "/v1/%FF", json_type, ""),
            404,
            "no-such-path",
        ),
        (
            request("PUT", "/v1/server", json_type, ""),
            405,
            "method-not-allowed",
        ),
        (
            request("POST", "/v1/devices", "text/plain", "{}"),
            415,
            "unsupported-media-type",
        ),
        (
            request("POST", "/v1/devices", json_type, "{"),
            400,
            "bad-json",
        ),
        (
            request("POST", "/v1/devices", json_type, "{\"handle\":\"A\"}"),
            400,
            "bad-json",
        ),
        (
            request("POST", "/v1/devices", json_type, &"x".repeat(20_000)),
            413,
            "too-large",
        ),
        (
            request("GET", "/v1/account", json_type, ""),
            401,
            "not-signed-in",
        ),
        (
            request("GET", "/v1/session", json_type, ""),
            401,
            "not-signed-in",
        ),
    ] {
        problem(world.call(request).await, status, code).await;
    }
    let device = world.enrolled("alice").await;
    let bad_path = world.json("DELETE", "/v1/devices/xyz", &device.token, &Value::Null);
    problem(bad_path.await, 400, "bad-path").await;
    let no_text = world.json("DELETE", "/v1/devices/%FF", &device.token, &Value::Null);
    problem(no_text.await, 400, "bad-path").await;
    let no_method = world.json("PATCH", "/v1/account", &device.token, &Value::Null);
    let no_method = no_method.await;
    assert_eq!(no_method.headers()[header::ALLOW], "GET,HEAD");
    problem(no_method, 405, "method-not-allowed").await;
    let no_upgrade = world.get("/v1/session", &device.token).await;
    assert!(no_upgrade.status().is_client_error());
    assert_eq!(no_upgrade.headers()[header::CONTENT_TYPE], PROBLEM_JSON);
}

/// Goal: a body that does not come is given up, by a stranger's JSON and by a device's file; by bodies
/// that never end, with the time moved.
#[tokio::test(start_paused = true)]
async fn slow_bodies_are_given_up() {
    let world = World::new().await;
    let endless = || {
        let first = futures_util::stream::iter([Ok::<_, std::io::Error>("{")]);
        Body::from_stream(first.chain(futures_util::stream::pending()))
    };
    let request = Request::post("/v1/devices")
        .header(header::CONTENT_TYPE, "application/json")
        .body(endless())
        .unwrap();
    problem(world.call(request).await, 408, "body-too-slow").await;
    let (_, token) = identity::testing::device_with_token(&world.node, "carol").await;
    let request = Request::post("/v1/files")
        .header(header::AUTHORIZATION, format!("Bearer {token}"))
        .header(header::CONTENT_LENGTH, "100")
        .header(TTL_HEADER, "3600")
        .body(endless())
        .unwrap();
    problem(world.call(request).await, 408, "body-too-slow").await;
}

/// Goal: an address that has not signed in is slowed down, one that has is not; by more requests
/// than a burst.
#[tokio::test]
async fn strangers_are_slowed_down() {
    let world = World::new().await;
    let device = world.enrolled("alice").await;
    let remote = Remote("192.0.2.1:5000".parse().unwrap());
    let call = |token: String| {
        let mut request = Request::get("/v1/account")
            .header(header::AUTHORIZATION, format!("Bearer {token}"))
            .body(Body::empty())
            .unwrap();
        request.extensions_mut().insert(remote);
        world.call(request)
    };
    for _ in 0..200 {
        problem(call("wrong".to_owned()).await, 401, "not-signed-in").await;
    }
    let refused = call("wrong".to_owned()).await;
    assert_eq!(refused.headers()[header::RETRY_AFTER], "1");
    problem(refused, 429, "rate-limited").await;
    assert_eq!(call(device.token.clone()).await.status(), StatusCode::OK);
}

/// Goal: signing in tells nobody whether a handle exists, needs proof of the key, and stops at the
/// user type's number of devices.
#[tokio::test]
async fn enrolment() {
    let world = World::new().await;
    let unknown = problem(world.enrol("nobody", PASSWORD).await, 401, "sign-in-failed").await;
    let wrong = problem(world.enrol("alice", "wrong").await, 401, "sign-in-failed").await;
    assert_eq!(unknown, wrong);

    // A request whose signature is another key's, one for a P-256 key, one of noise.
    let mut forged = csr(&device_key());
    *forged.last_mut().unwrap() ^= 1;
    let p256 = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    for bad in [forged, csr(&p256), vec![1, 2, 3]] {
        let body = enrol_body("alice", PASSWORD, &bad);
        let response = world.json("POST", "/v1/devices", "", &body).await;
        problem(response, 422, "bad-certificate-request").await;
    }
    for _ in 0..5 {
        world.enrolled("alice").await;
    }
    problem(
        world.enrol("alice", PASSWORD).await,
        409,
        "too-many-devices",
    )
    .await;
    let told = world.told("device.refused").await;
    assert_eq!(told.len(), 4, "{told:?}");
    assert!(told.last().unwrap().contains("5 devices"), "{told:?}");
    let device = world.enrolled("bob").await;
    assert_eq!(device.address.to_string(), "bob@a.example");
    let info: AccountInfo = read(world.get("/v1/account", &device.token).await).await;
    assert_eq!(info.user_type, "standard");
    assert_eq!(info.policy, UserTypePolicy::default());
    assert_eq!(info.devices.len(), 1);
}

/// Goal: a certificate is renewed for the same key and for no other.
#[tokio::test]
async fn renewal() {
    let world = World::new().await;
    let key = device_key();
    let body = enrol_body("alice", PASSWORD, &csr(&key));
    let device: EnrolResponse = read(world.json("POST", "/v1/devices", "", &body).await).await;
    world.clock.advance_ms(20 * 24 * 3_600_000);
    let renew = |key: &rcgen::KeyPair| json!({ "csr": homeserver_api::Base64(csr(key)) });
    let body = renew(&device_key());
    let other = world.json("POST", "/v1/certificate", &device.token, &body);
    problem(other.await, 409, "other-key").await;
    let body = renew(&key);
    let renewed = world.json("POST", "/v1/certificate", &device.token, &body);
    let renewed: RenewResponse = read(renewed.await).await;
    assert!(renewed.not_after_ms > device.not_after_ms);
    assert_eq!(renewed.chain.len(), 2);
}

/// Goal: key packages never outlive their certificate's renewal, and renewals never use up their
/// number; by renewing every 20 days with as many as may wait, and looking at what is handed out.
#[tokio::test]
async fn renewal_replaces_key_packages() {
    let world = World::new().await;
    let key = device_key();
    let body = enrol_body("alice", PASSWORD, &csr(&key));
    let device: EnrolResponse = read(world.json("POST", "/v1/devices", "", &body).await).await;
    let renew = json!({ "csr": homeserver_api::Base64(csr(&key)) });
    for round in 1..4_u8 {
        let one = homeserver_api::Base64(vec![round]);
        let body = json!({ "single_use": vec![&one; KEY_PACKAGES_MAX], "last_resort": one });
        let put = world.json("PUT", "/v1/key-packages", &device.token, &body);
        let count: KeyPackageCount = read(put.await).await;
        assert_eq!(
            (count.single_use, count.last_resort),
            (KEY_PACKAGES_MAX, true)
        );
        let store = &world.node.store;
        let oldest = key_package::single_use(store, device.device, 1)
            .await
            .unwrap();
        assert_eq!(oldest[0].1.as_ref(), [round]);
        world.clock.advance_ms(20 * 24 * 3_600_000);
        let renewed = world.json("POST", "/v1/certificate", &device.token, &renew);
        assert_eq!(renewed.await.status(), StatusCode::OK);
        let count: KeyPackageCount = read(world.get("/v1/key-packages", &device.token).await).await;
        assert_eq!((count.single_use, count.last_resort), (0, false));
    }
}

/// Goal: a removed device and a suspended account are signed out at once; the latter comes back.
#[tokio::test]
async fn removal_and_suspension() {
    let world = World::new().await;
    let (one, two) = (world.enrolled("alice").await, world.enrolled("alice").await);
    let bob = world.enrolled("bob").await;
    // Somebody else's device is no device of this account.
    let path = format!("/v1/devices/{}", bob.device);
    let response = world.json("DELETE", &path, &one.token, &Value::Null).await;
    problem(response, 404, "unknown-device").await;
    let path = format!("/v1/devices/{}", two.device);
    let response = world.json("DELETE", &path, &one.token, &Value::Null).await;
    assert_eq!(response.status(), StatusCode::NO_CONTENT);
    problem(
        world.get("/v1/account", &two.token).await,
        401,
        "not-signed-in",
    )
    .await;

    let handle: Handle = "alice".parse().unwrap();
    let [suspend, resume] = [true, false].map(|suspended| ChangeUserRequest {
        user_type: None,
        suspended: Some(suspended),
    });
    let change = accounts::change(&world.node, &Actor::System, &handle, &suspend);
    assert!(change.await.unwrap().summary.suspended);
    problem(
        world.get("/v1/account", &one.token).await,
        401,
        "not-signed-in",
    )
    .await;
    problem(
        world.enrol("alice", PASSWORD).await,
        403,
        "account-suspended",
    )
    .await;
    let change = accounts::change(&world.node, &Actor::System, &handle, &resume);
    assert_eq!(change.await.unwrap().summary.devices, 1);
    assert_eq!(
        world.get("/v1/account", &one.token).await.status(),
        StatusCode::OK
    );
}

/// Goal: key packages are counted, bounded in number and size, and the last-resort one is replaced.
#[tokio::test]
async fn key_packages() {
    let world = World::new().await;
    let device = world.enrolled("alice").await;
    let b64 = |bytes: Vec<u8>| homeserver_api::Base64(bytes);
    let put = |single: Vec<Vec<u8>>, last: Option<Vec<u8>>| {
        let single: Vec<_> = single.into_iter().map(b64).collect();
        let body = json!({ "single_use": single, "last_resort": last.map(b64) });
        let (world, token) = (&world, device.token.clone());
        async move { world.json("PUT", "/v1/key-packages", &token, &body).await }
    };
    problem(
        put(vec![vec![1]; 101], None).await,
        422,
        "too-many-key-packages",
    )
    .await;
    problem(
        put(vec![vec![1; 9000]], None).await,
        422,
        "too-many-key-packages",
    )
    .await;
    problem(put(vec![vec![]], None).await, 422, "too-many-key-packages").await;
    let count: KeyPackageCount = read(put(vec![vec![1]; 99], Some(vec![2])).await).await;
    assert_eq!((count.single_use, count.last_resort), (99, true));
    problem(
        put(vec![vec![1]; 2], None).await,
        422,
        "too-many-key-packages",
    )
    .await;
}

/// Goal: a file comes out as it went in, is refused when longer, shorter or larger than it may be,
/// and is gone when its time is over; across several chunks.
#[tokio::test]
async fn files() {
    let world = World::new().await;
    let device = world.enrolled("alice").await;
    let upload = |bytes: Vec<u8>, announced: usize, ttl: &str| {
        let request = Request::post("/v1/files")
            .header(header::AUTHORIZATION, format!("Bearer {}", device.token))
            .header(header::CONTENT_LENGTH, announced)
            .header(TTL_HEADER, ttl)
            .body(Body::from(bytes))
            .unwrap();
        world.call(request)
    };
    problem(upload(vec![1; 10], 9, "60").await, 413, "too-large").await;
    problem(upload(vec![1; 10], 11, "60").await, 422, "malformed").await;
    problem(upload(vec![1; 10], 10, "0").await, 422, "ttl-out-of-bounds").await;
    problem(upload(vec![1; 10], 10, "soon").await, 400, "missing-header").await;
    problem(
        upload(vec![], 200 * 1024 * 1024, "60").await,
        413,
        "files-not-allowed",
    )
    .await;
    let told = world.told("file.refused").await;
    let last = told.last().unwrap();
    assert!(last.starts_with("upload: files-not-allowed"), "{told:?}");

    let bytes: Vec<u8> = (0..700_000_u32).flat_map(u32::to_be_bytes).collect();
    let response = upload(bytes.clone(), bytes.len(), "60").await;
    assert_eq!(response.status(), StatusCode::CREATED);
    let info: FileInfo = read(response).await;
    let path = format!("/v1/files/{}/{}", info.server, info.file);
    let response = world.get(&path, &device.token).await;
    assert_eq!(response.status(), StatusCode::OK);
    let found = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(found, bytes);

    // Not swept yet, and gone all the same; then swept, and its bytes with it.
    world.clock.advance_ms(60_000);
    problem(world.get(&path, &device.token).await, 410, "expired").await;
    crate::delivery::expiry::sweep(&world.node).await.unwrap();
    let left = crate::store::file::chunk(&world.node.store, info.file, 0)
        .await
        .unwrap();
    assert!(left.is_none());
    let whose = crate::store::file::Whose::Account(device.account);
    let (used, _) = crate::store::file::usage(&world.node.store, &whose)
        .await
        .unwrap();
    assert_eq!(used, 0);

    // A peer's file needs an agreement.
    let path = format!("/v1/files/b.example/{}", info.file);
    problem(world.get(&path, &device.token).await, 403, "no-agreement").await;
    let told = world.told("file.refused").await;
    assert!(told.last().unwrap().contains("no-agreement"), "{told:?}");
}

/// Goal: a handle is never given to anyone else, not even after its account is gone, and a deleted
/// account's devices are gone with it.
#[tokio::test]
async fn handles_are_for_ever() {
    let world = World::new().await;
    let device = world.enrolled("alice").await;
    let handle: Handle = "alice".parse().unwrap();
    accounts::delete(&world.node, &Actor::System, &handle)
        .await
        .unwrap();
    problem(
        world.get("/v1/account", &device.token).await,
        401,
        "not-signed-in",
    )
    .await;
    problem(world.enrol("alice", PASSWORD).await, 401, "sign-in-failed").await;
    let request = CreateUserRequest {
        handle,
        user_type: None,
        password: None,
    };
    assert!(
        accounts::create(&world.node, &Actor::System, request)
            .await
            .is_err()
    );
    let names: Vec<String> = accounts::list(&world.node, None, 10)
        .await
        .unwrap()
        .into_iter()
        .map(|user| user.address.to_string())
        .collect();
    assert_eq!(names, ["bob@a.example"]);
}

/// Goal: what needs no token answers without one, and the own root is among the anchors.
#[tokio::test]
async fn server_and_anchors() {
    let world = World::new().await;
    let info: ServerInfo = read(world.get("/v1/server", "").await).await;
    assert_eq!(info.root_sha256, hex::encode(world.node.keys.root_sha256()));
    let device = world.enrolled("alice").await;
    let anchors: Anchors = read(world.get("/v1/anchors", &device.token).await).await;
    let servers: Vec<&str> = anchors.anchors.iter().map(|a| a.server.as_str()).collect();
    assert_eq!(servers, ["a.example"]);
}
