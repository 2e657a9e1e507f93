//! The record of every message: written before it is sent, and again when a receiving client shows
//! it. The verdict is computed from the record alone, and its own ability to notice is tried on a
//! spoilt copy in every run.
//!
//! A message is known by its text, which is unique: a copy that came under another id would count as
//! a duplicate too.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use entente_sdk::MessageId;
use tokio::sync::watch;

use crate::failure::{Failure, Result};

/// Something that happened to a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Entry {
    /// Is about to be sent and must arrive, once.
    Written {
        /// The text.
        text: String,
        /// When.
        at: Instant,
        /// Whether the time until it is shown counts as a latency.
        timed: bool,
    },
    /// Is about to be sent and must never arrive.
    Forbidden {
        /// The text.
        text: String,
    },
    /// Got its id: it is durable at the sender.
    Sent {
        /// The text.
        text: String,
        /// The id.
        message: MessageId,
    },
    /// Is durable on the sender's homeserver.
    Accepted {
        /// The id.
        message: MessageId,
    },
    /// Was returned to its sender as undeliverable.
    Returned {
        /// The id.
        message: MessageId,
        /// Why.
        reason: String,
    },
    /// Was shown to a receiver.
    Shown {
        /// The text.
        text: String,
        /// The id.
        message: MessageId,
        /// When.
        at: Instant,
    },
}

/// What the record says.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Tally {
    /// Messages that had to arrive.
    pub(crate) sent: u64,
    /// Of those, taken by the sender's homeserver.
    pub(crate) accepted: u64,
    /// Of those, shown at least once.
    pub(crate) delivered: u64,
    /// Texts that were never shown.
    pub(crate) lost: Vec<String>,
    /// Texts once for each time they were shown again.
    pub(crate) duplicated: Vec<String>,
    /// Texts that were shown though nobody sent them, or nobody was allowed to, or with another id.
    pub(crate) uninvited: Vec<String>,
    /// Why messages were returned.
    pub(crate) returned: Vec<String>,
    /// From the call to send until shown, of the timed ones.
    pub(crate) latencies: Vec<Duration>,
}

/// Computes what a record says.
pub(crate) fn tally(entries: &[Entry]) -> Tally {
    let mut written = BTreeMap::new();
    let mut ids = HashMap::new();
    let mut accepted = HashSet::new();
    let mut shown: HashMap<&str, Vec<(MessageId, Instant)>> = HashMap::new();
    let mut tally = Tally::default();
    for entry in entries {
        match entry {
            Entry::Written { text, at, timed } => {
                written.insert(text.as_str(), (*at, *timed));
            }
            Entry::Forbidden { .. } => {}
            Entry::Sent { text, message } => {
                ids.insert(text.as_str(), *message);
            }
            Entry::Accepted { message } => {
                accepted.insert(*message);
            }
            Entry::Returned { reason, .. } => tally.returned.push(reason.clone()),
            Entry::Shown { text, message, at } => {
                shown.entry(text).or_default().push((*message, *at));
            }
        }
    }
    for (text, (at, timed)) in &written {
        tally.sent += 1;
        let id = ids.get(text);
        if id.is_some_and(|id| accepted.contains(id)) {
            tally.accepted += 1;
        }
        let Some([first, more @ ..]) = shown.get(text).map(Vec::as_slice) else {
            tally.lost.push((*text).to_owned());
            continue;
        };
        tally.delivered += 1;
        tally
            .duplicated
            .extend(more.iter().map(|_| (*text).to_owned()));
        if id != Some(&first.0) {
            tally.uninvited.push((*text).to_owned());
        }
        if *timed {
            tally.latencies.push(first.1.duration_since(*at));
        }
    }
    let strangers = shown.keys().filter(|text| !written.contains_key(*text));
    tally
        .uninvited
        .extend(strangers.map(|text| (*text).to_owned()));
    tally
}

/// A record that many tasks write to.
#[derive(Clone)]
pub(crate) struct Record {
    log: Arc<Mutex<Log>>,
    changed: Arc<watch::Sender<()>>,
}

/// The entries, and what is asked of them so often that it is kept counted.
#[derive(Default)]
struct Log {
    entries: Vec<Entry>,
    waiting: HashSet<String>,
    ids: HashMap<MessageId, String>,
    accepted: HashSet<MessageId>,
    /// Texts accepted and not yet shown.
    held: HashSet<String>,
    written: u64,
    shown: u64,
}

/// Where things stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Standing {
    /// Messages written so far.
    pub(crate) written: u64,
    /// Times that something was shown.
    pub(crate) shown: u64,
    /// Messages not yet shown.
    pub(crate) waiting: usize,
    /// Of those, messages that the sender's homeserver has accepted.
    pub(crate) held: usize,
}

