//! Nodes over one store: who does what, what they tell each other, and what becomes of one that is stopped.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use federation_proto::ids::DeviceId;
use futures_util::FutureExt as _;
use tokio::time::advance;

use super::*;
use crate::store::engine::memory::MemoryEngine;
use crate::store::engine::postgresql::tests::InDatabase;
use crate::store::engine::{Answer, Range};
use crate::store::{Engine, Key, PartOutcome, Read};

const DEVICE: DeviceId = DeviceId::from_bytes([9; 16]);

struct Node {
    cluster: Cluster,
    store: Store,
}

impl Node {
    /// A process of the node of this name.
    async fn start(engine: &Arc<dyn Engine>, name: &str, process: u8) -> Self {
        let store = Store::new(Arc::clone(engine)).unwrap();
        let cluster = Cluster::member(name.to_owned(), Incarnation([process; 16]), 0);
        cluster.join(&store, 0).await.unwrap();
        Self { cluster, store }
    }

    async fn round(&self) -> Heard {
        let heard = self.cluster.round(&self.store, 0, &duties()).await;
        heard.unwrap()
    }

    fn holds(&self) -> BTreeSet<Duty> {
        let duties = duties().into_iter();
        duties.filter(|duty| self.cluster.holds(duty)).collect()
    }

    fn told(&self, notice: Notice) {
        self.cluster.tell([notice]);
    }
}

fn memory() -> Arc<dyn Engine> {
    Arc::new(MemoryEngine::default())
}

/// The clock's tasks, and thirty peers.
fn duties() -> BTreeSet<Duty> {
    let peer = |number| format!("peer{number}.example").parse().unwrap();
    let peers = (0..30).map(|number| Duty::Outbound(peer(number)));
    peers.chain([Duty::Tasks]).collect()
}

/// Half a second passes, then each of these has its round; the others are stopped.
async fn turn(nodes: &[&Node]) {
    advance(ROUND).await;
    for node in nodes {
        node.round().await;
    }
}

async fn turns(count: usize, nodes: &[&Node]) {
    for _ in 0..count {
        turn(nodes).await;
    }
}

/// Two nodes that know each other, and have shared the duties.
async fn pair(engine: &Arc<dyn Engine>) -> (Node, Node) {
    let one = Node::start(engine, "one", 1).await;
    let two = Node::start(engine, "two", 2).await;
    turns(4, &[&one, &two]).await;
    (one, two)
}

/// What becomes of something written under this fence.
async fn written(node: &Node, fence: &Fence) -> PartOutcome {
    let mut part = Part::default();
    fence.require(&mut part);
    part.put(Key::from_static(b"Xtest"), Value::from_static(b"x"));
    node.store.commit(part).await.unwrap()
}

/// Goal: each duty is one node's, shared among those that are there; one that gives no sign of life takes its own for
/// doubtful before the others take them, and what it writes under its leases afterwards is refused; when it goes on it
/// hears of everything, and the duties are shared again. Method: two nodes, one of which has no rounds for a while.
#[tokio::test(start_paused = true)]
async fn a_stopped_node_is_fenced() {
    let engine = memory();
    let (one, two) = pair(&engine).await;
    let (of_one, of_two) = (one.holds(), two.holds());
    assert!(!of_one.is_empty() && !of_two.is_empty());
    assert!(of_one.is_disjoint(&of_two));
    assert_eq!(of_one.union(&of_two).count(), duties().len());
    let duty = of_one.first().unwrap();
    let fence = one.cluster.fence(duty).unwrap();
    assert_eq!(written(&one, &fence).await, PartOutcome::Committed);

    turns(7, &[&two]).await;
    assert!(one.holds().is_empty(), "it is in doubt");
    assert_eq!(two.holds(), of_two, "and the other one waits");
    assert_eq!(written(&one, &fence).await, PartOutcome::Committed);
    turns(3, &[&two]).await;
    assert_eq!(two.holds(), duties());
    assert_eq!(written(&one, &fence).await, PartOutcome::Conflict);
    let taken = two.cluster.fence(duty).unwrap();
    assert_eq!(written(&two, &taken).await, PartOutcome::Committed);

    assert!(one.round().await.contains(&Notice::Everything));
    assert!(one.cluster.fence(duty).is_none_or(|now| now != fence));
    turns(4, &[&one, &two]).await;
    assert_eq!((one.holds(), two.holds()), (of_one.clone(), of_two));
    assert_eq!(written(&two, &taken).await, PartOutcome::Conflict);
}

