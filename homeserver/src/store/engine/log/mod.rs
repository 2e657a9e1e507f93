//! The embedded engine with a commit log before it: log first, index late.
//!
//! A batch is one record of the log and one sync; then it is young: kept in memory, until it is some
//! seconds old and goes to the index in the background. Most messages are acknowledged before that and
//! never get there. Reads see what is young over the index.
//!
//! Invariants:
//! - A record is in the log and fdatasync'ed before `apply` answers, and before any read shows it.
//! - The index holds every batch up to the number that it notes, the log every later one. A segment is
//!   freed only after its last batch is durable in the index.
//! - After a failed write, of the log or of the index, nothing is written any more.
//! - The log goes on where the index ends: opening refuses a log of which something in between is
//!   missing, and one that ends before the number in the note file.
//!
//! `docs/store.md` has the format and the rules of recovery.

mod backlog;
mod drain;
mod limits;
mod pool;
pub mod record;
mod recovery;
mod segment;
#[cfg(test)]
pub(super) mod tests;
mod young;

use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread::JoinHandle;

use bytes::Bytes;
use tokio::time::Instant;

use super::changes::Changes;
use super::index::{Index, Mark};
use super::note::Note;
use super::remembered::Remembered;
use super::{Answer, Engine, Range, Read, at_once};
use crate::store::{Key, Part, PartOutcome, StoreError, Value};
use backlog::Backlog;
use limits::Limits;
use pool::Pool;
use record::{Body, Change, LogId};
use recovery::{Place, Recovered, Replayed, make, recover};
use segment::{Segment, Slot};
use young::{Cut, Written, Young};

/// Where the segments lie, in the store's folder.
const FOLDER: &str = "commit-log";
/// What a write has in a record beside its keys and values, at most (an appended entry: three changes and the numbers in
/// them), and what a record has beside all of that.
const WRITE_BYTES: usize = 64;
const RECORD_BYTES: usize = 64;

/// A store in a folder of this machine, with a commit log.
pub struct LoggedEngine {
    shared: Arc<Shared>,
    background: Option<JoinHandle<()>>,
}

/// What the writer, readers and the background share. Locks are taken in this order: the writer's,
/// that of what is young.
struct Shared {
    index: Index,
    pool: Pool,
    limits: Limits,
    writer: Mutex<Writer>,
    young: RwLock<Young>,
    backlog: Backlog,
    /// The segment that the index notes.
    noted_segment: AtomicU64,
    /// The segment in use is half full.
    segment_wanted: AtomicBool,
}

struct Writer {
    current: Segment,
    current_since: Instant,
    /// Whether the next segment was asked for.
    asked: bool,
    sequence: u64,
    note: Note,
    remembered: Remembered,
    failed: bool,
}

impl LoggedEngine {
    /// Opens the store in `folder`, or makes a new one there. One that had no commit log has one from
    /// now on.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        Self::open_within(folder, Limits::default())
    }

    fn open_within(folder: &Path, limits: Limits) -> Result<Self, StoreError> {
        let shared = Arc::new(Shared::open(folder, limits)?);
        let background = std::thread::Builder::new()
            .name("store-drain".to_owned())
            .spawn({
                let shared = Arc::clone(&shared);
                move || drain::run(&shared)
            })
            .map_err(|error| StoreError::Engine(error.to_string()))?;
        Ok(Self {
            shared,
            background: Some(background),
        })
    }
}

impl Drop for LoggedEngine {
    fn drop(&mut self) {
        self.shared.backlog.stop();
        if let Some(background) = self.background.take() {
            // Whoever opens the folder next has to find it closed.
            let _ = background.join();
        }
    }
}

/// Takes what a commit log in `folder` holds to the index, and removes the log: the store can be opened
/// without one then. Does nothing when there is none.
pub(super) fn remove(folder: &Path) -> Result<(), StoreError> {
    let log_folder = folder.join(FOLDER);
    if !log_folder.is_dir() {
        return Ok(());
    }
    let index = Index::open(folder)?;
    if index.log()?.is_some() {
        let shared = Shared::over(index, folder, Limits::default())?;
        drain::drain_all(&shared)?;
        shared.index.write([], &[Mark::Log(None)])?;
    }
    let removed =
        |error: std::io::Error| StoreError::Engine(format!("{}: {error}", log_folder.display()));
    for (_, mut slot) in Slot::open_all(&log_folder)? {
        let bytes = slot.bytes();
        slot.clean(bytes)?;
    }
    std::fs::remove_dir_all(&log_folder).map_err(removed)
}

