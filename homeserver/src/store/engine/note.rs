//! The number of the last batch in a file of its own: it tells when what the engine holds has lost its
//! end.
//!
//! The note is not synced: after a power cut it may lag behind, never run ahead.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::store::StoreError;

const FILE: &str = "last-batch";

/// The note, opened.
pub(super) struct Note(File);

impl Note {
    /// Opens the note in `folder`, or makes it: with the number that it holds.
    pub(super) fn open(folder: &Path) -> Result<(Self, u64), StoreError> {
        let path = folder.join(FILE);
        read(&path).map_err(|error| StoreError::Engine(format!("{}: {error}", path.display())))
    }

    /// Notes the number of a batch that is durable: twice, so that a torn note is told from a number.
    pub(super) fn write(&self, sequence: u64) -> Result<(), StoreError> {
        let number = sequence.to_be_bytes();
        self.0
            .write_all_at(&[number, number].concat(), 0)
            .map_err(|error| StoreError::Engine(format!("{FILE}: {error}")))
    }
}

fn read(path: &Path) -> io::Result<(Note, u64)> {
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)?;
    let mut text = Vec::new();
    file.read_to_end(&mut text)?;
    let noted = match text.split_at_checked(8) {
        // New, or made but not filled when the power went: it claims nothing.
        _ if text.iter().all(|byte| *byte == 0) => 0,
        Some((once, twice)) if once == twice => number(once),
        _ => {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "it is damaged; compare the folder with a backup before deleting this file",
            ));
        }
    };
    Ok((Note(file), noted))
}

fn number(bytes: &[u8]) -> u64 {
    bytes.try_into().map_or(0, u64::from_be_bytes)
}
