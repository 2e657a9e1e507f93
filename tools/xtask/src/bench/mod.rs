//! `cargo xtask bench`: measures the homeserver under load.
//!
//! Two homeservers of the release profile on this machine, peers by agreement, with the load
//! generator beside them on the same cores; everything a user's message passes is in it: TLS to the
//! clients, mutual TLS between the homeservers, both durable before they answer. Its last line is
//! one JSON object with `figures`; the load generator's own report of every run is in `runs`.

mod machine;
mod organisation;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde_json::{Map, Value, json};

use self::organisation::{Organisation, peer};
use crate::failure::{self, Failure, Result};
use crate::process::{self, Run as _};
use crate::workspace::Workspace;

/// Binaries that the measurement starts.
const PACKAGES: [&str; 3] = ["homeserver", "hsctl", "load"];
/// Between the homeservers' start and reading their memory.
const SETTLE: Duration = Duration::from_secs(3);
/// Devices of one account that only holds idle connections.
const IDLE_DEVICES_PER_ACCOUNT: u32 = 100;

/// How to measure.
#[derive(Args)]
pub(crate) struct Options {
    /// Only this figure; may be repeated.
    #[arg(long, value_enum, value_name = "NAME")]
    only: Vec<Figure>,
    /// Seconds to measure in each run, after its warm-up [default: 25 to 60].
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
}

/// Seconds of each run unless `--seconds` says otherwise.
struct Lengths {
    window: u64,
    rate_100: u64,
    half: u64,
}

impl Options {
    fn wants(&self, figure: Figure) -> bool {
        self.only.is_empty() || self.only.contains(&figure)
    }

    fn lengths(&self) -> Lengths {
        Lengths {
            window: self.seconds.unwrap_or(25),
            rate_100: self.seconds.unwrap_or(30),
            half: self.seconds.unwrap_or(60),
        }
    }
}

/// Runs the measurement.
pub(crate) fn run(options: &Options) -> Result {
    let workspace = Workspace::find()?;
    let binaries = build(&workspace)?;
    let folder = scratch(&workspace)?;
    let outcome = measure(options, &binaries, folder.path());
    if options.keep {
        eprintln!("kept: {}", folder.keep().display());
    } else if outcome.is_err() {
        eprintln!("the homeservers' logs are gone with their folders; --keep keeps them");
    }
    let report = outcome?;
    if !options.json {
        show(&report);
    }
    process::say(&report.to_string());
    if *at(&report, "/ok") == true {
        Ok(())
    } else {
        Err(Failure::DidNotHold(
            "messages were lost, duplicated or refused: see `runs`".to_owned(),
        ))
    }
}

