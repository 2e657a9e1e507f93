//! `1`: the key of each content, wrapped: at `1` and the content's own key. At `1` alone: which generation is in use, with its
//! fingerprint.
//!
//! A content is what people wrote, or what may lead to it: the values of the families in `CONTENTS`. Each is sealed by a
//! data key of its own, which seals nothing else. Data keys lie beside the contents, wrapped under a generation's key, and
//! that lies outside of the engine ([`generations`]). A content is deleted together with its key; what the engine, its log
//! and their copies may still hold of the two is unreadable once the generation is destroyed. [`rotation`] sees to that:
//! it wraps what is left anew, under the next generation, which costs some ninety bytes for each content.
//!
//! Nobody has to know: contents are sealed where a part is queued, and opened where they are read. Whoever wants them as
//! they are stored takes a snapshot.
//!
//! Invariants:
//! - No content reaches the engine unsealed.
//! - A part that seals anything fails unless the generation that it was sealed under is in use when it is written. So no
//!   key is wrapped under a generation whose keys have been wrapped anew, whichever node writes it.
//! - Data keys are never written unwrapped, and are in memory for as long as one content is sealed or opened.

mod at_hand;
pub mod generations;
mod key_ring;
mod master;
pub mod rotation;
#[cfg(test)]
mod tests;
mod wrapping;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use ring::rand::SecureRandom;
use tokio::sync::{RwLock, RwLockReadGuard};
use tokio::time::Instant;

use super::record::prefix_end;
use super::{Engine, Key, Order, Part, Precondition, Range, Read, StoreError, Value, Write};
use at_hand::{LOOKED_FOR, LOOKED_FOR_EVERY, load, missing};
use generations::{Fingerprint, Generation, Generations};
use wrapping::{SEAL_BYTES, drawn_with_nonce, seal_content};

pub use key_ring::KeyRing;
pub use master::MasterKey;
pub use wrapping::{WrappedKey, WrappingKey};

/// Families whose values are contents: the outbox, shared payloads, inboxes, reports, bytes of files.
const CONTENTS: &[u8] = b"OPQYf";
const KEYS: u8 = b'1';
const VERSION: u8 = 1;
/// Of contents whose keys end with a number that is given when they are written.
const NUMBERED: &[u8] = b"OQ";
const NUMBER_BYTES: usize = 8;

/// Whether the value at `key` is a content.
pub(super) fn is_content(key: &[u8]) -> bool {
    key.first().is_some_and(|family| CONTENTS.contains(family))
}

/// Whether a wrapped key lies at `key`: what a backup wraps for itself ([`KeyRing::backed_up`]).
pub fn is_wrapped_key(key: &[u8]) -> bool {
    key.first() == Some(&KEYS) && key.len() > 1
}

/// Whether a part has to be sealed: it writes or deletes a content, or depends on one.
pub(super) fn concerns(part: &Part) -> bool {
    let writes = part.writes.iter().any(|write| match write {
        Write::Put(key, _) | Write::Delete(key) => is_content(key),
        Write::Append { prefix, .. } => is_content(prefix),
        Write::Uncount { entry, .. } => is_content(entry),
        Write::Count { .. } => false,
    });
    let depends = |precondition: &Precondition| matches!(precondition, Precondition::Equals(key, _) if is_content(key));
    writes || part.preconditions.iter().any(depends)
}

/// Notes in a new store which generation is in use.
pub fn put_first(part: &mut Part, generation: &Generation) {
    part.put(in_use_key(), InUse::of(generation).value());
}

/// Where the key of the content at `key` lies.
fn row(key: &[u8]) -> Key {
    [&[KEYS][..], key].concat().into()
}

/// The key of the content whose own key lies at `row`.
fn content_of(row: &[u8]) -> &[u8] {
    row.get(1..).unwrap_or_default()
}

/// What a content and its key are bound to: where it lies, but for the number that it gets when it is written.
fn bound(key: &[u8]) -> &[u8] {
    match key.split_last_chunk::<NUMBER_BYTES>() {
        Some((prefix, _)) if key.first().is_some_and(|of| NUMBERED.contains(of)) => prefix,
        _ => key,
    }
}

