//! What a watched process costs: CPU and resident memory, read from `/proc`.
//!
//! CPU comes from `schedstat` (nanoseconds the scheduler gave each thread); the clock ticks of
//! `stat` are read beside it, because they include threads that have ended. The larger of the two
//! counts.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// Nanoseconds in one clock tick of `/proc/PID/stat`: `USER_HZ` is 100 on every Linux.
const TICK_NS: u64 = 10_000_000;

/// A process to watch, with the name that the report gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Watched {
    pub(crate) name: String,
    pub(crate) pid: u32,
}

impl std::str::FromStr for Watched {
    type Err = String;

    /// `NAME=PID`.
    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text.split_once('=').and_then(|(name, pid)| {
            let pid = pid.parse().ok()?;
            (!name.is_empty()).then(|| Self {
                name: name.to_owned(),
                pid,
            })
        });
        parsed.ok_or_else(|| format!("`{text}` is not NAME=PID, such as a=1234"))
    }
}

/// A process's use so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Use {
    thread_ns: BTreeMap<u32, u64>,
    ticks: u64,
    /// Resident memory, KiB.
    pub(crate) resident_kib: u64,
}

impl Use {
    /// CPU nanoseconds between `earlier` and this.
    pub(crate) fn cpu_ns_since(&self, earlier: &Self) -> u64 {
        let scheduled = self
            .thread_ns
            .iter()
            .map(|(thread, ns)| {
                ns.saturating_sub(earlier.thread_ns.get(thread).copied().unwrap_or(0))
            })
            .sum::<u64>();
        let ticked = self.ticks.saturating_sub(earlier.ticks) * TICK_NS;
        // Ticks are coarse: within two of them the finer figure is the better one.
        if ticked > scheduled + 2 * TICK_NS {
            ticked
        } else {
            scheduled
        }
    }
}

/// Why a process can't be watched.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WatchError {
    #[error("can't read {path}: {error}. Is the process still running?")]
    Read { path: String, error: std::io::Error },
    #[error("{0} is not in the form that Linux documents")]
    Form(String),
}

/// Reads what process `pid` has used so far.
pub(crate) fn read(pid: u32) -> Result<Use, WatchError> {
    let folder = PathBuf::from(format!("/proc/{pid}"));
    let text = |name: &str| read_text(folder.join(name));
    let ticks =
        parse_stat(&text("stat")?).ok_or_else(|| WatchError::Form(format!("/proc/{pid}/stat")))?;
    let resident_kib = parse_resident(&text("status")?)
        .ok_or_else(|| WatchError::Form(format!("/proc/{pid}/status")))?;

    let tasks = folder.join("task");
    let entries = std::fs::read_dir(&tasks).map_err(|error| WatchError::Read {
        path: tasks.display().to_string(),
        error,
    })?;
    let mut thread_ns = BTreeMap::new();
    for entry in entries.flatten() {
        let name = entry.file_name();
        let thread = name.to_str().and_then(|name| name.parse::<u32>().ok());
        // A thread may end between the listing and the reading.
        let stat = read_text(entry.path().join("schedstat")).ok();
        if let (Some(thread), Some(ns)) = (thread, stat.as_deref().and_then(parse_schedstat)) {
            thread_ns.insert(thread, ns);
        }
    }
    Ok(Use {
        thread_ns,
        ticks,
        resident_kib,
    })
}

fn read_text(path: PathBuf) -> Result<String, WatchError> {
    std::fs::read_to_string(&path).map_err(|error| WatchError::Read {
        path: path.display().to_string(),
        error,
    })
}

/// First field: nanoseconds on a CPU.
fn parse_schedstat(text: &str) -> Option<u64> {
    text.split_ascii_whitespace().next()?.parse().ok()
}

/// User and system ticks: fields 14 and 15. Field 2, the name, may hold spaces and parentheses.
fn parse_stat(text: &str) -> Option<u64> {
    let (_, after_name) = text.rsplit_once(')')?;
    let mut fields = after_name.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

fn parse_resident(text: &str) -> Option<u64> {
    text.lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?
        .split_ascii_whitespace()
        .next()?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the fields are found even when the process's name tries to hide them; by a `stat` line
    /// whose name has spaces and a parenthesis.
    #[test]
    fn stat_with_an_awkward_name() {
        let line = "7 (a) b (c) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 3 0 100 1 1 1";
        assert_eq!(parse_stat(line), Some(300));
        assert_eq!(parse_schedstat("123 45 6\n"), Some(123));
        assert_eq!(parse_resident("Name:\tx\nVmRSS:\t  2048 kB\n"), Some(2048));
    }

    /// Goal: this very process can be watched, and work shows as CPU; by burning some.
    #[test]
    fn watches_itself() {
        let before = read(std::process::id()).unwrap();
        let mut sum = 0_u64;
        for n in 0..20_000_000_u64 {
            sum = std::hint::black_box(sum.wrapping_add(n));
        }
        let after = read(std::process::id()).unwrap();
        assert!(after.cpu_ns_since(&before) > 1_000_000, "{sum}");
        assert!(after.resident_kib > 0);
    }

    /// Goal: a thread that ended is still paid for, and a new one counts from zero; by made-up
    /// readings.
    #[test]
    fn threads_come_and_go() {
        let reading = |threads: &[(u32, u64)], ticks| Use {
            thread_ns: threads.iter().copied().collect(),
            ticks,
            resident_kib: 0,
        };
        let before = reading(&[(1, 1_000), (2, 5_000_000_000)], 500);
        let same = reading(&[(1, 2_000), (3, 300)], 500);
        assert_eq!(same.cpu_ns_since(&before), 1_300);
        let ended = reading(&[(1, 2_000)], 600);
        assert_eq!(ended.cpu_ns_since(&before), 1_000_000_000);
    }
}
