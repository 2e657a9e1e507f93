//! From one generation to the next: what was deleted becomes unreadable, in the engine, its log and every copy.
//!
//! 1. The next generation is made; its file is durable.
//! 2. It is taken into use: from this commit on nothing is wrapped under the one before.
//! 3. The keys that are left are wrapped anew, some hundred in a part; each only if it is still as it was read.
//! 4. The generation before is destroyed. Every copy of a key of something deleted was wrapped under it.
//!
//! A process may end between any two steps, and in each. Before 2 nothing has changed; after that there are two
//! generations, until whoever starts next, or another node, has done 3 and 4. Commits wait for none of this but 2, which is
//! one itself.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use super::{KEYS, KeyRing, Seals, WrappedKey, in_use_key, in_use_value};
use crate::clock::Clock;
use crate::store::record::prefix_end;
use crate::store::{
    Key, Order, Part, PartOutcome, Pending, Precondition, Range, Store, StoreError, Value, expiry,
};

/// How often [`look`] is to be called.
pub const LOOK_EVERY: Duration = Duration::from_secs(15);
/// How old a generation is when the next one takes over, if anything was deleted.
pub const ROTATE_AFTER_MS: u64 = 10 * 60 * 1000;
/// How many keys are wrapped anew in one part,
const KEYS_AT_ONCE: usize = 256;
/// and the pause between two parts, which leaves the processor to others,
const PAUSE: Duration = Duration::from_millis(20);
/// for as long as this. A million keys take about so long; whatever is left then is done without pauses.
const LEISURE: Duration = Duration::from_secs(100);
/// How long the keys that are left may take, a bound for what follows: they do as long as there are fewer than some millions.
const REWRAP_MS_MAX: u64 = 150 * 1000;
/// After this a rotation that another node has begun, and not finished, is finished here.
const TAKE_OVER_MS: u64 = 2 * 60 * 1000;
/// What was deleted, or has expired, is unreadable after this.
const UNREADABLE_MS: u64 = 15 * 60 * 1000;

const _: () = assert!(
    expiry::SWEPT_AFTER_MS_MAX + ROTATE_AFTER_MS + LOOK_EVERY.as_secs() * 1000 + REWRAP_MS_MAX
        <= UNREADABLE_MS
);
const _: () = assert!(LEISURE.as_secs() * 1000 < REWRAP_MS_MAX);

/// Where a rotation has got to; a test looks at what a crash would leave there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// The next generation is made.
    Made,
    /// It is in use.
    InUse,
    /// Some keys are wrapped anew.
    Part,
    /// All keys are wrapped anew.
    All,
    /// A former generation is destroyed.
    Destroyed,
}

/// What is asked between steps; an error ends the rotation there.
pub(super) type Between<'a> = &'a (dyn Fn(Step) -> Result<(), StoreError> + Send + Sync);

/// Does what is due: finishes a rotation that was begun, begins one if something was deleted and the generation is old.
pub async fn look(store: &Store, clock: &dyn Clock) -> Result<(), StoreError> {
    look_between(store, clock, &|_| Ok(())).await
}

pub(super) async fn look_between(
    store: &Store,
    clock: &dyn Clock,
    between: Between<'_>,
) -> Result<(), StoreError> {
    let Some(seals) = &store.seals else {
        return Ok(());
    };
    seals.refresh().await?;
    let now_ms = clock.now_ms();
    if seals.is_unfinished(now_ms) {
        finish(store, seals, clock, between).await?;
    }
    if seals.is_due(now_ms) && begin(store, seals, now_ms, between).await? {
        finish(store, seals, clock, between).await?;
    }
    Ok(())
}

/// Takes the next generation into use; `false`: another node has done so.
async fn begin(
    store: &Store,
    seals: &Seals,
    now_ms: u64,
    between: Between<'_>,
) -> Result<bool, StoreError> {
    let before = seals.ring.load_full();
    let (former, number) = (before.newest.number, before.newest.number.saturating_add(1));
    let generation = seals
        .generations
        .make(number, now_ms, &seals.random)
        .await?;
    between(Step::Made)?;
    let mut part = Part::default();
    part.require(Precondition::Equals(in_use_key(), in_use_value(former)));
    part.put(in_use_key(), in_use_value(number));
    let pending = {
        let _alone = seals.turns.write().await;
        let queued = store.writer.enqueue(part).await;
        // Deletions that were queued before are before it on the disk too.
        seals.deleted.store(false, Ordering::SeqCst);
        seals.ring.store(Arc::new(before.followed_by(generation)));
        Pending::of(queued, None)
    };
    if pending.wait().await? == PartOutcome::Conflict {
        seals.deleted.store(true, Ordering::SeqCst);
        seals.refresh().await?;
        return Ok(false);
    }
    seals.show();
    between(Step::InUse)?;
    Ok(true)
}

