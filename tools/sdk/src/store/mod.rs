//! The device's local store: encrypted, durable, and able to forget.
//!
//! Changes gather in memory and become durable together in [`Store::commit`]: one batch, one
//! database transaction. MLS's group states, key packages, the outbox and the history share it, so
//! that a crash leaves either all of a batch or nothing of it.
//!
//! What is in the folder:
//! - `unlock`: the master key, sealed (`enrolling` until the device is enrolled);
//! - `records.redb`: sealed values under hidden names ([`seal`]);
//! - `salts`: the salts of the records that must become unreadable ([`slots`]).
//!
//! The order of a commit makes every crash harmless: new salts are durable before the records that
//! need them; replaced salts are zeroed only after the records that replace theirs are durable.
//! What a crash leaves unnamed is zeroed when the store is opened. A commit waits for one sync of
//! the database, and now and then for one of the salts.
//!
//! Deliberately absent: protection against someone who puts back an older copy of the folder; the
//! session notices that, because the homeserver knows a higher counter.

mod family;
mod new;
mod seal;
mod slots;
mod unlock;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use redb::backends::FileBackend;
use redb::{Database, ReadableDatabase as _, ReadableTable as _, TableDefinition};
use ring::rand::{SecureRandom as _, SystemRandom};
use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

pub(crate) use new::{NewStore, delete};
pub use unlock::StoreKey;

use crate::error::Error;
pub(crate) use family::Family;
use family::{KEY_BYTES, Key};
use seal::{SaltPlace, Sealer};
use slots::{Salt, Slots};

const RECORDS: TableDefinition<'static, &[u8], &[u8]> = TableDefinition::new("records");
/// The database's page cache; a device's working set is small.
const CACHE_BYTES: usize = 2 * 1024 * 1024;
const RECORD_VERSION: u8 = 1;

#[derive(Debug, Clone)]
struct Change {
    forgets: bool,
    /// The new value; `None` deletes.
    value: Option<Zeroizing<Vec<u8>>>,
}

#[derive(Debug, Default)]
struct Pending {
    changes: BTreeMap<Key, Change>,
    /// What [`Store::undo`] puts back: the changes as they were at the last [`Store::mark`].
    journal: Vec<(Key, Option<Change>)>,
}

/// Where a commit is made to fail, as a crash would; with how many commits pass that point before.
#[cfg(test)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CrashPoint {
    BeforeSalts,
    AfterSalts,
    AfterRecords,
}

/// An open store.
pub(crate) struct Store {
    database: Database,
    sealer: Sealer,
    random: SystemRandom,
    slots: Mutex<Slots>,
    pending: Mutex<Pending>,
    failed: AtomicBool,
    #[cfg(test)]
    pub(crate) crash_at: Mutex<Option<(CrashPoint, u32)>>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Store")
    }
}

impl Store {
    /// Whether the folder holds a store.
    pub(crate) fn exists(folder: &Path) -> bool {
        Paths::new(folder).unlock.exists()
    }

    /// Makes a store in a folder that holds none.
    #[cfg(test)]
    pub(crate) fn create(folder: &Path, key: &StoreKey) -> Result<Self, Error> {
        NewStore::create(folder, key)?.finish(|_| Ok(()))
    }

    /// Opens the store in a folder.
    pub(crate) fn open(folder: &Path, key: &StoreKey) -> Result<Self, Error> {
        if !Self::exists(folder) {
            return Err(Error::NotEnrolled(folder.to_owned()));
        }
        let paths = Paths::new(folder);
        let master = unlock::open(&paths.unlock, key)?;
        Self::open_with(folder, &paths, &Sealer::new(&master))
    }

    fn open_with(folder: &Path, paths: &Paths, sealer: &Sealer) -> Result<Self, Error> {
        let file = private_file(&paths.records).map_err(|e| file_error(&paths.records, &e))?;
        let database = FileBackend::new(file)
            .and_then(|file| {
                Database::builder()
                    .set_cache_size(CACHE_BYTES)
                    .create_with_backend(file)
            })
            .map_err(|error| match error {
                redb::DatabaseError::DatabaseAlreadyOpen => Error::InUse(folder.to_owned()),
                other => Error::Store(other.to_string()),
            })?;
        let writing = database.begin_write().map_err(store_error)?;
        writing.open_table(RECORDS).map_err(store_error)?;
        writing.commit().map_err(store_error)?;

        let mut in_use = BTreeSet::new();
        {
            let reading = database.begin_read().map_err(store_error)?;
            let table = reading.open_table(RECORDS).map_err(store_error)?;
            for entry in table.iter().map_err(store_error)? {
                let (_, value) = entry.map_err(store_error)?;
                in_use.extend(seal::slot(value.value())?);
            }
        }
        let salts = private_file(&paths.salts).map_err(|e| file_error(&paths.salts, &e))?;
        let slots = Slots::open(salts, &in_use).map_err(|e| file_error(&paths.salts, &e))?;
        Ok(Self {
            database,
            sealer: sealer.clone(),
            random: SystemRandom::new(),
            slots: Mutex::new(slots),
            pending: Mutex::new(Pending::default()),
            failed: AtomicBool::new(false),
            #[cfg(test)]
            crash_at: Mutex::new(None),
        })
    }

