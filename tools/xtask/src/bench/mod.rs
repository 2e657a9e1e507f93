//! `cargo xtask bench`: measures the homeserver under load.
//!
//! Two homeservers of the release profile on this machine, peers by agreement, with the load
//! generator beside them on the same cores; everything a user's message passes is in it: TLS to the
//! clients, mutual TLS between the homeservers, both durable before they answer. The store by itself, and
//! what its commit log does to the whole path, are measured when they are named. The last line is one JSON
//! object with `figures`; the load generator's own report of every run is in `runs`.

mod machine;
mod messages;
mod organisation;
mod path;
mod rounds;
mod store;

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde_json::{Map, Value, json};

use self::rounds::Criterion;
use crate::failure::{self, Failure, Result};
use crate::process::{self, Run as _};
use crate::workspace::Workspace;

/// Binaries that the measurement of messages starts.
const PACKAGES: [&str; 3] = ["homeserver", "hsctl", "load"];

const WORK: &str = "One message of 1 KiB of text, end-to-end encrypted (MLS), from a device of a.example \
    to a device of b.example: two homeserver processes, mutual TLS between them, TLS to the \
    clients, both durable (fdatasync) before they answer; the load generator on the same \
    cores. Messages are replays of ones that mls-rs made beforehand; receivers decrypt 1 % \
    live and check the SHA-256 of the rest. Latency counts from when a message was due to \
    when its receiver had it. CPU is both homeservers' together, from schedstat.";

/// How to measure.
#[derive(Args)]
pub(crate) struct Options {
    /// Only this figure; may be repeated.
    #[arg(long, value_enum, value_name = "NAME")]
    only: Vec<Figure>,
    /// Seconds to measure in each run, after its warm-up [default: 25 to 60; 4 for `store`].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    seconds: Option<u64>,
    /// Pairs of devices, one of each homeserver.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pairs: u16,
    /// Messages in flight per pair; the best one is the saturation. May be repeated.
    #[arg(long, default_values_t = [16, 64], value_name = "N")]
    window: Vec<u32>,
    /// Idle connections.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..))]
    idle: u32,
    /// How often what `store` and `path` compare is measured in turn [default: 5 for `store`, 2 for `path`].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rounds: Option<u32>,
    /// Messages a second for `path`.
    #[arg(long, value_name = "N", default_value_t = 12_000, value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,
    /// Keep the homeservers' folders and logs, and say where they are.
    #[arg(long)]
    keep: bool,
    /// Print only the JSON object on standard output.
    #[arg(long)]
    json: bool,
}

/// What can be measured alone.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Figure {
    /// Messages delivered a second when as many are under way as the homeservers bear.
    Saturation,
    /// Latency at 100 messages a second.
    Rate100,
    /// Latency at half of the saturation, which is measured first.
    Half,
    /// Memory of idle homeservers and of idle connections.
    Idle,
    /// The store's commit path beside its engine by itself, and beside a plain log on a slower disk. Only when it is named.
    Store,
    /// Latency at a steady rate (`--rate`), with the store's commit log and without it. Only when it is named.
    Path,
}

/// What is measured unless `--only` says otherwise.
const OF_MESSAGES: [Figure; 4] = [
    Figure::Saturation,
    Figure::Rate100,
    Figure::Half,
    Figure::Idle,
];

impl Options {
    fn wants(&self, figure: Figure) -> bool {
        if self.only.is_empty() {
            OF_MESSAGES.contains(&figure)
        } else {
            self.only.contains(&figure)
        }
    }

    fn wants_messages(&self) -> bool {
        OF_MESSAGES.iter().any(|figure| self.wants(*figure))
    }

    /// The packages whose binaries are needed.
    fn packages(&self) -> Vec<&'static str> {
        let mut packages = Vec::new();
        if self.wants_messages() || self.wants(Figure::Path) {
            packages.extend(PACKAGES);
        }
        if self.wants(Figure::Store) {
            packages.push(store::PACKAGE);
        }
        packages
    }
}

/// What every measurement stands on.
struct Ground<'a> {
    /// The root of the sources.
    sources: &'a Path,
    /// The folder of the binaries.
    binaries: &'a Path,
    /// For everything that is made.
    folder: &'a Path,
}

/// What has come out so far.
#[derive(Default)]
struct Findings {
    figures: Map<String, Value>,
    /// The load generator's reports.
    runs: Vec<Value>,
    /// What belongs to one figure alone.
    details: Map<String, Value>,
    /// What was held to a bound.
    criteria: Vec<Criterion>,
}

impl Findings {
    /// What did not hold, in words.
    fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if self.runs.iter().any(|run| *at(run, "/ok") != true) {
            faults.push("messages were lost, duplicated or refused: see `runs`".to_owned());
        }
        let missed = self.criteria.iter().filter(|criterion| !criterion.holds());
        faults.extend(missed.map(Criterion::text));
        faults
    }

    /// The object that is printed.
    fn report(&self, options: &Options, machine: Value) -> Value {
        let criteria: Vec<Value> = self.criteria.iter().map(Criterion::report).collect();
        let mut report = Map::new();
        report.insert("figures".to_owned(), Value::Object(self.figures.clone()));
        report.insert("ok".to_owned(), json!(self.faults().is_empty()));
        report.insert("machine".to_owned(), machine);
        if options.wants_messages() || options.wants(Figure::Path) {
            report.insert("work".to_owned(), json!(WORK));
            report.insert("pairs".to_owned(), json!(options.pairs));
            report.insert("runs".to_owned(), json!(self.runs));
        }
        if !criteria.is_empty() {
            report.insert("criteria".to_owned(), Value::Array(criteria));
        }
        report.extend(self.details.clone());
        Value::Object(report)
    }
}

