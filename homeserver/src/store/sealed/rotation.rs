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
//!
//! Of several processes one rotates ([`Share`]), but nothing rests on that: 2 depends on the generation before, and each part
//! of 3 on the generation that it wraps under. So whoever has been stopped in between, and wakes when another one has gone on,
//! writes nothing any more, and destroys nothing.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use super::{InUse, KEYS, KeyRing, Seals, WrappedKey, in_use, in_use_key};
use crate::clock::Clock;
use crate::store::record::prefix_end;
use crate::store::{
    Key, Order, Part, PartOutcome, Pending, Precondition, Range, Store, StoreError, Value, expiry,
};

/// How often [`look`] is to be called.
pub const LOOK_EVERY: Duration = Duration::from_secs(15);
/// How old a generation is when the next one takes over, if anything was deleted.
pub const ROTATE_AFTER_MS: u64 = 10 * 60 * 1000;
/// The same where several processes share the store.
pub const ROTATE_SHARED_AFTER_MS: u64 = 7 * 60 * 1000;
/// How long it takes until another process has the duty of one that has died.
const TAKEN_OVER_MS: u64 = 10 * 1000;
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
// Of several processes the one that rotates may end in the midst of it, and another does all of it anew.
const _: () = assert!(
    expiry::SWEPT_AFTER_MS_MAX
        + ROTATE_SHARED_AFTER_MS
        + TAKEN_OVER_MS
        + 2 * (LOOK_EVERY.as_secs() * 1000 + REWRAP_MS_MAX)
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

/// What of a rotation is this process's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// All of it: no other process uses the store.
    Alone,
    /// All of it, also for what others delete, of which it does not hear.
    Ours,
    /// Nothing: another process rotates, and what that does is taken up.
    Others,
}

/// Does what is due: finishes a rotation that was begun, begins one if something was deleted and the generation is old.
pub async fn look(store: &Store, clock: &dyn Clock) -> Result<(), StoreError> {
    look_as(store, clock, Share::Alone).await
}

/// As [`look`], as one of several processes.
pub async fn look_as(store: &Store, clock: &dyn Clock, share: Share) -> Result<(), StoreError> {
    look_between(store, clock, share, &|_| Ok(())).await
}

pub(super) async fn look_between(
    store: &Store,
    clock: &dyn Clock,
    share: Share,
    between: Between<'_>,
) -> Result<(), StoreError> {
    let Some(seals) = &store.seals else {
        return Ok(());
    };
    if share == Share::Others {
        // Once it is this process's, it finishes what it finds.
        seals.resumed.store(false, Ordering::SeqCst);
        return take_up(seals, clock).await;
    }
    seals.refresh().await?;
    let newest = Arc::clone(&seals.ring.load().newest);
    if seals.is_at_hand(&newest).await? {
        // Also what an earlier listing of the folder did not show is to be destroyed.
        seals.look_again().await?;
    }
    let now_ms = clock.now_ms();
    if seals.is_unfinished(now_ms) {
        finish(store, seals, clock, between).await?;
    }
    if seals.is_due(now_ms, share) && begin(store, seals, now_ms, between).await? {
        finish(store, seals, clock, between).await?;
    }
    Ok(())
}

