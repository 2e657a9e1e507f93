//! An engine in memory, for simulations and unit tests.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::changes::Changes;
use crate::store::engine::{Engine, up_to};
use crate::store::{Key, Order, Part, PartOutcome, StoreError, Value};

/// An ordered map behind a lock. What `apply` has answered survives a crash of whoever holds it, as
/// long as the engine itself is kept: a simulation restarts a server by handing it the same engine.
#[derive(Default)]
pub struct MemoryEngine {
    entries: Mutex<BTreeMap<Key, Value>>,
}

impl MemoryEngine {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Key, Value>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Engine for MemoryEngine {
    fn apply(&self, parts: &[Part]) -> Result<Vec<PartOutcome>, StoreError> {
        let mut entries = self.lock();
        let stored = |key: &[u8]| Ok(entries.get(key).cloned());
        let mut changes = Changes::new(&stored);
        let outcomes = parts
            .iter()
            .map(|part| changes.take_up(part))
            .collect::<Result<_, _>>()?;
        for (key, value) in changes.into_inner() {
            match value {
                Some(value) => entries.insert(key, value),
                None => entries.remove(&key),
            };
        }
        Ok(outcomes)
    }

    fn get(&self, key: &[u8]) -> Result<Option<Value>, StoreError> {
        Ok(self.lock().get(key).cloned())
    }

    fn range(
        &self,
        from: &[u8],
        to: &[u8],
        limit: usize,
        bytes_max: usize,
        order: Order,
    ) -> Result<Vec<(Key, Value)>, StoreError> {
        if from >= to {
            return Ok(Vec::new());
        }
        let entries = self.lock();
        let range = entries.range::<[u8], _>((Bound::Included(from), Bound::Excluded(to)));
        let pair = |(key, value): (&Key, &Value)| Ok((key.clone(), value.clone()));
        match order {
            Order::Ascending => up_to(range.map(pair), limit, bytes_max),
            Order::Descending => up_to(range.rev().map(pair), limit, bytes_max),
        }
    }
}
