//! The embedded engine: fjall, one keyspace, one synced batch per group of parts.
//!
//! Invariants:
//! - A batch is in the journal and fdatasync'ed before `apply` answers.
//! - Reads go through snapshots: plain reads could see half of a batch.
//! - After a failed write nothing is written any more; whether that batch is on the disk is unknown.
//! - Each batch carries the next number of one sequence, and its number is noted in a file of our own
//!   after the commit. A journal that lost synced batches (the engine drops a damaged tail silently)
//!   is then behind the note, and opening refuses it instead of serving a past state.
//!
//! Deliberately absent: compression (almost everything stored is ciphertext).

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use fjall::config::CompressionPolicy;
use fjall::{
    CompressionType, Database, Guard, Keyspace, KeyspaceCreateOptions, PersistMode, Readable,
    Snapshot,
};

use super::changes::Changes;
use super::{Answer, Engine, Range, Read, at_once};
use crate::store::{Key, Order, Part, PartOutcome, StoreError, Value};

const KEYSPACE: &str = "entente";
/// What is replayed at opening: bounds the time that a restart takes.
const JOURNAL_BYTES_MAX: u64 = 128 * 1024 * 1024;
const MEMTABLE_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// Blocks kept in memory.
const CACHE_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// Background threads that flush and compact. Of two, the first hands a compaction back to the queue
/// for as long as the second is busy with one, and takes it out again at once: a core is lost.
const WORKERS: usize = 1;
/// Most values that the writer remembers, and the largest of them.
const REMEMBERED_MAX: usize = 16 * 1024;
const REMEMBERED_BYTES_MAX: usize = 256;
/// The number of the last batch, in the keyspace: a key that no record family can have.
const SEQUENCE_KEY: &[u8] = b"\0sequence";
/// The number of the last batch, outside of it.
const NOTE_FILE: &str = "last-batch";

/// A store in a folder of this machine.
pub struct EmbeddedEngine {
    database: Database,
    keyspace: Keyspace,
    writer: Mutex<Writer>,
}

struct Writer {
    /// Committed values of tails and of keys that preconditions name: one writer is the only one who
    /// changes them. `None`: the key has no value.
    remembered: HashMap<Key, Option<Value>>,
    sequence: u64,
    note: File,
    failed: bool,
}

