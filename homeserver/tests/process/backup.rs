//! `homeserver restore` and `homeserver backup-key`, and what the admin socket gives for them.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::process::Output;
use std::time::{Duration, Instant};

use super::{PATIENCE, Place, code, errors, terminate};

/// What the admin socket answers, its head and its body; chunks are put together.
fn ask(place: &Place, request: &str, body: &str) -> (String, Vec<u8>) {
    let stream = UnixStream::connect(place.path("admin.sock")).unwrap();
    exchange(stream, request, body)
}

/// What a listener answers to a request such as `GET /path`.
fn exchange(mut stream: impl Read + Write, request: &str, body: &str) -> (String, Vec<u8>) {
    write!(
        stream,
        "{request} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: \
         application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let end = answer
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .unwrap();
    let head = String::from_utf8(answer[..end].to_vec()).unwrap();
    let mut rest = &answer[end + 4..];
    if !head.contains("transfer-encoding: chunked") {
        return (head, rest.to_vec());
    }
    let mut whole = Vec::new();
    loop {
        let line = rest.windows(2).position(|two| two == b"\r\n").unwrap();
        let length = std::str::from_utf8(&rest[..line]).unwrap();
        let length = usize::from_str_radix(length, 16).unwrap();
        if length == 0 {
            return (head, whole);
        }
        whole.extend_from_slice(&rest[line + 2..line + 2 + length]);
        rest = &rest[line + 4 + length..];
    }
}

/// A JSON answer of the admin socket.
fn json(place: &Place, request: &str) -> serde_json::Value {
    let (head, body) = ask(place, request, "");
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    serde_json::from_slice(&body).unwrap()
}

/// An address that the homeserver listens at, by its name in the configuration.
fn address(place: &Place, name: &str) -> String {
    let text = std::fs::read_to_string(place.path("entente.toml")).unwrap();
    let text: toml::Table = text.parse().unwrap();
    text["listen"][name].as_str().unwrap().to_owned()
}

fn readiness(place: &Place) -> String {
    let metrics = TcpStream::connect(address(place, "metrics")).unwrap();
    let (head, body) = exchange(metrics, "GET /readyz?verbose", "");
    format!("{head}\n{}", String::from_utf8_lossy(&body))
}

const BACKUPS: &str = "POST /admin/v1/backups";

fn restore(place: &Place, flags: &[&str]) -> Output {
    let backup = place.path("backup").display().to_string();
    let mut words = vec!["restore", "--from", backup.as_str()];
    words.extend(flags);
    place.command(&words).output().unwrap()
}

/// Goal: what a running homeserver gives as a backup is a homeserver again after the machine is lost, says that it was
/// restored, and serves nobody but its operator before he has confirmed what came back. Method: make a key, make a backup, lose the data
/// folder, restore, start; knock at its doors, confirm, knock again, start again.
#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "it waits for another process, with a thread of its own"
)]
fn a_lost_data_folder_is_restored() {
    let place = Place::new();
    let made = place.init();
    assert_eq!(code(&made), Some(0));
    let made: serde_json::Value = serde_json::from_slice(&made.stdout).unwrap();
    let fingerprint = made["fingerprint"].as_str().unwrap().to_owned();
    let [private, public] = ["key", "key.pub"].map(|name| place.path(name).display().to_string());
    let words: [&str; 5] = ["backup-key", "--private", &private, "--public", &public];
    let made = place.command(&words).output().unwrap();
    assert_eq!(code(&made), Some(0), "{}", errors(&made));
    let mode = std::fs::metadata(&private).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let again = place.command(&words).output().unwrap();
    assert_eq!(code(&again), Some(1), "nothing is overwritten");

    let child = place.start();
    let key = std::fs::read_to_string(&public).unwrap();
    let request = serde_json::json!({ "public_key": key });
    let (head, backup) = ask(&place, BACKUPS, &request.to_string());
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    std::fs::write(place.path("backup"), backup).unwrap();
    for wrong in [
        "{}",
        r#"{"passphrase": "short"}"#,
        r#"{"public_key": "key"}"#,
    ] {
        let (head, _) = ask(&place, BACKUPS, wrong);
        assert!(head.starts_with("HTTP/1.1 400"), "{head}");
    }
    assert_eq!(code(&terminate(child)), Some(0));
    let root = std::fs::read(place.path("data/keys/root.pem")).unwrap();
    let former_master = std::fs::read(place.path("data/keys/store-master.key")).unwrap();
    std::fs::remove_dir_all(place.path("data")).unwrap();

    let checked = restore(&place, &["--check", "--key", &private]);
    assert_eq!(code(&checked), Some(0), "{}", errors(&checked));
    let told = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(told.contains("a whole backup of a.example"), "{told}");
    assert!(told.contains(&fingerprint), "{told}");
    let other = "0".repeat(64);
    let others = restore(
        &place,
        &["--check", "--key", &private, "--fingerprint", &other],
    );
    assert_eq!(code(&others), Some(1));
    assert!(
        errors(&others).contains(&fingerprint),
        "{}",
        errors(&others)
    );
    let data = place.path("data").display().to_string();
    let public_half = restore(&place, &["--data-dir", &data, "--key", &public]);
    assert_eq!(code(&public_half), Some(1));
    assert!(!place.path("data").exists());
    let restored = restore(&place, &["--data-dir", &data, "--key", &private]);
    assert_eq!(code(&restored), Some(0), "{}", errors(&restored));
    assert_eq!(
        std::fs::read(place.path("data/keys/root.pem")).unwrap(),
        root
    );
    let master = std::fs::read(place.path("data/keys/store-master.key")).unwrap();
    assert_ne!(master, former_master, "the former one is in no backup");
    let again = restore(&place, &["--data-dir", &data, "--key", &private]);
    assert_eq!(code(&again), Some(1));
    assert!(
        errors(&again).contains("exists already"),
        "{}",
        errors(&again)
    );

    let child = place.start();
    let doors = ["client", "federation"].map(|name| address(&place, name));
    for door in &doors {
        assert!(TcpStream::connect(door).is_err(), "{door}");
    }
    let ready = readiness(&place);
    assert!(ready.starts_with("HTTP/1.1 503"), "{ready}");
    assert!(ready.contains("not confirmed"), "{ready}");
    let came_back = json(&place, "GET /admin/v1/restored");
    assert_eq!(came_back["is_confirmed"], false);
    assert_eq!(came_back["users"], 0);
    let told = json(&place, "GET /admin/v1/server")["warnings"].to_string();
    assert!(told.contains("hsctl restored confirm"), "{told}");
    assert!(told.contains("was restored on"), "{told}");
    let ended = terminate(child);
    assert_eq!(code(&ended), Some(0), "{}", errors(&ended));
    let log = errors(&ended);
    assert!(log.contains("restored from a backup"), "{log}");
    assert!(log.contains("hsctl restored confirm"), "{log}");

    // A restart is no confirmation.
    let child = place.start();
    assert!(TcpStream::connect(&doors[0]).is_err());
    let (head, _) = ask(&place, "POST /admin/v1/restored/confirm", "");
    assert!(head.starts_with("HTTP/1.1 204"), "{head}");
    let begun = Instant::now();
    while !readiness(&place).starts_with("HTTP/1.1 200") {
        assert!(begun.elapsed() < PATIENCE, "{}", readiness(&place));
        std::thread::sleep(Duration::from_millis(50));
    }
    for door in &doors {
        assert!(TcpStream::connect(door).is_ok(), "{door}");
    }
    // Numbered a moment after it was written.
    for action in ["server.restored", "server.restore-confirmed"] {
        let log = || json(&place, "GET /admin/v1/audit").to_string();
        while !log().contains(action) {
            assert!(begun.elapsed() < PATIENCE, "{action}: {}", log());
        }
    }
    assert_eq!(code(&terminate(child)), Some(0));
    let child = place.start();
    assert!(readiness(&place).starts_with("HTTP/1.1 200"));
    let ended = terminate(child);
    assert_eq!(code(&ended), Some(0), "{}", errors(&ended));
    let checked = place.command(&["store", "check"]).output().unwrap();
    assert_eq!(code(&checked), Some(0), "{}", errors(&checked));
}

/// Goal: a passphrase is the first line of its file wherever it is read, so that what one command has made the other opens; one
/// that is too long for that makes nothing. Method: a file of two lines, the first of which is told as `hsctl` does.
#[test]
fn a_passphrase_is_the_first_line_of_its_file() {
    let place = Place::new();
    assert_eq!(code(&place.init()), Some(0));
    std::fs::write(place.path("two-lines"), "a long passphrase\r\nits hint\n").unwrap();
    let child = place.start();
    let request = serde_json::json!({ "passphrase": "a long passphrase" });
    let (head, backup) = ask(&place, BACKUPS, &request.to_string());
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    std::fs::write(place.path("backup"), backup).unwrap();
    let request = serde_json::json!({ "passphrase": "x".repeat(1025) });
    let (head, _) = ask(&place, BACKUPS, &request.to_string());
    assert!(head.starts_with("HTTP/1.1 400"), "{head}");
    assert_eq!(code(&terminate(child)), Some(0));
    let file = place.path("two-lines").display().to_string();
    let checked = restore(&place, &["--check", "--passphrase-file", &file]);
    assert_eq!(code(&checked), Some(0), "{}", errors(&checked));
}
