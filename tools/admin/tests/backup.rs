//! `hsctl backup` against an admin API that answers from a table.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests may stop at the first surprise"
)]

mod fake_admin;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use fake_admin::{FakeAdmin, hsctl};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::process::Command;

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

/// A homeserver that sends the beginning of a backup: the connection, on which the rest could follow.
async fn begin(listener: &UnixListener) -> UnixStream {
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut request = [0; 4096];
    assert!(stream.read(&mut request).await.unwrap() > 0);
    let begun = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n";
    stream.write_all(begun).await.unwrap();
    stream
}

/// A key's file, the backup's, and its command line.
fn line_for(folder: &Path) -> (PathBuf, String) {
    let (to, key) = (folder.join("today"), folder.join("key.pub"));
    std::fs::write(&key, "a key").unwrap();
    let line = format!(
        "backup --to {} --public-key {}",
        to.display(),
        key.display()
    );
    (to, line)
}

async fn until_begun(part: &Path) {
    let begun = async {
        while !std::fs::metadata(part).is_ok_and(|about| about.len() == 4) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let within = Duration::from_secs(60);
    tokio::time::timeout(within, begun).await.unwrap();
}

/// Goal: a backup that breaks off in the middle leaves no file, and is told. Method: a connection that ends within a stream.
#[tokio::test]
async fn what_breaks_off_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("admin.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let (to, line) = line_for(folder.path());
    let serving = async { drop(begin(&listener).await) };
    let flags = ["--socket", socket.to_str().unwrap()];
    let (broken, ()) = tokio::join!(hsctl(&flags, &line), serving);
    assert_ne!(broken.code, 0, "{broken:?}");
    assert!(broken.stderr.contains("broke off"), "{broken:?}");
    assert!(!to.exists() && !folder.path().join("today.part").exists());
}

/// Goal: whoever stops a backup finds nothing of it, and a file that got its name meanwhile stays. Method: SIGINT in the middle of one;
/// then one that goes on to its end beside such a file, and one beside what another was cut off at.
#[tokio::test]
async fn what_is_stopped_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("admin.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let (to, line) = line_for(folder.path());
    let part = folder.path().join("today.part");
    let start = || {
        Command::new(env!("CARGO_BIN_EXE_hsctl"))
            .args(["--socket", socket.to_str().unwrap()])
            .args(line.split_whitespace())
            .env_clear()
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let child = start();
    let open = begin(&listener).await;
    until_begun(&part).await;
    let pid = child.id().unwrap().to_string();
    let sent = std::process::Command::new("sh")
        .args(["-c", "kill -INT \"$1\"", "sh", &pid])
        .status();
    assert!(sent.unwrap().success());
    let ended = child.wait_with_output().await.unwrap();
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    assert!(!to.exists() && !part.exists());
    drop(open);

    let child = start();
    let mut open = begin(&listener).await;
    until_begun(&part).await;
    std::fs::write(&to, "somebody's").unwrap();
    open.write_all(b"0\r\n\r\n").await.unwrap();
    let ended = child.wait_with_output().await.unwrap();
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    assert_eq!(std::fs::read_to_string(&to).unwrap(), "somebody's");
    assert!(!part.exists());

    std::fs::remove_file(&to).unwrap();
    std::fs::write(&part, "half").unwrap();
    let ended = start().wait_with_output().await.unwrap();
    let told = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(told.contains("today.part is there"), "{told}");
}

/// Goal: what came back with a backup is shown with what to do about it, and is confirmed once, when it is said that everything was
/// looked at. Method: a homeserver that waits, asked without a terminal with and without `--yes`, and for a program.
#[tokio::test]
async fn what_came_back_is_confirmed() {
    let status = json!({
        "made_ms": 1_795_342_830_000_u64, "restored_ms": 1_795_342_900_000_u64, "is_confirmed": false,
        "users": 3, "suspended": 1, "devices": 4,
        "agreements": [{ "server": "b.example", "state": "active" }],
    });
    let confirm = "POST /admin/v1/restored/confirm";
    let fake = FakeAdmin::new(&[
        ("GET /admin/v1/restored", 200, status.clone()),
        (confirm, 204, Value::Null),
    ]);
    let shown = fake.hsctl("restored").await;
    assert_eq!(shown.code, 0, "{shown:?}");
    for part in [
        "2026-11-22 10:20:30 UTC",
        "no: nobody is served",
        "3, 1 of them suspended",
        "b.example: active",
        "hsctl restored confirm",
    ] {
        assert!(shown.stdout.contains(part), "{part}: {shown:?}");
    }
    let program = fake.hsctl("restored --json").await;
    let told: Value = serde_json::from_str(&program.stdout).unwrap();
    assert_eq!(told, status);
    let unasked = fake.hsctl("restored confirm").await;
    assert_eq!(unasked.code, 2, "{unasked:?}");
    assert!(unasked.stderr.contains("--yes"), "{unasked:?}");
    assert!(fake.asked().iter().all(|asked| asked.line != confirm));
    let confirmed = fake.hsctl("restored confirm --yes").await;
    assert_eq!(confirmed.code, 0, "{confirmed:?}");
    assert_eq!(fake.asked().last().unwrap().line, confirm);
}
