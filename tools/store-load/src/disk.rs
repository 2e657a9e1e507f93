//! What an fdatasync takes in this process.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

/// Syncs to learn it.
const SYNCS: usize = 32;
/// Bytes that each makes durable.
const SYNC_BYTES: usize = 4096;
/// A file that can't be synced, for it lies on no disk.
const NOWHERE: &str = "/dev/null";

/// Median microseconds of appending 4 KiB and making it durable.
pub(crate) fn fdatasync_us(folder: &Path) -> Result<u64, String> {
    let path = folder.join("fdatasync");
    let failed = |error: std::io::Error| format!("{}: {error}", path.display());
    let mut file = File::create(&path).map_err(failed)?;
    let mut took = Vec::with_capacity(SYNCS);
    for _ in 0..SYNCS {
        let started = Instant::now();
        file.write_all(&[0x5a; SYNC_BYTES])
            .and_then(|()| file.sync_data())
            .map_err(failed)?;
        took.push(started.elapsed());
    }
    fs::remove_file(&path).map_err(failed)?;
    Ok(median_us(took))
}

/// Median microseconds that are added to an fdatasync by what was loaded into this process: those of one that has nothing to do.
pub(crate) fn added_us() -> Result<u64, String> {
    let file = File::open(NOWHERE).map_err(|error| format!("{NOWHERE}: {error}"))?;
    let mut took = Vec::with_capacity(SYNCS);
    for _ in 0..SYNCS {
        let started = Instant::now();
        // Refused, at once.
        let _ = file.sync_data();
        took.push(started.elapsed());
    }
    Ok(median_us(took))
}

fn median_us(mut took: Vec<Duration>) -> u64 {
    took.sort_unstable();
    let median = took.get(took.len() / 2).copied().unwrap_or_default();
    u64::try_from(median.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: nothing is taken for a delay of the disk that is none. Method: ask in a process that nothing was loaded into; what
    /// is added to other syncs is milliseconds.
    #[test]
    fn nothing_is_added_here() {
        assert!(added_us().unwrap() < 500);
    }
}
