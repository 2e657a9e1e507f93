//! Who wrote what and who was shown what, kept outside of everything that is killed.
//!
//! A text is unique, so a message that arrives under another id counts as a duplicate too.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::failure::{Failure, Result};

/// What the record says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Tally {
    pub(super) written: usize,
    pub(super) accepted: usize,
    pub(super) lost: usize,
    pub(super) duplicated: usize,
    pub(super) out_of_order: usize,
    pub(super) returned: usize,
}

impl Tally {
    /// Nothing was lost, shown twice, out of order or returned, and something was accepted at all.
    pub(super) const fn holds(&self) -> bool {
        self.accepted > 0
            && self.lost == 0
            && self.duplicated == 0
            && self.out_of_order == 0
            && self.returned == 0
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} written, {} accepted, {} lost, {} duplicated, {} out of order, {} returned",
            self.written,
            self.accepted,
            self.lost,
            self.duplicated,
            self.out_of_order,
            self.returned
        )
    }
}

/// How long after a moment a person's first text was accepted, and the first one was shown to whom it was for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Served {
    pub(super) accepted: Option<Duration>,
    pub(super) shown: Option<Duration>,
}

fn earlier(one: Option<Duration>, other: Option<Duration>) -> Option<Duration> {
    one.into_iter().chain(other).min()
}

/// What happened, in the order in which it was seen.
#[derive(Debug, Clone, Default)]
pub(super) struct Entries {
    /// Text to its sender.
    pub(super) written: BTreeMap<String, String>,
    /// Message id to its text.
    ids: HashMap<String, String>,
    /// Message id to the moment at which the sender was first told.
    accepted: BTreeMap<String, Instant>,
    returned: usize,
    /// Texts as receivers were shown them.
    pub(super) shown: Vec<String>,
    /// When each was written, and how long it took until it was first shown.
    written_at: HashMap<String, Instant>,
    pub(super) took: BTreeMap<String, Duration>,
}

impl Entries {
    /// Counts. What was accepted and never shown is lost; order is judged per sender.
    pub(super) fn tally(&self) -> Tally {
        let mut times: HashMap<&str, usize> = HashMap::new();
        let mut last: HashMap<&str, &str> = HashMap::new();
        let mut out_of_order = 0_usize;
        for text in &self.shown {
            let seen = times.entry(text).or_default();
            *seen = seen.saturating_add(1);
            if let (1, Some(sender)) = (*seen, self.written.get(text)) {
                // Texts begin with a number of constant width.
                let before = last.insert(sender.as_str(), text);
                if before.is_some_and(|before| before > text.as_str()) {
                    out_of_order = out_of_order.saturating_add(1);
                }
            }
        }
        let accepted: Vec<&String> = self
            .accepted
            .keys()
            .filter_map(|id| self.ids.get(id))
            // A client also shows what was said before the record began.
            .filter(|text| self.written.contains_key(*text))
            .collect();
        Tally {
            written: self.written.len(),
            accepted: accepted.len(),
            lost: accepted
                .iter()
                .filter(|text| !times.contains_key(text.as_str()))
                .count(),
            duplicated: times.values().map(|seen| seen.saturating_sub(1)).sum(),
            out_of_order,
            returned: self.returned,
        }
    }

    /// Whether the last text of every sender was accepted and shown.
    fn is_settled(&self) -> bool {
        // Texts begin with a number of constant width, so the greatest is the last.
        let mut last: HashMap<&str, &String> = HashMap::new();
        for (text, sender) in &self.written {
            last.insert(sender, text);
        }
        let shown: HashSet<&String> = self.shown.iter().collect();
        let accepted = self.accepted_texts();
        last.values()
            .all(|text| shown.contains(*text) && accepted.contains(*text))
    }

    fn accepted_texts(&self) -> HashSet<&String> {
        self.accepted
            .keys()
            .filter_map(|id| self.ids.get(id))
            .collect()
    }

