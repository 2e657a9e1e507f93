//! `--only store`: what the homeserver's commit path takes away from an engine, and how near it comes to a plain log.
//!
//! `store-load` measures one case at a time, each in a process and a folder of its own: the commit path on an engine, that engine
//! by itself, and a plain log. Some of them on a disk that takes a millisecond longer for every sync, where only group commits help.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Map, Value, json};

use super::rounds::{Criterion, median_of, ratios, rounded, series};
use super::{Findings, Ground, Options, at};
use crate::failure::{self, Failure, Result};
use crate::process::{self, Run as _};

/// The program that measures.
pub(super) const PACKAGE: &str = "store-load";
/// Unless the options say otherwise.
const ROUNDS: u32 = 5;
const SECONDS: u64 = 4;
/// Before each case is measured: then the commit log is as far ahead of the index as it may be.
const WARM_UP_SECONDS: u64 = 2;

/// Engines, the default one first.
const ENGINES: [&str; 2] = [DEFAULT_ENGINE, "fjall"];
const DEFAULT_ENGINE: &str = "fjall-log";
/// Transactions that are under way.
const SENDERS: [u16; 2] = [64, 1024];
/// How many on the slower disk, and how much slower it is.
const SLOWED_SENDERS: u16 = 64;
const SLOWED_BY_US: u64 = 1000;
/// What the commit path has to reach of the engine by itself and, on the slower disk, of a plain log.
const RATIO_MIN: f64 = 0.75;

/// The rate in a report of `store-load`.
const RATE: &str = "/transactions_per_s";
/// Where the delay's source is.
const SLOW_FSYNC: &str = "tools/xtask/src/bench/slow_fsync.c";

const WORK: &str = "One transaction of the store for each message: a payload of 1 KiB, a reference to it in an inbox, the \
    sender's counter, a row of the outbox, on the condition that the counter is as it was; durable before it is answered. \
    `store` is the homeserver's commit path, with so many senders that each wait for their answer; `engine` its engine by \
    itself, given batches of as many transactions, at most the commit path's, by one thread; `raw_log` a file that one writer \
    appends to, with one fdatasync for whatever waits. `slow_fsync`: 1 ms is added to every sync. Rates are medians of the \
    rounds, ratios are medians of each round's ratio.";

/// What is measured in every round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Case {
    /// As `store-load` calls it.
    subject: &'static str,
    engine: Option<&'static str>,
    senders: u16,
    slowed: bool,
}

impl Case {
    const fn store(engine: &'static str, senders: u16) -> Self {
        Self {
            subject: "store",
            engine: Some(engine),
            senders,
            slowed: false,
        }
    }

    const fn engine(engine: &'static str, senders: u16) -> Self {
        Self {
            subject: "engine",
            engine: Some(engine),
            senders,
            slowed: false,
        }
    }

    const fn raw_log(senders: u16) -> Self {
        Self {
            subject: "raw-log",
            engine: None,
            senders,
            slowed: false,
        }
    }

    const fn slowed(self) -> Self {
        Self {
            slowed: true,
            ..self
        }
    }

    /// As figures call it.
    fn name(self) -> String {
        let mut name = self.subject.to_owned();
        if let Some(engine) = self.engine {
            name.push('_');
            name.push_str(engine);
        }
        let slowed = if self.slowed { "_slow_fsync" } else { "" };
        format!("{name}_{}{slowed}", self.senders).replace('-', "_")
    }
}

/// All of them; what is compared stands together.
fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for senders in SENDERS {
        cases.push(Case::raw_log(senders));
        for engine in ENGINES {
            cases.push(Case::store(engine, senders));
            cases.push(Case::engine(engine, senders));
        }
    }
    cases.push(Case::raw_log(SLOWED_SENDERS).slowed());
    for engine in ENGINES {
        cases.push(Case::store(engine, SLOWED_SENDERS).slowed());
    }
    cases
}

/// What each case came to, round by round.
struct Outcomes(Vec<(Case, Vec<Value>)>);

impl Outcomes {
    fn of(&self, case: Case) -> &[Value] {
        let found = self.0.iter().find(|(other, _)| *other == case);
        found.map_or(&[][..], |(_, reports)| reports.as_slice())
    }

    fn ratios(&self, of: Case, to: Case) -> Option<Vec<f64>> {
        ratios(self.of(of), self.of(to), RATE)
    }

    fn criteria(&self) -> Vec<Criterion> {
        let mut criteria = Vec::new();
        for engine in ENGINES {
            for senders in SENDERS {
                let (store, bare) = (Case::store(engine, senders), Case::engine(engine, senders));
                criteria.push(self.criterion(store, bare));
            }
        }
        let store = Case::store(DEFAULT_ENGINE, SLOWED_SENDERS).slowed();
        criteria.push(self.criterion(store, Case::raw_log(SLOWED_SENDERS).slowed()));
        criteria
    }

