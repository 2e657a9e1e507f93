//! What is measured of messages: between two homeservers, by the load generator beside them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::organisation::{Organisation, peer};
use super::{Figure, Findings, Ground, Options, at};
use crate::failure::{self, Failure, Result};
use crate::process;

/// Between the homeservers' start and reading their memory.
const SETTLE: Duration = Duration::from_secs(3);
/// Devices of one account that only holds idle connections.
const IDLE_DEVICES_PER_ACCOUNT: u32 = 100;

/// Seconds of each run unless `--seconds` says otherwise.
struct Lengths {
    window: u64,
    rate_100: u64,
    half: u64,
}

impl Lengths {
    fn of(options: &Options) -> Self {
        Self {
            window: options.seconds.unwrap_or(25),
            rate_100: options.seconds.unwrap_or(30),
            half: options.seconds.unwrap_or(60),
        }
    }
}

/// Measures what is wanted of saturation, latencies and memory.
pub(super) fn measure(options: &Options, ground: &Ground<'_>, findings: &mut Findings) -> Result {
    let pair = process::step(
        "start two homeservers and let them make an agreement",
        || Pair::start(ground.binaries, ground.folder, true),
    )?;
    if options.wants(Figure::Idle) {
        idle(options, &pair, findings)?;
    }
    let arguments = phases(options);
    if !arguments.is_empty() {
        let report = process::step("messages", || {
            pair.load("messages", usize::from(options.pairs), &arguments)
        })?;
        message_figures(options, &report, &mut findings.figures);
        findings.runs.push(report);
    }
    Ok(())
}

fn idle(options: &Options, pair: &Pair, findings: &mut Findings) -> Result {
    thread::sleep(SETTLE);
    let resident_kib = (pair.a.resident_kib()? + pair.b.resident_kib()?) / 2;
    findings
        .figures
        .insert("idle_server_rss_mib".to_owned(), mib(resident_kib));
    // Accounts of their own: a room takes in all devices of its accounts, and the messages of a
    // later run would wait for devices that are never there again.
    let report = process::step("idle connections", || {
        let devices_max = IDLE_DEVICES_PER_ACCOUNT.to_string();
        pair.a.hsctl(&[
            "user-type",
            "set",
            "standard",
            "--devices-max",
            &devices_max,
        ])?;
        let accounts = options.idle.div_ceil(IDLE_DEVICES_PER_ACCOUNT);
        let accounts = usize::try_from(accounts).unwrap_or(usize::MAX);
        let idle = ["--idle".to_owned(), options.idle.to_string()];
        pair.load("idle", accounts, &idle)
    })?;
    findings.figures.insert(
        "idle_connection_kib".to_owned(),
        at(&report, "/idle/processes/0/kib_per_connection").clone(),
    );
    findings.runs.push(report);
    Ok(())
}

/// Two homeservers that have an agreement, and the load generator.
pub(super) struct Pair {
    a: Organisation,
    b: Organisation,
    load: PathBuf,
    folder: PathBuf,
}

impl Pair {
    /// Starts them in `folder`, with a commit log or without one.
    pub(super) fn start(binaries: &Path, folder: &Path, commit_log: bool) -> Result<Self> {
        let start =
            |name, folder: PathBuf| Organisation::start(name, binaries, &folder, commit_log);
        let a = start("a.example", folder.join("a"))?;
        let b = start("b.example", folder.join("b"))?;
        peer(&a, &b, folder)?;
        Ok(Self {
            a,
            b,
            load: binaries.join("load"),
            folder: folder.to_path_buf(),
        })
    }

    /// Runs the load generator with `accounts` new accounts of either organisation; its report, also when messages went
    /// astray.
    pub(super) fn load(&self, run: &str, accounts: usize, arguments: &[String]) -> Result<Value> {
        let inventory = self.inventory(run, accounts)?;
        let devices = self.folder.join(format!("devices-{run}"));
        fs::create_dir_all(&devices).map_err(failure::at(&devices))?;
        let mut command = Command::new(&self.load);
        command
            .arg("--json")
            .arg("--inventory")
            .arg(&inventory)
            .arg("--folder")
            .arg(&devices)
            .args(arguments)
            .args(["--watch", &format!("a={}", self.a.pid())])
            .args(["--watch", &format!("b={}", self.b.pid())])
            .stdin(Stdio::null())
            .stderr(Stdio::inherit());
        let output = command.output().map_err(|source| Failure::Start {
            program: self.load.display().to_string(),
            source,
        })?;
        let text = String::from_utf8_lossy(&output.stdout);
        let last = text.lines().last().unwrap_or_default();
        serde_json::from_str(last).map_err(|_| Failure::Ended {
            command: format!("load {}", arguments.join(" ")),
            status: output.status.to_string(),
        })
    }

