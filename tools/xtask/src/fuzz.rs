//! `cargo xtask fuzz`: every fuzz target for a while.
//!
//! Stands apart from the tests: it needs a nightly toolchain and cargo-fuzz.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Args;

use crate::failure::{self, Failure, Result};
use crate::machine;
use crate::process::{self, Run as _};
use crate::workspace::{self, Workspace};

/// The fuzzer's driver.
const CARGO_FUZZ: (&str, &str) = ("cargo-fuzz", "0.13.2");
/// Memory that a target may take.
const MEMORY_MAX_MIB: u32 = 256;
/// Folders that may hold targets.
const FOLDERS: [&str; 3] = [
    "federation-proto/fuzz",
    "homeserver/fuzz",
    "tools/sdk/fuzz",
];

/// How long.
#[derive(Args)]
pub(crate) struct Options {
    /// Seconds for each target.
    #[arg(long, default_value_t = 6)]
    seconds: u32,
    /// Only targets whose name contains this.
    #[arg(long)]
    only: Option<String>,
}

/// Runs them.
pub(crate) fn run(options: &Options) -> Result {
    let workspace = Workspace::find()?;
    if !nightly().args(["--version"]).succeeds() {
        return Err(Failure::Missing(
            "fuzzing needs a nightly toolchain: rustup toolchain install nightly".to_owned(),
        ));
    }
    let (name, version) = CARGO_FUZZ;
    machine::cargo_tool(&workspace, name, version)?;
    let mut ran: u32 = 0;
    for folder in FOLDERS.map(|folder| workspace.root.join(folder)) {
        for target in targets(&folder)? {
            if options
                .only
                .as_ref()
                .is_some_and(|only| !target.contains(only.as_str()))
            {
                continue;
            }
            process::step(&format!("fuzz {target}"), || {
                fuzz(&folder, &target, options.seconds)
            })?;
            ran = ran.saturating_add(1);
        }
    }
    if ran == 0 {
        return Err(Failure::DidNotHold("no fuzz target was run".to_owned()));
    }
    println!("{ran} passed, 0 failed");
    Ok(())
}

/// A cargo of the nightly toolchain. The proxy decides by its name, so the variables that the running
/// cargo has set must not reach it.
fn nightly() -> Command {
    let mut command = Command::new("cargo");
    command
        .env_remove("RUSTUP_TOOLCHAIN")
        .env_remove("CARGO")
        .arg("+nightly");
    command
}

fn targets(folder: &Path) -> Result<Vec<String>> {
    let sources: PathBuf = folder.join("fuzz_targets");
    if !sources.is_dir() {
        return Ok(Vec::new());
    }
    let mut names = Vec::new();
    for entry in fs::read_dir(&sources).map_err(failure::at(&sources))? {
        let path = entry.map_err(failure::at(&sources))?.path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            names.extend(
                path.file_stem()
                    .map(|stem| stem.to_string_lossy().into_owned()),
            );
        }
    }
    names.sort();
    Ok(names)
}

/// Starts from the target's seeds; what is new goes into its corpus, which is not checked in.
fn fuzz(folder: &Path, target: &str, seconds: u32) -> Result {
    let corpus = workspace::folder(&folder.join("corpus").join(target))?;
    let seeds = folder.join("seeds").join(target);
    let mut command = nightly();
    command
        .args(["fuzz", "run", "--fuzz-dir"])
        .arg(folder)
        .arg(target)
        .arg(corpus);
    if seeds.is_dir() {
        command.arg(seeds);
    }
    command
        .arg("--")
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-rss_limit_mb={MEMORY_MAX_MIB}"));
    command.shown()
}