/// Takes the generation into use that another process has made, and forgets those that it has destroyed.
async fn take_up(seals: &Seals, clock: &dyn Clock) -> Result<(), StoreError> {
    let before = seals.ring.load_full();
    seals.refresh().await?;
    let ring = seals.ring.load_full();
    let mut older = Vec::with_capacity(ring.older.len());
    for former in &ring.older {
        if seals.generations.has(former.number).await? {
            older.push(Arc::clone(former));
        }
    }
    if older.len() < ring.older.len() && !seals.is_at_hand(&ring.newest).await? {
        // It has gone on from there: the next look sees to it.
        return Ok(());
    }
    let is_left = |number| {
        let mut left = older.iter().chain([&ring.newest]);
        left.any(|generation| generation.number == number)
    };
    let mut known = before.older.iter().chain([&before.newest]);
    if !known.all(|generation| is_left(generation.number)) {
        let now_ms = clock.now_ms();
        seals.figures.destroyed_ms.store(now_ms, Ordering::SeqCst);
    }
    if older.len() < ring.older.len() {
        let _alone = seals.turns.write().await;
        // Else it was changed just now, and is looked at again.
        if Arc::ptr_eq(&ring, &seals.ring.load()) {
            seals.ring.store(Arc::new(KeyRing {
                newest: Arc::clone(&ring.newest),
                older,
            }));
        }
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
    let number = before.newest.number.saturating_add(1);
    // In an empty folder, or one that is not mounted, the next one would be alone, and what is wrapped under this one lost.
    if !seals.is_at_hand(&before.newest).await? {
        seals.refresh().await?;
        return Ok(false);
    }
    let generation = seals
        .generations
        .make(number, now_ms, &seals.random)
        .await?;
    between(Step::Made)?;
    let mut part = Part::default();
    let former = InUse::of(&before.newest).value();
    part.require(Precondition::Equals(in_use_key(), former));
    part.put(in_use_key(), InUse::of(&generation).value());
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
    if left.len() < ring.older.len() && !seals.is_at_hand(&ring.newest).await? {
        return seals.refresh().await;
    }
    if !left.is_empty() {
        if !rewrap_all(store, seals, &ring, between).await? {
            // Another process has gone on from there, and destroys what it has wrapped anew itself.
            return seals.refresh().await;
        }
        between(Step::All)?;
    }
    for former in left {
        seals.generations.destroy(former).await?;
        // Nothing was, unless the folder is still there.
        if !seals.is_at_hand(&ring.newest).await? {
            return seals.refresh().await;
        }
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
/// `false`: another process has taken a further generation into use.
async fn rewrap_all(
    store: &Store,
    seals: &Seals,
    ring: &KeyRing,
    between: Between<'_>,
) -> Result<bool, StoreError> {
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
        let rows = {
            // Both of one moment, which may be an old one where a server of the database has been replaced: rows of before,
            // wrapped under a generation of before, would pass for all that there is.
            let moment = seals.engine.snapshot().await?;
            if in_use(&*moment).await? != Some(InUse::of(&ring.newest)) {
                return Ok(false);
            }
            moment.range(range).await?
        };
        let Some((last, _)) = rows.last() else {
            return Ok(true);
        };
        from = [last.as_ref(), &[0]].concat();
        let is_last = rows.len() < KEYS_AT_ONCE;
        let renewed = renewed(seals, ring, rows)?;
        let is_pause_due = !renewed.is_empty() && began.elapsed() < LEISURE;
        if !renewed.is_empty() {
            if !write(store, seals, InUse::of(&ring.newest), renewed).await? {
                return Ok(false);
            }
            between(Step::Part)?;
        }
        if is_last {
            return Ok(true);
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

/// Writes keys that were wrapped anew under the newest generation, each where it is still as it was read: elsewhere the
/// content is gone, or has a key under that generation. `false`: that generation is not in use any more.
async fn write(
    store: &Store,
    seals: &Seals,
    newest: InUse,
    keys: Vec<Renewed>,
) -> Result<bool, StoreError> {
    let in_use_still = || Precondition::Equals(in_use_key(), newest.value());
    let mut all = Part::default();
    all.require(in_use_still());
    for key in &keys {
        replace(&mut all, key);
    }
    if store.commit(all).await? == PartOutcome::Committed {
        count(seals, keys.len());
        return Ok(true);
    }
    // Some have gone since they were read: each on its own.
    let mut pending = Vec::with_capacity(keys.len());
    for key in &keys {
        let mut part = Part::default();
        part.require(in_use_still());
        replace(&mut part, key);
        pending.push(store.enqueue(part).await);
    }
    let mut are_all_written = true;
    for pending in pending {
        if pending.wait().await? == PartOutcome::Committed {
            count(seals, 1);
        } else {
            are_all_written = false;
        }
    }
    // It is never in use again once it is not: so it was when those were refused that were.
    Ok(are_all_written || in_use(&*seals.engine).await? == Some(newest))
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

    fn is_due(&self, now_ms: u64, share: Share) -> bool {
        let since_ms = self.ring.load().newest.made_ms;
        let after_ms = match share {
            Share::Alone => ROTATE_AFTER_MS,
            Share::Ours | Share::Others => ROTATE_SHARED_AFTER_MS,
        };
        let is_old = now_ms >= since_ms.saturating_add(after_ms);
        // A clock that was set back tells nothing of the age.
        let is_old = is_old || now_ms < since_ms;
        is_old && (share == Share::Ours || self.deleted.load(Ordering::SeqCst))
    }
}
