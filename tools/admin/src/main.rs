//! `hsctl`: administers a homeserver through its admin API, and through nothing else.
//!
//! A command line is parsed ([`cli`]), its request is sent ([`connection`]), its answer is printed
//! ([`output`]); [`commands`] has one file a noun. What went wrong is a [`failure::Failure`], which
//! alone decides the exit code.
//!
//! Deliberately absent: any access to the homeserver's files, and any decision that the homeserver
//! does not make as well.

mod cli;
mod commands;
mod connection;
mod failure;
mod output;
mod values;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let arguments = cli::Arguments::parse();
    let format = arguments.format();
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("hsctl: the asynchronous runtime does not start: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(commands::run(arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.print(format);
            failure.exit_code()
        }
    }
}
