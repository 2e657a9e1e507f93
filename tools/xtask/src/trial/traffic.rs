//! People who write to each other at a steady pace, and what became of what they wrote.

use std::thread;
use std::time::{Duration, Instant};

use super::checks::Control;
use super::person::Talking;
use super::record::{Record, Tally};
use crate::failure::{Failure, Result};

/// After the last fault everything must be shown within; a control has as long as its check.
pub(super) const DRAIN_MAX: Duration = Duration::from_secs(40);

/// Both of each pair write, one text each in every `pace`, for a while. Numbers go on from `number`.
pub(super) fn write_for(
    time: Duration,
    pace: Duration,
    pairs: &mut [(Talking, Talking)],
    number: &mut u32,
) -> Result {
    let begun = Instant::now();
    let mut next = Duration::ZERO;
    while next < time {
        *number = number.saturating_add(1);
        for pair in pairs.iter_mut() {
            pair.0.say(*number)?;
            pair.1.say(*number)?;
        }
        next = next.saturating_add(pace);
        // Late is made up for: the pace holds on average.
        thread::sleep(next.saturating_sub(begun.elapsed()));
    }
    Ok(())
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
