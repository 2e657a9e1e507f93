//! `load`: many devices in one process, against two homeservers that are peers.
//!
//! Closed loop (`--window`) finds out how much they carry; open loop (`--rate`) how long a message
//! takes at a given rate, whatever the homeservers do; `--idle` what an open session costs. The
//! devices are real: TLS, the session protocol, messages that mls-rs encrypted. Most messages are
//! replays of a pool made beforehand, because encrypting and decrypting would otherwise be most of
//! the work measured; one in a hundred is encrypted and decrypted live, the others are recognised by
//! their SHA-256. Every message is accounted for: lost, duplicated and out of order.
//!
//! Deliberately absent: starting homeservers and making accounts (`cargo xtask bench` does both).
//!
//! Exit status: 0 every message arrived once and in order, 1 not so or the run failed, 2 wrong usage.

mod clock;
mod idle;
mod inventory;
mod latency;
mod ledger;
mod pacer;
mod pair;
mod phase;
mod prepare;
mod process;
mod progress;
mod reflector;
mod report;
mod run;
mod schedule;
mod shard;
mod tally;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

use crate::inventory::Inventory;
use crate::phase::{Rate, Timed, parse_rate, parse_window};
use crate::process::Watched;
use crate::progress::Progress;
use crate::reflector::Reflector;
use crate::report::{IdleReport, Report};
use crate::run::{Kind, Run, Timing};

/// Loads two homeservers and measures them.
///
/// Phases run in this order: --idle, every --window, every --rate.
#[derive(Parser)]
#[command(name = "load", version, after_help = EXIT_STATUS)]
struct Cli {
    /// JSON file that names both homeservers, their roots and accounts.
    #[arg(long, value_name = "FILE", required_unless_present = "ceiling")]
    inventory: Option<PathBuf>,
    /// Empty folder for the devices' stores.
    #[arg(long, value_name = "DIR", required_unless_present = "ceiling")]
    folder: Option<PathBuf>,
    /// Measure the generator itself, against a stand-in in this process that does nothing: no figure
    /// above this one can be believed.
    #[arg(long, conflicts_with_all = ["inventory", "folder", "idle"])]
    ceiling: bool,
    /// Pairs: a sender of one homeserver, a receiver of the other, a room.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..))]
    pairs: u16,
    /// Closed loop: messages in flight per pair. Repeat for several phases.
    #[arg(long, value_name = "N[@SECONDS]", value_parser = parse_window)]
    window: Vec<Timed<u64>>,
    /// Open loop: messages a second over all pairs, or percent of the best closed loop. Repeat for
    /// several phases.
    #[arg(long, value_name = "R|P%[@SECONDS]", value_parser = parse_rate)]
    rate: Vec<Timed<Rate>>,
    /// Idle connections to hold, to the senders' homeserver.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    idle: Option<u32>,
    /// Seconds to measure in each phase that does not say otherwise.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// Seconds of load before each phase's measurement begins.
    #[arg(long, default_value_t = 3)]
    warm_up: u64,
    /// Seconds to wait, after a phase, for what is under way.
    #[arg(long, default_value_t = 30)]
    drain: u64,
    /// Threads that run the pairs.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    threads: u16,
    /// Process whose CPU and memory are read, such as a=1234. Repeat for several.
    #[arg(long, value_name = "NAME=PID")]
    watch: Vec<Watched>,
    /// Print one JSON object as the last line instead of text.
    #[arg(long)]
    json: bool,
}

const EXIT_STATUS: &str = "Exit status: 0 every message arrived once and in order, \
    1 not so or the run failed, 2 wrong usage.";

