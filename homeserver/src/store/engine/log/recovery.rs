//! Opening a log: what of it is whole, and whether anything is missing.
//!
//! The index notes the segment in which the last batch lies that it holds. From there the log is read,
//! record by record; the record that ends a segment names the next one, which was there before. So a
//! segment that is needed and not there is noticed, whatever happened to it; a file that nobody names
//! and that has no header of this log is free.
//!
//! - The log ends with the last whole record of the last segment. What follows is either torn, of a
//!   batch that nobody was answered, or what a file holds of its former life.
//! - One batch is under way at a time: a record of a later batch behind one that is not whole means
//!   that the disk has lost or changed what was durable. Such a log is refused.
//! - A changed last record looks torn. The note of the last batch (`super::super::note`) tells of that,
//!   unless the power was cut since.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::Path;

use bytes::Bytes;

use super::pool::Pool;
use super::record::{ALIGNMENT, Body, Change, Frame, Head, Header, LogId, RECORDS_AT};
use super::segment::{Segment, Slot};
use crate::store::StoreError;

/// What is looked at together for heads.
const PAGE_BYTES: usize = 4096;
static ZEROS: [u8; PAGE_BYTES] = [0; PAGE_BYTES];

/// Where a log goes on behind what the index holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) log: LogId,
    /// The segment that holds the last batch of the index, or a later one that begins behind it.
    pub(super) segment: u64,
}

impl Place {
    /// As the index notes it.
    pub(super) fn encode(self) -> [u8; 24] {
        let mut bytes = [0; 24];
        let fields = self.log.into_iter().chain(self.segment.to_be_bytes());
        for (place, byte) in bytes.iter_mut().zip(fields) {
            *place = byte;
        }
        bytes
    }

    /// As it was noted.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, StoreError> {
        let read = || {
            let (log, segment) = bytes.split_first_chunk::<16>()?;
            let segment = u64::from_be_bytes(segment.try_into().ok()?);
            Some(Self { log: *log, segment })
        };
        read().ok_or(StoreError::Corrupt {
            family: "place in the commit log",
        })
    }
}

/// A batch that the index does not hold.
pub(super) struct Replayed {
    pub(super) sequence: u64,
    pub(super) segment: u64,
    /// The length of its record's body.
    pub(super) bytes: usize,
    pub(super) changes: Vec<Change>,
}

/// A log that may be written to.
pub(super) struct Recovered {
    pub(super) pool: Pool,
    pub(super) current: Segment,
    /// The number of the last batch.
    pub(super) sequence: u64,
}

/// Makes a new log in `folder`, for batches behind `drained`.
pub(super) fn make(
    folder: &Path,
    log: LogId,
    segment_bytes: usize,
    drained: u64,
) -> Result<Recovered, StoreError> {
    make_folder(folder)
        .map_err(|error| StoreError::Engine(format!("{}: {error}", folder.display())))?;
    let slots = Slot::open_all(folder)?;
    for (_, slot) in &slots {
        // What a former log has left is all in the index, or something is very wrong.
        if let Some(header) = slot.header()?
            && let Some(found) = later_head(
                &slot.read()?,
                RECORDS_AT,
                header.seed(),
                drained.saturating_add(1),
            )
        {
            return Err(StoreError::Log(format!(
                "{} holds batch {found}, but the store ends at {drained} and knows of no commit log: \
                 the folder is put together from different times",
                slot.path().display()
            )));
        }
    }
    let next_file = slots.last().map_or(1, |(file, _)| file.saturating_add(1));
    let free = slots.into_iter().map(|(_, slot)| slot).collect();
    let pool = Pool::new(folder, log, segment_bytes, 1, next_file, free);
    let current = pool.take(0)?;
    Ok(Recovered {
        pool,
        current,
        sequence: drained,
    })
}

