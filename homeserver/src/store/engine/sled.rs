//! The sled engine, for those who ask for it (cargo feature `sled`): pinned, one tree, and synced by us.
//!
//! sled 0.34 answers a flush before the disk has it: it starts the writing back and never waits for the
//! disk. Measured, it lost everything that it had confirmed in each of eight power losses.
//!
//! Invariants:
//! - After each batch its log file is synced with a handle of our own, and only then is anything answered
//!   or read.
//! - It has files that nothing syncs, for what does not fit into its log. No record is large enough for
//!   them: values are cut into pieces. Should there be such a file all the same, the engine stops.
//! - A batch and a read exclude each other, for its own reads can see half of a batch.
//! - A snapshot, which it does not have, is what a batch overwrites while somebody holds one.
//!
//! Deliberately absent: a limit of the file. It grows with what passes through and never shrinks.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::iter::from_fn;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak,
};
use std::time::Duration;

use ::sled::{Batch, Db, IVec};

use super::changes::Changes;
use super::{Answer, Engine, Range, Read, at_once};
use crate::store::{Key, Order, Part, PartOutcome, StoreError, Value};

/// What the keys of entries begin with.
const ENTRY: u8 = b'e';
/// What the keys of pieces begin with.
const PIECE: u8 = b'p';
/// What the row of an entry begins with whose value follows.
const WHOLE: u8 = 0;
/// What the row of an entry begins with whose value lies in pieces; its length follows.
const IN_PIECES: u8 = 1;
/// Longest value of a row.
const PIECE_BYTES_MAX: usize = 96 * 1024;
/// The log is cut into segments of this size, the largest that sled takes.
const SEGMENT_BYTES: usize = 16 * 1024 * 1024;
/// Most rows of one page before it is split (17, and some that come meanwhile). A page is written as one
/// record, and into a file of its own when it exceeds a quarter of a segment.
const PAGE_ROWS_MAX: usize = 32;
/// Longest key that pages have room for.
const KEY_BYTES_MAX: usize = 4096;
/// Pages kept in memory.
const CACHE_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// How often, and how long apart, a lock is looked at before it counts as another process's: 2 s.
const CLOSING_LOOKS: u32 = 100;
const CLOSING_LOOK: Duration = Duration::from_millis(20);
/// The log, in the folder.
const LOG_FILE: &str = "db";
/// The parameters that the log was made with.
const PARAMETERS_FILE: &str = "conf";
/// The folder of records that nothing syncs.
const UNSYNCED_FOLDER: &str = "blobs";

const _: () = assert!(PAGE_ROWS_MAX * (PIECE_BYTES_MAX + KEY_BYTES_MAX) < SEGMENT_BYTES / 4);

/// A store in a folder of this machine.
pub struct SledEngine(Arc<Shared>);

struct Shared {
    tree: Db,
    log: File,
    unsynced: PathBuf,
    state: RwLock<State>,
}

#[derive(Default)]
struct State {
    failed: bool,
    moments: Vec<Weak<Before>>,
}

/// What entries were at a moment that have changed since.
#[derive(Default)]
struct Before(Mutex<BTreeMap<Key, Option<Value>>>);

impl SledEngine {
    /// Opens the store in `folder`, or makes a new one there.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        let tree = open_tree(folder)?;
        let log = open(&folder.join(LOG_FILE))?;
        // A new store's files have to be found again after a power cut.
        for path in [
            folder,
            &folder.join(PARAMETERS_FILE),
            &folder.join(LOG_FILE),
        ] {
            open(path)?
                .sync_all()
                .map_err(|error| StoreError::Engine(format!("{}: {error}", path.display())))?;
        }
        Ok(Self(Arc::new(Shared {
            tree,
            log,
            unsynced: folder.join(UNSYNCED_FOLDER),
            state: RwLock::default(),
        })))
    }
}

/// Opens sled's own store. One that this process has just closed is let go of a little later, when sled's threads have
/// ended: so a lock is waited for, and held against another process only then.
#[expect(
    clippy::disallowed_methods,
    reason = "sled tells nobody when its threads have ended"
)]
fn open_tree(folder: &Path) -> Result<::sled::Db, StoreError> {
    for _ in 0..CLOSING_LOOKS {
        let opened = ::sled::Config::new()
            .path(folder)
            .segment_size(SEGMENT_BYTES)
            .cache_capacity(CACHE_BYTES_MAX)
            .flush_every_ms(None)
            .open();
        match opened {
            Ok(tree) => return Ok(tree),
            Err(::sled::Error::Io(error))
                if error.to_string().contains("could not acquire lock") =>
            {
                std::thread::sleep(CLOSING_LOOK);
            }
            Err(error) => return Err(failed(error)),
        }
    }
    Err(StoreError::Locked)
}

