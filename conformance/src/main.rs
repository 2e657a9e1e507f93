//! Holds a homeserver to the protocol's requirements, from outside.
//!
//! A fake peer with its own certificates, its own keys and its own encoder makes an agreement with the server
//! under test and then does what peers may and may not do. It shares no code with any server, so it
//! judges any of them.
//!
//! Exit status: 0 every MUST is met, 1 not so or the suite could not go on, 2 wrong usage.

mod agreement;
mod cases;
mod failure;
mod link;
mod organisation;
mod receipt;
mod report;
mod transaction;
mod wire;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::cases::World;
use crate::failure::{Failure, Result};
use crate::link::Target;
use crate::organisation::Organisation;
use crate::report::Report;
use crate::transaction::sha256;

/// How long the operator has for the acceptance.
const OPERATOR_PATIENCE: Duration = Duration::from_secs(600);
/// How often the exchange folder is looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

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
}

#[derive(Args)]
struct TargetArguments {
    /// Where the server under test listens for peers, HOST:PORT.
    #[arg(long, value_name = "HOST:PORT")]
    address: String,
    /// Its server name.
    #[arg(long, value_name = "NAME")]
    server: String,
}

impl TargetArguments {
    fn target(&self) -> Target {
        Target {
            address: self.address.clone(),
            server: self.server.clone(),
        }
    }
}

#[derive(Args)]
struct RunArguments {
    #[command(flatten)]
    target: TargetArguments,
    /// The fake peer's server name.
    #[arg(long, value_name = "NAME", default_value = "conformance.example")]
    peer: String,
    /// Where the server under test would reach the fake peer; nothing listens there.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:9")]
    endpoint: String,
    /// Folder through which documents are exchanged with the operator.
    #[arg(long, value_name = "DIR")]
    exchange: PathBuf,
    /// The operator's program, called as `PROGRAM accept OFFER FINGERPRINT ACCEPTANCE` and
    /// `PROGRAM activate COUNTERSIGNATURE`; without it the suite says what to do and waits.
    #[arg(long, value_name = "PROGRAM")]
    operator: Option<PathBuf>,
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

/// What a stranger sees.
async fn probe(arguments: &TargetArguments) -> Result<bool> {
    let stranger = Organisation::new("stranger.example")?;
    let seen = link::greet(&arguments.target(), Some(&stranger.tls)).await?;
    println!(
        "{}",
        serde_json::json!({"application_bytes": seen.application_bytes, "ended": seen.ended, "how": seen.how})
    );
    Ok(true)
}

async fn run(arguments: &RunArguments) -> Result<bool> {
    let peer = Organisation::new(&arguments.peer)?;
    let server_keys = agree(arguments, &peer).await?;
    let world = World {
        target: arguments.target.target(),
        peer,
        server_keys,
        next: AtomicU64::new(1),
        link_epoch: 2,
    };
    let report = Report::new(&arguments.target.server, cases::all(&world).await?);
    eprint!("{}", report.text());
    if arguments.json {
        println!("{}", serde_json::json!(report));
    }
    Ok(report.failed == 0)
}

/// The ceremony; returns the envelope keys of the server under test.
async fn agree(arguments: &RunArguments, peer: &Organisation) -> Result<Vec<[u8; 32]>> {
    let in_exchange = |name: &str| arguments.exchange.join(name);
    let server = &arguments.target.server;
    let offer = agreement::offer(peer, server, &arguments.endpoint)?;
    let (offer_file, acceptance_file) = (in_exchange("offer.txt"), in_exchange("acceptance.txt"));
    write(&offer_file, &agreement::armored("OFFER", &offer))?;
    let fingerprint = hex::encode(sha256(&peer.root));
    match &arguments.operator {
        Some(program) => {
            operator(
                program,
                &[
                    "accept".as_ref(),
                    offer_file.as_os_str(),
                    fingerprint.as_ref(),
                    acceptance_file.as_os_str(),
                ],
            )?;
        }
        None => eprintln!(
            "Accept {} at {server} (fingerprint {fingerprint}) and put the acceptance into {}.",
            offer_file.display(),
            acceptance_file.display()
        ),
    }
    let text = wait_for(&acceptance_file).await?;
    let acceptance = agreement::read_acceptance(&text, &offer)?;
    let countersignature_file = in_exchange("countersignature.txt");
    let countersignature = agreement::countersignature(peer, server, &offer, &acceptance)?;
    write(
        &countersignature_file,
        &agreement::armored("COUNTERSIGNATURE", &countersignature),
    )?;
    match &arguments.operator {
        Some(program) => operator(
            program,
            &["activate".as_ref(), countersignature_file.as_os_str()],
        )?,
        None => {
            eprintln!(
                "Activate {} at {server}, then make an empty file `active` beside it.",
                countersignature_file.display()
            );
            wait_for(&in_exchange("active")).await?;
        }
    }
    agreement::envelope_keys(&acceptance.manifest).ok_or(Failure::Document {
        document: "manifest",
        problem: "its bytes do not decode",
    })
}

fn operator(program: &Path, arguments: &[&std::ffi::OsStr]) -> Result {
    let problem = |problem: String| Failure::Operator(format!("{}: {problem}", program.display()));
    let output = std::process::Command::new(program)
        .args(arguments)
        .output()
        .map_err(|error| problem(error.to_string()))?;
    if output.status.success() {
        Ok(())
    } else {
        Err(problem(
            String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        ))
    }
}

async fn wait_for(path: &Path) -> Result<String> {
    let looking = async {
        loop {
            match fs::read_to_string(path) {
                Ok(text) => return text,
                Err(_) => tokio::time::sleep(LOOK_AGAIN).await,
            }
        }
    };
    tokio::time::timeout(OPERATOR_PATIENCE, looking)
        .await
        .map_err(|_| Failure::Operator(format!("{} did not come", path.display())))
}

fn write(path: &Path, text: &str) -> Result {
    fs::write(path, text).map_err(|source| Failure::File {
        path: path.display().to_string(),
        source,
    })
}
