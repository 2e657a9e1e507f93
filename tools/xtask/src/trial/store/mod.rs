//! The trial `store`: what a store has answered it keeps, whatever becomes of its process, its power and its disk.
//!
//! The program `torture` drives a store as a homeserver does and prints what it was answered; that record lies here, out of the
//! reach of what is done to it. What is in the store afterwards is held to the record: nothing answered is lost, nothing
//! acknowledged comes back, nothing is there twice, in part or with other bytes than were written. Each check is tried
//! on each engine. The control is a store that answers before its disk has anything.

mod damage;
mod disk;
mod erased;
mod fsync;
mod full;
mod ledger;
mod opening;
mod power;
mod process;
mod rotation;
mod sigkill;
mod space;

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use clap::ValueEnum;

use self::ledger::{Ledger, Verdict};
use self::process::{Place, Shown};
use super::checks::{Check, Control, Report};
use super::ground::Ground;
use crate::failure::{self, Failure, Result};
use crate::machine::{self, Ready};
use crate::process as steps;
use crate::workspace::{self, Workspace};

/// The protection that the control is without.
const FAULT: &str = "answer-before-sync";

/// What is done to a store, or measured of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Wanted {
    /// Its process is killed under load, 60 times.
    Sigkill,
    /// Its power is cut under load.
    PowerLoss,
    /// A sync fails.
    FsyncError,
    /// Its disk is full.
    DiskFull,
    /// A hundred bits are turned, and files cut.
    Damage,
    /// How long opening takes with a million messages waiting.
    Opening,
    /// What half a million messages leave on the disk.
    Space,
    /// Whether anything on the disk opens what was deleted.
    DeletedUnreadable,
    /// What a rotation of keys costs with a million messages waiting.
    RotationCost,
}

/// What a store stands on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Engine {
    /// The default: the commit log, and fjall behind it.
    Fjall,
    /// fjall alone.
    FjallWithoutLog,
    /// sled, synced by us.
    Sled,
}

impl Engine {
    const fn name(self) -> &'static str {
        match self {
            Self::Fjall => "fjall",
            Self::FjallWithoutLog => "fjall-without-log",
            Self::Sled => "sled",
        }
    }

    /// Milliseconds that each sender waits after each answer, at most load. sled's file never shrinks.
    const fn pause(self) -> u32 {
        match self {
            Self::Fjall | Self::FjallWithoutLog => 0,
            Self::Sled => 10,
        }
    }
}

