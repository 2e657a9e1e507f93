//! The ceremony with the server under test, whose operator does his part by hand or by a program.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use tokio::task::JoinHandle;

use crate::agreement;
use crate::failure::{Failure, Result};
use crate::link::Target;
use crate::organisation::Organisation;
use crate::transaction::sha256;

/// How long the operator has for the acceptance.
const OPERATOR_PATIENCE: Duration = Duration::from_secs(600);
/// How often the exchange folder is looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

#[derive(Args)]
pub(crate) struct TargetArguments {
    /// Where the server under test listens for peers, HOST:PORT.
    #[arg(long, value_name = "HOST:PORT")]
    address: String,
    /// Its server name.
    #[arg(long, value_name = "NAME")]
    server: String,
}

impl TargetArguments {
    pub(crate) fn target(&self) -> Target {
        Target {
            address: self.address.clone(),
            server: self.server.clone(),
        }
    }
}

#[derive(Args)]
pub(crate) struct CeremonyArguments {
    #[command(flatten)]
    pub(crate) target: TargetArguments,
    /// The fake peer's server name.
    #[arg(long, value_name = "NAME", default_value = "conformance.example")]
    pub(crate) peer: String,
    /// Folder through which documents are exchanged with the operator.
    #[arg(long, value_name = "DIR")]
    exchange: PathBuf,
    /// The operator's program, called as `PROGRAM accept OFFER FINGERPRINT ACCEPTANCE`,
    /// `PROGRAM activate COUNTERSIGNATURE`, and, for who decides who starts conversations with her,
    /// `PROGRAM allow ADDRESS` and `PROGRAM block ADDRESS`, and for who is open to all `PROGRAM start ADDRESS`, a
    /// conversation, `PROGRAM write ROOM TEXT`, and `PROGRAM promote ROOM ADDRESS`, to moderator; without it the suite says what to do and waits.
    #[arg(long, value_name = "PROGRAM")]
    operator: Option<PathBuf>,
}

impl CeremonyArguments {
    /// Has the person who decides for herself allow or block somebody.
    pub(crate) async fn decide(&self, decision: &str, address: &str) -> Result {
        if let Some(program) = &self.operator {
            return operator(program, &[decision.as_ref(), address.as_ref()]);
        }
        let done = self.exchange.join(format!("{decision}.{address}"));
        eprintln!(
            "Let the person who decides for herself {decision} {address}, then make an empty file {}.",
            done.display()
        );
        wait_for(&done).await.map(drop)
    }

    /// Has the person who is open to all start a conversation with somebody, while the fake peer goes on.
    pub(crate) fn start(&self, address: &str) -> JoinHandle<Result> {
        self.open(
            &["start", address],
            &format!("start a conversation with {address}"),
        )
    }

    /// Has the person who is open to all write a text into a room, while the fake peer goes on.
    pub(crate) fn write(&self, room: &str, text: &str) -> JoinHandle<Result> {
        self.open(
            &["write", room, text],
            &format!("write \"{text}\" in the room {room}"),
        )
    }

    /// Has the person who is open to all make somebody a moderator of a room, while the fake peer goes on.
    pub(crate) fn promote(&self, room: &str, address: &str) -> JoinHandle<Result> {
        self.open(
            &["promote", room, address],
            &format!("make {address} a moderator of the room {room}"),
        )
    }

    /// Has the person who is open to all do something.
    fn open(&self, words: &[&str], what: &str) -> JoinHandle<Result> {
        let program = self.operator.clone();
        let words: Vec<OsString> = words.iter().map(OsString::from).collect();
        let what = what.to_owned();
        tokio::task::spawn_blocking(move || match program {
            Some(program) => {
                let words: Vec<&OsStr> = words.iter().map(OsString::as_os_str).collect();
                operator(&program, &words)
            }
            None => {
                eprintln!("Let the person who is open to all {what}.");
                Ok(())
            }
        })
    }
}

/// The ceremony, about these operations; returns the envelope keys of the server under test.
pub(crate) async fn agree(
    arguments: &CeremonyArguments,
    peer: &Organisation,
    endpoint: &str,
    operations: &[u8],
) -> Result<agreement::ServerKeys> {
    // Papers of several peers lie side by side.
    let in_exchange = |name: &str| arguments.exchange.join(format!("{}.{name}", peer.name));
    let server = arguments.target.server.as_str();
    let offer = agreement::offer(peer, server, endpoint, operations)?;
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
    agreement::server_keys(&acceptance.manifest).ok_or(Failure::Document {
        document: "manifest",
        problem: "its bytes do not decode",
    })
}

fn operator(program: &Path, arguments: &[&OsStr]) -> Result {
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
