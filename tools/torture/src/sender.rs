//! Somebody who sends one message after the other into one inbox.

use clap::Args;
use homeserver::store::{Part, Store, Value};

use crate::message::{Entry, Label, counter_key, submission};

/// Who sends, and to whom.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct People {
    /// Which life of the writer this is.
    #[arg(long, default_value_t = 1)]
    pub(crate) life: u32,
    /// Senders: each has one sequence.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) senders: u32,
    /// Inboxes: the senders are spread over them in turn.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) inboxes: u32,
    /// Commits of one sender that are under way.
    #[arg(long, default_value_t = 4)]
    pub(crate) window: usize,
}

/// A sender: how far it has come.
pub(crate) struct Sender {
    life: u32,
    number: u32,
    inbox: u32,
    last: u64,
    counter: Option<Value>,
}

impl Sender {
    /// Goes on where the store says that the sender has got to.
    pub(crate) async fn resume(store: &Store, people: People, number: u32) -> Result<Self, String> {
        let at = counter_key(number);
        let counter = store.get(&at).await.map_err(|error| error.to_string())?;
        let last = match &counter {
            None => 0,
            Some(value) => match Entry::of(&at, value) {
                Entry::Counter(label) => label.sequence,
                _ => return Err(format!("the counter of sender {number} is none")),
            },
        };
        Ok(Self {
            life: people.life,
            number,
            inbox: number.checked_rem(people.inboxes).unwrap_or(0),
            last,
            counter,
        })
    }

    /// The next message's sequence number and its commit, with a payload of the length that `bytes` tells. It is in turn
    /// once the one before is written.
    pub(crate) fn next(&mut self, bytes: impl FnOnce(u64) -> usize) -> (u64, Part) {
        let label = Label {
            sender: self.number,
            sequence: self.last.saturating_add(1),
            life: self.life,
        };
        let bytes = bytes(label.sequence);
        let (part, counter) = submission(&label, self.inbox, bytes, self.counter.take());
        self.last = label.sequence;
        self.counter = Some(counter);
        (label.sequence, part)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use homeserver::store::engine::memory::MemoryEngine;
    use homeserver::store::{Order, PartOutcome};

    use super::*;
    use crate::message::acknowledge;
    use crate::{fill, inbox};

    const PEOPLE: People = People {
        life: 1,
        senders: 3,
        inboxes: 2,
        window: 2,
    };

    async fn entries(store: &Store) -> Vec<Entry> {
        let all = store.range(&[1], &[255], usize::MAX, Order::Ascending);
        let all = all.await.unwrap();
        all.iter()
            .map(|(key, value)| Entry::of(key, value))
            .collect()
    }

    /// Goal: a message is a payload, an item and a counter, all of them as they are meant, and its sender goes on behind
    /// it in the next life. Method: one in each of two lives.
    #[tokio::test]
    async fn a_message() {
        let store = Store::new(Arc::new(MemoryEngine::default())).unwrap();
        for life in [1, 2] {
            let people = People { life, ..PEOPLE };
            let mut sender = Sender::resume(&store, people, 2).await.unwrap();
            let (sequence, part) = sender.next(|_| 10);
            assert_eq!(sequence, u64::from(life));
            let outcome = store.commit(part).await.unwrap();
            assert_eq!(outcome, PartOutcome::Committed);
        }
        let label = |life: u32| Label {
            sender: 2,
            sequence: u64::from(life),
            life,
        };
        let item = |life: u32| Entry::Item {
            inbox: 0,
            number: u64::from(life),
            label: label(life),
        };
        let expected = [
            Entry::Payload(label(1)),
            Entry::Payload(label(2)),
            item(1),
            item(2),
            Entry::Counter(label(2)),
            Entry::Tail {
                inbox: 0,
                number: 2,
            },
            Entry::Tally {
                inbox: 0,
                entries: 2,
            },
        ];
        assert_eq!(entries(&store).await, expected);
        let mut part = Part::default();
        acknowledge(&mut part, 0, 1, &label(1));
        store.commit(part).await.unwrap();
        let left = entries(&store).await;
        assert_eq!(left.len(), 5);
        assert!(!left.contains(&item(1)) && !left.contains(&Entry::Payload(label(1))));
        assert_eq!(inbox::waiting(&store, PEOPLE).await, Ok(1));
    }

    /// Goal: as many messages are sent as were asked for, and all of them can be acknowledged. Method: count what waits.
    #[tokio::test]
    async fn many_messages() {
        let store = Store::new(Arc::new(MemoryEngine::default())).unwrap();
        fill::fill(&store, PEOPLE, 1_000).await.unwrap();
        assert_eq!(inbox::waiting(&store, PEOPLE).await, Ok(1_000));
        assert_eq!(fill::drain(&store, PEOPLE).await, Ok(1_000));
        assert_eq!(inbox::waiting(&store, PEOPLE).await, Ok(0));
        assert!(
            !entries(&store)
                .await
                .iter()
                .any(|entry| matches!(entry, Entry::Payload(_) | Entry::Item { .. }))
        );
    }
}
