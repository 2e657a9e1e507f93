//! One suite for every engine: what a store may rely on, whichever it stands on.

mod moving;
pub(super) mod reference;

use std::sync::Arc;

use bytes::Bytes;

use super::embedded::EmbeddedEngine;
use super::log::tests::small;
use super::memory::{MemoryEngine, PowerLoss};
use super::postgresql::tests::InDatabase;
#[cfg(feature = "sled")]
use super::sled::SledEngine;
use super::*;
use crate::store::Precondition;

/// Where an engine lives; opening again comes after everything of the former engine was dropped.
trait Place: Send + Sync {
    fn open(&self) -> Answer<'_, Arc<dyn Engine>>;
}

struct InMemory(Arc<MemoryEngine>);

impl Place for InMemory {
    fn open(&self) -> Answer<'_, Arc<dyn Engine>> {
        at_once(Ok(self.0.clone()))
    }
}

struct InLog(tempfile::TempDir);

impl Place for InLog {
    fn open(&self) -> Answer<'_, Arc<dyn Engine>> {
        at_once(Ok(Arc::new(small(self.0.path()).unwrap())))
    }
}

fn in_log() -> InLog {
    InLog(tempfile::tempdir().unwrap())
}

struct InFolder(tempfile::TempDir);

impl Place for InFolder {
    fn open(&self) -> Answer<'_, Arc<dyn Engine>> {
        at_once(Ok(Arc::new(EmbeddedEngine::open(self.0.path()).unwrap())))
    }
}

#[cfg(feature = "sled")]
struct InSled(tempfile::TempDir);

#[cfg(feature = "sled")]
impl Place for InSled {
    fn open(&self) -> Answer<'_, Arc<dyn Engine>> {
        at_once(Ok(Arc::new(SledEngine::open(self.0.path()).unwrap())))
    }
}

#[cfg(feature = "sled")]
fn in_sled() -> InSled {
    InSled(tempfile::tempdir().unwrap())
}

impl Place for InDatabase {
    fn open(&self) -> Answer<'_, Arc<dyn Engine>> {
        Box::pin(async {
            let engine: Arc<dyn Engine> = Arc::new(Self::open(self).await?);
            Ok(engine)
        })
    }
}

fn in_memory() -> InMemory {
    InMemory(Arc::default())
}

fn in_folder() -> InFolder {
    InFolder(tempfile::tempdir().unwrap())
}

