//! An audit log is tampered with in every way that leaves it readable, and a homeserver that was put back writes another one
//! with the same keys: each time the offline verifier has to find it.

use std::collections::hash_map::RandomState;
use std::fs;
use std::hash::{BuildHasher as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::super::checks::{Check, Control};
use super::super::ground::Ground;
use super::super::homeserver::{Homeserver, Plan};
use crate::failure::{self, Failure, Result};
use crate::ports::free_address;
use crate::process::Run as _;

/// How often it is tampered with.
const TRIALS: usize = 1_000;
/// People whose accounts are made before the log forks, and suspended afterwards.
const PEOPLE: usize = 30;
/// Signed heads that are kept of the log after it has forked: a partner would have them.
const HEADS: usize = 10;
/// For the homeserver to end.
const PATIENCE: Duration = Duration::from_secs(20);
/// Entries of the long log, and how long it may take.
const ENTRIES: &str = "1000000";
const SECONDS_MAX: u64 = 60;

/// What is done to a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// A field of an entry says something else.
    Changed,
    /// An entry is another one, which a homeserver with the same keys has written in that place.
    Exchanged,
    /// An entry is missing.
    Dropped,
    /// Two entries have changed their places, and bear the numbers of these.
    Reordered,
    /// The whole log is another one with the same beginning, signed with the same keys.
    Forked,
}

impl Way {
    const ALL: [Self; 5] = [
        Self::Changed,
        Self::Exchanged,
        Self::Dropped,
        Self::Reordered,
        Self::Forked,
    ];

    const fn words(self) -> &'static str {
        match self {
            Self::Changed => "changed",
            Self::Exchanged => "exchanged",
            Self::Dropped => "dropped",
            Self::Reordered => "reordered",
            Self::Forked => "forked",
        }
    }
}

/// Numbers that differ from run to run, and are the same for the same seed (SplitMix64).
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        let limit = u64::try_from(limit.max(1)).unwrap_or(u64::MAX);
        usize::try_from(mixed % limit).unwrap_or(0)
    }

    fn one_of<'a, T>(&mut self, all: &'a [T]) -> Option<&'a T> {
        all.get(self.below(all.len()))
    }
}

/// An exported log: its head, then an entry a line.
#[derive(Debug, Clone)]
struct Log {
    head: String,
    entries: Vec<String>,
}

impl Log {
    fn read(text: &str) -> Result<Self> {
        let mut lines = text.lines().map(str::to_owned);
        let head = lines.next().ok_or_else(|| Failure::Unexpected {
            program: "hsctl audit export".to_owned(),
            what: "nothing".to_owned(),
        })?;
        Ok(Self {
            head,
            entries: lines.collect(),
        })
    }

    fn write(&self, path: &Path) -> Result {
        let mut text = self.head.clone();
        for entry in &self.entries {
            text.push('\n');
            text.push_str(entry);
        }
        text.push('\n');
        fs::write(path, text).map_err(failure::at(path))
    }

    /// The first entry that is not the other log's.
    fn forks_at(&self, other: &Self) -> usize {
        let mut both = self.entries.iter().zip(&other.entries);
        both.position(|(one, other)| one != other).unwrap_or(0)
    }

    /// The log after it was tampered with this way.
    fn tampered(&self, way: Way, fork: &Self, chance: &mut Chance) -> Self {
        let mut log = self.clone();
        let at = chance.below(log.entries.len());
        match way {
            Way::Changed => {
                let fields = [
                    ("\"at_ms\":", "\"at_ms\":1"),
                    ("\"actor\":\"", "\"actor\":\"x"),
                    ("\"action\":\"", "\"action\":\"x"),
                    ("\"subject\":\"", "\"subject\":\"x"),
                    ("\"detail\":\"", "\"detail\":\"x"),
                ];
                let (field, changed) = chance.one_of(&fields).copied().unwrap_or(("", "x"));
                if let Some(entry) = log.entries.get_mut(at) {
                    *entry = entry.replacen(field, changed, 1);
                }
            }
            Way::Exchanged => {
                let from = self.forks_at(fork);
                let both = log.entries.len().min(fork.entries.len());
                let at = from.saturating_add(chance.below(both.saturating_sub(from)));
                if let (Some(entry), Some(other)) = (log.entries.get_mut(at), fork.entries.get(at))
                {
                    entry.clone_from(other);
                }
            }
            Way::Dropped => drop(log.entries.remove(at)),
            Way::Reordered => {
                let next = chance.below(log.entries.len().saturating_sub(1));
                let other = if next == at {
                    log.entries.len() - 1
                } else {
                    next
                };
                log.entries.swap(at, other);
                renumber(&mut log.entries, at);
                renumber(&mut log.entries, other);
            }
            Way::Forked => log = fork.clone(),
        }
        log
    }
}