/// To standard output. Whoever closed it wants no report: the exit status still tells.
fn say(text: &str) {
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| format!("can't start: {error}"))
        .and_then(|runtime| runtime.block_on(measure(&cli)));
    match outcome {
        Ok(report) => {
            if cli.json {
                match serde_json::to_string(&report) {
                    Ok(line) => say(&format!("{line}\n")),
                    Err(error) => return failed(&error.to_string()),
                }
            } else {
                say(&report.text());
            }
            if report.ok {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
        Err(sentence) => failed(&sentence),
    }
}

fn failed(sentence: &str) -> ExitCode {
    eprintln!("error: {sentence}");
    ExitCode::FAILURE
}

async fn measure(cli: &Cli) -> Result<Report, String> {
    if cli.idle.is_none() && cli.window.is_empty() && cli.rate.is_empty() {
        return Err("nothing to do: give --window, --rate or --idle".to_owned());
    }
    let progress = Progress::new();
    let target = match (&cli.inventory, &cli.folder) {
        (Some(inventory), Some(folder)) => Target::Homeservers {
            inventory: Inventory::read(inventory)?,
            folder: folder.clone(),
        },
        _ => Target::Reflector(Reflector::start(None).map_err(|error| error.to_string())?),
    };
    let idle = match (cli.idle, &target) {
        (Some(count), Target::Homeservers { inventory, folder }) => {
            Some(hold_idle(cli, inventory, folder, count, &progress).await?)
        }
        _ => None,
    };
    let mut report = Report {
        ok: true,
        work: match target {
            Target::Homeservers { .. } => WORK,
            Target::Reflector(_) => CEILING,
        }
        .to_owned(),
        pairs: 0,
        message_bytes: None,
        idle,
        phases: Vec::new(),
    };
    if !(cli.window.is_empty() && cli.rate.is_empty()) {
        run_phases(cli, &target, &progress, &mut report).await?;
    }
    progress.finish();
    report.ok = report.phases.iter().all(report::PhaseReport::ok);
    Ok(report)
}

const WORK: &str = "One 1 KiB end-to-end encrypted message from a device of one homeserver to a \
    device of the other, over TLS and the session protocol on both sides; latency from when it was \
    due to when its receiver had it.";

const CEILING: &str = "The generator's own ceiling: the same work without homeservers, against a \
    stand-in that accepts everything and passes it on at once.";

/// What is measured.
enum Target {
    Homeservers {
        inventory: Inventory,
        folder: PathBuf,
    },
    Reflector(Reflector),
}

async fn hold_idle(
    cli: &Cli,
    inventory: &Inventory,
    folder: &Path,
    count: u32,
    progress: &Progress,
) -> Result<IdleReport, String> {
    let count = usize::try_from(count).map_err(|error| error.to_string())?;
    progress.count("enrolling idle devices", count);
    let devices = prepare::idle_devices(&inventory.from, count, folder, || {
        progress.one_done();
    })
    .await?;
    progress.count("opening idle sessions", count);
    idle::measure(
        devices,
        &cli.watch,
        Duration::from_secs(cli.warm_up),
        || {
            progress.one_done();
        },
    )
    .await
}

async fn run_phases(
    cli: &Cli,
    target: &Target,
    progress: &Progress,
    report: &mut Report,
) -> Result<(), String> {
    let pairs = usize::from(cli.pairs);
    progress.count("preparing pairs", pairs);
    let prepared = match target {
        Target::Homeservers { inventory, folder } => {
            prepare::pairs(inventory, pairs, folder, || progress.one_done()).await?
        }
        Target::Reflector(reflector) => reflector.pairs(pairs)?,
    };
    report.pairs = pairs;
    report.message_bytes = prepared
        .first()
        .and_then(|pair| pair.pool.first())
        .map(bytes::Bytes::len);
    let run = Run::start(prepared, usize::from(cli.threads), cli.watch.clone()).await?;
    let timing = |measured| Timing {
        warm_up: Duration::from_secs(cli.warm_up),
        measured,
        drain: Duration::from_secs(cli.drain),
    };
    for window in &cli.window {
        let kind = Kind::Closed {
            window: window.value,
        };
        let timing = timing(window.measured(cli.seconds));
        report.phases.push(run.phase(kind, timing, progress).await?);
    }
    for rate in &cli.rate {
        let kind = Kind::Open {
            rate: per_second(rate.value, report)?,
        };
        let timing = timing(rate.measured(cli.seconds));
        report.phases.push(run.phase(kind, timing, progress).await?);
    }
    Ok(())
}

/// A rate in messages a second; a percentage is of the best closed loop so far.
fn per_second(rate: Rate, report: &Report) -> Result<u64, String> {
    match rate {
        Rate::PerSecond(rate) => Ok(rate),
        Rate::Percent(percent) => {
            let best = report
                .phases
                .iter()
                .map(|phase| phase.delivered_per_s)
                .reduce(f64::max)
                .ok_or("a rate in percent needs a closed loop before it: give --window too")?;
            let rate = format!("{:.0}", best * latency::float(percent) / 100.0);
            rate.parse().map_err(|_| format!("{rate} is not a rate"))
        }
    }
}
