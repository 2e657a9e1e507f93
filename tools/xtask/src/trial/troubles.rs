//! People of two hosts who write to each other while the network between them is in trouble.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::ground::Ground;
use super::namespaces::{Hosts, Trouble};
use super::record::Record;
use super::stage::Stage;
use super::traffic::{DRAIN_MAX, Traffic, Written, write_for};
use crate::failure::Result;

/// How long traffic runs before and after the trouble.
const AROUND: Duration = Duration::from_secs(2);

/// Trouble lasts at most so much longer than it should: beyond that it is another trial than the one that is told.
const LONGER_MAX: Duration = Duration::from_secs(2);

/// Two hosts with their homeservers and people.
pub(super) struct Scene {
    // In this order: the processes end before their namespaces do.
    stage: Stage,
    hosts: Hosts,
    /// People on each host, new ones for each trouble: what one leaves behind does not concern the next.
    couples: usize,
    /// Couples so far.
    enrolled: usize,
}

/// What came of it.
pub(super) struct Suffered {
    pub(super) traffic: Traffic,
    /// How long the trouble was to last, and how long it did.
    planned: Duration,
    lasted: Duration,
    /// What was written in all that time.
    pub(super) during: Written,
    /// From the network's mending to the next message shown.
    first: Duration,
}

impl Scene {
    /// Sets it, with so many people on each host.
    pub(super) fn set(
        ground: &Ground<'_>,
        name: &str,
        fault: Option<&'static str>,
        couples: usize,
    ) -> Result<Self> {
        let hosts = Hosts::new(name)?;
        let stage = ground.stage(name, fault, Some(&hosts))?;
        Ok(Self {
            stage,
            hosts,
            couples,
            enrolled: 0,
        })
    }

    /// Everybody writes a text in every `pace`, before, during and after the trouble.
    pub(super) fn suffer(
        &mut self,
        trouble: Trouble,
        time: Duration,
        pace: Duration,
        number: &mut u32,
    ) -> Result<Suffered> {
        let record = Arc::new(Record::default());
        let mut pairs = Vec::new();
        for _ in 0..self.couples {
            let (alice, bob) = self.stage.couple(self.enrolled)?;
            self.enrolled = self.enrolled.saturating_add(1);
            pairs.push(self.stage.talk(&alice, &bob, &record)?);
        }
        write_for(AROUND, pace, &mut pairs, number)?;
        record.wait_shown(1, DRAIN_MAX)?;
        self.hosts.trouble(trouble)?;
        let begun = Instant::now();
        let during = write_for(time, pace, &mut pairs, number)?;
        let before = record.entries().shown.len();
        let lasted = begun.elapsed();
        self.hosts.heal()?;
        let healed = Instant::now();
        record.wait_shown(before.saturating_add(1), DRAIN_MAX)?;
        let first = healed.elapsed();
        write_for(AROUND, pace, &mut pairs, number)?;
        Ok(Suffered {
            traffic: Traffic::drained(&record),
            planned: time,
            lasted,
            during,
            first,
        })
    }
}

impl Suffered {
    pub(super) fn holds(&self, written_min: usize, first_max: Duration) -> bool {
        self.traffic.holds(written_min) && self.lasted_as_planned() && self.first <= first_max
    }

    fn lasted_as_planned(&self) -> bool {
        let longest = self.planned.saturating_add(LONGER_MAX);
        (self.planned..=longest).contains(&self.lasted)
    }
}

impl fmt::Display for Suffered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}; in trouble for {:.1} s, in which was {}; first delivery {:.1} s after the network was mended",
            self.traffic,
            self.lasted.as_secs_f64(),
            self.during,
            self.first.as_secs_f64()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trial::record::Tally;

    /// Goal: trouble that was shorter or much longer than it should be, and a first delivery that came late, don't
    /// pass. Method: at each bound and beyond.
    #[test]
    fn trouble_lasts_as_long_as_it_says() {
        const FIRST_MAX: Duration = Duration::from_secs(5);
        let holds = |lasted_ms, first_ms| {
            let suffered = Suffered {
                traffic: Traffic {
                    tally: Tally {
                        written: 10,
                        accepted: 10,
                        ..Tally::default()
                    },
                    drained: true,
                },
                planned: Duration::from_secs(30),
                lasted: Duration::from_millis(lasted_ms),
                during: Written::default(),
                first: Duration::from_millis(first_ms),
            };
            suffered.holds(10, FIRST_MAX)
        };
        assert!(holds(30_000, 5_000));
        assert!(holds(32_000, 0));
        assert!(!holds(29_999, 0), "too short");
        assert!(!holds(32_001, 0), "too long");
        assert!(!holds(30_000, 5_001), "too late");
    }
}
