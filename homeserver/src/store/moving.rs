//! `homeserver store move`: everything in one store to another, empty one.
//!
//! Invariants:
//! - The source is read, and nothing else.
//! - Entries move as they are stored: contents stay sealed, and keys wrapped. The generations that open them are outside of both
//!   stores ([`super::sealed`]), and both hang on the same ones until the first rotation of either.
//! - What marks the target as a store comes last, when all else was read back from it and the source is still what it
//!   was: no homeserver starts on a part of a store, or on one that was left behind.

use super::check;
use super::everything::{Everything, Sum, Summing, is_empty};
use super::{Part, PartOutcome, Precondition, Store, StoreError, schema};

/// Why nothing was moved. Whatever the target holds by then is to be thrown away.
#[derive(Debug, thiserror::Error)]
pub enum MoveError {
    /// One of the two stores failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Something lies in the target.
    #[error(
        "the target is not empty: it may be another organisation's store, or what is left of a move that did not come to \
         its end; give this one an empty folder or database of its own"
    )]
    NotEmpty,
    /// The source is in use.
    #[error(
        "the store changed while it was read: a homeserver uses it; stop every homeserver of the organisation, empty the \
         target and begin again"
    )]
    Changed,
    /// The target does not give back what was written.
    #[error(
        "the target does not hold what was written to it: its disk or its database is damaged; the source is as it was"
    )]
    Different,
}

/// What is being done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The source is read.
    Checking,
    /// The target is written.
    Copying,
    /// The target is read.
    Comparing,
    /// The source is read once more.
    CheckingAgain,
}

/// Moves everything in `source` to `target`; what that comes to. `told` hears what is being done, and which part of it
/// is done, of how much.
pub async fn move_all(
    source: &Store,
    target: &Store,
    mut told: impl FnMut(Step, u64, u64),
) -> Result<Sum, MoveError> {
    if !is_empty(target).await? {
        return Err(MoveError::NotEmpty);
    }
    told(Step::Checking, 0, 0);
    let before = check::check(source).await?.sum;
    let written = copy(source, target, |done| {
        told(Step::Copying, done, before.entries);
    })
    .await?;
    let read = sum(target, |done| {
        told(Step::Comparing, done, before.entries);
    })
    .await?;
    if written != read {
        return Err(MoveError::Different);
    }
    told(Step::CheckingAgain, 0, before.entries);
    if check::check(source).await?.sum != before {
        return Err(MoveError::Changed);
    }
    mark(source, target).await?;
    Ok(before)
}

/// Writes all but the mark; what that comes to.
async fn copy(
    source: &Store,
    target: &Store,
    mut done: impl FnMut(u64),
) -> Result<Sum, StoreError> {
    let mark = schema::key();
    let mut all = Everything::of(source).await?;
    let mut summing = Summing::default();
    loop {
        let chunk = all.next().await?;
        if chunk.is_empty() {
            return Ok(summing.sum());
        }
        let mut part = Part::default();
        for (key, value) in chunk {
            if key != mark {
                summing.add(&key, &value);
                part.put(key, value);
            }
        }
        if !part.writes.is_empty() {
            target.commit(part).await?;
        }
        done(summing.entries());
    }
}

/// What a store comes to that has no mark yet.
async fn sum(store: &Store, mut done: impl FnMut(u64)) -> Result<Sum, StoreError> {
    let mut all = Everything::of(store).await?;
    let mut summing = Summing::default();
    loop {
        let chunk = all.next().await?;
        if chunk.is_empty() {
            return Ok(summing.sum());
        }
        for (key, value) in &chunk {
            summing.add(key, value);
        }
        done(summing.entries());
    }
}