    /// How each person is served since a moment, by what was written after it alone: what was under way before may still
    /// arrive while nothing new is taken.
    pub(super) fn served_since(&self, moment: Instant) -> BTreeMap<String, Served> {
        let mut served: BTreeMap<String, Served> = BTreeMap::new();
        for (text, person) in &self.written {
            if !self.is_since(text, moment) {
                continue;
            }
            let shown = self.written_at.get(text).zip(self.took.get(text));
            let shown = shown.map(|(at, took)| at.duration_since(moment).saturating_add(*took));
            let served = served.entry(person.clone()).or_default();
            served.shown = earlier(served.shown, shown);
        }
        for (id, at) in &self.accepted {
            let text = self.ids.get(id).filter(|text| self.is_since(text, moment));
            if let Some(person) = text.and_then(|text| self.written.get(text)) {
                let served = served.entry(person.clone()).or_default();
                served.accepted = earlier(served.accepted, Some(at.duration_since(moment)));
            }
        }
        served
    }

    fn is_since(&self, text: &str, moment: Instant) -> bool {
        self.written_at.get(text).is_some_and(|at| *at >= moment)
    }

    /// The same without one delivery of a text that was accepted: what the checker has to notice.
    pub(super) fn without_one_delivery(mut self) -> Self {
        let accepted = self.accepted_texts();
        let place = self.shown.iter().rposition(|text| accepted.contains(text));
        if let Some(place) = place {
            let text = self.shown.remove(place);
            self.shown.retain(|other| *other != text);
        }
        self
    }

    /// The same with one delivery made twice: what the checker has to notice.
    pub(super) fn with_one_delivery_twice(mut self) -> Self {
        self.shown.extend(self.shown.last().cloned());
        self
    }

    /// Whether everything written was accepted and shown.
    fn is_drained(&self) -> bool {
        let shown: HashSet<&String> = self.shown.iter().collect();
        let accepted = self.accepted_texts();
        self.written
            .keys()
            .all(|text| shown.contains(text) && accepted.contains(text))
    }
}

/// A record that many threads write to.
#[derive(Default)]
pub(super) struct Record {
    entries: Mutex<Entries>,
    changed: Condvar,
}

impl Record {
    /// A text is about to be written.
    pub(super) fn written(&self, text: &str, by: &str) {
        self.change(|entries| {
            entries.written.insert(text.to_owned(), by.to_owned());
            entries.written_at.insert(text.to_owned(), Instant::now());
        });
    }

    /// A text got its id.
    pub(super) fn identified(&self, id: &str, text: &str) {
        self.change(|entries| {
            entries.ids.insert(id.to_owned(), text.to_owned());
        });
    }

    /// The sender's homeserver says that it has it.
    pub(super) fn accepted(&self, id: &str) {
        self.change(|entries| {
            let first = entries.accepted.entry(id.to_owned());
            first.or_insert_with(Instant::now);
        });
    }

    /// It came back.
    pub(super) fn returned(&self) {
        self.change(|entries| entries.returned = entries.returned.saturating_add(1));
    }

    /// A receiver was shown it; what was not written for the record is not its business.
    pub(super) fn shown(&self, text: &str) {
        self.change(|entries| {
            if entries.written.contains_key(text) {
                entries.shown.push(text.to_owned());
                if let Some(at) = entries.written_at.get(text) {
                    let took = at.elapsed();
                    entries.took.entry(text.to_owned()).or_insert(took);
                }
            }
        });
    }

    /// A copy of everything so far.
    pub(super) fn entries(&self) -> Entries {
        self.lock().clone()
    }

    /// Waits until so many texts were shown; fails after `patience` without.
    pub(super) fn wait_shown(&self, count: usize, patience: Duration) -> Result {
        self.wait(patience, |entries| entries.shown.len() >= count)
            .then_some(())
            .ok_or_else(|| {
                Failure::DidNotHold(format!(
                    "fewer than {count} messages were shown within {patience:?}"
                ))
            })
    }

