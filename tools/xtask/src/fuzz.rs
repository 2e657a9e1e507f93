//! `cargo xtask fuzz`: every fuzz target for a while.
//!
//! Stands apart from the tests: it needs a nightly toolchain and cargo-fuzz.

use std::env;
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
/// Freed memory that the sanitizer keeps back, which counts as memory that a target takes.
const QUARANTINE_MIB: u32 = 16;
/// How deep a crate may lie below the root.
const DEPTH_MAX: u32 = 3;

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
    let driver = machine::cargo_tool(&workspace, name, version)?;
    let (mut ran, mut failed): (u32, u32) = (0, 0);
    for folder in crates(&workspace.root)? {
        for target in targets(&folder)? {
            if options
                .only
                .as_ref()
                .is_some_and(|only| !target.contains(only.as_str()))
            {
                continue;
            }
            // The others run all the same: what one finds is no reason not to know of theirs.
            let found = process::step(&format!("fuzz {target}"), || {
                fuzz(&driver, &folder, &target, options.seconds)
            });
            if let Err(error) = found {
                eprintln!("{error}");
                failed = failed.saturating_add(1);
            }
            ran = ran.saturating_add(1);
        }
    }
    if ran == 0 {
        return Err(Failure::DidNotHold("no fuzz target was run".to_owned()));
    }
    let passed = ran.saturating_sub(failed);
    process::say(&format!("{passed} passed, {failed} failed"));
    if failed == 0 {
        Ok(())
    } else {
        Err(Failure::DidNotHold(format!("{failed} fuzz targets failed")))
    }
}

/// Compiles every fuzz crate against the code as it is, with its own lock file, so that none rots unseen. Needs
/// no nightly toolchain.
pub(crate) fn check_all(workspace: &Workspace) -> Result {
    for folder in crates(&workspace.root)? {
        workspace
            .cargo(["check", "--locked", "--bins", "--manifest-path"])
            .arg(folder.join("Cargo.toml"))
            .arg("--target-dir")
            .arg(&workspace.target)
            // Checking links nothing: the fuzzer, which is C++, is not built, and need not be there.
            .env(
                "CUSTOM_LIBFUZZER_PATH",
                workspace.target.join("libfuzzer.a"),
            )
            .shown()?;
    }
    Ok(())
}

/// The folders of all fuzz crates, wherever a crate of the workspace has one.
fn crates(root: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    look_for_crates(root, DEPTH_MAX, &mut found)?;
    found.sort();
    Ok(found)
}

fn look_for_crates(folder: &Path, depth: u32, found: &mut Vec<PathBuf>) -> Result {
    for entry in fs::read_dir(folder).map_err(failure::at(folder))? {
        let entry = entry.map_err(failure::at(folder))?;
        let name = entry.file_name();
        let hidden = name.to_string_lossy().starts_with('.');
        // Not followed: a symbolic link may lead anywhere.
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if !is_folder || hidden || name == "target" {
            continue;
        }
        let path = entry.path();
        if name == "fuzz" && path.join("Cargo.toml").is_file() {
            found.push(path);
        } else if let Some(depth) = depth.checked_sub(1) {
            look_for_crates(&path, depth, found)?;
        }
    }
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
fn fuzz(driver: &Path, folder: &Path, target: &str, seconds: u32) -> Result {
    let corpus = workspace::folder(&folder.join("corpus").join(target))?;
    let seeds = folder.join("seeds").join(target);
    let mut command = nightly();
    // Cargo looks for its subcommands on the path; ours comes first.
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = driver
        .parent()
        .map(Path::to_path_buf)
        .into_iter()
        .chain(env::split_paths(&path));
    if let Ok(path) = env::join_paths(folders) {
        command.env("PATH", path);
    }
    command
        .env(
            "ASAN_OPTIONS",
            format!("quarantine_size_mb={QUARANTINE_MIB}"),
        )
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a fuzz crate is found wherever it lies, and nothing that is built. Method: a tree with some.
    #[test]
    fn fuzz_crates_are_found() {
        let root = tempfile::tempdir().unwrap();
        for folder in ["a/fuzz", "tools/b/fuzz", "target/x/fuzz", ".git/fuzz"] {
            let folder = root.path().join(folder);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("Cargo.toml"), "").unwrap();
        }
        fs::create_dir_all(root.path().join("c/fuzz")).unwrap();
        let expected = ["a/fuzz", "tools/b/fuzz"].map(|folder| root.path().join(folder));
        assert_eq!(crates(root.path()).unwrap(), expected);
    }
}
