//! The demonstration behind `cargo demo`: three organisations on one machine, what works, what must
//! fail, and what survives.
//!
//! It uses what users have and nothing else: the binaries `homeserver` and `hsctl`, and the client
//! library. Every message is written to a [`record`] before it is sent and again when the
//! receiving client shows it; the verdict is computed from that record alone.
//!
//! Deliberately absent: any access to a homeserver's files other than its log, and any retry of
//! something that should have worked.

mod arguments;
mod display;
mod failure;
mod homeserver;
mod hsctl;
mod person;
mod ports;
mod record;
mod show;
mod summary;

use std::process::ExitCode;

use clap::Parser;

use crate::arguments::Arguments;
use crate::display::Display;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("the demonstration can't start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let display = Display::new();
    match runtime.block_on(show::run(&arguments, &display)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            display.failed(&failure);
            ExitCode::FAILURE
        }
    }
}
