//! The real `hsctl`: offers dropped at another homeserver, and what strangers have dropped here.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests may stop at the first surprise"
)]

mod fake_admin;

use std::sync::Arc;

use fake_admin::FakeAdmin;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use ring::digest::{SHA256, digest};
use rustls::ServerConfig;
use rustls_pki_types::PrivateKeyDer;
use serde_json::{Value, json};

/// The TLS of `b.example`, and the SHA-256 of its root.
fn stranger() -> (ServerConfig, String) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec!["b.example".to_owned()])
        .unwrap()
        .signed_by(&key, &root)
        .unwrap();
    let pin = digest(&SHA256, root.der());
    let pin = pin
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let config =
        ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![leaf.der().clone(), root.der().clone()],
                PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            )
            .unwrap();
    (config, pin)
}

/// Goal: an offer is dropped only at the homeserver that proves itself under the root that was told, and a
/// redirect is not followed; by a right pin, a wrong one, none, and a homeserver that sends elsewhere.
#[tokio::test]
async fn an_offer_is_dropped_where_it_belongs() {
    let ours = FakeAdmin::new(&[(
        "POST /admin/v1/peers/offers",
        201,
        json!({"document": "OFFER"}),
    )]);
    let theirs = FakeAdmin::new(&[("POST /federation/v1/offers", 202, Value::Null)]);
    let (config, pin) = stranger();
    let url = theirs.listen_tls(config).await;
    let line = format!("peer offer b.example --deliver {url}");
    assert_eq!(ours.hsctl(&line).await.code, 2, "without a pin");
    let wrong = ours
        .hsctl(&format!("{line} --deliver-root {}", "00".repeat(32)))
        .await;
    assert_eq!(wrong.code, 1, "{wrong:?}");
    assert_eq!(theirs.asked(), []);
    let outcome = ours.hsctl(&format!("{line} --deliver-root {pin}")).await;
    assert_eq!(
        (outcome.code, outcome.stdout.trim()),
        (0, "OFFER"),
        "{outcome:?}"
    );
    assert_eq!(theirs.asked().len(), 1);
    let foreign = format!("peer offer c.example --deliver {url} --deliver-root {pin}");
    assert_eq!(ours.hsctl(&foreign).await.code, 1, "it is not c.example");

    let elsewhere = FakeAdmin::new(&[("POST /federation/v1/offers", 307, Value::Null)]);
    let (config, pin) = stranger();
    let url = elsewhere.listen_tls(config).await;
    let line = format!("peer offer b.example --deliver {url} --deliver-root {pin}");
    assert_eq!(ours.hsctl(&line).await.code, 1);
    assert_eq!(elsewhere.asked().len(), 1);
}

/// Goal: what the command line says wrongly, or a file that can't be written, changes nothing at the homeserver, and
/// leaves no file; and an offer that can't be delivered is written. Method: offers with a wrong root, address and
/// file, then with an address where nobody listens.
#[tokio::test]
async fn arguments_are_looked_at_first() {
    let ours = FakeAdmin::new(&[(
        "POST /admin/v1/peers/offers",
        201,
        json!({"document": "OFFER"}),
    )]);
    let file = ours.file("offer.txt");
    let (pin, out) = ("00".repeat(32), file.display().to_string());
    for (flags, code) in [
        (
            format!("--deliver https://127.0.0.1:1 --deliver-root 00 -o {out}"),
            2,
        ),
        (
            format!("--deliver 127.0.0.1:1 --deliver-root {pin} -o {out}"),
            2,
        ),
        (format!("-o {out}/none"), 1),
        (format!("--terms {out}.none -o {out}"), 78),
    ] {
        let outcome = ours.hsctl(&format!("peer offer q.example {flags}")).await;
        assert_eq!(outcome.code, code, "{outcome:?}");
        assert_eq!(ours.asked(), [], "{flags}");
        assert!(!file.exists(), "{flags}");
    }
    let nobody = format!("--deliver https://127.0.0.1:1 --deliver-root {pin} -o {out}");
    let outcome = ours.hsctl(&format!("peer offer q.example {nobody}")).await;
    assert_eq!(outcome.code, 75, "{outcome:?}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "OFFER\n");
}

/// Goal: nothing is accepted, countersigned, amended, consented to or taken out of quarantine while its document could
/// not be kept. Method: each with a file in a folder that is not there, at a homeserver that would do it.
#[tokio::test]
async fn documents_that_cannot_be_kept_are_not_made() {
    let fake = FakeAdmin::new(&[]);
    let document = fake.file("document");
    std::fs::write(&document, "DOCUMENT").unwrap();
    let document = document.display();
    for command in [
        format!("peer accept {document} --fingerprint 00ff"),
        format!("peer countersign {document} --fingerprint 00ff"),
        "peer amend b.example --file-max 0 --yes".to_owned(),
        "peer consent b.example --yes".to_owned(),
        "peer quarantine take ab12".to_owned(),
        "consortium introduce".to_owned(),
        format!("consortium new name --member {document}"),
        format!("consortium sign {document} --fingerprint 00ff"),
        format!("consortium merge {document}"),
    ] {
        let outcome = fake.hsctl(&format!("{command} -o /nonexistent/x")).await;
        assert_eq!(outcome.code, 1, "{command}: {outcome:?}");
        assert!(
            outcome.stderr.contains("Nothing was changed"),
            "{outcome:?}"
        );
    }
    assert_eq!(fake.asked(), []);
}

/// Goal: the quarantine is listed, read, taken out of and emptied by its paths, and a document can't leave
/// its segment; by each verb.
#[tokio::test]
async fn quarantine_verbs() {
    let entry =
        json!({"document": "ab12", "kind": "offer", "received_ms": 0, "network": "192.0.2.1"});
    let mut detail = entry.clone();
    detail["summary"] = json!({
        "kind": "offer", "from": "a.example", "to": "b.example", "fingerprint": "00ff",
        "lines": ["Messages live from 1 minute to 30 days."],
    });
    let fake = FakeAdmin::new(&[
        (
            "GET /admin/v1/quarantine",
            200,
            json!({"documents": [entry]}),
        ),
        ("GET /admin/v1/quarantine/ab12", 200, detail),
        (
            "POST /admin/v1/quarantine/ab12/take",
            200,
            json!({"document": "OFFER"}),
        ),
        ("DELETE /admin/v1/quarantine/ab12", 204, Value::Null),
    ]);
    let listed = fake.hsctl("peer quarantine list").await;
    assert!(listed.stdout.contains("ab12"), "{listed:?}");
    let shown = fake.hsctl("peer quarantine show ab12").await;
    assert!(shown.stdout.contains("- Messages live"), "{shown:?}");
    let taken = fake.hsctl("peer quarantine take ab12").await;
    assert_eq!((taken.code, taken.stdout.trim()), (0, "OFFER"), "{taken:?}");
    assert_eq!(fake.hsctl("peer quarantine drop ab12").await.code, 0);
    fake.hsctl("peer quarantine drop ../peers").await;
    let last = fake.asked().pop().unwrap().line;
    assert_eq!(last, "DELETE /admin/v1/quarantine/..%2Fpeers");
}
