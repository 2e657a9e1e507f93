//! The project's own commands, reached as `cargo xtask …` (and `cargo demo`).
//!
//! It depends on none of our crates: it builds and runs their binaries, so that what it shows is what
//! a user gets. Deliberately absent: anything that a release ships.
//!
//! Exit status: 0 all held, 1 something did not, 2 wrong usage.

mod bench;
mod ci;
mod conformance;
mod containers;
mod demo;
mod failure;
mod fuzz;
mod machine;
mod ports;
mod process;
mod test;
mod trial;
mod workspace;

use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    about = "The project's own commands",
    disable_help_subcommand = true
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Builds the homeserver and the tools, then runs the demonstration; arguments go to it.
    #[command(disable_help_flag = true)]
    Demo(PassedOn),
    /// Sets up what the tests need, then runs all of them, end to end too.
    Test(test::Options),
    /// What must hold before a change lands: formatting, lints, documentation, dependencies, tests.
    Ci(ci::Options),
    /// Runs an acceptance trial; its last line is one JSON object with the checks.
    Trial(trial::Options),
    /// Measures the homeserver under load; its last line is one JSON object with the figures.
    Bench(bench::Options),
    /// Builds the container images for real and passes the demonstration's checks against them.
    Containers(containers::Options),
    /// Holds a freshly started homeserver to the protocol's requirements.
    Conformance(conformance::Options),
    /// Runs every fuzz target for a while (needs a nightly toolchain).
    Fuzz(fuzz::Options),
}

#[derive(Args)]
struct PassedOn {
    /// Passed on unchanged.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Demo(passed_on) => demo::run(&passed_on.arguments),
        Command::Test(options) => test::run(&options),
        Command::Ci(options) => ci::run(&options),
        Command::Trial(options) => trial::run(&options),
        Command::Bench(options) => bench::run(&options),
        Command::Containers(options) => containers::run(&options),
        Command::Conformance(options) => conformance::run(&options),
        Command::Fuzz(options) => fuzz::run(&options),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::FAILURE
        }
    }
}
