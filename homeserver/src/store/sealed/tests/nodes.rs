//! Several processes over one store and one folder of generations: which of them rotates, and what becomes of one that is
//! stopped in the midst of it.

use std::sync::{Mutex, mpsc};
use std::time::Duration;

use super::super::rotation::{ROTATE_SHARED_AFTER_MS, look_as};
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

/// Goal: an empty folder, which is what one looks like that is not mounted, destroys nothing: no generation is made, taken into
/// use or forgotten, and whoever looks is told. Method: the files are away when a rotation is due, when one is half-way, and
/// while another process looks on.
#[tokio::test]
async fn an_empty_folder_destroys_nothing() {
    let world = World::in_memory().await;
    let (store, other) = (world.open().await, world.open().await);
    let [folder, aside] = ["generations", "aside"].map(|name| world.place.path().join(name));
    let away = || {
        std::fs::rename(&folder, &aside).unwrap();
        std::fs::create_dir(&folder).unwrap();
    };
    let back = || {
        std::fs::remove_dir(&folder).unwrap();
        std::fs::rename(&aside, &folder).unwrap();
    };
    let is_told = |looked: Result<(), StoreError>| {
        let told = looked.unwrap_err();
        assert!(matches!(told, StoreError::Keys(_)), "{told}");
        assert!(told.to_string().contains("is it mounted?"), "{told}");
    };
    let seals = store.seals().unwrap();
    put(&store, 0..400).await;
    delete(&store, 0).await;
    world.clock.advance(ROTATE_AFTER_MS);
    let in_use = world.raw(&[KEYS]).await;
    away();
    is_told(look(&store, &world.clock).await);
    is_told(seals.mind().await);
    assert!(seals.trouble().is_some());
    assert_eq!(world.raw(&[KEYS]).await, in_use);
    assert!(world.generations().is_empty());
    back();
    seals.mind().await.unwrap();
    assert!(seals.trouble().is_none());

    let stop = |step| match step {
        Step::Part => Err(StoreError::Stopped),
        _ => Ok(()),
    };
    let ended = look_between(&store, &world.clock, Share::Alone, &stop).await;
    assert!(ended.is_err());
    look_as(&other, &world.clock, Share::Others).await.unwrap();
    let in_use = world.raw(&[KEYS]).await;
    world.clock.advance(5 * 60 * 1000);
    away();
    is_told(look(&store, &world.clock).await);
    is_told(look_as(&other, &world.clock, Share::Others).await);
    assert_eq!(world.raw(&[KEYS]).await, in_use);
    for store in [&store, &other] {
        assert_eq!(store.seals().unwrap().ring.load().older.len(), 1);
        assert_eq!(read(store, 399).await, Some(words(399)));
    }
    back();
    look(&store, &world.clock).await.unwrap();
    assert_eq!(world.generations(), [2]);
    for n in 1..400 {
        assert_eq!(read(&store, n).await, Some(words(n)), "{n}");
    }
}

/// Goal: what can't be opened because its generation is not there counts for nothing but that: it is no damaged record, which
/// would be thrown away; and it is read once the generation is there, as a folder of another machine may show it later.
/// Method: a row of the outbox whose generation's file is away when the process starts.
#[tokio::test]
async fn what_lacks_its_generation_is_not_damaged() {
    let world = World::in_memory().await;
    let store = world.open().await;
    let peer: ServerName = "b.example".parse().unwrap();
    let row = OutboxRow {
        kind: Kind::Message,
        payload: words(1),
        created_ms: 5,
        expires_ms: 9,
        sender: None,
        origin: None,
    };
    let mut part = Part::default();
    let lane = Lane::from_bytes([3; 16]);
    outbox::append(&mut part, &peer, lane, outbox::value(&row).unwrap());
    store.commit(part).await.unwrap();
    put(&store, 1..2).await;
    delete(&store, 1).await;
    world.clock.advance(ROTATE_AFTER_MS);
    let stop = |step| match step {
        Step::InUse => Err(StoreError::Stopped),
        _ => Ok(()),
    };
    let ended = look_between(&store, &world.clock, Share::Alone, &stop).await;
    assert!(ended.is_err());
    drop(store);

    let former = world.place.path().join("generations/00000001.generation");
    let aside = world.place.path().join("aside");
    std::fs::rename(&former, &aside).unwrap();
    let store = world.open().await;
    let rows = outbox::lane(&store, &peer, lane, 0, 9).await;
    assert!(matches!(rows, Err(StoreError::Keys(_))));
    let undecodable = outbox::undecodable(&store, &peer).await;
    assert!(matches!(undecodable, Err(StoreError::Keys(_))));
    std::fs::rename(&aside, &former).unwrap();
    let rows = outbox::lane(&store, &peer, lane, 0, 9).await.unwrap();
    assert_eq!(rows.len(), 1);
    look(&store, &world.clock).await.unwrap();
    assert_eq!(world.generations(), [2]);
    assert_eq!(
        outbox::lane(&store, &peer, lane, 0, 9).await.unwrap().len(),
        1
    );
}

/// Goal: nodes that have a folder each, and not one that they share, are told so: neither reads what the other has sealed, and
/// their generations have the same numbers. Method: a process over the same engine whose folder has another generation 1.
#[tokio::test]
async fn a_folder_of_its_own_is_refused() {
    let world = World::in_memory().await;
    let _store = world.open().await;
    let folder = world.place.path().join("its-own");
    GenerationFolder::at(&folder, master())
        .create(NOW_MS, &random())
        .unwrap();
    let generations = Generations::in_folder(GenerationFolder::at(&folder, master()));
    let refused = Store::sealed(Arc::clone(&world.engine), generations, Arc::new(random())).await;
    let refused = refused.err().unwrap().to_string();
    assert!(refused.contains("one folder that they share"), "{refused}");
}

/// Goal: several processes rotate earlier, so that what was deleted is unreadable in time also when the one that rotates dies in
/// the midst of it. Method: seven minutes.
#[tokio::test]
async fn several_processes_rotate_earlier() {
    let world = World::in_memory().await;
    let store = world.open().await;
    world.clock.advance(ROTATE_SHARED_AFTER_MS);
    look_as(&store, &world.clock, Share::Alone).await.unwrap();
    assert_eq!(world.generations(), [1]);
    look_as(&store, &world.clock, Share::Ours).await.unwrap();
    assert_eq!(world.generations(), [2]);
}
