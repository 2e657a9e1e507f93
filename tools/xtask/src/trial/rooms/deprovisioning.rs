//! A user with two devices in a hundred rooms of three organisations' hubs is deleted while he writes: cut off at once, out of every
//! room, with evidence that holds.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::Value;

use super::super::checks::Check;
use super::super::ground::Ground;
use super::super::homeserver::{Homeserver, Plan, read};
use super::super::person::Person;
use super::super::stage::{agree, wait_until};
use crate::failure::{self, Failure, Result};
use crate::ports::free_address;

const ID: &str = "deprovisioned-everywhere";
/// Rooms that each of the three hubs orders.
const ROOMS: [usize; 3] = [34, 33, 33];
const NAMES: [&str; 3] = ["a.example", "b.example", "c.example"];
/// Sessions have ended this long after the cut at the latest.
const CUT_MS_MAX: u64 = 1_000;
/// How long he writes before he is deleted, and goes on trying afterwards.
const WRITES_FOR: Duration = Duration::from_secs(3);
/// How often he writes.
const WRITES_EVERY: Duration = Duration::from_millis(20);
/// He must have been heard so often before: else it was no traffic to stop.
const ACCEPTED_MIN: usize = 20;
/// How long rooms may take to be joined, and to be left.
const PATIENCE: Duration = Duration::from_secs(180);

fn must() -> String {
    format!(
        "a user with two devices in {} rooms, {} of them ordered by two partners, is deleted while he writes: sessions cut within \
         {CUT_MS_MAX} ms, nothing of him accepted after that, out of every room; evidence complete, with the partners' signatures, and verified \
         with the root alone",
        ROOMS.iter().sum::<usize>(),
        ROOMS.iter().skip(1).sum::<usize>(),
    )
}

/// What was found.
#[derive(Debug, Default)]
struct Found {
    sessions: u32,
    cut_after_ms: Option<u64>,
    accepted_before: usize,
    accepted_after: usize,
    complete_after_ms: u64,
    verified: Verified,
}

/// What `hsctl evidence verify` says.
#[derive(Debug, Default, Deserialize)]
struct Verified {
    verified: bool,
    complete: bool,
    rooms: usize,
    rooms_of_partners: usize,
    rooms_waiting: usize,
    words_of_partners_signed: usize,
    words_of_partners_unsigned: usize,
}

impl Found {
    fn holds(&self) -> bool {
        let (all, partners) = (
            ROOMS.iter().sum::<usize>(),
            ROOMS.iter().skip(1).sum::<usize>(),
        );
        let seen = &self.verified;
        self.sessions == 2
            && self.cut_after_ms.is_some_and(|after| after <= CUT_MS_MAX)
            && self.accepted_before >= ACCEPTED_MIN
            && self.accepted_after == 0
            && seen.verified
            && seen.complete
            && (seen.rooms, seen.rooms_of_partners, seen.rooms_waiting) == (all, partners, 0)
            // An order and a commit for each.
            && seen.words_of_partners_signed == partners.saturating_mul(2)
            && seen.words_of_partners_unsigned == 0
    }
}

impl std::fmt::Display for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let cut = self.cut_after_ms;
        let cut = cut.map_or_else(|| "not".to_owned(), |after| format!("{after} ms after"));
        write!(
            f,
            "{} sessions cut {cut}; {} messages accepted before, {} after; {} rooms, {} of partners, {} waiting; all done {} ms after; \
             {} words of partners signed, {} not; verified: {}",
            self.sessions,
            self.accepted_before,
            self.accepted_after,
            self.verified.rooms,
            self.verified.rooms_of_partners,
            self.verified.rooms_waiting,
            self.complete_after_ms,
            self.verified.words_of_partners_signed,
            self.verified.words_of_partners_unsigned,
            self.verified.verified
        )
    }
}

#[derive(Deserialize)]
struct List {
    evidence: Vec<Summary>,
}

#[derive(Clone, Deserialize)]
struct Summary {
    evidence: String,
    cut_ms: u64,
    sessions: Option<u32>,
    sessions_ended_ms: Option<u64>,
    completed_ms: Option<u64>,
}

/// A client that prints into a file; ended when dropped.
struct Running {
    child: Child,
    output: PathBuf,
}

