//! What stands for people in the log: a random pseudonym for each address, so that forgetting somebody leaves every
//! entry, and the tree over them, as they are.
//!
//! Addresses are looked for in what was recorded when it is numbered, whoever wrote it there. Which pseudonym is whose
//! lies in two rows of its own; when they are deleted nobody can tell any more. Not pseudonyms: administrators, who
//! act under their names, and the opaque ids of accounts, devices and rooms.

use std::collections::BTreeMap;
use std::ops::Range;

use federation_proto::ids::Address;
use ring::rand::SecureRandom;

use super::{DETAIL_BYTES_MAX, Event, SUBJECT_BYTES_MAX, numbering, record, shortened};
use crate::store::audit::{self as store, AuditRecord, Pseudonym};
use crate::store::{Part, PartOutcome, Precondition, Store, StoreError};

/// How a pseudonym begins; 32 hexadecimal digits follow.
const PREFIX: &str = "person:";
const DIGITS: usize = 32;
/// What stands for everybody beyond [`PEOPLE_MAX`].
const UNNAMED: &str = "person:unnamed";
/// Addresses in one entry that get a pseudonym: a text that somebody else wrote may be full of them.
const PEOPLE_MAX: usize = 16;
/// Tries of a part that meets another one.
const ATTEMPTS_MAX: usize = 16;

/// Pseudonyms that one part uses, and those that it makes.
pub(super) struct People<'a> {
    store: &'a Store,
    random: &'a (dyn SecureRandom + Send + Sync),
    known: BTreeMap<Address, Pseudonym>,
    made: Vec<Address>,
    unchanged: Vec<Precondition>,
}

impl<'a> People<'a> {
    pub(super) fn new(store: &'a Store, random: &'a (dyn SecureRandom + Send + Sync)) -> Self {
        Self {
            store,
            random,
            known: BTreeMap::new(),
            made: Vec::new(),
            unchanged: Vec::new(),
        }
    }

    /// The event with a pseudonym in place of each address.
    pub(super) async fn hide(&mut self, record: AuditRecord) -> Result<AuditRecord, StoreError> {
        let mut left = PEOPLE_MAX;
        let subject = self.hidden(&record.subject, &mut left).await?;
        let detail = self.hidden(&record.detail, &mut left).await?;
        Ok(AuditRecord {
            subject: shortened(&subject, SUBJECT_BYTES_MAX),
            detail: shortened(&detail, DETAIL_BYTES_MAX),
            ..record
        })
    }

    async fn hidden(&mut self, text: &str, left: &mut usize) -> Result<String, StoreError> {
        let mut hidden = String::with_capacity(text.len());
        let mut at = 0;
        for (range, address) in addresses(text) {
            hidden.push_str(text.get(at..range.start).unwrap_or_default());
            at = range.end;
            if *left == 0 {
                hidden.push_str(UNNAMED);
                continue;
            }
            *left -= 1;
            hidden.push_str(&written(self.of(address).await?));
        }
        hidden.push_str(text.get(at..).unwrap_or_default());
        Ok(hidden)
    }

    async fn of(&mut self, address: Address) -> Result<Pseudonym, StoreError> {
        if let Some(known) = self.known.get(&address) {
            return Ok(*known);
        }
        let (found, unchanged) = store::pseudonym(self.store, &address).await?;
        self.unchanged.push(unchanged);
        let pseudonym = match found {
            Some(found) => found,
            None => {
                self.made.push(address.clone());
                let mut bytes = [0; 16];
                self.random
                    .fill(&mut bytes)
                    .map_err(|_| StoreError::Engine("the system has no randomness".to_owned()))?;
                Pseudonym(bytes)
            }
        };
        self.known.insert(address, pseudonym);
        Ok(pseudonym)
    }

    /// Writes down the new ones. The part fails when somebody was forgotten, or named, meanwhile.
    pub(super) fn put(self, part: &mut Part) {
        for unchanged in self.unchanged {
            part.require(unchanged);
        }
        for address in &self.made {
            if let Some(pseudonym) = self.known.get(address) {
                store::put_person(part, address, *pseudonym);
            }
        }
    }
}