fn in_use_key() -> Key {
    Key::from_static(&[KEYS])
}

/// What the store says of the generation in use: a version, its number, and its fingerprint. That tells nodes that have a
/// folder each from nodes that share one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct InUse {
    number: u64,
    fingerprint: Fingerprint,
}

impl InUse {
    const fn of(generation: &Generation) -> Self {
        Self {
            number: generation.number,
            fingerprint: generation.fingerprint,
        }
    }

    fn value(&self) -> Value {
        let number = self.number.to_be_bytes();
        [&[VERSION][..], &number, &self.fingerprint].concat().into()
    }

    fn read(value: &[u8]) -> Option<Self> {
        let rest = value.strip_prefix(&[VERSION])?;
        let (number, rest) = rest.split_first_chunk::<NUMBER_BYTES>()?;
        Some(Self {
            number: u64::from_be_bytes(*number),
            fingerprint: rest.try_into().ok()?,
        })
    }

    /// Fails for another generation of that number.
    fn require(&self, generation: &Generation) -> Result<(), StoreError> {
        if *self == Self::of(generation) {
            return Ok(());
        }
        Err(StoreError::Keys(format!(
            "generation {} in the folder of generation keys is not the one that the store is sealed under: all nodes of a \
             cluster need one folder that they share, not a copy each (store_keys.folder)",
            self.number
        )))
    }
}

/// The generation in use; `None`: the store has none.
async fn in_use(read: &dyn Read) -> Result<Option<InUse>, StoreError> {
    let Some(value) = read.get(&[KEYS]).await? else {
        return Ok(None);
    };
    let corrupt = StoreError::Corrupt {
        family: "generation",
    };
    InUse::read(&value).map(Some).ok_or(corrupt)
}

/// Seals and opens the contents of one store.
pub struct Seals {
    engine: Arc<dyn Engine>,
    generations: Generations,
    random: Arc<dyn SecureRandom + Send + Sync>,
    ring: ArcSwap<KeyRing>,
    /// Shared by those who seal a part and queue it, and had alone by whoever takes another generation into use: so
    /// each part of this process is queued before the generation ends that it was sealed under.
    turns: RwLock<()>,
    /// Whether a content may have been deleted since the generation in use began.
    deleted: AtomicBool,
    /// Whether a rotation that was under way when the process started has been looked for.
    resumed: AtomicBool,
    /// Since when the generation in use is not at hand, and why; see [`Seals::mind`].
    trouble: Mutex<Option<(Instant, String)>>,
    figures: Figures,
}

#[derive(Default)]
struct Figures {
    generation: Gauge,
    rewrapped: Counter,
    destroyed: Counter,
    /// When the last generation was destroyed, milliseconds since the Unix epoch; 0: none was.
    destroyed_ms: AtomicU64,
}

/// How far secure deletion is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// The generation in use.
    pub generation: u64,
    /// When it was made, milliseconds since the Unix epoch.
    pub since_ms: u64,
    /// When the last one was destroyed since the process started, milliseconds since the Unix epoch.
    pub destroyed_ms: Option<u64>,
}

impl Seals {
    /// The seals of the store that lies in `engine`.
    pub(super) async fn of(
        engine: Arc<dyn Engine>,
        generations: Generations,
        random: Arc<dyn SecureRandom + Send + Sync>,
    ) -> Result<Self, StoreError> {
        generations.tidy().await?;
        let ring = load(&*engine, &generations).await?;
        Ok(Self::with(engine, generations, random, ring))
    }

    fn with(
        engine: Arc<dyn Engine>,
        generations: Generations,
        random: Arc<dyn SecureRandom + Send + Sync>,
        ring: KeyRing,
    ) -> Self {
        let seals = Self {
            engine,
            generations,
            random,
            ring: ArcSwap::from_pointee(ring),
            turns: RwLock::default(),
            // Whatever was deleted before the process started.
            deleted: AtomicBool::new(true),
            resumed: AtomicBool::new(false),
            trouble: Mutex::new(None),
            figures: Figures::default(),
        };
        seals.show();
        seals
    }

