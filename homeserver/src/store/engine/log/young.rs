//! What is young: committed and durable in the log, and not in the index yet.
//!
//! Layers, each a map of what some batches in a row have changed. The newest takes the next batch up;
//! the others don't change any more, so that a reader holds them as they are for as long as it likes.
//! The oldest goes to the index as a whole and is dropped then.
//!
//! Invariant: a reader takes its layers and its snapshot of the index under one lock. What the index
//! holds at that moment is a past of what the layers hold: so the two together are one moment of the
//! store, whether the oldest layer is on its way to the index or not.

use std::collections::{BTreeMap, VecDeque, btree_map as map};
use std::iter::Peekable;
use std::ops::Bound;
use std::sync::Arc;

use tokio::time::Instant;

use super::record::Change;
use crate::store::engine::Range;
use crate::store::engine::index::Moment;
use crate::store::{Key, Order, StoreError, Value};

/// Entries of the newest layer that a reader copies; of more, the layer is closed and shared.
const COPIED_MAX: usize = 1024;
/// More layers than this make reading slow: then readers copy, however much it is.
const LAYERS_MAX: usize = 64;

/// What some batches in a row have changed; `None`: the key has no value.
pub(super) struct Layer {
    pub(super) entries: BTreeMap<Key, Option<Value>>,
    /// Bytes of the log that these batches take, in memory too.
    pub(super) bytes: usize,
    /// The last batch, and the segment that it lies in.
    pub(super) sequence: u64,
    pub(super) segment: u64,
    /// When the first and the last batch came.
    pub(super) first_at: Instant,
    pub(super) last_at: Instant,
}

impl Layer {
    /// The entries with `from <= key`, and `key < to` if that is given.
    fn between(&self, from: &[u8], to: Option<&[u8]>) -> map::Range<'_, Key, Option<Value>> {
        let to = to.map_or(Bound::Unbounded, Bound::Excluded);
        self.entries.range::<[u8], _>((Bound::Included(from), to))
    }
}

/// Where a batch lies in the log.
#[derive(Debug, Clone, Copy)]
pub(super) struct Written {
    pub(super) sequence: u64,
    pub(super) segment: u64,
    pub(super) bytes: usize,
}

/// All layers.
#[derive(Default)]
pub(super) struct Young {
    newest: Option<Layer>,
    /// The oldest first.
    closed: VecDeque<Arc<Layer>>,
}

impl Young {
    /// Takes up a batch.
    pub(super) fn take_up(&mut self, changes: Vec<Change>, written: Written, now: Instant) {
        let layer = self.newest.get_or_insert_with(|| Layer {
            entries: BTreeMap::new(),
            bytes: 0,
            sequence: 0,
            segment: 0,
            first_at: now,
            last_at: now,
        });
        layer.entries.extend(changes);
        layer.bytes += written.bytes;
        (layer.sequence, layer.segment) = (written.sequence, written.segment);
        layer.last_at = now;
    }

    /// Closes the newest layer: the next batch begins another one.
    pub(super) fn close(&mut self) {
        self.closed.extend(self.newest.take().map(Arc::new));
    }

    /// Closes the newest layer once it has `bytes_max`.
    pub(super) fn close_when_full(&mut self, bytes_max: usize) {
        if self
            .newest
            .as_ref()
            .is_some_and(|layer| layer.bytes >= bytes_max)
        {
            self.close();
        }
    }

    /// The layer that still takes batches up.
    pub(super) fn newest(&self) -> Option<&Layer> {
        self.newest.as_ref()
    }

    /// The layers that are closed, the oldest first.
    pub(super) fn closed(&self) -> impl Iterator<Item = &Arc<Layer>> {
        self.closed.iter()
    }

    /// Takes the oldest layer out: the index holds it.
    pub(super) fn drop_oldest(&mut self) -> Option<Arc<Layer>> {
        self.closed.pop_front()
    }

    /// Whether nothing is young.
    pub(super) fn is_empty(&self) -> bool {
        self.newest.is_none() && self.closed.is_empty()
    }

    /// The value at `key`, or that it has none; `None`: ask the index.
    pub(super) fn get(&self, key: &[u8]) -> Option<Option<Value>> {
        let layers = self.closed.iter().rev().map(Arc::as_ref);
        value_in(self.newest.iter().chain(layers), key)
    }

