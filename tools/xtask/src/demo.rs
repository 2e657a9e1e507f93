//! `cargo demo`: builds the homeserver and the tools as a user would, then hands over to the
//! demonstration, and judges what it says.

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;

use serde::Deserialize;

use crate::failure::{Failure, Result};
use crate::process::Run as _;
use crate::workspace::Workspace;

/// The binaries that the demonstration starts; it looks for them beside itself.
const PACKAGES: [&str; 4] = ["homeserver", "hsctl", "chat", "demo"];
/// Fewer messages than this prove too little.
const SENT_MIN: u64 = 2_000;
/// Fewer kills than this prove too little.
const KILLS_MIN: u64 = 4;
/// What must be refused.
const REFUSALS: [&str; 4] = [
    "no-agreement",
    "ttl-out-of-bounds",
    "external-scope",
    "agreement-suspended",
];

/// Builds and becomes it: a signal to this process, SIGTERM too, is the demonstration's to obey.
pub(crate) fn run(arguments: &[String]) -> Result {
    let workspace = Workspace::find()?;
    let mut build = workspace.cargo(["build", "--message-format", "json-render-diagnostics"]);
    for package in PACKAGES {
        build.args(["--package", package]);
    }
    eprintln!("building the homeserver and its tools (the first time takes some minutes)");
    // Cargo says where it put the program: its configuration may name a target or another folder.
    let program = executable(&build.captured()?).ok_or_else(|| Failure::Unexpected {
        program: "cargo build".to_owned(),
        what: "no program `demo` among what it built".to_owned(),
    })?;
    let source = Command::new(program).args(arguments).exec();
    Err(Failure::Start {
        program: "demo".to_owned(),
        source,
    })
}

#[derive(Deserialize)]
struct Built {
    target: Target,
    executable: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
}

/// Where the demonstration lies, among cargo's messages.
fn executable(messages: &str) -> Option<PathBuf> {
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Built>(line).ok())
        .find_map(|built| (built.target.name == "demo").then_some(built.executable)?)
}

/// What `demo --json` prints as its last line, as far as it is judged.
#[derive(Deserialize)]
struct Said {
    sent: u64,
    delivered: u64,
    lost: u64,
    duplicated: u64,
    refused: BTreeMap<String, u64>,
    kills: u64,
}

/// Holds what the demonstration printed to what it must show.
pub(crate) fn judge(printed: &str) -> Result {
    let line = printed.lines().last().unwrap_or_default();
    let said: Said = serde_json::from_str(line).map_err(|error| Failure::Unexpected {
        program: "demo --json".to_owned(),
        what: error.to_string(),
    })?;
    let refused = |code: &&str| said.refused.get(*code).is_some_and(|number| *number > 0);
    let holds = said.lost == 0
        && said.delivered == said.sent
        && said.duplicated == 0
        && said.sent >= SENT_MIN
        && said.kills >= KILLS_MIN
        && REFUSALS.iter().all(refused);
    if holds {
        Ok(())
    } else {
        Err(Failure::DidNotHold(format!(
            "the demonstration shows too little: {line}"
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the program is found wherever cargo put it. Method: messages as cargo prints them.
    #[test]
    fn the_program_is_where_cargo_says() {
        let messages = concat!(
            r#"{"reason":"compiler-artifact","target":{"name":"chat"},"executable":"/t/x/debug/chat"}"#,
            "\n",
            r#"{"reason":"compiler-artifact","target":{"name":"demo"},"executable":"/t/x/debug/demo"}"#,
            "\n",
            r#"{"reason":"build-finished","success":true}"#
        );
        assert_eq!(executable(messages), Some(PathBuf::from("/t/x/debug/demo")));
    }

    const GOOD: &str = r#"{"sent":2400,"delivered":2400,"lost":0,"duplicated":0,"refused":{"no-agreement":2,"ttl-out-of-bounds":1,"external-scope":1,"agreement-suspended":1},"kills":7,"p50_ms":1.0,"p99_ms":2.0}"#;

    /// Goal: the last line must show everything that was promised. Method: spoil a good one in one
    /// place at a time.
    #[test]
    fn every_promise_is_judged() {
        assert!(judge(&format!("words\n{GOOD}\n")).is_ok());
        for (good, bad) in [
            ("\"sent\":2400", "\"sent\":1999"),
            ("\"delivered\":2400", "\"delivered\":2399"),
            ("\"lost\":0", "\"lost\":1"),
            ("\"duplicated\":0", "\"duplicated\":1"),
            ("\"kills\":7", "\"kills\":3"),
            ("\"no-agreement\":2", "\"no-agreement\":0"),
            ("\"external-scope\":1,", ""),
        ] {
            assert!(judge(&GOOD.replace(good, bad)).is_err(), "{bad}");
        }
        assert!(judge("nothing to read").is_err());
    }
}
