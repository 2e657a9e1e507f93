//! What a lane's positions mean: once, in order, without holes.

use std::sync::atomic::Ordering;

use super::{Case, KEY_REQUEST, Sent, TOMBSTONE, World};
use crate::failure::Result;
use crate::receipt::Answer;
use crate::report::{Finding, Level, Outcome};
use crate::wire::Encoder;

/// `expired`: the code that the tombstone states.
const EXPIRED: u16 = 19;

pub(super) async fn cases(world: &World) -> Result<Vec<Outcome>> {
    Ok(vec![
        replay(world).await?,
        gap(world).await?,
        conflict(world).await?,
        unreadable_payload(world).await?,
        tombstone(world).await?,
        stale_epoch(world).await?,
    ])
}

/// The very same bytes again, over another connection.
async fn replay(world: &World) -> Result<Outcome> {
    let envelope = world.envelope();
    let (lane, position) = (envelope.lane, envelope.sequence);
    let bytes = world.sign(&[envelope]).bytes;
    let first = world.send(bytes.clone()).await?;
    world.next.fetch_add(1, Ordering::Relaxed);
    let second = world.send(bytes).await?;
    let stays =
        matches!(&second, Sent::Receipt(receipt) if receipt.position(&lane) == Some(position));
    let ok =
        first.answers() == [Answer::Accepted] && second.answers() == [Answer::Duplicate] && stays;
    let case = Case {
        id: "lane.replay",
        requirement: "LANE-001",
        level: Level::Must,
        must: "the same transaction again is answered as a duplicate, and the position stays",
        hint: "store the position together with the delivery",
    };
    Ok(case.outcome(Finding::new(
        ok,
        format!("{}; then {}", first.describe(), second.describe()),
    )))
}

/// A position is missing: what follows waits, and is taken once the hole is filled.
async fn gap(world: &World) -> Result<Outcome> {
    let next = world.next.load(Ordering::Relaxed);
    let early = world
        .send(
            world
                .sign(&[world.envelope_at(next.saturating_add(1))])
                .bytes,
        )
        .await?;
    let deferred = matches!(early.answers(), [Answer::Deferred { .. }]);
    let filled = world
        .send(
            world
                .sign(&[
                    world.envelope_at(next),
                    world.envelope_at(next.saturating_add(1)),
                ])
                .bytes,
        )
        .await?;
    let taken = filled.answers() == [Answer::Accepted, Answer::Accepted];
    if taken {
        world.next.fetch_add(2, Ordering::Relaxed);
    }
    let case = Case {
        id: "lane.gap",
        requirement: "LANE-002",
        level: Level::Must,
        must: "an envelope after a hole is deferred, and taken once the hole is filled",
        hint: "never move a position over a hole",
    };
    Ok(case.outcome(Finding::new(
        deferred && taken,
        format!("{}; then {}", early.describe(), filled.describe()),
    )))
}

/// Another envelope at a position that is taken.
async fn conflict(world: &World) -> Result<Outcome> {
    let taken_at = world.next.load(Ordering::Relaxed).saturating_sub(1);
    let mut other = world.envelope_at(taken_at);
    other.created_ms = other.created_ms.saturating_sub(60_000);
    let sent = world.send(world.sign(&[other]).bytes).await?;
    let refused = matches!(sent.answers(), [Answer::Refused { .. }]);
    let case = Case {
        id: "lane.conflict",
        requirement: "LANE-003",
        level: Level::Must,
        must: "another envelope at a position that is taken is refused",
        hint: "compare position hashes for the last 1,024 positions of a lane",
    };
    Ok(case.outcome(Finding::new(refused, sent.describe())))
}

/// A payload that does not decode uses its position up: the peer's next envelope is not held back.
async fn unreadable_payload(world: &World) -> Result<Outcome> {
    let mut envelope = world.envelope();
    envelope.kind = KEY_REQUEST;
    envelope.payload = b"not a request".to_vec();
    let sent = world.send(world.sign(&[envelope]).bytes).await?;
    let refused = matches!(sent.answers(), [Answer::Refused { .. }]);
    if refused {
        world.next.fetch_add(1, Ordering::Relaxed);
    }
    let after = world.send_good().await?;
    let goes_on = after.answers() == [Answer::Accepted];
    let case = Case {
        id: "lane.poison",
        requirement: "LANE-004",
        level: Level::Must,
        must: "a payload that does not decode is refused, and the lane goes on behind it",
        hint: "a refusal uses the position up",
    };
    Ok(case.outcome(Finding::new(
        refused && goes_on,
        format!("{}; then {}", sent.describe(), after.describe()),
    )))
}

/// A tombstone stands for three positions.
async fn tombstone(world: &World) -> Result<Outcome> {
    let mut envelope = world.envelope();
    let lane = envelope.lane;
    let last = envelope.sequence.saturating_add(2);
    envelope.kind = TOMBSTONE;
    envelope.payload = Encoder::new().u32(3).u16(EXPIRED).finish();
    let sent = world.send(world.sign(&[envelope]).bytes).await?;
    let moved = matches!(&sent, Sent::Receipt(receipt) if receipt.position(&lane) == Some(last));
    let ok = sent.answers() == [Answer::Accepted] && moved;
    if ok {
        world.next.fetch_add(3, Ordering::Relaxed);
    }
    let case = Case {
        id: "lane.tombstone",
        requirement: "LANE-005",
        level: Level::Must,
        must: "a tombstone for three positions moves the lane by three",
        hint: "a tombstone states how many positions it stands for",
    };
    Ok(case.outcome(Finding::new(ok, sent.describe())))
}

/// A link epoch that the peer has left.
async fn stale_epoch(world: &World) -> Result<Outcome> {
    let mut envelope = world.envelope();
    envelope.link_epoch = world.link_epoch.saturating_sub(1);
    envelope.sequence = 1;
    let sent = world.send(world.sign(&[envelope]).bytes).await?;
    let taken = sent
        .answers()
        .iter()
        .any(|answer| matches!(answer, Answer::Accepted | Answer::Duplicate));
    let case = Case {
        id: "lane.stale-epoch",
        requirement: "LANE-006",
        level: Level::Must,
        must: "envelopes of a link epoch that the peer has left are not taken",
        hint: "link epochs only grow",
    };
    Ok(case.outcome(Finding::new(!taken, sent.describe())))
}