macro_rules! on_every_engine {
    ($($(#[$doc:meta])* $name:ident;)*) => {
        mod on_memory {
            $($(#[$doc])* #[tokio::test] async fn $name() { super::$name(&super::in_memory()).await; })*
        }
        mod on_embedded {
            $($(#[$doc])* #[tokio::test] async fn $name() { super::$name(&super::in_folder()).await; })*
        }
        mod on_logged {
            $($(#[$doc])* #[tokio::test] async fn $name() { super::$name(&super::in_log()).await; })*
        }
        #[cfg(feature = "sled")]
        mod on_sled {
            $($(#[$doc])* #[tokio::test] async fn $name() { super::$name(&super::in_sled()).await; })*
        }
        mod on_postgresql {
            $($(#[$doc])* #[tokio::test] async fn $name() { super::$name(&super::InDatabase::new()).await; })*
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
    /// Goal: a range ends with the entry that fills its bytes, and has one entry at least; by a table.
    ranges_stop_at_their_bytes;
    /// Goal: a snapshot shows the moment it was taken at, however often it is asked; by writing on.
    snapshots_stand_still;
    /// Goal: a snapshot is one moment in ranges of either order, whatever came, went and changed since, with
    /// large values too; by comparing it with what was read before.
    snapshots_have_ranges;
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

async fn get(engine: &dyn Read, name: &str) -> Option<String> {
    let value = engine.get(name.as_bytes()).await.unwrap()?;
    Some(String::from_utf8(value.to_vec()).unwrap())
}

/// All entries between two keys, in one order.
fn between<'a>(from: &'a str, to: &'a str, order: Order) -> Range<'a> {
    Range {
        from: from.as_bytes(),
        to: to.as_bytes(),
        limit: usize::MAX,
        bytes_max: usize::MAX,
        order,
    }
}

async fn everything(engine: &dyn Read) -> Vec<(Key, Value)> {
    let range = Range {
        to: b"\xff",
        ..between("\x01", "", Order::Ascending)
    };
    engine.range(range).await.unwrap()
}

async fn names(engine: &dyn Read, range: Range<'_>) -> Vec<String> {
    let entries = engine.range(range).await.unwrap();
    let name = |(key, _): &(Key, Value)| String::from_utf8(key.to_vec()).unwrap();
    entries.iter().map(name).collect()
}

async fn parts_are_atomic_and_independent(place: &dyn Place) {
    let engine = place.open().await.unwrap();
    let mut refused = put("b", "1");
    refused.put(key("c"), key("1"));
    refused.require(Precondition::Present(key("never")));
    let outcomes = engine.apply(&[put("a", "1"), refused, put("d", "1")]).await;
    let committed = PartOutcome::Committed;
    assert_eq!(
        outcomes.unwrap(),
        [committed, PartOutcome::Conflict, committed]
    );
    assert_eq!(get(&*engine, "a").await.as_deref(), Some("1"));
    assert_eq!(get(&*engine, "b").await, None);
    assert_eq!(get(&*engine, "c").await, None);
    assert_eq!(get(&*engine, "d").await.as_deref(), Some("1"));
}

async fn preconditions(place: &dyn Place) {
    let engine = place.open().await.unwrap();
    engine.apply(&[put("old", "1")]).await.unwrap();
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
        engine.apply(&[put("gone", "1")]).await.unwrap();
        let judged = cases.iter().map(|(precondition, _)| Part {
            preconditions: vec![precondition.clone()],
            writes: Vec::new(),
        });
        let mut parts = vec![put("new", "1"), deletion.clone()];
        parts.extend(judged);
        let outcomes = engine.apply(&parts).await.unwrap();
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

async fn entries(engine: &dyn Read) -> Vec<(u64, String)> {
    let entries = engine
        .range(between("entry", "entrz", Order::Ascending))
        .await;
    let number = |key: &Key| u64::from_be_bytes(key[5..].try_into().unwrap());
    let text = |value: &Value| String::from_utf8(value.to_vec()).unwrap();
    entries
        .unwrap()
        .iter()
        .map(|(k, v)| (number(k), text(v)))
        .collect()
}

async fn appends_are_numbered(place: &dyn Place) {
    let engine = place.open().await.unwrap();
    let mut refused = append("refused");
    refused.require(Precondition::Present(key("never")));
    let mut double = append("c");
    double.append(key("tail"), key("entry"), key("d"));
    engine
        .apply(&[append("a"), refused, append("b"), double])
        .await
        .unwrap();
    engine.apply(&[append("e")]).await.unwrap();
    drop(engine);
    let engine = place.open().await.unwrap();
    engine.apply(&[append("f")]).await.unwrap();
    let expected = (1..).zip(["a", "b", "c", "d", "e", "f"].map(str::to_owned));
    assert_eq!(entries(&*engine).await, expected.collect::<Vec<_>>());
}

async fn a_changed_tail_is_believed(place: &dyn Place) {
    let engine = place.open().await.unwrap();
    engine.apply(&[append("a"), append("b")]).await.unwrap();
    let mut deletion = Part::default();
    deletion.delete(key("tail"));
    engine.apply(&[deletion]).await.unwrap();
    engine.apply(&[append("c")]).await.unwrap();
    let mut jump = Part::default();
    jump.put(key("tail"), Bytes::copy_from_slice(&41_u64.to_be_bytes()));
    engine.apply(&[jump, append("d")]).await.unwrap();
    let numbers = entries(&*engine).await;
    let expected = [(1, "c"), (2, "b"), (42, "d")].map(|(n, text)| (n, text.to_owned()));
    assert_eq!(numbers, expected);
}

async fn ranges(place: &dyn Place) {
    let engine = place.open().await.unwrap();
    let parts: Vec<_> = ["a", "b", "ba", "c", "d"]
        .map(|name| put(name, name))
        .into();
    engine.apply(&parts).await.unwrap();
    let (up, down) = (Order::Ascending, Order::Descending);
    let cases: [(Range<'_>, &[&str]); 5] = [
        (between("b", "d", up), &["b", "ba", "c"]),
        (between("b", "d", down), &["c", "ba", "b"]),
        (between("b", "b", up), &[]),
        (between("d", "b", down), &[]),
        (between("e", "z", up), &[]),
    ];
    for (range, expected) in cases {
        assert_eq!(names(&*engine, range).await, expected, "{range:?}");
    }
    let cases: [(usize, Order, &[&str]); 3] =
        [(2, up, &["a", "b"]), (2, down, &["d", "c"]), (0, up, &[])];
    for (limit, order, expected) in cases {
        let range = Range {
            limit,
            ..between("a", "z", order)
        };
        assert_eq!(names(&*engine, range).await, expected, "{range:?}");
    }
    // Keys are bytes, not text: neither an encoding nor a collation decides their order.
    let odd: [&[u8]; 4] = [b"\x01", b"k\0", b"k\x80", b"k\xff\xff"];
    let parts = odd.map(|name| {
        let mut part = Part::default();
        part.put(Key::from_static(name), Value::new());
        part
    });
    engine.apply(&parts).await.unwrap();
    let range = Range {
        from: b"k",
        to: b"k\xff\xff\0",
        ..between("", "", up)
    };
    let found = engine.range(range).await.unwrap();
    let found: Vec<&[u8]> = found.iter().map(|(key, _)| key.as_ref()).collect();
    assert_eq!(found, odd[1..]);
}

async fn ranges_stop_at_their_bytes(place: &dyn Place) {
    let engine = place.open().await.unwrap();
    let parts = [("a", 5), ("b", 0), ("c", 3), ("d", 9)];
    let parts = parts.map(|(name, bytes)| put(name, &"x".repeat(bytes)));
    engine.apply(&parts).await.unwrap();
    let (up, down) = (Order::Ascending, Order::Descending);
    let cases: [(usize, Order, &[&str]); 8] = [
        (0, up, &["a"]),
        (5, up, &["a"]),
        (6, up, &["a", "b", "c"]),
        (8, up, &["a", "b", "c"]),
        (9, up, &["a", "b", "c", "d"]),
        (1, down, &["d"]),
        (10, down, &["d", "c"]),
        (13, down, &["d", "c", "b", "a"]),
    ];
    for (bytes_max, order, expected) in cases {
        let range = Range {
            bytes_max,
            ..between("a", "z", order)
        };
        assert_eq!(names(&*engine, range).await, expected, "{range:?}");
    }
}

async fn snapshots_stand_still(place: &dyn Place) {
    let engine = place.open().await.unwrap();
    engine.apply(&[put("a", "1"), put("b", "1")]).await.unwrap();
    let before = engine.snapshot().await.unwrap();
    let mut deletion = Part::default();
    deletion.delete(key("b"));
    engine
        .apply(&[put("a", "2"), deletion, put("c", "2")])
        .await
        .unwrap();
    let after = engine.snapshot().await.unwrap();
    engine.apply(&[put("a", "3")]).await.unwrap();
    // Asked twice: it is one moment, not that of the first question.
    for _ in 0..2 {
        let all = between("a", "z", Order::Ascending);
        assert_eq!(get(&*before, "a").await.as_deref(), Some("1"));
        assert_eq!(names(&*before, all).await, ["a", "b"]);
        assert_eq!(get(&*after, "a").await.as_deref(), Some("2"));
        assert_eq!(names(&*after, all).await, ["a", "c"]);
        assert_eq!(get(&*engine, "a").await.as_deref(), Some("3"));
    }
}

async fn snapshots_have_ranges(place: &dyn Place) {
    let engine = place.open().await.unwrap();
    let large = "x".repeat(300 << 10);
    let parts = [("b", "1"), ("d", &large), ("f", "1"), ("h", &large)];
    engine
        .apply(&parts.map(|(name, value)| put(name, value)))
        .await
        .unwrap();
    let ranges = [Order::Ascending, Order::Descending].map(|order| between("a", "z", order));
    let mut expected = Vec::new();
    for range in ranges {
        expected.push(engine.range(range).await.unwrap());
    }
    let moment = engine.snapshot().await.unwrap();
    let mut deletions = Part::default();
    deletions.delete(key("b")).delete(key("h"));
    let changes = ["a", "c", "d", "i"].map(|name| put(name, "2"));
    engine.apply(&changes).await.unwrap();
    engine.apply(&[deletions]).await.unwrap();
    for (range, expected) in ranges.into_iter().zip(&expected) {
        assert_eq!(moment.range(range).await.unwrap(), *expected, "{range:?}");
        let fewer = Range { limit: 3, ..range };
        assert_eq!(moment.range(fewer).await.unwrap(), expected[..3]);
    }
    assert_eq!(names(&*engine, ranges[0]).await, ["a", "c", "d", "f", "i"]);
}

async fn the_last_write_wins(place: &dyn Place) {
    let engine = place.open().await.unwrap();
    let mut both = put("a", "1");
    both.delete(key("a"))
        .put(key("b"), key("1"))
        .put(key("b"), key("2"));
    engine
        .apply(&[both, put("c", "1"), put("c", "2")])
        .await
        .unwrap();
    assert_eq!(get(&*engine, "a").await, None);
    assert_eq!(get(&*engine, "b").await.as_deref(), Some("2"));
    assert_eq!(get(&*engine, "c").await.as_deref(), Some("2"));
}

async fn reopening_keeps_everything(place: &dyn Place) {
    let engine = place.open().await.unwrap();
    let large = "x".repeat(3 << 20);
    let mut deletion = Part::default();
    deletion.delete(key("gone"));
    engine
        .apply(&[put("gone", "1"), put("large", &large)])
        .await
        .unwrap();
    engine.apply(&[deletion, put("kept", "1")]).await.unwrap();
    drop(engine);
    let engine = place.open().await.unwrap();
    assert_eq!(
        get(&*engine, "large").await.as_deref(),
        Some(large.as_str())
    );
    assert_eq!(get(&*engine, "kept").await.as_deref(), Some("1"));
    assert_eq!(get(&*engine, "gone").await, None);
}

/// Goal: a journal that lost its tail is noticed at opening; by noting a batch that is not there.
#[tokio::test]
async fn a_lost_tail_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let engine = EmbeddedEngine::open(folder.path()).unwrap();
    engine.apply(&[put("a", "1")]).await.unwrap();
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

/// Goal: a crash loses nothing that was answered, and of what was not answered all or nothing. Method: the
/// power goes before and after the disk has synced a batch that overwrites, deletes, appends and adds.
#[tokio::test]
async fn a_crash_loses_only_what_was_not_answered() {
    for (when, kept) in [(PowerLoss::BeforeSync, false), (PowerLoss::AfterSync, true)] {
        let engine = MemoryEngine::default();
        engine
            .apply(&[put("a", "1"), put("gone", "1"), append("one")])
            .await
            .unwrap();
        let answered = everything(&engine).await;
        engine.lose_power(when);
        let mut batch = put("a", "2");
        batch.delete(key("gone")).put(key("b"), key("2"));
        batch.put(key("a"), key("3"));
        let unanswered = engine.apply(&[batch, append("two")]).await;
        assert!(matches!(unanswered, Err(StoreError::Engine(_))));
        // A process that does not notice is not let on.
        let more = engine.apply(&[put("c", "1")]).await;
        assert!(matches!(more, Err(StoreError::Stopped)));
        engine.crash();
        assert_eq!(everything(&engine).await == answered, !kept, "{when:?}");
        assert_eq!(get(&engine, "a").await.as_deref() == Some("3"), kept);
        assert_eq!(entries(&engine).await.len(), if kept { 2 } else { 1 });
        // It writes again, and a crash without cause changes nothing.
        engine.apply(&[put("c", "1")]).await.unwrap();
        engine.crash();
        assert_eq!(get(&engine, "c").await.as_deref(), Some("1"));
    }
}