impl EmbeddedEngine {
    /// Opens the store in `folder`, or makes a new one there.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        let database = Database::builder(folder)
            .journal_compression(CompressionType::None)
            .max_journaling_size(JOURNAL_BYTES_MAX)
            .cache_size(CACHE_BYTES_MAX)
            .worker_threads(WORKERS)
            .open()
            .map_err(|error| match error {
                fjall::Error::Locked => StoreError::Locked,
                error => failed(error),
            })?;
        let keyspace = database
            .keyspace(KEYSPACE, || {
                KeyspaceCreateOptions::default()
                    .max_memtable_size(MEMTABLE_BYTES_MAX)
                    .data_block_compression_policy(CompressionPolicy::disabled())
                    .index_block_compression_policy(CompressionPolicy::disabled())
            })
            .map_err(failed)?;
        let sequence = match get(&database.snapshot(), &keyspace, SEQUENCE_KEY)? {
            None => 0,
            Some(value) => number(&value).ok_or(StoreError::Corrupt { family: "sequence" })?,
        };
        let (note, noted) = open_note(&folder.join(NOTE_FILE)).map_err(|error| {
            StoreError::Engine(format!("{}: {error}", folder.join(NOTE_FILE).display()))
        })?;
        if sequence < noted {
            return Err(StoreError::Behind {
                found: sequence,
                noted,
            });
        }
        Ok(Self {
            database,
            keyspace,
            writer: Mutex::new(Writer {
                remembered: HashMap::new(),
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
        let snapshot = self.database.snapshot();
        let read = RefCell::new(HashMap::new());
        let stored = |key: &[u8]| {
            if let Some(value) = writer.remembered.get(key) {
                return Ok(value.clone());
            }
            if let Some(value) = read.borrow().get(key) {
                return Ok(Option::clone(value));
            }
            let value = get(&snapshot, &self.keyspace, key)?;
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
        let mut batch = self
            .database
            .batch()
            .durability(Some(PersistMode::SyncData));
        for (key, value) in &changed {
            match value {
                Some(value) => batch.insert(&self.keyspace, key.clone(), value.clone()),
                None => batch.remove(&self.keyspace, key.clone()),
            }
        }
        batch.insert(&self.keyspace, SEQUENCE_KEY, sequence.to_be_bytes());
        batch.commit().map_err(failed)?;

        writer.sequence = sequence;
        note(&writer.note, sequence)?;
        writer.remember(read.into_inner(), changed);
        Ok(outcomes)
    }
}

impl Writer {
    /// Takes up what was read and then what was changed, so that the change has the last word.
    fn remember(
        &mut self,
        read: HashMap<Key, Option<Value>>,
        changed: HashMap<Key, Option<Value>>,
    ) {
        if self.remembered.len() + read.len() > REMEMBERED_MAX {
            self.remembered.clear();
        }
        // What is gone now does not come back: rows have numbers.
        let gone = |key: &Key| matches!(changed.get(key), Some(None));
        let read = read.into_iter().filter(|(key, _)| !gone(key));
        let small = |value: &Option<Value>| {
            value
                .as_ref()
                .is_none_or(|value| value.len() <= REMEMBERED_BYTES_MAX)
        };
        self.remembered
            .extend(read.filter(|(_, value)| small(value)));
        for (key, value) in changed {
            if value.is_none() || !small(&value) {
                self.remembered.remove(&key);
            } else if let Some(known) = self.remembered.get_mut(&key) {
                // A copy: a slice would keep all of a larger buffer alive.
                *known = value.map(|value| Value::copy_from_slice(&value));
            }
        }
    }
}

impl Read for EmbeddedEngine {
    fn get<'a>(&'a self, key: &'a [u8]) -> Answer<'a, Option<Value>> {
        at_once(get(&self.database.snapshot(), &self.keyspace, key))
    }

    fn range<'a>(&'a self, wanted: Range<'a>) -> Answer<'a, Vec<(Key, Value)>> {
        at_once(range(&self.database.snapshot(), &self.keyspace, wanted))
    }
}

impl Engine for EmbeddedEngine {
    fn apply<'a>(&'a self, parts: &'a [Part]) -> Answer<'a, Vec<PartOutcome>> {
        at_once(self.write_unless_failed(parts))
    }

    fn snapshot(&self) -> Answer<'_, Box<dyn Read>> {
        at_once(Ok(Box::new(Moment {
            snapshot: self.database.snapshot(),
            keyspace: self.keyspace.clone(),
        })))
    }
}

/// One moment of all keys.
struct Moment {
    snapshot: Snapshot,
    keyspace: Keyspace,
}

impl Read for Moment {
    fn get<'a>(&'a self, key: &'a [u8]) -> Answer<'a, Option<Value>> {
        at_once(get(&self.snapshot, &self.keyspace, key))
    }

    fn range<'a>(&'a self, wanted: Range<'a>) -> Answer<'a, Vec<(Key, Value)>> {
        at_once(range(&self.snapshot, &self.keyspace, wanted))
    }
}

fn get(snapshot: &Snapshot, keyspace: &Keyspace, key: &[u8]) -> Result<Option<Value>, StoreError> {
    let value = snapshot.get(keyspace, key).map_err(failed)?;
    Ok(value.map(Value::from))
}

fn range(
    snapshot: &Snapshot,
    keyspace: &Keyspace,
    wanted: Range<'_>,
) -> Result<Vec<(Key, Value)>, StoreError> {
    // The engine panics on a range that ends before it starts.
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let entries = snapshot.range(keyspace, wanted.from..wanted.to);
    let pair = |guard: Guard| {
        let (key, value) = guard.into_inner().map_err(failed)?;
        Ok((Key::from(key), Value::from(value)))
    };
    match wanted.order {
        Order::Ascending => wanted.take_from(entries.map(pair)),
        Order::Descending => wanted.take_from(entries.rev().map(pair)),
    }
}

/// Opens the note: the last batch's number, twice, so that a torn note is told from a number.
fn open_note(path: &Path) -> io::Result<(File, u64)> {
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)?;
    let mut text = Vec::new();
    file.read_to_end(&mut text)?;
    let noted = match text.split_at_checked(8) {
        // New, or made but not filled when the power went: it claims nothing.
        _ if text.iter().all(|byte| *byte == 0) => 0,
        Some((once, twice)) if once == twice => number(once).unwrap_or(0),
        _ => {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "it is damaged; compare the folder with a backup before deleting this file",
            ));
        }
    };
    Ok((file, noted))
}

/// Notes the number of a batch that is durable. The note itself is not synced: it may lag behind after
/// a power cut, never run ahead.
fn note(file: &File, sequence: u64) -> Result<(), StoreError> {
    let number = sequence.to_be_bytes();
    file.write_all_at(&[number, number].concat(), 0)
        .map_err(|error| StoreError::Engine(format!("{NOTE_FILE}: {error}")))
}

fn number(bytes: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(bytes.try_into().ok()?))
}

fn failed(error: fjall::Error) -> StoreError {
    StoreError::Engine(error.to_string())
}
