//! How devices come and go, and what the device log says of it.

use federation_proto::codec::Wire as _;
use federation_proto::device_log::{DeviceChain, DeviceHistory, How, SignedHead};
use federation_proto::ids::{AccountId, DeviceId};
use federation_proto::merkle::Tree;
use homeserver_api::Base64;
use homeserver_api::client::{
    AccountHistory, Came, EnrolPending, EnrolResponse, LogHead, LogStatements,
};
use homeserver_api::policy::DeviceReset;
use rcgen::SigningKey as _;

use super::*;
use crate::identity::enrolment;

/// A device with its key.
struct Enrolled {
    key: rcgen::KeyPair,
    device: DeviceId,
    account: AccountId,
    token: String,
}

fn body(handle: &str, key: &rcgen::KeyPair, reset: bool) -> Value {
    json!({
        "handle": handle,
        "password": PASSWORD,
        "csr": Base64(csr(key)),
        "device_name": "telephone",
        "reset": reset,
    })
}

impl World {
    async fn sign_in(&self, handle: &str, key: &rcgen::KeyPair, reset: bool) -> Response<Body> {
        self.json("POST", "/v1/devices", "", &body(handle, key, reset))
            .await
    }

    async fn first(&self, handle: &str) -> Enrolled {
        let key = device_key();
        let response = self.sign_in(handle, &key, false).await;
        assert_eq!(response.status(), StatusCode::CREATED);
        let EnrolResponse {
            device,
            account,
            token,
            ..
        } = read(response).await;
        Enrolled {
            key,
            device,
            account,
            token,
        }
    }

    async fn waits(&self, handle: &str, key: &rcgen::KeyPair) -> EnrolPending {
        let response = self.sign_in(handle, key, false).await;
        assert_eq!(response.status(), StatusCode::ACCEPTED);
        read(response).await
    }

    async fn poll(&self, token: &str) -> Response<Body> {
        self.json("POST", "/v1/devices/waiting", token, &Value::Null)
            .await
    }

    async fn history(&self, of: &Enrolled, known: &str) -> DeviceHistory {
        let path = format!("/v1/device-log/accounts/{}/{known}", of.account);
        let answer: AccountHistory = read(self.get(&path, &of.token).await).await;
        DeviceHistory::from_bytes(answer.history.0).unwrap()
    }

    /// The account's devices as anybody would judge them.
    async fn chain(&self, of: &Enrolled) -> DeviceChain {
        let history = self.history(of, "0").await;
        let root = self.node.keys.root().to_vec().into();
        let now_ms = self.node.clock.now_ms();
        let judged = history.verify(&self.node.server, of.account, &root, &[], now_ms);
        judged.unwrap().0
    }

    /// The statement by which `by` approves a device with this key.
    async fn approval(&self, by: &Enrolled, device: DeviceId, key: &rcgen::KeyPair) -> Vec<u8> {
        let unsigned = How::Approved {
            by: by.device,
            signature: [0; 64],
        };
        let public = key.public_key_raw().try_into().unwrap();
        let chain = self.chain(by).await;
        let mut statement = chain.next(device, public, unsigned, self.node.clock.now_ms());
        let signature = by.key.sign(&statement.approval_bytes().unwrap()).unwrap();
        statement.how = How::Approved {
            by: by.device,
            signature: signature.try_into().unwrap(),
        };
        statement.to_bytes().unwrap().to_vec()
    }

    async fn approve(&self, by: &Enrolled, device: DeviceId, statement: Vec<u8>) -> Response<Body> {
        let path = format!("/v1/devices/waiting/{device}");
        let body = json!({ "statement": Base64(statement) });
        self.json("POST", &path, &by.token, &body).await
    }
}