    /// A record's bytes, changes of this batch included.
    pub(crate) fn get_bytes(
        &self,
        family: Family,
        scope: &[u8],
        number: u64,
    ) -> Result<Option<Zeroizing<Vec<u8>>>, Error> {
        let key = self.sealer.key(family, scope, number);
        if let Some(change) = self.pending().changes.get(&key) {
            return Ok(change.value.clone());
        }
        let reading = self.database.begin_read().map_err(store_error)?;
        let table = reading.open_table(RECORDS).map_err(store_error)?;
        let sealed = table.get(key.0.as_slice()).map_err(store_error)?;
        sealed
            .map(|sealed| self.open_value(&key, sealed.value()))
            .transpose()
    }

    /// A record, changes of this batch included.
    pub(crate) fn get<T: DeserializeOwned>(
        &self,
        family: Family,
        scope: &[u8],
        number: u64,
    ) -> Result<Option<T>, Error> {
        self.get_bytes(family, scope, number)?
            .map(|bytes| decode(&bytes))
            .transpose()
    }

    /// The numbers of a scope's records, in order, changes of this batch included.
    pub(crate) fn numbers(&self, family: Family, scope: &[u8]) -> Result<Vec<u64>, Error> {
        let first = self.sealer.key(family, scope, 0);
        let last = self.sealer.key(family, scope, u64::MAX);
        let mut numbers = BTreeSet::new();
        let reading = self.database.begin_read().map_err(store_error)?;
        let table = reading.open_table(RECORDS).map_err(store_error)?;
        let range = table
            .range(first.0.as_slice()..=last.0.as_slice())
            .map_err(store_error)?;
        for entry in range {
            let (key, _) = entry.map_err(store_error)?;
            if let Ok(key) = <[u8; KEY_BYTES]>::try_from(key.value()) {
                numbers.insert(Key(key).number());
            }
        }
        for (key, change) in self.pending().changes.range(first..=last) {
            if change.value.is_some() {
                numbers.insert(key.number());
            } else {
                numbers.remove(&key.number());
            }
        }
        Ok(numbers.into_iter().collect())
    }

    /// A scope's records, in order, changes of this batch included.
    pub(crate) fn scan<T: DeserializeOwned>(
        &self,
        family: Family,
        scope: &[u8],
    ) -> Result<Vec<(u64, T)>, Error> {
        let mut records = Vec::new();
        for number in self.numbers(family, scope)? {
            if let Some(record) = self.get(family, scope, number)? {
                records.push((number, record));
            }
        }
        Ok(records)
    }

    /// Sets a record in this batch.
    pub(crate) fn put<T: Serialize>(
        &self,
        family: Family,
        scope: &[u8],
        number: u64,
        record: &T,
    ) -> Result<(), Error> {
        let bytes = postcard::to_extend(record, vec![RECORD_VERSION])
            .map_err(|e| Error::Store(e.to_string()))?;
        self.put_bytes(family, scope, number, Zeroizing::new(bytes));
        Ok(())
    }

    /// Sets a record's bytes in this batch.
    pub(crate) fn put_bytes(
        &self,
        family: Family,
        scope: &[u8],
        number: u64,
        bytes: Zeroizing<Vec<u8>>,
    ) {
        self.change(family, scope, number, Some(bytes));
    }

    /// Deletes a record in this batch.
    pub(crate) fn delete(&self, family: Family, scope: &[u8], number: u64) {
        self.change(family, scope, number, None);
    }

    fn change(&self, family: Family, scope: &[u8], number: u64, value: Option<Zeroizing<Vec<u8>>>) {
        let key = self.sealer.key(family, scope, number);
        let change = Change {
            forgets: family.forgets(),
            value,
        };
        let mut pending = self.pending();
        let before = pending.changes.insert(key, change);
        pending.journal.push((key, before));
    }