    /// Makes the accounts for one run; the file that tells the load generator.
    fn inventory(&self, run: &str, accounts: usize) -> Result<PathBuf> {
        let mut sides = Map::new();
        for (side, organisation) in [("from", &self.a), ("to", &self.b)] {
            sides.insert(
                side.to_owned(),
                json!({
                    "endpoint": organisation.client.to_string(),
                    "root_sha256": organisation.root_sha256()?,
                    "accounts": organisation.accounts(run, accounts)?,
                }),
            );
        }
        let path = self.folder.join(format!("inventory-{run}.json"));
        fs::write(&path, Value::Object(sides).to_string()).map_err(failure::at(&path))?;
        Ok(path)
    }
}

/// The load generator's phases.
fn phases(options: &Options) -> Vec<String> {
    let lengths = Lengths::of(options);
    let mut arguments = vec!["--pairs".to_owned(), options.pairs.to_string()];
    let none = arguments.len();
    if options.wants(Figure::Saturation) || options.wants(Figure::Half) {
        for window in &options.window {
            arguments.push("--window".to_owned());
            arguments.push(format!("{window}@{}", lengths.window));
        }
    }
    if options.wants(Figure::Rate100) {
        arguments.push("--rate".to_owned());
        arguments.push(format!("100@{}", lengths.rate_100));
    }
    if options.wants(Figure::Half) {
        arguments.push("--rate".to_owned());
        arguments.push(format!("50%@{}", lengths.half));
    }
    if arguments.len() == none {
        arguments.clear();
    }
    arguments
}

/// The open loops in the order in which [`phases`] asks for them.
fn open_loops(options: &Options) -> Vec<&'static str> {
    [
        (Figure::Rate100, "100_per_s"),
        (Figure::Half, "half_saturation"),
    ]
    .into_iter()
    .filter_map(|(figure, which)| options.wants(figure).then_some(which))
    .collect()
}

fn message_figures(options: &Options, report: &Value, figures: &mut Map<String, Value>) {
    let no_phases = Vec::new();
    let phases = at(report, "/phases").as_array().unwrap_or(&no_phases);
    let rate = |phase: &Value| at(phase, "/delivered_per_s").as_f64().unwrap_or(0.0);
    let closed = phases
        .iter()
        .filter(|phase| *at(phase, "/kind") == "closed");
    let mut put = |name: &str, value: &Value| figures.insert(name.to_owned(), value.clone());
    if let Some(best) = closed.max_by(|left, right| rate(left).total_cmp(&rate(right))) {
        put("saturation_msg_per_s", &json!(rate(best).round()));
        put("saturation_window", at(best, "/window"));
        put("saturation_p99_ms", at(best, "/delivery/p99_ms"));
        put(
            "server_cpu_s_per_10k_at_saturation",
            at(best, "/watched_cpu_seconds_per_10k"),
        );
        put("load_cpu_s_per_10k_at_saturation", &load_cpu(best));
    }
    // Open loops are told apart by their place: half of the saturation may be 100 messages a second too.
    let open = phases.iter().filter(|phase| *at(phase, "/kind") == "open");
    for (phase, which) in open.zip(open_loops(options)) {
        if which == "half_saturation" {
            put("half_saturation_msg_per_s", at(phase, "/rate"));
        }
        put(&format!("p50_ms_at_{which}"), at(phase, "/delivery/p50_ms"));
        put(&format!("p99_ms_at_{which}"), at(phase, "/delivery/p99_ms"));
        put(
            &format!("server_cpu_s_per_10k_at_{which}"),
            at(phase, "/watched_cpu_seconds_per_10k"),
        );
    }
}

fn load_cpu(phase: &Value) -> Value {
    let own = at(phase, "/processes").as_array().and_then(|processes| {
        processes
            .iter()
            .find(|process| *at(process, "/watched") == false)
    });
    own.map_or(Value::Null, |own| at(own, "/cpu_seconds_per_10k").clone())
}

fn mib(kib: u64) -> Value {
    // One decimal is as much as the figure is worth.
    json!(f64::from(u32::try_from(kib * 10 / 1024).unwrap_or(u32::MAX)) / 10.0)
}

#[cfg(test)]
mod tests {
    use super::super::missing;
    use super::super::tests::options;
    use super::*;

    /// Goal: a half of the saturation that happens to be 100 a second is not taken for the other loop.
    /// Method: a report with both at the same rate.
    #[test]
    fn open_loops_are_told_apart_by_place() {
        let open = |p50: u64| json!({"kind": "open", "rate": 100, "delivery": {"p50_ms": p50}});
        let report = json!({"phases": [{"kind": "closed"}, open(1), open(2)]});
        let mut figures = Map::new();
        message_figures(&options(Vec::new()), &report, &mut figures);
        assert_eq!(figures["p50_ms_at_100_per_s"], 1);
        assert_eq!(figures["p50_ms_at_half_saturation"], 2);
        assert!(missing(&figures).contains(&"p99_ms_at_half_saturation"));
    }
}
