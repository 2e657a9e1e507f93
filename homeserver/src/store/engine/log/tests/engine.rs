//! The engine over the log: crashes while it drains, reads against the plainest engine, what stays on
//! the disk, and the way to a log and back.

use futures_util::FutureExt as _;
use proptest::prelude::*;

use super::*;
use crate::store::engine::embedded::EmbeddedEngine;
use crate::store::engine::memory::MemoryEngine;
use crate::store::engine::open_embedded;
use crate::store::engine::tests::reference::any_part;
use crate::store::{Order, Precondition};
use drain::{Step, drain_all, drain_oldest, tidy};

/// An engine in this process never waits.
fn done<T>(answer: Answer<'_, T>) -> Result<T, StoreError> {
    answer.now_or_never().expect("answers at once")
}

fn put(name: &str, value: &str) -> Part {
    let mut part = Part::default();
    part.put(key(name), key(value));
    part
}

fn deletion(name: &str) -> Part {
    let mut part = Part::default();
    part.delete(key(name));
    part
}

fn all<'a>(order: Order) -> Range<'a> {
    Range {
        from: b"\x01",
        to: b"\xff",
        limit: usize::MAX,
        bytes_max: usize::MAX,
        order,
    }
}

fn everything(read: &dyn Read) -> Vec<(Key, Value)> {
    done(read.range(all(Order::Ascending))).unwrap()
}

/// What the engine of a folder shows, as it is opened after the end of a process.
fn found_in(folder: &Path) -> Vec<(Key, Value)> {
    everything(&Shared::open(folder, few()).unwrap().cut(b"", None))
}

fn shown(shared: &Shared) -> Vec<(Key, Value)> {
    everything(&shared.cut(b"", None))
}

/// Goal: a process that is killed between any two steps of a drain loses nothing and shows nothing
/// twice or late. Method: the folder as each step leaves it is opened, and drained once more, with keys
/// that are new, overwritten, and deleted, in the layer and behind it.
#[test]
fn a_drain_may_end_anywhere() {
    let folder = tempfile::tempdir().unwrap();
    let shared = Shared::open(folder.path(), few()).unwrap();
    shared
        .apply(&[put("a", "1"), put("b", "1"), put("c", "1")])
        .unwrap();
    drain_all(&shared).unwrap();
    let mut steps = Vec::new();
    for round in 2..5 {
        let value = round.to_string();
        shared
            .apply(&[put("a", &value), put(&format!("new{value}"), &value)])
            .unwrap();
        shared.apply(&[deletion("b"), put("d", &value)]).unwrap();
        shared.young_mut().close();
        shared.apply(&[put("d", "late"), deletion("c")]).unwrap();
        shared.young_mut().close();
        let expected = shown(&shared);
        let mut check = |step| {
            steps.push(step);
            assert_eq!(shown(&shared), expected, "{step:?}");
            let killed = killed_here(folder.path());
            assert_eq!(found_in(killed.path()), expected, "{step:?}");
            // And once more, the way to the end.
            let again = Shared::open(killed.path(), few()).unwrap();
            drain_all(&again).unwrap();
            assert_eq!(shown(&again), expected, "{step:?}");
            drop(again);
            assert_eq!(found_in(killed.path()), expected, "{step:?}");
        };
        while drain_oldest(&shared, &mut check).unwrap() {}
    }
    for step in [Step::Part, Step::Written, Step::Dropped, Step::Freed] {
        assert!(steps.contains(&step), "{step:?}");
    }
}

/// Goal: what was put and deleted while it was young never reaches the index, and what was overwritten
/// gets there once. Method: the bytes of every file but the log's.
#[test]
fn what_dies_young_never_reaches_the_index() {
    let folder = tempfile::tempdir().unwrap();
    let shared = Shared::open(folder.path(), few()).unwrap();
    shared
        .apply(&[put("short", "a short life"), put("kept", "an early state")])
        .unwrap();
    shared.young_mut().close();
    shared.apply(&[put("kept", "a long life")]).unwrap();
    shared.young_mut().close();
    shared.apply(&[deletion("short")]).unwrap();
    drain_all(&shared).unwrap();
    assert!(shared.young().is_empty());
    assert_eq!(shown(&shared), [(key("kept"), key("a long life"))]);
    let holds = |text: &str| {
        let mut files = files(folder.path()).into_iter();
        files.any(|(path, bytes)| {
            !path.starts_with(folder.path().join(FOLDER)) && contains(&bytes, text)
        })
    };
    assert!(holds("a long life"));
    for gone in ["a short life", "an early state", "short"] {
        assert!(!holds(gone), "{gone}");
    }
}

