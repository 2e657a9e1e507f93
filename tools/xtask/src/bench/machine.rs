//! The machine that a measurement ran on: no figure means anything without it.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::time::Instant;

use serde_json::{Value, json};

use crate::failure::{self, Result};

/// Writes made durable to learn what the disk takes for one.
const SYNCS: usize = 200;
/// Bytes of each.
const SYNC_BYTES: usize = 4096;

/// Processor, memory, kernel and disk.
pub(super) fn describe(folder: &Path) -> Result<Value> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let processors = read("/proc/cpuinfo");
    let model = processors
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map_or("unknown", |rest| rest.trim_start_matches(['\t', ' ', ':']));
    let memory = read("/proc/meminfo");
    let memory_kib: u64 = memory
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))
        .and_then(|rest| rest.split_ascii_whitespace().next())
        .and_then(|kib| kib.parse().ok())
        .unwrap_or(0);
    Ok(json!({
        "cpu": model,
        "cores": std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
        "memory_mib": memory_kib / 1024,
        "kernel": read("/proc/sys/kernel/osrelease").trim(),
        "fdatasync_p50_us": fdatasync_us(folder)?,
    }))
}

/// Median microseconds of appending 4 KiB and making it durable, on the disk of the run.
fn fdatasync_us(folder: &Path) -> Result<u64> {
    let path = folder.join("fdatasync");
    let mut file = File::create(&path).map_err(failure::at(&path))?;
    let mut took = Vec::with_capacity(SYNCS);
    for _ in 0..SYNCS {
        let started = Instant::now();
        file.write_all(&[0x5a; SYNC_BYTES])
            .and_then(|()| file.sync_data())
            .map_err(failure::at(&path))?;
        took.push(started.elapsed());
    }
    fs::remove_file(&path).map_err(failure::at(&path))?;
    took.sort_unstable();
    let median = took.get(SYNCS / 2).copied().unwrap_or_default();
    Ok(u64::try_from(median.as_micros()).unwrap_or(u64::MAX))
}
