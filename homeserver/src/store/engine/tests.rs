//! One suite for every engine: what a store may rely on, whichever it stands on.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;

use super::embedded::EmbeddedEngine;
use super::memory::MemoryEngine;
use super::*;
use crate::store::{Precondition, Write};

/// Where an engine lives; opening again comes after everything of the former engine was dropped.
trait Place {
    fn open(&self) -> Arc<dyn Engine>;
}

struct InMemory(Arc<MemoryEngine>);

impl Place for InMemory {
    fn open(&self) -> Arc<dyn Engine> {
        self.0.clone()
    }
}

struct InFolder(tempfile::TempDir);

impl Place for InFolder {
    fn open(&self) -> Arc<dyn Engine> {
        Arc::new(EmbeddedEngine::open(self.0.path()).unwrap())
    }
}

macro_rules! on_every_engine {
    ($($(#[$doc:meta])* $name:ident;)*) => {
        mod on_memory {
            $($(#[$doc])* #[test] fn $name() { super::$name(&super::InMemory(Default::default())); })*
        }
        mod on_embedded {
            $($(#[$doc])* #[test] fn $name() {
                super::$name(&super::InFolder(tempfile::tempdir().unwrap()));
            })*
        }
    };
}

on_every_engine! {
    /// Goal: a part with a failed precondition writes nothing, its neighbours write all; by one batch.
    parts_are_atomic_and_independent;
    /// Goal: each kind of precondition holds exactly when it says; by a table, within and across batches.
    preconditions;
    /// Goal: appended entries are numbered 1, 2, 3 … across batches and reopening, also in one part.
    appends_are_numbered;
    /// Goal: a tail that was deleted or overwritten is believed, not what the writer remembers of it.
    a_changed_tail_is_believed;
    /// Goal: ranges are half-open, ordered both ways, limited, and empty when upside down.
    ranges;
    /// Goal: the last write to a key in a batch wins, over parts and within one.
    the_last_write_wins;
    /// Goal: everything answered is there after reopening, large values too.
    reopening_keeps_everything;
}

fn key(text: &str) -> Key {
    Key::copy_from_slice(text.as_bytes())
}

fn put(name: &str, value: &str) -> Part {
    let mut part = Part::default();
    part.put(key(name), key(value));
    part
}

fn get(engine: &dyn Engine, name: &str) -> Option<String> {
    let value = engine.get(name.as_bytes()).unwrap()?;
    Some(String::from_utf8(value.to_vec()).unwrap())
}

fn everything(engine: &dyn Engine) -> Vec<(Key, Value)> {
    engine
        .range(b"\x01", b"\xff", usize::MAX, usize::MAX, Order::Ascending)
        .unwrap()
}

fn parts_are_atomic_and_independent(place: &dyn Place) {
    let engine = place.open();
    let mut refused = put("b", "1");
    refused.put(key("c"), key("1"));
    refused.require(Precondition::Present(key("never")));
    let outcomes = engine.apply(&[put("a", "1"), refused, put("d", "1")]);
    let committed = PartOutcome::Committed;
    assert_eq!(
        outcomes.unwrap(),
        [committed, PartOutcome::Conflict, committed]
    );
    assert_eq!(get(&*engine, "a").as_deref(), Some("1"));
    assert_eq!(get(&*engine, "b"), None);
    assert_eq!(get(&*engine, "c"), None);
    assert_eq!(get(&*engine, "d").as_deref(), Some("1"));
}

fn preconditions(place: &dyn Place) {
    let engine = place.open();
    engine.apply(&[put("old", "1")]).unwrap();
    let cases = [
        (Precondition::Absent(key("old")), false),
        (Precondition::Absent(key("none")), true),
        (Precondition::Present(key("old")), true),
        (Precondition::Present(key("none")), false),
        (Precondition::Equals(key("old"), key("1")), true),
        (Precondition::Equals(key("old"), key("2")), false),
        (Precondition::Equals(key("none"), key("1")), false),
        (Precondition::unchanged(key("none"), None), true),
        (Precondition::unchanged(key("old"), Some(key("1"))), true),
        // The new value is judged, not the stored one, when an earlier part of the batch wrote it.
        (Precondition::Present(key("new")), true),
        (Precondition::Equals(key("new"), key("1")), true),
        (Precondition::Present(key("gone")), false),
        (Precondition::Absent(key("gone")), true),
    ];
    let mut deletion = Part::default();
    deletion.delete(key("gone"));
    // Twice: the second time from what the writer remembers.
    for _ in 0..2 {
        engine.apply(&[put("gone", "1")]).unwrap();
        let judged = cases.iter().map(|(precondition, _)| Part {
            preconditions: vec![precondition.clone()],
            writes: Vec::new(),
        });
        let mut parts = vec![put("new", "1"), deletion.clone()];
        parts.extend(judged);
        let outcomes = engine.apply(&parts).unwrap();
        for ((precondition, holds), outcome) in cases.iter().zip(&outcomes[2..]) {
            assert_eq!(
                *outcome == PartOutcome::Committed,
                *holds,
                "{precondition:?}"
            );
        }
    }
}

fn append(value: &str) -> Part {
    let mut part = Part::default();
    part.append(key("tail"), key("entry"), key(value));
    part
}

fn entries(engine: &dyn Engine) -> Vec<(u64, String)> {
    let entries = engine.range(b"entry", b"entrz", usize::MAX, usize::MAX, Order::Ascending);
    let number = |key: &Key| u64::from_be_bytes(key[5..].try_into().unwrap());
    let text = |value: &Value| String::from_utf8(value.to_vec()).unwrap();
    entries
        .unwrap()
        .iter()
        .map(|(k, v)| (number(k), text(v)))
        .collect()
}

fn appends_are_numbered(place: &dyn Place) {
    let engine = place.open();
    let mut refused = append("refused");
    refused.require(Precondition::Present(key("never")));
    let mut double = append("c");
    double.append(key("tail"), key("entry"), key("d"));
    engine
        .apply(&[append("a"), refused, append("b"), double])
        .unwrap();
    engine.apply(&[append("e")]).unwrap();
    drop(engine);
    let engine = place.open();
    engine.apply(&[append("f")]).unwrap();
    let expected = (1..).zip(["a", "b", "c", "d", "e", "f"].map(str::to_owned));
    assert_eq!(entries(&*engine), expected.collect::<Vec<_>>());
}

fn a_changed_tail_is_believed(place: &dyn Place) {
    let engine = place.open();
    engine.apply(&[append("a"), append("b")]).unwrap();
    let mut deletion = Part::default();
    deletion.delete(key("tail"));
    engine.apply(&[deletion]).unwrap();
    engine.apply(&[append("c")]).unwrap();
    let mut jump = Part::default();
    jump.put(key("tail"), Bytes::copy_from_slice(&41_u64.to_be_bytes()));
    engine.apply(&[jump, append("d")]).unwrap();
    let numbers: Vec<_> = entries(&*engine);
    let expected = [(1, "c"), (2, "b"), (42, "d")].map(|(n, text)| (n, text.to_owned()));
    assert_eq!(numbers, expected);
}

fn ranges(place: &dyn Place) {
    let engine = place.open();
    let parts: Vec<_> = ["a", "b", "ba", "c", "d"]
        .map(|name| put(name, name))
        .into();
    engine.apply(&parts).unwrap();
    let names = |from: &str, to: &str, limit, order| -> Vec<String> {
        let entries = engine
            .range(from.as_bytes(), to.as_bytes(), limit, usize::MAX, order)
            .unwrap();
        entries
            .iter()
            .map(|(key, _)| String::from_utf8(key.to_vec()).unwrap())
            .collect()
    };
    assert_eq!(names("b", "d", 9, Order::Ascending), ["b", "ba", "c"]);
    assert_eq!(names("b", "d", 9, Order::Descending), ["c", "ba", "b"]);
    assert_eq!(names("a", "z", 2, Order::Ascending), ["a", "b"]);
    assert_eq!(names("a", "z", 2, Order::Descending), ["d", "c"]);
    assert!(names("b", "b", 9, Order::Ascending).is_empty());
    assert!(names("d", "b", 9, Order::Descending).is_empty());
}

fn the_last_write_wins(place: &dyn Place) {
    let engine = place.open();
    let mut both = put("a", "1");
    both.delete(key("a"))
        .put(key("b"), key("1"))
        .put(key("b"), key("2"));
    engine.apply(&[both, put("c", "1"), put("c", "2")]).unwrap();
    assert_eq!(get(&*engine, "a"), None);
    assert_eq!(get(&*engine, "b").as_deref(), Some("2"));
    assert_eq!(get(&*engine, "c").as_deref(), Some("2"));
}

fn reopening_keeps_everything(place: &dyn Place) {
    let engine = place.open();
    let large = "x".repeat(3 << 20);
    let mut deletion = Part::default();
    deletion.delete(key("gone"));
    engine
        .apply(&[put("gone", "1"), put("large", &large)])
        .unwrap();
    engine.apply(&[deletion, put("kept", "1")]).unwrap();
    drop(engine);
    let engine = place.open();
    assert_eq!(get(&*engine, "large").as_deref(), Some(large.as_str()));
    assert_eq!(get(&*engine, "kept").as_deref(), Some("1"));
    assert_eq!(get(&*engine, "gone"), None);
}

/// Goal: a journal that lost its tail is noticed at opening; by noting a batch that is not there.
#[test]
fn a_lost_tail_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let engine = EmbeddedEngine::open(folder.path()).unwrap();
    engine.apply(&[put("a", "1")]).unwrap();
    drop(engine);
    let note = folder.path().join("last-batch");
    assert_eq!(
        std::fs::read(&note).unwrap(),
        [1_u64.to_be_bytes(); 2].concat()
    );
    drop(EmbeddedEngine::open(folder.path()).unwrap());

    std::fs::write(&note, [2_u64.to_be_bytes(); 2].concat()).unwrap();
    let refused = EmbeddedEngine::open(folder.path()).err();
    assert!(matches!(
        refused,
        Some(StoreError::Behind { found: 1, noted: 2 })
    ));

    // Zeros are what a power cut leaves of a note that never reached the disk.
    std::fs::write(&note, [0; 16]).unwrap();
    drop(EmbeddedEngine::open(folder.path()).unwrap());
    std::fs::write(&note, b"garbage garbage!").unwrap();
    assert!(EmbeddedEngine::open(folder.path()).is_err());
}

/// Goal: two processes never share a folder; by opening it twice.
#[test]
fn a_folder_in_use_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let _held = EmbeddedEngine::open(folder.path()).unwrap();
    let refused = EmbeddedEngine::open(folder.path()).err();
    assert!(matches!(refused, Some(StoreError::Locked)));
}

/// The plainest possible engine: a copy of the map for each part.
#[derive(Default)]
struct Reference(BTreeMap<Key, Value>);

impl Reference {
    fn apply(&mut self, part: &Part) -> PartOutcome {
        let holds = part.preconditions.iter().all(|precondition| {
            let value = self.0.get(precondition.key());
            match precondition {
                Precondition::Absent(_) => value.is_none(),
                Precondition::Present(_) => value.is_some(),
                Precondition::Equals(_, expected) => value == Some(expected),
                Precondition::Within(_, bytes) => tally(value).1 <= *bytes,
                Precondition::WithinEntries(_, entries) => tally(value).0 <= *entries,
            }
        });
        if !holds {
            return PartOutcome::Conflict;
        }
        for write in &part.writes {
            match write {
                Write::Put(key, value) => drop(self.0.insert(key.clone(), value.clone())),
                Write::Delete(key) => drop(self.0.remove(key)),
                Write::Append {
                    tail,
                    prefix,
                    value,
                } => {
                    let last = self.0.get(tail).map_or(0, |value| {
                        u64::from_be_bytes(value.as_ref().try_into().unwrap())
                    });
                    let number = (last + 1).to_be_bytes();
                    self.0.insert(tail.clone(), Bytes::copy_from_slice(&number));
                    let entry = [prefix.as_ref(), &number].concat();
                    self.0.insert(entry.into(), value.clone());
                }
                Write::Count { tally: key, bytes } => {
                    let (entries, sum) = tally(self.0.get(key));
                    self.set_tally(key, (entries + 1, sum + bytes));
                }
                Write::Uncount { tally: key, entry } => {
                    if let Some(value) = self.0.get(entry) {
                        let bytes = u64::try_from(value.len()).unwrap();
                        let (entries, sum) = tally(self.0.get(key));
                        self.set_tally(key, (entries.saturating_sub(1), sum.saturating_sub(bytes)));
                    }
                }
            }
        }
        PartOutcome::Committed
    }
}

impl Reference {
    fn set_tally(&mut self, key: &Key, (entries, bytes): (u64, u64)) {
        if entries == 0 {
            self.0.remove(key);
        } else {
            let value = [entries.to_be_bytes(), bytes.to_be_bytes()].concat();
            self.0.insert(key.clone(), value.into());
        }
    }
}

/// Entries and bytes.
fn tally(value: Option<&Value>) -> (u64, u64) {
    let number = |at: usize| {
        value.map_or(0, |value| {
            u64::from_be_bytes(value[at..at + 8].try_into().unwrap())
        })
    };
    (number(0), number(8))
}

fn any_part() -> impl Strategy<Value = Part> {
    // Few keys and values, so that parts meet.
    let name = || (0_u8..6).prop_map(|n| Key::copy_from_slice(&[b'k', n]));
    let value = || (0_u8..3).prop_map(|n| Value::copy_from_slice(&[n]));
    let counted = || (0_u8..2).prop_map(|n| Key::copy_from_slice(&[b'w', n]));
    let precondition = prop_oneof![
        (counted(), 0_u64..4).prop_map(|(tally, bytes)| Precondition::Within(tally, bytes)),
        (counted(), 0_u64..2).prop_map(|(tally, n)| Precondition::WithinEntries(tally, n)),
        name().prop_map(Precondition::Absent),
        name().prop_map(Precondition::Present),
        (name(), value()).prop_map(|(name, value)| Precondition::Equals(name, value)),
    ];
    let write = prop_oneof![
        (name(), value()).prop_map(|(name, value)| Write::Put(name, value)),
        name().prop_map(Write::Delete),
        (0_u8..2, value()).prop_map(|(n, value)| Write::Append {
            tail: Key::copy_from_slice(&[b't', n]),
            prefix: Key::copy_from_slice(&[b'e', n]),
            value,
        }),
        (counted(), 0_u64..3).prop_map(|(tally, bytes)| Write::Count { tally, bytes }),
        (counted(), name()).prop_map(|(tally, entry)| Write::Uncount { tally, entry }),
    ];
    let preconditions = proptest::collection::vec(precondition, 0..2);
    (preconditions, proptest::collection::vec(write, 0..4)).prop_map(|(preconditions, writes)| {
        Part {
            preconditions,
            writes,
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Goal: engines agree with the plainest possible one on any batches, also after reopening.
    #[test]
    fn engines_agree_with_the_reference(
        batches in proptest::collection::vec(proptest::collection::vec(any_part(), 0..8), 1..6)
    ) {
        let places: [Box<dyn Place>; 2] = [
            Box::new(InMemory(Arc::default())),
            Box::new(InFolder(tempfile::tempdir().unwrap())),
        ];
        for place in places {
            let mut reference = Reference::default();
            let engine = place.open();
            for parts in &batches {
                let expected: Vec<_> = parts.iter().map(|part| reference.apply(part)).collect();
                prop_assert_eq!(engine.apply(parts).unwrap(), expected);
            }
            drop(engine);
            let expected: Vec<_> = reference.0.into_iter().collect();
            prop_assert_eq!(everything(&*place.open()), expected);
        }
    }
}
