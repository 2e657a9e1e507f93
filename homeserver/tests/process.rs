//! The `homeserver` command as an operator meets it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test says what went wrong by panicking"
)]

#[path = "process/backup.rs"]
mod backup;
#[path = "process/database.rs"]
mod database;
#[path = "process/exposed.rs"]
mod exposed;
#[path = "process/heads.rs"]
mod heads;
#[path = "process/moving.rs"]
mod moving;
#[path = "process/store_keys.rs"]
mod store_keys;
#[path = "process/undone.rs"]
mod undone;

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

/// Far more than anything here takes; a test that waits this long has failed.
const PATIENCE: Duration = Duration::from_secs(60);

struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("password"), "a password\n").unwrap();
        std::fs::write(folder.path().join("passphrase"), "a long passphrase\n").unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_homeserver"));
        command
            .args(words)
            .arg("--config")
            .arg(self.path("entente.toml"))
            .env_clear()
            .stdin(Stdio::null());
        command
    }

    fn init(&self) -> Output {
        self.init_with(&self.path("entente.toml"), &[])
    }

    /// `homeserver init` in the folder, with good answers unless `instead` has others.
    fn init_with(&self, config: &Path, instead: &[[&str; 2]]) -> Output {
        // Ports that were free a moment ago, all at once: so no two are the same.
        let listeners = [0; 3].map(|_| TcpListener::bind("127.0.0.1:0").unwrap());
        let free = listeners.map(|listener| listener.local_addr().unwrap().to_string());
        let [clients, federation, metrics] = free;
        let path = |name: &str| self.path(name).display().to_string();
        let answers = [
            ("--client-listen", clients),
            ("--federation-listen", federation),
            ("--metrics-listen", metrics),
            ("--data-dir", path("data")),
            ("--admin-socket", path("admin.sock")),
            ("--admin-name", "admin".to_owned()),
            ("--admin-password-file", path("password")),
            ("--root-key", path("root-key.enc")),
            ("--root-key-passphrase-file", path("passphrase")),
        ];
        let kept = answers
            .iter()
            .filter(|(flag, _)| instead.iter().all(|other| other[0] != *flag));
        Command::new(env!("CARGO_BIN_EXE_homeserver"))
            .args(["init", "--output", "json", "--server-name", "a.example"])
            .arg("--config")
            .arg(config)
            .args(kept.flat_map(|(flag, answer)| [*flag, answer.as_str()]))
            .args(instead.as_flattened())
            .env_clear()
            .stdin(Stdio::null())
            .current_dir(self.folder.path())
            .output()
            .unwrap()
    }

    /// `homeserver run`, once it says that it is ready.
    fn start(&self) -> Child {
        let notify = self.path("notify");
        let _ = std::fs::remove_file(&notify);
        let listener = UnixDatagram::bind(&notify).unwrap();
        listener.set_read_timeout(Some(PATIENCE)).unwrap();
        let child = self
            .command(&["run"])
            .env("NOTIFY_SOCKET", &notify)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut buffer = [0; 32];
        let length = listener.recv(&mut buffer).expect("it never became ready");
        assert_eq!(&buffer[..length], b"READY=1");
        child
    }
}