/// Goal: an account's second device is none until the first one has approved it, and then stands in the log with that
/// approval; by the whole way.
#[tokio::test]
async fn approval_by_a_device() {
    let world = World::new().await;
    let first = world.first("alice").await;
    let key = device_key();
    let pending = world.waits("alice", &key).await;
    assert_eq!(world.poll(&pending.token).await.status(), 202);
    assert_eq!(
        world.get("/v1/account", &pending.token).await.status(),
        401,
        "what waits is no device"
    );
    let account: AccountInfo = read(world.get("/v1/account", &first.token).await).await;
    let [waiting] = &account.waiting[..] else {
        panic!("one waits")
    };
    assert_eq!(waiting.device, pending.device);
    assert_eq!(waiting.public_key.0, key.public_key_raw());

    let statement = world.approval(&first, pending.device, &key).await;
    let approved = world.approve(&first, pending.device, statement).await;
    assert_eq!(approved.status(), StatusCode::NO_CONTENT);
    for _ in 0..2 {
        // An answer that was lost comes again.
        let response = world.poll(&pending.token).await;
        assert_eq!(response.status(), StatusCode::CREATED);
        let enrolled: EnrolResponse = read(response).await;
        assert_eq!(enrolled.device, pending.device);
    }
    let account: AccountInfo = read(world.get("/v1/account", &pending.token).await).await;
    assert!(account.waiting.is_empty());
    let came: Vec<Came> = account.devices.iter().map(|device| device.came).collect();
    assert!(came.contains(&Came::Approved { by: first.device }));
    let chain = world.chain(&first).await;
    assert_eq!(chain.devices().len(), 2);
    assert!(chain.devices().iter().all(|device| device.reset.is_none()));
    assert_eq!(world.told("device.waits").await.len(), 1);
    assert_eq!(world.told("device.approved").await.len(), 1);
}

/// Goal: nothing but the account's own approval of exactly this device lets it in; by a table of statements that are
/// something else, after which the device still waits.
#[tokio::test]
async fn only_the_own_approval_counts() {
    let world = World::new().await;
    let (first, bob) = (world.first("alice").await, world.first("bob").await);
    let (key, other) = (device_key(), device_key());
    let pending = world.waits("alice", &key).await;
    let device = pending.device;
    let good = world.approval(&first, device, &key).await;
    let mut unsigned = good.clone();
    let last = unsigned.len() - 1;
    unsigned[last] ^= 1;
    let table = [
        ("no statement", first.token.clone(), b"yes".to_vec(), 422),
        ("another signature", first.token.clone(), unsigned, 422),
        (
            "another key",
            first.token.clone(),
            world.approval(&first, device, &other).await,
            409,
        ),
        (
            "another device",
            first.token.clone(),
            world
                .approval(&first, DeviceId::from_bytes([9; 16]), &key)
                .await,
            422,
        ),
        (
            "another account's",
            bob.token.clone(),
            world.approval(&bob, device, &key).await,
            404,
        ),
        (
            "another account's device for this one",
            first.token.clone(),
            world.approval(&bob, device, &key).await,
            422,
        ),
    ];
    for (what, token, statement, status) in table {
        let path = format!("/v1/devices/waiting/{device}");
        let body = json!({ "statement": Base64(statement) });
        let response = world.json("POST", &path, &token, &body).await;
        assert_eq!(response.status(), status, "{what}");
        assert_eq!(world.poll(&pending.token).await.status(), 202, "{what}");
    }
    world.clock.advance_ms(6 * 60 * 1000);
    let late = world.approve(&first, device, good.clone()).await;
    problem(late, 422, "invalid").await;
    let fresh = world.approval(&first, device, &key).await;
    assert_eq!(
        world.approve(&first, device, fresh.clone()).await.status(),
        204
    );
    problem(
        world.approve(&first, device, fresh).await,
        404,
        "not-waiting",
    )
    .await;
    assert_eq!(world.chain(&first).await.serial(), 2);
}

