//! `cargo demo`: builds the homeserver and the tools as a user would, then hands over to the
//! demonstration.

use std::process::Command;

use crate::failure::Result;
use crate::process::Run as _;
use crate::workspace::Workspace;

/// The binaries that the demonstration starts; it looks for them beside itself.
const PACKAGES: [&str; 4] = ["homeserver", "hsctl", "chat", "demo"];

/// Builds and runs it.
pub(crate) fn run(arguments: &[String]) -> Result {
    let workspace = Workspace::find()?;
    let mut build = workspace.cargo(["build"]);
    for package in PACKAGES {
        build.args(["--package", package]);
    }
    eprintln!("building the homeserver and its tools (the first time takes some minutes)");
    build.shown()?;
    Command::new(workspace.binaries().join("demo"))
        .args(arguments)
        .shown()
}
