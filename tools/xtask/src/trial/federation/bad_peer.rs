//! Ten peers, one of which stalls, dawdles, talks nonsense or hangs up half-way: what the other nine notice of it.
//!
//! A quiet time leads in, in which nothing is done to anybody. Then good and bad times alternate in one run, so that
//! whatever else the machine does concerns both alike; a good time still bears what the bad one before has left behind,
//! so both are held to the quiet one.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::super::checks::{Check, Control};
use super::super::faulty::Wire;
use super::super::ground::Ground;
use super::super::homeserver::{Homeserver, Plan};
use super::super::person::{Person, Talking};
use super::super::record::{Entries, Record};
use super::super::stage::agree;
use crate::failure::{Failure, Result};
use crate::ports::free_address;

/// The peers; the last is the bad one.
const PEERS: [&str; 10] = [
    "p0.example",
    "p1.example",
    "p2.example",
    "p3.example",
    "p4.example",
    "p5.example",
    "p6.example",
    "p7.example",
    "p8.example",
    "bad.example",
];
/// What is wrong with the bad peer, one after the other.
const FAULTS: [&str; 6] = [
    "both stall",
    "both delay 1500",
    "back garbage 0",
    "out half-close 0",
    "back truncate 0",
    "out duplicate",
];
/// How long a good or a bad time lasts, and how many there are of each.
const TIME: Duration = Duration::from_secs(2);
const TIMES: usize = 18;
/// As many of them make up the quiet time before.
const QUIET_TIMES: usize = 12;
/// Somebody writes to each peer's person this often.
const PACE: Duration = Duration::from_millis(125);
/// A machine on which the quiet time, or good times, are worse than this is too busy to judge on.
const GOOD_MAX: Duration = Duration::from_secs(1);
/// How long the last messages have.
pub(super) const DRAIN: Duration = Duration::from_secs(5);
/// The others' 99th percentile in good and in bad times is at most this many hundredths of that in the quiet one,
const RATIO_MAX_PERCENT: u32 = 120;
/// which counts as this at least: a fsync and a turn of the scheduler take as long now and then, whoever is bad, and
/// a fifth of a few milliseconds would be a bound on those alone.
const QUIET_FLOOR: Duration = Duration::from_millis(20);

/// What the others noticed.
#[derive(Default)]
pub(super) struct Noticed {
    /// Before anything happened, where that was looked at.
    quiet: Vec<Duration>,
    good: Vec<Duration>,
    bad: Vec<Duration>,
    written: usize,
}

impl Noticed {
    fn p99(of: &[Duration]) -> Duration {
        Self::percentile(of, 99)
    }

    fn percentile(of: &[Duration], percent: usize) -> Duration {
        let place = of
            .len()
            .saturating_mul(percent)
            .div_ceil(100)
            .saturating_sub(1);
        of.get(place).copied().unwrap_or(Duration::MAX)
    }

    /// Everything arrived, in bad times hardly later than in good ones.
    pub(super) fn holds(&self, ratio_max_percent: u32) -> bool {
        let (good, bad) = (Self::p99(&self.good), Self::p99(&self.bad));
        self.arrived() == self.written && good <= GOOD_MAX && within(bad, good, ratio_max_percent)
    }

    /// Everything arrived, in good and in bad times hardly later than in the quiet one.
    fn holds_to_quiet(&self) -> bool {
        let quiet = Self::p99(&self.quiet);
        let both = [&self.good, &self.bad];
        self.arrived() == self.written
            && quiet <= GOOD_MAX
            && both
                .iter()
                .all(|times| within(Self::p99(times), quiet.max(QUIET_FLOOR), RATIO_MAX_PERCENT))
    }

    fn arrived(&self) -> usize {
        let all = [&self.quiet, &self.good, &self.bad];
        all.iter().map(|times| times.len()).sum()
    }

    /// Takes in what everybody but this one wrote in the quiet time.
    fn hear_quiet(&mut self, entries: &Entries, numbers: RangeInclusive<u32>, bad_writer: &str) {
        for (text, writer) in &entries.written {
            if writer == bad_writer || !numbers.contains(&number_of(text)) {
                continue;
            }
            self.written = self.written.saturating_add(1);
            self.quiet.extend(entries.took.get(text));
        }
        self.quiet.sort_unstable();
    }
}

