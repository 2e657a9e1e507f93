//! People of two hosts who write to each other while the network between them is in trouble.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::ground::Ground;
use super::namespaces::{Hosts, Trouble};
use super::record::Record;
use super::stage::Stage;
use super::traffic::{DRAIN_MAX, Traffic, write_for};
use crate::failure::Result;

/// How long traffic runs before and after the trouble.
const AROUND: Duration = Duration::from_secs(2);

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
        write_for(time, pace, &mut pairs, number)?;
        let before = record.entries().shown.len();
        self.hosts.heal()?;
        let healed = Instant::now();
        record.wait_shown(before.saturating_add(1), DRAIN_MAX)?;
        let first = healed.elapsed();
        write_for(AROUND, pace, &mut pairs, number)?;
        Ok(Suffered {
            traffic: Traffic::drained(&record),
            first,
        })
    }
}

impl Suffered {
    pub(super) fn holds(&self, written_min: usize, first_max: Duration) -> bool {
        self.traffic.holds(written_min) && self.first <= first_max
    }
}

impl fmt::Display for Suffered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}; first delivery {:.1} s after the network was mended",
            self.traffic,
            self.first.as_secs_f64()
        )
    }
}
