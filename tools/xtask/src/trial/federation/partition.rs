//! The network is cut for half a minute under traffic.

use std::time::Duration;

use super::super::checks::Check;
use super::super::ground::Ground;
use super::super::namespaces::Trouble;
use super::super::troubles::Scene;
use crate::failure::Result;

pub(super) const ID: &str = "long-partition-loses-nothing";
/// How long it stays cut.
const CUT: Duration = Duration::from_secs(30);
/// Pairs of people, and how often each of them writes: 200 messages a second in all.
const COUPLES: usize = 5;
const PACE: Duration = Duration::from_millis(50);
/// A rate that falls below this while the network is cut is not that rate.
const PER_SECOND_MIN: f64 = 195.0;
/// What that comes to, with the time around it.
const WRITTEN_MIN: usize = 6_400;
/// First delivery after the network is mended.
const FIRST_MAX: Duration = Duration::from_secs(5);

pub(super) fn must() -> String {
    format!(
        "two hosts, the network between them cut for {} s at 200 messages/s (really, {PER_SECOND_MIN} at least): all of at least {WRITTEN_MIN} accepted and shown; \
         lost, shown twice, out of order and returned 0; first delivery at most {} s after it is mended",
        CUT.as_secs(),
        FIRST_MAX.as_secs()
    )
}

pub(super) fn check(ground: &Ground<'_>) -> Result<Check> {
    const FAULT: &str = "forget-unanswered";
    let suffer = |name: &str, fault: Option<&'static str>| {
        Scene::set(ground, name, fault, COUPLES)?.suffer(Trouble::Cut, CUT, PACE, &mut 0)
    };
    let with = suffer("c", None)?;
    let without = suffer("c0", Some(FAULT))?;
    Ok(Check {
        id: ID,
        must: must(),
        got: with.to_string(),
        ok: Some(with.holds(WRITTEN_MIN, FIRST_MAX) && with.during.per_second() >= PER_SECOND_MIN),
        control: Some(without.traffic.as_control(FAULT, WRITTEN_MIN)?),
    })
}
