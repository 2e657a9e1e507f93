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
mod namespaces;
mod network;
mod person;
mod record;
mod stage;
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
    /// Only this check of the trial `federation`; may be repeated.
    #[arg(long, value_enum, value_name = "CHECK")]
    only: Vec<federation::Wanted>,
    /// Print one JSON object with all checks as the last line.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Name {
    /// Two homeservers, real clients: strangers, bounds, SIGKILL, a network in trouble.
    Network,
    /// What people and scripts have of `chat`: its objects, a terminal, a homeserver that stops, passwords.
    Terminal,
    /// Hostile and broken peers: revoked while sending, replays, poison, one bad of ten, a long partition.
    Federation,
}

/// Runs it.
pub(crate) fn run(options: &Options) -> Result {
    if !options.only.is_empty() && !matches!(options.name, Name::Federation) {
        return Err(Failure::Missing(
            "--only names checks of the trial `federation`: this one runs whole".to_owned(),
        ));
    }
    let mut workspace = Workspace::find()?;
    if matches!(options.name, Name::Federation) {
        // Its checks are held to seconds.
        workspace = workspace.measured();
    }
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
    let report = match options.name {
        Name::Network => network::run(&workspace, network_can_be_cut)?,
        Name::Terminal => terminal::run(&workspace)?,
        Name::Federation => federation::run(&workspace, network_can_be_cut, &options.only)?,
    };
    finish(&report, options.json)
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
