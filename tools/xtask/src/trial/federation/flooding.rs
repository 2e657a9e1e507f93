//! A peer that floods within every limit of the protocol: no more is taken from it than its rates let in, another
//! peer's mail arrives as ever, and the administrators can read the audit log.
//!
//! Good and bad times alternate in one run, as they do with a peer whose wire is bad.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::super::checks::{Check, Control};
use super::super::ground::Ground;
use super::super::homeserver::{Homeserver, Plan};
use super::super::person::{Person, Talking};
use super::super::record::Record;
use super::super::stage::agree;
use super::bad_peer::{DRAIN, Noticed, noticed, write};
use super::hostile::{PEER, Victim};
use crate::failure::Result;
use crate::ports::free_address;

/// How many good and bad times there are of each: every way of flooding gets its turns, and with some 2,500 messages on
/// either side, a few that a busy disk held up do not make the 99th percentile.
const TIMES: usize = 40;
/// And without the bounds: what is noticed there is ten times as much.
const TIMES_WITHOUT: usize = 16;
/// People of each side who write.
const WRITERS: usize = 2;
/// What a homeserver takes from a peer unless it is configured otherwise (`docs/operations/configuration.md`): in a
/// second, and saved up before.
const ENVELOPES_PER_SECOND: u64 = 20_000;
const ENVELOPES_SAVED: u64 = 40_000;
const REFUSALS_PER_SECOND: u64 = 100;
const REFUSALS_SAVED: u64 = 2_000;
/// Four transactions may be under way when a rate is used up.
const UNDER_WAY: u64 = 4 * 1024;
/// Of each of five actions twenty entries a minute tell of a peer's flood.
const ENTRIES_PER_MINUTE: u64 = 5 * 20;
/// How long the audit log may take to be read.
const READ_MAX: Duration = Duration::from_secs(5);
/// The other peer's 99th percentile in bad times is at most this many hundredths of that in good ones.
const RATIO_MAX_PERCENT: u32 = 120;

/// What one way of flooding came to.
#[derive(Debug, Clone, Copy, Deserialize)]
struct Flood {
    taken: u64,
    put_off: u64,
}

/// What came of the floods.
struct Found {
    others: Noticed,
    floods: BTreeMap<String, Flood>,
    /// How long it was flooded, with the pauses between.
    time: Duration,
    /// Entries of the audit log that the flooding peer has brought about, and how long reading them took.
    entries: u64,
    read: Duration,
}

impl Found {
    fn taken(&self, way: &str) -> u64 {
        self.floods.get(way).map_or(0, |flood| flood.taken)
    }

    fn refused(&self) -> u64 {
        let ways = ["questions", "rubbish", "conflicts"];
        ways.iter().map(|way| self.taken(way)).sum()
    }

    /// It flooded in every way, and no more was taken than the rates let in.
    fn is_held(&self) -> bool {
        let seconds = self.time.as_secs().saturating_add(1);
        let most = |rate: u64, saved: u64| {
            let earned = rate.saturating_mul(seconds);
            earned.saturating_add(saved).saturating_add(UNDER_WAY)
        };
        // One way uses up what the next would be let do: a flood that is put off whole is held too.
        let came = |flood: &Flood| flood.taken.saturating_add(flood.put_off) > 0;
        self.floods.len() == 4
            && self.floods.values().all(came)
            && self.taken("tombstones") > 0
            && self.refused() > 0
            && self.taken("tombstones") <= most(ENVELOPES_PER_SECOND, ENVELOPES_SAVED)
            && self.refused() <= most(REFUSALS_PER_SECOND, REFUSALS_SAVED)
    }

    fn is_told_in_short(&self) -> bool {
        let minutes = self.time.as_secs().div_ceil(60).saturating_add(1);
        self.entries <= ENTRIES_PER_MINUTE.saturating_mul(minutes) && self.read <= READ_MAX
    }

    fn holds(&self) -> bool {
        self.is_held() && self.is_told_in_short() && self.others.holds(RATIO_MAX_PERCENT)
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "in {} s were taken", self.time.as_secs())?;
        for (way, flood) in &self.floods {
            write!(
                f,
                " {} {way} ({} times put off),",
                flood.taken, flood.put_off
            )?;
        }
        write!(
            f,
            " which left {} entries, read in {} ms; the other peer: {}",
            self.entries,
            self.read.as_millis(),
            self.others
        )
    }
}

/// The flooded homeserver and an honest peer of it; people write to each other both ways.
struct Scene {
    // In this order: clients end before their homeservers.
    writers: Vec<Talking>,
    _readers: Vec<Talking>,
    record: Arc<Record>,
    victim: Victim,
    _honest: Homeserver,
}

