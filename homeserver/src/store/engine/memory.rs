//! An engine in memory, for simulations and unit tests, with a disk that can lose power.
//!
//! Invariants:
//! - What `apply` has answered survives a crash of whoever holds the engine, as long as the engine itself
//!   is kept: a simulation restarts a server by handing it the same engine.
//! - What was written and not yet synced is gone after a crash.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::changes::Changes;
use super::{Answer, Engine, Range, Read, at_once};
use crate::store::{Key, Order, Part, PartOutcome, StoreError, Value};

/// When, in the course of a batch, the power goes. The batch is not answered either way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PowerLoss {
    /// The batch was written, but the disk had not been told to keep it: it is gone.
    BeforeSync,
    /// The disk has kept the batch, and nobody heard of it.
    AfterSync,
}

/// An ordered map behind a lock.
#[derive(Default)]
pub struct MemoryEngine {
    disk: Mutex<Disk>,
}

#[derive(Default)]
struct Disk {
    /// As it was written, synced or not; shared with snapshots, and copied when one is held.
    entries: Arc<BTreeMap<Key, Value>>,
    /// What the entries were that a batch has overwritten and no sync has made durable yet.
    unsynced: Vec<(Key, Option<Value>)>,
    /// What goes wrong with the next batch.
    loses_power: Option<PowerLoss>,
    /// Whether the power is out.
    dark: bool,
}

impl MemoryEngine {
    /// Lets the power go during the next batch: its caller hears of a failure, and nothing is written
    /// until [`MemoryEngine::crash`].
    pub fn lose_power(&self, when: PowerLoss) {
        self.lock().loses_power = Some(when);
    }

    /// What the machine finds when it comes up again: all that was synced, nothing else.
    pub fn crash(&self) {
        let mut disk = self.lock();
        let Disk {
            entries, unsynced, ..
        } = &mut *disk;
        let entries = Arc::make_mut(entries);
        for (key, before) in unsynced.drain(..).rev() {
            set(entries, key, before);
        }
        disk.loses_power = None;
        disk.dark = false;
    }

    fn lock(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Disk {
    fn apply(&mut self, parts: &[Part]) -> Result<Vec<PartOutcome>, StoreError> {
        if self.dark {
            return Err(StoreError::Stopped);
        }
        let outcomes = self.write(parts)?;
        self.check_power(PowerLoss::BeforeSync)?;
        self.sync();
        self.check_power(PowerLoss::AfterSync)?;
        Ok(outcomes)
    }

    fn write(&mut self, parts: &[Part]) -> Result<Vec<PartOutcome>, StoreError> {
        let stored = |key: &[u8]| Ok(self.entries.get(key).cloned());
        let mut changes = Changes::new(&stored);
        let outcomes = parts
            .iter()
            .map(|part| changes.take_up(part))
            .collect::<Result<_, _>>()?;
        let changed = changes.into_inner();
        let entries = Arc::make_mut(&mut self.entries);
        for (key, value) in changed {
            let before = set(entries, key.clone(), value);
            self.unsynced.push((key, before));
        }
        Ok(outcomes)
    }

    fn sync(&mut self) {
        self.unsynced.clear();
    }

    fn check_power(&mut self, moment: PowerLoss) -> Result<(), StoreError> {
        if self.loses_power != Some(moment) {
            return Ok(());
        }
        self.dark = true;
        Err(StoreError::Engine("the power went".to_owned()))
    }
}

impl Read for MemoryEngine {
    fn get<'a>(&'a self, key: &'a [u8]) -> Answer<'a, Option<Value>> {
        at_once(Ok(self.lock().entries.get(key).cloned()))
    }

    fn range<'a>(&'a self, range: Range<'a>) -> Answer<'a, Vec<(Key, Value)>> {
        at_once(read(&self.lock().entries, range))
    }
}

impl Engine for MemoryEngine {
    fn apply<'a>(&'a self, parts: &'a [Part]) -> Answer<'a, Vec<PartOutcome>> {
        at_once(self.lock().apply(parts))
    }

    fn snapshot(&self) -> Answer<'_, Box<dyn Read>> {
        let entries = Arc::clone(&self.lock().entries);
        at_once(Ok(Box::new(Moment(entries))))
    }
}

/// The entries of one moment.
struct Moment(Arc<BTreeMap<Key, Value>>);

impl Read for Moment {
    fn get<'a>(&'a self, key: &'a [u8]) -> Answer<'a, Option<Value>> {
        at_once(Ok(self.0.get(key).cloned()))
    }

    fn range<'a>(&'a self, range: Range<'a>) -> Answer<'a, Vec<(Key, Value)>> {
        at_once(read(&self.0, range))
    }
}

fn read(entries: &BTreeMap<Key, Value>, range: Range<'_>) -> Result<Vec<(Key, Value)>, StoreError> {
    // The map panics on a range that ends before it starts.
    if range.is_empty() {
        return Ok(Vec::new());
    }
    let bounds = (Bound::Included(range.from), Bound::Excluded(range.to));
    let found = entries.range::<[u8], _>(bounds);
    let pair = |(key, value): (&Key, &Value)| Ok((key.clone(), value.clone()));
    match range.order {
        Order::Ascending => range.take_from(found.map(pair)),
        Order::Descending => range.take_from(found.rev().map(pair)),
    }
}

/// Sets or removes an entry; tells what it was.
fn set(entries: &mut BTreeMap<Key, Value>, key: Key, value: Option<Value>) -> Option<Value> {
    match value {
        Some(value) => entries.insert(key, value),
        None => entries.remove(&key),
    }
}
