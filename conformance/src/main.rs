//! Holds a homeserver to the protocol's requirements, from outside.
//!
//! A fake peer with its own certificates, its own keys and its own encoder makes an agreement with the server
//! under test and then does what peers may and may not do. It shares no code with any server, so it
//! judges any of them.
//!
//! Exit status: 0 every MUST is met, 1 not so or the suite could not go on, 2 wrong usage.

mod agreement;
mod arrived;
mod cases;
mod ceremony;
mod consent;
mod crypto;
mod device_log;
mod failure;
mod group;
mod link;
mod mailbox;
mod mls;
mod organisation;
mod padding;
mod people;
mod receipt;
mod report;
mod room;
mod served;
mod session;
mod short_path;
mod transaction;
mod trials;
mod usurper;
mod wire;

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use clap::{Args, Parser, Subcommand};

use crate::cases::{World, Worlds};
use crate::ceremony::{CeremonyArguments, TargetArguments, agree};
use crate::failure::Result;
use crate::mailbox::Mailbox;
use crate::organisation::Organisation;
use crate::people::People;
use crate::report::Report;
use crate::served::{Served, Stall};
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
    /// The address of this machine at which the server under test reaches the fake peer; the ports are free ones.
    #[arg(long, value_name = "IP", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    listen: IpAddr,
    /// People of the server under test, made for the suite: a JSON object {"beginning", "open", "asking", "listed",
    /// "hidden"}. All handles begin with "beginning", and nobody else's does. "open" may be started conversations
    /// with by all and is found by the whole handle, "asking" decides herself who starts any; of both {"handle",
    /// "account", "device"}, the ids as 32 hexadecimal digits. "listed" is the handle of who is found by its
    /// beginning too, "hidden" that of who is not found. Without it, cases that need them are left out.
    #[arg(long, value_name = "FILE")]
    people: Option<PathBuf>,
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

/// The fake peer of this name, reachable, and agreed with about these operations.
async fn world(arguments: &RunArguments, name: &str, operations: &[u8]) -> Result<World> {
    let peer = Organisation::new(name)?;
    let mailbox = Mailbox::new(&peer);
    let listen = SocketAddr::new(arguments.listen, 0).to_string();
    let manifest = peer.manifest(agreement::now_ms())?;
    let served = Served::start(
        &peer,
        &listen,
        manifest,
        Some(Arc::clone(&mailbox)),
        Stall::at(None),
    )
    .await?;
    let endpoint = served.address.to_string();
    let server_keys = agree(&arguments.ceremony, &peer, &endpoint, operations).await?;
    let target = arguments.ceremony.target.target();
    mailbox.open(&target.server, &server_keys.envelope);
    Ok(World {
        target,
        peer,
        server_keys,
        next: AtomicU64::new(1),
        link_epoch: 2,
        mailbox,
        rooms: std::sync::Mutex::default(),
        drawn: AtomicU64::new(1),
        _served: served,
    })
}

async fn run(arguments: &RunArguments) -> Result<bool> {
    let peer = &arguments.ceremony.peer;
    let people = arguments.people.as_deref().map(People::read).transpose()?;
    let little = [agreement::MESSAGE, agreement::DIRECTORY];
    let worlds = Worlds {
        everything: world(arguments, peer, &agreement::EVERYTHING).await?,
        little: world(arguments, &format!("little.{peer}"), &little).await?,
        people,
        operator: &arguments.ceremony,
    };
    let server = worlds.everything.target.server.clone();
    let report = Report::new(&server, cases::all(&worlds).await?);
    eprint!("{}", report.text());
    if arguments.json {
        say(&serde_json::json!(report));
    }
    Ok(report.failed == 0)
}
