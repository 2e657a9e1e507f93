//! The real `hsctl` against a fake admin API over TLS: sign-in, and whom it trusts.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests may stop at the first surprise"
)]

mod fake_admin;

use std::sync::Arc;

use fake_admin::{FakeAdmin, hsctl};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use ring::digest::{SHA256, digest};
use rustls::ServerConfig;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};

/// An organisation with root, issuing CA and the leaf of `a.example`, as a homeserver sends them.
struct Organisation {
    config: ServerConfig,
    root: CertificateDer<'static>,
}

fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

fn organisation() -> Organisation {
    let root =
        CertifiedIssuer::self_signed(authority("a.example root"), KeyPair::generate().unwrap())
            .unwrap();
    let issuing = CertifiedIssuer::signed_by(
        authority("a.example issuing"),
        KeyPair::generate().unwrap(),
        &root,
    )
    .unwrap();
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec!["a.example".to_owned()])
        .unwrap()
        .signed_by(&key, &issuing)
        .unwrap();
    let root = root.der().clone();
    let chain = vec![leaf.der().clone(), issuing.der().clone(), root.clone()];
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config =
        ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
    Organisation { config, root }
}

fn hex(certificate: &CertificateDer<'_>) -> String {
    digest(&SHA256, certificate)
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn fake() -> FakeAdmin {
    FakeAdmin::new(&[
        (
            "POST /admin/v1/sessions",
            201,
            json!({"token": "sesame", "expires_ms": 32_503_680_000_000_u64}),
        ),
        ("GET /admin/v1/users", 200, json!({"users": []})),
        ("DELETE /admin/v1/sessions", 204, Value::Null),
    ])
}

/// Goal: after one sign-in with the pin, commands carry the token and need neither pin nor name;
/// after `logout` they don't go out.
#[tokio::test]
async fn sign_in() {
    let fake = fake();
    let organisation = organisation();
    let pin = hex(&organisation.root);
    let url = fake.listen_tls(organisation.config).await;
    let (password, session) = (fake.file("password"), fake.file("session"));
    std::fs::write(&password, "correct horse\n").unwrap();
    let flags = ["--server", &url, "--session", session.to_str().unwrap()];

    let before = hsctl(&flags, "user list").await;
    assert_eq!(before.code, 1, "{before:?}");
    assert!(
        before.stderr.contains("run `hsctl login --server"),
        "{before:?}"
    );

    let line = format!(
        "login --name admin --password-file {} --server-name a.example --root-sha256 {pin}",
        password.display()
    );
    let login = hsctl(&flags, &line).await;
    assert_eq!(login.code, 0, "{login:?}");
    assert_eq!(
        fake.asked()[0].body,
        json!({"name": "admin", "password": "correct horse"})
    );
    assert!(!login.stdout.contains("sesame"), "the token is not printed");

    let users = hsctl(&flags, "user list").await;
    assert_eq!(users.code, 0, "{users:?}");
    assert_eq!(fake.asked()[1].token.as_deref(), Some("Bearer sesame"));

    let other = url.replace("https://", "HTTPS://") + "/";
    let other = ["--server", &other, "--session", session.to_str().unwrap()];
    let logout = hsctl(&other, "logout").await;
    assert_eq!(logout.code, 0, "{logout:?}");
    let ended = &fake.asked()[2];
    assert_eq!(ended.line, "DELETE /admin/v1/sessions");
    assert_eq!(ended.token.as_deref(), Some("Bearer sesame"));
    let again = hsctl(&flags, "logout").await;
    assert_eq!(again.code, 1, "{again:?}");
    assert!(again.stderr.contains("hsctl login"), "{again:?}");
    let signed_out = hsctl(&flags, "status").await;
    assert_eq!(signed_out.code, 1, "{signed_out:?}");
    assert!(signed_out.stderr.contains("hsctl login"), "{signed_out:?}");
    assert_eq!(fake.asked().len(), 3);
}

/// Goal: a session that the homeserver has ended already is forgotten, one that can't be ended there is kept and
/// the way out is told, and the own password is changed with it; by each answer.
#[tokio::test]
async fn sessions_end() {
    let organisation = organisation();
    let pin = hex(&organisation.root);
    let config = organisation.config;
    let problem = |status: u16, code: &str| {
        json!({
            "type": format!("urn:entente:problem:{code}"), "title": code, "status": status,
            "detail": "said so",
        })
    };
    for (status, body, exit, left) in [
        (204, Value::Null, 0, false),
        (401, problem(401, "not-signed-in"), 0, false),
        (503, problem(503, "busy"), 75, true),
    ] {
        let fake = FakeAdmin::new(&[
            (
                "POST /admin/v1/sessions",
                201,
                json!({"token": "sesame", "expires_ms": 32_503_680_000_000_u64}),
            ),
            ("DELETE /admin/v1/sessions", status, body),
            ("POST /admin/v1/password", 204, Value::Null),
        ]);
        let url = fake.listen_tls(config.clone()).await;
        let (old, new, session) = (fake.file("old"), fake.file("new"), fake.file("session"));
        std::fs::write(&old, "correct horse\n").unwrap();
        std::fs::write(&new, "battery staple\n").unwrap();
        let flags = ["--server", &url, "--session", session.to_str().unwrap()];
        let line = format!(
            "login --password-file {} --server-name a.example --root-sha256 {pin}",
            old.display()
        );
        assert_eq!(hsctl(&flags, &line).await.code, 0);
        let line = format!(
            "password --password-file {} --new-password-file {}",
            old.display(),
            new.display()
        );
        let changed = hsctl(&flags, &line).await;
        assert_eq!(changed.code, 0, "{changed:?}");
        assert_eq!(
            fake.asked()[1].body,
            json!({"old": "correct horse", "new": "battery staple"})
        );
        let logout = hsctl(&flags, "logout").await;
        assert_eq!(logout.code, exit, "{logout:?}");
        let kept = std::fs::read_to_string(&session).unwrap();
        assert_eq!(kept.contains("sesame"), left);
        let here = hsctl(&flags, "logout --here-only").await;
        assert_eq!(here.code, i32::from(!left), "{here:?}");
        assert_eq!(fake.asked().len(), 3, "nothing more is asked there");
    }
}

/// Goal: a homeserver under another root, or with another name, gets no password.
#[tokio::test]
async fn strangers_get_nothing() {
    let fake = fake();
    let organisation = organisation();
    let pin = hex(&organisation.root);
    let url = fake.listen_tls(organisation.config).await;
    let (password, session) = (fake.file("password"), fake.file("session"));
    std::fs::write(&password, "correct horse\n").unwrap();
    for (name, pin) in [("a.example", "00".repeat(32)), ("b.example", pin)] {
        let line = format!(
            "login --password-file {} --server-name {name} --root-sha256 {pin}",
            password.display()
        );
        let outcome = hsctl(
            &["--server", &url, "--session", session.to_str().unwrap()],
            &line,
        )
        .await;
        assert_eq!(outcome.code, 1, "{outcome:?}");
        assert!(outcome.stderr.contains("did not prove"), "{outcome:?}");
    }
    assert_eq!(fake.asked(), []);
    assert!(!session.exists());
}