/// Makes `folder` durably.
fn make_folder(folder: &Path) -> io::Result<()> {
    std::fs::create_dir_all(folder)?;
    match folder.parent() {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

/// Opens the log in `folder` and hands every batch behind `drained` to `replay`.
pub(super) fn recover(
    folder: &Path,
    segment_bytes: usize,
    place: Place,
    drained: u64,
    replay: &mut dyn FnMut(Replayed),
) -> Result<Recovered, StoreError> {
    let slots = match folder.is_dir() {
        true => Slot::open_all(folder)?,
        false => Vec::new(),
    };
    let next_file = slots.last().map_or(1, |(file, _)| file.saturating_add(1));
    let (mut known, mut free) = sort(slots, place.log)?;
    let highest = known.last_key_value().map_or(0, |(number, _)| *number);
    let next_number = highest.max(place.segment).saturating_add(1);

    let mut walk = Walk {
        drained,
        expected: None,
        replay,
    };
    let mut full = Vec::new();
    let mut number = place.segment;
    let current = loop {
        let (header, slot) = known.remove(&number).ok_or_else(|| missing(number))?;
        let bytes = Bytes::from(slot.read()?);
        let walked = walk.through(&bytes, &header, &slot)?;
        // What aligns the next record may be cut off with the file.
        let last_to = walked.at.min(bytes.len());
        let last = bytes.get(walked.last_from..last_to).unwrap_or_default();
        match walked.next {
            Some(next) => {
                full.push(Segment::go_on(
                    slot,
                    &header,
                    (walked.last_from, last),
                    walked.at,
                )?);
                number = next;
            }
            None => {
                let expected = walk.expected.unwrap_or_default();
                refuse_hole(&bytes, walked.at + ALIGNMENT, &header, expected, &slot)?;
                for (later, slot) in known.range(number..).map(|(_, known)| known) {
                    let bytes = slot.read()?;
                    refuse_hole(&bytes, RECORDS_AT, later, expected, slot)?;
                }
                break Segment::go_on(slot, &header, (walked.last_from, last), walked.at)?;
            }
        }
    };
    let sequence = walk
        .expected
        .map_or(drained, |expected| expected.saturating_sub(1));
    if sequence < drained {
        return Err(StoreError::Behind {
            found: sequence,
            noted: drained,
        });
    }
    free.extend(known.into_values().map(|(_, slot)| slot));
    let pool = Pool::new(
        folder,
        place.log,
        segment_bytes,
        next_number,
        next_file,
        free,
    );
    for segment in full {
        pool.put_full(segment);
    }
    Ok(Recovered {
        pool,
        current,
        sequence,
    })
}

/// The segments of this log by number, and the files that are free.
#[expect(clippy::type_complexity, reason = "taken apart at once")]
fn sort(
    slots: Vec<(u64, Slot)>,
    log: LogId,
) -> Result<(BTreeMap<u64, (Header, Slot)>, Vec<Slot>), StoreError> {
    let (mut known, mut free) = (BTreeMap::new(), Vec::new());
    for (_, slot) in slots {
        match slot.header()? {
            Some(header) if header.log == log => {
                let path = slot.path().display().to_string();
                if known.insert(header.segment, (header, slot)).is_some() {
                    return Err(StoreError::Log(format!(
                        "{path} and another file are both segment {}: one of them is a copy",
                        header.segment
                    )));
                }
            }
            _ => free.push(slot),
        }
    }
    Ok((known, free))
}

/// A way through the records of a log.
struct Walk<'a> {
    drained: u64,
    /// The next batch's number, once one was seen.
    expected: Option<u64>,
    replay: &'a mut dyn FnMut(Replayed),
}

/// How far the records of a segment go.
struct Walked {
    /// Where the last record begins, and where it ends.
    last_from: usize,
    at: usize,
    /// The segment in which the log goes on.
    next: Option<u64>,
}

impl Walk<'_> {
    fn through(
        &mut self,
        bytes: &Bytes,
        header: &Header,
        slot: &Slot,
    ) -> Result<Walked, StoreError> {
        let mut walked = Walked {
            last_from: RECORDS_AT,
            at: RECORDS_AT,
            next: None,
        };
        while let Some(frame) = Frame::read(bytes, walked.at, header.seed()) {
            self.in_turn(frame.sequence, slot, walked.at)?;
            (walked.last_from, walked.at) = (walked.at, frame.end);
            let length = frame.body.len();
            match Body::decode(frame.body) {
                Some(Body::Batch(changes)) => {
                    self.expected = Some(frame.sequence.saturating_add(1));
                    if frame.sequence > self.drained {
                        (self.replay)(Replayed {
                            sequence: frame.sequence,
                            segment: header.segment,
                            bytes: length,
                            changes,
                        });
                    }
                }
                Some(Body::End(next)) if next > header.segment => {
                    self.expected = Some(frame.sequence);
                    walked.next = Some(next);
                    return Ok(walked);
                }
                _ => {
                    return Err(StoreError::Corrupt {
                        family: "commit log",
                    });
                }
            }
        }
        Ok(walked)
    }

    fn in_turn(&self, sequence: u64, slot: &Slot, at: usize) -> Result<(), StoreError> {
        let behind = self.drained.saturating_add(1);
        let in_turn = match self.expected {
            Some(expected) => sequence == expected,
            None => sequence <= behind,
        };
        match in_turn {
            true => Ok(()),
            false => Err(hole(slot, at, self.expected.unwrap_or(behind), sequence)),
        }
    }
}

/// Refuses a log that has a record of batch `expected` or a later one at `from` or behind.
fn refuse_hole(
    bytes: &[u8],
    from: usize,
    header: &Header,
    expected: u64,
    slot: &Slot,
) -> Result<(), StoreError> {
    match later_head(bytes, from, header.seed(), expected) {
        Some(found) => Err(hole(slot, from, expected, found)),
        None => Ok(()),
    }
}

/// The number of the first batch, from `least` on, of which a head lies at `from` or behind.
fn later_head(bytes: &[u8], from: usize, seed: u32, least: u64) -> Option<u64> {
    let mut at = from;
    while at < bytes.len() {
        let end = at.saturating_add(PAGE_BYTES).min(bytes.len());
        // Most of it is zeros, and no head begins with them.
        if bytes.get(at..end) != ZEROS.get(..end - at) {
            let mut heads = (at..end)
                .step_by(ALIGNMENT)
                .filter_map(|at| Head::read(bytes.get(at..)?, seed));
            if let Some(head) = heads.find(|head| head.sequence >= least) {
                return Some(head.sequence);
            }
        }
        at = end;
    }
    None
}

fn missing(segment: u64) -> StoreError {
    StoreError::Log(format!("its segment {segment} is missing or has no header"))
}

fn hole(slot: &Slot, at: usize, expected: u64, found: u64) -> StoreError {
    StoreError::Log(format!(
        "batch {expected} is missing, but batch {found} is there ({}, at byte {at} or behind)",
        slot.path().display()
    ))
}