impl Shared {
    fn reading(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn writing(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn apply(&self, parts: &[Part]) -> Result<Vec<PartOutcome>, StoreError> {
        let mut state = self.writing();
        if state.failed {
            return Err(StoreError::Stopped);
        }
        let result = self.write(&mut state, parts);
        state.failed = result.is_err();
        result
    }

    fn write(&self, state: &mut State, parts: &[Part]) -> Result<Vec<PartOutcome>, StoreError> {
        let stored = |key: &[u8]| self.get(key);
        let mut changes = Changes::new(&stored);
        let outcomes = parts
            .iter()
            .map(|part| changes.take_up(part))
            .collect::<Result<_, _>>()?;
        let changed = changes.into_inner();
        if changed.is_empty() {
            return Ok(outcomes);
        }
        self.keep_for_moments(state, &changed)?;
        let mut batch = Batch::default();
        for (key, value) in &changed {
            self.set(&mut batch, key, value.as_ref())?;
        }
        self.tree.apply_batch(batch).map_err(failed)?;
        self.tree.flush().map_err(failed)?;
        self.sync()?;
        Ok(outcomes)
    }

    /// Adds the rows of an entry to the batch, and takes out the pieces of its former value.
    fn set(&self, batch: &mut Batch, key: &Key, value: Option<&Value>) -> Result<(), StoreError> {
        if key.len() > KEY_BYTES_MAX {
            return Err(StoreError::Engine(format!(
                "a key has {} bytes, but sled is given at most {KEY_BYTES_MAX}",
                key.len()
            )));
        }
        let row = self.tree.get(entry_key(key)).map_err(failed)?;
        if row.is_some_and(|row| row.first() == Some(&IN_PIECES)) {
            for piece in self.tree.scan_prefix(piece_prefix(key)).keys() {
                batch.remove(piece.map_err(failed)?);
            }
        }
        match value {
            None => batch.remove(entry_key(key)),
            Some(value) if value.len() <= PIECE_BYTES_MAX => {
                batch.insert(entry_key(key), [&[WHOLE], value.as_ref()].concat());
            }
            Some(value) => {
                let bytes = u64::try_from(value.len()).unwrap_or(u64::MAX);
                batch.insert(
                    entry_key(key),
                    [&[IN_PIECES], &bytes.to_be_bytes()[..]].concat(),
                );
                for (number, piece) in (0_u32..).zip(value.chunks(PIECE_BYTES_MAX)) {
                    let key = [piece_prefix(key).as_slice(), &number.to_be_bytes()].concat();
                    batch.insert(key, piece);
                }
            }
        }
        Ok(())
    }

    /// What is about to change is still as it was for whoever holds a snapshot.
    fn keep_for_moments(
        &self,
        state: &mut State,
        changed: &HashMap<Key, Option<Value>>,
    ) -> Result<(), StoreError> {
        state.moments.retain(|moment| moment.strong_count() > 0);
        for moment in state.moments.iter().filter_map(Weak::upgrade) {
            let mut before = moment.lock();
            for key in changed.keys() {
                if !before.contains_key(key) {
                    before.insert(key.clone(), self.get(key)?);
                }
            }
        }
        Ok(())
    }

    /// Waits until the disk has the log.
    fn sync(&self) -> Result<(), StoreError> {
        let wrong = |error| StoreError::Engine(format!("{LOG_FILE}: {error}"));
        self.log.sync_data().map_err(wrong)?;
        let mut unsynced = fs::read_dir(&self.unsynced).map_err(wrong)?;
        if unsynced.next().is_some() {
            return Err(StoreError::Engine(format!(
                "sled has put a record into {}, where nothing is synced",
                self.unsynced.display()
            )));
        }
        Ok(())
    }

    fn get(&self, key: &[u8]) -> Result<Option<Value>, StoreError> {
        let row = self.tree.get(entry_key(key)).map_err(failed)?;
        row.map(|row| self.value(key, &row)).transpose()
    }

    /// The value that a row stands for.
    fn value(&self, key: &[u8], row: &[u8]) -> Result<Value, StoreError> {
        let corrupt = || StoreError::Corrupt { family: "sled" };
        match row.split_first().ok_or_else(corrupt)? {
            (&WHOLE, value) => Ok(Value::copy_from_slice(value)),
            (&IN_PIECES, bytes) => {
                let mut value = Vec::new();
                for piece in self.tree.scan_prefix(piece_prefix(key)).values() {
                    value.extend_from_slice(&piece.map_err(failed)?);
                }
                let bytes = u64::from_be_bytes(bytes.try_into().map_err(|_| corrupt())?);
                if u64::try_from(value.len()) != Ok(bytes) {
                    return Err(corrupt());
                }
                Ok(value.into())
            }
            _ => Err(corrupt()),
        }
    }

    /// The entries of a range in its order, as they are now.
    fn entries(
        &self,
        wanted: Range<'_>,
    ) -> Box<dyn Iterator<Item = Result<(Key, Value), StoreError>> + '_> {
        let rows = self
            .tree
            .range(entry_key(wanted.from)..entry_key(wanted.to));
        let entry = |row: ::sled::Result<(IVec, IVec)>| {
            let (key, row) = row.map_err(failed)?;
            let key = Key::copy_from_slice(key.get(1..).unwrap_or_default());
            let value = self.value(&key, &row)?;
            Ok((key, value))
        };
        match wanted.order {
            Order::Ascending => Box::new(rows.map(entry)),
            Order::Descending => Box::new(rows.rev().map(entry)),
        }
    }
}

impl Before {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Key, Option<Value>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Read for SledEngine {
    fn get<'a>(&'a self, key: &'a [u8]) -> Answer<'a, Option<Value>> {
        let _whole_batches = self.0.reading();
        at_once(self.0.get(key))
    }