    fn criterion(&self, of: Case, to: Case) -> Criterion {
        Criterion {
            what: format!("{} to {}", of.name(), to.name()),
            ratios: self.ratios(of, to),
            at_least: RATIO_MIN,
        }
    }

    fn figures(&self, figures: &mut Map<String, Value>) {
        for (case, reports) in &self.0 {
            let rate = median_of(reports, RATE).map(f64::round);
            figures.insert(format!("{}_per_s", case.name()), json!(rate));
        }
        for criterion in self.criteria() {
            let name = criterion.what.replace(' ', "_");
            figures.insert(name, rounded(criterion.ratio()));
        }
    }

    fn details(&self) -> Value {
        let mut cases = Map::new();
        for (case, reports) in &self.0 {
            let median = |pointer| rounded(median_of(reports, pointer));
            let rounds = series(reports, RATE).unwrap_or_default();
            let rounds: Vec<f64> = rounds.into_iter().map(f64::round).collect();
            let case_report = json!({
                "transactions_per_s": median(RATE),
                "mib_per_s": median("/mib_per_s"),
                "transactions_per_batch": median("/transactions_per_batch"),
                "fdatasync_p50_us": median("/fdatasync_p50_us"),
                "fdatasync_added_us": median("/fdatasync_added_us"),
                "transactions_per_s_by_round": rounds,
            });
            cases.insert(case.name(), case_report);
        }
        Value::Object(cases)
    }
}

/// Measures all cases, round by round.
pub(super) fn measure(options: &Options, ground: &Ground<'_>, findings: &mut Findings) -> Result {
    let program = Program {
        path: ground.binaries.join(PACKAGE),
        slow_fsync: build_slow_fsync(ground)?,
        folder: ground.folder.join("store"),
        seconds: options.seconds.unwrap_or(SECONDS),
    };
    let rounds = options.rounds.unwrap_or(ROUNDS);
    let all = cases().into_iter().map(|case| (case, Vec::new()));
    let mut outcomes = Outcomes(all.collect());
    for round in 1..=rounds {
        process::step(&format!("store, round {round} of {rounds}"), || {
            for (case, reports) in &mut outcomes.0 {
                reports.push(program.run(*case)?);
            }
            Ok(())
        })?;
        // What came behind another comes before it now.
        outcomes.0.reverse();
    }
    outcomes.0.sort_by_key(|(case, _)| place(*case));
    outcomes.figures(&mut findings.figures);
    let first = outcomes.0.first().and_then(|(_, reports)| reports.first());
    let details = json!({
        "work": WORK,
        "rounds": rounds,
        "seconds": program.seconds,
        "warm_up_seconds": WARM_UP_SECONDS,
        "transaction_bytes": first.map(|report| at(report, "/transaction_bytes")),
        "cases": outcomes.details(),
    });
    findings.details.insert("store".to_owned(), details);
    findings.criteria.extend(outcomes.criteria());
    Ok(())
}

/// Where a case stands among all of them.
fn place(case: Case) -> Option<usize> {
    cases().into_iter().position(|other| other == case)
}

/// Builds what makes a disk slower for the process that it is loaded into.
fn build_slow_fsync(ground: &Ground<'_>) -> Result<PathBuf> {
    let library = ground.folder.join("slow_fsync.so");
    Command::new("cc")
        .args(["-shared", "-fPIC", "-O2", "-Wall"])
        .arg(format!("-DDELAY_US={SLOWED_BY_US}"))
        .arg("-o")
        .arg(&library)
        .arg(ground.sources.join(SLOW_FSYNC))
        .shown()?;
    Ok(library)
}

/// `store-load`, and what it is started with.
struct Program {
    path: PathBuf,
    slow_fsync: PathBuf,
    folder: PathBuf,
    seconds: u64,
}

impl Program {
    /// Measures one case once; its report.
    fn run(&self, case: Case) -> Result<Value> {
        fs::create_dir_all(&self.folder).map_err(failure::at(&self.folder))?;
        let mut command = Command::new(&self.path);
        command
            .args(arguments(case, self.seconds))
            .arg("--folder")
            .arg(&self.folder);
        if case.slowed {
            command.env("LD_PRELOAD", &self.slow_fsync);
        }
        let printed = command.captured()?;
        fs::remove_dir_all(&self.folder).map_err(failure::at(&self.folder))?;
        let report = serde_json::from_str(&printed).map_err(|error| Failure::Unexpected {
            program: PACKAGE.to_owned(),
            what: error.to_string(),
        })?;
        check_delay(case, &report)?;
        Ok(report)
    }
}