/// Whether `time` is at most this many hundredths of `of`.
fn within(time: Duration, of: Duration, percent: u32) -> bool {
    let most = of.as_micros().saturating_mul(u128::from(percent));
    time.as_micros().saturating_mul(100) <= most
}

/// How many times `of` a time is.
fn times(time: Duration, of: Duration) -> f64 {
    time.as_secs_f64() / of.as_secs_f64()
}

/// Texts begin with their numbers.
fn number_of(text: &str) -> u32 {
    let number = text.split(' ').next();
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}

impl std::fmt::Display for Noticed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (good, bad) = (Self::p99(&self.good), Self::p99(&self.bad));
        if !self.quiet.is_empty() {
            let quiet = Self::p99(&self.quiet);
            let counts_as = quiet.max(QUIET_FLOOR);
            write!(
                f,
                "p99 {:.1} ms in the quiet time before, {:.1} ms in good times, {:.1} ms in bad ones: {:.2} and {:.2} times the \
                 quiet one as it was; it counts as {:.1} ms ({:.2} and {:.2} times that); ",
                quiet.as_secs_f64() * 1e3,
                good.as_secs_f64() * 1e3,
                bad.as_secs_f64() * 1e3,
                times(good, quiet),
                times(bad, quiet),
                counts_as.as_secs_f64() * 1e3,
                times(good, counts_as),
                times(bad, counts_as),
            )?;
        }
        write!(
            f,
            "p99 {:.1} ms in bad times, {:.1} ms in good ones (at most {} ms to be judged): {:.2} times; p50 {:.1} and {:.1} ms; \
             {} of {} messages to the others arrived",
            bad.as_secs_f64() * 1e3,
            good.as_secs_f64() * 1e3,
            GOOD_MAX.as_millis(),
            times(bad, good),
            Self::percentile(&self.bad, 50).as_secs_f64() * 1e3,
            Self::percentile(&self.good, 50).as_secs_f64() * 1e3,
            self.arrived(),
            self.written
        )
    }
}

/// One organisation in the middle, ten around it, one person of the middle for each.
struct Crowd {
    // In this order: clients end before their homeservers.
    writers: Vec<Talking>,
    _readers: Vec<Talking>,
    record: Arc<Record>,
    wire: Wire,
    _servers: Vec<Homeserver>,
}

impl Crowd {
    fn gather(ground: &Ground<'_>, name: &str, fault: Option<&'static str>) -> Result<Self> {
        let folder = ground.folder(name)?;
        let start = |name: &'static str, fault: Option<&'static str>| -> Result<Homeserver> {
            Homeserver::start_new(Plan {
                name,
                binaries: &ground.binaries,
                program: &ground.homeserver(fault),
                fault,
                namespace: None,
                client: free_address()?.to_string(),
                federation: free_address()?.to_string(),
                folder: folder.join(name.split('.').next().unwrap_or(name)),
            })
        };
        let middle = start("m.example", fault)?;
        let mut servers = Vec::new();
        let mut pairs = Vec::new();
        let mut wire = None;
        for (number, name) in PEERS.into_iter().enumerate() {
            let peer = start(name, None)?;
            let is_bad = number.saturating_add(1) == PEERS.len();
            if is_bad {
                wire = Some(Wire::lay(&ground.binaries, &peer.federation)?);
            }
            let at = wire.as_ref().map(|wire| wire.address.as_str());
            agree(&middle, &peer, &folder, at)?;
            let writer = Person::enrol(&middle, &format!("w{number}"), &ground.binaries)?;
            let reader = Person::enrol(&peer, "reader", &ground.binaries)?;
            writer.send(&reader.address, "hello")?;
            reader.receive(1)?;
            pairs.push((writer, reader));
            servers.push(peer);
        }
        servers.push(middle);
        let record = Arc::new(Record::default());
        let (mut writers, mut readers) = (Vec::new(), Vec::new());
        for (writer, reader) in &pairs {
            readers.push(reader.talk(&writer.address, &record)?);
            writers.push(writer.talk(&reader.address, &record)?);
        }
        let wire = wire.ok_or_else(|| Failure::DidNotHold("nobody is bad".to_owned()))?;
        Ok(Self {
            writers,
            _readers: readers,
            record,
            wire,
            _servers: servers,
        })
    }

