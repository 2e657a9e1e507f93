//! Keys change hands while people write to each other.

use std::sync::Arc;
use std::time::Duration;

use super::super::checks::Check;
use super::super::ground::Ground;
use super::super::record::Record;
use super::super::traffic::{Traffic, Written, write_for};
use crate::failure::Result;

/// Rotations, of envelope keys and of TLS keys, at either homeserver.
const ROTATIONS: usize = 20;
/// Between two of them.
const BETWEEN: Duration = Duration::from_millis(700);
/// How often each of two people writes.
const PACE: Duration = Duration::from_millis(20);
/// Fewer messages than this, or fewer a second between the rotations, are no traffic.
const WRITTEN_MIN: usize = 1_000;
const PER_SECOND_MIN: f64 = 95.0;

fn run(ground: &Ground<'_>, name: &str, fault: Option<&'static str>) -> Result<(Traffic, Written)> {
    let stage = ground.stage(name, fault, None)?;
    let (alice, bob) = stage.people()?;
    let record = Arc::new(Record::default());
    let mut pairs = [stage.talk(&alice, &bob, &record)?];
    let mut number = 0;
    let mut written = write_for(BETWEEN, PACE, &mut pairs, &mut number)?;
    // Each kind at each homeserver in turn.
    let turns = [
        (&stage.a, "envelope"),
        (&stage.b, "tls"),
        (&stage.b, "envelope"),
        (&stage.a, "tls"),
    ];
    for (server, kind) in turns.into_iter().cycle().take(ROTATIONS) {
        server.hsctl(&["keys", "rotate", kind])?;
        written += write_for(BETWEEN, PACE, &mut pairs, &mut number)?;
    }
    Ok((Traffic::drained(&record), written))
}

/// Twenty rotations under traffic.
pub(super) fn check(ground: &Ground<'_>) -> Result<Check> {
    const FAULT: &str = "stale-manifest";
    let (with, written) = run(ground, "k", None)?;
    let (without, _) = run(ground, "k0", Some(FAULT))?;
    Ok(Check {
        id: "rotations-fail-no-send",
        must: format!(
            "{ROTATIONS} rotations of envelope and TLS keys at two homeservers under traffic both ways, {PER_SECOND_MIN} \
             messages/s at least: all of at least {WRITTEN_MIN} accepted and shown; lost, shown twice, out of order and returned 0"
        ),
        got: format!("{with}; {written}"),
        ok: Some(with.holds(WRITTEN_MIN) && written.per_second() >= PER_SECOND_MIN),
        control: Some(without.as_control(FAULT, WRITTEN_MIN)?),
    })
}