    fn range<'a>(&'a self, wanted: Range<'a>) -> Answer<'a, Vec<(Key, Value)>> {
        if wanted.is_empty() {
            return at_once(Ok(Vec::new()));
        }
        let _whole_batches = self.0.reading();
        at_once(wanted.take_from(self.0.entries(wanted)))
    }
}

impl Engine for SledEngine {
    fn apply<'a>(&'a self, parts: &'a [Part]) -> Answer<'a, Vec<PartOutcome>> {
        at_once(self.0.apply(parts))
    }

    fn snapshot(&self) -> Answer<'_, Box<dyn Read>> {
        let before = Arc::new(Before::default());
        self.0.writing().moments.push(Arc::downgrade(&before));
        let shared = Arc::clone(&self.0);
        at_once(Ok(Box::new(Moment { shared, before })))
    }
}

/// One moment of all keys.
struct Moment {
    shared: Arc<Shared>,
    before: Arc<Before>,
}

impl Read for Moment {
    fn get<'a>(&'a self, key: &'a [u8]) -> Answer<'a, Option<Value>> {
        let _whole_batches = self.shared.reading();
        let changed = self.before.lock().get(key).cloned();
        at_once(changed.map_or_else(|| self.shared.get(key), Ok))
    }

    fn range<'a>(&'a self, wanted: Range<'a>) -> Answer<'a, Vec<(Key, Value)>> {
        if wanted.is_empty() {
            return at_once(Ok(Vec::new()));
        }
        let _whole_batches = self.shared.reading();
        let before = self.before.lock();
        let bounds = (Bound::Included(wanted.from), Bound::Excluded(wanted.to));
        let changed = before.range::<[u8], _>(bounds);
        let changed: Box<dyn Iterator<Item = (&Key, &Option<Value>)>> = match wanted.order {
            Order::Ascending => Box::new(changed),
            Order::Descending => Box::new(changed.rev()),
        };
        let entries = merged(self.shared.entries(wanted), changed, wanted.order);
        at_once(wanted.take_from(entries))
    }
}

/// Two sequences in one order as one: where both have a key, what was before the change counts.
fn merged<'a>(
    now: impl Iterator<Item = Result<(Key, Value), StoreError>> + 'a,
    before: impl Iterator<Item = (&'a Key, &'a Option<Value>)> + 'a,
    order: Order,
) -> impl Iterator<Item = Result<(Key, Value), StoreError>> + 'a {
    let (mut now, mut before) = (now.peekable(), before.peekable());
    from_fn(move || {
        loop {
            // Whichever comes first; an error at once.
            let (is_now, is_before) = match (now.peek(), before.peek()) {
                (None, None) => return None,
                (Some(Err(_)), _) | (Some(_), None) => (true, false),
                (None, Some(_)) => (false, true),
                (Some(Ok((one, _))), Some((other, _))) => {
                    let ordering = match order {
                        Order::Ascending => one.cmp(other),
                        Order::Descending => one.cmp(other).reverse(),
                    };
                    (ordering.is_le(), ordering.is_ge())
                }
            };
            let now = if is_now { now.next() } else { None };
            if !is_before {
                return now;
            }
            if let Some((key, Some(value))) = before.next() {
                return Some(Ok((key.clone(), value.clone())));
            }
        }
    })
}

fn entry_key(key: &[u8]) -> Vec<u8> {
    [&[ENTRY], key].concat()
}

/// What the keys of an entry's pieces begin with, and those of no other entry.
fn piece_prefix(key: &[u8]) -> Vec<u8> {
    let bytes = u32::try_from(key.len()).unwrap_or(u32::MAX);
    [&[PIECE], &bytes.to_be_bytes()[..], key].concat()
}

fn open(path: &Path) -> Result<File, StoreError> {
    File::open(path).map_err(|error| StoreError::Engine(format!("{}: {error}", path.display())))
}

fn failed(error: ::sled::Error) -> StoreError {
    StoreError::Engine(error.to_string())
}
