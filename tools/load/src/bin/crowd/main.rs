//! `crowd`: hundreds of devices of several organisations in one room, and whether all of them see the same.
//!
//! Every device is a whole client: its store, its session, MLS for itself. The room grows while people write; in each round somebody commits
//! and others write. At the middle one organisation is cut off and, some rounds later, let in again: who started this program
//! does that when it prints `cut` and `heal`, and answers each with a line.
//!
//! What every device was shown is held to what was written: lost, shown twice, out of its writer's order, from before the device joined.
//!
//! Exit status: 0 all devices saw what they should, 1 not so or the run failed, 2 wrong usage.

mod inventory;
mod people;
mod record;
mod script;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use serde::Serialize;

use crate::inventory::Inventory;
use crate::people::Device;
use crate::record::{Record, Verdict};
use crate::script::Script;

/// Fills a room with devices of several organisations and holds what each is shown to what was written.
#[derive(Parser)]
#[command(name = "crowd", version)]
struct Cli {
    /// JSON file that names the homeservers, their roots and accounts; one device is enrolled for each account.
    #[arg(long, value_name = "FILE")]
    inventory: PathBuf,
    /// Empty folder for the devices' stores; best on a file system in memory.
    #[arg(long, value_name = "DIR")]
    folder: PathBuf,
    /// Commits, one in each round: the room's making, additions, roles and names.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(20..=10_000))]
    commits: u32,
    /// Messages, spread over the rounds.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(100..=1_000_000))]
    messages: u32,
    /// Rounds for which the last organisation is cut off, in the middle; 0: it never is.
    #[arg(long, default_value_t = 20)]
    cut: u32,
    /// Seconds that one round, or the end, may take.
    #[arg(long, default_value_t = 1_800, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    patience: u64,
}

/// What is printed at the end.
#[derive(Serialize)]
struct Report {
    devices: usize,
    organisations: usize,
    epochs: u64,
    seconds: u64,
    #[serde(flatten)]
    verdict: Verdict,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        // Each device works on its store in one of these; more at once than there are cores gain nothing.
        .max_blocking_threads(8)
        .enable_all()
        .build()
        .map_err(|error| format!("can't start: {error}"))
        .and_then(|runtime| runtime.block_on(run(&cli)));
    let printed = outcome.and_then(|report| {
        let line = serde_json::to_string(&report).map_err(|error| error.to_string())?;
        say(&line);
        Ok(report.verdict.holds())
    });
    match printed {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(sentence) => {
            eprintln!("error: {sentence}");
            ExitCode::FAILURE
        }
    }
}

async fn run(cli: &Cli) -> Result<Report, String> {
    let inventory = Inventory::read(&cli.inventory)?;
    let patience = Duration::from_secs(cli.patience);
    let devices = people::enrol(&inventory, &cli.folder).await?;
    let record = Arc::new(Record::new(&devices));
    let begun = tokio::time::Instant::now();
    let script = Script::new(
        devices.iter().map(Device::organisation).collect(),
        (cli.commits, cli.messages, cli.cut),
    )?;
    let epochs = script.play(&devices, &record, patience).await?;
    let seconds = begun.elapsed().as_secs();
    let verdict = record.judge();
    for device in devices {
        device.close().await;
    }
    Ok(Report {
        devices: record.devices(),
        organisations: inventory.organisations.len(),
        epochs,
        seconds,
        verdict,
    })
}

/// A line for who started this program; whoever closed the pipe wants none.
pub(crate) fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}