impl Wanted {
    const fn words(self) -> &'static str {
        match self {
            Self::Sigkill => "SIGKILL under load",
            Self::PowerLoss => "power loss under load",
            Self::FsyncError => "a sync that fails",
            Self::DiskFull => "a full disk",
            Self::Damage => "turned bits and cut files",
            Self::Opening => "opening with a million waiting",
            Self::Space => "what half a million leave",
            Self::DeletedUnreadable => "what opens deleted contents",
            Self::RotationCost => "a rotation with a million waiting",
        }
    }

    const fn id(self, engine: Engine) -> &'static str {
        let [fjall, without_log, sled] = match self {
            Self::Sigkill => ["sigkill-fjall", "sigkill-fjall-without-log", "sigkill-sled"],
            Self::PowerLoss => [
                "power-loss-fjall",
                "power-loss-fjall-without-log",
                "power-loss-sled",
            ],
            Self::FsyncError => [
                "fsync-error-fjall",
                "fsync-error-fjall-without-log",
                "fsync-error-sled",
            ],
            Self::DiskFull => [
                "disk-full-fjall",
                "disk-full-fjall-without-log",
                "disk-full-sled",
            ],
            Self::Damage => ["damage-fjall", "damage-fjall-without-log", "damage-sled"],
            Self::Opening => ["opening-fjall", "opening-fjall-without-log", "opening-sled"],
            Self::Space => ["space-fjall", "space-fjall-without-log", "space-sled"],
            Self::DeletedUnreadable => [
                "deleted-unreadable-fjall",
                "deleted-unreadable-fjall-without-log",
                "deleted-unreadable-sled",
            ],
            Self::RotationCost => [
                "rotation-cost-fjall",
                "rotation-cost-fjall-without-log",
                "rotation-cost-sled",
            ],
        };
        match engine {
            Engine::Fjall => fjall,
            Engine::FjallWithoutLog => without_log,
            Engine::Sled => sled,
        }
    }

    /// Whether it mounts file systems.
    const fn needs_root(self) -> bool {
        matches!(self, Self::PowerLoss | Self::FsyncError | Self::DiskFull)
    }

    /// sled makes no promise of space, nor of how long anything takes.
    const fn is_tried_on(self, engine: Engine) -> bool {
        !matches!(
            (self, engine),
            (
                Self::Opening | Self::Space | Self::RotationCost,
                Engine::Sled
            )
        )
    }

    fn check(self, case: &Case<'_>) -> Result<Check> {
        match self {
            Self::Sigkill => sigkill::check(case),
            Self::PowerLoss => power::check(case),
            Self::FsyncError => fsync::check(case),
            Self::DiskFull => full::check(case),
            Self::Damage => damage::check(case),
            Self::Opening => opening::check(case),
            Self::Space => space::check(case),
            Self::DeletedUnreadable => erased::check(case),
            Self::RotationCost => rotation::check(case),
        }
    }
}

/// The programs under test.
struct Trial {
    program: PathBuf,
    with_faults: PathBuf,
}

/// A check on one engine.
struct Case<'a> {
    trial: &'a Trial,
    id: &'static str,
    engine: Engine,
    folder: PathBuf,
}

impl Case<'_> {
    /// A folder for one run of it.
    fn folder(&self, name: &str) -> Result<PathBuf> {
        workspace::folder(&self.folder.join(name))
    }

    /// A store in `store`; what the programs say is kept in `logs`.
    fn place(&self, logs: &Path, store: PathBuf, fault: Option<&'static str>) -> Place {
        Place::new(self.trial, self.engine, store, logs, fault)
    }

    /// The control, which is the same for all engines: one is enough.
    fn control(&self, run: impl FnOnce() -> Result<Series>) -> Result<Option<Control>> {
        if self.engine != Engine::Fjall {
            return Ok(None);
        }
        let series = run()?;
        Ok(Some(Control {
            without: FAULT,
            got: series.to_string(),
            ok: series.holds(),
        }))
    }
}

/// What a store has come to after the same was done to it several times.
struct Series {
    what: &'static str,
    times: u32,
    verdict: Verdict,
}

impl Series {
    /// Nothing was done yet.
    fn of(what: &'static str) -> Self {
        Self {
            what,
            times: 0,
            verdict: Verdict::default(),
        }
    }

    /// It was done once more, and this is what was found then; whether all is well so far.
    fn take(&mut self, ledger: &mut Ledger, shown: Shown) -> Result<bool> {
        let found = shown.whole()?;
        self.times = self.times.saturating_add(1);
        self.verdict = ledger.judge(&found);
        ledger.settle(&found);
        Ok(self.holds())
    }

    fn holds(&self) -> bool {
        self.verdict.holds()
    }
}

impl fmt::Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.times, self.what, self.verdict)
    }
}

/// What was found, in words, and whether it is what must be. A run that could not go on as it should has found that.
fn judged<T: fmt::Display>(
    outcome: Result<T>,
    holds: impl FnOnce(&T) -> bool,
) -> Result<(String, bool)> {
    match outcome {
        Ok(outcome) => Ok((outcome.to_string(), holds(&outcome))),
        Err(Failure::DidNotHold(reason)) => Ok((reason, false)),
        Err(failure) => Err(failure),
    }
}

