//! Judging a batch: each part's preconditions against what is stored and what earlier parts change.

use std::collections::HashMap;

use crate::store::tally::Tally;
use crate::store::{Key, Part, PartOutcome, Precondition, StoreError, Value, Write};

/// Reads what was committed before the batch.
pub(super) type Stored<'a> = dyn Fn(&[u8]) -> Result<Option<Value>, StoreError> + 'a;

/// Tells how long a value is that was committed before the batch.
pub(super) type Measured<'a> = dyn Fn(&[u8]) -> Result<Option<usize>, StoreError> + 'a;

/// Every key whose stored value [`Changes`] may ask for to judge and take up `part`, some more than once; but for those of
/// [`keys_measured`].
pub(super) fn keys_read(part: &Part) -> impl Iterator<Item = &Key> {
    let judged = part.preconditions.iter().map(Precondition::key);
    let counted = part.writes.iter().filter_map(|write| match write {
        Write::Put(..) | Write::Delete(_) => None,
        Write::Append { tail, .. } => Some(tail),
        Write::Count { tally, .. } | Write::Uncount { tally, .. } => Some(tally),
    });
    judged.chain(counted)
}

/// Every key of whose stored value only the length is asked for.
pub(super) fn keys_measured(part: &Part) -> impl Iterator<Item = &Key> {
    part.writes.iter().filter_map(|write| match write {
        Write::Uncount { entry, .. } => Some(entry),
        Write::Put(..) | Write::Delete(_) | Write::Append { .. } | Write::Count { .. } => None,
    })
}

/// What a batch of parts changes, each key once: the last word on it.
pub(super) struct Changes<'a> {
    stored: &'a Stored<'a>,
    /// Where lengths are known without the values.
    measured: Option<&'a Measured<'a>>,
    changed: HashMap<Key, Option<Value>>,
}

impl<'a> Changes<'a> {
    /// No changes yet.
    pub(super) fn new(stored: &'a Stored<'a>) -> Self {
        Self {
            stored,
            measured: None,
            changed: HashMap::new(),
        }
    }

    /// No changes yet, of values whose lengths can be told by themselves.
    pub(super) fn measuring(stored: &'a Stored<'a>, measured: &'a Measured<'a>) -> Self {
        Self {
            measured: Some(measured),
            ..Self::new(stored)
        }
    }

    /// Judges `part` and, when its preconditions hold, takes its writes up.
    pub(super) fn take_up(&mut self, part: &Part) -> Result<PartOutcome, StoreError> {
        for precondition in &part.preconditions {
            if !self.holds(precondition)? {
                return Ok(PartOutcome::Conflict);
            }
        }
        for write in &part.writes {
            match write {
                Write::Put(key, value) => {
                    self.changed.insert(key.clone(), Some(value.clone()));
                }
                Write::Delete(key) => {
                    self.changed.insert(key.clone(), None);
                }
                Write::Append {
                    tail,
                    prefix,
                    value,
                    beside,
                } => {
                    let number = next_number(self.current(tail)?.as_ref())?;
                    let entry = numbered_key(prefix, number);
                    self.changed.insert(entry, Some(value.clone()));
                    if let Some((prefix, value)) = beside {
                        let entry = numbered_key(prefix, number);
                        self.changed.insert(entry, Some(value.clone()));
                    }
                    let number = Value::copy_from_slice(&number.to_be_bytes());
                    self.changed.insert(tail.clone(), Some(number));
                }
                Write::Count { tally, bytes } => {
                    let counted = self.tally(tally)?.with(*bytes);
                    self.changed.insert(tally.clone(), counted.value());
                }
                Write::Uncount {
                    tally,
                    entry,
                    uncounted,
                } => {
                    if let Some(length) = self.length(entry)? {
                        let bytes = u64::try_from(length).unwrap_or(u64::MAX);
                        let bytes = bytes.saturating_sub(*uncounted);
                        let counted = self.tally(tally)?.without(bytes);
                        self.changed.insert(tally.clone(), counted.value());
                    }
                }
            }
        }
        Ok(PartOutcome::Committed)
    }

    /// Every changed key with its new value; `None` means that it has none from now on.
    pub(super) fn into_inner(self) -> HashMap<Key, Option<Value>> {
        self.changed
    }

    fn holds(&self, precondition: &Precondition) -> Result<bool, StoreError> {
        let value = self.current(precondition.key())?;
        Ok(match precondition {
            Precondition::Absent(_) => value.is_none(),
            Precondition::Present(_) => value.is_some(),
            Precondition::Equals(_, expected) => value.as_ref() == Some(expected),
            Precondition::Within(_, bytes) => Tally::read(value.as_ref())?.bytes <= *bytes,
            Precondition::WithinEntries(_, entries) => {
                Tally::read(value.as_ref())?.entries <= *entries
            }
        })
    }

    fn tally(&self, key: &Key) -> Result<Tally, StoreError> {
        Tally::read(self.current(key)?.as_ref())
    }

    fn length(&self, key: &Key) -> Result<Option<usize>, StoreError> {
        match (self.measured, self.changed.get(key)) {
            (Some(measured), None) => measured(key),
            _ => Ok(self.current(key)?.map(|value| value.len())),
        }
    }

    fn current(&self, key: &Key) -> Result<Option<Value>, StoreError> {
        match self.changed.get(key) {
            Some(value) => Ok(value.clone()),
            None => (self.stored)(key),
        }
    }
}

/// The number after the one at a sequence's tail.
fn next_number(tail: Option<&Value>) -> Result<u64, StoreError> {
    let last = match tail {
        None => 0,
        Some(value) => u64::from_be_bytes(
            value
                .as_ref()
                .try_into()
                .map_err(|_| StoreError::Corrupt { family: "tail" })?,
        ),
    };
    last.checked_add(1)
        .ok_or(StoreError::Corrupt { family: "tail" })
}

/// The key of a sequence's entry.
fn numbered_key(prefix: &Key, number: u64) -> Key {
    [prefix.as_ref(), &number.to_be_bytes()].concat().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: what is only counted out is measured and not read, which may be much; also what an earlier part of the batch has
    /// written counts by its length. Method: an entry whose value can't be read, counted out beside one that was just put.
    #[test]
    fn what_is_counted_out_is_only_measured() {
        let key = Key::from_static;
        let mut part = Part::default();
        part.put(key(b"Onew"), Value::from_static(b"four"));
        part.uncount(key(b"wtally"), key(b"Onew"));
        part.uncount(key(b"wtally"), key(b"Oold"));
        let read: Vec<_> = keys_read(&part).collect();
        assert!(read.iter().all(|read| read.as_ref() == b"wtally"));
        let measured: Vec<_> = keys_measured(&part).collect();
        assert_eq!(measured, [&key(b"Onew"), &key(b"Oold")]);

        let before = Tally::default().with(4).with(1000).with(3);
        let stored = |key: &[u8]| match key {
            b"wtally" => Ok(before.value()),
            _ => Err(StoreError::Stopped),
        };
        let measure = |key: &[u8]| -> Result<Option<usize>, StoreError> {
            Ok((key == b"Oold").then_some(1000))
        };
        let mut changes = Changes::measuring(&stored, &measure);
        let taken = changes.take_up(&part).unwrap();
        assert_eq!(taken, PartOutcome::Committed);
        let tally = changes.into_inner().remove(b"wtally".as_slice());
        assert_eq!(tally, Some(Tally::default().with(3).value()));
    }
}