fn arguments(case: Case, seconds: u64) -> Vec<String> {
    let mut arguments = vec!["--subject".to_owned(), case.subject.to_owned()];
    if let Some(engine) = case.engine {
        arguments.extend(["--engine".to_owned(), engine.to_owned()]);
    }
    for (name, value) in [
        ("--senders", u64::from(case.senders)),
        ("--warm-up", WARM_UP_SECONDS),
        ("--seconds", seconds),
    ] {
        arguments.extend([name.to_owned(), value.to_string()]);
    }
    arguments
}

/// A disk that was to be slower has to have been slower, and no other.
fn check_delay(case: Case, report: &Value) -> Result {
    let added = at(report, "/fdatasync_added_us").as_u64();
    let is_slowed = added.is_some_and(|added| added >= SLOWED_BY_US);
    if is_slowed == case.slowed {
        return Ok(());
    }
    Err(Failure::DidNotHold(format!(
        "{}: {} µs were added to an fdatasync instead of {}",
        case.name(),
        added.unwrap_or_default(),
        if case.slowed { SLOWED_BY_US } else { 0 },
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reports with these rates.
    fn reports(rates: &[f64]) -> Vec<Value> {
        rates
            .iter()
            .map(|rate| json!({"transactions_per_s": rate}))
            .collect()
    }

    /// Goal: each criterion compares with what it says, whatever the order in which the cases were measured. Method: cases in
    /// reverse, the engines by themselves at 100, the plain log at 80, the commit path at 75 and 64 in one round, more in others.
    #[test]
    fn criteria_compare_what_they_say() {
        let rates = |case: Case| match case.subject {
            "engine" => [100.0, 50.0, 100.0],
            "raw-log" => [80.0, 40.0, 80.0],
            _ if case.slowed => [64.0, 20.0, 64.0],
            _ if case.engine == Some("fjall") => [74.0, 40.0, 74.0],
            _ => [75.0, 40.0, 75.0],
        };
        let all = cases().into_iter().rev();
        let all = all.map(|case| (case, reports(&rates(case)))).collect();
        let outcomes = Outcomes(all);
        let held: Vec<(String, bool)> = outcomes
            .criteria()
            .iter()
            .map(|criterion| (criterion.what.clone(), criterion.holds()))
            .collect();
        let expected = [
            ("store_fjall_log_64 to engine_fjall_log_64", true),
            ("store_fjall_log_1024 to engine_fjall_log_1024", true),
            ("store_fjall_64 to engine_fjall_64", false),
            ("store_fjall_1024 to engine_fjall_1024", false),
            (
                "store_fjall_log_64_slow_fsync to raw_log_64_slow_fsync",
                true,
            ),
        ];
        let expected = expected.map(|(what, held)| (what.to_owned(), held));
        assert_eq!(held, expected);
        let mut figures = Map::new();
        outcomes.figures(&mut figures);
        assert_eq!(figures["engine_fjall_1024_per_s"], 100.0);
        let slowed = "store_fjall_log_64_slow_fsync_to_raw_log_64_slow_fsync";
        assert_eq!(figures[slowed], 0.8);
    }

    /// Goal: no case has another's name, and what is compared is measured. Method: all names; the cases of all criteria have a ratio.
    #[test]
    fn every_case_is_measured_once() {
        let all: Vec<_> = cases().iter().map(|case| case.name()).collect();
        let mut once = all.clone();
        once.sort_unstable();
        once.dedup();
        assert_eq!(once.len(), all.len());
        let cases = cases().into_iter();
        let outcomes = Outcomes(cases.map(|case| (case, reports(&[1.0]))).collect());
        let criteria = outcomes.criteria();
        assert!(
            criteria
                .iter()
                .all(|criterion| criterion.ratio() == Some(1.0))
        );
    }

    /// Goal: a delay that is not there, or is where it must not be, ends the measurement. Method: both, and a report without the figure.
    #[test]
    fn a_delay_that_is_not_there_is_noticed() {
        let report = |added: u64| json!({"fdatasync_added_us": added});
        let case = Case::raw_log(64);
        assert!(check_delay(case, &report(0)).is_ok());
        assert!(check_delay(case, &report(1_060)).is_err());
        assert!(check_delay(case.slowed(), &report(1_060)).is_ok());
        assert!(check_delay(case.slowed(), &report(0)).is_err());
        assert!(check_delay(case.slowed(), &json!({})).is_err());
    }

    /// Goal: a case is started as it is described. Method: the arguments of one.
    #[test]
    fn arguments_of_a_case() {
        let text = arguments(Case::store("fjall", 1024), 9).join(" ");
        let expected = "--subject store --engine fjall --senders 1024 --warm-up 2 --seconds 9";
        assert_eq!(text, expected);
        assert!(!arguments(Case::raw_log(64), 9).contains(&"--engine".to_owned()));
    }
}
