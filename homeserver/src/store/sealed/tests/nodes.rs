//! Several processes over one store and one folder of generations: which of them rotates, and what becomes of one that is
//! stopped in the midst of it.

use std::sync::{Mutex, mpsc};
use std::time::Duration;

use super::super::rotation::look_as;
use super::*;

/// Longer than any test takes.
const PATIENCE: Duration = Duration::from_secs(60);

fn destroyed_ms(store: &Store) -> Option<u64> {
    store.seals().unwrap().status().destroyed_ms
}

/// Goal: one process rotates, also when another one has deleted something; the other takes up what that does and says when it
/// was done; what the one leaves half-way the other finishes as soon as it is its turn, whenever that was begun. Method: two
/// stores over one engine and folder, and a copy of a key from before its deletion.
#[tokio::test]
async fn one_of_several_rotates() {
    let world = World::in_memory().await;
    let (one, other) = (world.open().await, world.open().await);
    put(&one, 0..4).await;
    world.clock.advance(ROTATE_AFTER_MS);
    look_as(&one, &world.clock, Share::Ours).await.unwrap();
    assert_eq!(world.generations(), [2]);

    look_as(&other, &world.clock, Share::Others).await.unwrap();
    assert_eq!(other.seals().unwrap().status().generation, 2);
    assert_eq!(destroyed_ms(&other), Some(world.clock.now_ms()));
    let copy = world.raw(&row(&key(0))).await.unwrap();
    delete(&other, 0).await;
    world.clock.advance(ROTATE_AFTER_MS);
    look_as(&other, &world.clock, Share::Others).await.unwrap();
    assert_eq!(world.generations(), [2], "it is the other one's");
    look_as(&one, &world.clock, Share::Ours).await.unwrap();
    assert_eq!(world.generations(), [3]);
    assert!(!world.opens(&key(0), &copy));

    world.clock.advance(ROTATE_AFTER_MS);
    let stop = |step| match step {
        Step::InUse => Err(StoreError::Stopped),
        _ => Ok(()),
    };
    let ended = look_between(&one, &world.clock, Share::Ours, &stop).await;
    assert!(ended.is_err());
    look_as(&other, &world.clock, Share::Others).await.unwrap();
    assert_eq!(world.generations(), [3, 4]);
    look_as(&other, &world.clock, Share::Ours).await.unwrap();
    assert_eq!(world.generations(), [4]);
    look_as(&one, &world.clock, Share::Others).await.unwrap();
    for store in [&one, &other] {
        assert!(store.seals().unwrap().ring.load().older.is_empty());
        assert_eq!(read(store, 3).await, Some(words(3)));
    }
}

/// Goal: a process that is stopped while it wraps keys anew, and wakes when another one has taken a further generation into
/// use, wraps nothing any more under the one that will be destroyed, and destroys nothing; then it seals under the further one.
/// Method: the first one is held after its first part until the second, by a clock that is behind, has begun; and has ended
/// before the second goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_that_wakes_too_late_does_nothing() {
    let world = World::in_memory().await;
    let (one, other) = (world.open().await, world.open().await);
    put(&one, 0..600).await;
    delete(&one, 7).await;
    delete(&other, 8).await;
    // So that it takes up nothing that the first one has begun.
    look(&other, &world.clock).await.unwrap();

    let ((stopped, is_stopped), (wake, woken)) = (mpsc::channel(), mpsc::channel());
    let (done, is_done) = mpsc::channel();
    let (woken, is_done) = (Mutex::new(woken), Mutex::new(is_done));
    let (sleeper, clock) = (
        one.clone(),
        Standing(AtomicU64::new(NOW_MS + ROTATE_AFTER_MS)),
    );
    let sleeping = tokio::spawn(async move {
        let hold = |step: Step| -> Result<(), StoreError> {
            if step == Step::Part {
                stopped.send(()).unwrap();
                let woken = woken.lock().unwrap();
                woken.recv_timeout(PATIENCE).unwrap();
            }
            Ok(())
        };
        let ended = look_between(&sleeper, &clock, Share::Ours, &hold).await;
        done.send(()).unwrap();
        ended
    });
    is_stopped.recv_timeout(PATIENCE).unwrap();
    let folder = world.folder();
    let overtake = |step: Step| -> Result<(), StoreError> {
        if step == Step::InUse {
            wake.send(()).unwrap();
            is_done.lock().unwrap().recv_timeout(PATIENCE).unwrap();
            let left = folder.look().unwrap();
            let left: Vec<_> = left.iter().map(|generation| generation.number).collect();
            assert_eq!(left, [1, 2, 3], "it destroys nothing");
        }
        Ok(())
    };
    look_between(&other, &world.clock, Share::Ours, &overtake)
        .await
        .unwrap();
    sleeping.await.unwrap().unwrap();
    assert_eq!(one.seals().unwrap().figures.rewrapped.get(), 256);
    assert_eq!(other.seals().unwrap().figures.rewrapped.get(), 598);
    assert_eq!(world.generations(), [3]);
    put(&one, 600..601).await;
    for store in [&one, &other] {
        for n in (0..601).filter(|n| ![7, 8].contains(n)) {
            assert_eq!(read(store, n).await, Some(words(n)), "{n}");
        }
    }
}