/// Gives the entry at this place the number of the place.
fn renumber(entries: &mut [String], at: usize) {
    let number = at.saturating_add(1);
    if let Some(entry) = entries.get_mut(at)
        && let Some((_, rest)) = entry.split_once(',')
    {
        *entry = format!("{{\"number\":{number},{rest}");
    }
}

/// What verifies logs.
struct Auditor {
    hsctl: PathBuf,
    root: PathBuf,
    file: PathBuf,
}

impl Auditor {
    /// Whether the log holds, and has grown from these heads.
    fn holds(&self, log: &Log, earlier: &[&Path]) -> Result<bool> {
        log.write(&self.file)?;
        let mut command = Command::new(&self.hsctl);
        command
            .arg("--json")
            .arg("--root")
            .arg(&self.root)
            .args(["audit", "verify"])
            .arg(&self.file);
        for head in earlier {
            command.arg("--earlier-head").arg(head);
        }
        let output = command
            .stdin(Stdio::null())
            .output()
            .map_err(|source| Failure::Start {
                program: "hsctl".to_owned(),
                source,
            })?;
        match output.status.code() {
            Some(0) => Ok(true),
            Some(1) => Ok(false),
            _ => Err(Failure::Unexpected {
                program: "hsctl audit verify".to_owned(),
                what: String::from_utf8_lossy(&output.stderr).into_owned(),
            }),
        }
    }
}

/// A log, another one with the same beginning, and the heads of the first from before and after they part.
struct Logs {
    log: Log,
    fork: Log,
    common: PathBuf,
    heads: Vec<PathBuf>,
}

pub(super) fn tampering(ground: &Ground<'_>) -> Result<Check> {
    let folder = ground.folder("a")?;
    let logs = write_logs(ground, &folder)?;
    let auditor = Auditor {
        hsctl: ground.binaries.join("hsctl"),
        root: folder.join("data/keys/root.pem"),
        file: folder.join("tampered"),
    };
    let heads: Vec<&Path> = logs.heads.iter().map(PathBuf::as_path).collect();
    let mut all = heads.clone();
    all.push(&logs.common);
    let untouched =
        auditor.holds(&logs.log, &all)? && auditor.holds(&logs.fork, &[&logs.common])?;

    let seed = RandomState::new().build_hasher().finish();
    let mut chance = Chance(seed);
    let (mut tried, mut found) = ([0_usize; Way::ALL.len()], [0_usize; Way::ALL.len()]);
    let mut missed = Vec::new();
    for trial in 0..TRIALS {
        let which = chance.below(Way::ALL.len());
        let Some(way) = Way::ALL.get(which).copied() else {
            continue;
        };
        let log = logs.log.tampered(way, &logs.fork, &mut chance);
        // A fork is signed: only who has another head knows.
        let known = chance.one_of(&heads).copied();
        let known = known.filter(|_| way == Way::Forked);
        let is_found = !auditor.holds(&log, known.as_slice())?;
        for (counts, one) in [(&mut tried, true), (&mut found, is_found)] {
            if let Some(count) = counts.get_mut(which) {
                *count = count.saturating_add(usize::from(one));
            }
        }
        if !is_found {
            missed.push(format!("{trial} ({})", way.words()));
        }
    }
    let control = auditor.holds(&logs.fork, &[])?;
    let counts: Vec<String> = Way::ALL
        .iter()
        .zip(tried.iter().zip(found))
        .map(|(way, (tried, found))| format!("{} {found} of {tried}", way.words()))
        .collect();
    let mut got = format!(
        "{} entries, seed {seed}; found: {}",
        logs.log.entries.len(),
        counts.join(", ")
    );
    if !untouched {
        got.push_str("; a log that nobody touched does not hold");
    }
    if !missed.is_empty() {
        got.push_str(&format!("; not found: trials {}", missed.join(", ")));
    }
    let all_tried = tried.iter().all(|count| *count > 0);
    Ok(Check {
        id: "tampered-audit-log-is-found",
        must: format!(
            "an audit entry that was changed, exchanged, dropped or reordered, or a log that was forked, is found in each of \
             {TRIALS} random trials, and a log that nobody touched holds"
        ),
        got,
        ok: Some(untouched && missed.is_empty() && all_tried),
        control: Some(Control {
            without: "the heads that others have",
            got: match control {
                true => "a forked log holds: its own keys have signed it".to_owned(),
                false => "a forked log is found all the same".to_owned(),
            },
            ok: !control,
        }),
    })
}