    fn run(mut self) -> Result<Noticed> {
        let mut number = 0;
        // Caches fill, connections open.
        write(&mut self.writers, &mut number)?;
        write(&mut self.writers, &mut number)?;
        let quiet_from = number.saturating_add(1);
        for _ in 0..QUIET_TIMES {
            write(&mut self.writers, &mut number)?;
        }
        let quiet = quiet_from..=number;
        // The first number of each time, and whether it is a bad one.
        let mut begins = Vec::new();
        for (time, fault) in FAULTS.iter().cycle().take(TIMES).enumerate() {
            // Which of both comes first changes, so that what grows with time concerns both alike.
            let mut both = [(true, fault), (false, &"both pass")];
            if time % 2 == 1 {
                both.reverse();
            }
            // What is open is cut: a new connection meets the fault from its first byte on.
            for (is_bad, fault) in both {
                self.wire.command(fault)?;
                self.wire.command("cut")?;
                begins.push((number.saturating_add(1), is_bad));
                write(&mut self.writers, &mut number)?;
            }
        }
        thread::sleep(DRAIN);
        let bad_writer = format!("w{}", PEERS.len().saturating_sub(1));
        let entries = self.record.entries();
        let mut found = noticed(&entries, &begins, &bad_writer);
        found.hear_quiet(&entries, quiet, &bad_writer);
        eprintln!("{found}");
        Ok(found)
    }
}

/// Everybody writes for a while.
pub(super) fn write(writers: &mut [Talking], number: &mut u32) -> Result {
    let begun = Instant::now();
    let mut next = Duration::ZERO;
    while next < TIME {
        *number = number.saturating_add(1);
        for writer in &mut *writers {
            writer.say(*number)?;
        }
        next = next.saturating_add(PACE);
        thread::sleep(next.saturating_sub(begun.elapsed()));
    }
    Ok(())
}

/// Sorts what everybody but this one wrote into good and bad times.
pub(super) fn noticed(entries: &Entries, begins: &[(u32, bool)], bad_writer: &str) -> Noticed {
    let mut noticed = Noticed::default();
    for (text, writer) in &entries.written {
        let number = number_of(text);
        let time = begins.iter().rev().find(|(first, _)| *first <= number);
        let Some((_, is_bad)) = time.filter(|_| writer.as_str() != bad_writer) else {
            continue;
        };
        noticed.written = noticed.written.saturating_add(1);
        if let Some(took) = entries.took.get(text) {
            let times = if *is_bad {
                &mut noticed.bad
            } else {
                &mut noticed.good
            };
            times.push(*took);
        }
    }
    noticed.good.sort_unstable();
    noticed.bad.sort_unstable();
    noticed
}

