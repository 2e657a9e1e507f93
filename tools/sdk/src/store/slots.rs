//! The file of record salts: fixed slots, overwritten in place.
//!
//! The database copies on write, so what it deletes stays readable in its free pages. A record that
//! must become unreadable is therefore sealed under a key derived from a random salt that lies in
//! one slot of this file and nowhere else; zeroing the slot destroys the key, even for someone who
//! holds the store's master key and every byte of the database.
//!
//! Salts are prepared ahead, many with one sync, so that a commit seldom waits for this file.
//!
//! Invariants: a free slot is all zeros; a salt is on disk before the record that needs it; a
//! retired slot is not used again before its zeros are on disk. What a copying file system or a
//! flash controller keeps of overwritten blocks is out of this module's reach.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use ring::rand::{SecureRandom as _, SystemRandom};
use zeroize::Zeroizing;

/// Length of a salt.
pub(super) const SALT_BYTES: usize = 32;

/// How many salts are prepared at least with one sync.
const PREPARED_MIN: usize = 64;

/// A salt, wiped from memory after use.
pub(super) type Salt = Zeroizing<[u8; SALT_BYTES]>;

/// The file of record salts.
#[derive(Debug)]
pub(super) struct Slots {
    file: File,
    free: BTreeSet<u32>,
    /// On disk, and not yet named by any record.
    prepared: Vec<(u32, Salt)>,
    /// No longer named by any record, not yet zeroed.
    retired: Vec<u32>,
    length: u32,
}

impl Slots {
    /// Opens the file. Slots outside `in_use` are zeroed: salts that were prepared and not used, or
    /// retired and not zeroed.
    pub(super) fn open(file: File, in_use: &BTreeSet<u32>) -> io::Result<Self> {
        let bytes = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
        let whole = u32::try_from(bytes / SALT_BYTES).map_err(io::Error::other)?;
        let length = in_use
            .last()
            .map_or(whole, |last| whole.max(last.saturating_add(1)));
        let mut slots = Self {
            file,
            free: BTreeSet::new(),
            prepared: Vec::new(),
            retired: Vec::new(),
            length,
        };
        let mut zeroed_any = false;
        for slot in (0..length).filter(|slot| !in_use.contains(slot)) {
            if slots.read(slot)?.iter().any(|byte| *byte != 0) {
                slots.write(slot, &[0; SALT_BYTES])?;
                zeroed_any = true;
            }
            slots.free.insert(slot);
        }
        if zeroed_any {
            slots.file.sync_data()?;
        }
        Ok(slots)
    }

    /// Makes sure that `count` salts are on disk, and zeroes what is retired with the same sync.
    pub(super) fn prepare(&mut self, count: usize) -> io::Result<()> {
        if self.prepared.len() >= count {
            return Ok(());
        }
        let wiped = self.wipe_retired()?;
        let random = SystemRandom::new();
        let mut fresh = Vec::new();
        while self.prepared.len() + fresh.len() < count.max(PREPARED_MIN) {
            let mut salt: Salt = Zeroizing::default();
            random
                .fill(salt.as_mut())
                .map_err(|_| io::Error::other("no random bytes"))?;
            fresh.push((self.write_to_free(&salt)?, salt));
        }
        self.sync(wiped)?;
        self.prepared.append(&mut fresh);
        Ok(())
    }

    /// A prepared salt and its slot.
    pub(super) fn take(&mut self) -> io::Result<(u32, Salt)> {
        self.prepared
            .pop()
            .ok_or_else(|| io::Error::other("no salt is prepared"))
    }

    fn write_to_free(&mut self, salt: &Salt) -> io::Result<u32> {
        let slot = self.free.pop_first().unwrap_or(self.length);
        self.length = self.length.max(
            slot.checked_add(1)
                .ok_or_else(|| io::Error::other("the file of record salts is full"))?,
        );
        self.write(slot, salt)?;
        Ok(slot)
    }

    /// The salt in a slot; zeros when it is free or beyond the end.
    pub(super) fn read(&self, slot: u32) -> io::Result<Salt> {
        let mut salt = Zeroizing::new([0; SALT_BYTES]);
        match self.file.read_exact_at(salt.as_mut(), offset(slot)) {
            Ok(()) => Ok(salt),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Ok(Zeroizing::new([0; SALT_BYTES]))
            }
            Err(error) => Err(error),
        }
    }

    /// Notes slots that no record names any more.
    pub(super) fn retire(&mut self, slots: impl IntoIterator<Item = u32>) {
        self.retired.extend(slots);
    }

    /// Whether [`Self::wipe`] has something to do.
    pub(super) fn has_retired(&self) -> bool {
        !self.retired.is_empty()
    }

    /// Zeroes the retired slots; durable when it returns.
    pub(super) fn wipe(&mut self) -> io::Result<()> {
        if self.retired.is_empty() {
            return Ok(());
        }
        let wiped = self.wipe_retired()?;
        self.sync(wiped)
    }

    fn wipe_retired(&mut self) -> io::Result<Vec<u32>> {
        let retired = std::mem::take(&mut self.retired);
        for slot in &retired {
            self.write(*slot, &[0; SALT_BYTES])?;
        }
        Ok(retired)
    }

    /// Makes all writes durable; `wiped` slots are free from then on.
    fn sync(&mut self, wiped: Vec<u32>) -> io::Result<()> {
        self.file.sync_data()?;
        self.free.extend(wiped);
        Ok(())
    }

    fn write(&self, slot: u32, salt: &[u8; SALT_BYTES]) -> io::Result<()> {
        self.file.write_all_at(salt, offset(slot))
    }
}

fn offset(slot: u32) -> u64 {
    // 2^32 slots of 32 bytes: far below 2^64.
    u64::from(slot) * 32
}
