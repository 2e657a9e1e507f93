//! The one commit path: takes whatever waits, applies it as one durable batch, answers all.
//!
//! No timer gathers a batch: what arrives during one fsync is the next batch. After a failed write, or
//! one that does not come back, nothing is written any more and [`super::Store::stopped`] says so.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::{mpsc, oneshot, watch};

use super::engine::Answer;
use super::{Engine, Part, PartOutcome, StoreError};
use crate::telemetry::Stopwatch;

/// Most parts in one durable batch.
pub const BATCH_PARTS_MAX: usize = 1024;
/// A batch takes no further part once it holds this much.
const BATCH_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Most parts that wait; whoever adds one more waits too.
const QUEUE_PARTS_MAX: usize = 8 * 1024;
/// A batch that takes longer than this, and is noticed at the next look, has failed.
pub(super) const BATCH_TIME_MAX: Duration = Duration::from_secs(30);

const _: () = assert!(BATCH_PARTS_MAX <= QUEUE_PARTS_MAX);

type Outcome = oneshot::Sender<Result<PartOutcome, StoreError>>;
type Stopped = watch::Sender<Option<StoreError>>;

/// What the writer counts.
#[derive(Clone)]
pub(super) struct Metrics {
    parts: Counter,
    conflicts: Counter,
    batch_parts: Histogram,
    batch_seconds: Histogram,
}

impl Metrics {
    fn new() -> Self {
        Self {
            parts: Counter::default(),
            conflicts: Counter::default(),
            batch_parts: Histogram::new(exponential_buckets(1.0, 2.0, 11)),
            batch_seconds: Histogram::new(exponential_buckets(0.000_05, 2.0, 18)),
        }
    }

    /// Adds the figures to `registry`.
    pub(super) fn register(&self, registry: &mut Registry) {
        let store = registry.sub_registry_with_prefix("store");
        store.register("parts", "Parts judged", self.parts.clone());
        store.register(
            "conflicts",
            "Parts whose preconditions failed",
            self.conflicts.clone(),
        );
        store.register("batch_parts", "Parts in a batch", self.batch_parts.clone());
        store.register_with_unit(
            "batch",
            "Time from a batch's start until it is durable",
            Unit::Seconds,
            self.batch_seconds.clone(),
        );
    }
}

/// Queues parts for the writer's thread.
#[derive(Clone)]
pub(super) struct WriterHandle {
    queue: mpsc::Sender<(Part, Outcome)>,
    stopped: watch::Receiver<Option<StoreError>>,
    metrics: Metrics,
}

impl WriterHandle {
    /// Queues a part behind all earlier ones.
    pub(super) async fn enqueue(
        &self,
        part: Part,
    ) -> oneshot::Receiver<Result<PartOutcome, StoreError>> {
        let (answer, receiver) = oneshot::channel();
        // A send fails only when the thread is gone; the dropped sender then tells the caller.
        let _ = self.queue.send((part, answer)).await;
        receiver
    }

    /// Resolves once nothing is written any more.
    pub(super) async fn stopped(&self) -> StoreError {
        let mut stopped = self.stopped.clone();
        match stopped.wait_for(Option::is_some).await {
            Ok(error) => error.clone().unwrap_or(StoreError::Stopped),
            Err(_) => StoreError::Stopped,
        }
    }

    /// What the writer counts.
    pub(super) fn metrics(&self) -> &Metrics {
        &self.metrics
    }
}

/// Starts the writer's thread; it ends when the last handle is dropped or the engine fails.
pub(super) fn spawn(engine: Arc<dyn Engine>) -> Result<WriterHandle, StoreError> {
    let (queue, waiting) = mpsc::channel(QUEUE_PARTS_MAX);
    let (stopped, stopped_receiver) = watch::channel(None);
    let metrics = Metrics::new();
    let watched = watch_over(stopped.clone())?;
    let writer = Writer {
        engine,
        driver: Driver::of_this_thread()?,
        watched,
        stopped,
        metrics: metrics.clone(),
    };
    start_thread("store-writer", move || writer.run(waiting))?;
    Ok(WriterHandle {
        queue,
        stopped: stopped_receiver,
        metrics,
    })
}