/// Who the pseudonyms in these texts are, as far as that is known still.
pub(super) async fn named<'a>(
    store: &Store,
    texts: impl Iterator<Item = &'a str>,
) -> Result<BTreeMap<String, Address>, StoreError> {
    let mut named = BTreeMap::new();
    let mut unknown = Vec::new();
    let all: Vec<_> = texts.flat_map(pseudonyms).collect();
    for pseudonym in all {
        let text = written(pseudonym);
        if named.contains_key(&text) || unknown.contains(&pseudonym) {
            continue;
        }
        match store::person(store, pseudonym).await? {
            Some(address) => {
                named.insert(text, address);
            }
            None => unknown.push(pseudonym),
        }
    }
    Ok(named)
}

/// What stands for the address in the log, as it is written there.
pub(super) async fn pseudonym_of(
    store: &Store,
    address: &Address,
) -> Result<Option<String>, StoreError> {
    Ok(store::pseudonym(store, address).await?.0.map(written))
}

/// What became of an erasure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Erased {
    /// Nobody can tell any more who it was.
    Forgotten,
    /// The log names nobody of this address.
    Unknown,
    /// Others were at the same rows again and again.
    Busy,
}

/// Forgets for whom the pseudonym of `address` stands. What was recorded before the call is numbered first, so that it
/// comes under the pseudonym that is forgotten. `event` tells of it, about that pseudonym.
pub async fn erase(
    store: &Store,
    random: &(dyn SecureRandom + Send + Sync),
    address: &Address,
    event: impl Fn(String) -> Event,
) -> Result<Erased, StoreError> {
    for _ in 0..ATTEMPTS_MAX {
        numbering::sequence(store, random, usize::MAX).await?;
        let (known, unchanged) = store::pseudonym(store, address).await?;
        let Some(pseudonym) = known else {
            return Ok(Erased::Unknown);
        };
        let mut part = Part::default();
        part.require(unchanged);
        store::delete_person(&mut part, address, pseudonym);
        record(&mut part, &event(written(pseudonym)));
        if store.commit(part).await? == PartOutcome::Committed {
            return Ok(Erased::Forgotten);
        }
    }
    Ok(Erased::Busy)
}

fn written(pseudonym: Pseudonym) -> String {
    format!("{PREFIX}{}", hex::encode(pseudonym.0))
}

/// Where addresses stand in a text, in whichever case.
fn addresses(text: &str) -> Vec<(Range<usize>, Address)> {
    let of_handle = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let of_server = |c: char| c.is_ascii_alphanumeric() || ".-".contains(c);
    let mut found: Vec<(Range<usize>, Address)> = Vec::new();
    for (at, _) in text.match_indices('@') {
        let (before, after) = text.split_at(at);
        let after = after.get(1..).unwrap_or_default();
        let from = found.last().map_or(0, |(range, _)| range.end);
        let before = before.get(from..).unwrap_or_default();
        let handle = before.len() - before.trim_end_matches(of_handle).len();
        let handle = before.get(before.len() - handle..).unwrap_or_default();
        // A sentence may end right behind an address, and one may stand after a dash.
        let handle = handle.trim_start_matches(['.', '_', '-']);
        let server = after.len() - after.trim_start_matches(of_server).len();
        let server = after.get(..server).unwrap_or_default();
        let server = server.trim_end_matches(['.', '-']);
        let written = format!("{handle}@{server}").to_ascii_lowercase();
        if let Ok(address) = written.parse() {
            found.push((at - handle.len()..at + 1 + server.len(), address));
        }
    }
    found
}

