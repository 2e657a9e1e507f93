//! `cargo xtask ci`: what must hold before a change lands.
//!
//! The order is the cheapest first; lints, documentation and tests share one profile and one set of
//! features, so that dependencies are checked once and built once.

use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use clap::Args;

use crate::failure::{self, Result};
use crate::process::{self, Run as _};
use crate::workspace::{self, Workspace};
use crate::{fuzz, machine, test};

/// The dependency checker, in the version that the configuration was written for.
const CARGO_DENY: (&str, &str) = ("cargo-deny", "0.20.2");

/// What to check.
#[derive(Args)]
pub(crate) struct Options {}

/// Checks everything; the first step that fails ends the run.
pub(crate) fn run(_options: &Options) -> Result {
    let workspace = Workspace::find()?;
    let mut took = Vec::new();
    timed(&mut took, "formatting", || {
        workspace.cargo(["fmt", "--all", "--check"]).shown()
    })?;
    timed(&mut took, "lints", || lints(&workspace))?;
    timed(&mut took, "fuzz crates", || fuzz::check_all(&workspace))?;
    timed(&mut took, "documentation", || documentation(&workspace))?;
    timed(&mut took, "dependencies", || dependencies(&workspace))?;
    timed(&mut took, "tests", || test::run(&test::Options::default()))?;
    for (name, seconds) in &took {
        eprintln!("{name:>14} {seconds:>7.1} s");
    }
    Ok(())
}

fn timed(
    took: &mut Vec<(&'static str, f64)>,
    name: &'static str,
    work: impl FnOnce() -> Result,
) -> Result {
    let started = Instant::now();
    process::step(name, work)?;
    took.push((name, started.elapsed().as_secs_f64()));
    Ok(())
}

fn lints(workspace: &Workspace) -> Result {
    let everywhere = [
        "clippy",
        "--workspace",
        "--all-targets",
        "--",
        "--deny",
        "warnings",
    ];
    workspace.cargo(everywhere).shown()?;
    let with_faults = [
        "clippy",
        "--workspace",
        "--all-targets",
        "--features",
        "homeserver/faults,homeserver/sled,torture/faults,torture/sled",
        "--",
        "--deny",
        "warnings",
    ];
    workspace.cargo(with_faults).shown()
}

fn documentation(workspace: &Workspace) -> Result {
    let mut doc = workspace.cargo([
        "doc",
        "--workspace",
        "--no-deps",
        "--document-private-items",
    ]);
    doc.env("RUSTDOCFLAGS", "--deny warnings").shown()
}

fn dependencies(workspace: &Workspace) -> Result {
    let (name, version) = CARGO_DENY;
    let deny = machine::cargo_tool(workspace, name, version)?;
    let mut check = Command::new(&deny);
    check
        .current_dir(&workspace.root)
        .args(["check", "bans", "licenses", "sources"])
        .shown()?;
    let Some(database) = env::var_os("ADVISORY_DB") else {
        eprintln!("advisories: not checked (ADVISORY_DB names no database)");
        return Ok(());
    };
    advisories(workspace, &deny, Path::new(&database))
}

/// Checks against a local copy of the database, which cargo-deny wants as the one repository below a folder.
fn advisories(workspace: &Workspace, deny: &Path, database: &Path) -> Result {
    let rules = workspace.root.join("deny.toml");
    let text = fs::read_to_string(&rules).map_err(failure::at(&rules))?;
    let whole = fs::canonicalize(database).map_err(failure::at(database))?;
    let folder = workspace::folder(&workspace.target.join("advisories"))?;
    let with_database = folder.join("deny.toml");
    let source = format!(
        "[advisories]\ndb-path = \"{}\"\ndb-urls = [\"file://{}\"]\n",
        folder.join("copies").display(),
        whole.display()
    );
    fs::write(&with_database, text.replace("[advisories]\n", &source))
        .map_err(failure::at(&with_database))?;
    Command::new(deny)
        .current_dir(&workspace.root)
        .args(["check", "--config"])
        .arg(&with_database)
        .arg("advisories")
        .shown()
}