/// Goal: nobody is taken for gone because the database was. Method: a minute in which neither of two nodes has a round.
#[tokio::test(start_paused = true)]
async fn a_database_that_was_away_moves_nothing() {
    let engine = memory();
    let (one, two) = pair(&engine).await;
    let held = (one.holds(), two.holds());
    let fence = one.cluster.fence(held.0.first().unwrap()).unwrap();
    advance(Duration::from_secs(60)).await;
    assert!(one.holds().is_empty(), "it is in doubt");
    turns(4, &[&two, &one]).await;
    assert_eq!((one.holds(), two.holds()), held);
    assert_eq!(written(&one, &fence).await, PartOutcome::Committed);
}

/// Goal: a node that ends leaves its duties to the others at once; one that starts under its name has them at once, and
/// its former process ends. Method: two nodes, of which one leaves; then a second process of the other.
#[tokio::test(start_paused = true)]
async fn ends_and_starts() {
    let engine = memory();
    let (one, two) = pair(&engine).await;
    one.cluster.leave(&one.store).await.unwrap();
    assert!(two.round().await.contains(&Notice::Everything));
    assert_eq!(two.holds(), duties());
    one.round().await;
    assert!(one.holds().is_empty());

    let again = Node::start(&engine, "two", 3).await;
    again.round().await;
    assert_eq!(again.holds(), duties());
    advance(ROUND * 2).await;
    let ended = two.cluster.round(&two.store, 0, &duties()).await;
    assert!(matches!(ended, Err(ClusterError::Replaced(_))));
}

/// Goal: what a node tells is heard by the others with their next round, once, without any hint; what is a mere hint is
/// not written down; and the node learns when all have heard it. Method: rounds without a wire.
#[tokio::test(start_paused = true)]
async fn what_is_told_is_heard_without_hints() {
    let engine = memory();
    let (one, two) = pair(&engine).await;
    let told = [Notice::Mail(DEVICE), Notice::Peers];
    one.cluster.tell(told.clone());
    one.told(Notice::Opened(DEVICE));
    assert!(one.cluster.until_heard().now_or_never().is_none());
    one.round().await;
    assert_eq!(two.round().await, told);
    assert!(two.round().await.is_empty());
    one.round().await;
    assert!(one.cluster.until_heard().now_or_never().is_some());

    // One that is gone is not waited for.
    one.told(Notice::Departed);
    one.round().await;
    assert!(one.cluster.until_heard().now_or_never().is_none());
    turns(10, &[&one]).await;
    assert!(one.cluster.until_heard().now_or_never().is_some());
}

/// Goal: whoever has missed too much looks at everything, and so does whoever sees that a node is gone, which may not have
/// told all. Method: more notices than are kept; then a node that stops.
#[tokio::test(start_paused = true)]
async fn what_is_missed_is_everything() {
    let engine = memory();
    let (one, two) = pair(&engine).await;
    for _ in 0..70 {
        one.told(Notice::Departed);
        one.round().await;
    }
    assert!(two.round().await.contains(&Notice::Everything));
    assert!(two.round().await.is_empty());
    let mut heard = Vec::new();
    for _ in 0..10 {
        advance(ROUND).await;
        heard.extend(two.round().await);
    }
    assert_eq!(heard, [Notice::Everything]);
}

