//! A store in the making: it is the device's only once the device is enrolled.
//!
//! Its key file is named `enrolling` until then, so an enrolment that a crash interrupts at any
//! point leaves a folder in which no device is enrolled: the next enrolment starts afresh there.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use super::{Paths, Sealer, Store, StoreKey, file_error, unlock};
use crate::error::Error;

/// A store without a device. Dropping it takes away everything that was made.
pub(crate) struct NewStore {
    store: Option<Store>,
    folder: PathBuf,
    made_folder: bool,
    _lock: File,
}

impl NewStore {
    /// Makes everything that the device will write to, so that what can't be written fails now.
    pub(crate) fn create(folder: &Path, key: &StoreKey) -> Result<Self, Error> {
        if Store::exists(folder) {
            return Err(Error::AlreadyEnrolled(folder.to_owned()));
        }
        let made_folder = !folder.exists();
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(|e| file_error(folder, &e))?;
        let paths = Paths::new(folder);
        let lock = lock(folder)?;
        let mut new = Self {
            store: None,
            folder: folder.to_owned(),
            made_folder,
            _lock: lock,
        };
        // Leftovers of an interrupted enrolment: nobody waits for what is in them.
        remove(&[&paths.enrolling, &paths.records, &paths.salts])?;
        let master = unlock::create(&paths.enrolling, key)?;
        new.store = Some(Store::open_with(folder, &paths, &Sealer::new(&master))?);
        Ok(new)
    }

    /// Makes it the device's store, with what `fill` puts into it.
    pub(crate) fn finish(
        mut self,
        fill: impl FnOnce(&Store) -> Result<(), Error>,
    ) -> Result<Store, Error> {
        let paths = Paths::new(&self.folder);
        let store = self
            .store
            .as_ref()
            .ok_or_else(|| Error::Store("the store was not made".to_owned()))?;
        fill(store)?;
        store.commit()?;
        fs::rename(&paths.enrolling, &paths.unlock)
            .and_then(|()| File::open(&self.folder)?.sync_all())
            .map_err(|e| file_error(&paths.unlock, &e))?;
        self.store
            .take()
            .ok_or_else(|| Error::Store("the store was not made".to_owned()))
    }
}

impl Drop for NewStore {
    fn drop(&mut self) {
        let paths = Paths::new(&self.folder);
        if Store::exists(&self.folder) {
            return;
        }
        drop(self.store.take());
        // What can't be removed is in nobody's way: the next enrolment starts afresh.
        let _ = remove(&[&paths.enrolling, &paths.records, &paths.salts]);
        if self.made_folder {
            let _ = fs::remove_dir(&self.folder);
        }
    }
}

/// Deletes the store in a folder: first what opens it, so that a crash in between leaves nothing that could be read.
pub(crate) fn delete(folder: &Path) -> Result<(), Error> {
    let _lock = lock(folder)?;
    let paths = Paths::new(folder);
    remove(&[&paths.unlock])?;
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(|e| file_error(folder, &e))?;
    remove(&[&paths.enrolling, &paths.records, &paths.salts])?;
    // What else is in the folder is not ours.
    let _ = fs::remove_dir(folder);
    Ok(())
}

/// Locks the folder: another process may be enrolling into it at this moment.
fn lock(folder: &Path) -> Result<File, Error> {
    let file = File::open(folder).map_err(|e| file_error(folder, &e))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::InUse(folder.to_owned())),
        Err(TryLockError::Error(error)) => Err(file_error(folder, &error)),
    }
}

fn remove(files: &[&PathBuf]) -> Result<(), Error> {
    for path in files {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(file_error(path, &error));
            }
            _ => {}
        }
    }
    Ok(())
}
