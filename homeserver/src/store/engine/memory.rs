//! An engine in memory, for simulations and unit tests.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::store::engine::{Engine, next_number, numbered_key};
use crate::store::{Key, Order, Part, PartOutcome, Precondition, StoreError, Value, Write};

/// An ordered map behind a lock.
#[derive(Default)]
pub struct MemoryEngine {
    entries: Mutex<BTreeMap<Key, Value>>,
}

impl MemoryEngine {
    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<Key, Value>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn holds(entries: &BTreeMap<Key, Value>, precondition: &Precondition) -> bool {
    let value = entries.get(precondition.key());
    match precondition {
        Precondition::Absent(_) => value.is_none(),
        Precondition::Present(_) => value.is_some(),
        Precondition::Equals(_, expected) => value == Some(expected),
    }
}

impl Engine for MemoryEngine {
    fn apply(&self, parts: &[Part]) -> Result<Vec<PartOutcome>, StoreError> {
        let mut entries = self.lock();
        let mut outcomes = Vec::with_capacity(parts.len());
        for part in parts {
            if !part.preconditions.iter().all(|p| holds(&entries, p)) {
                outcomes.push(PartOutcome::Conflict);
                continue;
            }
            for write in &part.writes {
                match write {
                    Write::Put(key, value) => {
                        entries.insert(key.clone(), value.clone());
                    }
                    Write::Delete(key) => {
                        entries.remove(key);
                    }
                    Write::Append {
                        tail,
                        prefix,
                        value,
                    } => {
                        let number = next_number(entries.get(tail))?;
                        entries.insert(tail.clone(), number.to_be_bytes().to_vec().into());
                        entries.insert(numbered_key(prefix, number), value.clone());
                    }
                }
            }
            outcomes.push(PartOutcome::Committed);
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
        order: Order,
    ) -> Result<Vec<(Key, Value)>, StoreError> {
        if from >= to {
            return Ok(Vec::new());
        }
        let entries = self.lock();
        let range = entries.range::<[u8], _>((
            std::ops::Bound::Included(from),
            std::ops::Bound::Excluded(to),
        ));
        let pair = |(key, value): (&Key, &Value)| (key.clone(), value.clone());
        Ok(match order {
            Order::Ascending => range.map(pair).take(limit).collect(),
            Order::Descending => range.rev().map(pair).take(limit).collect(),
        })
    }
}
