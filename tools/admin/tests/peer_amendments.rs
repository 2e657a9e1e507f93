//! The real `hsctl` against a fake admin API: changes to an agreement that stands.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests may stop at the first surprise"
)]

mod fake_admin;

use fake_admin::FakeAdmin;
use serde_json::{Value, json};

const AMENDMENTS: &str = "POST /admin/v1/peers/b.example/amendments";

fn amended(effect: &str, document: Value) -> Value {
    json!({
        "effect": effect, "serial": 2, "follows": "abcd", "document": document,
        "changes": ["tightens: «Files of up to 1 GiB.» becomes «No files.»"],
    })
}

fn peer(proposal: Value) -> Value {
    json!({
        "server": "b.example", "state": "active", "reachable": {"answers": true}, "expires_ms": null,
        "warnings": ["b.example proposes an amendment that waits for an answer."],
        "fingerprint": "00ff 1234", "endpoints": [], "lines": [], "reason": null,
        "proposal": proposal, "own_proposal": null,
    })
}

fn proposal(new_fingerprint: Value) -> Value {
    json!({
        "amendment": "ab12", "serial": 3, "made_ms": 1_795_342_830_000_u64,
        "changes": ["widens: «No files.» becomes «Files of up to 1 GiB.»"],
        "new_fingerprint": new_fingerprint,
    })
}

/// Goal: `peer amend --dry-run` asks for nothing but what would change, as the flags say it; by most flags.
#[tokio::test]
async fn a_dry_run_only_asks() {
    let fake = FakeAdmin::new(&[(AMENDMENTS, 200, amended("in-force", Value::Null))]);
    let line = "peer amend b.example --file-max 0 --ttl-max 1h --outbound message:officer --grant none \
                --label-max 3 --valid-days 30 --endpoint a.example:8448 --dry-run";
    let outcome = fake.hsctl(line).await;
    assert_eq!(outcome.code, 0, "{outcome:?}");
    assert!(outcome.stdout.contains("at once"), "{outcome:?}");
    assert!(outcome.stdout.contains("- tightens: «Files"), "{outcome:?}");
    assert_eq!(fake.asked().len(), 1);
    let body = &fake.asked()[0].body;
    assert_eq!(body["dry_run"], true);
    assert_eq!(body["file_bytes_max"], 0);
    assert_eq!(body["ttl_max_seconds"], 3600);
    assert_eq!(body["ttl_min_seconds"], Value::Null);
    assert_eq!(
        body["outbound"],
        json!([{"operation": "message", "user_types": ["officer"]}])
    );
    assert_eq!(body["inbound"], json!([]));
    assert_eq!(body["label_max"], 3);
    assert_eq!(body["valid_days"], 30);
    assert_eq!(body["endpoints"], json!(["a.example:8448"]));
    assert_eq!(body["contact"], Value::Null);
}

/// Goal: what the homeserver warns of stands beside the document, not in it, and in what would change. Method: an offer
/// and a dry run with a warning each.
#[tokio::test]
async fn warnings_are_shown() {
    let mut considered = amended("in-force", Value::Null);
    considered["warnings"] = json!(["There is no user type \"x\" here."]);
    let fake = FakeAdmin::new(&[
        (AMENDMENTS, 200, considered.clone()),
        (
            "POST /admin/v1/peers/offers",
            201,
            json!({"document": "OFFER", "warnings": considered["warnings"]}),
        ),
    ]);
    let outcome = fake
        .hsctl("peer amend b.example --grant message:x --dry-run")
        .await;
    assert!(outcome.stdout.contains("! There is no"), "{outcome:?}");
    let outcome = fake.hsctl("peer offer b.example --grant message:x").await;
    assert_eq!(outcome.stdout, "OFFER\n");
    assert!(outcome.stderr.contains("! There is no"), "{outcome:?}");
}

/// Goal: a change is signed only once it was shown and confirmed, and it is the one that was shown; without
/// a terminal, then with `--yes`.
#[tokio::test]
async fn a_change_is_shown_before_it_is_signed() {
    let document = json!("-----BEGIN ENTENTE AMENDMENT-----");
    let fake = FakeAdmin::new(&[(AMENDMENTS, 201, amended("proposed", document))]);
    let outcome = fake.hsctl("peer amend b.example --file-max 0").await;
    assert_eq!(outcome.code, 2, "{outcome:?}");
    assert!(outcome.stderr.contains("- tightens: «Files"), "{outcome:?}");
    assert!(outcome.stderr.contains("--yes"), "{outcome:?}");
    assert_eq!(fake.asked().len(), 1);
    assert_eq!(fake.asked()[0].body["dry_run"], true);

    let file = fake.file("amendment.txt");
    let line = format!(
        "peer amend b.example --file-max 0 --yes -o {}",
        file.display()
    );
    let outcome = fake.hsctl(&line).await;
    assert_eq!(outcome.code, 0, "{outcome:?}");
    assert!(outcome.stdout.contains("hsctl peer consent"), "{outcome:?}");
    let last = fake.asked().pop().unwrap().body;
    assert_eq!(
        (&last["dry_run"], &last["follows"]),
        (&json!(false), &json!("abcd"))
    );
    assert_eq!(
        std::fs::read_to_string(file).unwrap(),
        "-----BEGIN ENTENTE AMENDMENT-----\n"
    );
}

