//! `store-load`: what a store carries: through its commit path, its engine by itself, or a plain log in its place.
//!
//! All three do the same work (see `rows`) for the same number of senders, and are told apart by what is between: `store`
//! is the homeserver's own commit path, with its queue and its group commits; `engine` is the engine, given full batches by
//! one thread; `raw-log` is a file that batches are appended to, with no index and no preconditions, which is as much as the
//! disk takes. One run measures one of them, in an empty folder; who compares starts several in turn.
//!
//! Deliberately absent: deleting what was written, for the store is measured while it fills; and sealing it, which is done
//! before a message is queued and gives all three other work.
//!
//! Exit status: 0 measured, 1 not so, 2 wrong usage.

mod bare;
mod counts;
mod disk;
mod engine;
mod raw_log;
mod rows;
mod senders;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use homeserver::store::Store;
use serde::Serialize;

use crate::counts::{Counts, Measured, Times};
use crate::engine::EngineName;
use crate::raw_log::RawLog;
use crate::senders::Carrier;

/// Measures how many transactions a second are durable.
#[derive(Parser)]
#[command(name = "store-load", version)]
struct Cli {
    /// What carries them.
    #[arg(long, value_enum)]
    subject: Subject,
    /// On which engine; a plain log has none.
    #[arg(long, value_enum, default_value_t = EngineName::FjallLog)]
    engine: EngineName,
    /// Empty folder, on the disk that is measured.
    #[arg(long, value_name = "DIR")]
    folder: PathBuf,
    /// Devices that send, each its next message when the one before is durable; so many are under way.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..))]
    senders: u16,
    /// Seconds to measure.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// Seconds before that.
    #[arg(long, default_value_t = 2)]
    warm_up: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Subject {
    /// The homeserver's commit path on the engine.
    Store,
    /// The engine by itself: batches of as many transactions as there are senders, no more than the commit path's.
    Engine,
    /// A plain log: what the disk takes.
    RawLog,
}

/// What came out: one JSON object.
#[derive(Serialize)]
struct Report {
    transactions_per_s: f64,
    mib_per_s: f64,
    transactions_per_batch: f64,
    /// Keys and values of one transaction.
    transaction_bytes: usize,
    transactions: u64,
    batches: u64,
    seconds: f64,
    /// What an fdatasync took before, and how much of that something adds that was loaded into this process.
    fdatasync_p50_us: u64,
    fdatasync_added_us: u64,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    // One thread, as a homeserver has unless it is configured otherwise; the store's writer has its own.
    let outcome = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("can't start: {error}"))
        .and_then(|runtime| runtime.block_on(measure(&cli)))
        .and_then(|report| serde_json::to_string(&report).map_err(|error| error.to_string()));
    match outcome {
        Ok(line) => {
            // Whoever closed it wants no report: the exit status still tells.
            let _ = writeln!(std::io::stdout().lock(), "{line}");
            ExitCode::SUCCESS
        }
        Err(sentence) => {
            eprintln!("error: {sentence}");
            ExitCode::FAILURE
        }
    }
}

async fn measure(cli: &Cli) -> Result<Report, String> {
    let disk = (disk::fdatasync_us(&cli.folder)?, disk::added_us()?);
    let counts = Arc::new(Counts::default());
    let senders = rows::senders(cli.senders);
    let times = Times {
        warm_up: Duration::from_secs(cli.warm_up),
        measured: Duration::from_secs(cli.seconds),
    };
    let measured = match cli.subject {
        Subject::Store => {
            let engine = cli.engine.open(&cli.folder, &counts)?;
            let store = Store::new(engine).map_err(|error| error.to_string())?;
            senders::drive(&Carrier::Store(store), senders, times, &counts).await?
        }
        Subject::Engine => {
            let engine = cli.engine.open(&cli.folder, &counts)?;
            bare::drive(engine, senders, times, &counts).await?
        }
        Subject::RawLog => {
            let log = RawLog::start(&cli.folder, Arc::clone(&counts))?;
            senders::drive(&Carrier::RawLog(log), senders, times, &counts).await?
        }
    };
    report(measured, rows::transaction_bytes(), disk)
}

fn report(
    measured: Measured,
    transaction_bytes: usize,
    (fdatasync_p50_us, fdatasync_added_us): (u64, u64),
) -> Result<Report, String> {
    let Measured {
        seconds,
        transactions,
        batches,
    } = measured;
    if transactions == 0 || batches == 0 {
        return Err("nothing became durable in the measured time".to_owned());
    }
    let transactions_per_s = float(transactions) / seconds;
    let bytes = u64::try_from(transaction_bytes).unwrap_or(u64::MAX);
    Ok(Report {
        transactions_per_s,
        mib_per_s: transactions_per_s * float(bytes) / (1024.0 * 1024.0),
        transactions_per_batch: float(transactions) / float(batches),
        transaction_bytes,
        transactions,
        batches,
        seconds,
        fdatasync_p50_us,
        fdatasync_added_us,
    })
}

/// A count as a floating-point number: counts of a run are far below 2^32.
fn float(count: u64) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: rates are of the measured seconds, and a run in which nothing happened is no result. Method: made-up counts.
    #[test]
    fn rates() {
        let measured = |transactions, batches| Measured {
            seconds: 2.0,
            transactions,
            batches,
        };
        let report = report(measured(1_000, 50), 1024 * 1024, (7, 0)).unwrap();
        assert!((report.transactions_per_s - 500.0).abs() < 1e-9);
        assert!((report.mib_per_s - 500.0).abs() < 1e-9);
        assert!((report.transactions_per_batch - 20.0).abs() < 1e-9);
        assert!(super::report(measured(0, 0), 1, (7, 0)).is_err());
    }
}
