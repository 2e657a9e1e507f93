//! `homeserver restore` and `homeserver backup-key`, and what the admin socket gives for them.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::process::Output;

use super::{Place, code, errors, terminate};

/// What the admin socket answers, its head and its body; chunks are put together.
fn ask(place: &Place, body: &str) -> (String, Vec<u8>) {
    let mut stream = UnixStream::connect(place.path("admin.sock")).unwrap();
    write!(
        stream,
        "POST /admin/v1/backups HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: \
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

fn restore(place: &Place, flags: &[&str]) -> Output {
    let backup = place.path("backup").display().to_string();
    let mut words = vec!["restore", "--from", backup.as_str()];
    words.extend(flags);
    place.command(&words).output().unwrap()
}

/// Goal: what a running homeserver gives as a backup is a homeserver again after the machine is lost, and says that it was
/// restored. Method: make a key, make a backup, lose the data folder, restore, start.
#[test]
fn a_lost_data_folder_is_restored() {
    let place = Place::new();
    assert_eq!(code(&place.init()), Some(0));
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
    let (head, backup) = ask(&place, &request.to_string());
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    std::fs::write(place.path("backup"), backup).unwrap();
    for wrong in [
        "{}",
        r#"{"passphrase": "short"}"#,
        r#"{"public_key": "key"}"#,
    ] {
        let (head, _) = ask(&place, wrong);
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

    let ended = terminate(place.start());
    assert_eq!(code(&ended), Some(0), "{}", errors(&ended));
    let checked = place.command(&["store", "check"]).output().unwrap();
    assert_eq!(code(&checked), Some(0), "{}", errors(&checked));
}
