//! People at all nodes of an organisation and at a partner's homeserver, who write to each other while the worst happens to
//! nodes and database; and what became of what they wrote, by a record that none of it reaches.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::organisation::Organisation;
use crate::failure::Result;
use crate::ports::free_address;
use crate::trial::checks::Control;
use crate::trial::ground::Ground;
use crate::trial::homeserver::{Homeserver, Plan};
use crate::trial::person::{Person, Talking};
use crate::trial::record::{Entries, Record, Served};
use crate::trial::stage::{agree, introduce};
use crate::trial::traffic::{DRAIN_MAX, Traffic};

/// How long everybody may wait for a first text to be accepted, and for it to be shown, after a fault.
pub(super) const BACK_MAX: Duration = Duration::from_secs(10);
/// How long it is looked for: later than that is told by how much.
const LOOKED_FOR: Duration = Duration::from_secs(30);
/// How long texts are written before the first fault, between two, and after the last one.
const AROUND: Duration = Duration::from_secs(3);
/// Between two texts of one person.
const PACE: Duration = Duration::from_millis(100);
/// Fewer texts than this are no traffic.
pub(super) const WRITTEN_MIN: usize = 500;
/// Couples of the organisation, each by their nodes.
const INSIDE: [(usize, usize); 2] = [(0, 1), (1, 2)];
/// Those who have somebody to write to at the partner's.
const ACROSS: [usize; 2] = [0, 2];
/// Who writes to somebody who is away all the time, and that one: what waits in a store is to be kept too.
const AWAY: (usize, usize) = (1, 2);

/// What the control of the checker itself is without.
const ONE_DELIVERY: &str = "one delivery on record, and with another one twice";

/// An organisation, its partner and their people.
pub(super) struct Scene {
    // In this order: clients end before their homeservers.
    talking: Vec<Talking>,
    away: Person,
    writes_to_him: String,
    pub(super) organisation: Organisation,
    _partner: Homeserver,
    inside: Vec<String>,
    across: Vec<String>,
    record: Arc<Record>,
    number: u32,
    /// Texts that a client took no more.
    not_taken: usize,
    services: Vec<Service>,
}

/// How long after a fault the last one had the first text accepted, and shown to whom it was for: within the
/// organisation, and between it and the partner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Service {
    inside: Served,
    across: Served,
}

/// What it all came to.
pub(super) struct Outcome {
    pub(super) traffic: Traffic,
    entries: Entries,
    faults: usize,
    service: Service,
    started_again: usize,
    not_taken: usize,
}

impl Scene {
    /// Sets it: everybody is on line and writes.
    pub(super) fn set(
        ground: &Ground<'_>,
        name: &str,
        fault: Option<&'static str>,
        waits_for_standby: bool,
    ) -> Result<Self> {
        let folder = ground.folder(name)?;
        let mut organisation = Organisation::found(ground, &folder, fault, waits_for_standby)?;
        let partner = Homeserver::start_new(Plan {
            name: "b.example",
            binaries: &ground.binaries,
            program: &ground.homeserver(None),
            fault: None,
            namespace: None,
            client: free_address()?.to_string(),
            federation: free_address()?.to_string(),
            folder: folder.join("b"),
        })?;
        agree(organisation.node(0)?, &partner, &folder, None)?;

        let record = Arc::new(Record::default());
        let mut enrol = |node: usize, name: String| -> Result<Person> {
            Person::enrol(organisation.node(node)?, &name, &ground.binaries)
        };
        let mut talking = Vec::new();
        let mut talk = |one: &Person, other: &Person| -> Result<[String; 2]> {
            introduce(one, other)?;
            talking.push(one.talk(&other.address, &record)?);
            talking.push(other.talk(&one.address, &record)?);
            Ok([one.name.clone(), other.name.clone()])
        };
        let (mut inside, mut across) = (Vec::new(), Vec::new());
        for (number, (one, other)) in INSIDE.into_iter().enumerate() {
            let one = enrol(one, format!("one{number}"))?;
            let other = enrol(other, format!("other{number}"))?;
            inside.extend(talk(&one, &other)?);
        }
        for (number, node) in ACROSS.into_iter().enumerate() {
            let here = enrol(node, format!("here{number}"))?;
            let there = Person::enrol(&partner, &format!("there{number}"), &ground.binaries)?;
            across.extend(talk(&here, &there)?);
        }
        let writer = enrol(AWAY.0, "writer".to_owned())?;
        let away = enrol(AWAY.1, "away".to_owned())?;
        introduce(&writer, &away)?;
        talking.push(writer.talk(&away.address, &record)?);

        let mut scene = Self {
            talking,
            away,
            writes_to_him: writer.address,
            organisation,
            _partner: partner,
            inside,
            across,
            record,
            number: 0,
            not_taken: 0,
            services: Vec::new(),
        };
        scene.write_for(AROUND)?;
        scene.record.wait_shown(1, DRAIN_MAX)?;
        Ok(scene)
    }

    /// Everybody writes for a while.
    pub(super) fn write_for(&mut self, time: Duration) -> Result {
        let begun = Instant::now();
        let mut next = Duration::ZERO;
        while next < time {
            self.number = self.number.saturating_add(1);
            for person in &mut self.talking {
                if person.say(self.number).is_err() {
                    // He is counted, and the others go on.
                    self.not_taken = self.not_taken.saturating_add(1);
                }
            }
            self.organisation.supervise()?;
            next = next.saturating_add(PACE);
            // Late is made up for: the pace holds on average.
            thread::sleep(next.saturating_sub(begun.elapsed()));
        }
        Ok(())
    }

