//! The commit log as a whole: damaged at every byte, and under an engine that drains, ends and reopens.

mod damage;
mod engine;

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::*;

/// Bounds so small that all happens within a few batches.
fn few() -> Limits {
    Limits {
        segment_bytes: record::RECORDS_AT + 256,
        layer_bytes_max: 1024,
        young_bytes_max: 4096,
        backlog_bytes_max: 16 * 1024,
        drain_bytes_max: 1,
        ready_segments: 1,
        ..Limits::default()
    }
}

/// An engine that the suite of all engines runs on: it drains all the time, beside the suite.
pub(in super::super) fn small(folder: &Path) -> Result<LoggedEngine, StoreError> {
    LoggedEngine::open_within(
        folder,
        Limits {
            layer_time_max: Duration::ZERO,
            young_time: Duration::ZERO,
            young_bytes_max: 0,
            tidy_every: Duration::ZERO,
            ..few()
        },
    )
}

fn key(text: &str) -> Key {
    Key::copy_from_slice(text.as_bytes())
}

/// The files of a folder, with what is in them.
fn files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => files.extend(self::files(&path)),
            false => files.push((path.clone(), std::fs::read(&path).unwrap())),
        }
    }
    files.sort();
    files
}

/// A copy of a folder as it is now: what a process that is killed at this moment leaves.
fn killed_here(folder: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for (path, bytes) in files(folder) {
        let to = copy.path().join(path.strip_prefix(folder).unwrap());
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::write(&to, without_zeros(&bytes)).unwrap();
        let file = std::fs::OpenOptions::new().write(true).open(&to).unwrap();
        file.set_len(u64::try_from(bytes.len()).unwrap()).unwrap();
    }
    // An empty folder may matter to the database.
    for folder_in in folders(folder) {
        std::fs::create_dir_all(copy.path().join(folder_in.strip_prefix(folder).unwrap())).unwrap();
    }
    copy
}

fn folders(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap();
    let inner = entries.map(|entry| entry.unwrap().path());
    inner
        .filter(|path| path.is_dir())
        .flat_map(|path| [folders(&path), vec![path]].concat())
        .collect()
}

/// What is before the zeros at the end, of which a preallocated file has many.
fn without_zeros(bytes: &[u8]) -> &[u8] {
    const PAGE: usize = 4096;
    let zeros = bytes.rchunks(PAGE).take_while(|page| **page == [0; PAGE]);
    &bytes[..bytes.len() - zeros.count() * PAGE]
}
