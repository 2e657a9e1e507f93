//! The disk is full: what is written fails and says so, and once there is room the store goes on.

use std::fmt;
use std::thread;
use std::time::Duration;

use super::disk::Memory;
use super::ledger::{Ledger, Verdict};
use super::process::{Ending, Load, Writer};
use super::{Case, judged};
use crate::failure::Result;
use crate::trial::checks::Check;

/// Of the disk at first, and when there is room again.
const SMALL_MEBIBYTES: u64 = 96;
const LARGE_MEBIBYTES: u64 = 1024;
/// What an error has to say.
const WORDS: &str = "No space left on device";
/// How long the store is used once there is room.
const AFTERWARDS: Duration = Duration::from_secs(2);
/// Messages that stay in each inbox then.
const WAITING: u32 = 100;

/// What was found.
struct Outcome {
    verdict: Verdict,
    /// Whether the writer ended as if all were well.
    went_on: bool,
    /// What the first commit that failed said.
    error: Option<String>,
    is_named: bool,
    /// What opening the store on the full disk came to.
    opened: Ending,
    /// Commits that were answered once there was room.
    answered_afterwards: u64,
}

impl Outcome {
    fn holds(&self) -> bool {
        self.verdict.holds()
            && !self.went_on
            && self.is_named
            && matches!(self.opened, Ending::Whole | Ending::Told(_))
            && self.answered_afterwards > 0
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let said = self.error.as_deref().unwrap_or("nothing");
        let opened = match &self.opened {
            Ending::Whole => "all of it read while full".to_owned(),
            ending => format!("opened while full: {ending:?}"),
        };
        write!(
            f,
            "a commit that failed said: {said}; {opened}; {} answered once there was room; {}",
            self.answered_afterwards, self.verdict
        )
    }
}

pub(super) fn check(case: &Case<'_>) -> Result<Check> {
    let (got, ok) = judged(fill(case), Outcome::holds)?;
    Ok(Check {
        id: case.id,
        must: format!(
            "on a disk of {SMALL_MEBIBYTES} MiB that fills up commits fail and name the reason; on the full disk the store \
             opens, or says why not; once there is room it opens and goes on; lost, duplicated, wrong bytes, resurrected, \
             half written, holes and out of turn 0"
        ),
        got,
        ok: Some(ok),
        control: None,
    })
}

fn fill(case: &Case<'_>) -> Result<Outcome> {
    let logs = case.folder("whole")?;
    let memory = Memory::make(&logs, SMALL_MEBIBYTES)?;
    let place = case.place(&logs, memory.at().join("store"), None);
    // Nothing is acknowledged.
    let writer = Writer::start(&place, Load::default(), Ledger::default())?;
    let (mut ledger, went_on) = writer.end()?;
    let errors = ledger.errors();
    let named = errors.iter().find(|error| error.contains(WORDS));
    let (error, is_named) = (named.or(errors.first()).cloned(), named.is_some());

    let on_full_disk = place.show()?;
    let while_full = ledger.judge(&on_full_disk.found);
    memory.resize(LARGE_MEBIBYTES)?;
    let found = place.show()?.whole()?;
    let mut outcome = Outcome {
        verdict: ledger.judge(&found),
        went_on,
        error,
        is_named,
        opened: on_full_disk.ending,
        answered_afterwards: 0,
    };
    if !while_full.is_clean() {
        outcome.verdict = while_full;
    }
    if !outcome.verdict.holds() {
        return Ok(outcome);
    }
    ledger.settle(&found);

    let load = Load {
        waiting: Some(WAITING),
        ..Load::default()
    };
    let mut writer = Writer::start(&place, load, ledger)?;
    writer.wait_answered(1)?;
    thread::sleep(AFTERWARDS);
    let ledger = writer.kill()?;
    outcome.answered_afterwards = ledger.answered_in_life();
    outcome.verdict = ledger.judge(&place.show()?.whole()?);
    Ok(outcome)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Outcome {
        Outcome {
            verdict: Verdict {
                answered: 1,
                ..Verdict::default()
            },
            went_on: false,
            error: Some(WORDS.to_owned()),
            is_named: true,
            opened: Ending::Whole,
            answered_afterwards: 1,
        }
    }

    /// Goal: each thing that has to be is held to. Method: spoil a good outcome in one place.
    #[test]
    fn each_part_counts() {
        assert!(good().holds());
        let refused = Outcome {
            opened: Ending::Told("no space".to_owned()),
            ..good()
        };
        assert!(refused.holds());
        let bad = [
            Outcome {
                verdict: Verdict::default(),
                ..good()
            },
            Outcome {
                went_on: true,
                ..good()
            },
            Outcome {
                is_named: false,
                ..good()
            },
            Outcome {
                opened: Ending::Hung,
                ..good()
            },
            Outcome {
                answered_afterwards: 0,
                ..good()
            },
        ];
        for outcome in bad {
            assert!(!outcome.holds(), "{outcome}");
        }
    }
}
