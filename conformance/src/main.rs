//! Holds a homeserver to the protocol's requirements, from outside.
//!
//! A fake peer with its own certificates, its own keys and its own encoder makes an agreement with the server
//! under test and then does what peers may and may not do. It shares no code with any server, so it
//! judges any of them.
//!
//! Exit status: 0 every MUST is met, 1 not so or the suite could not go on, 2 wrong usage.

mod agreement;
mod cases;
mod ceremony;
mod failure;
mod link;
mod mls;
mod organisation;
mod padding;
mod receipt;
mod report;
mod room;
mod served;
mod session;
mod transaction;
mod trials;
mod wire;

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::atomic::AtomicU64;

use clap::{Args, Parser, Subcommand};

use crate::cases::World;
use crate::ceremony::{CeremonyArguments, TargetArguments, agree};
use crate::failure::Result;
use crate::organisation::Organisation;
use crate::report::Report;
use crate::trials::TrialArguments;

#[derive(Parser)]
#[command(
    name = "conformance",
    version,
    about = "Holds a homeserver to the protocol's requirements"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make an agreement with the server under test, then try every case.
    Run(RunArguments),
    /// Connect as a stranger and print what comes back.
    Probe(TargetArguments),
    /// Make an agreement, then misbehave in one way under somebody's direction; for trials.
    Misbehave(TrialArguments),
}

#[derive(Args)]
struct RunArguments {
    #[command(flatten)]
    ceremony: CeremonyArguments,
    /// Where the server under test would reach the fake peer; nothing listens there.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:9")]
    endpoint: String,
    /// Print the report as one JSON object, the last line.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let command = Cli::parse().command;
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    let outcome = runtime.block_on(async {
        match command {
            Command::Run(arguments) => run(&arguments).await,
            Command::Probe(arguments) => probe(&arguments).await,
            Command::Misbehave(arguments) => trials::run(&arguments).await.map(|()| true),
        }
    });
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => failed(&failure),
    }
}

fn failed(error: &dyn std::error::Error) -> ExitCode {
    eprintln!("error: {error}");
    ExitCode::FAILURE
}

/// To standard output. Whoever closed it wants no answer: the exit status still tells.
fn say(answer: &serde_json::Value) {
    let _ = writeln!(std::io::stdout().lock(), "{answer}");
}

/// What a stranger sees.
async fn probe(arguments: &TargetArguments) -> Result<bool> {
    let stranger = Organisation::new("stranger.example")?;
    let seen = link::greet(&arguments.target(), Some(&stranger.tls)).await?;
    say(&serde_json::json!({
        "application_bytes": seen.application_bytes, "ended": seen.ended, "how": seen.how
    }));
    Ok(true)
}

async fn run(arguments: &RunArguments) -> Result<bool> {
    let peer = Organisation::new(&arguments.ceremony.peer)?;
    let server_keys = agree(&arguments.ceremony, &peer, &arguments.endpoint).await?;
    let world = World {
        target: arguments.ceremony.target.target(),
        peer,
        server_keys,
        next: AtomicU64::new(1),
        link_epoch: 2,
    };
    let report = Report::new(&world.target.server, cases::all(&world).await?);
    eprint!("{}", report.text());
    if arguments.json {
        say(&serde_json::json!(report));
    }
    Ok(report.failed == 0)
}
