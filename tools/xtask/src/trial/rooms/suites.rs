//! Tests of the workspace that this trial runs by name, and counts.

use std::collections::BTreeSet;
use std::fs;

use super::super::checks::Check;
use super::super::ground::Ground;
use crate::failure::{self, Result};

/// Where the tests of an evil server are listed.
const EVIL_SERVER: &str = "docs/security/evil-server.md";
/// What their names have in common, where most of them are.
const EVIL_SERVER_TESTS: &str = "evil_server";
/// What the names of the tests with vectors have in common.
const RFC9420_TESTS: &str = "rfc9420";
/// Fewer than these are not all: integers, messages, a welcome with its keys.
const RFC9420_MIN: usize = 3;

/// What `cargo test` has printed.
#[derive(Debug, Default, PartialEq, Eq)]
struct Outcome {
    passed: BTreeSet<String>,
    failed: BTreeSet<String>,
}

impl Outcome {
    /// Lines `test NAME ... ok`.
    fn read(printed: &str) -> Self {
        let mut outcome = Self::default();
        for line in printed.lines() {
            let Some((name, verdict)) = line
                .strip_prefix("test ")
                .and_then(|rest| rest.split_once(" ... "))
            else {
                continue;
            };
            let set = match verdict {
                "ok" => &mut outcome.passed,
                _ => &mut outcome.failed,
            };
            set.insert(name.to_owned());
        }
        outcome
    }

    fn words(&self) -> String {
        let failed: Vec<&str> = self.failed.iter().map(String::as_str).collect();
        match failed.as_slice() {
            [] => format!("{} tests passed", self.passed.len()),
            failed => format!(
                "{} tests passed, {} did not: {}",
                self.passed.len(),
                failed.len(),
                failed.join(", ")
            ),
        }
    }
}

/// Runs tests of a package whose names hold a word. A failure is for the check to tell.
fn run(ground: &Ground<'_>, package: &str, word: &str) -> Result<Outcome> {
    let mut test = ground.cargo(["test", "-p", package, "--lib", "--no-fail-fast", "--", word]);
    let output = test.output().map_err(|source| failure::Failure::Start {
        program: "cargo test".to_owned(),
        source,
    })?;
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        eprint!("{printed}{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(Outcome::read(&printed))
}

/// The tests `PATH::NAME` that a document names, of which `PATH` holds a word: their names.
fn named(document: &str, word: &str) -> BTreeSet<String> {
    let quoted = document.split('`').skip(1).step_by(2);
    let tests = quoted.filter_map(|quoted| quoted.split_once(".rs::"));
    let of_it = tests.filter(|(path, _)| path.contains(word));
    of_it.map(|(_, name)| name.to_owned()).collect()
}

pub(super) fn evil_server(ground: &Ground<'_>) -> Result<Check> {
    let path = ground.root().join(EVIL_SERVER);
    let document = fs::read_to_string(&path).map_err(failure::at(&path))?;
    let named = named(&document, EVIL_SERVER_TESTS);
    let outcome = run(ground, "entente-sdk", EVIL_SERVER_TESTS)?;
    let has_passed = |name: &&String| {
        let name = format!("::{name}");
        outcome.passed.iter().any(|passed| passed.ends_with(&name))
    };
    let missing: Vec<&str> = named
        .iter()
        .filter(|name| !has_passed(name))
        .map(String::as_str)
        .collect();
    let mut got = outcome.words();
    if !missing.is_empty() {
        got.push_str(&format!(
            "; listed, and not among them: {}",
            missing.join(", ")
        ));
    }
    let ok = !named.is_empty() && missing.is_empty() && outcome.failed.is_empty();
    Ok(Check {
        id: "evil-server-is-caught",
        must: format!(
            "all {} tests of {EVIL_SERVER} in the client pass",
            named.len()
        ),
        got,
        ok: Some(ok),
        control: None,
    })
}

pub(super) fn rfc9420(ground: &Ground<'_>) -> Result<Check> {
    let mut outcome = run(ground, "homeserver", RFC9420_TESTS)?;
    let rules = run(ground, "room-rules", RFC9420_TESTS)?;
    outcome.passed.extend(rules.passed);
    outcome.failed.extend(rules.failed);
    Ok(Check {
        id: "rfc9420-vectors",
        must: format!(
            "the vectors of RFC 9420 that touch our code pass, at least {RFC9420_MIN} tests"
        ),
        got: outcome.words(),
        ok: Some(outcome.passed.len() >= RFC9420_MIN && outcome.failed.is_empty()),
        control: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: what cargo prints is read as it is meant, and a test that is listed and was not run is missed. Method: a few lines of each.
    #[test]
    fn outcomes_and_lists() {
        let outcome = Outcome::read(
            "running 2 tests\ntest core::tests::evil_server::a ... ok\ntest core::b ... FAILED\n\ntest result: FAILED. 1 passed\n",
        );
        assert_eq!(outcome.passed.len(), 1);
        assert!(outcome.words().contains("1 did not: core::b"));
        let document = "| x | `tests/evil_server/forks.rs::a`, `other.rs::c` | `no test` |";
        let named = named(document, EVIL_SERVER_TESTS);
        assert_eq!(named, BTreeSet::from(["a".to_owned()]));
    }
}