    /// Remembers the batch as it is, for [`Store::undo`].
    pub(crate) fn mark(&self) {
        self.pending().journal.clear();
    }

    /// Takes back what was changed since [`Store::mark`].
    pub(crate) fn undo(&self) {
        let mut pending = self.pending();
        while let Some((key, before)) = pending.journal.pop() {
            match before {
                Some(change) => pending.changes.insert(key, change),
                None => pending.changes.remove(&key),
            };
        }
    }

    /// Makes the batch durable, or forgets it whole.
    pub(crate) fn commit(&self) -> Result<(), Error> {
        let pending = std::mem::take(&mut *self.pending());
        if pending.changes.is_empty() {
            return Ok(());
        }
        if self.failed.load(Ordering::Acquire) {
            return Err(failed());
        }
        let mut slots = self.slots();
        let committed = self
            .commit_changes(&pending.changes, &mut slots)
            .and_then(|replaced| {
                slots.retire(replaced);
                // A deleted record is unreadable when this returns; a replaced one after
                // `forget_replaced`.
                let deleted = |change: &Change| change.forgets && change.value.is_none();
                if pending.changes.values().any(deleted) {
                    slots.wipe().map_err(salts_error)?;
                }
                Ok(())
            });
        // Whether a failed commit is durable is unknown: only opening the store again tells, so
        // until then nothing is written, above all no salt zeroed.
        if committed.is_err() {
            self.failed.store(true, Ordering::Release);
        }
        committed
    }

    /// Whether [`Self::forget_replaced`] has something to do.
    pub(crate) fn has_replaced(&self) -> bool {
        self.slots().has_retired()
    }

    /// Zeroes the salts of replaced records.
    pub(crate) fn forget_replaced(&self) -> Result<(), Error> {
        if self.failed.load(Ordering::Acquire) {
            return Err(failed());
        }
        self.slots().wipe().map_err(salts_error)
    }

    fn commit_changes(
        &self,
        changes: &BTreeMap<Key, Change>,
        slots: &mut Slots,
    ) -> Result<Vec<u32>, Error> {
        self.crash(
            #[cfg(test)]
            CrashPoint::BeforeSalts,
        )?;
        let forgetting = |change: &&Change| change.forgets && change.value.is_some();
        let salts = changes.values().filter(forgetting).count();
        slots.prepare(salts).map_err(salts_error)?;
        let mut sealed = Vec::with_capacity(changes.len());
        for (key, change) in changes {
            let value = change
                .value
                .as_ref()
                .map(|value| self.seal_value(key, value, change.forgets, slots))
                .transpose()?;
            sealed.push((key, change.forgets, value));
        }
        self.crash(
            #[cfg(test)]
            CrashPoint::AfterSalts,
        )?;
        let writing = self.database.begin_write().map_err(store_error)?;
        let mut replaced = Vec::new();
        {
            let mut table = writing.open_table(RECORDS).map_err(store_error)?;
            for (key, forgets, value) in &sealed {
                let before = match value {
                    Some(value) => table.insert(key.0.as_slice(), value.as_slice()),
                    None => table.remove(key.0.as_slice()),
                }
                .map_err(store_error)?;
                if let (true, Some(before)) = (*forgets, before) {
                    replaced.extend(seal::slot(before.value())?);
                }
            }
        }
        writing.commit().map_err(store_error)?;
        self.crash(
            #[cfg(test)]
            CrashPoint::AfterRecords,
        )?;
        Ok(replaced)
    }

    fn seal_value(
        &self,
        key: &Key,
        value: &[u8],
        forgets: bool,
        slots: &mut Slots,
    ) -> Result<Vec<u8>, Error> {
        let (place, salt) = if forgets {
            let (slot, salt) = slots.take().map_err(salts_error)?;
            (SaltPlace::Slot(slot), salt)
        } else {
            let mut salt: Salt = Zeroizing::default();
            self.random
                .fill(salt.as_mut())
                .map_err(|_| Error::Store("no random bytes".to_owned()))?;
            (SaltPlace::Inside, salt)
        };
        self.sealer.seal(key, &salt, &place, value)
    }

    fn open_value(&self, key: &Key, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
        self.sealer.open(key, sealed, |slot| {
            self.slots().read(slot).map_err(salts_error)
        })
    }

