//! `hsctl backup` against an admin API that answers from a table.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests may stop at the first surprise"
)]

mod fake_admin;

use fake_admin::FakeAdmin;
use serde_json::{Value, json};

const REQUEST: &str = "POST /admin/v1/backups";

/// Goal: a backup lies under its name once it is whole, for its owner alone, and nothing is overwritten. Method: an answer, twice
/// asked for.
#[tokio::test]
async fn a_backup_is_written() {
    use std::os::unix::fs::PermissionsExt as _;

    let fake = FakeAdmin::new(&[(REQUEST, 200, json!("the backup"))]);
    let (to, key) = (fake.file("today"), fake.file("key.pub"));
    std::fs::write(&key, "a key").unwrap();
    let line = format!(
        "backup --to {} --public-key {}",
        to.display(),
        key.display()
    );
    let made = fake.hsctl(&line).await;
    assert_eq!(made.code, 0, "{made:?}");
    assert_eq!(std::fs::read_to_string(&to).unwrap(), "\"the backup\"");
    let mode = std::fs::metadata(&to).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let asked = fake.asked();
    assert_eq!(asked[0].body, json!({ "public_key": "a key" }));

    let again = fake.hsctl(&line).await;
    assert_eq!(again.code, 1, "{again:?}");
    assert!(again.stderr.contains("exists already"), "{again:?}");
    assert_eq!(fake.asked().len(), 1);
}

/// Goal: a backup that the homeserver does not make leaves no file. Method: a refusal, with a passphrase.
#[tokio::test]
async fn a_refusal_leaves_nothing() {
    let problem = json!({
        "type": "urn:entente:problem:busy", "title": "", "status": 503, "detail": "Another one is being made.",
    });
    let fake = FakeAdmin::new(&[(REQUEST, 503, problem)]);
    let (to, passphrase) = (fake.file("today"), fake.file("passphrase"));
    std::fs::write(&passphrase, "a long passphrase\n").unwrap();
    let line = format!(
        "backup --to {} --passphrase-file {} --json",
        to.display(),
        passphrase.display()
    );
    let refused = fake.hsctl(&line).await;
    assert_eq!(refused.code, 75, "{refused:?}");
    let told: Value = serde_json::from_str(&refused.stderr).unwrap();
    assert_eq!(told["type"], "urn:entente:problem:busy");
    let expected = json!({ "passphrase": "a long passphrase" });
    assert_eq!(fake.asked()[0].body, expected);
    assert!(!to.exists() && !fake.file("today.part").exists());
}