fn code(output: &Output) -> Option<i32> {
    output.status.code()
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Asks the process to end, and returns what it said.
fn terminate(child: Child) -> Output {
    // The shell's own: a small machine may have no program `kill`.
    let status = Command::new("sh")
        .args(["-c", "kill -TERM \"$1\"", "sh", &child.id().to_string()])
        .status()
        .unwrap();
    assert!(status.success());
    child.wait_with_output().unwrap()
}

/// Goal: what `init` writes is what `run` needs; it ends in order on SIGTERM, starts again after SIGKILL,
/// and a second process is refused meanwhile; by the real command.
#[test]
fn init_run_kill_run() {
    let place = Place::new();
    let made = place.init();
    assert_eq!(code(&made), Some(0), "{}", errors(&made));
    let made: serde_json::Value = serde_json::from_slice(&made.stdout).unwrap();
    let root = std::fs::read_to_string(place.path("data/keys/root.pem")).unwrap();
    assert!(root.starts_with("-----BEGIN CERTIFICATE-----"));
    let fingerprint = made["fingerprint"].as_str().unwrap().replace(' ', "");
    assert_eq!(made["root_sha256"], fingerprint);

    let mut first = place.start();
    assert!(UnixStream::connect(place.path("admin.sock")).is_ok());
    let second = place.command(&["run"]).output().unwrap();
    assert_eq!(code(&second), Some(1));
    assert!(
        errors(&second).contains("in use by another process"),
        "{}",
        errors(&second)
    );
    first.kill().unwrap();
    first.wait().unwrap();

    // The socket's file is still there; nobody answers on it.
    let output = terminate(place.start());
    assert_eq!(code(&output), Some(0), "{}", errors(&output));
    assert!(errors(&output).contains("\"ready\""), "{}", errors(&output));
    assert!(!errors(&output).contains("a password"));

    let check = place
        .command(&["store", "check", "--output", "json"])
        .output()
        .unwrap();
    assert_eq!(code(&check), Some(0), "{}", errors(&check));
    let check: serde_json::Value = serde_json::from_slice(&check.stdout).unwrap();
    assert_eq!(check["audit_entries"], 1, "the organisation's creation");
}

/// Goal: `init` overwrites nothing, says everything that stands in its way at once, and never puts the
/// root key beside the store; by doing it twice.
#[test]
fn init_overwrites_nothing() {
    let place = Place::new();
    let made = place.init();
    assert_eq!(code(&made), Some(0), "{}", errors(&made));
    let everything = |folder: &Path| -> Vec<Vec<u8>> {
        let names = ["entente.toml", "root-key.enc", "data/keys/root.pem"];
        names
            .map(|name| std::fs::read(folder.join(name)).unwrap())
            .into()
    };
    let before = everything(place.folder.path());
    let again = place.init();
    assert_eq!(code(&again), Some(2));
    for name in ["entente.toml", "root-key.enc", "data/keys", "data/store"] {
        let said = format!("{} exists already", place.path(name).display());
        assert!(errors(&again).contains(&said), "{}", errors(&again));
    }
    assert_eq!(everything(place.folder.path()), before);
    assert!(!place.path("data/root-key.enc").exists());

    for (output, said) in [
        ("text", "the passphrase opens it\n"),
        ("json", "{\"ok\":true}\n"),
    ] {
        let check = place
            .command(&["root-key", "check", "--output", output])
            .arg(place.path("root-key.enc"))
            .arg("--passphrase-file")
            .arg(place.path("passphrase"))
            .output()
            .unwrap();
        assert_eq!(code(&check), Some(0), "{}", errors(&check));
        assert_eq!(String::from_utf8_lossy(&check.stdout), said);
    }
}

/// Goal: `init` takes a configuration by a relative path, as everyone types it; by doing so in the folder.
#[test]
fn init_in_the_working_folder() {
    let place = Place::new();
    let made = place.init_with(Path::new("entente.toml"), &[]);
    assert_eq!(code(&made), Some(0), "{}", errors(&made));
    let check = place.command(&["config", "check"]).output().unwrap();
    assert_eq!(code(&check), Some(0), "{}", errors(&check));
}

/// Goal: what `run` would not take, `init` does not write: it tells every mistake at once and leaves
/// nothing behind; by wrong answers of each kind.
#[test]
fn init_writes_only_what_run_takes() {
    let place = Place::new();
    let wrong = [
        ["--client-listen", "127.0.0.1:8448"],
        ["--federation-listen", "127.0.0.1:8448"],
        ["--metrics-listen", "0.0.0.0:9464"],
        ["--federation-endpoint", "https://chat.a.example"],
        ["--admin-socket", "admin.sock"],
        ["--data-dir", "data"],
    ];
    let made = place.init_with(Path::new("entente.toml"), &wrong);
    assert_eq!(code(&made), Some(2), "{}", errors(&made));
    for said in [
        "give each its own",
        "listen.metrics: `0.0.0.0:9464` is reachable from outside",
        "federation.endpoints: `https://chat.a.example` is not an endpoint",
        "listen.admin_socket: `admin.sock` is not an absolute path",
        "server.data_dir: `data` is not an absolute path",
    ] {
        assert!(errors(&made).contains(said), "{said}: {}", errors(&made));
    }
    let below_a_file = place.path("password/data").display().to_string();
    let made = place.init_with(Path::new("entente.toml"), &[["--data-dir", &below_a_file]]);
    assert_eq!(code(&made), Some(2));
    let said = errors(&made);
    assert!(said.contains("password is a file, not a folder"), "{said}");
    assert!(!said.contains("exists already"), "{said}");
    let long = format!("/{}", "x".repeat(107));
    let made = place.init_with(Path::new("entente.toml"), &[["--admin-socket", &long]]);
    assert_eq!(code(&made), Some(2));
    assert!(
        errors(&made).contains("at most 107 bytes"),
        "{}",
        errors(&made)
    );
    let left: Vec<_> = std::fs::read_dir(place.folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left.len(), 2, "only the secrets' files: {left:?}");
}

/// Goal: without a terminal every missing answer and every wrong one is named at once, and nothing is written; by
/// leaving most out, with some that are wrong.
#[test]
fn init_without_a_terminal_asks_nothing() {
    let place = Place::new();
    std::fs::write(place.path("short"), "short\n").unwrap();
    let short = place.path("short").display().to_string();
    let output = place
        .command(&["init", "--server-name", "A.example"])
        .args(["--client-listen", "everywhere", "--root-key", "root.enc"])
        .args(["--admin-password-file", &short])
        .args(["--metrics-listen", "0.0.0.0:9464"])
        .args(["--federation-endpoint", "https://chat.a.example"])
        .args(["--admin-socket", "admin.sock"])
        .output()
        .unwrap();
    assert_eq!(code(&output), Some(2));
    for said in [
        "--server-name: `A.example` is not a server name",
        "--client-listen: `everywhere` is not an address to listen on: use an IP address with a port",
        "listen.metrics: `0.0.0.0:9464` is reachable from outside",
        "federation.endpoints: `https://chat.a.example` is not an endpoint",
        "listen.admin_socket: `admin.sock` is not an absolute path",
        "the root key file needs an absolute path",
        "password needs at least 8 characters",
        "--federation-listen is missing",
        "--data-dir is missing",
        "--admin-name is missing",
        "--root-key-passphrase-file is missing",
    ] {
        assert!(
            errors(&output).contains(said),
            "{said}: {}",
            errors(&output)
        );
    }
    assert!(!errors(&output).contains("--client-listen is missing"));
    assert!(!place.path("entente.toml").exists());
}

/// Goal: an answer that will not do is asked again at once, and the rule is in the question; at a terminal that
/// `script` makes, with the address of another listener, a short password, a relative path and a short passphrase before right ones.
#[test]
fn init_asks_again() {
    let place = Place::new();
    let path = |name: &str| place.path(name).display().to_string();
    let line = format!(
        "{} init --config {} --server-name a.example --client-listen 127.0.0.1:1 --data-dir {} \
         --admin-name admin",
        env!("CARGO_BIN_EXE_homeserver"),
        path("entente.toml"),
        path("data"),
    );
    let mut terminal = Command::new("script")
        .args(["--quiet", "--return", "--flush", "--command", &line])
        .arg("/dev/null")
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("SHELL", "/bin/sh")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let key = path("root-key.enc");
    let answers = [
        "127.0.0.1:1",
        "127.0.0.1:2",
        "short",
        "a password",
        "a password",
        "root-key.enc",
        &key,
        "too short",
        "a long passphrase",
        "a long passphrase",
    ];
    let mut keyboard = terminal.stdin.take().unwrap();
    let mut screen = terminal.stdout.take().unwrap();
    let (mut said, mut answered) = (String::new(), 0);
    let mut answers = answers.iter();
    let mut buffer = [0; 4096];
    loop {
        let count = screen.read(&mut buffer).unwrap();
        if count == 0 {
            break;
        }
        said.push_str(&String::from_utf8_lossy(&buffer[..count]));
        // A question ends so; a person types when it stands there.
        if said[answered..].ends_with(": ")
            && let Some(answer) = answers.next()
        {
            answered = said.len();
            writeln!(keyboard, "{answer}").unwrap();
        }
    }
    let ended = terminal.wait().unwrap();
    assert_eq!(ended.code(), Some(0), "{said}");
    for told in [
        "give each its own",
        "(at least 8 characters)",
        "password needs at least 8 characters",
        "needs an absolute path, not root-key.enc",
        "(at least 12 characters)",
        "passphrase needs at least 12 characters",
    ] {
        assert!(said.contains(told), "{told}: {said}");
    }
    assert!(place.path("root-key.enc").exists());
}

/// Goal: what `init` prints last can be typed as it is, with an admin socket of one's own too. Method: the text
/// with one, and the socket's flag in it.
#[test]
fn init_prints_the_next_commands() {
    let place = Place::new();
    let path = |name: &str| place.path(name).display().to_string();
    let output = place
        .command(&["init", "--server-name", "a.example"])
        .args(["--client-listen", "127.0.0.1:1", "--federation-listen"])
        .args(["127.0.0.1:2", "--admin-name", "admin"])
        .args(["--data-dir", &path("data")])
        .args(["--root-key", &path("root-key.enc")])
        .args(["--admin-socket", &path("admin.sock")])
        .args(["--admin-password-file", &path("password")])
        .args(["--root-key-passphrase-file", &path("passphrase")])
        .output()
        .unwrap();
    assert_eq!(code(&output), Some(0), "{}", errors(&output));
    let said = String::from_utf8(output.stdout).unwrap();
    let line = format!("hsctl --socket {} user create NAME", path("admin.sock"));
    assert!(said.contains(&line), "{said}");
}

/// Goal: keys that are not there, or another server's, are told by `config check` as by `run`, with what to do; the
/// check disturbs no homeserver that runs. Method: the name and the folder overridden by the environment.
#[test]
fn keys_and_folder_are_checked_with_the_configuration() {
    let place = Place::new();
    assert_eq!(code(&place.init()), Some(0));
    let running = place.start();
    let right = place.command(&["config", "check"]).output().unwrap();
    assert_eq!(code(&right), Some(0), "{}", errors(&right));
    terminate(running);
    let nowhere = place.path("nowhere").display().to_string();
    for (variable, value, all_said) in [
        (
            "ENTENTE_SERVER__NAME",
            "b.example",
            ["tls-current.pem: it is for a.example", "b.example"],
        ),
        (
            "ENTENTE_SERVER__DATA_DIR",
            nowhere.as_str(),
            ["there are no keys here", "homeserver init"],
        ),
    ] {
        for words in [&["run"][..], &["config", "check"]] {
            let output = place.command(words).env(variable, value).output().unwrap();
            assert_eq!(code(&output), Some(78), "{words:?}: {}", errors(&output));
            for said in all_said {
                assert!(errors(&output).contains(said), "{}", errors(&output));
            }
            assert!(!errors(&output).contains("os error"), "{}", errors(&output));
        }
    }
    std::fs::remove_dir_all(place.path("data/store")).unwrap();
    std::fs::remove_file(place.path("data/keys/root.pem")).unwrap();
    let output = place.command(&["config", "check"]).output().unwrap();
    for said in ["data/store: there is no store", "root.pem: it is missing"] {
        assert!(errors(&output).contains(said), "{}", errors(&output));
    }
    assert!(!place.path("data/store").exists(), "a check makes nothing");
}

/// Goal: whoever closes the pipe gets no panic, and whoever has no terminal is told the flag. Method: an answer to
/// a pipe whose reader is gone, and a passphrase without one.
#[test]
fn no_reader_and_no_terminal() {
    let place = Place::new();
    assert_eq!(code(&place.init()), Some(0));
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = place
        .command(&["config", "check"])
        .stdout(writer)
        .output()
        .unwrap();
    assert_eq!(code(&output), Some(0), "{}", errors(&output));
    assert_eq!(errors(&output), "");

    let output = Command::new("setsid")
        .arg("--wait")
        .arg(env!("CARGO_BIN_EXE_homeserver"))
        .args(["root-key", "check"])
        .arg(place.path("root-key.enc"))
        .env_clear()
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(code(&output), Some(2), "{}", errors(&output));
    assert!(
        errors(&output).contains("--passphrase-file"),
        "{}",
        errors(&output)
    );
}

/// Goal: a wrong configuration ends with 78 and every mistake, for `run` as for `config check`; so does
/// none at all; by a file with two mistakes and a variable with one.
#[test]
fn a_wrong_configuration_is_told_whole() {
    let place = Place::new();
    let missing = place.command(&["run"]).output().unwrap();
    assert_eq!(code(&missing), Some(78));
    assert!(
        errors(&missing).contains("homeserver init"),
        "{}",
        errors(&missing)
    );

    let text = "[server]\nname = \"nonsense\"\ndata_dirr = \"/tmp\"\n";
    std::fs::write(place.path("entente.toml"), text).unwrap();
    for words in [&["run"][..], &["config", "check"]] {
        let output = place
            .command(words)
            .env("ENTENTE_RUNTIME__WORKERS", "many")
            .output()
            .unwrap();
        assert_eq!(code(&output), Some(78));
        for said in [
            "entente.toml:2: server.name: `nonsense` is not a server name",
            "entente.toml:3: server.data_dirr: there is no such key",
            "ENTENTE_RUNTIME__WORKERS: runtime.workers: `many` is not a whole number",
        ] {
            assert!(errors(&output).contains(said), "{}", errors(&output));
        }
    }
    let json = place
        .command(&["config", "check", "--output", "json"])
        .output()
        .unwrap();
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(json["mistakes"][0]["key"], "server.name");
}

/// Goal: the issuing CA is renewed with the root key on this machine or away from it, the homeserver takes the
/// new one up, and what the root key does not fit is refused; by the real commands, both ways.
#[test]
fn the_issuing_ca_is_renewed() {
    let place = Place::new();
    assert_eq!(code(&place.init()), Some(0));
    let issuing = || std::fs::read(place.path("data/keys/issuing.pem")).unwrap();
    let path = |name: &str| place.path(name).display().to_string();
    let run = |words: &[&str]| place.command(words).output().unwrap();
    let key = [
        "--root-key",
        &path("root-key.enc"),
        "--passphrase-file",
        &path("passphrase"),
    ];
    let begun = now_s();
    let until_the_next_second = |of| {
        // Certificates count whole seconds, and the next CA begins later than the one before.
        while now_s() == of {
            std::thread::yield_now();
        }
    };
    until_the_next_second(begun);
    let first = issuing();
    let renewed = run(&[&["ca", "renew"][..], &key].concat());
    assert_eq!(code(&renewed), Some(0), "{}", errors(&renewed));
    assert_eq!(issuing(), first, "the homeserver takes it up");
    assert_eq!(code(&terminate(place.start())), Some(0));
    let second = issuing();
    assert_ne!(second, first);
    assert!(!place.path("data/keys/issuing-new").exists());

    until_the_next_second(now_s());
    let request = run(&["ca", "request", "--output-file", &path("request.pem")]);
    assert_eq!(code(&request), Some(0), "{}", errors(&request));
    let root = path("data/keys/root.pem");
    let sign = [
        "ca",
        "sign",
        &path("request.pem"),
        "--root",
        &root,
        "--output-file",
        &path("issuing.pem"),
    ];
    let signed = run(&[&sign[..], &key].concat());
    assert_eq!(code(&signed), Some(0), "{}", errors(&signed));
    let other = run(&["ca", "install", &root]);
    assert_eq!(code(&other), Some(1), "{}", errors(&other));
    let installed = run(&["ca", "install", &path("issuing.pem")]);
    assert_eq!(code(&installed), Some(0), "{}", errors(&installed));
    let again = run(&["ca", "install", &path("issuing.pem")]);
    assert!(errors(&again).contains("ca request"), "{}", errors(&again));
    assert_eq!(code(&terminate(place.start())), Some(0));
    assert_ne!(issuing(), second);
}

/// Goal: another root is made with the present root key here or elsewhere, its key is sealed and never lies in the data
/// folder, the homeserver takes it up beside the present one, and a wrong passphrase, a place for the key that is taken
/// or in the data folder, and a second change are refused before anything is written. By the real commands.
#[test]
fn another_root_is_prepared() {
    let place = Place::new();
    assert_eq!(code(&place.init()), Some(0));
    let path = |name: &str| place.path(name).display().to_string();
    let run = |words: &[&str]| place.command(words).output().unwrap();
    let begun = now_s();
    while now_s() == begun {
        std::thread::yield_now();
    }
    let renew = |passphrase: &str, new_key: &str| {
        run(&[
            "root",
            "renew",
            "--root-key",
            &path("root-key.enc"),
            "--passphrase-file",
            &path(passphrase),
            "--new-root-key",
            &path(new_key),
            "--new-passphrase-file",
            &path("passphrase"),
        ])
    };
    std::fs::write(place.path("wrong"), "another passphrase\n").unwrap();
    for (passphrase, new_key, says) in [
        ("wrong", "new.enc", "the passphrase is wrong"),
        ("passphrase", "root-key.enc", "exists already"),
        ("passphrase", "data/new.enc", "has to leave this machine"),
    ] {
        let refused = renew(passphrase, new_key);
        assert_eq!(code(&refused), Some(1));
        assert!(errors(&refused).contains(says), "{}", errors(&refused));
    }
    assert!(!place.path("new.enc").exists() && !place.path("data/keys/root-new").exists());

    std::fs::create_dir(place.path("elsewhere")).unwrap();
    let request = run(&["root", "request", "--output-file", &path("request.pem")]);
    assert_eq!(code(&request), Some(0), "{}", errors(&request));
    let signed = run(&[
        "root",
        "sign",
        &path("request.pem"),
        "--root",
        &path("data/keys/root.pem"),
        "--root-key",
        &path("root-key.enc"),
        "--passphrase-file",
        &path("passphrase"),
        "--new-root-key",
        &path("elsewhere/new.enc"),
        "--new-passphrase-file",
        &path("passphrase"),
        "--output-file",
        &path("signed.pem"),
        "--output",
        "json",
    ]);
    assert_eq!(code(&signed), Some(0), "{}", errors(&signed));
    let told: serde_json::Value = serde_json::from_slice(&signed.stdout).unwrap();
    let check = [
        "root-key",
        "check",
        &path("elsewhere/new.enc"),
        "--passphrase-file",
    ];
    let opens = run(&[&check[..], &[&path("passphrase")]].concat());
    assert_eq!(code(&opens), Some(0), "{}", errors(&opens));
    let other = run(&["root", "install", &path("data/keys/root.pem")]);
    assert!(errors(&other).contains("root sign"), "{}", errors(&other));
    let installed = run(&["root", "install", &path("signed.pem"), "--output", "json"]);
    assert_eq!(code(&installed), Some(0), "{}", errors(&installed));
    let installed: serde_json::Value = serde_json::from_slice(&installed.stdout).unwrap();
    assert_eq!(installed["fingerprint"], told["fingerprint"]);
    let root = std::fs::read(place.path("data/keys/root.pem")).unwrap();
    assert_eq!(code(&terminate(place.start())), Some(0));
    assert!(!place.path("data/keys/root-new").exists(), "it is taken up");
    let second = std::fs::read_to_string(place.path("data/keys/root-change.pem")).unwrap();
    assert_eq!(second.matches("BEGIN").count(), 4);
    assert_eq!(
        std::fs::read(place.path("data/keys/root.pem")).unwrap(),
        root
    );
    let twice = renew("passphrase", "new.enc");
    assert!(errors(&twice).contains("under way"), "{}", errors(&twice));
    assert!(!place.path("new.enc").exists());
}

#[expect(
    clippy::disallowed_methods,
    reason = "the commands under test go by the machine's clock"
)]
fn now_s() -> u64 {
    let now = std::time::SystemTime::now();
    now.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}