/// Runs the wanted checks on the wanted engines, or all.
pub(super) fn run(workspace: &Workspace, only: &[Wanted], engines: &[Engine]) -> Result<Report> {
    let wanted = chosen(only, engines);
    prepare(&wanted)?;
    let trial = Trial {
        program: workspace.build_apart("torture", "torture", "torture/sled")?,
        with_faults: workspace.build_apart(
            "torture-faults",
            "torture",
            "torture/sled,torture/faults",
        )?,
    };
    Ground::lay_without_faults(workspace, "s", |ground, report| {
        for (wanted, engine) in wanted {
            let id = wanted.id(engine);
            let case = Case {
                trial: &trial,
                id,
                engine,
                folder: ground.folder(id)?,
            };
            let words = format!("{} on {}", wanted.words(), engine.name());
            let check = steps::step(&words, || wanted.check(&case))?;
            if check.holds() == Some(true) {
                // Gigabytes, which the next one may need.
                fs::remove_dir_all(&case.folder).map_err(failure::at(&case.folder))?;
            }
            report.checks.push(check);
        }
        Ok(())
    })
}

/// The checks, one after the other, each on its engines.
fn chosen(only: &[Wanted], engines: &[Engine]) -> Vec<(Wanted, Engine)> {
    let mut chosen = Vec::new();
    for wanted in Wanted::value_variants() {
        for engine in Engine::value_variants() {
            let is_wanted = only.is_empty() || only.contains(wanted);
            let is_its_engine = engines.is_empty() || engines.contains(engine);
            if is_wanted && is_its_engine && wanted.is_tried_on(*engine) {
                chosen.push((*wanted, *engine));
            }
        }
    }
    chosen
}

/// Says what the machine lacks before anything is built.
fn prepare(wanted: &[(Wanted, Engine)]) -> Result {
    if wanted.is_empty() {
        return Err(Failure::Missing(
            "none of these checks is tried on that engine".to_owned(),
        ));
    }
    if !wanted.iter().any(|(wanted, _)| wanted.needs_root()) {
        return Ok(());
    }
    if !machine::is_root() {
        return Err(Failure::Missing(
            "power loss, syncs that fail and full disks are tried on file systems that this trial mounts: run it as root, or \
             name the other checks with --only"
                .to_owned(),
        ));
    }
    match machine::prepare(machine::FOR_STORE_TRIAL)? {
        Ready::Yes => Ok(()),
        Ready::No(reason) => Err(Failure::Missing(reason)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: no two checks have one name. Method: all of them.
    #[test]
    fn names_are_distinct() {
        let mut names: Vec<&str> = Vec::new();
        for wanted in Wanted::value_variants() {
            for engine in Engine::value_variants() {
                let name = wanted.id(*engine);
                assert!(name.ends_with(engine.name()), "{name}");
                assert!(!names.contains(&name), "{name}");
                names.push(name);
            }
        }
    }

    /// Goal: what is asked for is run, all of it when nothing is. Method: count.
    #[test]
    fn what_is_asked_for_is_chosen() {
        assert_eq!(chosen(&[], &[]).len(), 6 * 3 + 3 * 2);
        let one = (Wanted::Damage, Engine::Sled);
        assert_eq!(chosen(&[one.0], &[one.1]), [one]);
        assert!(chosen(&[Wanted::Space], &[Engine::Sled]).is_empty());
    }

    /// Goal: what could not go on as it should is a finding, anything else ends the run. Method: one of each.
    #[test]
    fn a_run_that_could_not_go_on() {
        let outcome = |failure| -> Result<Series> { Err(failure) };
        let hung = outcome(Failure::DidNotHold("it hung".to_owned()));
        assert_eq!(
            judged(hung, Series::holds).unwrap(),
            ("it hung".to_owned(), false)
        );
        let missing = outcome(Failure::Missing("no root".to_owned()));
        assert!(judged(missing, Series::holds).is_err());
    }
}