/// Makes the target a store.
async fn mark(source: &Store, target: &Store) -> Result<(), MoveError> {
    let key = schema::key();
    let Some(version) = source.get(&key).await? else {
        return Err(MoveError::Changed);
    };
    let mut part = Part::default();
    part.require(Precondition::Absent(key.clone()));
    part.put(key, version);
    match target.commit(part).await? {
        PartOutcome::Committed => Ok(()),
        PartOutcome::Conflict => Err(MoveError::NotEmpty),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use bytes::Bytes;
    use ring::rand::SystemRandom;

    use super::*;
    use crate::clock::Clock;
    use crate::store::engine::memory::MemoryEngine;
    use crate::store::engine::{Answer, Engine, Range, Read};
    use crate::store::payload::{self, PayloadId};
    use crate::store::sealed::generations::{GenerationFolder, Generations};
    use crate::store::sealed::{self, MasterKey, rotation};
    use crate::store::{Key, Value, Write};

    fn store() -> Store {
        Store::new(Arc::new(MemoryEngine::default())).unwrap()
    }

    fn part(name: &'static str, value: &'static str) -> Part {
        let mut part = Part::default();
        part.put(
            Key::from_static(name.as_bytes()),
            Value::from_static(value.as_bytes()),
        );
        part
    }

    async fn filled() -> Store {
        let store = store();
        fill(&store).await;
        store
    }

    /// More than one chunk.
    async fn fill(store: &Store) {
        let mut part = Part::default();
        schema::put(&mut part);
        for number in 0..2500 {
            let key = format!("P{number:05}");
            part.put(key.into_bytes().into(), vec![7; number].into());
        }
        store.commit(part).await.unwrap();
    }

    /// Goal: the target holds what the source does, which stays, and the steps are told up to their ends. Method: move, and
    /// compare both with what was there before.
    #[tokio::test]
    async fn everything_is_moved() {
        let (source, target) = (filled().await, store());
        let before = check::check(&source).await.unwrap();
        let mut steps: Vec<(Step, u64, u64)> = Vec::new();
        let moved = move_all(&source, &target, |step, done, of| {
            steps.retain(|(known, ..)| *known != step);
            steps.push((step, done, of));
        });
        assert_eq!(moved.await.unwrap(), before.sum);
        assert_eq!(check::check(&source).await.unwrap(), before);
        assert_eq!(check::check(&target).await.unwrap(), before);
        assert_eq!(before.sum.entries, 2501);
        // All but the mark are counted.
        let last = [
            (Step::Checking, 0, 0),
            (Step::Copying, 2500, 2501),
            (Step::Comparing, 2500, 2501),
            (Step::CheckingAgain, 0, 2501),
        ];
        assert_eq!(steps, last);
    }

    /// Goal: nothing is written over. Method: a target with one entry, and one that was moved to already.
    #[tokio::test]
    async fn a_target_that_is_not_empty_is_refused() {
        let (source, target) = (filled().await, store());
        target.commit(part("Z", "somebody's")).await.unwrap();
        let refused = move_all(&source, &target, |_, _, _| ()).await;
        assert!(matches!(refused, Err(MoveError::NotEmpty)));
        assert_eq!(target.get(b"P00001").await.unwrap(), None);

        let target = store();
        move_all(&source, &target, |_, _, _| ()).await.unwrap();
        let refused = move_all(&source, &target, |_, _, _| ()).await;
        assert!(matches!(refused, Err(MoveError::NotEmpty)));
    }

    /// Goal: a source that is no store is told before anything is written. Method: an empty one.
    #[tokio::test]
    async fn a_source_that_is_no_store_is_refused() {
        let target = store();
        let refused = move_all(&store(), &target, |_, _, _| ()).await;
        assert!(matches!(refused, Err(MoveError::Store(StoreError::Empty))));
        assert!(is_empty(&target).await.unwrap());
    }

    struct At(u64);

    impl Clock for At {
        fn now_ms(&self) -> u64 {
            self.0
        }
    }

    /// Goal: what is sealed is moved as it is, and opened where it has come to, by the generations of where it was; the first
    /// rotation there closes the former store for good. Method: two payloads; a rotation after the move.
    #[tokio::test]
    #[expect(clippy::disallowed_methods, reason = "a test draws its own randomness")]
    async fn what_is_sealed_is_moved_as_it_is() {
        let random = Arc::new(SystemRandom::new());
        let place = tempfile::tempdir().unwrap();
        let folder = || {
            let master = MasterKey::parse(&format!("{}=", "A".repeat(43))).unwrap();
            GenerationFolder::at(place.path().join("generations"), master)
        };
        let engine = || -> Arc<dyn Engine> { Arc::new(MemoryEngine::default()) };
        let open = async |engine: &Arc<dyn Engine>| {
            let generations = Generations::in_folder(folder());
            Store::sealed(Arc::clone(engine), generations, random.clone()).await
        };
        let (former, new) = (engine(), engine());
        let mut part = Part::default();
        schema::put(&mut part);
        sealed::put_first(&mut part, &folder().create(1, &*random).unwrap());
        former.apply(&[part]).await.unwrap();

        let source = open(&former).await.unwrap();
        let (id, words) = (|n| PayloadId([n; 16]), Bytes::from_static(b"words"));
        let mut part = Part::default();
        payload::put(&mut part, id(1), None, &words);
        payload::put(&mut part, id(2), None, &words);
        source.commit(part).await.unwrap();
        let target = Store::new(Arc::clone(&new)).unwrap();
        move_all(&source, &target, |_, _, _| ()).await.unwrap();
        let target = open(&new).await.unwrap();
        check::check(&target).await.unwrap();

        let mut part = Part::default();
        payload::delete(&mut part, id(2), None);
        target.commit(part).await.unwrap();
        let later = At(1 + rotation::ROTATE_AFTER_MS);
        rotation::look(&target, &later).await.unwrap();
        let read = payload::get(&target, id(1)).await.unwrap();
        assert_eq!(read, Some(words));
        let refused = open(&former).await.err();
        assert!(matches!(refused, Some(StoreError::Keys(_))), "{refused:?}");
    }

    /// An engine that does not do what it is told.
    #[derive(Default)]
    struct Faulty {
        memory: MemoryEngine,
        /// Loses what is put under this key.
        loses: &'static [u8],
        /// Is written to by somebody else before it gives this snapshot.
        in_use_at: Option<u32>,
        snapshots: AtomicU32,
    }

    impl Engine for Faulty {
        fn apply<'a>(&'a self, parts: &'a [Part]) -> Answer<'a, Vec<PartOutcome>> {
            let lost =
                |write: &Write| matches!(write, Write::Put(key, _) if key.as_ref() == self.loses);
            let mut kept = parts.to_vec();
            for part in &mut kept {
                part.writes.retain(|write| !lost(write));
            }
            Box::pin(async move { self.memory.apply(&kept).await })
        }

        fn snapshot(&self) -> Answer<'_, Box<dyn Read>> {
            let number = self.snapshots.fetch_add(1, Ordering::Relaxed) + 1;
            Box::pin(async move {
                if self.in_use_at == Some(number) {
                    self.memory.apply(&[part("Pnew", "1")]).await?;
                }
                self.memory.snapshot().await
            })
        }
    }

    impl Read for Faulty {
        fn get<'a>(&'a self, key: &'a [u8]) -> Answer<'a, Option<Value>> {
            self.memory.get(key)
        }

        fn range<'a>(&'a self, range: Range<'a>) -> Answer<'a, Vec<(Key, Value)>> {
            self.memory.range(range)
        }
    }

    /// Goal: no homeserver starts on what was left behind by a source in use. Method: one that changes after it was
    /// checked, or after it was copied.
    #[tokio::test]
    async fn a_source_in_use_is_noticed() {
        for in_use_at in [2, 3] {
            let source = Store::new(Arc::new(Faulty {
                in_use_at: Some(in_use_at),
                ..Faulty::default()
            }));
            let (source, target) = (source.unwrap(), store());
            fill(&source).await;
            let moved = move_all(&source, &target, |_, _, _| ()).await;
            assert!(matches!(moved, Err(MoveError::Changed)), "{moved:?}");
            let marked = schema::check(&target).await;
            assert!(matches!(marked, Err(StoreError::Empty)), "{marked:?}");
        }
    }

    /// Goal: a target that does not keep what it was given is not used. Method: an engine that loses one entry.
    #[tokio::test]
    async fn a_target_that_loses_something_is_noticed() {
        let source = filled().await;
        let target = Store::new(Arc::new(Faulty {
            loses: b"P01234",
            ..Faulty::default()
        }));
        let target = target.unwrap();
        let moved = move_all(&source, &target, |_, _, _| ()).await;
        assert!(matches!(moved, Err(MoveError::Different)), "{moved:?}");
        let marked = schema::check(&target).await;
        assert!(matches!(marked, Err(StoreError::Empty)), "{marked:?}");
    }
}
