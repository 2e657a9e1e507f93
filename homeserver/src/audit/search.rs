//! Looking for entries: by time, kind, subject and actor. The log is read through, a bounded part of it for each page.

use federation_proto::ids::Address;
use homeserver_api::admin::AuditPage;
use ring::rand::SecureRandom;

use super::numbering::{PAGE_PARTS_MAX, page, sequence, shown, with_people};
use super::people;
use crate::store::audit::{self as rows, AuditRecord};
use crate::store::{Store, StoreError};

/// Entries read at a time.
const READ_ENTRIES: usize = 1024;
/// Entries that are read through for one page at most.
const SCANNED_ENTRIES_MAX: usize = 16 * 1024;

/// What is looked for; what is absent fits everything.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filter {
    /// Not before, milliseconds since the Unix epoch.
    pub since_ms: Option<u64>,
    /// Not after, milliseconds since the Unix epoch.
    pub until_ms: Option<u64>,
    /// The action, or what it begins with up to a dot: `user` for `user.created`.
    pub action: Option<String>,
    /// Who did it, as the entry names him.
    pub actor: Option<String>,
    /// On what it was done. A person's address finds every entry about him, whose pseudonym stands in its subject or its
    /// detail; all else is the whole subject.
    pub subject: Option<String>,
}

impl Filter {
    fn fits(&self, record: &AuditRecord, subject: Option<&Subject>) -> bool {
        let of_action = |wanted: &String| {
            let rest = record.action.strip_prefix(wanted.as_str());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        self.since_ms
            .is_none_or(|since_ms| record.at_ms >= since_ms)
            && self
                .until_ms
                .is_none_or(|until_ms| record.at_ms <= until_ms)
            && self.action.as_ref().is_none_or(of_action)
            && self
                .actor
                .as_ref()
                .is_none_or(|actor| record.actor == *actor)
            && subject.is_none_or(|subject| subject.fits(record))
    }
}

/// What an entry has to be about.
enum Subject {
    Person(String),
    Thing(String),
}

impl Subject {
    fn fits(&self, record: &AuditRecord) -> bool {
        match self {
            Self::Person(pseudonym) => {
                record.subject.contains(pseudonym) || record.detail.contains(pseudonym)
            }
            Self::Thing(subject) => record.subject == *subject,
        }
    }
}

/// Up to `limit` entries after the number `after` that fit, oldest first. A page may have none and still not be the last.
pub async fn search(
    store: &Store,
    random: &(dyn SecureRandom + Send + Sync),
    filter: &Filter,
    after: u64,
    limit: usize,
) -> Result<AuditPage, StoreError> {
    if *filter == Filter::default() {
        return page(store, random, after, limit).await;
    }
    let all_numbered = sequence(store, random, PAGE_PARTS_MAX).await?;
    let subject = match &filter.subject {
        None => None,
        Some(text) => match text.to_ascii_lowercase().parse::<Address>() {
            Ok(address) => match people::pseudonym_of(store, &address).await? {
                Some(pseudonym) => Some(Subject::Person(pseudonym)),
                // Nobody of this address stands in the log, or nobody can tell any more.
                None => return with_people(store, Vec::new(), None).await,
            },
            Err(_) => Some(Subject::Thing(text.clone())),
        },
    };
    let mut found = Vec::new();
    let (mut at, mut scanned, mut more) = (after, 0, !all_numbered);
    'reading: loop {
        let entries = rows::entries(store, at, READ_ENTRIES).await?;
        let is_last = entries.len() < READ_ENTRIES;
        scanned += entries.len();
        for (number, entry) in entries {
            at = number;
            if filter.fits(&entry.record, subject.as_ref()) {
                found.push(shown((number, entry)));
                if found.len() >= limit {
                    more = true;
                    break 'reading;
                }
            }
        }
        if is_last {
            break;
        }
        if scanned >= SCANNED_ENTRIES_MAX {
            more = true;
            break;
        }
    }
    with_people(store, found, more.then_some(at)).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{Actor, Event, record};
    use crate::node::testing;
    use crate::store::Part;

    /// Goal: entries are found by each thing that one can look for and by all together, page by page, and a person by
    /// address although the log holds none; by a log in which each of them differs.
    #[tokio::test]
    async fn entries_are_found() {
        let (node, _) = testing::node("a.example");
        let (store, random) = (&node.store, node.random.as_ref());
        let mut part = Part::default();
        for number in 1..=20_u64 {
            let event = Event {
                at_ms: number * 10,
                actor: Actor::Local(u32::from(number % 2 == 0)),
                action: if number % 5 == 0 {
                    "user.created"
                } else {
                    "users.changed"
                },
                subject: if number % 4 == 0 {
                    "bob@a.example"
                } else {
                    "a.example"
                }
                .to_owned(),
                detail: if number == 7 { "of bob@a.example" } else { "" }.to_owned(),
            };
            record(&mut part, &event);
        }
        store.commit(part).await.unwrap();
        let find = async |filter: Filter, limit: usize| {
            let (mut numbers, mut after) = (Vec::new(), 0);
            loop {
                let page = search(store, random, &filter, after, limit).await.unwrap();
                numbers.extend(page.entries.iter().map(|entry| entry.number));
                match page.next_after {
                    Some(next) => after = next,
                    None => return numbers,
                }
            }
        };
        let text = |text: &str| Some(text.to_owned());
        for (filter, numbers) in [
            (
                Filter {
                    since_ms: Some(180),
                    ..Filter::default()
                },
                vec![18, 19, 20],
            ),
            (
                Filter {
                    until_ms: Some(25),
                    ..Filter::default()
                },
                vec![1, 2],
            ),
            (
                Filter {
                    action: text("user"),
                    ..Filter::default()
                },
                vec![5, 10, 15, 20],
            ),
            (
                Filter {
                    action: text("user.created"),
                    ..Filter::default()
                },
                vec![5, 10, 15, 20],
            ),
            (
                Filter {
                    action: text("user.c"),
                    ..Filter::default()
                },
                vec![],
            ),
            (
                Filter {
                    subject: text("Bob@a.example"),
                    ..Filter::default()
                },
                vec![4, 7, 8, 12, 16, 20],
            ),
            (
                Filter {
                    subject: text("zoe@a.example"),
                    ..Filter::default()
                },
                vec![],
            ),
            (
                Filter {
                    subject: text("a.exampl"),
                    ..Filter::default()
                },
                vec![],
            ),
            (
                Filter {
                    actor: text("local:1"),
                    action: text("user"),
                    subject: text("bob@a.example"),
                    since_ms: Some(1),
                    until_ms: Some(1000),
                },
                vec![20],
            ),
        ] {
            for limit in [1, 2, 100] {
                assert_eq!(find(filter.clone(), limit).await, numbers, "{filter:?}");
            }
        }
        assert_eq!(find(Filter::default(), 7).await.len(), 20);
    }
}