impl Log {
    /// A message got its id or was accepted, in whichever order.
    fn note_held(&mut self, message: MessageId) {
        if let Some(text) = self.ids.get(&message)
            && self.accepted.contains(&message)
            && self.waiting.contains(text)
        {
            self.held.insert(text.clone());
        }
    }
}

impl Record {
    /// An empty record.
    pub(crate) fn new() -> Self {
        Self {
            log: Arc::default(),
            changed: Arc::new(watch::Sender::new(())),
        }
    }

    /// Adds an entry.
    pub(crate) fn add(&self, entry: Entry) {
        let mut log = self.lock();
        match &entry {
            Entry::Written { text, .. } => {
                log.written += 1;
                log.waiting.insert(text.clone());
            }
            Entry::Shown { text, .. } => {
                log.shown += 1;
                log.waiting.remove(text);
                log.held.remove(text);
            }
            Entry::Sent { text, message } => {
                log.ids.insert(*message, text.clone());
                log.note_held(*message);
            }
            Entry::Accepted { message } => {
                log.accepted.insert(*message);
                log.note_held(*message);
            }
            Entry::Forbidden { .. } | Entry::Returned { .. } => {}
        }
        log.entries.push(entry);
        drop(log);
        self.changed.send_replace(());
    }

    /// Where things stand now.
    pub(crate) fn standing(&self) -> Standing {
        let log = self.lock();
        Standing {
            written: log.written,
            shown: log.shown,
            waiting: log.waiting.len(),
            held: log.held.len(),
        }
    }

    /// Waits until things stand as `enough` wants. Gives up when nothing at all was shown for
    /// `patience`.
    pub(crate) async fn wait(
        &self,
        what: &str,
        patience: Duration,
        mut enough: impl FnMut(Standing) -> bool,
    ) -> Result {
        let mut changed = self.changed.subscribe();
        let mut shown = self.standing().shown;
        let mut deadline = tokio::time::Instant::now() + patience;
        loop {
            let standing = self.standing();
            if enough(standing) {
                return Ok(());
            }
            if standing.shown > shown {
                shown = standing.shown;
                deadline = tokio::time::Instant::now() + patience;
            }
            if tokio::time::timeout_at(deadline, changed.changed())
                .await
                .is_err()
            {
                return Err(self.stalled(what, patience));
            }
        }
    }

    fn stalled(&self, what: &str, patience: Duration) -> Failure {
        let log = self.lock();
        let mut waiting: Vec<&String> = log.waiting.iter().collect();
        waiting.sort();
        let some: Vec<String> = waiting
            .iter()
            .take(5)
            .map(|text| format!("`{text}`"))
            .collect();
        Failure::new(format!(
            "{what}: nothing was shown for {} s, and {} of {} messages still wait, such as {}",
            patience.as_secs(),
            log.waiting.len(),
            log.written,
            some.join(", ")
        ))
    }

