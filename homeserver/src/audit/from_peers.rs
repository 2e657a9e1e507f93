//! Events that a peer brings about within the acts that it asks for, as often as it likes: the first of a
//! minute are written with their act, the rest are counted, and one entry tells the count.
//!
//! What is told apart is bounded by agreements, actions and codes; subjects are not told apart, for a peer
//! names as many as it likes.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Mutex, PoisonError};

use federation_proto::ids::ServerName;
use federation_proto::refusal::RefusalCode;

use super::{Actor, Event, record};
use crate::store::Part;

const WINDOW_MS: u64 = 60 * 1000;
/// Refusals of one peer, of one action and code, that are written in one window. With the count of the
/// rest there are twenty.
const REFUSALS_LISTED_MAX: u32 = 19;
/// Changes of one action that are written in one window: people who come and go matter more to whoever
/// reads the log, and a peer that moves in many at once is nothing bad yet.
const CHANGES_LISTED_MAX: u32 = 300;

/// An event that a peer has brought about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerEvent {
    /// The peer.
    pub peer: ServerName,
    /// Why, where something was refused or given up: each code has its own count.
    pub code: Option<RefusalCode>,
    /// What is written.
    pub event: Event,
}

type Key = (ServerName, &'static str, Option<RefusalCode>);

/// What became of an event; see [`FromPeers::take_back`].
#[derive(Debug)]
pub struct Noted {
    key: Key,
    written: bool,
    /// How many of the window before were told with it.
    told: u64,
}

struct Seen {
    since_ms: u64,
    written: u32,
    left_out: u64,
    actor: Actor,
}

impl Seen {
    fn is_over(&self, now_ms: u64) -> bool {
        // A clock that was set back must not silence it.
        now_ms.abs_diff(self.since_ms) >= WINDOW_MS
    }
}

/// What peers have brought about in this minute. In memory: a restart forgets a count of what was not
/// written, and nothing else.
#[derive(Default)]
pub struct FromPeers {
    seen: Mutex<HashMap<Key, Seen>>,
}

impl FromPeers {
    /// Adds the event to the act's part, or counts it when it came too often.
    pub fn record(&self, part: &mut Part, noted: PeerEvent) -> Noted {
        let PeerEvent { peer, code, event } = noted;
        let listed_max = match code {
            Some(_) => REFUSALS_LISTED_MAX,
            None => CHANGES_LISTED_MAX,
        };
        let key = (peer, event.action, code);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let now = match seen.entry(key.clone()) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => new.insert(Seen {
                since_ms: event.at_ms,
                written: 0,
                left_out: 0,
                actor: event.actor.clone(),
            }),
        };
        let mut told = 0;
        if now.is_over(event.at_ms) {
            if let Some(count) = count_of(&key, now, event.at_ms) {
                record(part, &count);
            }
            told = std::mem::take(&mut now.left_out);
            now.since_ms = event.at_ms;
            now.written = 0;
        }
        let written = now.written < listed_max;
        if written {
            now.written = now.written.saturating_add(1);
            record(part, &event);
        } else {
            now.left_out = now.left_out.saturating_add(1);
        }
        Noted { key, written, told }
    }

    /// The part was not written, and its acts are judged anew: what was noted has not happened.
    pub fn take_back(&self, noted: Vec<Noted>) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        for noted in noted {
            let Some(now) = seen.get_mut(&noted.key) else {
                continue;
            };
            if noted.written {
                now.written = now.written.saturating_sub(1);
            } else {
                now.left_out = now.left_out.saturating_sub(1);
            }
            now.left_out = now.left_out.saturating_add(noted.told);
        }
    }

    /// The counts of all windows that are over by `now_ms`, as events.
    pub(super) fn ended(&self, now_ms: u64) -> Vec<Event> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.extract_if(|_, seen| seen.is_over(now_ms))
            .filter_map(|(key, seen)| count_of(&key, &seen, now_ms))
            .collect()
    }
}

/// What tells of those that were not written.
fn count_of((peer, action, code): &Key, seen: &Seen, at_ms: u64) -> Option<Event> {
    let which = code.map_or_else(String::new, |code| format!("{code}: "));
    (seen.left_out > 0).then(|| Event {
        at_ms,
        actor: seen.actor.clone(),
        action,
        subject: peer.to_string(),
        detail: format!(
            "{which}{} more within a minute, not listed each",
            seen.left_out
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(peer: &str, at_ms: u64) -> PeerEvent {
        let peer: ServerName = peer.parse().unwrap();
        PeerEvent {
            code: Some(RefusalCode::Malformed),
            event: Event {
                at_ms,
                actor: Actor::Peer(peer.clone()),
                action: "test.refused",
                subject: at_ms.to_string(),
                detail: String::new(),
            },
            peer,
        }
    }

    /// Goal: a peer's flood leaves twenty entries a minute that tell of all of it, and another peer's events are
    /// written meanwhile; by thousands within two minutes.
    #[test]
    fn a_flood_is_counted() {
        let events = FromPeers::default();
        let mut part = Part::default();
        for at in 0..5_000 {
            events.record(&mut part, event("a.example", at));
        }
        assert_eq!(part.writes.len(), 19);
        events.record(&mut part, event("b.example", 5_000));
        assert_eq!(part.writes.len(), 20);
        let mut changed = event("a.example", 5_001);
        changed.code = None;
        events.record(&mut part, changed);
        assert_eq!(part.writes.len(), 21, "another kind");
        assert_eq!(events.ended(WINDOW_MS - 1), []);
        // The next one tells of those before.
        events.record(&mut part, event("a.example", WINDOW_MS));
        assert_eq!(part.writes.len(), 23);
        for at in 0..100 {
            events.record(&mut part, event("a.example", WINDOW_MS + at));
        }
        let told = events.ended(2 * WINDOW_MS);
        assert_eq!(told.len(), 1, "{told:?}");
        assert_eq!(
            told[0].detail,
            "malformed: 82 more within a minute, not listed each"
        );
        assert_eq!(told[0].actor, Actor::Peer("a.example".parse().unwrap()));
        events.ended(3 * WINDOW_MS);
        assert!(events.seen.lock().unwrap().is_empty());
    }

    /// Goal: what is judged anew is neither counted twice nor forgotten; by parts that were not written.
    #[test]
    fn what_was_not_written_is_taken_back() {
        let events = FromPeers::default();
        let note = |from: u64| {
            let mut part = Part::default();
            let noted =
                (from..from + 30).map(|at| events.record(&mut part, event("a.example", at)));
            let noted: Vec<_> = noted.collect();
            (part.writes.len(), noted)
        };
        for _ in 0..3 {
            let (written, noted) = note(0);
            assert_eq!(written, 19);
            events.take_back(noted);
        }
        note(0);
        let (written, noted) = note(WINDOW_MS);
        assert_eq!(written, 20, "and the count of eleven");
        events.take_back(noted);
        let told = events.ended(2 * WINDOW_MS);
        assert!(told[0].detail.contains(" 11 more"), "{told:?}");
    }
}