/// Wraps anew what is left under former generations, and destroys these.
async fn finish(
    store: &Store,
    seals: &Seals,
    clock: &dyn Clock,
    between: Between<'_>,
) -> Result<(), StoreError> {
    let ring = seals.ring.load_full();
    let mut left = Vec::new();
    for former in &ring.older {
        // Unless another node has, and they can be forgotten.
        if seals.generations.has(former.number).await? {
            left.push(former.number);
        }
    }
    if !left.is_empty() {
        rewrap_all(store, seals, &ring, between).await?;
        between(Step::All)?;
    }
    for former in left {
        seals.generations.destroy(former).await?;
        seals.figures.destroyed.inc();
        let now_ms = clock.now_ms();
        seals.figures.destroyed_ms.store(now_ms, Ordering::SeqCst);
        tracing::debug!(generation = former, "destroyed");
        between(Step::Destroyed)?;
    }
    let _alone = seals.turns.write().await;
    if seals.ring.load().newest.number == ring.newest.number {
        seals.ring.store(Arc::new(KeyRing {
            newest: Arc::clone(&ring.newest),
            older: Vec::new(),
        }));
    }
    Ok(())
}

/// Goes through all keys once. What was wrapped meanwhile is under the newest generation already: nothing is left behind.
async fn rewrap_all(
    store: &Store,
    seals: &Seals,
    ring: &KeyRing,
    between: Between<'_>,
) -> Result<(), StoreError> {
    let began = Instant::now();
    let to = prefix_end(&[KEYS]);
    // Behind what says which generation is in use.
    let mut from = vec![KEYS, 0];
    loop {
        let range = Range {
            from: &from,
            to: &to,
            limit: KEYS_AT_ONCE,
            bytes_max: usize::MAX,
            order: Order::Ascending,
        };
        let rows = seals.engine.range(range).await?;
        let Some((last, _)) = rows.last() else {
            return Ok(());
        };
        from = [last.as_ref(), &[0]].concat();
        let is_last = rows.len() < KEYS_AT_ONCE;
        let renewed = renewed(seals, ring, rows)?;
        let is_pause_due = !renewed.is_empty() && began.elapsed() < LEISURE;
        if !renewed.is_empty() {
            write(store, seals, renewed).await?;
            between(Step::Part)?;
        }
        if is_last {
            return Ok(());
        }
        match is_pause_due {
            true => tokio::time::sleep(PAUSE).await,
            false => tokio::task::yield_now().await,
        }
    }
}

/// A key that is wrapped anew.
struct Renewed {
    row: Key,
    before: Value,
    now: Value,
}

/// Of these rows those that a former generation wraps, wrapped under the newest.
fn renewed(
    seals: &Seals,
    ring: &KeyRing,
    rows: Vec<(Key, Value)>,
) -> Result<Vec<Renewed>, StoreError> {
    let mut renewed = Vec::with_capacity(rows.len());
    for (row, before) in rows {
        let wrapped = WrappedKey::decode(&before);
        if let Some(wrapped) = &wrapped
            && wrapped.generation >= ring.newest.number
        {
            continue;
        }
        let now = match &wrapped {
            Some(wrapped) => ring.renewed(&row, wrapped, &*seals.random)?,
            None => None,
        };
        match now {
            Some(now) => renewed.push(Renewed { row, before, now }),
            None => {
                let family = row.get(1).copied().map(char::from);
                tracing::error!(
                    ?family,
                    "the key of a content is damaged: the content can't be read"
                );
            }
        }
    }
    Ok(renewed)
}

/// Writes keys that were wrapped anew, each where it is still as it was read: elsewhere the content is gone, or has a
/// newer key.
async fn write(store: &Store, seals: &Seals, keys: Vec<Renewed>) -> Result<(), StoreError> {
    let mut all = Part::default();
    for key in &keys {
        replace(&mut all, key);
    }
    if store.commit(all).await? == PartOutcome::Committed {
        count(seals, keys.len());
        return Ok(());
    }
    // Some have gone since they were read: each on its own.
    let mut pending = Vec::with_capacity(keys.len());
    for key in &keys {
        let mut part = Part::default();
        replace(&mut part, key);
        pending.push(store.enqueue(part).await);
    }
    for pending in pending {
        if pending.wait().await? == PartOutcome::Committed {
            count(seals, 1);
        }
    }
    Ok(())
}

fn replace(part: &mut Part, key: &Renewed) {
    part.require(Precondition::Equals(key.row.clone(), key.before.clone()));
    part.put(key.row.clone(), key.now.clone());
}

fn count(seals: &Seals, keys: usize) {
    let keys = u64::try_from(keys).unwrap_or(u64::MAX);
    seals.figures.rewrapped.inc_by(keys);
}

impl Seals {
    /// Whether a rotation was begun, here before the process ended or by another node, and is to be finished here.
    fn is_unfinished(&self, now_ms: u64) -> bool {
        let is_first = !self.resumed.swap(true, Ordering::SeqCst);
        let ring = self.ring.load();
        let is_late = now_ms >= ring.newest.made_ms.saturating_add(TAKE_OVER_MS);
        !ring.older.is_empty() && (is_first || is_late)
    }

    fn is_due(&self, now_ms: u64) -> bool {
        let since_ms = self.ring.load().newest.made_ms;
        let is_old = now_ms >= since_ms.saturating_add(ROTATE_AFTER_MS);
        // A clock that was set back tells nothing of the age.
        let is_old = is_old || now_ms < since_ms;
        is_old && self.deleted.load(Ordering::SeqCst)
    }
}