    /// Seals for a store in memory, of which nothing is kept.
    #[cfg(test)]
    pub(super) fn in_memory(
        engine: Arc<dyn Engine>,
        random: Arc<dyn SecureRandom + Send + Sync>,
    ) -> Result<Self, StoreError> {
        let ring = KeyRing::with(Generation::draw(1, 0, &*random)?, Vec::new());
        Ok(Self::with(engine, Generations::Memory, random, ring))
    }

    /// Notes in a new store which generation is in use here.
    #[cfg(test)]
    pub(super) fn put_first(&self, part: &mut Part) {
        put_first(part, &self.ring.load().newest);
    }

    /// A turn to seal a part and queue it: until it is dropped no other generation is taken into use here.
    pub(super) async fn turn(&self) -> RwLockReadGuard<'_, ()> {
        self.turns.read().await
    }

    /// The part as the engine gets it. Take a turn before, and queue the part before the turn ends.
    pub(super) async fn seal(&self, part: Part) -> Result<Part, StoreError> {
        let ring = self.ring.load_full();
        let mut sealed = Part::default();
        for precondition in part.preconditions {
            let precondition = self.as_stored(precondition).await?;
            sealed.require(precondition);
        }
        let mut has_keys = false;
        for write in part.writes {
            match write {
                Write::Put(key, content) if is_content(&key) => {
                    let (content, wrapped) = self.sealed(&ring, bound(&key), &content)?;
                    sealed.put(row(&key), wrapped).put(key, content);
                    has_keys = true;
                    // It may take the place of another one.
                    self.deleted.store(true, Ordering::SeqCst);
                }
                Write::Append {
                    tail,
                    prefix,
                    value,
                    ..
                } if is_content(&prefix) => {
                    let (value, wrapped) = self.sealed(&ring, &prefix, &value)?;
                    let beside = Some((row(&prefix), wrapped));
                    has_keys = true;
                    sealed.writes.push(Write::Append {
                        tail,
                        prefix,
                        value,
                        beside,
                    });
                }
                Write::Delete(key) if is_content(&key) => {
                    sealed.delete(row(&key)).delete(key);
                    self.deleted.store(true, Ordering::SeqCst);
                }
                Write::Uncount { tally, entry, .. } if is_content(&entry) => {
                    let uncounted = u64::try_from(SEAL_BYTES).unwrap_or(u64::MAX);
                    sealed.writes.push(Write::Uncount {
                        tally,
                        entry,
                        uncounted,
                    });
                }
                write => sealed.writes.push(write),
            }
        }
        if has_keys {
            let in_use = InUse::of(&ring.newest).value();
            sealed.require(Precondition::Equals(in_use_key(), in_use));
        }
        Ok(sealed)
    }

    /// A content and its key as they are stored.
    fn sealed(
        &self,
        ring: &KeyRing,
        bound: &[u8],
        content: &[u8],
    ) -> Result<(Value, Value), StoreError> {
        let (secret, nonce) = drawn_with_nonce(&*self.random)?;
        let sealed = seal_content(&secret, bound, content)?;
        let newest = (ring.newest.number, &ring.newest.key);
        let wrapped = WrappedKey::wrap((&*secret, nonce), bound, newest)?;
        Ok((sealed, wrapped.encode()))
    }

    /// That a content is what was read means that it is stored as it is now, if that is what was read. It is not asked
    /// twice: who has a turn must not wait for one.
    async fn as_stored(&self, precondition: Precondition) -> Result<Precondition, StoreError> {
        let (key, content) = match precondition {
            Precondition::Equals(key, content) if is_content(&key) => (key, content),
            other => return Ok(other),
        };
        let stored = self.engine.get(&key).await?;
        let wrapped = self.engine.get(&row(&key)).await?;
        let is_unchanged = |stored: &Value| {
            let ring = self.ring.load();
            ring.content(&key, stored, wrapped.as_ref()).as_ref() == Some(&content)
        };
        Ok(match stored {
            Some(stored) if is_unchanged(&stored) => Precondition::Equals(key, stored),
            // No content is stored unsealed: this does not hold.
            _ => Precondition::Equals(key, content),
        })
    }

    /// The content at `key`; an empty one where it is damaged, which no record is. Fails when its generation is missing: then
    /// nothing is known of it.
    pub(super) async fn get(&self, key: &[u8]) -> Result<Option<Value>, StoreError> {
        let Some(sealed) = self.engine.get(key).await? else {
            return Ok(None);
        };
        let wrapped = self.engine.get(&row(key)).await?;
        let content = self.ring.load().content(key, &sealed, wrapped.as_ref());
        if content.is_some() {
            return Ok(content);
        }
        // It was deleted, replaced or wrapped anew in between; or it is damaged.
        let began = Instant::now();
        loop {
            let (moment, ring) = self.moment().await?;
            let Some(sealed) = moment.get(key).await? else {
                return Ok(None);
            };
            let wrapped = moment.get(&row(key)).await?;
            match opened(&ring, key, &sealed, wrapped.as_ref()) {
                Err(StoreError::Keys(_)) if began.elapsed() < LOOKED_FOR => {}
                opened => return opened.map(Some),
            }
            drop(moment);
            tokio::time::sleep(LOOKED_FOR_EVERY).await;
            self.look_again().await?;
        }
    }

    /// The contents in `range`; see [`Self::get`].
    pub(super) async fn range(&self, range: Range<'_>) -> Result<Vec<(Key, Value)>, StoreError> {
        let entries = self.engine.range(range).await?;
        let rows = rows_of(&*self.engine, &entries).await?;
        let contents: Option<Vec<_>> = {
            let ring = self.ring.load();
            let open = |(key, sealed): &(Key, Value)| {
                let content = ring.content(key, sealed, row_of(&rows, key))?;
                Some((key.clone(), content))
            };
            entries.iter().map(open).collect()
        };
        if let Some(contents) = contents {
            return Ok(contents);
        }
        // As in `get`.
        let began = Instant::now();
        loop {
            let (moment, ring) = self.moment().await?;
            match contents_in(&*moment, &ring, range).await {
                Err(StoreError::Keys(_)) if began.elapsed() < LOOKED_FOR => {}
                contents => return contents,
            }
            drop(moment);
            tokio::time::sleep(LOOKED_FOR_EVERY).await;
            self.look_again().await?;
        }
    }

    /// Takes up what other nodes have done with generations.
    pub(super) async fn refresh(&self) -> Result<(), StoreError> {
        let in_use = in_use(&*self.engine).await?;
        if in_use == Some(InUse::of(&self.ring.load().newest)) {
            return Ok(());
        }
        if let Generations::Memory = self.generations {
            return Ok(());
        }
        let ring = load(&*self.engine, &self.generations).await?;
        let _alone = self.turns.write().await;
        // A generation of our own may be on its way into use.
        if ring.newest.number > self.ring.load().newest.number {
            self.ring.store(Arc::new(ring));
            self.show();
        }
        Ok(())
    }

    /// One moment of all keys, as they are stored, and the ring that opens it, however long that takes: for a backup.
    pub async fn moment(&self) -> Result<(Box<dyn Read>, Arc<KeyRing>), StoreError> {
        loop {
            self.refresh().await?;
            let ring = self.ring.load_full();
            let moment = self.engine.snapshot().await?;
            let number = in_use(&*moment).await?.ok_or(StoreError::Empty)?.number;
            // Otherwise what the moment holds may be wrapped under a generation that the ring has no more, or not yet.
            if number <= ring.newest.number && Arc::ptr_eq(&ring, &self.ring.load()) {
                return Ok((moment, ring));
            }
        }
    }

    /// What the entry in `moment` holds, opened where it is a content; fails when it can't be opened, or when it is a key that
    /// belongs to none.
    pub(super) async fn check(
        &self,
        moment: &dyn Read,
        (key, value): (&[u8], &Value),
        family: &'static str,
    ) -> Result<Value, StoreError> {
        let held = if is_content(key) {
            let wrapped = moment.get(&row(key)).await?;
            let ring = self.ring.load_full();
            if let Some(number) = ring.missing(wrapped.as_ref()) {
                return Err(missing(number));
            }
            ring.content(key, value, wrapped.as_ref())
        } else if is_wrapped_key(key) {
            let content = moment.get(content_of(key)).await?;
            content.map(|_| value.clone())
        } else {
            Some(value.clone())
        };
        held.ok_or(StoreError::Corrupt { family })
    }

    /// How far secure deletion is.
    pub fn status(&self) -> Status {
        let ring = self.ring.load();
        let destroyed_ms = self.figures.destroyed_ms.load(Ordering::SeqCst);
        Status {
            generation: ring.newest.number,
            since_ms: ring.newest.made_ms,
            destroyed_ms: (destroyed_ms > 0).then_some(destroyed_ms),
        }
    }

    /// Adds the figures to `registry`.
    pub(super) fn register_metrics(&self, registry: &mut Registry) {
        let store = registry.sub_registry_with_prefix("store");
        store.register(
            "key_generation",
            "The generation of keys in use",
            self.figures.generation.clone(),
        );
        store.register(
            "keys_rewrapped",
            "Keys wrapped under a new generation",
            self.figures.rewrapped.clone(),
        );
        store.register(
            "key_generations_destroyed",
            "Generations destroyed, with what was deleted under them",
            self.figures.destroyed.clone(),
        );
    }

    fn show(&self) {
        let number = self.ring.load().newest.number;
        let number = i64::try_from(number).unwrap_or(i64::MAX);
        self.figures.generation.set(number);
    }
}

