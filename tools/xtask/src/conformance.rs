//! `cargo xtask conformance`: starts a homeserver, does the operator's part through `hsctl`, and holds
//! the homeserver to the protocol from outside.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use clap::Args;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::failure::{self, Failure, Result};
use crate::ports::free_address;
use crate::process;
use crate::trial::{Homeserver, Person, Plan};
use crate::workspace::{self, Workspace};

/// What to print.
#[derive(Args)]
pub(crate) struct Options {
    /// Print the report as one JSON object, the last line.
    #[arg(long)]
    json: bool,
}

/// What the suite counted.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(crate) struct Counts {
    /// Cases that hold.
    pub(crate) passed: u64,
    /// Requirements that are not met.
    pub(crate) failed: u64,
}

/// Runs the suite.
pub(crate) fn run(options: &Options) -> Result {
    let workspace = Workspace::find()?;
    workspace.build_as_tests_do()?;
    let (counts, line) = process::step("conformance", || suite(&workspace))?;
    if options.json {
        process::say(&line);
    }
    if counts.failed == 0 {
        Ok(())
    } else {
        Err(Failure::DidNotHold(format!(
            "{} requirements are not met",
            counts.failed
        )))
    }
}

/// Runs the suite as part of the tests.
pub(crate) fn as_tests(workspace: &Workspace) -> Result<Counts> {
    process::step("conformance", || suite(workspace)).map(|(counts, _)| counts)
}

fn suite(workspace: &Workspace) -> Result<(Counts, String)> {
    let parent = workspace::folder(&workspace.target.join("trial"))?;
    let folder = tempfile::Builder::new()
        .prefix("c")
        .tempdir_in(&parent)
        .map_err(failure::at(&parent))?;
    let binaries = workspace.binaries();
    let program = binaries.join("homeserver");
    let server = Homeserver::start_new(Plan {
        name: "a.example",
        binaries: &binaries,
        program: &program,
        fault: None,
        namespace: None,
        client: free_address()?.to_string(),
        federation: free_address()?.to_string(),
        folder: folder.path().join("a"),
    })?;
    let hands = Hands {
        asking: Person::enrol(&server, ASKING, &binaries)?,
        open: Person::enrol(&server, OPEN, &binaries)?,
    };
    let people = folder.path().join("people.json");
    fs::write(&people, people_of(&server)?.to_string()).map_err(failure::at(&people))?;
    let operator = operator(&binaries, &server, folder.path(), Some(&hands))?;
    let output = Command::new(binaries.join("conformance"))
        .args([
            "run",
            "--json",
            "--address",
            &server.federation,
            "--server",
            server.name,
            "--exchange",
        ])
        .arg(folder.path())
        .arg("--operator")
        .arg(operator)
        .arg("--people")
        .arg(people)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|source| Failure::Start {
            program: "conformance".to_owned(),
            source,
        })?;
    let printed = String::from_utf8_lossy(&output.stdout);
    let line = printed.lines().last().unwrap_or_default().to_owned();
    let counts: Counts = serde_json::from_str(&line).map_err(|error| Failure::Unexpected {
        program: "conformance".to_owned(),
        what: error.to_string(),
    })?;
    if counts.failed > 0 {
        eprintln!(
            "the homeserver's log is kept in {}",
            folder.keep().display()
        );
    }
    Ok((counts, line))
}

/// How the handles of the suite's people begin, who decides herself who starts conversations with her, and who is open
/// to all.
const BEGINNING: &str = "conform";
const ASKING: &str = "conform-asking";
const OPEN: &str = "conform-open";

/// People who act when the suite says so.
pub(crate) struct Hands {
    /// She allows and blocks.
    asking: Person,
    /// She starts conversations.
    open: Person,
}

/// Makes the other people whom the suite needs; what it is told of all.
fn people_of(server: &Homeserver) -> Result<Value> {
    let handle = |who: &str| format!("{BEGINNING}-{who}");
    for (who, flag, setting) in [
        ("asking", "--outside-contacts", "ask"),
        ("listed", "--directory", "listed"),
        ("hidden", "--directory", "hidden"),
    ] {
        let handle = handle(who);
        server.hsctl(&["user-type", "set", &handle, flag, setting])?;
        if handle != ASKING {
            server.account(&handle)?;
        }
        server.hsctl(&["user", "change", &handle, "--type", &handle])?;
    }
    Ok(json!({
        "beginning": BEGINNING,
        "open": person(server, OPEN)?,
        "asking": person(server, ASKING)?,
        "listed": handle("listed"),
        "hidden": handle("hidden"),
    }))
}

/// A person with her only device.
fn person(server: &Homeserver, handle: &str) -> Result<Value> {
    let user = server.hsctl(&["user", "show", handle])?;
    let user: Value = serde_json::from_str(&user).map_err(|error| Failure::Unexpected {
        program: "hsctl user show".to_owned(),
        what: error.to_string(),
    })?;
    Ok(json!({
        "handle": handle,
        "account": user.pointer("/account"),
        "device": user.pointer("/device_list/0/device"),
    }))
}

/// The operator's hands, as a program that the suite can call, and those of some people.
pub(crate) fn operator(
    binaries: &Path,
    server: &Homeserver,
    folder: &Path,
    hands: Option<&Hands>,
) -> Result<std::path::PathBuf> {
    let script = folder.join("operator");
    let hsctl = format!(
        "'{}' --socket '{}' peer",
        binaries.join("hsctl").display(),
        server.socket().display()
    );
    let people = hands.map_or_else(String::new, |hands| {
        let contact = hands.asking.typed(&["contact", "\"$1\"", "\"$2\""]);
        let start = hands.open.typed(&["start", "\"$2\""]);
        format!("allow|block) exec {contact} ;;\n start) exec {start} ;;\n")
    });
    let text = format!(
        "#!/bin/sh\ncase \"$1\" in\n\
         accept) exec {hsctl} accept \"$2\" --fingerprint \"$3\" --out \"$4\" ;;\n\
         activate) exec {hsctl} activate \"$2\" ;;\n\
         {people}\
         *) echo \"what is $1?\" >&2; exit 2 ;;\n\
         esac\n"
    );
    fs::write(&script, text).map_err(failure::at(&script))?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))
        .map_err(failure::at(&script))?;
    Ok(script)
}
