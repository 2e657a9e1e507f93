//! The files of the commit log: made once, filled with zeros, used again and again.
//!
//! A file that a record goes to has its length and its blocks already, so that a sync writes data and
//! no metadata. No file is ever removed or shortened while the log is in use, but for one that a very
//! large batch had made longer.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::record::{ALIGNMENT, END_BYTES, HEADER_BYTES, Header, LogId, RECORDS_AT, end, seal};
use crate::store::StoreError;

/// What the names of segments end with.
const ENDING: &str = "segment";
/// Written and synced at once when a file is filled with zeros, so that the disk is never busy with it
/// for long.
const FILL_BYTES: usize = 1024 * 1024;

/// A file for segments.
pub(super) struct Slot {
    file: File,
    path: PathBuf,
    bytes: usize,
    /// Whether anything but zeros may be in it.
    dirty: bool,
}

impl Slot {
    /// Makes the `number`th file of `folder`, of `bytes` zeros.
    pub(super) fn make(folder: &Path, number: u64, bytes: usize) -> Result<Self, StoreError> {
        let path = folder.join(format!("{number:08}.{ENDING}"));
        let file = make_file(&path).map_err(|error| failed(&path, &error))?;
        fill(&file, 0, bytes)
            .and_then(|()| file.sync_all())
            .and_then(|()| File::open(folder)?.sync_all())
            .map_err(|error| {
                // Half of a file is of no use to anybody.
                let _ = std::fs::remove_file(&path);
                failed(&path, &error)
            })?;
        Ok(Self {
            file,
            path,
            bytes,
            dirty: false,
        })
    }

    /// Opens every file of `folder`, each with its number.
    pub(super) fn open_all(folder: &Path) -> Result<Vec<(u64, Self)>, StoreError> {
        let mut slots = Vec::new();
        let entries = std::fs::read_dir(folder).map_err(|error| failed(folder, &error))?;
        for entry in entries {
            let path = entry.map_err(|error| failed(folder, &error))?.path();
            let Some(number) = number_of(&path) else {
                continue;
            };
            slots.push((number, Self::open(path)?));
        }
        slots.sort_by_key(|(number, _)| *number);
        Ok(slots)
    }

    fn open(path: PathBuf) -> Result<Self, StoreError> {
        let opened = OpenOptions::new().read(true).write(true).open(&path);
        let file = opened.map_err(|error| failed(&path, &error))?;
        let about = file.metadata().map_err(|error| failed(&path, &error))?;
        Ok(Self {
            bytes: usize::try_from(about.len()).unwrap_or(usize::MAX),
            dirty: true,
            file,
            path,
        })
    }

    /// What is in the file.
    pub(super) fn read(&self) -> Result<Vec<u8>, StoreError> {
        let mut bytes = vec![0; self.bytes];
        let read = self.file.read_exact_at(&mut bytes, 0);
        read.map_err(|error| failed(&self.path, &error))?;
        Ok(bytes)
    }

    /// The header in the file, if there is one.
    pub(super) fn header(&self) -> Result<Option<Header>, StoreError> {
        let mut bytes = [0; HEADER_BYTES];
        if self.bytes < HEADER_BYTES {
            return Ok(None);
        }
        let read = self.file.read_exact_at(&mut bytes, 0);
        read.map_err(|error| failed(&self.path, &error))?;
        Header::read(&bytes)
    }

    /// Fills the file with zeros where it has anything, and makes it `bytes` long.
    pub(super) fn clean(&mut self, bytes: usize) -> Result<(), StoreError> {
        let from = if self.dirty { 0 } else { self.bytes };
        if !self.dirty && self.bytes == bytes {
            return Ok(());
        }
        // What is cut off is overwritten first.
        fill(&self.file, from, bytes.max(self.bytes))
            .and_then(|()| self.file.set_len(u64::try_from(bytes).unwrap_or(u64::MAX)))
            .and_then(|()| self.file.sync_all())
            .map_err(|error| failed(&self.path, &error))?;
        self.bytes = bytes;
        self.dirty = false;
        Ok(())
    }

    /// The file's length.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether anything but zeros may be in it.
    pub(super) fn is_dirty(&self) -> bool {
        self.dirty
    }

    /// Where the file lies, for messages.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    fn write(&mut self, at: usize, bytes: &[u8]) -> Result<(), StoreError> {
        self.dirty = true;
        let at = u64::try_from(at).unwrap_or(u64::MAX);
        let written = self.file.write_all_at(bytes, at);
        written
            .and_then(|()| self.file.sync_data())
            .map_err(|error| failed(&self.path, &error))
    }
}