/// The contents in `range` of one moment; see [`Seals::get`].
pub(super) async fn contents_in(
    moment: &dyn Read,
    ring: &KeyRing,
    range: Range<'_>,
) -> Result<Vec<(Key, Value)>, StoreError> {
    let entries = moment.range(range).await?;
    let rows = rows_of(moment, &entries).await?;
    let contents = entries.into_iter().map(|(key, sealed)| {
        let content = opened(ring, &key, &sealed, row_of(&rows, &key))?;
        Ok((key, content))
    });
    contents.collect()
}

/// The content of one moment's entry, or an empty one where it is damaged.
fn opened(
    ring: &KeyRing,
    key: &[u8],
    sealed: &Value,
    wrapped: Option<&Value>,
) -> Result<Value, StoreError> {
    if let Some(content) = ring.content(key, sealed, wrapped) {
        return Ok(content);
    }
    if let Some(number) = ring.missing(wrapped) {
        return Err(missing(number));
    }
    let family = key.first().copied().map(char::from);
    tracing::error!(?family, "a content can't be opened");
    Ok(Value::new())
}

/// The wrapped keys of contents that follow each other, ascending; others may be among them.
async fn rows_of(
    read: &dyn Read,
    entries: &[(Key, Value)],
) -> Result<Vec<(Key, Value)>, StoreError> {
    let keys = || entries.iter().map(|(key, _)| key);
    let (Some(first), Some(last)) = (keys().min(), keys().max()) else {
        return Ok(Vec::new());
    };
    let (from, to) = (row(first), prefix_end(&row(last)));
    let range = Range {
        from: &from,
        to: &to,
        limit: usize::MAX,
        bytes_max: usize::MAX,
        order: Order::Ascending,
    };
    read.range(range).await
}

fn row_of<'a>(rows: &'a [(Key, Value)], key: &[u8]) -> Option<&'a Value> {
    let at = rows.binary_search_by(|(row, _)| content_of(row).cmp(key));
    rows.get(at.ok()?).map(|(_, wrapped)| wrapped)
}