fn contains(bytes: &[u8], text: &str) -> bool {
    without_zeros(bytes)
        .windows(text.len())
        .any(|window| window == text.as_bytes())
}

/// Goal: what was deleted is no longer in the log once its segment is old, though nothing else is
/// written. Method: the log's bytes after each look of the background, by a clock that is moved.
#[test]
fn the_log_forgets_what_was_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let limits = few();
    let shared = Shared::open(folder.path(), limits).unwrap();
    shared
        .apply(&[put("a", "a secret"), put("b", "stays")])
        .unwrap();
    shared.apply(&[deletion("a")]).unwrap();
    let in_log = || {
        let mut files = files(&folder.path().join(FOLDER)).into_iter();
        files.any(|(_, bytes)| contains(&bytes, "a secret"))
    };
    assert!(in_log());
    let mut now = Instant::now();
    let mut minutes = 0;
    while in_log() {
        minutes += 1;
        assert!(minutes < 15, "still there after {minutes} minutes");
        now += limits.tidy_every;
        drain_all(&shared).unwrap();
        tidy(&shared, now).unwrap();
    }
    assert!(minutes > 3, "segments are not ended needlessly: {minutes}");
    assert_eq!(shown(&shared), [(key("b"), key("stays"))]);
    // And what is quiet stays quiet: no segment is ended that has nothing in it.
    let number = shared.writer().current.number();
    tidy(&shared, now + limits.segment_time_max * 2).unwrap();
    assert_eq!(shared.writer().current.number(), number);
    drop(shared);
    assert_eq!(found_in(folder.path()), [(key("b"), key("stays"))]);
}

/// Goal: a log that lost its end is refused although nothing in it looks wrong. Method: the note of the
/// last batch against a log whose last record is cut off.
#[test]
fn a_log_that_lost_its_end_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let shared = Shared::open(folder.path(), few()).unwrap();
    shared.apply(&[put("a", "1")]).unwrap();
    shared.apply(&[put("b", "1")]).unwrap();
    drop(shared);
    let (path, bytes) = files(&folder.path().join(FOLDER)).remove(0);
    std::fs::write(&path, &bytes[..record::RECORDS_AT + 48]).unwrap();
    let refused = Shared::open(folder.path(), few()).err();
    assert!(
        matches!(refused, Some(StoreError::Behind { found: 1, noted: 2 })),
        "{refused:?}"
    );
}

/// Goal: an index that lost its end is healed by the log while that is there, and refused afterwards.
/// Method: the index of before a drain, with the log of after it, freed and not freed.
#[test]
fn an_index_that_lost_its_end_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let shared = Shared::open(folder.path(), few()).unwrap();
    for round in 0..8 {
        shared
            .apply(&[put(&format!("key {round}"), "value")])
            .unwrap();
    }
    let expected = shown(&shared);
    for freed in [false, true] {
        let old = killed_here(folder.path());
        drain_all(&shared).unwrap();
        if freed {
            shared.pool.overwrite_free().unwrap();
        }
        let log = old.path().join(FOLDER);
        std::fs::remove_dir_all(&log).unwrap();
        std::fs::create_dir(&log).unwrap();
        for (path, bytes) in files(&folder.path().join(FOLDER)) {
            std::fs::write(log.join(path.file_name().unwrap()), bytes).unwrap();
        }
        if freed {
            let refused = Shared::open(old.path(), few()).err();
            assert!(matches!(refused, Some(StoreError::Log(_))), "{refused:?}");
        } else {
            assert_eq!(found_in(old.path()), expected);
            // From the beginning: an index that never held anything.
            shared.apply(&[put("key 0", "value")]).unwrap();
        }
    }
}

/// Goal: the writer waits for the background when much is young, and goes on; files are used again.
/// Method: far more than the bounds, with the real background, and what is there afterwards.
#[test]
fn the_writer_waits_for_the_index() {
    let folder = tempfile::tempdir().unwrap();
    let engine = LoggedEngine::open_within(folder.path(), few()).unwrap();
    let value = "x".repeat(200);
    for round in 0..600 {
        let mut parts = vec![put(&format!("{:04}", round % 150), &value)];
        if round % 3 == 0 {
            parts.push(deletion(&format!("{:04}", (round + 75) % 150)));
        }
        done(engine.apply(&parts)).unwrap();
        assert!(engine.shared.backlog.bytes() <= few().backlog_bytes_max);
    }
    let expected = everything(&engine);
    drop(engine);
    // Far fewer than were written to.
    let segments = files(&folder.path().join(FOLDER)).len();
    assert!(segments < 100, "{segments} segments");
    assert_eq!(found_in(folder.path()), expected);
}

