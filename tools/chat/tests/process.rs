//! The real `chat` without a homeserver: exit codes, and where sentences and objects go.

#![allow(clippy::unwrap_used, reason = "tests may stop at the first surprise")]

use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// A port where nothing listens: reserved, and not given out.
const NOWHERE: &str = "127.0.0.1:1";

fn chat(dir: &Path, line: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_chat"))
        .args(line.split_whitespace())
        .env_clear()
        .env("CHAT_DIR", dir)
        .env("CHAT_PASSPHRASE", "a passphrase")
        .env("CHAT_PASSWORD", "a password")
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// Goal: a script can tell "wrong line", "no", and "not now", a person reads what to do, and under `--json` one
/// object on standard output has a stable code; by a table of commands.
#[test]
fn failures() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("device");
    let enrol = format!(
        "enrol alice@a.example --server {NOWHERE} --root-sha256 {}",
        "ab".repeat(32)
    );
    for (line, exit, code, told) in [
        ("rooms", 1, "not-enrolled", "chat enrol"),
        ("follow", 1, "not-enrolled", "chat enrol"),
        ("send bob@b.example hello", 1, "not-enrolled", "chat enrol"),
        ("send bob@b.example -", 1, "empty", "nothing to send"),
        ("find bob@b.example", 1, "not-enrolled", "chat enrol"),
        (
            "find bo@b.example --prefix",
            1,
            "invalid-argument",
            "at least 3",
        ),
        ("password", 1, "not-enrolled", "chat enrol"),
        ("sign-out --yes", 1, "not-enrolled", "chat enrol"),
        (enrol.as_str(), 75, "unreachable", "try again"),
        (
            "enrol alice@a.example --server 127.0.0.1:1 --root-sha256 xyz",
            1,
            "invalid-argument",
            "64",
        ),
    ] {
        let human = chat(&dir, line);
        let said = String::from_utf8(human.stderr).unwrap();
        assert_eq!(human.status.code(), Some(exit), "{line}: {said}");
        assert!(human.stdout.is_empty(), "{line}");
        assert!(said.contains(told), "{line}: {said}");
        assert_eq!(said.lines().count(), 1, "{line}: {said}");

        let program = chat(&dir, &format!("{line} --json"));
        assert_eq!(program.status.code(), Some(exit), "{line}");
        let printed = String::from_utf8(program.stdout).unwrap();
        let object: Value = serde_json::from_str(printed.trim()).unwrap();
        assert_eq!(object["type"], "error", "{line}");
        assert_eq!(object["code"], code, "{line}");
        assert!(object["message"].is_string(), "{line}");
    }
    assert!(!dir.exists(), "what failed leaves nothing");
    for line in ["", "sned", "send bob@b.example", "follow --count x"] {
        assert_eq!(chat(&dir, line).status.code(), Some(2), "{line}");
    }
}

/// Goal: help and completions need nothing and go to standard output. Method: both.
#[test]
fn help_and_completions() {
    let folder = tempfile::tempdir().unwrap();
    for (line, told) in [("--help", "sign-out"), ("completions bash", "sign-out")] {
        let printed = chat(folder.path(), line);
        assert_eq!(printed.status.code(), Some(0), "{line}");
        assert!(String::from_utf8(printed.stdout).unwrap().contains(told));
    }
}

/// Goal: a reader that has seen enough ends the program quietly. Method: completions into a pipe that is closed.
#[test]
fn nobody_reads() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = Command::new(env!("CARGO_BIN_EXE_chat"))
        .args(["completions", "bash"])
        .stdout(writer)
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert!(output.status.code().is_some());
}
