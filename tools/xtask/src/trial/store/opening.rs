//! How long opening takes with a million messages waiting, after a clean stop and after SIGKILL under load.

use std::fmt;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use super::process::{Place, numbers_of, unexpected};
use super::{Case, judged};
use crate::failure::{Failure, Result};
use crate::trial::checks::Check;

const WAITING: u64 = 1_000_000;
const OPENED_MAX_MS: u64 = 1_000;
/// How often each is measured; the longest counts.
const TIMES: u32 = 3;
/// How long the store is written to until it is killed.
const LASTS: Duration = Duration::from_secs(4);
/// More than can be written until then.
const WITHOUT_END: &str = "1000000000";

/// How long one opening took, and how much waited.
#[derive(Debug, Clone, Copy)]
struct Opened {
    took_ms: u64,
    waiting: u64,
}

/// All of them.
#[derive(Debug, Default)]
struct Outcome {
    clean: Vec<Opened>,
    killed: Vec<Opened>,
}

impl Outcome {
    fn holds(&self) -> bool {
        let all = || self.clean.iter().chain(&self.killed);
        // Whoever was killed had written something since.
        let waiting: Vec<u64> = self.killed.iter().map(|opened| opened.waiting).collect();
        let grew = waiting.is_sorted_by(|one, other| one < other)
            && waiting.first().is_some_and(|first| *first > WAITING);
        all().count() == 6
            && grew
            && all().all(|opened| opened.took_ms <= OPENED_MAX_MS && opened.waiting >= WAITING)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = |opened: &[Opened]| {
            let times = opened.iter().map(|one| one.took_ms.to_string());
            times.collect::<Vec<_>>().join(", ")
        };
        let waiting = self.killed.last().or(self.clean.last());
        write!(
            f,
            "{} ms after a clean stop, {} ms after SIGKILL under load, {} waiting at the end",
            words(&self.clean),
            words(&self.killed),
            waiting.map_or(0, |opened| opened.waiting)
        )
    }
}

pub(super) fn check(case: &Case<'_>) -> Result<Check> {
    let (got, ok) = judged(openings(case), Outcome::holds)?;
    Ok(Check {
        id: case.id,
        must: format!(
            "with at least {WAITING} messages waiting the store is open, and the beginning of an inbox read, within \
             {OPENED_MAX_MS} ms, {TIMES} times after a clean stop and {TIMES} times after SIGKILL under load"
        ),
        got,
        ok: Some(ok),
        control: None,
    })
}

fn openings(case: &Case<'_>) -> Result<Outcome> {
    let logs = case.folder("whole")?;
    let place = case.place(&logs, logs.join("store"), None);
    let mut fill = place.command("fill");
    fill.args(["--messages", &WAITING.to_string()]);
    numbers_of(&mut fill, "filled ")?;
    let mut outcome = Outcome::default();
    for _ in 0..TIMES {
        outcome.clean.push(open(&place)?);
    }
    for _ in 0..TIMES {
        kill(&place)?;
        outcome.killed.push(open(&place)?);
    }
    Ok(outcome)
}

fn open(place: &Place) -> Result<Opened> {
    match numbers_of(&mut place.command("open"), "opened ")?.as_slice() {
        [took_ms, waiting] => Ok(Opened {
            took_ms: *took_ms,
            waiting: *waiting,
        }),
        _ => Err(unexpected("other numbers")),
    }
}

/// Writes for a while and is killed.
fn kill(place: &Place) -> Result {
    let mut command = place.command("fill");
    let mut child = command
        .args(["--messages", WITHOUT_END])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .map_err(|source| Failure::Start {
            program: "torture".to_owned(),
            source,
        })?;
    thread::sleep(LASTS);
    // One that has ended by itself has written nothing more, and that is seen.
    let _ = child.kill();
    let _ = child.wait();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: one long opening, one opening too few, and a load that was none fail the check. Method: spoil a good outcome.
    #[test]
    fn each_opening_counts() {
        let opened = |waiting| Opened {
            took_ms: 1_000,
            waiting,
        };
        let good = || Outcome {
            clean: vec![opened(WAITING); 3],
            killed: [1, 2, 3].map(|more| opened(WAITING + more)).into(),
        };
        assert!(good().holds());
        let mut long = good();
        long.clean[1].took_ms += 1;
        let mut few = good();
        few.clean.pop();
        let mut idle = good();
        idle.killed[1].waiting = WAITING + 1;
        for bad in [long, few, idle] {
            assert!(!bad.holds(), "{bad}");
        }
    }
}