/// Runs the measurement.
pub(crate) fn run(options: &Options) -> Result {
    let workspace = Workspace::find()?;
    let binaries = build(&workspace, &options.packages())?;
    let folder = scratch(&workspace)?;
    let ground = Ground {
        sources: &workspace.root,
        binaries: &binaries,
        folder: folder.path(),
    };
    let outcome = machine::describe(ground.folder)
        .and_then(|machine| Ok((machine, measure(options, &ground)?)));
    if options.keep {
        eprintln!("kept: {}", folder.keep().display());
    } else if outcome.is_err() {
        eprintln!("the homeservers' logs are gone with their folders; --keep keeps them");
    }
    let (machine, findings) = outcome?;
    let report = findings.report(options, machine);
    if !options.json {
        show(&report, &findings.criteria);
    }
    process::say(&report.to_string());
    let faults = findings.faults();
    if faults.is_empty() {
        Ok(())
    } else {
        Err(Failure::DidNotHold(faults.join("; ")))
    }
}

/// Builds as a release is built, and returns the folder of the binaries.
fn build(workspace: &Workspace, packages: &[&str]) -> Result<PathBuf> {
    process::step("build the release profile", || {
        let mut build = workspace.cargo(["build", "--release"]);
        for package in packages {
            build.arg("--package").arg(package);
        }
        build.shown()
    })?;
    Ok(workspace.target.join("release"))
}

/// A folder under cargo's target folder: on a disk, where `/tmp` may be memory.
fn scratch(workspace: &Workspace) -> Result<tempfile::TempDir> {
    tempfile::Builder::new()
        .prefix("bench-")
        .tempdir_in(&workspace.target)
        .map_err(failure::at(&workspace.target))
}

fn measure(options: &Options, ground: &Ground<'_>) -> Result<Findings> {
    let mut findings = Findings::default();
    if options.wants(Figure::Store) {
        store::measure(options, ground, &mut findings)?;
    }
    if options.wants_messages() {
        messages::measure(options, ground, &mut findings)?;
    }
    if options.wants(Figure::Path) {
        path::measure(options, ground, &mut findings)?;
    }
    let missing = missing(&findings.figures);
    if !missing.is_empty() {
        return Err(Failure::DidNotHold(format!(
            "what was measured reports no {}",
            missing.join(", ")
        )));
    }
    Ok(findings)
}

/// A figure that is not there is a failure, not a blank.
fn missing(figures: &Map<String, Value>) -> Vec<&str> {
    figures
        .iter()
        .filter_map(|(name, value)| value.is_null().then_some(name.as_str()))
        .collect()
}

/// The part of a JSON value at this pointer; null where there is none.
fn at<'a>(value: &'a Value, pointer: &str) -> &'a Value {
    static NONE: Value = Value::Null;
    value.pointer(pointer).unwrap_or(&NONE)
}

fn show(report: &Value, criteria: &[Criterion]) {
    for work in ["/work", "/store/work"] {
        if let Some(work) = at(report, work).as_str() {
            process::say(work);
            process::say("");
        }
    }
    for part in ["/machine", "/figures"] {
        if let Some(entries) = at(report, part).as_object() {
            for (name, value) in entries {
                process::say(&format!("{name:<40} {value}"));
            }
        }
        process::say("");
    }
    for criterion in criteria {
        process::say(&criterion.text());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn options(only: Vec<Figure>) -> Options {
        Options {
            only,
            seconds: None,
            pairs: 1,
            window: vec![16],
            idle: 1,
            rounds: None,
            rate: 12_000,
            keep: false,
            json: true,
        }
    }

    /// Goal: what takes long is measured only when it is named, and only what is needed is built. Method: some choices.
    #[test]
    fn what_is_measured() {
        let all = options(Vec::new());
        assert!(all.wants(Figure::Idle) && all.wants_messages());
        assert!(!all.wants(Figure::Store) && !all.wants(Figure::Path));
        assert_eq!(all.packages(), PACKAGES);
        let store = options(vec![Figure::Store]);
        assert!(store.wants(Figure::Store) && !store.wants_messages());
        assert_eq!(store.packages(), [store::PACKAGE]);
        assert_eq!(options(vec![Figure::Path]).packages(), PACKAGES);
    }

    /// Goal: a lost message and a missed bound each make the whole not ok, and say so. Method: findings with neither, and with each.
    #[test]
    fn what_does_not_hold_is_told() {
        let criterion = |ratio: f64| Criterion {
            what: "one to another".to_owned(),
            ratios: Some(vec![ratio]),
            at_least: 0.75,
        };
        let options = options(vec![Figure::Store, Figure::Path]);
        let mut findings = Findings {
            runs: vec![json!({"ok": true})],
            criteria: vec![criterion(0.8)],
            ..Findings::default()
        };
        assert_eq!(findings.report(&options, Value::Null)["ok"], json!(true));
        findings.criteria.push(criterion(0.7));
        assert_eq!(findings.faults().len(), 1);
        findings.runs.push(json!({"ok": false}));
        assert_eq!(findings.faults().len(), 2);
        let report = findings.report(&options, Value::Null);
        assert_eq!(report["ok"], json!(false));
        assert_eq!(report["criteria"][1]["ratio"], json!(0.7));
        assert_eq!(report["runs"][1]["ok"], json!(false));
    }
}
