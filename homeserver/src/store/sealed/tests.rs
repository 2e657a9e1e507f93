//! Secure deletion over engines and folders as they are: what is sealed, what a rotation leaves, and what a crash may.

use std::path::Path;

use bytes::Bytes;
use federation_proto::envelope::{Kind, Lane};
use federation_proto::ids::{FileId, ServerName};
use ring::rand::SystemRandom;

use super::generations::{Generation, GenerationFile, GenerationFolder};
use super::key_ring::BACKUP;
use super::rotation::{ROTATE_AFTER_MS, Share, Step, look, look_between};
use super::*;
use crate::clock::Clock;
use crate::store::engine::memory::{MemoryEngine, PowerLoss};
use crate::store::engine::open_embedded;
use crate::store::engine::postgresql::tests::InDatabase;
use crate::store::outbox::OutboxRow;
use crate::store::payload::{self, PayloadId};
use crate::store::{PartOutcome, Store, file, outbox, schema, tally};

mod nodes;

const NOW_MS: u64 = 1_795_000_000_000;

struct Standing(AtomicU64);

impl Standing {
    fn advance(&self, ms: u64) {
        self.0.fetch_add(ms, Ordering::SeqCst);
    }
}

impl Clock for Standing {
    fn now_ms(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

#[expect(clippy::disallowed_methods, reason = "a test draws its own randomness")]
fn random() -> SystemRandom {
    SystemRandom::new()
}

fn master() -> MasterKey {
    MasterKey::parse(&format!("{}=", "A".repeat(43))).unwrap()
}

/// A folder with generations, and an engine that may lie beside them.
struct World {
    place: tempfile::TempDir,
    engine: Arc<dyn Engine>,
    clock: Standing,
}

impl World {
    async fn over(open: impl FnOnce(&Path) -> Arc<dyn Engine>) -> Self {
        let place = tempfile::tempdir().unwrap();
        let world = Self {
            engine: open(place.path()),
            place,
            clock: Standing(AtomicU64::new(NOW_MS)),
        };
        let first = world.folder().create(NOW_MS, &random()).unwrap();
        let mut part = Part::default();
        schema::put(&mut part);
        put_first(&mut part, &first);
        world.engine.apply(&[part]).await.unwrap();
        world
    }

    async fn in_memory() -> Self {
        Self::over(|_| Arc::new(MemoryEngine::default())).await
    }

    fn folder(&self) -> GenerationFolder {
        GenerationFolder::at(self.place.path().join("generations"), master())
    }

    fn generations(&self) -> Vec<u64> {
        let there = self.folder().look().unwrap();
        there.iter().map(|generation| generation.number).collect()
    }

    async fn open(&self) -> Store {
        let generations = Generations::in_folder(self.folder());
        let opened = Store::sealed(Arc::clone(&self.engine), generations, Arc::new(random()));
        opened.await.unwrap()
    }

    /// What lies at a key in the engine.
    async fn raw(&self, key: &[u8]) -> Option<Value> {
        self.engine.get(key).await.unwrap()
    }

    /// Whether any generation that is there opens a wrapped key.
    fn opens(&self, key: &[u8], wrapped: &Value) -> bool {
        let wrapped = WrappedKey::decode(wrapped).unwrap();
        let there = self.folder().look().unwrap();
        there
            .iter()
            .any(|generation| wrapped.open(bound(key), &generation.key).is_some())
    }
}

fn id(n: u64) -> PayloadId {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&n.to_be_bytes());
    PayloadId(id)
}

fn key(n: u64) -> Key {
    [&b"P"[..], &id(n).0].concat().into()
}

fn words(n: u64) -> Bytes {
    format!("what somebody wrote, {n}").into()
}

async fn put(store: &Store, numbers: std::ops::Range<u64>) {
    let mut part = Part::default();
    for n in numbers {
        payload::put(&mut part, id(n), None, &words(n));
    }
    assert_eq!(store.commit(part).await.unwrap(), PartOutcome::Committed);
}

async fn delete(store: &Store, n: u64) {
    let mut part = Part::default();
    payload::delete(&mut part, id(n), None);
    store.commit(part).await.unwrap();
}

async fn read(store: &Store, n: u64) -> Option<Bytes> {
    payload::get(store, id(n)).await.unwrap()
}

/// Goal: contents of every kind come back as they were written, one or many, and none lies in the engine as it is; each
/// has one key, which goes with it; what is counted is what was written, not what is stored. Method: put, appended, replaced
/// and deleted, seen from both sides.
#[tokio::test]
async fn contents_are_sealed_on_their_way() {
    let world = World::in_memory().await;
    let store = world.open().await;
    let peer: ServerName = "b.example".parse().unwrap();
    let (lane, place) = (Lane::from_bytes([3; 16]), FileId::from_bytes([4; 16]));
    let row = |n| OutboxRow {
        kind: Kind::Message,
        payload: words(n),
        created_ms: 5,
        expires_ms: 9,
        sender: None,
        origin: None,
    };
    let value = |n| outbox::value(&row(n)).unwrap();
    let mut part = Part::default();
    payload::put(&mut part, id(1), Some(&peer), &words(1));
    outbox::append(&mut part, &peer, lane, value(2));
    outbox::append(&mut part, &peer, lane, value(3));
    file::put_chunk(&mut part, place, 0, &words(4));
    store.commit(part).await.unwrap();
    let mut part = Part::default();
    outbox::replace(&mut part, &peer, lane, 2, &row(5)).unwrap();
    store.commit(part).await.unwrap();

    assert_eq!(read(&store, 1).await, Some(words(1)));
    let rows = outbox::lane(&store, &peer, lane, 0, 9).await.unwrap();
    let rows: Vec<_> = rows.into_iter().map(|found| found.row).collect();
    assert_eq!(rows, [row(2), row(5)]);
    let chunk = file::chunk(&store, place, 0).await.unwrap();
    assert_eq!(chunk, Some(words(4)));
    let waits = tally::get(&store, &tally::outbound(&peer)).await.unwrap();
    let length = value(2).len() + value(5).len();
    assert_eq!(
        (waits.entries, waits.bytes),
        (2, u64::try_from(length).unwrap())
    );

    let all = Range {
        from: &[1],
        to: &[0xff],
        limit: usize::MAX,
        bytes_max: usize::MAX,
        order: Order::Ascending,
    };
    let stored = world.engine.range(all).await.unwrap();
    for (_, value) in &stored {
        let shown = value.windows(7).any(|window| window == b"what so");
        assert!(!shown, "{value:?}");
    }
    let count = |of: &dyn Fn(&[u8]) -> bool| stored.iter().filter(|(key, _)| of(key)).count();
    assert_eq!((count(&is_content), count(&is_wrapped_key)), (4, 4));

    let mut part = Part::default();
    payload::delete(&mut part, id(1), Some(&peer));
    outbox::delete(&mut part, &peer, lane, 1);
    outbox::delete(&mut part, &peer, lane, 2);
    file::delete_chunk(&mut part, place, 0);
    store.commit(part).await.unwrap();
    let stored = world.engine.range(all).await.unwrap();
    let left = stored
        .iter()
        .filter(|(key, _)| is_content(key) || is_wrapped_key(key));
    assert_eq!(left.count(), 0);
    for counted in [tally::outbound(&peer), tally::inbound(&peer)] {
        assert_eq!(world.raw(&counted).await, None);
    }
}

/// Goal: that a content is as it was read can be a precondition, though it is stored otherwise. Method: one that holds, and
/// the same once it holds no more; over a rotation, which changes nothing of that.
#[tokio::test]
async fn a_content_may_be_a_precondition() {
    let world = World::in_memory().await;
    let store = world.open().await;
    put(&store, 1..2).await;
    let read = store.get(&key(1)).await.unwrap().unwrap();
    world.clock.advance(ROTATE_AFTER_MS);
    look(&store, &world.clock).await.unwrap();
    let mut part = Part::default();
    part.require(Precondition::Equals(key(1), read));
    part.put(key(1), Bytes::from_static(b"\x01other words"));
    let again = part.clone();
    assert_eq!(store.commit(part).await.unwrap(), PartOutcome::Committed);
    assert_eq!(store.commit(again).await.unwrap(), PartOutcome::Conflict);
    let read = payload::get(&store, id(1)).await.unwrap();
    assert_eq!(read, Some(Bytes::from_static(b"other words")));
}

/// Goal: once something was deleted, and the generation is ten minutes old, every copy of its key is worthless and what is
/// left is as it was; where nothing was deleted nothing happens. Method: a copy of a key from before its deletion.
#[tokio::test]
async fn what_was_deleted_has_no_key_any_more() {
    let world = World::in_memory().await;
    let store = world.open().await;
    put(&store, 0..600).await;
    let copy = world.raw(&row(&key(7))).await.unwrap();
    delete(&store, 7).await;
    assert!(world.opens(&key(7), &copy), "as yet");
    look(&store, &world.clock).await.unwrap();
    assert_eq!(world.generations(), [1], "not due");

    world.clock.advance(ROTATE_AFTER_MS);
    look(&store, &world.clock).await.unwrap();
    assert_eq!(world.generations(), [2]);
    assert!(!world.opens(&key(7), &copy));
    for n in (0..600).filter(|n| *n != 7) {
        assert_eq!(read(&store, n).await, Some(words(n)), "{n}");
    }
    let seals = store.seals().unwrap();
    let status = seals.status();
    let now_ms = NOW_MS + ROTATE_AFTER_MS;
    assert_eq!((status.generation, status.since_ms), (2, now_ms));
    assert_eq!(status.destroyed_ms, Some(now_ms));
    assert_eq!(seals.figures.rewrapped.get(), 599);

    world.clock.advance(ROTATE_AFTER_MS);
    look(&store, &world.clock).await.unwrap();
    assert_eq!(world.generations(), [2], "nothing was deleted");
    delete(&store, 8).await;
    look(&store, &world.clock).await.unwrap();
    assert_eq!(world.generations(), [3]);
}

/// Goal: a process that ends between any two steps of a rotation, or loses power in the commit that takes the next
/// generation into use, loses nothing that was not deleted, and the next start finishes what was begun. Method: each, with a
/// copy of a key from before its deletion.
#[tokio::test]
async fn a_crash_at_any_step_loses_nothing() {
    #[derive(Debug, Clone, Copy)]
    enum End {
        At(Step),
        WithoutPower(PowerLoss),
    }
    let ends = [
        End::At(Step::Made),
        End::At(Step::InUse),
        End::At(Step::Part),
        End::At(Step::All),
        End::At(Step::Destroyed),
        End::WithoutPower(PowerLoss::BeforeSync),
        End::WithoutPower(PowerLoss::AfterSync),
    ];
    for end in ends {
        let memory = Arc::new(MemoryEngine::default());
        let engine: Arc<dyn Engine> = memory.clone();
        let world = World::over(move |_| engine).await;
        let store = world.open().await;
        put(&store, 0..400).await;
        let copy = world.raw(&row(&key(7))).await.unwrap();
        delete(&store, 7).await;
        world.clock.advance(ROTATE_AFTER_MS);
        let stop = |step: Step| match end {
            End::At(last) if step == last => Err(StoreError::Stopped),
            End::At(_) => Ok(()),
            End::WithoutPower(when) => {
                memory.lose_power(when);
                Ok(())
            }
        };
        let ended = look_between(&store, &world.clock, Share::Alone, &stop).await;
        assert!(ended.is_err(), "{end:?}");
        drop(store);
        memory.crash();

        let store = world.open().await;
        for n in (0..400).filter(|n| *n != 7) {
            assert_eq!(read(&store, n).await, Some(words(n)), "{n}, {end:?}");
        }
        put(&store, 400..410).await;
        look(&store, &world.clock).await.unwrap();
        assert_eq!(world.generations().len(), 1, "{end:?}");
        assert!(!world.opens(&key(7), &copy), "{end:?}");
        for n in (0..410).filter(|n| *n != 7) {
            assert_eq!(read(&store, n).await, Some(words(n)), "{n}, {end:?}");
        }
    }
}

/// Goal: nobody notices a rotation: no commit is refused for it, and nothing that is written, replaced or deleted meanwhile
/// is lost or comes back. Method: one task that writes and deletes, one that rotates all the time, one that reads.
#[tokio::test]
async fn a_rotation_is_not_noticed() {
    const LAST: u64 = 400;
    let world = World::in_memory().await;
    let store = world.open().await;
    put(&store, 1_000..1_600).await;
    let is_deleted = |n: u64| (n + 10).is_multiple_of(3) && n + 10 < LAST;
    let writing = async {
        for n in 0..LAST {
            let mut part = Part::default();
            payload::put(&mut part, id(n), None, &words(n));
            if n >= 10 && is_deleted(n - 10) {
                payload::delete(&mut part, id(n - 10), None);
            }
            assert_eq!(store.commit(part).await.unwrap(), PartOutcome::Committed);
        }
    };
    let rotating = async {
        for _ in 0..6 {
            world.clock.advance(ROTATE_AFTER_MS);
            look(&store, &world.clock).await.unwrap();
        }
    };
    let reading = async {
        for n in 1_000..1_600 {
            assert_eq!(read(&store, n).await, Some(words(n)), "{n}");
            tokio::task::yield_now().await;
        }
    };
    tokio::join!(writing, rotating, reading);
    for n in 0..LAST {
        let expected = (!is_deleted(n)).then(|| words(n));
        assert_eq!(read(&store, n).await, expected, "{n}");
    }
    let generations = world.generations();
    assert_eq!(generations.len(), 1);
    assert!(generations[0] > 1);
}

/// Goal: with two nodes over one store and one folder nothing is written under a generation that the other one has
/// destroyed; whoever decides anew after that writes under the next, and each reads what the other has written. A rotation
/// that one of them has left half-way is finished by the other. Method: two stores over one engine.
#[tokio::test]
async fn two_nodes_share_their_generations() {
    let world = World::in_memory().await;
    let (one, other) = (world.open().await, world.open().await);
    put(&one, 0..3).await;
    delete(&one, 0).await;
    world.clock.advance(ROTATE_AFTER_MS);
    look(&one, &world.clock).await.unwrap();
    assert_eq!(world.generations(), [2]);

    assert_eq!(read(&other, 1).await, Some(words(1)));
    let fresh = world.open().await;
    delete(&fresh, 1).await;
    world.clock.advance(ROTATE_AFTER_MS);
    look(&fresh, &world.clock).await.unwrap();
    assert_eq!(world.generations(), [3]);
    let mut part = Part::default();
    payload::put(&mut part, id(5), None, &words(5));
    let again = part.clone();
    let refused = other.commit(part).await.unwrap();
    assert_eq!(refused, PartOutcome::Conflict);
    assert_eq!(other.commit(again).await.unwrap(), PartOutcome::Committed);
    assert_eq!(read(&one, 5).await, Some(words(5)));

    delete(&one, 2).await;
    world.clock.advance(ROTATE_AFTER_MS);
    let stop = |step| match step {
        Step::InUse => Err(StoreError::Stopped),
        _ => Ok(()),
    };
    let ended = look_between(&one, &world.clock, Share::Alone, &stop).await;
    assert!(ended.is_err());
    // The first look of a process takes up what it finds, and this is not the first of this one.
    look(&fresh, &world.clock).await.unwrap();
    assert_eq!(world.generations(), [3, 4], "it may be at work yet");
    world.clock.advance(5 * 60 * 1000);
    look(&fresh, &world.clock).await.unwrap();
    assert_eq!(world.generations(), [4]);
    assert_eq!(read(&other, 5).await, Some(words(5)));
}

/// Goal: a content that can't be opened is an empty value, which no record is, beside others that are as they were; so is
/// one that another's bytes were put in the place of, with its key. Method: by what lies behind the store.
#[tokio::test]
async fn what_does_not_open_spoils_nothing_else() {
    let world = World::in_memory().await;
    let store = world.open().await;
    put(&store, 1..5).await;
    let (sealed, wrapped) = (world.raw(&key(4)).await, world.raw(&row(&key(4))).await);
    let mut part = Part::default();
    part.put(key(2), sealed.unwrap());
    part.put(row(&key(2)), wrapped.unwrap());
    part.delete(row(&key(3)));
    world.engine.apply(&[part]).await.unwrap();
    let found = store.range(b"P", b"Q", 9, Order::Descending).await.unwrap();
    let found: Vec<_> = found
        .iter()
        .map(|(_, value)| value.slice(value.len().min(1)..))
        .collect();
    assert_eq!(found, [words(4), Bytes::new(), Bytes::new(), words(1)]);
    let damaged = payload::get(&store, id(3)).await;
    assert!(matches!(damaged, Err(StoreError::Corrupt { .. })));
    let nearly = store.keys(b"P", b"Q", 9, Order::Ascending).await.unwrap();
    assert_eq!(nearly.len(), 4);
}

/// Goal: a backup opens its contents with its own key and no generation, and a store that it is brought back to with its
/// own. Method: one key there and back, over a rotation in between.
#[tokio::test]
async fn a_backup_has_a_key_of_its_own() {
    let world = World::in_memory().await;
    let store = world.open().await;
    put(&store, 1..3).await;
    let (backup, random) = (WrappingKey::draw(&random()).unwrap(), random());
    let seals = store.seals().unwrap();
    let (moment, ring) = seals.moment().await.unwrap();
    delete(&store, 2).await;
    world.clock.advance(ROTATE_AFTER_MS);
    look(&store, &world.clock).await.unwrap();
    let at = row(&key(1));
    let wrapped = moment.get(&at).await.unwrap().unwrap();
    let kept = ring.for_backup(&at, &wrapped, &backup, &random).unwrap();
    let kept = kept.unwrap();
    assert_eq!(WrappedKey::decode(&kept).unwrap().generation, BACKUP);
    assert!(!world.opens(&key(1), &kept));
    let (_, ring) = seals.moment().await.unwrap();
    let back = ring.of_backup(&at, &kept, &backup, &random).unwrap();
    let sealed = moment.get(&key(1)).await.unwrap().unwrap();
    let content = ring.content(&key(1), &sealed, back.as_ref()).unwrap();
    assert_eq!(content.slice(1..), words(1));
}

/// All bytes of all files below a folder.
struct Disk(Vec<Vec<u8>>);

impl Disk {
    fn read(folder: &Path) -> Self {
        let (mut files, mut waiting) = (Vec::new(), vec![folder.to_owned()]);
        while let Some(folder) = waiting.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    waiting.push(path);
                } else if let Ok(bytes) = std::fs::read(path) {
                    // Others may be removed meanwhile.
                    files.push(bytes);
                }
            }
        }
        Self(files)
    }

    /// What `find` makes of the bytes from each place on where not all is zero.
    fn find<T>(&self, find: impl Fn(&[u8]) -> Option<T>) -> Vec<T> {
        const STRIDE: usize = 4096;
        let zeros = vec![0; STRIDE];
        let mut found = Vec::new();
        for file in &self.0 {
            for (n, stride) in file.chunks(STRIDE).enumerate() {
                if stride == &zeros[..stride.len()] {
                    continue;
                }
                let places = n * STRIDE..n * STRIDE + stride.len();
                found.extend(places.filter_map(|at| find(&file[at..])));
            }
        }
        found
    }

    /// Every generation that the master key opens.
    fn generations(&self) -> Vec<Generation> {
        self.find(|bytes| {
            bytes.starts_with(b"ent-gen\n").then_some(())?;
            GenerationFile::decode(bytes.get(..85)?)?.open(&master())
        })
    }

    /// How often a key lies there that opens under one of these and belongs to the content at `key`.
    fn keys_of(&self, key: &[u8], generations: &[Generation]) -> usize {
        let opened = self.find(|bytes| {
            bytes.starts_with(&[1, 0, 0, 0, 0, 0, 0, 0]).then_some(())?;
            let wrapped = WrappedKey::decode(bytes.get(..69)?)?;
            let mut generations = generations.iter();
            generations.find_map(|generation| wrapped.open(bound(key), &generation.key))
        });
        opened.len()
    }
}