/// Goal: a device that is declined, or that nobody approves within the hour, never comes; no more than four wait.
#[tokio::test]
async fn waiting_ends() {
    let world = World::new().await;
    let first = world.first("alice").await;
    let mut tokens = Vec::new();
    for _ in 0..4 {
        let pending = world.waits("alice", &device_key()).await;
        tokens.push((pending.device, pending.token));
    }
    let fifth = world.sign_in("alice", &device_key(), false).await;
    problem(fifth, 409, "too-many-waiting").await;
    let (declined, token) = &tokens[0];
    let path = format!("/v1/devices/waiting/{declined}");
    let response = world
        .json("DELETE", &path, &first.token, &Value::Null)
        .await;
    assert_eq!(response.status(), StatusCode::NO_CONTENT);
    problem(world.poll(token).await, 404, "not-waiting").await;
    let key = device_key();
    let pending = world.waits("alice", &key).await;
    world.clock.advance_ms(61 * 60 * 1000);
    problem(world.poll(&pending.token).await, 404, "not-waiting").await;
    let statement = world.approval(&first, pending.device, &key).await;
    let late = world.approve(&first, pending.device, statement).await;
    problem(late, 404, "not-waiting").await;
    // What is over makes room again.
    world.waits("alice", &device_key()).await;
}

/// Goal: a reset is by the password where the user type permits it, else by an administrator's leave, which is good for
/// one time and a day; it stands in the log as one, and in the audit log.
#[tokio::test]
async fn resets() {
    let world = World::new().await;
    let first = world.first("alice").await;
    let response = world.sign_in("alice", &device_key(), true).await;
    assert_eq!(response.status(), StatusCode::CREATED);
    let chain = world.chain(&first).await;
    assert_eq!(chain.devices()[1].reset, Some(2));
    assert_eq!(world.told("device.reset").await.len(), 1);

    let strict = UserTypePolicy {
        device_reset: DeviceReset::Administrator,
        ..UserTypePolicy::default()
    };
    user_types::put(&world.node, &Actor::System, "standard", strict)
        .await
        .unwrap();
    let alice: Handle = "alice".parse().unwrap();
    let refused = world.sign_in("alice", &device_key(), true).await;
    problem(refused, 403, "reset-forbidden").await;
    let allow = || enrolment::allow_reset(&world.node, &Actor::System, &alice);
    allow().await.unwrap();
    world.clock.advance_ms(25 * 60 * 60 * 1000);
    let late = world.sign_in("alice", &device_key(), true).await;
    problem(late, 403, "reset-forbidden").await;
    allow().await.unwrap();
    let used = world.sign_in("alice", &device_key(), true).await;
    assert_eq!(used.status(), StatusCode::CREATED);
    let again = world.sign_in("alice", &device_key(), true).await;
    problem(again, 403, "reset-forbidden").await;
    assert_eq!(world.told("device.reset-allowed").await.len(), 2);
}

/// Goal: whoever has removed his last device is told how he gets another one, and the log goes on where it was.
#[tokio::test]
async fn after_the_last_device() {
    let world = World::new().await;
    let first = world.first("alice").await;
    let bob = world.first("bob").await;
    let path = format!("/v1/devices/{}", first.device);
    let removed = world
        .json("DELETE", &path, &first.token, &Value::Null)
        .await;
    assert_eq!(removed.status(), StatusCode::NO_CONTENT);
    let refused = world.sign_in("alice", &device_key(), false).await;
    problem(refused, 409, "no-device-left").await;
    let response = world.sign_in("alice", &device_key(), true).await;
    assert_eq!(response.status(), StatusCode::CREATED);
    let alice = Enrolled {
        token: bob.token,
        ..first
    };
    let chain = world.chain(&alice).await;
    assert_eq!((chain.serial(), chain.devices().len()), (3, 1));
    assert_eq!(chain.devices()[0].reset, Some(3));
    let again = world.sign_in("alice", &alice.key, true).await;
    problem(again, 422, "invalid").await;
}

