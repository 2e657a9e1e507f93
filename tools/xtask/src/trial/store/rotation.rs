//! What a rotation of keys costs with a million messages waiting: there is one every ten minutes while anything is deleted.

use std::fmt;

use super::process::{numbers_of, unexpected};
use super::{Case, judged};
use crate::failure::Result;
use crate::trial::checks::Check;

/// Messages that wait; each is two contents, with a key each.
const WAITING: u64 = 1_000_000;
/// One of them is acknowledged, so that there is something to destroy.
const ACKNOWLEDGED: u64 = 1;
/// Milliseconds between two rotations, and how much of a core they may take in the long run.
const EVERY_MS: u64 = 10 * 60 * 1000;
const CORE_PERCENT_MAX: u64 = 5;
/// What a rotation may take, so that what was deleted is unreadable in time.
const TOOK_MAX_MS: u64 = 150 * 1000;

/// What one rotation has cost.
#[derive(Debug, Clone, Copy)]
struct Outcome {
    waiting: u64,
    processor_ms: u64,
    took_ms: u64,
}

impl Outcome {
    fn holds(&self) -> bool {
        self.waiting == WAITING - ACKNOWLEDGED
            && self.processor_ms.saturating_mul(100) <= EVERY_MS.saturating_mul(CORE_PERCENT_MAX)
            && self.took_ms <= TOOK_MAX_MS
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let thousandths = self
            .processor_ms
            .saturating_mul(1000)
            .checked_div(EVERY_MS)
            .unwrap_or_default();
        write!(
            f,
            "{} waiting: {} ms of processor time, {}.{} % of a core; {} ms until the former generation was destroyed",
            self.waiting,
            self.processor_ms,
            thousandths / 10,
            thousandths % 10,
            self.took_ms
        )
    }
}

pub(super) fn check(case: &Case<'_>) -> Result<Check> {
    let (got, ok) = judged(rotate(case), Outcome::holds)?;
    Ok(Check {
        id: case.id,
        must: format!(
            "with {WAITING} messages waiting, of two contents each, a rotation takes at most {CORE_PERCENT_MAX} % of a core when there \
             is one every {} s, and the former generation is destroyed within {} s",
            EVERY_MS / 1000,
            TOOK_MAX_MS / 1000
        ),
        got,
        ok: Some(ok),
        control: None,
    })
}

fn rotate(case: &Case<'_>) -> Result<Outcome> {
    let logs = case.folder("whole")?;
    let place = case.place(&logs, logs.join("data"), None);
    let mut fill = place.command("fill");
    fill.args(["--sealed", "--messages", &WAITING.to_string()]);
    numbers_of(&mut fill, "filled ")?;
    match numbers_of(&mut place.command("rotate"), "rotated ")?.as_slice() {
        [waiting, processor_ms, took_ms] => Ok(Outcome {
            waiting: *waiting,
            processor_ms: *processor_ms,
            took_ms: *took_ms,
        }),
        _ => Err(unexpected("other numbers")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: each bound is held to. Method: an outcome at the bounds, and one beyond each.
    #[test]
    fn each_bound_counts() {
        let good = Outcome {
            waiting: 999_999,
            processor_ms: 30_000,
            took_ms: 150_000,
        };
        assert!(good.holds());
        assert!(good.to_string().contains("5.0 % of a core"), "{good}");
        let bad = [
            Outcome {
                waiting: 1_000_000,
                ..good
            },
            Outcome {
                processor_ms: 30_001,
                ..good
            },
            Outcome {
                took_ms: 150_001,
                ..good
            },
        ];
        for outcome in bad {
            assert!(!outcome.holds(), "{outcome}");
        }
    }
}
