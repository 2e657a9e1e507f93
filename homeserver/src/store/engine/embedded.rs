//! The embedded engine: fjall, one keyspace, one synced batch per group of parts.
//!
//! Invariants:
//! - A batch is in the journal and fdatasync'ed before `apply` answers.
//! - Reads go through snapshots: plain reads could see half of a batch.
//! - After a failed write nothing is written any more; whether that batch is on the disk is unknown.
//! - Each batch carries the next number of one sequence, and its number is noted in a file of our own
//!   after the commit. A journal that lost synced batches (the engine drops a damaged tail silently)
//!   is then behind the note, and opening refuses it instead of serving a past state.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use super::changes::Changes;
use super::index::{Index, Mark, Moment};
use super::note::Note;
use super::remembered::Remembered;
use super::{Answer, Engine, Range, Read, at_once};
use crate::store::{Key, Part, PartOutcome, StoreError, Value};

/// A store in a folder of this machine.
pub struct EmbeddedEngine {
    index: Index,
    writer: Mutex<Writer>,
}

struct Writer {
    remembered: Remembered,
    sequence: u64,
    note: Note,
    failed: bool,
}

impl EmbeddedEngine {
    /// Opens the store in `folder`, or makes a new one there; not one that has a commit log, for what
    /// is in there alone would be missed. See [`super::open_embedded`].
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        let index = Index::open(folder)?;
        if index.log()?.is_some() {
            return Err(StoreError::Engine(
                "it has a commit log, which the index alone leaves out: open it by its setting \
                 `[store] commit_log`, on or off"
                    .to_owned(),
            ));
        }
        let sequence = index.sequence()?;
        let (note, noted) = Note::open(folder)?;
        if sequence < noted {
            return Err(StoreError::Behind {
                found: sequence,
                noted,
            });
        }
        Ok(Self {
            index,
            writer: Mutex::new(Writer {
                remembered: Remembered::default(),
                sequence,
                note,
                failed: false,
            }),
        })
    }

    fn write_unless_failed(&self, parts: &[Part]) -> Result<Vec<PartOutcome>, StoreError> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if writer.failed {
            return Err(StoreError::Stopped);
        }
        let result = self.write(&mut writer, parts);
        writer.failed = result.is_err();
        result
    }

    fn write(&self, writer: &mut Writer, parts: &[Part]) -> Result<Vec<PartOutcome>, StoreError> {
        let snapshot = self.index.moment();
        let read = RefCell::new(HashMap::new());
        let stored = |key: &[u8]| {
            if let Some(value) = writer.remembered.get(key) {
                return Ok(value.clone());
            }
            if let Some(value) = read.borrow().get(key) {
                return Ok(Option::clone(value));
            }
            let value = snapshot.get(key)?;
            read.borrow_mut()
                .insert(Key::copy_from_slice(key), value.clone());
            Ok(value)
        };
        let mut changes = Changes::new(&stored);
        let outcomes = parts
            .iter()
            .map(|part| changes.take_up(part))
            .collect::<Result<Vec<_>, _>>()?;
        let changed = changes.into_inner();
        if changed.is_empty() {
            return Ok(outcomes);
        }

        let sequence = writer.sequence.saturating_add(1);
        self.index.write(&changed, &[Mark::Sequence(sequence)])?;
        writer.sequence = sequence;
        writer.note.write(sequence)?;
        writer.remembered.take_up(read.into_inner(), changed);
        Ok(outcomes)
    }
}

impl Read for EmbeddedEngine {
    fn get<'a>(&'a self, key: &'a [u8]) -> Answer<'a, Option<Value>> {
        at_once(self.index.moment().get(key))
    }

    fn range<'a>(&'a self, range: Range<'a>) -> Answer<'a, Vec<(Key, Value)>> {
        at_once(self.index.moment().range(range))
    }
}

impl Engine for EmbeddedEngine {
    fn apply<'a>(&'a self, parts: &'a [Part]) -> Answer<'a, Vec<PartOutcome>> {
        at_once(self.write_unless_failed(parts))
    }

    fn snapshot(&self) -> Answer<'_, Box<dyn Read>> {
        at_once(Ok(Box::new(self.index.moment())))
    }
}

impl Read for Moment {
    fn get<'a>(&'a self, key: &'a [u8]) -> Answer<'a, Option<Value>> {
        at_once(self.get(key))
    }

    fn range<'a>(&'a self, range: Range<'a>) -> Answer<'a, Vec<(Key, Value)>> {
        at_once(self.range(range))
    }
}
