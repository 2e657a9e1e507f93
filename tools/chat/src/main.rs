//! `chat`: an end-user client in the terminal.
//!
//! A thin layer over the client library: commands read arguments, call the library and print. What
//! other people wrote is printed with control characters made visible, so that no message can drive
//! the reader's terminal. Every command takes `--json` and then prints one object per line.
//!
//! Deliberately absent: any state of its own. Keys, messages and what waits to be sent are in the
//! library's encrypted store.
//!
//! Exit status: 0 done, 1 not done (the sentence says why), 2 wrong usage, 75 not now: what was
//! asked may work later, and a message that was taken in goes out later by itself.

mod cli;
mod commands;
mod device;
mod failure;
mod place;
mod show;
mod talk;

use std::process::ExitCode;

use clap::Parser as _;

use crate::cli::Cli;
use crate::show::clock::LocalClock;
use crate::show::output::Output;

fn main() -> ExitCode {
    let cli = Cli::parse();
    // Before any thread starts: the local time zone can be read safely only then.
    let output = Output::new(cli.common.json, LocalClock::new());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    let outcome = match runtime {
        Ok(runtime) => {
            let outcome = runtime.block_on(commands::run(cli, &output));
            // A thread that waits for the keyboard can't be told to stop.
            runtime.shutdown_background();
            outcome
        }
        Err(error) => Err(failure::Failure::new(
            "system",
            format!("can't start: {error}"),
        )),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output.failure(&failure);
            failure.exit_code()
        }
    }
}