/// A file in use: records follow each other in it.
pub(super) struct Segment {
    slot: Slot,
    number: u64,
    seed: u32,
    /// Where the next record goes.
    at: usize,
    /// Whether something of a former life may lie behind the records.
    stale: bool,
}

impl Segment {
    /// Makes `slot` the segment `number`: its header is durable when this returns.
    pub(super) fn begin(mut slot: Slot, log: LogId, number: u64) -> Result<Self, StoreError> {
        let header = Header {
            log,
            segment: number,
            bytes: u64::try_from(slot.bytes).unwrap_or(u64::MAX),
        };
        let stale = slot.dirty;
        slot.write(0, &header.encode())?;
        Ok(Self {
            slot,
            number,
            seed: header.seed(),
            at: RECORDS_AT,
            stale,
        })
    }

    /// Goes on where the records of a segment end. What was written last was read, but may never have
    /// reached the disk: it is written once more before anybody relies on it.
    pub(super) fn go_on(
        mut slot: Slot,
        header: &Header,
        (last_from, last): (usize, &[u8]),
        at: usize,
    ) -> Result<Self, StoreError> {
        let bytes = usize::try_from(header.bytes).unwrap_or(usize::MAX);
        if slot.bytes < bytes {
            let filled = fill(&slot.file, slot.bytes, bytes).and_then(|()| slot.file.sync_all());
            filled.map_err(|error| failed(&slot.path, &error))?;
            slot.bytes = bytes;
        }
        slot.write(0, &header.encode())?;
        if !last.is_empty() {
            slot.write(last_from, last)?;
        }
        Ok(Self {
            slot,
            number: header.segment,
            seed: header.seed(),
            at,
            stale: true,
        })
    }

    /// The segment's number.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Whether a record of so many bytes fits, and the end behind it.
    pub(super) fn holds(&self, bytes: usize) -> bool {
        bytes
            .checked_add(self.at)
            .and_then(|end| end.checked_add(END_BYTES))
            .is_some_and(|end| end <= self.slot.bytes)
    }

    /// Whether the next segment is needed soon.
    pub(super) fn is_half_full(&self) -> bool {
        self.at >= self.slot.bytes / 2
    }

    /// Whether there is nothing in it, of this life or a former one.
    pub(super) fn is_clean(&self) -> bool {
        self.at == RECORDS_AT && !self.stale
    }

    /// Writes a record behind the others; it is durable when this returns.
    pub(super) fn append(&mut self, record: &mut [u8]) -> Result<(), StoreError> {
        seal(record, self.seed);
        self.slot.write(self.at, record)?;
        self.at = (self.at + record.len()).next_multiple_of(ALIGNMENT);
        Ok(())
    }

    /// Says durably that the log goes on in the segment `next`, with the batch `sequence`. With `wipe`
    /// the rest of the file, which no record will reach, keeps nothing of a former life.
    pub(super) fn end(&mut self, sequence: u64, next: u64, wipe: bool) -> Result<(), StoreError> {
        let mut record = end(sequence, next)?;
        if wipe && self.stale {
            let rest = self.slot.bytes.saturating_sub(self.at);
            record.resize(record.len().max(rest), 0);
        }
        self.append(&mut record)
    }

    /// Gives the file back.
    pub(super) fn into_slot(self) -> Slot {
        self.slot
    }
}

/// How long a file is in which a record of so many bytes fits, `usual` if that will do.
pub(super) fn bytes_for(record: usize, usual: usize) -> usize {
    let needed = RECORDS_AT.saturating_add(record).saturating_add(END_BYTES);
    match needed <= usual {
        true => usual,
        false => needed.next_multiple_of(RECORDS_AT),
    }
}

fn number_of(path: &Path) -> Option<u64> {
    if path.extension()? != ENDING {
        return None;
    }
    path.file_stem()?.to_str()?.parse().ok()
}

fn make_file(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .open(path)
}

fn fill(file: &File, mut from: usize, to: usize) -> io::Result<()> {
    let zeros = vec![0; FILL_BYTES.min(to.saturating_sub(from))];
    while from < to {
        let some = zeros.get(..to - from).unwrap_or(&zeros);
        file.write_all_at(some, u64::try_from(from).unwrap_or(u64::MAX))?;
        file.sync_data()?;
        from += some.len();
    }
    Ok(())
}

fn failed(path: &Path, error: &io::Error) -> StoreError {
    StoreError::Engine(format!("{}: {error}", path.display()))
}