/// Goal: what the partner proposes is read before it is consented to, consent is to exactly that, and a new
/// root wants its fingerprint; by a proposal of each kind.
#[tokio::test]
async fn consent_is_to_what_was_read() {
    let answers = |new_fingerprint: Value| {
        FakeAdmin::new(&[
            (
                "GET /admin/v1/peers/b.example",
                200,
                peer(proposal(new_fingerprint)),
            ),
            (
                "POST /admin/v1/peers/b.example/consents",
                201,
                json!({"document": "CONSENT"}),
            ),
        ])
    };
    let fake = answers(Value::Null);
    let shown = fake.hsctl("peer show b.example").await;
    assert!(shown.stdout.contains("- widens: «No files.»"), "{shown:?}");
    assert!(shown.stdout.contains("ab12"), "{shown:?}");
    let unread = fake.hsctl("peer consent b.example").await;
    assert_eq!(unread.code, 2, "{unread:?}");
    assert!(
        unread.stderr.contains("- widens: «No files.»"),
        "{unread:?}"
    );
    let other = fake
        .hsctl("peer consent b.example --yes --amendment 00")
        .await;
    assert_eq!(other.code, 1, "{other:?}");
    assert_eq!(fake.asked().len(), 3, "nothing was consented to");
    let outcome = fake
        .hsctl("peer consent b.example --yes --amendment ab12")
        .await;
    assert_eq!(
        (outcome.code, outcome.stdout.trim()),
        (0, "CONSENT"),
        "{outcome:?}"
    );
    assert_eq!(
        fake.asked().pop().unwrap().body,
        json!({"amendment": "ab12", "fingerprint": null})
    );

    let fake = answers(json!("1234 5678"));
    let unconfirmed = fake.hsctl("peer consent b.example --yes").await;
    assert_eq!(unconfirmed.code, 2, "{unconfirmed:?}");
    let wrong = fake
        .hsctl("peer consent b.example --yes --fingerprint 12345679")
        .await;
    assert_eq!(wrong.code, 1, "{wrong:?}");
    let outcome = fake
        .hsctl("peer consent b.example --yes --fingerprint 12345678")
        .await;
    assert_eq!(outcome.code, 0, "{outcome:?}");
    assert_eq!(fake.asked().pop().unwrap().body["fingerprint"], "1234 5678");
}

/// Goal: a refusal names the proposal and says why; where nothing is proposed, nothing is asked for.
#[tokio::test]
async fn refusals() {
    let fake = FakeAdmin::new(&[
        (
            "GET /admin/v1/peers/b.example",
            200,
            peer(proposal(Value::Null)),
        ),
        (
            "POST /admin/v1/peers/b.example/amendment-refusals",
            200,
            peer(Value::Null),
        ),
    ]);
    let outcome = fake.hsctl("peer refuse b.example --reason later").await;
    assert_eq!(outcome.code, 2, "{outcome:?}");
    assert!(outcome.stderr.contains("add --yes"), "{outcome:?}");
    let outcome = fake
        .hsctl("peer refuse b.example --reason later --yes")
        .await;
    assert_eq!(outcome.code, 0, "{outcome:?}");
    assert_eq!(
        fake.asked().pop().unwrap().body,
        json!({"amendment": "ab12", "reason": "later"})
    );
    let fake = FakeAdmin::new(&[("GET /admin/v1/peers/b.example", 200, peer(Value::Null))]);
    for line in [
        "peer refuse b.example --yes",
        "peer consent b.example --yes",
    ] {
        let outcome = fake.hsctl(line).await;
        assert_eq!(outcome.code, 1, "{outcome:?}");
        assert!(outcome.stderr.contains("proposes nothing"), "{outcome:?}");
    }
}

/// Goal: an amendment is explained line by line, as any document, and taken from a file; by each command.
#[tokio::test]
async fn amendments_as_files() {
    let summary = json!({
        "kind": "amendment", "from": "b.example", "to": "a.example", "fingerprint": "00ff 1234",
        "lines": ["tightens: «Files of up to 1 GiB.» becomes «No files.»"],
    });
    let fake = FakeAdmin::new(&[
        ("POST /admin/v1/peers/inspections", 200, summary),
        ("POST /admin/v1/peers/activations", 200, peer(Value::Null)),
    ]);
    std::fs::write(fake.file("amendment"), "AMENDMENT").unwrap();
    let file = fake.file("amendment").display().to_string();
    let outcome = fake.hsctl(&format!("peer inspect {file}")).await;
    assert!(
        outcome.stdout.contains("document     amendment"),
        "{outcome:?}"
    );
    assert!(outcome.stdout.contains("- tightens: «Files"), "{outcome:?}");
    let outcome = fake.hsctl(&format!("peer take {file}")).await;
    assert_eq!(outcome.code, 0, "{outcome:?}");
    assert_eq!(
        fake.asked().pop().unwrap().body,
        json!({"document": "AMENDMENT"})
    );
}

/// Goal: what an administrator should look at is seen at a glance; by the list of peers and the status.
#[tokio::test]
async fn warnings_are_seen() {
    let status = json!({
        "server": "a.example", "version": "0.1.0", "root_sha256": "ab", "server_time_ms": 0, "accounts": 0,
        "devices": 0, "sessions": 0, "warnings": ["The agreement with b.example ends within 7 days."],
    });
    let fake = FakeAdmin::new(&[
        ("GET /admin/v1/server", 200, status),
        (
            "GET /admin/v1/peers",
            200,
            json!({"peers": [peer(Value::Null)]}),
        ),
    ]);
    let outcome = fake.hsctl("status").await;
    assert!(
        outcome
            .stdout
            .contains("! The agreement with b.example ends"),
        "{outcome:?}"
    );
    let outcome = fake.hsctl("peer list").await;
    assert!(
        outcome.stdout.contains("! b.example proposes"),
        "{outcome:?}"
    );
}
