//! The background: takes what has grown old to the index, frees the log behind it, and looks after
//! segments.
//!
//! The order is what makes a crash harmless at any point: the index holds a layer durably, together
//! with the number of its last batch, before the layer is dropped; and it is dropped before a segment
//! is freed. What the index holds of a layer that it holds in part is written again after a restart,
//! with the same outcome.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use super::Shared;
use super::record::Change;
use super::recovery::Place;
use super::young::{Layer, copy};
use crate::store::engine::index::Mark;
use crate::store::{Key, StoreError, Value};

/// How often the background looks whether something has grown old.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Runs until the engine is dropped, or something fails: then nothing is written any more.
pub(super) fn run(shared: &Shared) {
    let mut tidied_at = Instant::now();
    while shared.backlog.wait_for_work(LOOK_EVERY) {
        if let Err(error) = look(shared, Instant::now(), &mut tidied_at) {
            tracing::error!(%error, "the commit log can't be emptied; nothing is written any more");
            shared.backlog.fail(error);
            return;
        }
    }
}

/// Does what is due at `now`.
fn look(shared: &Shared, now: Instant, tidied_at: &mut Instant) -> Result<(), StoreError> {
    if shared.segment_wanted.swap(false, Ordering::Relaxed)
        && let Err(error) = shared.pool.prepare(shared.limits.ready_segments)
    {
        // The writer makes one itself when it needs one, and fails if it can't either.
        tracing::warn!(%error, "no segment of the commit log could be made ready");
    }
    close_old_layer(shared, now);
    while !shared.backlog.is_stopping() && is_due(shared, now) {
        drain_oldest(shared, &mut |_| ())?;
    }
    if now.saturating_duration_since(*tidied_at) >= shared.limits.tidy_every {
        *tidied_at = now;
        tidy(shared, now)?;
    }
    Ok(())
}

/// Closes the newest layer when it is old enough, or when it is all there is and too much.
fn close_old_layer(shared: &Shared, now: Instant) {
    let pressing = shared.backlog.bytes() > shared.limits.young_bytes_max;
    let mut young = shared.young_mut();
    let old = young.newest().is_some_and(|layer| {
        now.saturating_duration_since(layer.first_at) >= shared.limits.layer_time_max
    });
    if old || (pressing && young.closed().next().is_none()) {
        young.close();
    }
}

fn is_due(shared: &Shared, now: Instant) -> bool {
    let pressing = shared.backlog.bytes() > shared.limits.young_bytes_max;
    shared.young().closed().next().is_some_and(|layer| {
        pressing || now.saturating_duration_since(layer.last_at) >= shared.limits.young_time
    })
}

/// Where a drain has got to; a test looks at what a crash would leave there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// The index holds a part of the layer.
    Part,
    /// The index holds the layer, and says so.
    Written,
    /// The layer is dropped.
    Dropped,
    /// The log is freed.
    Freed,
}

/// Takes the oldest closed layer to the index, if there is one.
pub(super) fn drain_oldest(
    shared: &Shared,
    between: &mut dyn FnMut(Step),
) -> Result<bool, StoreError> {
    let layers: Vec<Arc<Layer>> = shared.young().closed().map(Arc::clone).collect();
    let Some((oldest, newer)) = layers.split_first() else {
        return Ok(false);
    };
    let below = shared.index.moment();
    let mut some = Vec::new();
    let mut bytes = 0;
    for (key, value) in &oldest.entries {
        // What has changed since never gets there, and what never got there needs no deletion.
        if newer.iter().any(|layer| layer.entries.contains_key(key))
            || (value.is_none() && below.get(key)?.is_none())
        {
            continue;
        }
        bytes += key.len() + value.as_ref().map_or(0, |value| value.len());
        some.push((copy(key), value.as_ref().map(copy)));
        if bytes >= shared.limits.drain_bytes_max {
            shared.index.write(some.iter().map(pair), &[])?;
            between(Step::Part);
            some.clear();
            bytes = 0;
        }
    }
    note(shared, some, oldest.sequence, oldest.segment)?;
    between(Step::Written);
    let dropped = shared.young_mut().drop_oldest();
    shared.backlog.subtract(oldest.bytes);
    drop(dropped);
    between(Step::Dropped);
    shared.pool.free_below(oldest.segment);
    between(Step::Freed);
    Ok(true)
}

/// Writes the rest of what the index takes, with the last batch that it then holds.
fn note(shared: &Shared, rest: Vec<Change>, sequence: u64, segment: u64) -> Result<(), StoreError> {
    let log = shared.pool.log();
    let place = Place { log, segment }.encode();
    let marks = [Mark::Sequence(sequence), Mark::Log(Some(&place))];
    shared.index.write(rest.iter().map(pair), &marks)?;
    shared.noted_segment.store(segment, Ordering::Relaxed);
    Ok(())
}

fn pair(change: &Change) -> (&Key, &Option<Value>) {
    (&change.0, &change.1)
}

/// Overwrites what is free, ends the segment in use when it is old, and moves on behind it once all is
/// in the index.
pub(super) fn tidy(shared: &Shared, now: Instant) -> Result<(), StoreError> {
    shared.pool.overwrite_free()?;
    if shared.writer().is_old(shared.limits, now) {
        // Made ready outside of the writer's lock: that may take a while.
        shared.pool.prepare(1)?;
        shared.writer().end_old(&shared.pool, shared.limits, now)?;
    }
    let end = {
        // All batches that the writer has counted are in `young` or in the index.
        let writer = shared.writer();
        shared
            .young()
            .is_empty()
            .then(|| (writer.sequence, writer.current.number()))
    };
    if let Some((sequence, segment)) = end
        && segment != shared.noted_segment.load(Ordering::Relaxed)
    {
        note(shared, Vec::new(), sequence, segment)?;
        shared.pool.free_below(segment);
    }
    Ok(())
}

/// Takes everything to the index.
pub(super) fn drain_all(shared: &Shared) -> Result<(), StoreError> {
    shared.young_mut().close();
    while drain_oldest(shared, &mut |_| ())? {}
    Ok(())
}