    /// Something happens, and everybody writes until all are served again, and some time more; the moment at which it
    /// happened.
    pub(super) fn suffer(
        &mut self,
        fault: impl FnOnce(&mut Organisation) -> Result,
    ) -> Result<Instant> {
        let moment = Instant::now();
        fault(&mut self.organisation)?;
        let service = loop {
            self.write_for(PACE.saturating_mul(2))?;
            let service = Service::of(
                &self.record.entries().served_since(moment),
                &self.inside,
                &self.across,
            );
            if service.is_whole() || moment.elapsed() > LOOKED_FOR {
                break service;
            }
        };
        self.services.push(service);
        self.write_for(AROUND)?;
        Ok(moment)
    }

    /// Whoever was away comes on line, and everything has its time to arrive.
    pub(super) fn end(self) -> Result<Outcome> {
        let comes = self.away.talk(&self.writes_to_him, &self.record)?;
        let traffic = Traffic::drained(&self.record);
        drop(comes);
        Ok(Outcome {
            entries: self.record.entries(),
            traffic,
            faults: self.services.len(),
            service: Service::worst(&self.services),
            started_again: self.organisation.started_again,
            not_taken: self.not_taken,
        })
    }
}

impl Service {
    fn of(served: &BTreeMap<String, Served>, inside: &[String], across: &[String]) -> Self {
        let of = |people: &[String]| {
            let each = people.iter().map(|name| served.get(name).copied());
            last(each.map(Option::unwrap_or_default))
        };
        Self {
            inside: of(inside),
            across: of(across),
        }
    }

    fn worst(services: &[Self]) -> Self {
        Self {
            inside: last(services.iter().map(|service| service.inside)),
            across: last(services.iter().map(|service| service.across)),
        }
    }

    fn times(self) -> [Option<Duration>; 4] {
        let Self { inside, across } = self;
        [inside.accepted, inside.shown, across.accepted, across.shown]
    }

    fn is_whole(self) -> bool {
        self.times().iter().all(Option::is_some)
    }

    fn is_back_in_time(self) -> bool {
        let in_time = |time: Option<Duration>| time.is_some_and(|time| time <= BACK_MAX);
        self.times().into_iter().all(in_time)
    }
}

/// The last of them; none as soon as one is missing, or where there is nobody.
fn last(each: impl Iterator<Item = Served>) -> Served {
    let later = |one: Option<Duration>, other: Option<Duration>| Some(one?.max(other?));
    let both = |one: Served, other: Served| Served {
        accepted: later(one.accepted, other.accepted),
        shown: later(one.shown, other.shown),
    };
    each.reduce(both).unwrap_or_default()
}

impl Outcome {
    pub(super) fn holds(&self) -> bool {
        self.traffic.holds(WRITTEN_MIN) && self.not_taken == 0 && self.service.is_back_in_time()
    }

    /// The control of the checker: the same record, once without a delivery and once with one twice.
    pub(super) fn spoilt(&self) -> Control {
        let judged = |entries: Entries| Traffic {
            tally: entries.tally(),
            drained: self.traffic.drained,
        };
        let lost = judged(self.entries.clone().without_one_delivery());
        let twice = judged(self.entries.clone().with_one_delivery_twice());
        Control {
            without: ONE_DELIVERY,
            got: format!("{lost}; and {twice}"),
            ok: lost.holds(WRITTEN_MIN) || twice.holds(WRITTEN_MIN),
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}; after the worst of {} faults {}",
            self.traffic, self.faults, self.service
        )?;
        if self.started_again > 0 {
            write!(
                f,
                "; nodes ended by themselves and were started again {} times",
                self.started_again
            )?;
        }
        if self.not_taken > 0 {
            write!(f, "; {} texts that no client took", self.not_taken)?;
        }
        Ok(())
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let told = |time: Option<Duration>| match time {
            Some(time) => format!("within {:.1} s", time.as_secs_f64()),
            None => "not for everybody".to_owned(),
        };
        let [inside_accepted, inside_shown, across_accepted, across_shown] = self.times().map(told);
        write!(
            f,
            "texts inside were accepted {inside_accepted} and shown {inside_shown}, those between the organisations \
             {across_accepted} and {across_shown}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn served(accepted_ms: u64, shown_ms: u64) -> Served {
        Served {
            accepted: Some(Duration::from_millis(accepted_ms)),
            shown: Some(Duration::from_millis(shown_ms)),
        }
    }

    /// Goal: service is back when the last one is served, and not before; too late is too late. Method: people who are
    /// served at different times, one of them not at all, then at the bound and behind it.
    #[test]
    fn service_is_that_of_the_last() {
        let mut people = BTreeMap::from([
            ("a".to_owned(), served(100, 900)),
            ("b".to_owned(), served(300, 400)),
            ("c".to_owned(), served(10_000, 10_000)),
        ]);
        let group = |names: [&str; 2]| names.map(str::to_owned);
        let service = Service::of(&people, &group(["a", "b"]), &group(["b", "c"]));
        assert_eq!(service.inside, served(300, 900));
        assert_eq!(service.across, served(10_000, 10_000));
        assert!(service.is_whole() && service.is_back_in_time());
        let missing = Service::of(&people, &group(["a", "d"]), &group(["b", "c"]));
        assert_eq!(missing.inside, Served::default());
        assert!(!missing.is_whole() && !missing.is_back_in_time());
        let none = Service::worst(&[service, missing]);
        assert!(!none.is_whole());
        people.insert("c".to_owned(), served(10_000, 10_001));
        let late = Service::of(&people, &group(["a", "b"]), &group(["b", "c"]));
        assert!(late.is_whole() && !late.is_back_in_time());
        assert_eq!(Service::worst(&[]), Service::default());
    }
}
