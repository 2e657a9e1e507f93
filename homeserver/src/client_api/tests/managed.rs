//! What a user type asks of devices and people before they may act, and what people rule for themselves.

use homeserver_api::policy::{DirectoryListing, SignInRules};

use super::*;
use crate::policy::gate;

/// The standard user type, changed.
async fn rule(world: &World, change: impl FnOnce(&mut UserTypePolicy)) -> UserTypePolicy {
    let mut policy = UserTypePolicy::default();
    change(&mut policy);
    user_types::put(&world.node, &Actor::System, "standard", policy.clone())
        .await
        .unwrap();
    policy
}

/// Goal: where the user type asks for the password again, a device whose sign-in is too old does nothing but read its account
/// and type the password; then it goes on; a wrong password is one. Method: the moments around the end.
#[tokio::test]
async fn the_password_is_typed_again() {
    let world = World::new().await;
    let alice = world.enrolled("alice").await;
    rule(&world, |policy| {
        policy.sessions.sign_in_seconds_max = Some(3600);
    })
    .await;
    world.clock.advance_ms(3_599_999);
    let keys = "/v1/key-packages";
    assert_eq!(world.get(keys, &alice.token).await.status(), StatusCode::OK);
    world.clock.advance_ms(1);
    problem(world.get(keys, &alice.token).await, 403, "sign-in-needed").await;
    let account = world.get("/v1/account", &alice.token).await;
    assert_eq!(account.status(), StatusCode::OK);
    let again = async |password: &str| {
        let body = json!({ "password": password });
        world
            .json("POST", "/v1/account/sign-in", &alice.token, &body)
            .await
    };
    problem(again("wrong").await, 403, "wrong-password").await;
    assert_eq!(again(PASSWORD).await.status(), StatusCode::NO_CONTENT);
    assert_eq!(world.get(keys, &alice.token).await.status(), StatusCode::OK);
    assert_eq!(world.told("device.signed-in-again").await.len(), 1);
    // Without the rule it counts for ever.
    rule(&world, |_| ()).await;
    world.clock.advance_ms(365 * 24 * 3_600_000);
    assert_eq!(world.get(keys, &alice.token).await.status(), StatusCode::OK);
}

/// Goal: where the organisation has a notice, a device does nothing before its user agrees to it as it is now. Method: no
/// consent, consent to another text, to this one, and a text that changes.
#[tokio::test]
async fn a_notice_is_agreed_to() {
    let world = World::new().await;
    let alice = world.enrolled("alice").await;
    let notice = |text: &'static str| {
        move |policy: &mut UserTypePolicy| policy.clients.banner = Some(text.to_owned())
    };
    rule(&world, notice("one")).await;
    let keys = "/v1/key-packages";
    problem(world.get(keys, &alice.token).await, 403, "banner-needed").await;
    let agree = async |hash: &str| {
        let body = json!({ "banner_sha256": hash });
        world
            .json("POST", "/v1/account/banner", &alice.token, &body)
            .await
    };
    problem(agree("00").await, 422, "invalid").await;
    let account: AccountInfo = read(world.get("/v1/account", &alice.token).await).await;
    let hash = account.banner_sha256.unwrap();
    assert_eq!(
        gate::banner_sha256(&account.policy).map(hex::encode),
        Some(hash.clone())
    );
    assert_eq!(agree(&hash).await.status(), StatusCode::NO_CONTENT);
    assert_eq!(world.get(keys, &alice.token).await.status(), StatusCode::OK);
    rule(&world, notice("two")).await;
    problem(world.get(keys, &alice.token).await, 403, "banner-needed").await;
    problem(agree(&hash).await, 422, "invalid").await;
}

/// Goal: a password that a person chooses or is given is held to the user type's rules, and one that the homeserver makes is
/// good anywhere. Method: each way to a password, by one that is too simple.
#[tokio::test]
async fn passwords_are_held_to_rules() {
    let world = World::new().await;
    let alice = world.enrolled("alice").await;
    rule(&world, |policy| {
        policy.passwords.kinds_min = 3;
        policy.passwords.without_handle = true;
    })
    .await;
    let change = async |new: &str| {
        let body = json!({ "old": PASSWORD, "new": new });
        world
            .json("POST", "/v1/account/password", &alice.token, &body)
            .await
    };
    let weak = problem(change("all in small letters").await, 422, "invalid").await;
    assert!(weak.detail.contains("at least 3"), "{}", weak.detail);
    problem(change("Alice in 2026").await, 422, "invalid").await;
    assert_eq!(
        change("Horses in 2026").await.status(),
        StatusCode::NO_CONTENT
    );
    let node = &world.node;
    let (handle, actor): (Handle, _) = ("alice".parse().unwrap(), &Actor::System);
    let given = homeserver_api::admin::ResetPasswordRequest {
        password: Some("all in small letters".into()),
    };
    assert!(
        accounts::reset_password(node, actor, &handle, given)
            .await
            .is_err()
    );
    let made = homeserver_api::admin::ResetPasswordRequest::default();
    accounts::reset_password(node, actor, &handle, made)
        .await
        .unwrap();
    let carol = CreateUserRequest {
        handle: "carol".parse().unwrap(),
        user_type: None,
        password: Some("all in small letters".into()),
    };
    assert!(accounts::create(node, actor, carol).await.is_err());
}