/// Goal: once nothing goes to the index any more nothing is written, and the writer never waits in vain.
/// Method: the background's failure.
#[test]
fn a_failed_drain_stops_the_store() {
    let folder = tempfile::tempdir().unwrap();
    let shared = Shared::open(folder.path(), few()).unwrap();
    shared.apply(&[put("a", "1")]).unwrap();
    shared
        .backlog
        .fail(StoreError::Engine("input/output error".to_owned()));
    let refused = shared.apply(&[put("b", "1")]);
    assert!(matches!(refused, Err(StoreError::Engine(_))), "{refused:?}");
    let refused = shared.apply(&[put("c", "1")]);
    assert!(matches!(refused, Err(StoreError::Stopped)), "{refused:?}");
    assert_eq!(shown(&shared), [(key("a"), key("1"))]);
}

/// Goal: a snapshot stays as it is while layers close, drain and are overwritten, and with more in the
/// newest layer than a reader copies. Method: snapshots at several points, read at the end.
#[test]
fn snapshots_outlive_drains() {
    let folder = tempfile::tempdir().unwrap();
    let limits = Limits {
        layer_bytes_max: 1 << 20,
        segment_bytes: 1 << 16,
        backlog_bytes_max: 1 << 24,
        ..few()
    };
    let shared = Shared::open(folder.path(), limits).unwrap();
    let mut taken = Vec::new();
    for round in 0..6 {
        let value = round.to_string();
        let parts: Vec<Part> = (0..1100)
            .map(|n| match (n + round) % 5 {
                0 => deletion(&format!("{n:04}")),
                _ => put(&format!("{n:04}"), &value),
            })
            .collect();
        shared.apply(&parts).unwrap();
        let snapshot = shared.cut(b"", None);
        let seen = everything(&snapshot);
        taken.push((snapshot, seen));
        if round % 2 == 1 {
            shared.young_mut().close();
            drain_oldest(&shared, &mut |_| ()).unwrap();
        }
    }
    drain_all(&shared).unwrap();
    for (snapshot, seen) in &taken {
        assert_eq!(&everything(snapshot), seen);
        assert_eq!(
            done(Read::get(snapshot, b"0003")).unwrap().as_ref(),
            value_of(seen, "0003")
        );
    }
}

fn value_of<'a>(entries: &'a [(Key, Value)], name: &str) -> Option<&'a Value> {
    let found = entries.iter().find(|(key, _)| key == name.as_bytes());
    found.map(|(_, value)| value)
}

/// Goal: the log can be switched on and off over one store, with whatever waits in it; each way loses
/// nothing, and the plain engine alone refuses a store with a log. Method: one store, to and fro.
#[test]
fn the_log_is_switched_on_and_off() {
    let folder = tempfile::tempdir().unwrap();
    let mut expected = Vec::new();
    for (round, log) in [false, true, true, false, false, true, false]
        .into_iter()
        .enumerate()
    {
        let engine = open_embedded(folder.path(), log).unwrap();
        assert_eq!(everything(&*engine), expected, "round {round}");
        for step in 0..3 {
            let part = put(&format!("{round} {step}"), "value");
            done(engine.apply(&[part])).unwrap();
        }
        expected = everything(&*engine);
        assert_eq!(expected.len(), (round + 1) * 3);
        drop(engine);
        assert_eq!(folder.path().join(FOLDER).is_dir(), log);
        let plain = EmbeddedEngine::open(folder.path());
        assert_eq!(plain.is_err(), log, "round {round}");
    }
}

/// Goal: a process that ends while it switches the log off has lost nothing. Method: the folder as it is
/// before the files are removed, opened both ways.
#[test]
fn switching_off_may_end_half_way() {
    for log in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let shared = Shared::open(folder.path(), Limits::default()).unwrap();
        shared.apply(&[put("a", "1")]).unwrap();
        drain_all(&shared).unwrap();
        shared.index.write([], &[Mark::Log(None)]).unwrap();
        drop(shared);
        let engine = open_embedded(folder.path(), log).unwrap();
        done(engine.apply(&[put("b", "1")])).unwrap();
        drop(engine);
        let engine = open_embedded(folder.path(), !log).unwrap();
        assert_eq!(everything(&*engine).len(), 2);
    }
}

