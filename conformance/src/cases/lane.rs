//! What a lane's positions mean: once, in order, without holes.

use std::sync::atomic::Ordering;

use super::{Case, Sent, TOMBSTONE, World};
use crate::failure::Result;
use crate::receipt::Answer;
use crate::report::{Finding, Level, Outcome};
use crate::transaction::Envelope;
use crate::wire::Encoder;

/// Refusal codes.
const MALFORMED: u16 = 18;
const EXPIRED: u16 = 19;
const LINK_CONFLICT: u16 = 26;

pub(super) async fn cases(world: &World) -> Result<Vec<Outcome>> {
    Ok(vec![
        replay(world).await?,
        gap(world).await?,
        conflict(world).await?,
        unreadable_payload(world).await?,
        expired(world).await?,
        other_lane(world).await?,
        tombstone(world).await?,
        stale_epoch(world).await?,
        epoch_ahead(world).await?,
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
        requirement: "LINK-022",
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
        requirement: "LINK-024",
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
    let refused = refused_with(&sent, LINK_CONFLICT);
    let case = Case {
        id: "lane.conflict",
        requirement: "LINK-023",
        level: Level::Must,
        must: "another envelope at a position that is taken is refused",
        hint: "compare position hashes for the last 1,024 positions of a lane",
    };
    Ok(case.outcome(Finding::new(refused, sent.describe())))
}

/// A payload that does not decode uses its position up: the peer's next envelope is not held back.
async fn unreadable_payload(world: &World) -> Result<Outcome> {
    let mut envelope = world.envelope();
    envelope.payload = b"not a request".to_vec();
    let case = Case {
        id: "lane.poison",
        requirement: "ENV-033",
        level: Level::Must,
        must: "a payload that does not decode is refused alone, and the lane goes on behind it",
        hint: "a refusal uses the position up",
    };
    Ok(case.outcome(refused_alone(world, envelope, MALFORMED).await?))
}

/// An envelope whose time has run out.
async fn expired(world: &World) -> Result<Outcome> {
    let mut envelope = world.envelope();
    envelope.created_ms = envelope.created_ms.saturating_sub(120_000);
    envelope.expires_ms = envelope.created_ms.saturating_add(60_000);
    let case = Case {
        id: "lane.expired",
        requirement: "ENV-003",
        level: Level::Must,
        must: "an envelope whose time has run out is refused as expired, and the lane goes on behind it",
        hint: "judge by the receiver's clock",
    };
    Ok(case.outcome(refused_alone(world, envelope, EXPIRED).await?))
}

/// What belongs to no room, on the lane of a room; that lane is another one, so it begins at 1.
async fn other_lane(world: &World) -> Result<Outcome> {
    let mut envelope = world.envelope_at(1);
    envelope.lane = [5; 16];
    let sent = world.send(world.sign(&[envelope]).bytes).await?;
    let refused = refused_with(&sent, MALFORMED);
    let case = Case {
        id: "lane.other-lane",
        requirement: "ENV-001",
        level: Level::Must,
        must: "a request for key packages on a room's lane is refused as malformed",
        hint: "the lane is the room's id, or zeros for what belongs to no room",
    };
    Ok(case.outcome(Finding::new(refused, sent.describe())))
}

/// Sends an envelope that must be refused for this reason, then a right one that must be accepted.
pub(super) async fn refused_alone(world: &World, envelope: Envelope, code: u16) -> Result<Finding> {
    let sent = world.send(world.sign(&[envelope]).bytes).await?;
    let refused = refused_with(&sent, code);
    if refused {
        world.next.fetch_add(1, Ordering::Relaxed);
    }
    let after = world.send_good().await?;
    let goes_on = after.answers() == [Answer::Accepted];
    Ok(Finding::new(
        refused && goes_on,
        format!(
            "{}; then a right one: {}",
            sent.describe(),
            after.describe()
        ),
    ))
}

fn refused_with(sent: &Sent, expected: u16) -> bool {
    matches!(sent.answers(), [Answer::Refused { code, .. }] if *code == expected)
}

/// A tombstone stands for three positions.
async fn tombstone(world: &World) -> Result<Outcome> {
    let mut envelope = world.envelope();
    let lane = envelope.lane;
    let last = envelope.sequence.saturating_add(2);
    envelope.kind = TOMBSTONE;
    envelope.expires_ms = 0;
    envelope.payload = Encoder::new().u32(3).u16(EXPIRED).finish();
    let sent = world.send(world.sign(&[envelope]).bytes).await?;
    let moved = matches!(&sent, Sent::Receipt(receipt) if receipt.position(&lane) == Some(last));
    let ok = sent.answers() == [Answer::Accepted] && moved;
    if ok {
        world.next.fetch_add(3, Ordering::Relaxed);
    }
    let case = Case {
        id: "lane.tombstone",
        requirement: "LINK-032",
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
        requirement: "LINK-025",
        level: Level::Must,
        must: "envelopes of a link epoch that the peer has left are not taken",
        hint: "link epochs only grow",
    };
    Ok(case.outcome(Finding::new(!taken, sent.describe())))
}

/// A link epoch ahead of every clock. Whoever takes it takes nothing of this peer any more.
async fn epoch_ahead(world: &World) -> Result<Outcome> {
    let mut envelope = world.envelope();
    envelope.link_epoch = u64::MAX;
    envelope.sequence = 1;
    let sent = world.send(world.sign(&[envelope]).bytes).await?;
    let after = world.send_good().await?;
    let goes_on = after.answers() == [Answer::Accepted];
    let case = Case {
        id: "lane.epoch-ahead",
        requirement: "LINK-025",
        level: Level::Must,
        must: "a transaction of a link epoch ahead of the clock is not taken, and the link goes on",
        hint: "hold a higher link epoch to the clock before it is kept",
    };
    Ok(case.outcome(Finding::new(
        sent.answers().is_empty() && goes_on,
        format!(
            "{}; then a right one: {}",
            sent.describe(),
            after.describe()
        ),
    )))
}
