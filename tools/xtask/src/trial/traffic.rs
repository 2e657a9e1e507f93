//! People who write to each other at a steady pace, and what became of what they wrote.

use std::thread;
use std::time::{Duration, Instant};

use super::checks::Control;
use super::person::Talking;
use super::record::{Record, Tally};
use crate::failure::{Failure, Result};

/// After the last fault everything must be shown within; a control has as long as its check.
pub(super) const DRAIN_MAX: Duration = Duration::from_secs(40);

/// What was written in how long, really: a client that takes no more for a while holds its writer up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Written {
    texts: usize,
    time: Duration,
}

impl Written {
    /// Texts a second.
    pub(super) fn per_second(&self) -> f64 {
        let texts = u32::try_from(self.texts).unwrap_or(u32::MAX);
        f64::from(texts) / self.time.as_secs_f64().max(f64::EPSILON)
    }
}

impl std::ops::AddAssign for Written {
    fn add_assign(&mut self, other: Self) {
        self.texts = self.texts.saturating_add(other.texts);
        self.time = self.time.saturating_add(other.time);
    }
}

impl std::fmt::Display for Written {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "written at {:.1}/s for {:.1} s",
            self.per_second(),
            self.time.as_secs_f64()
        )
    }
}

/// Both of each pair write, one text each in every `pace`, for a while. Numbers go on from `number`.
pub(super) fn write_for(
    time: Duration,
    pace: Duration,
    pairs: &mut [(Talking, Talking)],
    number: &mut u32,
) -> Result<Written> {
    let begun = Instant::now();
    let mut next = Duration::ZERO;
    let mut texts = 0_usize;
    while next < time {
        *number = number.saturating_add(1);
        for pair in pairs.iter_mut() {
            pair.0.say(*number)?;
            pair.1.say(*number)?;
            texts = texts.saturating_add(2);
        }
        next = next.saturating_add(pace);
        // Late is made up for: the pace holds on average.
        thread::sleep(next.saturating_sub(begun.elapsed()));
    }
    Ok(Written {
        texts,
        time: begun.elapsed(),
    })
}

/// What traffic under faults came to.
pub(super) struct Traffic {
    pub(super) tally: Tally,
    /// Whether everything written was accepted and shown in the end: a lasting outage is a loss too.
    pub(super) drained: bool,
}

impl Traffic {
    /// Waits until everything has arrived, or for as long as that may take.
    pub(super) fn drained(record: &Record) -> Self {
        let drained = record.wait_drained(DRAIN_MAX);
        Self {
            tally: record.entries().tally(),
            drained,
        }
    }

    pub(super) const fn holds(&self, written_min: usize) -> bool {
        self.drained
            && self.tally.written >= written_min
            && self.tally.accepted == self.tally.written
            && self.tally.holds()
    }

    /// A control counts when it lost what had been accepted; an outage of another kind proves nothing.
    pub(super) fn as_control(&self, without: &'static str, written_min: usize) -> Result<Control> {
        let ok = self.holds(written_min);
        if !ok && (self.tally.accepted == 0 || self.tally.lost == 0) {
            return Err(Failure::DidNotHold(format!(
                "the control without {without} failed, but lost nothing that was accepted: {self}"
            )));
        }
        Ok(Control {
            without,
            got: self.to_string(),
            ok,
        })
    }
}

impl std::fmt::Display for Traffic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.tally.fmt(f)?;
        if self.drained {
            Ok(())
        } else {
            f.write_str("; not everything was accepted and shown")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Traffic {
        Traffic {
            tally: Tally {
                written: 600,
                accepted: 600,
                ..Tally::default()
            },
            drained: true,
        }
    }

    /// Goal: a rate is that of the time that writing took, not of what was planned. Method: two times, one of which
    /// took twice as long.
    #[test]
    fn the_rate_is_what_was_written() {
        let half = |seconds| Written {
            texts: 300,
            time: Duration::from_secs(seconds),
        };
        let mut both = half(1);
        assert!((both.per_second() - 300.0).abs() < 1e-6);
        both += half(2);
        assert!((both.per_second() - 200.0).abs() < 1e-6);
        assert_eq!(both.to_string(), "written at 200.0/s for 3.0 s");
    }

    /// Goal: traffic that never came back, was never accepted or was too little does not pass, though
    /// nothing accepted was lost. Method: spoil good traffic in one place.
    #[test]
    fn a_lasting_outage_is_a_failure() {
        assert!(good().holds(600));
        assert!(!good().holds(601));
        let mut stuck = good();
        stuck.drained = false;
        assert!(!stuck.holds(600));
        let mut silent = good();
        silent.tally.accepted = 599;
        assert!(!silent.holds(600));
    }

    /// Goal: a control is noticed for its own reason alone: it lost something. Method: each way to fail.
    #[test]
    fn a_control_fails_for_its_own_reason() {
        assert!(good().as_control("x", 600).unwrap().ok);
        let mut lossy = good();
        lossy.tally.lost = 1;
        assert!(!lossy.as_control("x", 600).unwrap().ok);
        let mut stuck = good();
        stuck.drained = false;
        assert!(stuck.as_control("x", 600).is_err());
    }
}