impl Running {
    fn begin(mut command: Command, output: PathBuf) -> Result<Self> {
        let file = File::create(&output).map_err(failure::at(&output))?;
        let log = output.with_extension("log");
        let errors = File::create(&log).map_err(failure::at(&log))?;
        let child = command
            .stdin(Stdio::piped())
            .stdout(file)
            .stderr(errors)
            .spawn()
            .map_err(|source| Failure::Start {
                program: "chat".to_owned(),
                source,
            })?;
        Ok(Self { child, output })
    }

    /// What it has printed of this type so far.
    fn printed(&self, kind: &str) -> Result<Vec<Value>> {
        let text = fs::read_to_string(&self.output).map_err(failure::at(&self.output))?;
        let objects = text
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let meant = |object: &Value| object.get("type").and_then(Value::as_str) == Some(kind);
        Ok(objects.filter(meant).collect())
    }

    fn wait_for(&self, kind: &str, count: usize) -> Result {
        let what = format!("{count} × {kind} in {}", self.output.display());
        wait_until(PATIENCE, &what, || Ok(self.printed(kind)?.len() >= count))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(super) fn check(ground: &Ground<'_>) -> Result<Check> {
    let folder = ground.folder("d")?;
    let servers = servers(ground, &folder)?;
    let [a, b, c] = servers.as_slice() else {
        return Err(Failure::DidNotHold("three homeservers".to_owned()));
    };
    agree(a, b, &folder, None)?;
    agree(a, c, &folder, None)?;
    let eve = Person::enrol(a, "eve", &ground.binaries)?;
    // Before anybody meets her: nobody has to confirm it.
    let second = eve.second_device(a, "second", &eve.password_file())?;
    let others = [(a, "anna"), (b, "bob"), (c, "carol")]
        .into_iter()
        .map(|(server, name)| Person::enrol(server, name, &ground.binaries))
        .collect::<Result<Vec<_>>>()?;
    let run = |person: &Person, words: &[&str], name: &str| {
        Running::begin(person.command(words), folder.join(name))
    };
    let follows = [
        run(&eve, &["follow"], "eve-follow")?,
        run(&second, &["follow"], "second-follow")?,
    ];
    let rooms = rooms(&others, &eve)?;
    for following in &follows {
        following.wait_for("room-joined", rooms.len())?;
    }
    let online = others
        .iter()
        .map(|person| run(person, &["follow"], &format!("{}-follow", person.name)))
        .collect::<Result<Vec<_>>>()?;
    for client in &online {
        client.wait_for("connected", 1)?;
    }
    let [first, _second] = follows;
    drop(first);
    // No other device has approved the second: until she says that it is hers nothing goes to it.
    eve.run(&["confirm", &eve.address])?;
    // In a room that a partner orders.
    let room = rooms.get(ROOMS[0]).cloned().unwrap_or_default();
    let talk = run(&eve, &["talk", &room], "eve-talk")?;
    talk.wait_for("connected", 1)?;
    let found = cut_off(a, talk, &folder)?;
    Ok(Check {
        id: ID,
        must: must(),
        got: found.to_string(),
        ok: Some(found.holds()),
        control: None,
    })
}

fn servers(ground: &Ground<'_>, folder: &Path) -> Result<Vec<Homeserver>> {
    NAMES
        .into_iter()
        .map(|name| {
            Homeserver::start_new(Plan {
                name,
                binaries: &ground.binaries,
                program: &ground.homeserver(None),
                fault: None,
                namespace: None,
                client: free_address()?.to_string(),
                federation: free_address()?.to_string(),
                // Short names: the path of a Unix socket has at most 107 bytes.
                folder: folder.join(name.split('.').next().unwrap_or(name)),
            })
        })
        .collect()
}

/// Each begins his share of rooms with Eve: their ids, those of the first hub first.
fn rooms(others: &[Person], eve: &Person) -> Result<Vec<String>> {
    thread::scope(|scope| {
        let begun: Vec<_> = others
            .iter()
            .zip(ROOMS)
            .map(|(person, count)| {
                scope.spawn(move || {
                    (0..count)
                        .map(|_| begin(person, eve))
                        .collect::<Result<Vec<_>>>()
                })
            })
            .collect();
        let mut rooms = Vec::new();
        for of_one in begun {
            let of_one = of_one.join();
            rooms.extend(of_one.map_err(|_| {
                Failure::DidNotHold("a thread that begins rooms has ended".to_owned())
            })??);
        }
        Ok(rooms)
    })
}

fn begin(person: &Person, eve: &Person) -> Result<String> {
    #[derive(Deserialize)]
    struct Started {
        room: String,
    }
    let printed = person.run(&["start", &eve.address])?;
    let started: Started = read("chat start", &printed)?;
    Ok(started.room)
}

/// Eve writes, is deleted, and goes on trying.
fn cut_off(server: &Homeserver, mut talk: Running, folder: &Path) -> Result<Found> {
    let input = talk.child.stdin.take();
    let writing = thread::spawn(move || {
        let Some(mut input) = input else { return };
        let until = Instant::now() + 2 * WRITES_FOR;
        let mut number = 0_u32;
        while Instant::now() < until {
            number = number.saturating_add(1);
            // Her client may have ended by then.
            if writeln!(input, "{number:06}")
                .and_then(|()| input.flush())
                .is_err()
            {
                return;
            }
            thread::sleep(WRITES_EVERY);
        }
    });
    thread::sleep(WRITES_FOR);
    server.hsctl(&["user", "delete", "eve", "--yes"])?;
    let _ = writing.join();
    let only = || -> Result<Summary> {
        let printed = server.hsctl(&["evidence", "list"])?;
        let list: List = read("hsctl evidence list", &printed)?;
        let mut all = list.evidence.into_iter();
        match (all.next(), all.next()) {
            (Some(one), None) => Ok(one),
            _ => Err(Failure::DidNotHold("one cut".to_owned())),
        }
    };
    wait_until(PATIENCE, "the evidence is complete", || {
        Ok(only()?.completed_ms.is_some())
    })?;
    let summary = only()?;
    let ended_ms = summary.sessions_ended_ms;
    let accepted = talk.printed("accepted")?;
    let after = late(&accepted, summary.cut_ms);
    let document = folder.join("evidence.txt").display().to_string();
    server.hsctl(&["evidence", "export", &summary.evidence, "--file", &document])?;
    let root = server.folder.join("data").join("keys").join("root.pem");
    let root = root.display().to_string();
    let verified = server.hsctl(&[
        "--root",
        &root,
        "evidence",
        "verify",
        &document,
        "--complete",
    ])?;
    let since = |ms: u64| ms.saturating_sub(summary.cut_ms);
    Ok(Found {
        sessions: summary.sessions.unwrap_or_default(),
        cut_after_ms: ended_ms.map(since),
        accepted_before: accepted.len().saturating_sub(after),
        accepted_after: after,
        complete_after_ms: summary.completed_ms.map(since).unwrap_or_default(),
        verified: read("hsctl evidence verify", &verified)?,
    })
}

/// How many of what was accepted has a stamp of after the cut, or none.
fn late(accepted: &[Value], cut_ms: u64) -> usize {
    let stamp = |object: &Value| object.get("accepted_ms").and_then(Value::as_u64);
    let late = |object: &&Value| stamp(object).is_none_or(|at_ms| at_ms > cut_ms);
    accepted.iter().filter(late).count()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Goal: what was accepted after the cut is late, while sessions still end too, and so is what says no time. Method: at the cut, a
    /// millisecond later, and without a stamp.
    #[test]
    fn late_is_after_the_cut() {
        let at = |ms: u64| json!({"type": "accepted", "accepted_ms": ms});
        assert_eq!(late(&[at(999), at(1_000)], 1_000), 0);
        assert_eq!(late(&[at(1_000), at(1_001), json!({})], 1_000), 2);
    }

    /// Goal: the check fails when one figure is wrong. Method: spoil a good one in each place.
    #[test]
    fn each_figure_counts() {
        let good = || Found {
            sessions: 2,
            cut_after_ms: Some(12),
            accepted_before: 100,
            accepted_after: 0,
            complete_after_ms: 5_000,
            verified: Verified {
                verified: true,
                complete: true,
                rooms: 100,
                rooms_of_partners: 66,
                rooms_waiting: 0,
                words_of_partners_signed: 132,
                words_of_partners_unsigned: 0,
            },
        };
        assert!(good().holds());
        let spoils: [fn(&mut Found); 9] = [
            |found| found.sessions = 1,
            |found| found.cut_after_ms = None,
            |found| found.cut_after_ms = Some(CUT_MS_MAX + 1),
            |found| found.accepted_before = 0,
            |found| found.accepted_after = 1,
            |found| found.verified.verified = false,
            |found| found.verified.complete = false,
            |found| found.verified.rooms = 99,
            |found| found.verified.words_of_partners_signed = 131,
        ];
        for (number, spoil) in spoils.into_iter().enumerate() {
            let mut found = good();
            spoil(&mut found);
            assert!(!found.holds(), "{number}");
        }
    }
}