/// Builds as a release is built, and returns the folder of the binaries.
fn build(workspace: &Workspace) -> Result<PathBuf> {
    process::step("build the release profile", || {
        let mut build = workspace.cargo(["build", "--release"]);
        for package in PACKAGES {
            build.args(["--package", package]);
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

fn measure(options: &Options, binaries: &Path, folder: &Path) -> Result<Value> {
    let machine = machine::describe(folder)?;
    let pairs = usize::from(options.pairs);
    let (a, b) = process::step(
        "start two homeservers and let them make an agreement",
        || {
            let a = Organisation::start("a.example", binaries, &folder.join("a"))?;
            let b = Organisation::start("b.example", binaries, &folder.join("b"))?;
            peer(&a, &b, folder)?;
            Ok((a, b))
        },
    )?;
    let mut figures = Map::new();
    let mut runs = Vec::new();
    if options.wants(Figure::Idle) {
        thread::sleep(SETTLE);
        let resident_kib = (a.resident_kib()? + b.resident_kib()?) / 2;
        figures.insert("idle_server_rss_mib".to_owned(), mib(resident_kib));
    }
    let load = Load {
        program: binaries.join("load"),
        watch: [format!("a={}", a.pid()), format!("b={}", b.pid())],
        folder: folder.to_path_buf(),
    };
    if options.wants(Figure::Idle) {
        // Accounts of their own: a room takes in all devices of its accounts, and the messages of a
        // later run would wait for devices that are never there again.
        let report = process::step("idle connections", || {
            let devices_max = IDLE_DEVICES_PER_ACCOUNT.to_string();
            a.hsctl(&[
                "user-type",
                "set",
                "standard",
                "--devices-max",
                &devices_max,
            ])?;
            let accounts = options.idle.div_ceil(IDLE_DEVICES_PER_ACCOUNT);
            let accounts = usize::try_from(accounts).unwrap_or(usize::MAX);
            let inventory = inventory(&a, &b, "idle", accounts, folder)?;
            let idle = ["--idle".to_owned(), options.idle.to_string()];
            load.run("idle", &inventory, &idle)
        })?;
        figures.insert(
            "idle_connection_kib".to_owned(),
            at(&report, "/idle/processes/0/kib_per_connection").clone(),
        );
        runs.push(report);
    }
    let arguments = phases(options);
    if !arguments.is_empty() {
        let report = process::step("messages", || {
            let inventory = inventory(&a, &b, "messages", pairs, folder)?;
            load.run("messages", &inventory, &arguments)
        })?;
        message_figures(options, &report, &mut figures);
        runs.push(report);
    }
    let missing = missing(&figures);
    if !missing.is_empty() {
        return Err(Failure::DidNotHold(format!(
            "the load generator reports no {}",
            missing.join(", ")
        )));
    }
    let ok = runs.iter().all(|run| *at(run, "/ok") == true);
    Ok(json!({
        "figures": figures,
        "ok": ok,
        "work": "One message of 1 KiB of text, end-to-end encrypted (MLS), from a device of a.example \
            to a device of b.example: two homeserver processes, mutual TLS between them, TLS to the \
            clients, both durable (fdatasync) before they answer; the load generator on the same \
            cores. Messages are replays of ones that mls-rs made beforehand; receivers decrypt 1 % \
            live and check the SHA-256 of the rest. Latency counts from when a message was due to \
            when its receiver had it. CPU is both homeservers' together, from schedstat.",
        "pairs": pairs,
        "machine": machine,
        "runs": runs,
    }))
}

/// Makes `count` accounts of either organisation for one run; the file that tells the load generator.
fn inventory(
    a: &Organisation,
    b: &Organisation,
    run: &str,
    count: usize,
    folder: &Path,
) -> Result<PathBuf> {
    let mut sides = Map::new();
    for (side, organisation) in [("from", a), ("to", b)] {
        sides.insert(
            side.to_owned(),
            json!({
                "endpoint": organisation.client.to_string(),
                "root_sha256": organisation.root_sha256()?,
                "accounts": organisation.accounts(run, count)?,
            }),
        );
    }
    let path = folder.join(format!("inventory-{run}.json"));
    fs::write(&path, Value::Object(sides).to_string()).map_err(failure::at(&path))?;
    Ok(path)
}

/// The load generator's phases.
fn phases(options: &Options) -> Vec<String> {
    let lengths = options.lengths();
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

/// A figure that is not there is a failure, not a blank.
fn missing(figures: &Map<String, Value>) -> Vec<&str> {
    figures
        .iter()
        .filter_map(|(name, value)| value.is_null().then_some(name.as_str()))
        .collect()
}

struct Load {
    program: PathBuf,
    watch: [String; 2],
    folder: PathBuf,
}

impl Load {
    /// Runs the load generator; its report, also when messages went astray.
    fn run(&self, name: &str, inventory: &Path, arguments: &[String]) -> Result<Value> {
        let devices = self.folder.join(format!("devices-{name}"));
        fs::create_dir_all(&devices).map_err(failure::at(&devices))?;
        let mut command = Command::new(&self.program);
        command
            .arg("--json")
            .arg("--inventory")
            .arg(inventory)
            .arg("--folder")
            .arg(&devices)
            .args(arguments)
            .stdin(Stdio::null())
            .stderr(Stdio::inherit());
        for watch in &self.watch {
            command.args(["--watch", watch]);
        }
        let output = command.output().map_err(|source| Failure::Start {
            program: self.program.display().to_string(),
            source,
        })?;
        let text = String::from_utf8_lossy(&output.stdout);
        let last = text.lines().last().unwrap_or_default();
        serde_json::from_str(last).map_err(|_| Failure::Ended {
            command: format!("load {}", arguments.join(" ")),
            status: output.status.to_string(),
        })
    }
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

/// The part of a JSON value at this pointer; null where there is none.
fn at<'a>(value: &'a Value, pointer: &str) -> &'a Value {
    static NONE: Value = Value::Null;
    value.pointer(pointer).unwrap_or(&NONE)
}

fn mib(kib: u64) -> Value {
    // One decimal is as much as the figure is worth.
    json!(f64::from(u32::try_from(kib * 10 / 1024).unwrap_or(u32::MAX)) / 10.0)
}

fn show(report: &Value) {
    process::say(at(report, "/work").as_str().unwrap_or_default());
    process::say("");
    for part in ["/machine", "/figures"] {
        if let Some(entries) = at(report, part).as_object() {
            for (name, value) in entries {
                process::say(&format!("{name:<40} {value}"));
            }
        }
        process::say("");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(only: Vec<Figure>) -> Options {
        Options {
            only,
            seconds: None,
            pairs: 1,
            window: vec![16],
            idle: 1,
            keep: false,
            json: true,
        }
    }

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
