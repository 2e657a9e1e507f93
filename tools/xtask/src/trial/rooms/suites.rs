//! Tests of the workspace that this trial runs by name, and counts.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use super::super::checks::Check;
use super::super::ground::Ground;
use crate::failure::{self, Result};

/// Where the tests of an evil server are listed.
const EVIL_SERVER: &str = "docs/security/evil-server.md";
/// The packages that have tests of that list, each with the folder that its library's modules lie in.
const PACKAGES: [(&str, &str); 3] = [
    ("entente-sdk", "tools/sdk/src/"),
    ("room-rules", "homeserver/room-rules/src/"),
    ("homeserver", "homeserver/src/"),
];
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

    fn add(&mut self, other: Self) {
        self.passed.extend(other.passed);
        self.failed.extend(other.failed);
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

/// Runs tests of a package, by what comes after `--`. A failure is for the check to tell.
fn run(ground: &Ground<'_>, package: &str, which: &[&str]) -> Result<Outcome> {
    let before = ["test", "-p", package, "--lib", "--no-fail-fast", "--"];
    let mut test = ground.cargo(before.into_iter().chain(which.iter().copied()));
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

/// Tests that a document lists as `PATH.rs::NAME`.
#[derive(Debug, Default, PartialEq, Eq)]
struct Listed {
    /// As `cargo test` names them, by package.
    tests: BTreeMap<&'static str, BTreeSet<String>>,
    /// Those that lie in none of the packages.
    nowhere: BTreeSet<String>,
}

impl Listed {
    fn read(document: &str) -> Self {
        let mut listed = Self::default();
        for quoted in document.split('`').skip(1).step_by(2) {
            let Some((path, name)) = quoted.split_once(".rs::") else {
                continue;
            };
            let within = |(package, folder): &(&'static str, &str)| {
                Some((*package, path.strip_prefix(folder)?))
            };
            match PACKAGES.iter().find_map(within) {
                Some((package, path)) => {
                    let module = path.strip_suffix("/mod").unwrap_or(path).replace('/', "::");
                    let tests = listed.tests.entry(package).or_default();
                    tests.insert(format!("{module}::{name}"));
                }
                None => {
                    listed.nowhere.insert(quoted.to_owned());
                }
            }
        }
        listed
    }

    fn count(&self) -> usize {
        let of_each = self.tests.values().map(BTreeSet::len);
        of_each.sum::<usize>().saturating_add(self.nowhere.len())
    }

    /// Those that were not among what has passed in their package.
    fn missing<'a>(&'a self, outcomes: &BTreeMap<&str, Outcome>) -> Vec<&'a str> {
        let of_packages = self.tests.iter().flat_map(|(package, tests)| {
            let passed = outcomes.get(package).map(|outcome| &outcome.passed);
            let has_passed = move |test: &&String| passed.is_some_and(|all| all.contains(*test));
            tests.iter().filter(move |test| !has_passed(test))
        });
        let missing = of_packages.chain(&self.nowhere);
        missing.map(String::as_str).collect()
    }
}

pub(super) fn evil_server(ground: &Ground<'_>) -> Result<Check> {
    let path = ground.root().join(EVIL_SERVER);
    let document = fs::read_to_string(&path).map_err(failure::at(&path))?;
    let listed = Listed::read(&document);
    let mut outcomes = BTreeMap::new();
    for (package, tests) in &listed.tests {
        let exact = ["--exact"].into_iter();
        let which: Vec<&str> = exact.chain(tests.iter().map(String::as_str)).collect();
        outcomes.insert(*package, run(ground, package, &which)?);
    }
    let missing = listed.missing(&outcomes);
    let mut outcome = Outcome::default();
    for of_package in outcomes.into_values() {
        outcome.add(of_package);
    }
    let mut got = outcome.words();
    if !missing.is_empty() {
        got.push_str(&format!(
            "; listed, and not among those that passed: {}",
            missing.join(", ")
        ));
    }
    let ok = listed.count() > 0 && missing.is_empty() && outcome.failed.is_empty();
    Ok(Check {
        id: "evil-server-is-caught",
        must: format!(
            "all {} tests of {EVIL_SERVER} pass, each by its name",
            listed.count()
        ),
        got,
        ok: Some(ok),
        control: None,
    })
}

pub(super) fn rfc9420(ground: &Ground<'_>) -> Result<Check> {
    let mut outcome = run(ground, "homeserver", &[RFC9420_TESTS])?;
    outcome.add(run(ground, "room-rules", &[RFC9420_TESTS])?);
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

    /// Goal: what cargo prints is read as it is meant. Method: a few lines.
    #[test]
    fn outcomes() {
        let outcome = Outcome::read(
            "running 2 tests\ntest core::tests::evil_server::a ... ok\ntest core::b ... FAILED\n\ntest result: FAILED. 1 passed\n",
        );
        assert_eq!(outcome.passed.len(), 1);
        assert!(outcome.words().contains("1 did not: core::b"));
    }

    /// Goal: every test that is listed is run by its exact name, whatever it is called, and one that was not run, did not pass or lies
    /// nowhere is missed. Method: a list with one of each, and what was printed for it.
    #[test]
    fn each_listed_test_counts() {
        let listed = Listed::read(
            "| `tools/sdk/src/core/tests/evil_server/mod.rs::a`, `tools/sdk/src/core/tests/resync.rs::b` | `no test` |\n\
             | `homeserver/src/federation/outbound/tests/claims.rs::c` | `conformance/src/cases/x.rs::d` |",
        );
        assert_eq!(listed.count(), 4);
        let mut outcomes = BTreeMap::from([
            (
                "entente-sdk",
                Outcome::read(
                    "test core::tests::evil_server::a ... ok\ntest core::tests::other::b ... ok\n",
                ),
            ),
            (
                "homeserver",
                Outcome::read("test federation::outbound::tests::claims::c ... FAILED\n"),
            ),
        ]);
        let missing = [
            "core::tests::resync::b",
            "federation::outbound::tests::claims::c",
            "conformance/src/cases/x.rs::d",
        ];
        assert_eq!(listed.missing(&outcomes), missing);
        outcomes.remove("entente-sdk");
        assert_eq!(listed.missing(&outcomes).len(), 4);
    }

    /// Goal: the list itself names tests of these packages alone, in files that are there. Method: read it.
    #[test]
    fn the_list_is_of_these_packages() {
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
        let document = fs::read_to_string(format!("{root}/{EVIL_SERVER}")).unwrap();
        let listed = Listed::read(&document);
        assert!(listed.nowhere.is_empty(), "{:?}", listed.nowhere);
        assert!(listed.count() > 30, "{}", listed.count());
        for (package, tests) in &listed.tests {
            let (_, folder) = PACKAGES.iter().find(|(of, _)| of == package).unwrap();
            for test in tests {
                let (module, name) = test.rsplit_once("::").unwrap();
                let path = format!("{root}/{folder}{}", module.replace("::", "/"));
                let read = fs::read_to_string(format!("{path}.rs"));
                let read = read.or_else(|_| fs::read_to_string(format!("{path}/mod.rs")));
                let text = read.unwrap();
                assert!(text.contains(&format!("fn {name}()")), "{test}");
            }
        }
    }
}
