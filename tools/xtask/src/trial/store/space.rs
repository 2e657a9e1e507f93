//! What is left on the disk of half a million messages that came, waited and were acknowledged.

use std::fmt;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Child, Stdio};
use std::thread;
use std::time::Duration;

use super::process::{Place, numbers_behind, numbers_of, unexpected};
use super::{Case, judged};
use crate::failure::{Failure, Result};
use crate::trial::checks::Check;

const MESSAGES: u64 = 500_000;
/// What may be left, without the commit log.
const LEFT_MAX: u64 = 100 * 1_000_000;
/// What its segments may take after a great load: they are kept, to be used again.
const LOG_MAX: u64 = 256 * 1024 * 1024;
/// The folder of the commit log.
const LOG: &str = "commit-log";
/// It is looked at this often, until it has not changed for so many looks, and no more often than that.
const LOOK: Duration = Duration::from_secs(1);
const STEADY_LOOKS: u32 = 15;
const LOOKS_MAX: u32 = 180;
/// What `stat` counts in.
const BLOCK_BYTES: u64 = 512;

/// Bytes on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Used {
    log: u64,
    others: u64,
}

impl Used {
    /// What the files below `folder` take. Those that vanish meanwhile take nothing.
    fn below(folder: &Path) -> Self {
        let mut used = Self::default();
        used.add(folder, false);
        used
    }

    fn add(&mut self, folder: &Path, is_log: bool) {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let Ok(about) = entry.metadata() else {
                continue;
            };
            if about.is_dir() {
                self.add(&entry.path(), is_log || entry.file_name() == LOG);
                continue;
            }
            let bytes = about.blocks().saturating_mul(BLOCK_BYTES);
            let count = match is_log {
                true => &mut self.log,
                false => &mut self.others,
            };
            *count = count.saturating_add(bytes);
        }
    }
}

impl fmt::Display for Used {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let megabytes = |bytes: u64| bytes.div_ceil(1_000_000);
        write!(
            f,
            "{} MB and {} MB of commit log",
            megabytes(self.others),
            megabytes(self.log)
        )
    }
}

/// What was found.
struct Outcome {
    full: Used,
    acknowledged: u64,
    left: Used,
    waiting: u64,
    seconds: u32,
}

impl Outcome {
    fn holds(&self) -> bool {
        self.acknowledged == MESSAGES
            && self.waiting == 0
            && self.left.others <= LEFT_MAX
            && self.left.log <= LOG_MAX
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} with all of them waiting; {} acknowledged, {} wait; {} ({} bytes in all) {} s later",
            self.full,
            self.acknowledged,
            self.waiting,
            self.left,
            self.left.others.saturating_add(self.left.log),
            self.seconds
        )
    }
}

pub(super) fn check(case: &Case<'_>) -> Result<Check> {
    let (got, ok) = judged(left(case), Outcome::holds)?;
    Ok(Check {
        id: case.id,
        must: format!(
            "{MESSAGES} messages of 1 KiB in, all of them waiting, and then acknowledged, without any other traffic: at most {} MB \
             are left, and {} MiB of commit log, whose segments are used again",
            LEFT_MAX / 1_000_000,
            LOG_MAX / 1024 / 1024
        ),
        got,
        ok: Some(ok),
        control: None,
    })
}

fn left(case: &Case<'_>) -> Result<Outcome> {
    let logs = case.folder("whole")?;
    let place = case.place(&logs, logs.join("store"), None);
    let mut fill = place.command("fill");
    fill.args(["--messages", &MESSAGES.to_string()]);
    numbers_of(&mut fill, "filled ")?;
    let full = Used::below(&place.store);
    let mut draining = Draining::start(&place)?;
    let acknowledged = draining.acknowledged()?;
    let (left, seconds) = once_steady(&place.store);
    draining.end()?;
    let opened = numbers_of(&mut place.command("open"), "opened ")?;
    Ok(Outcome {
        full,
        acknowledged,
        left,
        waiting: opened.last().copied().unwrap_or(u64::MAX),
        seconds,
    })
}

/// What the store takes once that does not change any more, and after how many seconds.
fn once_steady(store: &Path) -> (Used, u32) {
    let mut used = Used::below(store);
    let mut steady = 0_u32;
    for seconds in 1..=LOOKS_MAX {
        thread::sleep(LOOK);
        let before = std::mem::replace(&mut used, Used::below(store));
        steady = match used == before {
            true => steady.saturating_add(1),
            false => 0,
        };
        if steady >= STEADY_LOOKS {
            return (used, seconds);
        }
    }
    (used, LOOKS_MAX)
}

/// A program that has acknowledged everything, and keeps the store open; killed when dropped.
struct Draining(Child);

impl Draining {
    fn start(place: &Place) -> Result<Self> {
        let child = place
            .command("drain")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|source| Failure::Start {
                program: "torture".to_owned(),
                source,
            })?;
        Ok(Self(child))
    }

    /// Waits until it has; how many messages they were.
    fn acknowledged(&mut self) -> Result<u64> {
        let mut line = String::new();
        if let Some(output) = self.0.stdout.as_mut() {
            BufReader::new(output)
                .read_line(&mut line)
                .map_err(|error| unexpected(&error.to_string()))?;
        }
        let numbers = numbers_behind(&line, "acknowledged ")?;
        numbers.first().copied().ok_or_else(|| unexpected(&line))
    }

    /// Lets it close the store.
    fn end(mut self) -> Result {
        drop(self.0.stdin.take());
        let status = self
            .0
            .wait()
            .map_err(|error| unexpected(&error.to_string()))?;
        match status.success() {
            true => Ok(()),
            false => Err(Failure::DidNotHold(format!(
                "the program that acknowledged everything ended with {status}"
            ))),
        }
    }
}

impl Drop for Draining {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the log is told from the rest, and files of folders within are counted. Method: a folder with both.
    #[test]
    fn what_files_take() {
        let folder = tempfile::tempdir().unwrap();
        for (name, kibibytes) in [("commit-log/a", 64), ("inner/b", 32), ("c", 16)] {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, vec![1_u8; kibibytes * 1024]).unwrap();
            fs::File::open(&path).unwrap().sync_all().unwrap();
        }
        let used = Used::below(folder.path());
        assert!(
            used.log >= 64 * 1024 && used.others >= 48 * 1024,
            "{used:?}"
        );
        assert!(used.others < 64 * 1024, "{used:?}");
    }

    /// Goal: each bound is held to. Method: an outcome at the bounds, and one above each.
    #[test]
    fn each_bound_counts() {
        let outcome = |others, log, waiting| Outcome {
            full: Used::default(),
            acknowledged: MESSAGES,
            left: Used { log, others },
            waiting,
            seconds: 1,
        };
        assert!(outcome(LEFT_MAX, LOG_MAX, 0).holds());
        assert!(!outcome(LEFT_MAX + 1, LOG_MAX, 0).holds());
        assert!(!outcome(LEFT_MAX, LOG_MAX + 1, 0).holds());
        assert!(!outcome(LEFT_MAX, LOG_MAX, 1).holds());
    }
}