/// Goal: what was deleted can't be opened with any key that is on the disk, in the log, the index or anywhere else, once a
/// generation has gone by; before, it can, and so can what is left; and no content is on the disk as it was written. Method:
/// a scan of every byte of a data folder under fjall with its log, for every wrapped key and every generation.
#[tokio::test]
async fn nothing_on_the_disk_opens_what_was_deleted() {
    let open = |place: &Path| open_embedded(&place.join("store"), true).unwrap();
    let world = World::over(|place| {
        std::fs::create_dir(place.join("store")).unwrap();
        open(place)
    })
    .await;
    nothing_opens_what_was_deleted(&world, &|| Disk::read(world.place.path())).await;
}

/// Goal: the same where the store is a database: in its tables, and in the log that a server ships and archives. Method: a scan of
/// both after a checkpoint.
#[tokio::test]
async fn nothing_in_a_database_opens_what_was_deleted() {
    let database = InDatabase::alone();
    let engine: Arc<dyn Engine> = Arc::new(database.open().await.unwrap());
    let world = World::over(move |_| engine).await;
    let scan = || {
        let mut disk = Disk::read(world.place.path());
        for folder in database.written_folders() {
            disk.0.extend(Disk::read(&folder).0);
        }
        disk
    };
    nothing_opens_what_was_deleted(&world, &scan).await;
}

async fn nothing_opens_what_was_deleted(world: &World, scan: &dyn Fn() -> Disk) {
    let store = world.open().await;
    put(&store, 1..20).await;
    delete(&store, 7).await;
    let before = scan();
    let generations = before.generations();
    assert_eq!(generations.len(), 1);
    assert!(
        before.keys_of(&key(7), &generations) > 0,
        "the scan finds it"
    );
    assert!(before.keys_of(&key(8), &generations) > 0);

    world.clock.advance(ROTATE_AFTER_MS);
    look(&store, &world.clock).await.unwrap();
    let after = scan();
    let generations = after.generations();
    let numbers: Vec<_> = generations.iter().map(|found| found.number).collect();
    assert_eq!(numbers, [2]);
    assert_eq!(after.keys_of(&key(7), &generations), 0);
    assert!(after.keys_of(&key(8), &generations) > 0);
    assert_eq!(read(&store, 8).await, Some(words(8)));
    let shown = after.find(|bytes| bytes.starts_with(b"what somebody wrote").then_some(()));
    assert!(shown.is_empty());
}