/// A homeserver writes a log; then its store is put back, and it writes another one.
fn write_logs(ground: &Ground<'_>, folder: &Path) -> Result<Logs> {
    let mut server = Homeserver::start_new(Plan {
        name: "a.example",
        binaries: &ground.binaries,
        program: &ground.homeserver(None),
        fault: None,
        namespace: None,
        client: free_address()?.to_string(),
        federation: free_address()?.to_string(),
        folder: folder.to_path_buf(),
    })?;
    for number in 0..PEOPLE {
        server.account(&person(number))?;
    }
    let common = keep_head(&server, folder, "common")?;
    end(&mut server)?;
    let (data, before) = (folder.join("data"), folder.join("data-before"));
    Command::new("cp")
        .arg("--archive")
        .args([&data, &before])
        .shown()?;
    server.start()?;
    let mut heads = Vec::new();
    for number in 0..PEOPLE {
        server.hsctl(&["user", "suspend", &person(number)])?;
        if number % (PEOPLE / HEADS) == 0 {
            heads.push(keep_head(&server, folder, &format!("head-{number}"))?);
        }
    }
    let log = Log::read(&server.hsctl(&["audit", "export"])?)?;
    end(&mut server)?;
    fs::rename(&data, folder.join("data-after")).map_err(failure::at(&data))?;
    fs::rename(&before, &data).map_err(failure::at(&before))?;
    server.start()?;
    // In another order: each entry is another one.
    for number in (0..PEOPLE).rev() {
        server.hsctl(&["user", "suspend", &person(number)])?;
    }
    let fork = Log::read(&server.hsctl(&["audit", "export"])?)?;
    end(&mut server)?;
    Ok(Logs {
        log,
        fork,
        common,
        heads,
    })
}

fn person(number: usize) -> String {
    format!("person{number}")
}

fn keep_head(server: &Homeserver, folder: &Path, name: &str) -> Result<PathBuf> {
    let path = folder.join(name);
    let head = server.hsctl(&["audit", "head"])?;
    fs::write(&path, head).map_err(failure::at(&path))?;
    Ok(path)
}

fn end(server: &mut Homeserver) -> Result {
    match server.terminate(PATIENCE)? {
        Some(0) => Ok(()),
        other => Err(Failure::DidNotHold(format!(
            "the homeserver ended with {other:?}"
        ))),
    }
}

/// What the verifier's own test prints.
const TOLD: &str = "milliseconds: ";

pub(super) fn speed(ground: &Ground<'_>) -> Result<Check> {
    let name = "commands::audit::verify::tests::verifying_is_quick";
    let mut test = ground.cargo([
        "test",
        "-p",
        "hsctl",
        "--bin",
        "hsctl",
        "--profile",
        "measured",
        "--",
        "--exact",
        "--nocapture",
        name,
    ]);
    let printed = test.env("ENTENTE_AUDIT_ENTRIES", ENTRIES).captured()?;
    let told = printed.split_once(TOLD).map(|(_, rest)| {
        let digits = rest.find(|c: char| !c.is_ascii_digit());
        rest.get(..digits.unwrap_or(rest.len())).unwrap_or_default()
    });
    let ms: Option<u64> = told.and_then(|digits| digits.parse().ok());
    Ok(Check {
        id: "audit-log-is-verified-quickly",
        must: format!(
            "{ENTRIES} entries of an exported audit log are verified within {SECONDS_MAX} s"
        ),
        got: ms.map_or_else(
            || "the test did not say how long it took".to_owned(),
            |ms| format!("{ms} ms"),
        ),
        ok: Some(ms.is_some_and(|ms| ms <= SECONDS_MAX * 1000)),
        control: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(details: &[&str]) -> Log {
        let entry = |(number, detail): (usize, &&str)| {
            format!(
                "{{\"number\":{number},\"at_ms\":7,\"actor\":\"a\",\"action\":\"b\",\"subject\":\"c\",\"detail\":\"{detail}\"}}"
            )
        };
        Log {
            head: "head".to_owned(),
            entries: (1..).zip(details).map(entry).collect(),
        }
    }

    /// Goal: whatever is done to a log, it is another one afterwards, and each line still an entry: else the verifier would have
    /// nothing to find. Method: each way many times.
    #[test]
    fn tampering_changes_something() {
        let ours = log(&["1", "2", "3", "4", "5"]);
        let fork = log(&["1", "2", "x", "y", "z"]);
        assert_eq!(ours.forks_at(&fork), 2);
        let mut chance = Chance(1);
        for way in Way::ALL {
            for _ in 0..200 {
                let tampered = ours.tampered(way, &fork, &mut chance);
                assert_ne!(tampered.entries, ours.entries, "{way:?}");
                for entry in &tampered.entries {
                    let entry: serde_json::Value = serde_json::from_str(entry).unwrap();
                    assert!(entry["number"].is_u64());
                }
            }
        }
    }

    /// Goal: chance reaches everything, and the same seed does the same. Method: many draws.
    #[test]
    fn chance_is_fair_enough() {
        let (mut one, mut again) = (Chance(7), Chance(7));
        let mut seen = [false; 5];
        for _ in 0..100 {
            let drawn = one.below(5);
            assert_eq!(drawn, again.below(5));
            seen[drawn] = true;
        }
        assert_eq!(seen, [true; 5]);
        assert_eq!(one.below(0), 0);
    }
}