/// One bad peer of ten.
pub(super) fn check(ground: &Ground<'_>) -> Result<Check> {
    const FAULT: &str = "one-peer-at-a-time";
    let with = Crowd::gather(ground, "b", None)?.run()?;
    let without = Crowd::gather(ground, "b0", Some(FAULT))?.run()?;
    Ok(Check {
        id: "one-bad-peer-costs-nothing",
        must: format!(
            "of ten peers one stalls, delays, sends noise, half-closes, cuts off and doubles, in turn: to the other nine \
             everything arrives, in bad times and in the good ones between them with a p99 of at most {:.1} times that of a quiet \
             time before, which counts as {} ms at least (of a quicker one the raw ratio is told, and not bounded: {:.1} ms pass \
             always)",
            f64::from(RATIO_MAX_PERCENT) / 100.0,
            QUIET_FLOOR.as_millis(),
            QUIET_FLOOR.as_secs_f64() * 1e3 * f64::from(RATIO_MAX_PERCENT) / 100.0,
        ),
        got: with.to_string(),
        ok: Some(with.holds_to_quiet()),
        control: Some(Control {
            without: FAULT,
            got: without.to_string(),
            // It counts as noticed for its own reason alone.
            ok: without.holds_to_quiet() || Noticed::p99(&without.quiet) > GOOD_MAX,
        }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noticed_of(good: u64, bad: u64) -> Noticed {
        let times = |ms: u64| {
            (1..=100)
                .map(|n| Duration::from_micros(n * ms * 100))
                .collect()
        };
        Noticed {
            quiet: Vec::new(),
            good: times(good),
            bad: times(bad),
            written: 200,
        }
    }

    /// As [`noticed_of`], after a quiet time.
    fn after_quiet(quiet: u64, good: u64, bad: u64) -> Noticed {
        let both = noticed_of(good, bad);
        Noticed {
            quiet: noticed_of(quiet, 0).good,
            written: 300,
            ..both
        }
    }

    /// Goal: good and bad times are held to the quiet one before, none of whose messages may be missing; one of a few
    /// milliseconds counts as the floor, and one on a busy machine proves nothing. Method: at and beyond each bound.
    #[test]
    fn both_times_are_held_to_the_quiet_one() {
        assert!(after_quiet(50, 60, 60).holds_to_quiet());
        assert!(!after_quiet(50, 61, 60).holds_to_quiet(), "good");
        assert!(!after_quiet(50, 60, 61).holds_to_quiet(), "bad");
        // Percentiles of 9.9, 19.8 and 29.7 ms, where the floor lets pass 24.
        assert!(after_quiet(1, 2, 2).holds_to_quiet());
        assert!(!after_quiet(1, 2, 3).holds_to_quiet());
        assert!(!after_quiet(200, 10, 10).holds_to_quiet(), "too busy");
        assert!(!noticed_of(10, 10).holds_to_quiet(), "no quiet time");
        let mut lost = after_quiet(50, 50, 50);
        lost.quiet.pop();
        assert!(!lost.holds_to_quiet());
    }

    /// Goal: what is told has the quiet, good and bad percentiles and the ratios of them as they were, beside what the floor
    /// makes of them. Method: a quiet time below the floor.
    #[test]
    fn ratios_are_told_as_they_were() {
        // Percentiles of 4.95, 4.95 and 23.76 ms.
        let mut found = after_quiet(1, 1, 2);
        for time in found.quiet.iter_mut().chain(&mut found.good) {
            *time /= 2;
        }
        for time in &mut found.bad {
            *time = *time * 6 / 5;
        }
        assert!(found.holds_to_quiet());
        let told = found.to_string();
        for part in [
            "p99 5.0 ms in the quiet time before, 5.0 ms in good times, 23.8 ms in bad ones",
            "1.00 and 4.80 times the quiet one as it was",
            "counts as 20.0 ms (0.25 and 1.19 times that)",
        ] {
            assert!(told.contains(part), "{told}");
        }
    }

    /// Goal: the 99th percentiles are compared, and what did not arrive counts. Method: at and beyond the bound, and
    /// one message too few.
    #[test]
    fn the_bound_is_on_the_99th_percentile() {
        let equal = noticed_of(10, 12);
        assert_eq!(Noticed::p99(&equal.good), Duration::from_millis(99));
        assert!(equal.holds(RATIO_MAX_PERCENT));
        assert!(!noticed_of(10, 13).holds(RATIO_MAX_PERCENT));
        assert!(
            !noticed_of(200, 200).holds(RATIO_MAX_PERCENT),
            "too busy to judge"
        );
        let mut lost = noticed_of(10, 10);
        lost.bad.pop();
        assert!(!lost.holds(RATIO_MAX_PERCENT));
    }

    /// Goal: a message counts for the time in which it was written, the quiet one too, and the bad peer's own not at
    /// all. Method: a record of three writers.
    #[test]
    fn messages_are_sorted_by_time() {
        let record = Record::default();
        for (number, writer) in [(1, "w0"), (2, "w0"), (3, "w1"), (3, "w9"), (4, "w0")] {
            let text = format!("{number:06} from {writer}");
            record.written(&text, writer);
            record.shown(&text);
        }
        let entries = record.entries();
        let mut found = noticed(&entries, &[(2, true), (4, false)], "w9");
        assert_eq!(
            (found.bad.len(), found.good.len(), found.written),
            (2, 1, 3)
        );
        found.hear_quiet(&entries, 1..=1, "w9");
        assert_eq!((found.quiet.len(), found.written), (1, 4));
        found.hear_quiet(&entries, 3..=3, "w9");
        assert_eq!((found.quiet.len(), found.written), (2, 5));
    }
}