/// What an engine's answer is waited for with, on the writer's own thread.
enum Driver {
    /// The runtime that the store was made in, whose other threads look after the sockets.
    Shared(Handle),
    /// The store was made outside of a runtime: then its engine answers at once.
    Own(Runtime),
}

impl Driver {
    fn of_this_thread() -> Result<Self, StoreError> {
        match Handle::try_current() {
            Ok(handle) => Ok(Self::Shared(handle)),
            Err(_) => Builder::new_current_thread()
                .build()
                .map(Self::Own)
                .map_err(|error| StoreError::Engine(error.to_string())),
        }
    }

    fn wait_for<T>(&self, answer: Answer<'_, T>) -> Result<T, StoreError> {
        match self {
            Self::Shared(handle) => handle.block_on(answer),
            Self::Own(runtime) => runtime.block_on(answer),
        }
    }
}

struct Writer {
    engine: Arc<dyn Engine>,
    driver: Driver,
    watched: Watched,
    stopped: Stopped,
    metrics: Metrics,
}

impl Writer {
    fn run(&self, mut waiting: mpsc::Receiver<(Part, Outcome)>) {
        while let Some(first) = waiting.blocking_recv() {
            let (parts, answers) = gather(first, &mut waiting);
            let stopwatch = Stopwatch::start();
            self.watched.step();
            let result = self.driver.wait_for(self.engine.apply(&parts));
            self.watched.step();
            // One that came back too late counts as failed: the end has been announced already.
            let given_up = self.stopped.borrow().clone();
            match given_up.map_or(result, Err) {
                Ok(outcomes) => {
                    self.count(&outcomes, &stopwatch);
                    for (answer, outcome) in answers.into_iter().zip(outcomes) {
                        let _ = answer.send(Ok(outcome));
                    }
                }
                Err(error) => {
                    tracing::error!(%error, "the store failed; nothing is written any more");
                    self.stopped.send_replace(Some(error.clone()));
                    for answer in answers {
                        let _ = answer.send(Err(error.clone()));
                    }
                    // Whether the failed batch is on the disk is unknown: writing on could
                    // acknowledge what a restart then contradicts.
                    return;
                }
            }
        }
    }

    fn count(&self, outcomes: &[PartOutcome], stopwatch: &Stopwatch) {
        let conflicts = outcomes
            .iter()
            .filter(|outcome| **outcome == PartOutcome::Conflict)
            .count();
        let parts = u32::try_from(outcomes.len()).unwrap_or(u32::MAX);
        self.metrics.parts.inc_by(u64::from(parts));
        self.metrics
            .conflicts
            .inc_by(u64::try_from(conflicts).unwrap_or(u64::MAX));
        self.metrics.batch_parts.observe(f64::from(parts));
        self.metrics.batch_seconds.observe(stopwatch.seconds());
    }
}

/// `first` and what waits behind it, up to the bounds of a batch.
fn gather(
    first: (Part, Outcome),
    waiting: &mut mpsc::Receiver<(Part, Outcome)>,
) -> (Vec<Part>, Vec<Outcome>) {
    let mut bytes = first.0.bytes_behind(0);
    let (mut parts, mut answers) = (vec![first.0], vec![first.1]);
    while parts.len() < BATCH_PARTS_MAX && bytes < BATCH_BYTES_MAX {
        let Ok((part, answer)) = waiting.try_recv() else {
            break;
        };
        bytes += part.bytes_behind(0);
        parts.push(part);
        answers.push(answer);
    }
    (parts, answers)
}

/// What the watchdog looks at.
struct Watched {
    /// Even between batches, odd during one.
    steps: Arc<AtomicU64>,
    /// Ends the watchdog when it is dropped.
    _end: Sender<()>,
}

impl Watched {
    fn step(&self) {
        self.steps.fetch_add(1, Ordering::Relaxed);
    }
}

