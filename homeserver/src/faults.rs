//! Protections that a trial switches off one at a time, to see that it notices.
//!
//! Compiled only with the feature `faults`, which no released build has. `ENTENTE_FAULT` holds the
//! names, separated by commas, read once when the process first asks.
//!
//! | fault | what it does | what must catch it |
//! |---|---|---|
//! | `answer-before-sync` | commits are answered some 300 ms before they reach the disk | killing the process under load, cutting the power of its disk, a sync that fails |
//! | `forget-unanswered` | mail for a peer that owes an answer for a second is accepted and dropped | a network that is cut |
//! | `accept-any-ttl` | no bound of a time-to-live holds | a message that is to live too long |
//! | `accept-unknown-peer` | a handshake succeeds for names without an agreement | a stranger that knocks |
//! | `accept-again` | an envelope at a position that was consumed has its effect anew | replays |
//! | `keep-revoked` | the agreement with a peer that is revoked stays in force until the next start | revoking a peer that sends |
//! | `keep-calling` | connections to a peer, and what is asked over them, outlive its agreement | revoking a peer that stalls |
//! | `poison-blocks` | what would be refused for good is put off instead, and its lane waits behind it | one bad envelope among many |
//! | `stale-manifest` | peers are shown the key manifest that was first asked for, for ever | keys that change |
//! | `unbounded-peers` | no rate of a peer holds | a peer that floods |
//! | `order-unjudged` | a hub orders commits by their frames alone, whatever MLS and the room's rules say of them | the conformance suite |
//! | `believe-payloads` | a hub believes what a payload says of its commit | the conformance suite |
//! | `fork-rooms` | a hub orders a second commit for the epoch that has just ended | two commits at once in the conformance suite |
//! | `unbounded-commits` | nobody changes a room too often | the conformance suite |
//! | `ignore-barriers` | no barrier between segments holds | the matrices of policy (`examples/policy_matrices.rs`) |
//! | `one-peer-at-a-time` | a request to one peer waits for the answers of all others | a peer that stalls |

use std::collections::BTreeSet;
use std::future::ready;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::Instant;

use crate::store::engine::Answer;
use crate::store::engine::memory::MemoryEngine;
use crate::store::{Engine, Key, Order, Part, PartOutcome, Range, Read, StoreError, Value};

/// Where the names come from.
const VARIABLE: &str = "ENTENTE_FAULT";
/// How long a peer may owe an answer before `forget-unanswered` drops what is for it.
const UNANSWERED: Duration = Duration::from_secs(1);
/// How long `answer-before-sync` holds back what it has answered.
const HELD_BACK: Duration = Duration::from_millis(300);

/// Whether the fault `name` is on.
pub fn is_on(name: &str) -> bool {
    static NAMES: OnceLock<BTreeSet<String>> = OnceLock::new();
    NAMES
        .get_or_init(|| {
            std::env::var(VARIABLE)
                .unwrap_or_default()
                .split(',')
                .map(|name| name.trim().to_owned())
                .filter(|name| !name.is_empty())
                .collect()
        })
        .contains(name)
}

/// Since when peers owe an answer: the oldest mail since the last receipt.
static UNANSWERED_SINCE: Mutex<Option<Instant>> = Mutex::new(None);

/// The fault `forget-unanswered`: whether mail for a peer is dropped, having been accepted.
pub fn forgets_mail() -> bool {
    if !is_on("forget-unanswered") {
        return false;
    }
    let mut since = UNANSWERED_SINCE
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    since.get_or_insert_with(Instant::now).elapsed() > UNANSWERED
}

/// A peer has answered.
pub fn answered() {
    *UNANSWERED_SINCE
        .lock()
        .unwrap_or_else(PoisonError::into_inner) = None;
}

/// The fault `stale-manifest`: the manifest that peers are shown.
pub fn stale_manifest(newest: bytes::Bytes) -> bytes::Bytes {
    static FIRST: OnceLock<bytes::Bytes> = OnceLock::new();
    if is_on("stale-manifest") {
        FIRST.get_or_init(|| newest).clone()
    } else {
        newest
    }
}

/// The fault `one-peer-at-a-time`: the turn to send, if senders take turns.
pub async fn turn() -> Option<tokio::sync::MutexGuard<'static, ()>> {
    static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    match is_on("one-peer-at-a-time") {
        true => Some(TURN.lock().await),
        false => None,
    }
}

/// The fault `answer-before-sync`: answers from memory, and hands the parts to the real engine later.
pub struct BufferedEngine {
    front: MemoryEngine,
    back: Mutex<Sender<Vec<Part>>>,
}

impl BufferedEngine {
    /// In front of `engine`, whose whole content it takes into memory.
    pub async fn over(engine: Arc<dyn Engine>) -> Result<Self, StoreError> {
        let front = MemoryEngine::default();
        let mut all = Part::default();
        let everything = Range {
            from: b"\0~",
            to: b"\xff",
            limit: usize::MAX,
            bytes_max: usize::MAX,
            order: Order::Ascending,
        };
        for (key, value) in engine.range(everything).await? {
            all.put(key, value);
        }
        front.apply(&[all]).await?;
        let (back, held) = channel();
        let runtime = Handle::current();
        std::thread::Builder::new()
            .name("store-held-back".to_owned())
            .spawn(move || write_late(engine.as_ref(), &runtime, &held))
            .map_err(|error| StoreError::Engine(error.to_string()))?;
        Ok(Self {
            front,
            back: Mutex::new(back),
        })
    }
}

#[expect(clippy::disallowed_methods, reason = "being late is the fault")]
fn write_late(engine: &dyn Engine, runtime: &Handle, held: &Receiver<Vec<Part>>) {
    while let Ok(parts) = held.recv() {
        std::thread::sleep(HELD_BACK);
        let waiting: Vec<Part> = parts.into_iter().chain(held.try_iter().flatten()).collect();
        if let Err(error) = runtime.block_on(engine.apply(&waiting)) {
            tracing::error!(%error, "a held-back write failed");
            return;
        }
    }
}

impl Engine for BufferedEngine {
    fn apply<'a>(&'a self, parts: &'a [Part]) -> Answer<'a, Vec<PartOutcome>> {
        let back = self.back.lock().unwrap_or_else(PoisonError::into_inner);
        match back.send(parts.to_vec()) {
            Ok(()) => self.front.apply(parts),
            Err(_) => Box::pin(ready(Err(StoreError::Stopped))),
        }
    }

    fn snapshot(&self) -> Answer<'_, Box<dyn Read>> {
        self.front.snapshot()
    }
}

impl Read for BufferedEngine {
    fn get<'a>(&'a self, key: &'a [u8]) -> Answer<'a, Option<Value>> {
        self.front.get(key)
    }

    fn range<'a>(&'a self, range: Range<'a>) -> Answer<'a, Vec<(Key, Value)>> {
        self.front.range(range)
    }
}
