//! A sync fails. What it was to make durable may not be on the disk though reading shows it, so syncing once more and answering
//! then would be a lie: after each failure the power is cut, too.

use std::fmt;
use std::fs;
use std::path::Path;

use super::disk::Disk;
use super::ledger::{Ledger, Verdict};
use super::process::{Injection, Load, Place, Writer};
use super::{Case, FAULT, Series, judged};
use crate::failure::{self, Failure, Result};
use crate::trial::checks::Check;

/// `fdatasync` makes commits durable, of the log and of fjall's journal; `fsync` what lies behind them: files that are made,
/// and those that the background writes. Each thread's first, a later one, and one after some seconds.
const INJECTIONS: [Injection; 5] = [
    Injection {
        call: COMMITTING,
        number: 1,
    },
    Injection {
        call: COMMITTING,
        number: 20,
    },
    Injection {
        call: COMMITTING,
        number: 300,
    },
    Injection {
        call: "fsync",
        number: 1,
    },
    Injection {
        call: "fsync",
        number: 8,
    },
];
const COMMITTING: &str = "fdatasync";
/// Messages that stay in each inbox.
const WAITING: u32 = 100;
/// How long a writer lives that makes the store, and one that nothing stops.
const MAKES_SECONDS: u32 = 1;
const LIVES_SECONDS: u32 = 15;
/// Of the disk; what is not used takes no space.
const DISK_MEBIBYTES: u64 = 4096;
/// What the tracer writes behind a call that it has let fail.
const INJECTED: &str = "(INJECTED)";

/// What became of one writer.
struct Life {
    injection: Injection,
    /// Calls that failed.
    failed: usize,
    /// Whether it went on to its end as if nothing had happened.
    went_on: bool,
}

impl Life {
    /// A commit that can't be made durable stops the store. What happens in the background may be tried again, as long as nothing
    /// that was answered hangs on it: that is seen once the power is cut.
    fn holds(&self) -> bool {
        self.injection.call != COMMITTING || (self.failed > 0 && !self.went_on)
    }
}

impl fmt::Display for Life {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Injection { call, number } = self.injection;
        let end = if self.went_on { "went on" } else { "stopped" };
        write!(f, "{call} {number}: {} failed, {end}", self.failed)
    }
}

/// What became of all of them.
struct Outcome {
    verdict: Verdict,
    lives: Vec<Life>,
}

impl Outcome {
    fn holds(&self) -> bool {
        self.verdict.holds()
            && self.lives.len() == INJECTIONS.len()
            && self.lives.iter().all(Life::holds)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lives: Vec<String> = self.lives.iter().map(Life::to_string).collect();
        write!(f, "{}; {}", lives.join(", "), self.verdict)
    }
}

pub(super) fn check(case: &Case<'_>) -> Result<Check> {
    let (got, ok) = judged(failures(case), Outcome::holds)?;
    Ok(Check {
        id: case.id,
        must: format!(
            "of each thread one sync fails (EIO), {} times over one store, then the power is cut: the store stops when it was a \
             commit's, nothing begun after a failure is answered; lost, duplicated, wrong bytes, resurrected, half written, \
             holes and out of turn 0",
            INJECTIONS.len()
        ),
        got,
        ok: Some(ok),
        control: case.control(|| without(case))?,
    })
}

fn failures(case: &Case<'_>) -> Result<Outcome> {
    let logs = case.folder("whole")?;
    let mut disk = Disk::make(&logs, DISK_MEBIBYTES)?;
    let place = case.place(&logs, disk.at().join("store"), None);
    let mut ledger = made(case, &place)?;
    let mut outcome = Outcome {
        verdict: Verdict::default(),
        lives: Vec::new(),
    };
    for injection in INJECTIONS {
        let Injection { call, number } = injection;
        let trace = logs.join(format!("{call}-{number}.strace"));
        let load = load(case, LIVES_SECONDS);
        let writer = Writer::start_injected(&place, load, ledger, injection, &trace)?;
        let (told, went_on) = writer.end()?;
        ledger = told;
        disk.cut()?;
        disk.mend()?;
        let found = place.show()?.whole()?;
        outcome.verdict = ledger.judge(&found);
        outcome.lives.push(Life {
            injection,
            failed: failed(&trace)?,
            went_on,
        });
        if !outcome.verdict.holds() {
            break;
        }
        ledger.settle(&found);
    }
    Ok(outcome)
}

/// One failure of a store that answers before its syncs.
fn without(case: &Case<'_>) -> Result<Series> {
    let logs = case.folder(FAULT)?;
    let mut disk = Disk::make(&logs, DISK_MEBIBYTES)?;
    let whole = case.place(&logs, disk.at().join("store"), None);
    let place = case.place(&logs, whole.store.clone(), Some(FAULT));
    let ledger = made(case, &whole)?;
    let injection = Injection {
        call: COMMITTING,
        number: 20,
    };
    let (load, trace) = (load(case, LIVES_SECONDS), logs.join("strace"));
    let writer = Writer::start_injected(&place, load, ledger, injection, &trace)?;
    let (mut ledger, _) = writer.end()?;
    disk.cut()?;
    disk.mend()?;
    let mut series = Series::of("failed syncs");
    series.take(&mut ledger, place.show()?)?;
    Ok(series)
}

/// A store that is there already: making one takes syncs too, which are another matter.
fn made(case: &Case<'_>, place: &Place) -> Result<Ledger> {
    let writer = Writer::start(place, load(case, MAKES_SECONDS), Ledger::default())?;
    let (mut ledger, went_well) = writer.end()?;
    if !went_well {
        return Err(Failure::DidNotHold(
            "the writer failed before anything was done to it".to_owned(),
        ));
    }
    ledger.settle(&place.show()?.whole()?);
    Ok(ledger)
}

fn load(case: &Case<'_>, seconds: u32) -> Load {
    Load {
        waiting: Some(WAITING),
        pause: case.engine.pause(),
        seconds: Some(seconds),
    }
}

/// How many calls the tracer has let fail.
fn failed(trace: &Path) -> Result<usize> {
    let text = fs::read(trace).map_err(failure::at(trace))?;
    let text = String::from_utf8_lossy(&text);
    Ok(text.lines().filter(|line| line.contains(INJECTED)).count())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(call: &'static str, failed: usize, went_on: bool) -> Outcome {
        let life = |injection: Injection| Life {
            injection,
            failed: 1,
            went_on: false,
        };
        let mut lives: Vec<Life> = INJECTIONS.map(life).into();
        let spoilt = lives.iter_mut().find(|life| life.injection.call == call);
        let spoilt = spoilt.unwrap();
        (spoilt.failed, spoilt.went_on) = (failed, went_on);
        Outcome {
            verdict: Verdict {
                answered: 1,
                ..Verdict::default()
            },
            lives,
        }
    }

    /// Goal: a commit's sync has to have failed and to have stopped the store, the background's need not. Method: each with
    /// and without.
    #[test]
    fn a_commit_that_fails_stops() {
        assert!(outcome(COMMITTING, 1, false).holds());
        assert!(!outcome(COMMITTING, 1, true).holds());
        assert!(!outcome(COMMITTING, 0, false).holds());
        assert!(outcome("fsync", 0, true).holds());
        let mut short = outcome("fsync", 1, false);
        short.lives.pop();
        assert!(!short.holds());
    }
}