/// Goal: the log is one append-only tree over everybody's statements: its head is signed by the organisation, grows
/// provably, and holds every statement that is listed; deleting an account takes none away.
#[tokio::test]
async fn the_log_is_a_tree() {
    let world = World::new().await;
    let (alice, bob) = (world.first("alice").await, world.first("bob").await);
    let root = world.node.keys.root().to_vec().into();
    let head = |known: u64| {
        let (world, root, token) = (&world, &root, &bob.token);
        async move {
            let path = format!("/v1/device-log/head/{known}");
            let answer: LogHead = read(world.get(&path, token).await).await;
            let signed = SignedHead::from_bytes(answer.head.0).unwrap();
            let now_ms = world.node.clock.now_ms();
            let head = signed
                .verify(&world.node.server, root, &[], now_ms)
                .cloned();
            let growth = answer
                .growth
                .map(|growth| federation_proto::device_log::Growth::from_bytes(growth.0).unwrap());
            (head.unwrap(), growth)
        }
    };
    let (before, _) = head(0).await;
    assert_eq!(before.size, 2);
    world.sign_in("alice", &device_key(), true).await;
    let handle: Handle = "alice".parse().unwrap();
    accounts::delete(&world.node, &Actor::System, &handle)
        .await
        .unwrap();
    let (after, growth) = head(2).await;
    assert_eq!(after.size, 5, "two devices have gone");
    after.follows(&before, growth.as_ref()).unwrap();
    let listed: LogStatements =
        read(world.get("/v1/device-log/statements/0", &bob.token).await).await;
    let leaves = listed
        .statements
        .iter()
        .map(|bytes| federation_proto::merkle::leaf(&bytes.0));
    assert_eq!(Tree::new(leaves.collect()).root(), after.root);
    let anchors: Anchors = read(world.get("/v1/anchors", &bob.token).await).await;
    let told = anchors.anchors[0].log_head.clone().unwrap();
    assert_eq!(SignedHead::from_bytes(told.0).unwrap().claims(), &after);
    let history = world.history(&bob, "2,5").await;
    assert_eq!(history.growth.len(), 1, "from what is smaller");
    let of_alice = format!("/v1/device-log/accounts/{}/0", alice.account);
    let gone = world.get(&of_alice, &bob.token).await;
    assert_eq!(gone.status(), StatusCode::OK, "the log forgets nobody");
    problem(
        world
            .get(
                &format!("/v1/device-log/accounts/{}/x", bob.account),
                &bob.token,
            )
            .await,
        400,
        "bad-path",
    )
    .await;
}

/// Goal: a device that was away for six weeks, past the end of its certificate, gets a new one by its old key; another key
/// or a removed device gets none. By moving the clock.
#[tokio::test]
async fn late_return() {
    let world = World::new().await;
    let first = world.first("alice").await;
    world.clock.advance_ms(42 * 24 * 60 * 60 * 1000);
    let renew = |key: &rcgen::KeyPair| json!({ "csr": Base64(csr(key)) });
    let path = "/v1/certificate";
    let other = renew(&device_key());
    let other = world.json("POST", path, &first.token, &other).await;
    problem(other, 409, "other-key").await;
    let response = world
        .json("POST", path, &first.token, &renew(&first.key))
        .await;
    assert_eq!(response.status(), StatusCode::OK);
    let renewed: RenewResponse = read(response).await;
    assert!(renewed.not_after_ms > world.node.clock.now_ms());
    assert_eq!(world.chain(&first).await.serial(), 1, "the key is the same");
    let alice: Handle = "alice".parse().unwrap();
    accounts::remove_device(&world.node, &Actor::System, &alice, first.device)
        .await
        .unwrap();
    let gone = world
        .json("POST", path, &first.token, &renew(&first.key))
        .await;
    assert_eq!(gone.status(), StatusCode::UNAUTHORIZED);
}
