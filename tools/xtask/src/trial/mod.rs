//! `cargo xtask trial NAME --json`: acceptance trials against real processes.
//!
//! A check that tries a protection runs its negative control in the same run: the same steps against a
//! homeserver in which that protection is switched off. The control must come out not ok; else the
//! check would not have noticed, and counts as failed.
//!
//! The last line with `--json` is `{"checks": [{"id", "must", "got", "ok", "control"}]}`. `ok` is the whole verdict,
//! the control's included; it is null, with the reason in `got`, for a check that this machine can't run. Under
//! CI that is an error before anything is tried.

mod checks;
mod faulty;
mod federation;
mod ground;
mod homeserver;
mod managed;
mod namespaces;
mod network;
mod person;
mod record;
mod rooms;
mod stage;
mod store;
mod terminal;
mod traffic;
mod troubles;

use clap::{Args, ValueEnum};

use self::checks::Report;
pub(crate) use self::homeserver::{Homeserver, Plan};
pub(crate) use self::person::Person;
use crate::failure::{Failure, Result};
use crate::machine::{self, Ready};
use crate::process;
use crate::workspace::{self, Workspace};

/// Which trial.
#[derive(Args)]
pub(crate) struct Options {
    /// Its name.
    #[arg(value_enum)]
    name: Name,
    /// Only this check of the trial `federation`, `rooms`, `store` or `managed`; may be repeated. A wrong name lists the right ones.
    #[arg(long, value_name = "CHECK")]
    only: Vec<String>,
    /// Devices in the crowd of the trial `rooms`, at least 30.
    #[arg(long, default_value_t = DEVICES, value_parser = devices)]
    devices: usize,
    /// Only this engine in the trial `store`; may be repeated.
    #[arg(long, value_enum, value_name = "ENGINE")]
    engine: Vec<store::Engine>,
    /// Print one JSON object with all checks as the last line.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Name {
    /// Two homeservers, real clients: strangers, bounds, SIGKILL, a network in trouble.
    Network,
    /// What people and scripts have of `chat`: its objects, a terminal, a homeserver that stops, passwords.
    Terminal,
    /// Hostile and broken peers: revoked while sending, replays, poison, one bad of ten, a long partition.
    Federation,
    /// Rooms that no server can bend: a crowd through a partition, an evil server, the vectors of RFC 9420.
    Rooms,
    /// What administrators and auditors rely on: an audit log that is tampered with, how long verifying takes, and whether policy
    /// decides as a model of it does.
    Managed,
    /// A store under SIGKILL, power loss, syncs that fail, a full disk and damage, on each engine; opening time, space; whether what
    /// was deleted can be read, and what that costs; several homeservers over one database. As root.
    Store,
}

/// Devices in the crowd of the trial `rooms`.
const DEVICES: usize = 500;
/// Fewer make no crowd: some join from the beginning, some before the partition and some after it.
const DEVICES_MIN: usize = 30;

fn devices(typed: &str) -> std::result::Result<usize, String> {
    let count = typed.parse().map_err(|_| "is no number".to_owned())?;
    if count < DEVICES_MIN {
        return Err(format!("at least {DEVICES_MIN} make a crowd"));
    }
    Ok(count)
}

/// The checks of a trial by their names.
fn wanted<W: ValueEnum>(names: &[String]) -> Result<Vec<W>> {
    let one = |name: &String| {
        W::from_str(name, false).map_err(|_| {
            let possible = W::value_variants().iter().filter_map(W::to_possible_value);
            let possible: Vec<String> = possible.map(|value| value.get_name().to_owned()).collect();
            Failure::Missing(format!(
                "this trial has no check `{name}`: it has {}",
                possible.join(", ")
            ))
        })
    };
    names.iter().map(one).collect()
}

/// Runs it.
pub(crate) fn run(options: &Options) -> Result {
    // Before anything is built.
    let (mut of_federation, mut of_rooms, mut of_store) = (Vec::new(), Vec::new(), Vec::new());
    let mut of_managed = Vec::new();
    match options.name {
        Name::Federation => of_federation = wanted::<federation::Wanted>(&options.only)?,
        Name::Rooms => of_rooms = wanted::<rooms::Wanted>(&options.only)?,
        Name::Store => of_store = wanted::<store::Wanted>(&options.only)?,
        Name::Managed => of_managed = wanted::<managed::Wanted>(&options.only)?,
        Name::Network | Name::Terminal if options.only.is_empty() => {}
        Name::Network | Name::Terminal => {
            return Err(Failure::Missing(
                "--only names checks of the trials `federation`, `rooms`, `store` and `managed`: this one runs whole"
                    .to_owned(),
            ));
        }
    }
    if !options.engine.is_empty() && !matches!(options.name, Name::Store) {
        return Err(Failure::Missing(
            "--engine belongs to the trial `store`".to_owned(),
        ));
    }
    let mut workspace = Workspace::find()?;
    let is_measured = [Name::Federation, Name::Rooms, Name::Store, Name::Managed];
    if is_measured.contains(&options.name) {
        // What is held to seconds, and what hundreds of clients do.
        workspace = workspace.measured();
    }
    let report = match options.name {
        Name::Network => network::run(&workspace, ready(&workspace)?)?,
        Name::Terminal => {
            // It needs no network that can be cut.
            let _ = ready(&workspace)?;
            terminal::run(&workspace)?
        }
        Name::Federation => federation::run(&workspace, ready(&workspace)?, &of_federation)?,
        Name::Rooms => {
            // Nor does this one.
            let _ = ready(&workspace)?;
            rooms::run(&workspace, &of_rooms, options.devices)?
        }
        Name::Store => store::run(&workspace, &of_store, &options.engine)?,
        Name::Managed => {
            workspace.build()?;
            managed::run(&workspace, &of_managed)?
        }
    };
    finish(&report, options.json)
}

/// Sees to what trials with homeservers run and builds it; tells why the network can't be cut, where it can't.
fn ready(workspace: &Workspace) -> Result<std::result::Result<(), String>> {
    let network_can_be_cut = match machine::prepare(machine::FOR_TRIALS)? {
        Ready::Yes if machine::is_root() => Ok(()),
        Ready::Yes => Err("network namespaces need root".to_owned()),
        Ready::No(reason) => Err(reason),
    };
    if let (true, Err(reason)) = (workspace::under_ci(), &network_can_be_cut) {
        return Err(Failure::Missing(format!(
            "nothing may be skipped under CI: {reason}"
        )));
    }
    workspace.build()?;
    Ok(network_can_be_cut)
}

/// Runs a trial as part of the tests; returns how many checks held, did not, and were skipped.
pub(crate) fn as_tests(
    workspace: &Workspace,
    network_can_be_cut: std::result::Result<(), String>,
) -> Result<(u64, u64, u64)> {
    let mut report = process::step("trial network", || {
        network::run(workspace, network_can_be_cut)
    })?;
    let terminal = process::step("trial terminal", || terminal::run(workspace))?;
    report.checks.extend(terminal.checks);
    eprint!("{}", report.text());
    Ok(report.counts())
}

fn finish(report: &Report, json: bool) -> Result {
    eprint!("{}", report.text());
    if json {
        process::say(&report.json()?);
    }
    let (_, failed, _) = report.counts();
    if failed == 0 {
        Ok(())
    } else {
        Err(Failure::DidNotHold(format!("{failed} checks did not hold")))
    }
}