impl Shared {
    fn open(folder: &Path, limits: Limits) -> Result<Self, StoreError> {
        Self::over(Index::open(folder)?, folder, limits)
    }

    fn over(index: Index, folder: &Path, limits: Limits) -> Result<Self, StoreError> {
        let now = Instant::now();
        let drained = index.sequence()?;
        let (note, noted) = Note::open(folder)?;
        let mut young = Young::default();
        let mut bytes = 0;
        let recovered = match index.log()? {
            Some(place) => {
                let mut replay = |replayed: Replayed| {
                    let written = Written {
                        sequence: replayed.sequence,
                        segment: replayed.segment,
                        bytes: replayed.bytes,
                    };
                    bytes += written.bytes;
                    young.take_up(replayed.changes, written, now);
                    young.close_when_full(limits.layer_bytes_max);
                };
                recover(
                    &folder.join(FOLDER),
                    limits.segment_bytes,
                    Place::read(&place)?,
                    drained,
                    &mut replay,
                )?
            }
            None => begin(&index, folder, limits, drained)?,
        };
        let Recovered {
            pool,
            current,
            sequence,
        } = recovered;
        if sequence < noted {
            return Err(StoreError::Behind {
                found: sequence,
                noted,
            });
        }
        Ok(Self {
            index,
            pool,
            limits,
            writer: Mutex::new(Writer {
                current,
                current_since: now,
                asked: false,
                sequence,
                note,
                remembered: Remembered::default(),
                failed: false,
            }),
            young: RwLock::new(young),
            backlog: Backlog::new(bytes),
            // Whatever the index notes: it is noted anew when the log has moved on.
            noted_segment: AtomicU64::new(0),
            segment_wanted: AtomicBool::new(false),
        })
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn young(&self) -> RwLockReadGuard<'_, Young> {
        self.young.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn young_mut(&self) -> RwLockWriteGuard<'_, Young> {
        self.young.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn apply(&self, parts: &[Part]) -> Result<Vec<PartOutcome>, StoreError> {
        // Before the writer is locked: the background locks it too, on its way to making room.
        let room = self
            .backlog
            .wait_for_room(bytes_of(parts), self.limits.backlog_bytes_max);
        let mut writer = self.writer();
        if writer.failed {
            return Err(StoreError::Stopped);
        }
        let result = room.and_then(|()| self.write(&mut writer, parts));
        writer.failed = result.is_err();
        result
    }

    fn write(&self, writer: &mut Writer, parts: &[Part]) -> Result<Vec<PartOutcome>, StoreError> {
        let read = RefCell::new(HashMap::new());
        let stored = |key: &[u8]| {
            if let Some(value) = writer.remembered.get(key) {
                return Ok(value.clone());
            }
            if let Some(value) = read.borrow().get(key) {
                return Ok(Option::clone(value));
            }
            let value = self.get(key)?;
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

        let mut sorted: Vec<Change> = changed
            .iter()
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        sorted.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        let sequence = writer.sequence.saturating_add(1);
        let mut record = record::batch(sequence, &sorted)?;
        let bytes = record.len();
        let now = Instant::now();
        writer.append(&self.pool, sequence, &mut record, now)?;

        let written = Written {
            sequence,
            segment: writer.current.number(),
            bytes,
        };
        self.publish(changes_in(record)?, written, now);
        let segment_wanted = !writer.asked && writer.current.is_half_full();
        writer.asked |= segment_wanted;
        self.segment_wanted
            .fetch_or(segment_wanted, Ordering::Relaxed);
        self.backlog
            .add(bytes, segment_wanted, self.limits.young_bytes_max);
        writer.remembered.take_up(read.into_inner(), changed);
        Ok(outcomes)
    }

    /// Shows a batch that is durable to readers.
    fn publish(&self, changes: Vec<Change>, written: Written, now: Instant) {
        let mut young = self.young_mut();
        young.take_up(changes, written, now);
        young.close_when_full(self.limits.layer_bytes_max);
    }

    fn get(&self, key: &[u8]) -> Result<Option<Value>, StoreError> {
        let below = {
            let young = self.young();
            if let Some(value) = young.get(key) {
                return Ok(value);
            }
            self.index.moment()
        };
        below.get(key)
    }

    /// What is between two keys, as of one moment.
    fn cut(&self, from: &[u8], to: Option<&[u8]>) -> Cut {
        loop {
            {
                let young = self.young();
                if let Some(layers) = young.layers(from, to) {
                    return Cut::new(layers, self.index.moment());
                }
            }
            self.young_mut().close();
        }
    }

    fn range(&self, range: Range<'_>) -> Result<Vec<(Key, Value)>, StoreError> {
        if range.is_empty() {
            return Ok(Vec::new());
        }
        self.cut(range.from, Some(range.to)).range(range)
    }
}

impl Writer {
    /// Writes the record of the batch `sequence`; it is durable, and noted, when this returns.
    fn append(
        &mut self,
        pool: &Pool,
        sequence: u64,
        record: &mut [u8],
        now: Instant,
    ) -> Result<(), StoreError> {
        if !self.current.holds(record.len()) {
            // The rest that is wiped is smaller than the record.
            self.go_on(pool, record.len(), true, now)?;
        }
        self.current.append(record)?;
        self.sequence = sequence;
        self.note.write(sequence)
    }

    /// Goes on in another segment, in which a record of so many bytes fits.
    fn go_on(
        &mut self,
        pool: &Pool,
        bytes: usize,
        wipe: bool,
        now: Instant,
    ) -> Result<(), StoreError> {
        let next = pool.take(bytes)?;
        self.current
            .end(self.sequence.saturating_add(1), next.number(), wipe)?;
        pool.put_full(std::mem::replace(&mut self.current, next));
        self.current_since = now;
        self.asked = false;
        Ok(())
    }

    fn is_old(&self, limits: Limits, now: Instant) -> bool {
        let age = now.saturating_duration_since(self.current_since);
        !self.failed && !self.current.is_clean() && age >= limits.segment_time_max
    }

    /// Goes on in another segment if this one is old.
    fn end_old(&mut self, pool: &Pool, limits: Limits, now: Instant) -> Result<(), StoreError> {
        if !self.is_old(limits, now) {
            return Ok(());
        }
        // What is left of a former life is overwritten once the segment is free: that is soon.
        let result = self.go_on(pool, 0, false, now);
        self.failed = result.is_err();
        result
    }
}

/// Makes a log for a store that has none. The index notes it before anything is written to it.
fn begin(
    index: &Index,
    folder: &Path,
    limits: Limits,
    drained: u64,
) -> Result<Recovered, StoreError> {
    let log = new_log_id();
    let made = make(&folder.join(FOLDER), log, limits.segment_bytes, drained)?;
    let place = Place {
        log,
        segment: made.current.number(),
    };
    index.write([], &[Mark::Log(Some(&place.encode()))])?;
    Ok(made)
}

/// A number that no other log has. It need not be a secret: the standard library's seeds are random.
fn new_log_id() -> LogId {
    let half = || RandomState::new().build_hasher().finish();
    (u128::from(half()) << 64 | u128::from(half())).to_be_bytes()
}

/// What a record changes, as slices of its bytes: so nothing else is kept in memory for it.
fn changes_in(record: Vec<u8>) -> Result<Vec<Change>, StoreError> {
    match record::body(&Bytes::from(record)).and_then(Body::decode) {
        Some(Body::Batch(changes)) => Ok(changes),
        _ => Err(StoreError::Corrupt {
            family: "commit log",
        }),
    }
}

impl Read for LoggedEngine {
    fn get<'a>(&'a self, key: &'a [u8]) -> Answer<'a, Option<Value>> {
        at_once(self.shared.get(key))
    }

    fn range<'a>(&'a self, range: Range<'a>) -> Answer<'a, Vec<(Key, Value)>> {
        at_once(self.shared.range(range))
    }
}

impl Engine for LoggedEngine {
    fn apply<'a>(&'a self, parts: &'a [Part]) -> Answer<'a, Vec<PartOutcome>> {
        at_once(self.shared.apply(parts))
    }

    fn snapshot(&self) -> Answer<'_, Box<dyn Read>> {
        at_once(Ok(Box::new(self.shared.cut(b"", None))))
    }
}

impl Read for Cut {
    fn get<'a>(&'a self, key: &'a [u8]) -> Answer<'a, Option<Value>> {
        at_once(self.get(key))
    }

    fn range<'a>(&'a self, range: Range<'a>) -> Answer<'a, Vec<(Key, Value)>> {
        at_once(self.range(range))
    }
}

/// How much room these parts want in the log, at most: whether they are taken up is not known yet.
fn bytes_of(parts: &[Part]) -> usize {
    let writes = parts.iter().flat_map(|part| &part.writes);
    let bytes = writes.map(|write| write.bytes() + WRITE_BYTES);
    bytes.sum::<usize>() + RECORD_BYTES
}
