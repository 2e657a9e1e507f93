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
    /// Run it against homeservers that break a rule, too, each of which has to be caught by the cases that are there
    /// for it.
    #[arg(long)]
    controls: bool,
}

/// A homeserver that breaks a rule, and the cases that have to fail with it.
struct Control {
    fault: &'static str,
    caught_by: &'static [&'static str],
}

const CONTROLS: [Control; 4] = [
    Control {
        fault: "order-unjudged",
        caught_by: &[
            "hub.noise",
            "hub.signature",
            "hub.other-group-info",
            "hub.short-path",
            "hub.removes-owner",
            "hub.hides-addition",
            "hub.lists-other",
            "hub.promotes-itself",
            "hub.adds-unlisted",
            "hub.other-root",
            "hub.bad-signature",
        ],
    },
    Control {
        fault: "believe-payloads",
        caught_by: &[
            "hub.lists-removal",
            "hub.hides-addition",
            "hub.lists-other",
            "hub.for-another",
        ],
    },
    Control {
        fault: "fork-rooms",
        caught_by: &["hub.two-at-once"],
    },
    Control {
        fault: "unbounded-commits",
        caught_by: &["hub.flood"],
    },
];

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
    workspace.build()?;
    let homeserver = workspace.binaries().join("homeserver");
    let (counts, line) = process::step("conformance", || suite(&workspace, &homeserver, None))?;
    if options.json {
        process::say(&line);
    }
    if options.controls {
        controls(&workspace)?;
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
    let homeserver = workspace.binaries().join("homeserver");
    process::step("conformance", || suite(workspace, &homeserver, None)).map(|(counts, _)| counts)
}

/// What the suite prints of a case.
#[derive(Debug, Deserialize)]
struct Judged {
    id: String,
    ok: bool,
}

/// Everything that the suite prints of its cases.
#[derive(Debug, Deserialize)]
struct Cases {
    cases: Vec<Judged>,
}

/// Runs the suite against homeservers that break a rule.
fn controls(workspace: &Workspace) -> Result {
    let homeserver = workspace.build_with_faults()?;
    let mut missed = Vec::new();
    for control in &CONTROLS {
        let name = format!("conformance with the fault `{}`", control.fault);
        let (_, line) =
            process::step(&name, || suite(workspace, &homeserver, Some(control.fault)))?;
        let found: Cases = serde_json::from_str(&line).map_err(not_understood)?;
        for id in control.caught_by {
            let failed = found.cases.iter().any(|case| case.id == *id && !case.ok);
            if !failed {
                missed.push(format!("{id} does not notice `{}`", control.fault));
            }
        }
    }
    if missed.is_empty() {
        eprintln!("every control was caught");
        Ok(())
    } else {
        Err(Failure::DidNotHold(missed.join("; ")))
    }
}

fn not_understood(error: serde_json::Error) -> Failure {
    Failure::Unexpected {
        program: "conformance".to_owned(),
        what: error.to_string(),
    }
}

/// The suite against a homeserver of this program, with this fault if it is one that has any.
fn suite(
    workspace: &Workspace,
    program: &Path,
    fault: Option<&'static str>,
) -> Result<(Counts, String)> {
    let parent = workspace::folder(&workspace.target.join("trial"))?;
    let folder = tempfile::Builder::new()
        .prefix("c")
        .tempdir_in(&parent)
        .map_err(failure::at(&parent))?;
    let binaries = workspace.binaries();
    let server = Homeserver::start_new(Plan {
        name: "a.example",
        binaries: &binaries,
        program,
        fault,
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
    let counts: Counts = serde_json::from_str(&line).map_err(not_understood)?;
    if counts.failed > 0 && fault.is_none() {
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
    /// She starts conversations, writes, and gives roles.
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
        let write = hands.open.typed(&["send", "\"$2\"", "\"$3\""]);
        let promote = hands.open.typed(&["role", "\"$2\"", "\"$3\"", "moderator"]);
        format!(
            "allow|block) exec {contact} ;;\n start) exec {start} ;;\n write) exec {write} ;;\n \
             promote) exec {promote} ;;\n"
        )
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