/// Goal: failed sign-ins to an account are delayed as its user type says, and lock it where the user type has that. Method: a
/// type that has no free failures and a lockout.
#[tokio::test]
async fn sign_ins_are_delayed_by_user_type() {
    let world = World::new().await;
    rule(&world, |policy| {
        policy.sign_in = SignInRules {
            free_failures: 0,
            delay_seconds_min: 10,
            delay_seconds_max: 10,
            lockout_failures: 2,
            lockout_seconds: 3600,
        };
    })
    .await;
    problem(world.enrol("alice", "wrong").await, 401, "sign-in-failed").await;
    problem(world.enrol("alice", PASSWORD).await, 429, "rate-limited").await;
    world.clock.advance_ms(10_000);
    problem(world.enrol("alice", "wrong").await, 401, "sign-in-failed").await;
    world.clock.advance_ms(3_599_000);
    problem(world.enrol("alice", PASSWORD).await, 429, "rate-limited").await;
    world.clock.advance_ms(1_000);
    assert_eq!(world.enrol("alice", PASSWORD).await.status(), 201);
}

/// Goal: people tighten their rules and never loosen them: what is looser is refused, and what the user type later tightens
/// further holds. Method: each through the API, and what the account shows.
#[tokio::test]
async fn people_tighten_and_never_loosen() {
    let world = World::new().await;
    let alice = world.enrolled("alice").await;
    let set = async |own: Value| {
        world
            .json("PUT", "/v1/account/rules", &alice.token, &own)
            .await
    };
    let shown =
        async || -> AccountInfo { read(world.get("/v1/account", &alice.token).await).await };
    let loose = set(json!({ "directory": "listed" })).await;
    let loose = problem(loose, 422, "invalid").await;
    assert!(loose.detail.contains("directory"), "{}", loose.detail);
    let own = json!({ "directory": "hidden", "ttl_seconds_max": 3600, "outside_contacts": "ask" });
    assert_eq!(set(own).await.status(), StatusCode::NO_CONTENT);
    let account = shown().await;
    assert_eq!(account.policy.directory, DirectoryListing::Hidden);
    assert_eq!(account.policy.ttl.max_seconds, 3600);
    assert_eq!(account.own.ttl_seconds_max, Some(3600));
    rule(&world, |policy| {
        policy.ttl.max_seconds = 600;
        policy.ttl.default_seconds = 600;
    })
    .await;
    assert_eq!(shown().await.policy.ttl.max_seconds, 600);
    // It is enforced, not only shown.
    let request = Request::post("/v1/files")
        .header(header::AUTHORIZATION, format!("Bearer {}", alice.token))
        .header(header::CONTENT_LENGTH, 1)
        .header(TTL_HEADER, "601")
        .body(Body::from("x"))
        .unwrap();
    problem(world.call(request).await, 422, "ttl-out-of-bounds").await;
}

/// Goal: what an account may download in a day is bounded, whole files at a time, and so is each file; others are not
/// touched. Method: a small file twice, by two people, a day that passes, and a file larger than a day's.
#[tokio::test]
async fn downloads_are_bounded() {
    let world = World::new().await;
    let (alice, bob) = (world.enrolled("alice").await, world.enrolled("bob").await);
    let request = Request::post("/v1/files")
        .header(header::AUTHORIZATION, format!("Bearer {}", alice.token))
        .header(header::CONTENT_LENGTH, 2048)
        .header(TTL_HEADER, "604800")
        .body(Body::from(vec![7; 2048]))
        .unwrap();
    let info: FileInfo = read(world.call(request).await).await;
    let path = format!("/v1/files/a.example/{}", info.file);
    rule(&world, |policy| policy.downloads.day_bytes_max = Some(3072)).await;
    assert_eq!(
        world.get(&path, &alice.token).await.status(),
        StatusCode::OK
    );
    problem(world.get(&path, &alice.token).await, 429, "quota").await;
    assert_eq!(world.get(&path, &bob.token).await.status(), StatusCode::OK);
    world.clock.advance_ms(24 * 3_600_000);
    assert_eq!(
        world.get(&path, &alice.token).await.status(),
        StatusCode::OK
    );
    world.clock.advance_ms(24 * 3_600_000);
    rule(&world, |policy| policy.downloads.day_bytes_max = Some(1024)).await;
    problem(
        world.get(&path, &alice.token).await,
        413,
        "files-not-allowed",
    )
    .await;
    rule(&world, |policy| {
        policy.downloads.file_bytes_max = Some(2047)
    })
    .await;
    problem(world.get(&path, &bob.token).await, 413, "files-not-allowed").await;
}

/// Goal: a user type that forbids files or is missing is told so, and one in use can't be deleted.
#[tokio::test]
async fn user_types_rule() {
    let world = World::new().await;
    let (node, actor) = (&world.node, &Actor::System);
    let device = world.enrolled("alice").await;
    let mut policy = UserTypePolicy {
        files: false,
        ..UserTypePolicy::default()
    };
    user_types::put(node, actor, "plain", policy.clone())
        .await
        .unwrap();
    let handle: Handle = "alice".parse().unwrap();
    let to = |name: &str| ChangeUserRequest {
        user_type: Some(name.to_owned()),
        suspended: None,
    };
    assert!(
        accounts::change(node, actor, &handle, &to("none"))
            .await
            .is_err()
    );
    accounts::change(node, actor, &handle, &to("plain"))
        .await
        .unwrap();
    let request = Request::post("/v1/files")
        .header(header::AUTHORIZATION, format!("Bearer {}", device.token))
        .header(header::CONTENT_LENGTH, 1)
        .header(TTL_HEADER, "60")
        .body(Body::from("x"))
        .unwrap();
    problem(world.call(request).await, 413, "files-not-allowed").await;
    assert!(user_types::delete(node, actor, "plain").await.is_err());
    policy.ttl.min_seconds = 0;
    policy.devices_max = 0;
    let error = user_types::put(node, actor, "plain", policy)
        .await
        .unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("ttl: min") && text.contains("devices_max"),
        "{text}"
    );
    accounts::change(node, actor, &handle, &to("standard"))
        .await
        .unwrap();
    user_types::delete(node, actor, "plain").await.unwrap();
}