    /// Waits until everything written was accepted and shown; says whether that came about. What is missing before
    /// each sender's last text, when that is shown, does not come any more: what one sender writes arrives in order.
    pub(super) fn wait_drained(&self, patience: Duration) -> bool {
        self.wait(patience, |entries| {
            entries.is_drained() || entries.is_settled()
        });
        self.entries().is_drained()
    }

    fn wait(&self, patience: Duration, enough: impl Fn(&Entries) -> bool) -> bool {
        let deadline = Instant::now() + patience;
        let mut entries = self.lock();
        while !enough(&entries) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            entries = self
                .changed
                .wait_timeout(entries, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        true
    }

    fn change(&self, change: impl FnOnce(&mut Entries)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        let record = Record::default();
        for (id, text) in [("1", "0001 a"), ("2", "0002 a"), ("3", "0003 a")] {
            record.written(text, "a");
            record.identified(id, text);
            record.accepted(id);
            record.shown(text);
        }
        record
    }

    /// Goal: the checker notices each kind of fault. Method: spoil a good record in one place.
    #[test]
    fn faults_are_noticed() {
        let good = record().entries();
        assert!(good.tally().holds());
        let mut lost = good.clone();
        lost.shown.pop();
        assert_eq!(lost.tally().lost, 1);
        let mut twice = good.clone();
        twice.shown.push("0001 a".to_owned());
        assert_eq!(
            (twice.tally().duplicated, twice.tally().out_of_order),
            (1, 0)
        );
        let mut turned = good;
        turned.shown.swap(0, 1);
        assert_eq!(turned.tally().out_of_order, 1);
        assert!(!lost.tally().holds() && !twice.tally().holds() && !turned.tally().holds());
    }

    /// Goal: a person counts as served by what he wrote after the moment, not by what was under way; and whoever is not
    /// served shows. Method: a text before the moment, accepted after it, one after it, and one that nobody has taken.
    #[test]
    fn service_counts_from_the_moment() {
        let record = record();
        record.written("0004 a", "a");
        let moment = Instant::now();
        record.identified("4", "0004 a");
        record.accepted("4");
        record.shown("0004 a");
        assert!(record.entries().served_since(moment).is_empty());
        record.written("0005 a", "a");
        record.written("0005 b", "b");
        let unserved = record.entries().served_since(moment);
        assert_eq!(unserved["a"], Served::default());
        assert_eq!(unserved["b"], Served::default());
        record.identified("5", "0005 a");
        record.accepted("5");
        record.shown("0005 a");
        let served = record.entries().served_since(moment);
        let (accepted, shown) = (served["a"].accepted, served["a"].shown);
        let longest = Some(moment.elapsed());
        assert!(accepted.is_some() && shown.is_some() && accepted <= longest && shown <= longest);
        assert_eq!(served["b"], Served::default());
    }

    /// Goal: what spoils a record on purpose does, and the checker notices. Method: a good one, spoilt.
    #[test]
    fn a_spoilt_record_is_noticed() {
        let lost = record().entries().without_one_delivery().tally();
        assert_eq!((lost.lost, lost.duplicated), (1, 0));
        let twice = record().entries().with_one_delivery_twice().tally();
        assert_eq!((twice.lost, twice.duplicated), (0, 1));
        assert!(!lost.holds() && !twice.holds());
    }

    /// Goal: waiting ends early where what is missing can't come any more, and says that it is missing; it does not
    /// end while the last text may come. Method: leave out a text in the middle, and the last one.
    #[test]
    fn a_gap_before_the_last_text_is_final() {
        let patience = Duration::from_millis(1);
        assert!(record().wait_drained(patience));
        let gap = record();
        gap.change(|entries| drop(entries.shown.remove(1)));
        assert!(gap.entries().is_settled() && !gap.wait_drained(Duration::from_secs(3600)));
        let open = record();
        open.change(|entries| drop(entries.shown.pop()));
        assert!(!open.entries().is_settled() && !open.wait_drained(patience));
    }
}
