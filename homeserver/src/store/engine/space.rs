//! Space that deleted entries take on the disk still, given back.
//!
//! The tree lets go of a deleted entry when its tombstone comes down to where the entry lies, and other entries that are
//! written have to press it there. Where many were deleted and little is written afterwards, all of them would stay. So
//! the tree is compacted as a whole, in a thread of its own, each time that the deleted ones are a good part of what it holds.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use fjall::{Database, Keyspace};

/// Fewer deleted entries than this are left where they are: some tens of megabytes at most.
const DELETED_MIN: u64 = 50_000;
/// They are given back when they are one in so many of all entries that the tree holds, deleted ones and their tombstones
/// included. What stays has to be written again then: so it is written again once for each third of it that was deleted.
const ONE_IN: u64 = 4;
/// What is written to make a later state: a key that no record family can have.
const STATE_KEY: &[u8] = b"\0state";
/// What may be in memory still, not yet on the disk, when the tree is compacted.
const IN_MEMORY_BYTES_MAX: u64 = 1024 * 1024;
/// How often it is looked whether that is so, and how often at most: under load it may never be.
const LOOK: Duration = Duration::from_millis(10);
const LOOKS_MAX: u32 = 1_000;

/// What was deleted since the last time.
#[derive(Default)]
pub(super) struct Space {
    deleted: AtomicU64,
    stopping: Arc<AtomicBool>,
    at_work: Mutex<Option<JoinHandle<()>>>,
}

impl Space {
    /// Counts deleted entries, and begins to give their space back when they are many.
    pub(super) fn deleted(&self, count: u64, database: &Database, keyspace: &Keyspace) {
        let before = self.deleted.fetch_add(count, Ordering::AcqRel);
        let deleted = before.saturating_add(count);
        if deleted < DELETED_MIN {
            return;
        }
        let held = u64::try_from(keyspace.approximate_len()).unwrap_or(u64::MAX);
        if deleted < held / ONE_IN {
            return;
        }
        let mut at_work = self.at_work.lock().unwrap_or_else(PoisonError::into_inner);
        if at_work.as_ref().is_some_and(|thread| !thread.is_finished()) {
            return;
        }
        self.deleted.store(0, Ordering::Release);
        let (database, keyspace) = (database.clone(), keyspace.clone());
        let stopping = Arc::clone(&self.stopping);
        let begun = thread::Builder::new()
            .name("store-space".to_owned())
            .spawn(move || {
                if let Err(error) = give_back(&database, &keyspace, &stopping) {
                    tracing::warn!(%error, "space of deleted entries can't be given back");
                }
            });
        match begun {
            Ok(thread) => *at_work = Some(thread),
            Err(error) => {
                tracing::warn!(%error, "space of deleted entries can't be given back");
            }
        }
    }

    /// Waits until what was begun is done.
    #[cfg(test)]
    pub(super) fn settle(&self) {
        let begun = self.at_work.lock().unwrap().take();
        begun.map(JoinHandle::join).transpose().unwrap();
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Release);
        let at_work = self.at_work.get_mut();
        if let Some(thread) = at_work.unwrap_or_else(PoisonError::into_inner).take() {
            // Whoever opens the folder next has to find it closed.
            let _ = thread.join();
        }
    }
}

fn give_back(
    database: &Database,
    keyspace: &Keyspace,
    stopping: &AtomicBool,
) -> Result<(), fjall::Error> {
    // The newest tombstones are in memory, and of use only where the entries are.
    keyspace.rotate_memtable()?;
    for _ in 0..LOOKS_MAX {
        if stopping.load(Ordering::Acquire) {
            return Ok(());
        }
        if database.write_buffer_size() <= IN_MEMORY_BYTES_MAX {
            break;
        }
        thread::park_timeout(LOOK);
    }
    keyspace.major_compact()?;
    // Files that were compacted go when a later state of the tree is the oldest that anybody may still read. So one is made.
    keyspace.insert(STATE_KEY, [])?;
    keyspace.insert(STATE_KEY, [])?;
    keyspace.rotate_memtable()?;
    Ok(())
}
