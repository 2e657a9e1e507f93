//! `cargo xtask test`: everything that the tests need, then all tests.
//!
//! Ends with one plain line, `N passed, N failed, N skipped`, summed over every test binary and the
//! end-to-end runs.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use clap::Args;

use crate::failure::{Failure, Result};
use crate::machine::{self, Ready};
use crate::process;
use crate::workspace::Workspace;

/// What to run.
#[derive(Args)]
pub(crate) struct Options {}

/// What the tests came to.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counts {
    passed: u64,
    failed: u64,
    skipped: u64,
}

impl Counts {
    fn add(&mut self, other: Self) {
        self.passed = self.passed.saturating_add(other.passed);
        self.failed = self.failed.saturating_add(other.failed);
        self.skipped = self.skipped.saturating_add(other.skipped);
    }
}

/// Runs them all.
pub(crate) fn run(_options: &Options) -> Result {
    let workspace = Workspace::find()?;
    if let Ready::No(reason) = process::step("what the tests need", || {
        machine::prepare(machine::FOR_TESTS)
    })? {
        eprintln!("skipped, what needs it: {reason}");
    }
    workspace.build_as_tests_do()?;
    let mut total = Counts::default();
    total.add(process::step("cargo test --workspace", || {
        cargo_tests(&workspace)
    })?);
    println!(
        "{} passed, {} failed, {} skipped",
        total.passed, total.failed, total.skipped
    );
    if total.failed == 0 {
        Ok(())
    } else {
        Err(Failure::DidNotHold(format!(
            "{} tests failed",
            total.failed
        )))
    }
}

/// Runs cargo's tests, documentation tests too, and sums their result lines.
fn cargo_tests(workspace: &Workspace) -> Result<Counts> {
    let mut command = workspace.cargo(["test", "--workspace", "--no-fail-fast"]);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|source| Failure::Start {
            program: "cargo test".to_owned(),
            source,
        })?;
    let mut counts = Counts::default();
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout)
            .lines()
            .map_while(std::result::Result::ok)
        {
            println!("{line}");
            if let Some(of_one_binary) = result_line(&line) {
                counts.add(of_one_binary);
            }
        }
    }
    let status = child.wait().map_err(|source| Failure::Start {
        program: "cargo test".to_owned(),
        source,
    })?;
    if !status.success() && counts.failed == 0 {
        // A binary that did not build or died without a result line.
        counts.failed = 1;
    }
    Ok(counts)
}

/// Reads `test result: ok. 3 passed; 0 failed; 1 ignored; …`.
fn result_line(line: &str) -> Option<Counts> {
    let (_, numbers) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let mut counts = Counts::default();
    for part in numbers.split(';') {
        let mut words = part.split_whitespace();
        let (Some(number), Some(word)) = (words.next(), words.next()) else {
            continue;
        };
        let Ok(number) = number.parse() else { continue };
        match word {
            "passed" => counts.passed = number,
            "failed" => counts.failed = number,
            "ignored" => counts.skipped = number,
            _ => {}
        }
    }
    Some(counts)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cargo's result line is counted, anything else is not; by example.
    #[test]
    fn a_result_line_is_counted() {
        let line = "test result: FAILED. 3 passed; 1 failed; 2 ignored; 0 measured; 0 filtered out; finished in 0.00s";
        assert_eq!(
            result_line(line),
            Some(Counts {
                passed: 3,
                failed: 1,
                skipped: 2
            })
        );
        assert_eq!(result_line("test thing ... ok"), None);
    }
}