/// Goal: hints arrive whole in datagrams that fit any path, once each, from nodes that are known and have the secret; and
/// more news than can be kept is everything. Method: hundreds of notices, packed and read.
#[tokio::test(start_paused = true)]
async fn hints() {
    let engine = memory();
    let (one, two) = pair(&engine).await;
    let (secret, other) = (Secret::new(b"the secret of both"), Secret::new(b"another"));
    let notices: Vec<Notice> = (0..400_u16)
        .map(|number| {
            let [high, low] = number.to_be_bytes();
            let mut id = [0; 16];
            id[0] = high;
            id[1] = low;
            Notice::Mail(DeviceId::from_bytes(id))
        })
        .collect();
    one.cluster.tell(notices.clone());
    let datagrams = one.cluster.to_send(&secret).await;
    assert!(datagrams.len() > 1);
    assert!(datagrams.iter().all(|one| one.len() <= DATAGRAM_BYTES_MAX));
    let read = |by: &Secret| -> Vec<Notice> {
        let received = datagrams.iter().map(|one| two.cluster.received(by, one));
        received.flatten().collect()
    };
    assert!(read(&other).is_empty());
    assert_eq!(read(&secret), notices);
    assert!(read(&secret).is_empty(), "they come again");
    assert!(one.cluster.received(&secret, &datagrams[0]).is_empty());
    assert!(two.cluster.received(&secret, b"short").is_empty());

    one.round().await;
    advance(ROUND * 2).await;
    one.round().await;
    let three = Node::start(&engine, "three", 3).await;
    three.round().await;
    let again = three.cluster.received(&secret, &datagrams[0]);
    assert!(again.is_empty(), "sent before it was there");
    two.round().await;

    for number in 0..=NOTICES_WAITING_MAX {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&u64::try_from(number).unwrap().to_be_bytes());
        one.told(Notice::Mail(DeviceId::from_bytes(id)));
    }
    let datagrams = one.cluster.to_send(&secret).await;
    assert_eq!(datagrams.len(), 1);
    let heard = two.cluster.received(&secret, &datagrams[0]);
    assert_eq!(heard, [Notice::Everything]);
}

/// Goal: without others every duty is held, nothing is told, and nothing is written. Method: a node alone.
#[tokio::test]
async fn alone() {
    let store = Store::new(memory()).unwrap();
    let cluster = Cluster::default();
    assert!(cluster.is_alone());
    assert!(cluster.holds(&Duty::Tasks));
    cluster.until_held(&Duty::Tasks).await;
    cluster.tell([Notice::Peers]);
    cluster.until_heard().await;
    cluster.join(&store, 0).await.unwrap();
    let heard = cluster.round(&store, 0, &duties()).await.unwrap();
    assert!(heard.is_empty());
    cluster.leave(&store).await.unwrap();
    let fence = cluster.fence(&Duty::Tasks).unwrap();
    let mut part = Part::default();
    fence.require(&mut part);
    assert_eq!(part, Part::default());
    assert!(cluster.status(&store).await.unwrap().is_empty());
    let written = store.range(b"", b"\xff", 9, crate::store::Order::Ascending);
    assert!(written.await.unwrap().is_empty());
}

/// Goal: over PostgreSQL, in two processes' engines, a lease that has passed on fences its former owner, and administrators
/// see who has it. Method: two engines over one database of a real server; the first node leaves.
#[tokio::test]
async fn over_postgresql() {
    let database = InDatabase::new();
    let first: Arc<dyn Engine> = Arc::new(database.open().await.unwrap());
    let second: Arc<dyn Engine> = Arc::new(database.open().await.unwrap());
    let one = Node::start(&first, "one", 1).await;
    one.round().await;
    assert_eq!(one.holds(), duties());
    let fence = one.cluster.fence(&Duty::Tasks).unwrap();
    let two = Node::start(&second, "two", 2).await;
    two.round().await;
    assert!(two.holds().is_empty(), "all of them are taken");
    one.round().await;
    two.round().await;
    let status = two.cluster.status(&two.store).await.unwrap();
    let told: Vec<_> = status
        .iter()
        .map(|node| (node.name.as_str(), node.is_this, node.is_alive))
        .collect();
    assert_eq!(told, [("one", false, true), ("two", true, true)]);
    let leases: usize = status.iter().map(|node| node.duties.len()).sum();
    assert_eq!(leases, duties().len());
    assert!(status.iter().all(|node| !node.duties.is_empty()));

    one.cluster.leave(&one.store).await.unwrap();
    two.round().await;
    assert_eq!(two.holds(), duties());
    assert_eq!(written(&one, &fence).await, PartOutcome::Conflict);
}

