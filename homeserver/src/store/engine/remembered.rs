//! What the writer remembers of what it has read: tails, counters, and what preconditions name.

use std::collections::HashMap;

use crate::store::{Key, Value};

/// Most values that the writer remembers, and the largest of them.
const REMEMBERED_MAX: usize = 16 * 1024;
const REMEMBERED_BYTES_MAX: usize = 256;

/// Committed values: one writer is the only one who changes them. `None`: the key has no value.
#[derive(Default)]
pub(super) struct Remembered(HashMap<Key, Option<Value>>);

impl Remembered {
    /// What is remembered of `key`.
    pub(super) fn get(&self, key: &[u8]) -> Option<&Option<Value>> {
        self.0.get(key)
    }

    /// Takes up what was read for a batch and then what the batch changed, so that the change has the
    /// last word.
    pub(super) fn take_up(
        &mut self,
        read: HashMap<Key, Option<Value>>,
        changed: HashMap<Key, Option<Value>>,
    ) {
        if self.0.len() + read.len() > REMEMBERED_MAX {
            self.0.clear();
        }
        // What is gone now does not come back: rows have numbers.
        let gone = |key: &Key| matches!(changed.get(key), Some(None));
        let read = read.into_iter().filter(|(key, _)| !gone(key));
        let small = |value: &Option<Value>| {
            value
                .as_ref()
                .is_none_or(|value| value.len() <= REMEMBERED_BYTES_MAX)
        };
        self.0.extend(read.filter(|(_, value)| small(value)));
        for (key, value) in changed {
            if value.is_none() || !small(&value) {
                self.0.remove(&key);
            } else if let Some(known) = self.0.get_mut(&key) {
                // A copy: a slice would keep all of a larger buffer alive.
                *known = value.map(|value| Value::copy_from_slice(&value));
            }
        }
    }
}
