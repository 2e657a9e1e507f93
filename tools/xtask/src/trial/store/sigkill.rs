//! The process is killed under load, again and again over one store.

use std::thread;
use std::time::Duration;

use super::ledger::Ledger;
use super::process::{Load, Writer};
use super::{Case, FAULT, Series, judged};
use crate::failure::Result;
use crate::trial::checks::Check;

const KILLS: u32 = 60;
const CONTROL_KILLS: u32 = 5;
/// Messages that stay in each inbox.
const WAITING: u32 = 100;
/// Long enough that what is young in the commit log goes to the index.
const LONG_LIFE: Duration = Duration::from_secs(7);

/// When a life ends.
#[derive(Debug, PartialEq, Eq)]
struct End {
    /// Counted from the first answer, not from the start: so it is killed under load, not while it opens.
    is_under_load: bool,
    after: Duration,
}

impl End {
    /// Of the life with this number, from 1 on.
    fn of(life: u32) -> Self {
        let spread = u64::from(life).saturating_mul(7_919);
        let (is_under_load, after) = match life {
            life if life % 10 == 0 => (true, LONG_LIFE),
            life if life % 7 == 3 => (false, Duration::from_millis(spread % 60)),
            _ => (true, Duration::from_millis(spread % 700)),
        };
        Self {
            is_under_load,
            after,
        }
    }
}

pub(super) fn check(case: &Case<'_>) -> Result<Check> {
    let (got, ok) = judged(kills(case, None, KILLS), Series::holds)?;
    Ok(Check {
        id: case.id,
        must: format!(
            "killed {KILLS} times, under load, while it opens, and while the background works: lost, duplicated, wrong bytes, \
             resurrected, half written, holes and out of turn 0"
        ),
        got,
        ok: Some(ok),
        control: case.control(|| kills(case, Some(FAULT), CONTROL_KILLS))?,
    })
}

/// Kills so many lives, or as many as nothing is wrong after.
fn kills(case: &Case<'_>, fault: Option<&'static str>, count: u32) -> Result<Series> {
    let logs = case.folder(fault.unwrap_or("whole"))?;
    let place = case.place(&logs, logs.join("store"), fault);
    let load = Load {
        waiting: Some(WAITING),
        pause: case.engine.pause(),
        seconds: None,
    };
    let mut ledger = Ledger::default();
    let mut series = Series::of("kills");
    for life in 1..=count {
        let mut writer = Writer::start(&place, load, ledger)?;
        let end = End::of(life);
        if end.is_under_load {
            writer.wait_answered(1)?;
        }
        thread::sleep(end.after);
        ledger = writer.kill()?;
        if !series.take(&mut ledger, place.show()?)? {
            break;
        }
    }
    Ok(series)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: lives end under load, while they open, and after the background has worked; the first one under load, for it
    /// makes the store. Method: all ends of a run.
    #[test]
    fn lives_end_in_every_way() {
        let ends: Vec<End> = (1..=KILLS).map(End::of).collect();
        let count = |so: fn(&&End) -> bool| ends.iter().filter(so).count();
        assert_eq!(count(|end| end.after == LONG_LIFE), 6);
        assert!(count(|end| !end.is_under_load) >= 6);
        assert!(count(|end| end.is_under_load && end.after < LONG_LIFE) >= 40);
        assert!(ends[0].is_under_load);
    }
}