    /// A record as it lies on disk, and the salt that its key is made of.
    #[cfg(test)]
    pub(crate) fn sealed(
        &self,
        family: Family,
        scope: &[u8],
        number: u64,
    ) -> Option<(Vec<u8>, Vec<u8>)> {
        let key = self.sealer.key(family, scope, number);
        let reading = self.database.begin_read().unwrap();
        let table = reading.open_table(RECORDS).unwrap();
        let sealed = table.get(key.0.as_slice()).unwrap()?.value().to_vec();
        let slot = seal::slot(&sealed).unwrap().unwrap();
        let salt = self.slots().read(slot).unwrap().to_vec();
        Some((sealed, salt))
    }

    /// Whether a record's sealed bytes can be opened with a salt.
    #[cfg(test)]
    pub(crate) fn opens(
        &self,
        family: Family,
        scope: &[u8],
        number: u64,
        sealed: &[u8],
        salt: &[u8],
    ) -> bool {
        let key = self.sealer.key(family, scope, number);
        let salt: [u8; slots::SALT_BYTES] = salt.try_into().unwrap();
        let opened = self.sealer.open(&key, sealed, |_| Ok(Zeroizing::new(salt)));
        opened.is_ok()
    }

    #[cfg(test)]
    fn crash(&self, point: CrashPoint) -> Result<(), Error> {
        let mut planned = self.crash_at.lock().unwrap_or_else(PoisonError::into_inner);
        match planned.as_mut() {
            Some((at, 0)) if *at == point => Err(Error::Store("crash".to_owned())),
            Some((at, commits)) if *at == point => {
                *commits -= 1;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    #[cfg(not(test))]
    #[expect(
        clippy::unused_self,
        clippy::unnecessary_wraps,
        reason = "the same shape as the tests' one"
    )]
    const fn crash(&self) -> Result<(), Error> {
        Ok(())
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn slots(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // What fails here is done when the store is opened again.
        let _ = self.forget_replaced();
    }
}

struct Paths {
    /// What `unlock` is until the device is enrolled.
    enrolling: PathBuf,
    unlock: PathBuf,
    records: PathBuf,
    salts: PathBuf,
}

impl Paths {
    fn new(folder: &Path) -> Self {
        Self {
            enrolling: folder.join("enrolling"),
            unlock: folder.join("unlock"),
            records: folder.join("records.redb"),
            salts: folder.join("salts"),
        }
    }
}

/// Reads a record's bytes.
fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    let damaged = || Error::Store("a record is not of this version".to_owned());
    match bytes.split_first() {
        Some((&RECORD_VERSION, body)) => match postcard::take_from_bytes(body) {
            Ok((record, [])) => Ok(record),
            _ => Err(damaged()),
        },
        _ => Err(damaged()),
    }
}

/// What can be read as a record can be written and read again, and is the same.
#[cfg(any(test, feature = "fuzzing"))]
#[expect(
    clippy::expect_used,
    reason = "tests and fuzzing stop at the first surprise"
)]
pub(crate) fn survives_writing<T: Serialize + DeserializeOwned>(bytes: &[u8]) {
    let headed = [&[RECORD_VERSION], bytes].concat();
    let Ok(record) = decode::<T>(&headed) else {
        return;
    };
    let written = postcard::to_extend(&record, vec![RECORD_VERSION]).expect("it can be written");
    let read: T = decode(&written).expect("it can be read again");
    let again = postcard::to_extend(&read, vec![RECORD_VERSION]).expect("it can be written again");
    assert_eq!(written, again);
}

/// Reads bytes as a sealed record and as the file `unlock`; neither opens.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn open_any(bytes: &[u8]) {
    let sealer = Sealer::new(&Zeroizing::new([1; 32]));
    let key = sealer.key(Family::Room, b"a", 1);
    let opened = sealer.open(&key, bytes, |_| Ok(Zeroizing::default()));
    assert!(opened.is_err());
    let _ = seal::slot(bytes);
    assert!(unlock::open_bytes(bytes, &StoreKey::Key([1; 32])).is_err());
}

fn failed() -> Error {
    Error::Store("an earlier write failed; open the device again".to_owned())
}

/// Opens a file that only its owner may read, made when it is missing.
fn private_file(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
}

fn file_error(path: &Path, error: &io::Error) -> Error {
    Error::File {
        path: path.to_owned(),
        reason: error.to_string(),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "shaped for map_err")]
fn salts_error(error: io::Error) -> Error {
    Error::Store(format!("the file of salts: {error}"))
}

fn store_error(error: impl std::fmt::Display) -> Error {
    Error::Store(error.to_string())
}

#[cfg(test)]
mod tests;