impl Scene {
    fn set(ground: &Ground<'_>, name: &str, fault: Option<&'static str>) -> Result<Self> {
        let victim = Victim::of(ground, name, fault, "flood", 1)?;
        let folder = ground.folder(&format!("{name}h"))?;
        let honest = Homeserver::start_new(Plan {
            name: "honest.example",
            binaries: &ground.binaries,
            program: &ground.homeserver(None),
            fault: None,
            namespace: None,
            client: free_address()?.to_string(),
            federation: free_address()?.to_string(),
            folder: folder.join("h"),
        })?;
        agree(&victim.server, &honest, &folder, None)?;
        let record = Arc::new(Record::default());
        let (mut writers, mut readers) = (Vec::new(), Vec::new());
        let ways = [(&victim.server, &honest), (&honest, &victim.server)];
        for (number, (from, to)) in [ways; WRITERS].into_iter().flatten().enumerate() {
            let writer = Person::enrol(from, &format!("w{number}"), &ground.binaries)?;
            let reader = Person::enrol(to, &format!("r{number}"), &ground.binaries)?;
            writer.send(&reader.address, "hello")?;
            reader.receive(1)?;
            readers.push(reader.talk(&writer.address, &record)?);
            writers.push(writer.talk(&reader.address, &record)?);
        }
        Ok(Self {
            writers,
            _readers: readers,
            record,
            victim,
            _honest: honest,
        })
    }

    fn run(mut self, times: usize) -> Result<Found> {
        let mut number = 0;
        self.victim.peer.hears("ready")?;
        write(&mut self.writers, &mut number)?;
        let mut begins = Vec::new();
        let begun = Instant::now();
        for time in 0..times {
            // Which of both comes first changes, so that what grows with time concerns both alike.
            for is_bad in [time % 2 == 0, time % 2 == 1] {
                begins.push((number.saturating_add(1), is_bad));
                if is_bad {
                    self.victim.peer.tell("go")?;
                }
                write(&mut self.writers, &mut number)?;
                if is_bad {
                    self.victim.peer.tell("rest")?;
                    self.victim.peer.hears("resting")?;
                }
            }
        }
        let time = begun.elapsed();
        self.victim.peer.tell("end")?;
        let floods = self.victim.peer.figures()?;
        let reading = Instant::now();
        let log = self.victim.server.hsctl(&["audit"])?;
        let read = reading.elapsed();
        let actor = format!("\"peer:{PEER}\"");
        let entries = log.lines().filter(|line| line.contains(&actor)).count();
        thread::sleep(DRAIN);
        let found = Found {
            others: noticed(&self.record.entries(), &begins, ""),
            floods,
            time,
            entries: u64::try_from(entries).unwrap_or(u64::MAX),
            read,
        };
        eprintln!("{found}");
        Ok(found)
    }
}

/// A peer that floods.
pub(super) fn check(ground: &Ground<'_>) -> Result<Check> {
    const FAULT: &str = "unbounded-peers";
    let with = Scene::set(ground, "w", None)?.run(TIMES)?;
    let without = Scene::set(ground, "w0", Some(FAULT))?.run(TIMES_WITHOUT)?;
    Ok(Check {
        id: "flooding-peer-is-held",
        must: format!(
            "a peer floods with tombstones, questions, rubbish and conflicts, in turn, over four connections: at most \
             {ENVELOPES_PER_SECOND} envelopes and {REFUSALS_PER_SECOND} refusals a second are taken beyond what it had saved up; \
             {ENTRIES_PER_MINUTE} entries a minute tell of it, and the audit log is read within {} s; another peer's messages all \
             arrive, in bad times with a p99 of at most {:.1} times that of good ones",
            READ_MAX.as_secs(),
            f64::from(RATIO_MAX_PERCENT) / 100.0
        ),
        got: with.to_string(),
        ok: Some(with.holds()),
        control: Some(Control {
            without: FAULT,
            got: without.to_string(),
            // It counts as noticed for its own reason alone.
            ok: without.is_held(),
        }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(taken: u64) -> Found {
        let flood = Flood { taken, put_off: 1 };
        let ways = ["tombstones", "questions", "rubbish", "conflicts"];
        Found {
            others: Noticed::default(),
            floods: ways.map(|way| (way.to_owned(), flood)).into(),
            time: Duration::from_secs(60),
            entries: 0,
            read: Duration::ZERO,
        }
    }

    /// Goal: what was taken is held to the rates, a flood that did not come is no proof, and the entries count. Method: at
    /// the bounds and beyond.
    #[test]
    fn floods_are_held_to_the_rates() {
        assert!(found(4_000).is_held());
        assert!(!found(5_000).is_held());
        assert!(!found(0).is_held());
        let (put_off, never) = (
            Flood {
                taken: 0,
                put_off: 1,
            },
            Flood {
                taken: 0,
                put_off: 0,
            },
        );
        for (rubbish, is_held) in [(put_off, true), (never, false)] {
            let mut found = found(4_000);
            found.floods.insert("rubbish".to_owned(), rubbish);
            assert_eq!(found.is_held(), is_held, "{rubbish:?}");
        }
        let mut found = found(1);
        found.entries = 200;
        assert!(found.is_told_in_short());
        found.entries = 201;
        assert!(!found.is_told_in_short());
    }
}