/// Goal: a process that ends while it makes a log leaves nothing that is in the way. Method: a log that
/// the index does not note, over a store that has batches.
#[test]
fn making_a_log_may_end_half_way() {
    let folder = tempfile::tempdir().unwrap();
    let engine = EmbeddedEngine::open(folder.path()).unwrap();
    done(engine.apply(&[put("a", "1")])).unwrap();
    drop(engine);
    let log = folder.path().join(FOLDER);
    drop(recovery::make(&log, new_log_id(), few().segment_bytes, 1).unwrap());
    let shared = Shared::open(folder.path(), few()).unwrap();
    shared.apply(&[put("b", "1")]).unwrap();
    drop(shared);
    assert_eq!(found_in(folder.path()).len(), 2);
}

/// Goal: a log of batches that the store knows nothing of is refused, not written over. Method: the
/// index is told that it has no log.
#[test]
fn a_log_that_nobody_knows_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let shared = Shared::open(folder.path(), few()).unwrap();
    shared.apply(&[put("a", "1")]).unwrap();
    shared.index.write([], &[Mark::Log(None)]).unwrap();
    drop(shared);
    let refused = Shared::open(folder.path(), few()).err();
    assert!(matches!(refused, Some(StoreError::Log(_))), "{refused:?}");
}

#[derive(Debug, Clone)]
enum Act {
    Apply(Vec<Part>),
    Close,
    Drain,
    /// A minute passes.
    Tidy,
    /// The process is killed.
    Reopen,
}

fn any_act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => proptest::collection::vec(any_part(), 1..6).prop_map(Act::Apply),
        2 => Just(Act::Close),
        2 => Just(Act::Drain),
        1 => Just(Act::Tidy),
        1 => Just(Act::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Goal: reads and outcomes are those of the plainest engine, whatever is young, closed, drained or
    /// replayed. Method: random parts with few keys, among random drains and reopenings.
    #[test]
    fn agrees_with_memory(acts in proptest::collection::vec(any_act(), 1..40)) {
        let folder = tempfile::tempdir().unwrap();
        let memory = MemoryEngine::default();
        let mut shared = Shared::open(folder.path(), few()).unwrap();
        let mut now = Instant::now();
        for act in acts {
            match act {
                Act::Apply(parts) => {
                    let expected = done(memory.apply(&parts)).unwrap();
                    prop_assert_eq!(shared.apply(&parts).unwrap(), expected);
                }
                Act::Close => shared.young_mut().close(),
                Act::Drain => {
                    drain_oldest(&shared, &mut |_| ()).unwrap();
                }
                Act::Tidy => {
                    now += few().tidy_every;
                    tidy(&shared, now).unwrap();
                }
                Act::Reopen => {
                    drop(shared);
                    shared = Shared::open(folder.path(), few()).unwrap();
                }
            }
            for limit in [1, 3, usize::MAX] {
                for order in [Order::Ascending, Order::Descending] {
                    let range = Range { limit, ..all(order) };
                    let expected = done(memory.range(range)).unwrap();
                    prop_assert_eq!(shared.range(range).unwrap(), expected);
                }
            }
            for (name, value) in everything(&memory) {
                prop_assert_eq!(shared.get(&name).unwrap(), Some(value));
            }
        }
    }
}

/// Goal: a precondition on what is young, drained or deleted is judged alike. Method: one key through all
/// of its states.
#[test]
fn preconditions_see_what_is_young() {
    let folder = tempfile::tempdir().unwrap();
    let shared = Shared::open(folder.path(), few()).unwrap();
    let judged = |precondition: Precondition| {
        let mut part = Part::default();
        part.require(precondition);
        shared.apply(&[part]).unwrap() == [PartOutcome::Committed]
    };
    let a = || key("a");
    assert!(judged(Precondition::Absent(a())));
    for drained in [false, true] {
        shared.apply(&[put("a", "1")]).unwrap();
        if drained {
            drain_all(&shared).unwrap();
        }
        assert!(judged(Precondition::Equals(a(), key("1"))));
        shared.apply(&[deletion("a")]).unwrap();
        if drained {
            drain_all(&shared).unwrap();
        }
        assert!(judged(Precondition::Absent(a())));
    }
}

/// Goal: the background, which makes room, never waits for a writer who waits for room. Method: a log that is tidied all the
/// time and has room for some batches, and a thread that writes as fast as it can and must come to its end.
#[test]
fn waiting_for_room_stops_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let engine = small(folder.path()).unwrap();
    let (ended, end) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let value = "x".repeat(4_000);
        for round in 0..1_500 {
            done(engine.apply(&[put(&format!("{:04}", round % 50), &value)])).unwrap();
        }
        ended.send(()).unwrap();
    });
    let patience = Duration::from_secs(120);
    assert!(end.recv_timeout(patience).is_ok(), "it waits for ever");
}