/// Starts the watchdog: a batch that does not come back stops the store too.
fn watch_over(stopped: Stopped) -> Result<Watched, StoreError> {
    let (end, ended) = channel();
    let steps = Arc::new(AtomicU64::new(0));
    let watched = Watched {
        steps: Arc::clone(&steps),
        _end: end,
    };
    start_thread("store-watchdog", move || {
        let mut before = 0;
        while let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(BATCH_TIME_MAX) {
            let now = steps.load(Ordering::Relaxed);
            if now == before && now % 2 == 1 {
                let error = StoreError::Engine(format!(
                    "a write has not come back for {} seconds",
                    BATCH_TIME_MAX.as_secs()
                ));
                tracing::error!(%error, "the store hangs; nothing counts as written any more");
                stopped.send_replace(Some(error));
                return;
            }
            before = now;
        }
    })?;
    Ok(watched)
}

fn start_thread(name: &str, run: impl FnOnce() + Send + 'static) -> Result<(), StoreError> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(run)
        .map(drop)
        .map_err(|error| StoreError::Engine(error.to_string()))
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::store::engine::memory::MemoryEngine;
    use crate::store::{Key, Precondition, Range, Read, Store, Value};

    fn put(name: &'static str) -> Part {
        let mut part = Part::default();
        part.put(Key::from_static(name.as_bytes()), Value::from_static(b"1"));
        part
    }

    /// An engine whose second batch fails.
    #[derive(Default)]
    struct Failing {
        memory: MemoryEngine,
        batches: Mutex<u32>,
    }

    impl Engine for Failing {
        fn apply<'a>(&'a self, parts: &'a [Part]) -> Answer<'a, Vec<PartOutcome>> {
            let mut batches = self.batches.lock().unwrap();
            *batches += 1;
            match *batches {
                1 => self.memory.apply(parts),
                2 => Box::pin(std::future::ready(Err(StoreError::Engine(
                    "input/output error".to_owned(),
                )))),
                _ => panic!("written to after a failure"),
            }
        }

        fn snapshot(&self) -> Answer<'_, Box<dyn Read>> {
            self.memory.snapshot()
        }
    }

    impl Read for Failing {
        fn get<'a>(&'a self, key: &'a [u8]) -> Answer<'a, Option<Value>> {
            self.memory.get(key)
        }

        fn range<'a>(&'a self, range: Range<'a>) -> Answer<'a, Vec<(Key, Value)>> {
            self.memory.range(range)
        }
    }

    /// Goal: after a failed write nothing is acknowledged or written, reads go on, and whoever waits
    /// for the end learns the reason; by an engine that fails once and panics if used again.
    #[tokio::test]
    async fn a_failed_write_stops_the_store() {
        let store = Store::new(Arc::new(Failing::default())).unwrap();
        assert_eq!(
            store.commit(put("a")).await.unwrap(),
            PartOutcome::Committed
        );
        assert!(matches!(
            store.commit(put("b")).await,
            Err(StoreError::Engine(_))
        ));
        assert!(matches!(
            store.commit(put("c")).await,
            Err(StoreError::Stopped)
        ));
        assert!(matches!(store.stopped().await, StoreError::Engine(_)));
        assert!(store.get(b"a").await.unwrap().is_some());
    }

    /// An engine that is held up until the test lets it go on.
    struct HeldUp {
        memory: MemoryEngine,
        gate: Mutex<std::sync::mpsc::Receiver<()>>,
    }

    impl Engine for HeldUp {
        fn apply<'a>(&'a self, parts: &'a [Part]) -> Answer<'a, Vec<PartOutcome>> {
            let _ = self.gate.lock().unwrap().recv();
            self.memory.apply(parts)
        }

        fn snapshot(&self) -> Answer<'_, Box<dyn Read>> {
            self.memory.snapshot()
        }
    }

    impl Read for HeldUp {
        fn get<'a>(&'a self, key: &'a [u8]) -> Answer<'a, Option<Value>> {
            self.memory.get(key)
        }

        fn range<'a>(&'a self, range: Range<'a>) -> Answer<'a, Vec<(Key, Value)>> {
            self.memory.range(range)
        }
    }

    fn held_up() -> (Store, Sender<()>) {
        let (open, gate) = channel();
        let engine = HeldUp {
            memory: MemoryEngine::default(),
            gate: Mutex::new(gate),
        };
        (Store::new(Arc::new(engine)).unwrap(), open)
    }

    /// Goal: what follows a commit happens although its caller has gone; by dropping the caller while
    /// the write is held up.
    #[tokio::test]
    async fn what_follows_a_commit_outlives_its_caller() {
        let (store, open) = held_up();
        let (done, mut told) = mpsc::channel(1);
        let mut committing = Box::pin(store.commit_then(put("a"), move || {
            let _ = done.try_send(());
        }));
        assert!(futures_util::poll!(&mut committing).is_pending());
        drop(committing);
        open.send(()).unwrap();
        assert_eq!(told.recv().await, Some(()));
    }

    /// Goal: a full queue makes callers wait without holding up the runtime's thread; by filling it
    /// on a runtime of one thread while the writer is held up.
    #[tokio::test]
    async fn a_full_queue_holds_up_callers_only() {
        let (store, open) = held_up();
        let mut pending = Vec::new();
        let waits = loop {
            let queueing = store.clone();
            let mut next = Box::pin(async move { queueing.enqueue(put("a")).await });
            match futures_util::poll!(tokio::task::unconstrained(&mut next)) {
                std::task::Poll::Ready(queued) => pending.push(queued),
                std::task::Poll::Pending => break next,
            }
        };
        assert!(pending.len() >= QUEUE_PARTS_MAX);
        for _ in 0..pending.len() {
            open.send(()).unwrap();
        }
        assert!(matches!(
            waits.await.wait().await,
            Ok(PartOutcome::Committed)
        ));
    }

    /// An engine that answers only when the runtime that the store was made in has come round to it.
    #[derive(Default)]
    struct Elsewhere(MemoryEngine);

    impl Engine for Elsewhere {
        fn apply<'a>(&'a self, parts: &'a [Part]) -> Answer<'a, Vec<PartOutcome>> {
            Box::pin(async move {
                tokio::spawn(std::future::ready(()))
                    .await
                    .map_err(|error| StoreError::Engine(error.to_string()))?;
                self.0.apply(parts).await
            })
        }

        fn snapshot(&self) -> Answer<'_, Box<dyn Read>> {
            self.0.snapshot()
        }
    }

    impl Read for Elsewhere {
        fn get<'a>(&'a self, key: &'a [u8]) -> Answer<'a, Option<Value>> {
            self.0.get(key)
        }

        fn range<'a>(&'a self, range: Range<'a>) -> Answer<'a, Vec<(Key, Value)>> {
            self.0.range(range)
        }
    }

    /// Goal: an engine may wait for tasks of the runtime that the store was made in. Method: one whose
    /// every batch is such a task, on a runtime of one thread.
    #[tokio::test]
    async fn an_engine_may_wait_for_the_runtime() {
        let store = Store::new(Arc::new(Elsewhere::default())).unwrap();
        for name in ["a", "b"] {
            assert_eq!(
                store.commit(put(name)).await.unwrap(),
                PartOutcome::Committed
            );
        }
        assert!(store.get(b"b").await.unwrap().is_some());
    }

    /// Goal: a store made outside of a runtime writes too. Method: one that is filled and read by a
    /// runtime that came after it.
    #[test]
    fn a_store_needs_no_runtime() {
        let store = Store::new(Arc::new(MemoryEngine::default())).unwrap();
        let later = Builder::new_current_thread().build().unwrap();
        let outcome = later.block_on(store.commit(put("a"))).unwrap();
        assert_eq!(outcome, PartOutcome::Committed);
    }

    /// Goal: every part of a crowd gets its own outcome, in order; by parts that race for one key.
    #[tokio::test]
    async fn parts_of_a_crowd_are_answered_one_by_one() {
        let store = Store::new(Arc::new(MemoryEngine::default())).unwrap();
        let key = Key::from_static(b"once");
        let mut pending = Vec::new();
        for _ in 0..2 * BATCH_PARTS_MAX {
            let mut part = put("once");
            part.require(Precondition::Absent(key.clone()));
            pending.push(store.enqueue(part).await);
        }
        let mut outcomes = Vec::new();
        for pending in pending {
            outcomes.push(pending.wait().await.unwrap());
        }
        assert_eq!(outcomes[0], PartOutcome::Committed);
        assert!(
            outcomes[1..]
                .iter()
                .all(|outcome| *outcome == PartOutcome::Conflict)
        );
    }
}
