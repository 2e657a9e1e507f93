//! `cargo xtask test`: everything that the tests need, then all tests.
//!
//! Ends with one plain line, `N passed, N failed, N skipped`, summed over every test binary and the
//! end-to-end runs.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use clap::Args;

use crate::failure::{Failure, Result};
use crate::machine::{self, Ready};
use crate::process::{self, Run as _};
use crate::workspace::{self, Workspace};
use crate::{conformance, demo, trial};

/// What to run.
#[derive(Args, Default)]
pub(crate) struct Options {
    /// Without the end-to-end runs: the demonstration, conformance and the trial.
    #[arg(long)]
    quick: bool,
}

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

    /// A skip is a failure where nothing may be skipped.
    fn verdict(self, nothing_may_be_skipped: bool) -> Result {
        if self.failed > 0 {
            return Err(Failure::DidNotHold(format!("{} tests failed", self.failed)));
        }
        if self.skipped > 0 && nothing_may_be_skipped {
            return Err(Failure::DidNotHold(format!(
                "{} tests were skipped, and under CI none may be",
                self.skipped
            )));
        }
        Ok(())
    }
}

/// The tests that run programs which a machine may lack.
const NEED_OPENSSL: &[&str] = &["openssl_and_sha256sum_agree"];
const NEED_KNOT: &[&str] = &[
    "dnssec_states",
    "lying_answers",
    "the_service_is_an_alias",
    "what_is_not_validated_is_not_forged",
    "lame_servers",
    "a_changed_zone",
];

const NEED_RSYSLOG: &[&str] = &["rsyslog_gets_every_entry"];

/// Runs them all; a part that fails does not keep the others from running.
pub(crate) fn run(options: &Options) -> Result {
    let workspace = Workspace::find()?;
    let (databases, golden, discovery, log_servers, network) =
        process::step("what the tests need", || {
            Ok((
                machine::prepare(machine::FOR_DATABASES)?,
                machine::prepare(machine::FOR_GOLDEN_VECTORS)?,
                machine::prepare(machine::FOR_DISCOVERY)?,
                machine::prepare(machine::FOR_LOG_SERVERS)?,
                machine::prepare(machine::FOR_TRIALS)?,
            ))
        })?;
    if let Ready::No(reason) = databases {
        return Err(Failure::Missing(reason));
    }
    let may_cut_the_network = match network {
        Ready::Yes if machine::is_root() => Ok(()),
        Ready::Yes => Err("network namespaces need root".to_owned()),
        Ready::No(reason) => Err(reason),
    };
    if let (true, Err(reason)) = (workspace::under_ci(), &may_cut_the_network) {
        return Err(Failure::Missing(reason.clone()));
    }
    let mut total = Counts::default();
    let mut skipped_by_name = vec!["--"];
    for (tests, ready) in [
        (NEED_OPENSSL, golden),
        (NEED_KNOT, discovery),
        (NEED_RSYSLOG, log_servers),
    ] {
        let Ready::No(reason) = ready else { continue };
        for test in tests {
            eprintln!("{test} is skipped: {reason}");
            skipped_by_name.extend(["--skip", test]);
            total.skipped = total.skipped.saturating_add(1);
        }
    }
    workspace.build()?;
    total.add(process::step("cargo test --workspace", || {
        let mut arguments = vec![
            "--workspace",
            "--no-fail-fast",
            "--features",
            workspace::EVERY_ENGINE,
        ];
        arguments.extend(&skipped_by_name);
        cargo_tests(&workspace, &arguments)
    })?);
    if !options.quick {
        total.add(end_to_end("demonstration", || demonstration(&workspace)));
        total.add(end_to_end("conformance", || {
            let counts = conformance::as_tests(&workspace)?;
            Ok(Counts {
                passed: counts.passed,
                failed: counts.failed,
                skipped: 0,
            })
        }));
        total.add(end_to_end("trials", || {
            let (passed, failed, skipped) = trial::as_tests(&workspace, may_cut_the_network)?;
            Ok(Counts {
                passed,
                failed,
                skipped,
            })
        }));
    }
    process::say(&format!(
        "{} passed, {} failed, {} skipped",
        total.passed, total.failed, total.skipped
    ));
    total.verdict(workspace::under_ci())
}

/// An end-to-end run that could not go on counts as one failure.
fn end_to_end(name: &str, run: impl FnOnce() -> Result<Counts>) -> Counts {
    run().unwrap_or_else(|failure| {
        eprintln!("{name}: {failure}");
        Counts {
            passed: 0,
            failed: 1,
            skipped: 0,
        }
    })
}

/// The README's own command, as one test. What it prints is judged here again: an exit status alone says
/// nothing of how much was tried.
fn demonstration(workspace: &Workspace) -> Result<Counts> {
    let printed = process::step("demonstration", || {
        Command::new(workspace.binaries().join("demo"))
            .arg("--json")
            .captured()
    })?;
    process::say(printed.trim_end());
    demo::judge(&printed)?;
    Ok(Counts {
        passed: 1,
        failed: 0,
        skipped: 0,
    })
}

/// Runs cargo's tests, documentation tests too, and sums their result lines.
fn cargo_tests(workspace: &Workspace, arguments: &[&str]) -> Result<Counts> {
    let mut command = workspace.cargo(["test"]);
    command.args(arguments);
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
            process::say(&line);
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

    /// Goal: a skip fails where nothing may be skipped, and a failure everywhere. Method: each of them.
    #[test]
    fn a_skip_fails_under_ci() {
        let counts = |failed, skipped| Counts {
            passed: 1,
            failed,
            skipped,
        };
        assert!(counts(0, 1).verdict(false).is_ok());
        assert!(counts(0, 1).verdict(true).is_err());
        assert!(counts(0, 0).verdict(true).is_ok());
        assert!(counts(1, 0).verdict(false).is_err());
    }

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
