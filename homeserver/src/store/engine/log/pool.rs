//! The segments of a log that are not written to now: full, ready, free.
//!
//! A segment's way: made ready (its header is durable before the log may go on in it), written to by the
//! writer, full, freed once the index holds all of it, and made ready again under a new number. Numbers
//! only grow: the highest is where the log ends, or is not begun.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::record::LogId;
use super::segment::{Segment, Slot, bytes_for};
use crate::store::StoreError;

/// The segments of one log, but for the one that is written to.
pub(super) struct Pool {
    folder: PathBuf,
    log: LogId,
    segment_bytes: usize,
    segments: Mutex<Segments>,
}

struct Segments {
    /// The number of the next segment, and of the next file.
    next_number: u64,
    next_file: u64,
    /// With lower numbers first.
    full: VecDeque<Segment>,
    ready: VecDeque<Segment>,
    free: VecDeque<Slot>,
}

impl Pool {
    /// The pool of the log in `folder`: nothing is full or ready, the files of `free` may be used.
    pub(super) fn new(
        folder: &Path,
        log: LogId,
        segment_bytes: usize,
        next_number: u64,
        next_file: u64,
        free: Vec<Slot>,
    ) -> Self {
        Self {
            folder: folder.to_path_buf(),
            log,
            segment_bytes,
            segments: Mutex::new(Segments {
                next_number,
                next_file,
                full: VecDeque::new(),
                ready: VecDeque::new(),
                free: free.into(),
            }),
        }
    }

    /// The log's own number.
    pub(super) fn log(&self) -> LogId {
        self.log
    }

    /// A segment in which a record of so many bytes fits; made now when none is ready.
    pub(super) fn take(&self, bytes: usize) -> Result<Segment, StoreError> {
        let mut segments = self.lock();
        while let Some(segment) = segments.ready.pop_front() {
            if segment.holds(bytes) {
                return Ok(segment);
            }
            // Too short for this one, and numbers grow: it begins anew under a higher one.
            segments.free.push_back(segment.into_slot());
        }
        self.begin(&mut segments, bytes_for(bytes, self.segment_bytes))
    }

    /// Makes segments ready until there are `wanted`.
    pub(super) fn prepare(&self, wanted: usize) -> Result<(), StoreError> {
        let mut segments = self.lock();
        while segments.ready.len() < wanted {
            let segment = self.begin(&mut segments, self.segment_bytes)?;
            segments.ready.push_back(segment);
        }
        Ok(())
    }

    /// Takes a segment back that the log has gone on from.
    pub(super) fn put_full(&self, segment: Segment) {
        self.lock().full.push_back(segment);
    }

    /// Frees the full segments below `number`: the index holds what is in them.
    pub(super) fn free_below(&self, number: u64) {
        let mut segments = self.lock();
        while segments
            .full
            .front()
            .is_some_and(|segment| segment.number() < number)
        {
            if let Some(segment) = segments.full.pop_front() {
                segments.free.push_back(segment.into_slot());
            }
        }
    }

    /// Overwrites with zeros what free segments still hold, and those that are ready and have not been
    /// written to since. Called every minute; together with ending a segment after some minutes it
    /// makes the log's copy of whatever was deleted unreadable within 15 minutes. Under load segments
    /// are overwritten sooner, by what is written next.
    pub(super) fn overwrite_free(&self) -> Result<(), StoreError> {
        let mut dirty = {
            let mut segments = self.lock();
            if segments.ready.iter().any(|segment| !segment.is_clean()) {
                // Numbers grow: all of them begin anew under higher ones.
                let ready = std::mem::take(&mut segments.ready);
                segments
                    .free
                    .extend(ready.into_iter().map(Segment::into_slot));
            }
            let (dirty, clean): (VecDeque<_>, VecDeque<_>) = std::mem::take(&mut segments.free)
                .into_iter()
                .partition(|slot| slot.is_dirty() || slot.bytes() != self.segment_bytes);
            segments.free = clean;
            dirty
        };
        // Not under the lock: the writer may need a segment meanwhile.
        while let Some(mut slot) = dirty.pop_front() {
            let cleaned = slot.clean(self.segment_bytes);
            self.lock().free.push_back(slot);
            if cleaned.is_err() {
                self.lock().free.append(&mut dirty);
                return cleaned;
            }
        }
        Ok(())
    }

    /// Makes a file of at least `bytes` the next segment.
    fn begin(&self, segments: &mut Segments, bytes: usize) -> Result<Segment, StoreError> {
        // A clean one if there is any: what nothing is written over for long shall be wiped first.
        let fitting = |slot: &Slot| slot.bytes() >= bytes;
        let place = segments
            .free
            .iter()
            .position(|slot| fitting(slot) && !slot.is_dirty())
            .or_else(|| segments.free.iter().position(fitting));
        let slot = match place.and_then(|place| segments.free.remove(place)) {
            Some(slot) => slot,
            None => {
                let file = segments.next_file;
                segments.next_file = file.saturating_add(1);
                Slot::make(&self.folder, file, bytes)?
            }
        };
        let number = segments.next_number;
        segments.next_number = number.saturating_add(1);
        Segment::begin(slot, self.log, number)
    }

    fn lock(&self) -> MutexGuard<'_, Segments> {
        self.segments.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