/// The pseudonyms in a text.
fn pseudonyms(text: &str) -> impl Iterator<Item = Pseudonym> {
    text.match_indices(PREFIX).filter_map(move |(at, _)| {
        let digits = text.get(at + PREFIX.len()..at + PREFIX.len() + DIGITS)?;
        let bytes = hex::decode(digits).ok()?;
        bytes.try_into().ok().map(Pseudonym)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{Actor, check, page};
    use crate::node::testing;

    fn event(subject: &str, detail: &str) -> Event {
        Event {
            at_ms: 1,
            actor: Actor::System,
            action: "test.happened",
            subject: subject.to_owned(),
            detail: detail.to_owned(),
        }
    }

    /// Goal: addresses are found wherever people and programs write them, and nothing else is taken for one. Method: a table.
    #[test]
    fn addresses_are_found() {
        for (text, found) in [
            ("bob@a.example", vec!["bob@a.example"]),
            (
                "asked (by Bob@A.Example, twice): see ann.b-c@b.example.",
                vec!["bob@a.example", "ann.b-c@b.example"],
            ),
            ("-x_y@a.example-", vec!["x_y@a.example"]),
            ("a@b@c.example", vec!["b@c.example"]),
            ("bob@a.example@b.example", vec!["bob@a.example"]),
            ("@a.example bob@ bob@localhost b ob@", vec![]),
            ("äbob@a.exampleä", vec!["bob@a.example"]),
            ("", vec![]),
        ] {
            let addresses = addresses(text);
            let written: Vec<String> = addresses.iter().map(|(_, a)| a.to_string()).collect();
            assert_eq!(written, found, "{text}");
            for (range, address) in addresses {
                assert_eq!(text[range].to_ascii_lowercase(), address.to_string());
            }
        }
    }

    /// Goal: the log holds no address, the same person stands under one pseudonym everywhere, and whoever reads it is told
    /// who that is; once it is erased nobody can tell, the log is as whole as before, and what comes after is under
    /// another pseudonym. Method: entries about two people before and after one is forgotten.
    #[tokio::test]
    async fn erasure_leaves_the_log_whole() {
        let (node, _) = testing::node("a.example");
        let (store, random) = (&node.store, node.random.as_ref());
        let note = async |subject: &str, detail: &str| {
            let mut part = Part::default();
            record(&mut part, &event(subject, detail));
            store.commit(part).await.unwrap();
        };
        note("bob@a.example", "asked by zoe@b.example").await;
        note("room", "of bob@a.example").await;
        let log = page(store, random, 0, 9).await.unwrap();
        let written = serde_json::to_string(&log.entries).unwrap();
        assert!(!written.contains('@'), "{written}");
        let bob = log.entries[0].subject.clone();
        assert_eq!(log.entries[1].detail, format!("of {bob}"));
        let names: Vec<_> = log.people.values().map(ToString::to_string).collect();
        assert_eq!(log.people[&bob].to_string(), "bob@a.example");
        assert_eq!(names.len(), 2, "{names:?}");

        let address = "bob@a.example".parse().unwrap();
        // Recorded, and not numbered yet.
        note("bob@a.example", "").await;
        let told = |pseudonym: String| event(&pseudonym, "erased");
        let erased = erase(store, random, &address, told).await.unwrap();
        assert_eq!(erased, Erased::Forgotten);
        let after = page(store, random, 0, 9).await.unwrap();
        assert_eq!(after.entries[..2], log.entries);
        assert_eq!(after.entries[2].subject, bob);
        assert_eq!(after.entries[3].subject, bob);
        assert!(!after.people.contains_key(&bob));
        assert_eq!(after.people.len(), 1);
        assert_eq!(check(store).await.unwrap(), 4);
        let erased = erase(store, random, &address, told).await.unwrap();
        assert_eq!(erased, Erased::Unknown);

        note("bob@a.example", "").await;
        let again = page(store, random, 4, 9).await.unwrap();
        assert_ne!(again.entries[0].subject, bob);
        assert_eq!(again.people.len(), 1);
    }

    /// Goal: a text full of addresses makes a bounded number of rows, and still names nobody; by one with many.
    #[tokio::test]
    async fn a_crowd_is_bounded() {
        let (node, _) = testing::node("a.example");
        let (store, random) = (&node.store, node.random.as_ref());
        let crowd: Vec<_> = (0..100).map(|n| format!("p{n}@b.example")).collect();
        let mut part = Part::default();
        record(&mut part, &event("a.example", &crowd.join(" ")));
        store.commit(part).await.unwrap();
        let log = page(store, random, 0, 9).await.unwrap();
        assert!(!log.entries[0].detail.contains('@'));
        assert!(log.entries[0].detail.ends_with(UNNAMED));
        assert_eq!(log.people.len(), PEOPLE_MAX);
    }
}