/// An engine whose batches wait while it is closed.
#[derive(Default)]
struct HeldUp {
    memory: MemoryEngine,
    is_closed: AtomicBool,
}

impl Read for HeldUp {
    fn get<'a>(&'a self, key: &'a [u8]) -> Answer<'a, Option<Value>> {
        self.memory.get(key)
    }

    fn range<'a>(&'a self, range: Range<'a>) -> Answer<'a, Vec<(Key, Value)>> {
        self.memory.range(range)
    }
}

impl Engine for HeldUp {
    fn apply<'a>(&'a self, parts: &'a [Part]) -> Answer<'a, Vec<PartOutcome>> {
        while self.is_closed.load(Ordering::SeqCst) {
            std::thread::yield_now();
        }
        self.memory.apply(parts)
    }

    fn snapshot(&self) -> Answer<'_, Box<dyn Read>> {
        self.memory.snapshot()
    }
}

/// Goal: what is being written down at this moment has not been heard by anybody, nor has what is told meanwhile; a round that
/// was cut off in the midst of that tells it again. Method: an engine that holds up the commit of a node's sign of life.
#[tokio::test(start_paused = true)]
async fn what_is_being_written_is_not_heard_yet() {
    let held_up = Arc::new(HeldUp::default());
    let engine: Arc<dyn Engine> = held_up.clone();
    let (one, two) = pair(&engine).await;
    one.told(Notice::Departed);
    held_up.is_closed.store(true, Ordering::SeqCst);
    let mut round = Box::pin(one.round());
    assert!(futures_util::poll!(&mut round).is_pending());
    let is_heard = || one.cluster.until_heard().now_or_never().is_some();
    assert!(!is_heard());
    one.told(Notice::Peers);
    drop(round);
    held_up.is_closed.store(false, Ordering::SeqCst);
    assert!(!is_heard());
    one.round().await;
    assert!(!is_heard());
    let heard = two.round().await;
    assert!(heard.contains(&Notice::Departed) && heard.contains(&Notice::Peers));
    two.round().await;
    one.round().await;
    assert!(is_heard());
}

/// Goal: what could not be acted on is told again as everything, and is not said to be heard before that is done. Method: a
/// node that misses what another has told, once.
#[tokio::test(start_paused = true)]
async fn what_was_missed_comes_again() {
    let engine = memory();
    let (one, two) = pair(&engine).await;
    one.told(Notice::Peers);
    one.round().await;
    assert_eq!(two.round().await, [Notice::Peers]);
    two.cluster.set_missed();
    assert_eq!(two.round().await, [Notice::Everything]);
    one.round().await;
    assert!(one.cluster.until_heard().now_or_never().is_none());
    assert!(two.round().await.is_empty());
    one.round().await;
    assert!(one.cluster.until_heard().now_or_never().is_some());
}

/// Goal: of a node that has been gone for an hour nothing is left, and one that has not stays. Method: rounds of the other one,
/// and its rows.
#[tokio::test(start_paused = true)]
async fn a_dead_node_is_forgotten() {
    let engine = memory();
    let (one, two) = pair(&engine).await;
    one.told(Notice::Departed);
    one.round().await;
    turns(120, &[&two]).await;
    assert_eq!(node_row::all(&two.store).await.unwrap().len(), 2);
    turns(2 * 60 * 60, &[&two]).await;
    let left = node_row::all(&two.store).await.unwrap();
    let left: Vec<_> = left.iter().map(|(name, ..)| name.as_str()).collect();
    assert_eq!(left, ["two"]);
    let numbers = (0, u64::MAX);
    let told = crate::store::notice::read(&two.store, Incarnation([1; 16]), numbers).await;
    assert!(told.unwrap().is_empty());
    let woken = one.cluster.round(&one.store, 0, &duties()).await;
    assert!(matches!(woken, Err(ClusterError::Replaced(_))));
}
