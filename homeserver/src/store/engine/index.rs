//! fjall as the embedded engines use it: one keyspace, written by batches, read through snapshots.
//!
//! Deliberately absent: compression (almost everything stored is ciphertext).

use std::path::Path;

use fjall::config::CompressionPolicy;
use fjall::{
    CompressionType, Database, Guard, Keyspace, KeyspaceCreateOptions, PersistMode, Readable,
    Snapshot,
};

use super::Range;
use super::space::Space;
use crate::store::{Key, Order, StoreError, Value};

const KEYSPACE: &str = "entente";
/// What is replayed at opening: bounds the time that a restart takes.
const JOURNAL_BYTES_MAX: u64 = 128 * 1024 * 1024;
const MEMTABLE_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// Blocks kept in memory.
const CACHE_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// Background threads that flush and compact. Of two, the first hands a compaction back to the queue
/// for as long as the second is busy with one, and takes it out again at once: a core is lost.
const WORKERS: usize = 1;
/// The number of the last batch, in the keyspace: a key that no record family can have.
const SEQUENCE_KEY: &[u8] = b"\0sequence";
/// Where the commit log goes on, when there is one.
const LOG_KEY: &[u8] = b"\0log";

/// An opened keyspace.
pub(super) struct Index {
    /// First, so that it has ended when the database is closed.
    space: Space,
    database: Database,
    keyspace: Keyspace,
}

/// What a batch says of itself.
#[derive(Clone, Copy)]
pub(super) enum Mark<'a> {
    /// The number of the last batch that the index holds.
    Sequence(u64),
    /// Where the commit log goes on; `None`: there is none from now on.
    Log(Option<&'a [u8]>),
}

impl Index {
    /// Opens the keyspace in `folder`, or makes a new one there.
    pub(super) fn open(folder: &Path) -> Result<Self, StoreError> {
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
        Ok(Self {
            space: Space::default(),
            database,
            keyspace,
        })
    }

    /// The number of the last batch that is in here.
    pub(super) fn sequence(&self) -> Result<u64, StoreError> {
        match self.moment().get(SEQUENCE_KEY)? {
            None => Ok(0),
            Some(value) => number(&value).ok_or(StoreError::Corrupt { family: "sequence" }),
        }
    }

    /// Where the commit log goes on, if there is one.
    pub(super) fn log(&self) -> Result<Option<Value>, StoreError> {
        self.moment().get(LOG_KEY)
    }

    /// Everything as it is now.
    pub(super) fn moment(&self) -> Moment {
        Moment {
            snapshot: self.database.snapshot(),
            keyspace: self.keyspace.clone(),
        }
    }

    /// Writes `changes` and `marks` together; they are durable when it returns.
    pub(super) fn write<'a>(
        &self,
        changes: impl IntoIterator<Item = (&'a Key, &'a Option<Value>)>,
        marks: &[Mark<'_>],
    ) -> Result<(), StoreError> {
        let mut batch = self
            .database
            .batch()
            .durability(Some(PersistMode::SyncData));
        let mut deleted = 0;
        for (key, value) in changes {
            match value {
                Some(value) => batch.insert(&self.keyspace, key.clone(), value.clone()),
                None => {
                    batch.remove(&self.keyspace, key.clone());
                    deleted += 1;
                }
            }
        }
        for mark in marks {
            match mark {
                Mark::Sequence(number) => {
                    batch.insert(&self.keyspace, SEQUENCE_KEY, number.to_be_bytes());
                }
                Mark::Log(Some(place)) => batch.insert(&self.keyspace, LOG_KEY, *place),
                Mark::Log(None) => batch.remove(&self.keyspace, LOG_KEY),
            }
        }
        batch.commit().map_err(failed)?;
        self.space.deleted(deleted, &self.database, &self.keyspace);
        Ok(())
    }
}

/// Everything as it was at one moment. Plain reads could see half of a batch.
pub(super) struct Moment {
    snapshot: Snapshot,
    keyspace: Keyspace,
}

impl Moment {
    /// The value at `key`.
    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Value>, StoreError> {
        let value = self.snapshot.get(&self.keyspace, key).map_err(failed)?;
        Ok(value.map(Value::from))
    }

    /// The entries with `from <= key < to`. The database panics when `to` does not lie above `from`.
    pub(super) fn entries(
        &self,
        from: &[u8],
        to: &[u8],
    ) -> impl DoubleEndedIterator<Item = Result<(Key, Value), StoreError>> + use<> {
        let pair = |guard: Guard| {
            let (key, value) = guard.into_inner().map_err(failed)?;
            Ok((Key::from(key), Value::from(value)))
        };
        self.snapshot.range(&self.keyspace, from..to).map(pair)
    }

    /// The entries of `range`.
    pub(super) fn range(&self, range: Range<'_>) -> Result<Vec<(Key, Value)>, StoreError> {
        if range.is_empty() {
            return Ok(Vec::new());
        }
        let entries = self.entries(range.from, range.to);
        match range.order {
            Order::Ascending => range.take_from(entries),
            Order::Descending => range.take_from(entries.rev()),
        }
    }
}

fn number(bytes: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(bytes.try_into().ok()?))
}

fn failed(error: fjall::Error) -> StoreError {
    StoreError::Engine(error.to_string())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use bytes::Bytes;

    use super::*;

    fn bytes_below(folder: &Path) -> u64 {
        let below = |entry: fs::DirEntry| match entry.metadata().unwrap() {
            about if about.is_dir() => bytes_below(&entry.path()),
            about => about.len(),
        };
        let entries = fs::read_dir(folder).unwrap();
        entries.map(|entry| below(entry.unwrap())).sum()
    }

    /// Goal: what deleted entries took on the disk is given back though nothing is written afterwards, and the others stay.
    /// Method: 60,000 entries of a kibibyte, of which all but each sixth are deleted.
    #[test]
    fn space_is_given_back() {
        let folder = tempfile::tempdir().unwrap();
        let index = Index::open(folder.path()).unwrap();
        let key = |number: u32| Key::from(number.to_be_bytes().to_vec());
        let all: Vec<u32> = (0..60_000).collect();
        let kibibyte = Bytes::from(vec![7; 1024]);
        let mut sequence = 0;
        let mut write = |value: Option<&Bytes>, numbers: &[u32]| {
            sequence += 1;
            let entries = numbers.iter().map(|number| (key(*number), value.cloned()));
            let entries: Vec<(Key, Option<Value>)> = entries.collect();
            let changes = entries.iter().map(|(key, value)| (key, value));
            index.write(changes, &[Mark::Sequence(sequence)]).unwrap();
        };
        all.chunks(1_000)
            .for_each(|some| write(Some(&kibibyte), some));
        let deleted: Vec<u32> = all.iter().copied().filter(|n| n % 6 != 0).collect();
        deleted.chunks(1_000).for_each(|some| write(None, some));
        index.space.settle();

        let left = bytes_below(&folder.path().join("keyspaces"));
        assert!((10_000_000..20_000_000).contains(&left), "{left} bytes");
        let there = index.moment();
        for number in all {
            let value = there.get(&key(number)).unwrap();
            assert_eq!(value.is_some(), number % 6 == 0, "{number}");
        }
    }
}