    /// The layers as they are now, between two keys, for one that will read from them. `None`: there is
    /// too much to copy; [`Young::close`] and ask again.
    pub(super) fn layers(&self, from: &[u8], to: Option<&[u8]>) -> Option<Vec<Arc<Layer>>> {
        let mut layers = Vec::with_capacity(self.closed.len() + 1);
        if let Some(newest) = &self.newest {
            let few = newest.between(from, to).nth(COPIED_MAX).is_none();
            if !few && self.closed.len() < LAYERS_MAX {
                return None;
            }
            let entries = newest.between(from, to);
            layers.push(Arc::new(Layer {
                entries: entries.map(|(k, v)| (k.clone(), v.clone())).collect(),
                ..*newest
            }));
        }
        layers.extend(self.closed.iter().rev().map(Arc::clone));
        Some(layers)
    }
}

/// The store as of one moment.
pub(super) struct Cut {
    /// The newest first.
    layers: Vec<Arc<Layer>>,
    below: Moment,
}

impl Cut {
    /// Of layers and a snapshot that were taken under one lock.
    pub(super) fn new(layers: Vec<Arc<Layer>>, below: Moment) -> Self {
        Self { layers, below }
    }

    /// The value at `key`.
    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Value>, StoreError> {
        match value_in(self.layers.iter().map(Arc::as_ref), key) {
            Some(value) => Ok(value),
            None => self.below.get(key),
        }
    }

    /// The entries of `range`.
    pub(super) fn range(&self, range: Range<'_>) -> Result<Vec<(Key, Value)>, StoreError> {
        if range.is_empty() {
            return Ok(Vec::new());
        }
        let ranges = self.layers.iter().map(|layer| {
            let entries = layer.between(range.from, Some(range.to));
            let ordered: Box<dyn Iterator<Item = Entry<'_>>> = match range.order {
                Order::Ascending => Box::new(entries),
                Order::Descending => Box::new(entries.rev()),
            };
            ordered.peekable()
        });
        let mut young: Vec<_> = ranges.collect();
        young.retain_mut(|entries| entries.peek().is_some());
        let below = self.below.entries(range.from, range.to);
        let below: Box<dyn Iterator<Item = Stored>> = match range.order {
            Order::Ascending => Box::new(below),
            Order::Descending => Box::new(below.rev()),
        };
        let mut merged = Merged {
            young,
            below: below.peekable(),
            order: range.order,
        };
        range.take_from(std::iter::from_fn(|| merged.next()))
    }
}

type Entry<'a> = (&'a Key, &'a Option<Value>);
type Stored = Result<(Key, Value), StoreError>;

/// Layers over the index, in order of their keys.
struct Merged<'a> {
    /// The newest first.
    young: Vec<Peekable<Box<dyn Iterator<Item = Entry<'a>> + 'a>>>,
    below: Peekable<Box<dyn Iterator<Item = Stored> + 'a>>,
    order: Order,
}

impl<'a> Merged<'a> {
    /// The next key that has a value, with the newest one.
    fn next(&mut self) -> Option<Stored> {
        loop {
            let young = self.next_young();
            let below = match self.below.peek() {
                Some(Err(_)) => return self.below.next(),
                Some(Ok((key, _))) => Some(key),
                None => None,
            };
            let (key, value) = match (young, below) {
                (None, _) => return self.below.next(),
                (Some((key, _)), Some(below)) if before(self.order, below, key) => {
                    return self.below.next();
                }
                (Some(young), _) => young,
            };
            for entries in &mut self.young {
                entries.next_if(|(other, _)| *other == key);
            }
            self.below
                .next_if(|entry| entry.as_ref().is_ok_and(|(other, _)| other == key));
            if let Some(value) = value {
                return Some(Ok((copy(key), copy(value))));
            }
        }
    }

    /// The first of all layers' next keys, with the newest value.
    fn next_young(&mut self) -> Option<Entry<'a>> {
        let mut first: Option<Entry<'a>> = None;
        for entries in &mut self.young {
            if let Some(&(key, value)) = entries.peek()
                && first.is_none_or(|(found, _)| before(self.order, key, found))
            {
                first = Some((key, value));
            }
        }
        first
    }
}

fn before(order: Order, one: &Key, other: &Key) -> bool {
    match order {
        Order::Ascending => one < other,
        Order::Descending => one > other,
    }
}

/// The newest value at `key` in `layers`, the newest of which comes first.
fn value_in<'a>(mut layers: impl Iterator<Item = &'a Layer>, key: &[u8]) -> Option<Option<Value>> {
    layers.find_map(|layer| Some(layer.entries.get(key)?.as_ref().map(copy)))
}

/// A copy: a slice would keep the whole batch that it came with in memory, for as long as somebody reads.
pub(super) fn copy(bytes: &Value) -> Value {
    Value::copy_from_slice(bytes)
}