    /// All entries so far.
    pub(crate) fn entries(&self) -> Vec<Entry> {
        self.lock().entries.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Log> {
        // A panic elsewhere leaves the log whole: each entry is added at once.
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tries the checker on a spoilt copy of this run's own record: with one message never shown, one
/// shown twice and one that nobody sent, it must find exactly those.
pub(crate) fn checker_notices(entries: &[Entry]) -> Result {
    let clean = tally(entries);
    let mut shown = entries.iter().filter_map(|entry| match entry {
        Entry::Shown { text, message, at } => Some((text, *message, *at)),
        _ => None,
    });
    let (Some((dropped, _, _)), Some((repeated, message, at))) = (shown.next(), shown.next_back())
    else {
        return Err(Failure::new(
            "the record is too short to try the checker on",
        ));
    };
    let mut spoilt: Vec<Entry> = entries
        .iter()
        .filter(|entry| !matches!(entry, Entry::Shown { text, .. } if text == dropped))
        .cloned()
        .collect();
    for text in [repeated.as_str(), "nobody sent this"] {
        spoilt.push(Entry::Shown {
            text: text.to_owned(),
            message,
            at,
        });
    }
    let found = tally(&spoilt);
    if found.lost.len() == clean.lost.len() + 1
        && found.lost.contains(dropped)
        && found.duplicated.len() == clean.duplicated.len() + 1
        && found.duplicated.contains(repeated)
        && found.uninvited.len() == clean.uninvited.len() + 1
    {
        Ok(())
    } else {
        Err(Failure::new(
            "the checker does not notice what is spoilt on purpose: its verdict is worth nothing",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> MessageId {
        MessageId::from_bytes([n; 16])
    }

    /// Three messages, each written, sent, accepted and shown.
    fn good() -> Vec<Entry> {
        let at = Instant::now();
        let shown_at = at + Duration::from_millis(7);
        (1..=3)
            .flat_map(|n| {
                let text = format!("message {n}");
                [
                    Entry::Written {
                        text: text.clone(),
                        at,
                        timed: true,
                    },
                    Entry::Sent {
                        text: text.clone(),
                        message: id(n),
                    },
                    Entry::Accepted { message: id(n) },
                    Entry::Shown {
                        text,
                        message: id(n),
                        at: shown_at,
                    },
                ]
            })
            .collect()
    }

    /// Goal: a clean record is clean, and its numbers are right.
    #[test]
    fn clean() {
        let tally = tally(&good());
        assert_eq!((tally.sent, tally.accepted, tally.delivered), (3, 3, 3));
        assert_eq!(tally.latencies, [Duration::from_millis(7); 3]);
        assert!(tally.lost.is_empty() && tally.duplicated.is_empty() && tally.uninvited.is_empty());
    }

    /// Goal: a message that is not shown is lost, accepted or not; by leaving entries out.
    #[test]
    fn lost() {
        let mut entries = good();
        entries.retain(|entry| !matches!(entry, Entry::Shown { message, .. } if *message == id(2)));
        let found = tally(&entries);
        assert_eq!(found.lost, ["message 2"]);
        assert_eq!((found.sent, found.delivered), (3, 2));
        entries.retain(|entry| !matches!(entry, Entry::Sent { message, .. } if *message == id(2)));
        let found = tally(&entries);
        assert_eq!(found.lost, ["message 2"]);
        assert_eq!(found.accepted, 2);
    }

    /// Goal: a message that is shown again is a duplicate each time, under its own id or another.
    #[test]
    fn duplicated() {
        for other in [3, 9] {
            let mut entries = good();
            for _ in 0..2 {
                entries.push(Entry::Shown {
                    text: "message 3".to_owned(),
                    message: id(other),
                    at: Instant::now(),
                });
            }
            assert_eq!(tally(&entries).duplicated, ["message 3", "message 3"]);
        }
    }

    /// Goal: what was forbidden, what nobody sent, and what came under a wrong id is noticed.
    #[test]
    fn uninvited() {
        let at = Instant::now();
        let mut entries = good();
        entries.push(Entry::Forbidden {
            text: "forbidden".to_owned(),
        });
        assert!(tally(&entries).uninvited.is_empty());
        entries.push(Entry::Shown {
            text: "forbidden".to_owned(),
            message: id(8),
            at,
        });
        assert_eq!(tally(&entries).uninvited, ["forbidden"]);

        let mut entries = good();
        entries.push(Entry::Shown {
            text: "made up".to_owned(),
            message: id(8),
            at,
        });
        assert_eq!(tally(&entries).uninvited, ["made up"]);

        let mut entries = good();
        for entry in &mut entries {
            if let Entry::Shown { message, .. } = entry
                && *message == id(1)
            {
                *message = id(8);
            }
        }
        assert_eq!(tally(&entries).uninvited, ["message 1"]);
    }

    /// Goal: the try on a spoilt copy passes on a clean record, and also on one with real losses.
    #[test]
    fn checker_is_tried() {
        assert!(checker_notices(&good()).is_ok());
        let mut entries = good();
        entries.retain(|entry| !matches!(entry, Entry::Shown { message, .. } if *message == id(2)));
        assert!(checker_notices(&entries).is_ok());
        assert!(checker_notices(&[]).is_err());
    }

    /// Goal: what is accepted and not yet shown is counted, whatever order its entries come in; by
    /// following the count.
    #[test]
    fn held() {
        let orders = [[1, 2, 3], [2, 1, 3], [1, 3, 2]];
        for (order, expected) in orders.into_iter().zip([[0, 1, 0], [0, 1, 0], [0, 0, 0]]) {
            let record = Record::new();
            let entries = good();
            record.add(entries[0].clone());
            for (at, held) in order.into_iter().zip(expected) {
                record.add(entries[at].clone());
                assert_eq!(record.standing().held, held, "{order:?}");
            }
        }
    }

    /// Goal: waiting ends when the last message is shown, and gives up when nothing moves; in
    /// virtual time.
    #[tokio::test(start_paused = true)]
    async fn waiting() {
        let record = Record::new();
        let patience = Duration::from_secs(30);
        let drained = |standing: Standing| standing.waiting == 0;
        record.add(Entry::Written {
            text: "one".to_owned(),
            at: Instant::now(),
            timed: false,
        });
        let failure = record
            .wait("draining", patience, drained)
            .await
            .expect_err("nothing moves");
        assert!(failure.to_string().contains("`one`"), "{failure}");
        let shown = async {
            tokio::time::sleep(patience / 2).await;
            record.add(Entry::Shown {
                text: "one".to_owned(),
                message: id(1),
                at: Instant::now(),
            });
        };
        let (waited, ()) = tokio::join!(record.wait("draining", patience, drained), shown);
        assert!(waited.is_ok());
    }
}
