//! Events that strangers and guessers bring about as often as they like: the first few of a minute are
//! written, the rest are counted, and one entry tells the count once the minute is over.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::{Actor, Event, record};
use crate::store::{Part, Store, StoreError};

const WINDOW_MS: u64 = 60 * 1000;
/// Events of one action about one subject that are written in one window.
const ENTRIES_PER_WINDOW_MAX: u32 = 5;
/// Subjects that are told apart at a time; all further ones of an action share one.
const SUBJECTS_MAX: usize = 256;
/// What the shared one is called.
const OTHERS: &str = "others";

type Key = (&'static str, String);

struct Seen {
    since_ms: u64,
    written: u32,
    left_out: u64,
}

/// What was written and counted in this minute.
#[derive(Default)]
pub struct Repeated {
    seen: Mutex<HashMap<Key, Seen>>,
}

impl Repeated {
    /// Writes `event`, which is no part of an act, or counts it when it came too often.
    pub async fn note(&self, store: &Store, event: Event) -> Result<(), StoreError> {
        let mut part = Part::default();
        for event in self.due(event) {
            record(&mut part, &event);
        }
        if !part.writes.is_empty() {
            store.commit(part).await?;
        }
        Ok(())
    }

    /// The counts of all windows that are over by `now_ms`, as events.
    pub(super) fn ended(&self, now_ms: u64) -> Vec<Event> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.extract_if(|_, seen| is_over(seen, now_ms))
            .filter_map(|(key, seen)| told(key, &seen, now_ms))
            .collect()
    }

    /// What is to be written now that `event` has happened.
    fn due(&self, event: Event) -> Vec<Event> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let mut key = (event.action, event.subject.clone());
        if seen.len() >= SUBJECTS_MAX && !seen.contains_key(&key) {
            key.1 = OTHERS.to_owned();
        }
        let mut due = Vec::new();
        if seen
            .get(&key)
            .is_some_and(|seen| is_over(seen, event.at_ms))
        {
            let over = seen.remove(&key);
            due.extend(over.and_then(|over| told(key.clone(), &over, event.at_ms)));
        }
        let now = seen.entry(key).or_insert(Seen {
            since_ms: event.at_ms,
            written: 0,
            left_out: 0,
        });
        if now.written < ENTRIES_PER_WINDOW_MAX {
            now.written += 1;
            due.push(event);
        } else {
            now.left_out = now.left_out.saturating_add(1);
        }
        due
    }
}

fn is_over(seen: &Seen, now_ms: u64) -> bool {
    now_ms >= seen.since_ms.saturating_add(WINDOW_MS)
}

fn told((action, subject): Key, seen: &Seen, at_ms: u64) -> Option<Event> {
    (seen.left_out > 0).then(|| Event {
        at_ms,
        actor: Actor::System,
        action,
        subject,
        detail: format!("{} more within a minute, not listed each", seen.left_out),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn knock(repeated: &Repeated, subject: &str, at_ms: u64) -> Vec<Event> {
        repeated.due(Event {
            at_ms,
            actor: Actor::System,
            action: "test.knocked",
            subject: subject.to_owned(),
            detail: String::new(),
        })
    }

    /// Goal: a stranger that knocks without end gets a few entries and a count a minute, no count is
    /// lost and nothing is kept of it afterwards; by knocking.
    #[test]
    fn knocking_does_not_fill_the_log() {
        let repeated = Repeated::default();
        let written: usize = (0..100).map(|at| knock(&repeated, "c", at).len()).sum();
        assert_eq!(written, 5);
        assert_eq!(knock(&repeated, "d", 100).len(), 1, "another subject");
        assert!(repeated.ended(WINDOW_MS - 1).is_empty());
        let told = repeated.ended(WINDOW_MS);
        assert_eq!(told.len(), 1);
        assert!(told[0].detail.starts_with("95 more"), "{told:?}");
        assert_eq!(told[0].subject, "c");
        repeated.ended(WINDOW_MS + 100);
        assert!(repeated.seen.lock().unwrap().is_empty());
        // Also when nobody asks meanwhile.
        for at in 0..6 {
            knock(&repeated, "c", at);
        }
        assert_eq!(knock(&repeated, "c", WINDOW_MS).len(), 2);
    }

    /// Goal: strangers under ever new names share one count; by ten thousand names.
    #[test]
    fn new_names_share_a_count() {
        let repeated = Repeated::default();
        let written: usize = (0..10_000)
            .map(|number| knock(&repeated, &format!("s{number}"), 1).len())
            .sum();
        assert_eq!(written, SUBJECTS_MAX + 5);
        let told = repeated.ended(2 * WINDOW_MS);
        assert_eq!(told.len(), 1);
        assert_eq!(told[0].subject, OTHERS);
    }
}
