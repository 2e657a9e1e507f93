//! How much one peer may ask for: a bad peer costs this much and no more, and what it uses up is not
//! missing for another.
//!
//! Rates are buckets that fill with time. A request passes while they hold anything, and what it turns out
//! to cost is taken out afterwards, beyond the bottom if need be: so nothing is too large to pass, and
//! whoever took too much waits until it is made good.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use federation_proto::ids::ServerName;
use federation_proto::limits::{
    RETRY_AFTER_MS_MAX, TRANSACTIONS_UNDER_WAY_BYTES_MAX, TRANSACTIONS_UNDER_WAY_MAX,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::clock::Clock;

/// Files that are sent to one peer at the same time.
const FILES_UNDER_WAY_MAX: usize = 8;
/// Bytes of transactions that one peer may send in a second, on average.
const BYTES_PER_SECOND: u64 = 64 * 1024 * 1024;
/// Requests of one peer in a second, on average, other than transactions.
const SMALL_REQUESTS_PER_SECOND: u64 = 100;
/// What is saved up at most, in seconds of a rate.
const BURST_SECONDS: u64 = 2;
/// What is saved up of refusals: one transaction may hold as many as a thousand.
const REFUSALS_BURST_SECONDS: u64 = 20;
/// A transaction that is refused whole costs as much as so many envelopes that are refused.
const REFUSED_WHOLE: u64 = 10;
/// Documents of one peer that are read and written to the audit log: so many at once,
const DOCUMENTS_BURST: u64 = 32;
/// and then one in this time.
const DOCUMENT_EVERY_MS: u64 = 10_000;
/// Of a peer's transactions that are refused whole, one in this time is audited.
const REFUSAL_NOTED_EVERY_MS: u64 = 10_000;

/// One gate per peer.
pub(super) struct Gates {
    envelopes_per_second: u64,
    refusals_per_second: u64,
    gates: Mutex<HashMap<ServerName, Gate>>,
}

struct Gate {
    /// Its transactions are taken one after the other; see [`Pass::turn`].
    turn: Arc<Semaphore>,
    under_way: usize,
    bytes_under_way: u64,
    files_under_way: usize,
    bytes: Bucket,
    envelopes: Bucket,
    refusals: Bucket,
    small_requests: Bucket,
    refusal_noted_ms: Option<u64>,
    /// When the peer will have its whole burst of documents again.
    documents_idle_ms: u64,
}

/// What is left of a rate.
struct Bucket {
    per_second: i64,
    full: i64,
    level: i64,
    filled_ms: u64,
}

impl Bucket {
    fn new(per_second: u64, burst_seconds: u64, now_ms: u64) -> Self {
        let full = signed(per_second.saturating_mul(burst_seconds));
        Self {
            per_second: signed(per_second).max(1),
            full,
            level: full,
            filled_ms: now_ms,
        }
    }

    /// After how many seconds to come again; `None`: something is left.
    fn wait_s(&mut self, now_ms: u64) -> Option<u64> {
        let elapsed_ms = signed(now_ms.saturating_sub(self.filled_ms));
        let earned = elapsed_ms.saturating_mul(self.per_second) / 1000;
        // A rate of a few in a second is not rounded away.
        if earned > 0 || now_ms < self.filled_ms {
            self.level = self.level.saturating_add(earned).min(self.full);
            self.filled_ms = now_ms;
        }
        if self.level > 0 {
            return None;
        }
        let missing = self.level.unsigned_abs().saturating_add(1);
        let most_s = u64::from(RETRY_AFTER_MS_MAX / 1000);
        let seconds = missing.div_ceil(self.per_second.unsigned_abs());
        Some(seconds.clamp(1, most_s))
    }

    fn take(&mut self, amount: u64) {
        self.level = self.level.saturating_sub(signed(amount));
    }
}

fn signed(amount: u64) -> i64 {
    i64::try_from(amount).unwrap_or(i64::MAX)
}

/// Lets one transaction or one file through, until it is dropped.
pub(super) struct Pass {
    gates: Arc<Gates>,
    peer: ServerName,
    what: What,
}

impl Pass {
    /// Waits until none of the peer's is being judged: while that goes on, processors are left for what others send. One
    /// that sends as much as it may keeps one of them busy, and not all. Should those before it have used up what it
    /// may send, it is said after how many seconds to come again.
    pub(super) async fn turn(&self, clock: &dyn Clock) -> Result<OwnedSemaphorePermit, u64> {
        let (gates, peer) = (&self.gates, &self.peer);
        let turn = gates.with(peer, clock.now_ms(), |gate| Arc::clone(&gate.turn));
        // It is never closed.
        let turn = turn.acquire_owned().await.map_err(|_| 1_u64)?;
        let now_ms = clock.now_ms();
        let wait_s = gates.with(peer, now_ms, |gate| {
            let rates = [&mut gate.envelopes, &mut gate.refusals];
            rates
                .into_iter()
                .filter_map(|rate| rate.wait_s(now_ms))
                .max()
        });
        #[cfg(feature = "faults")]
        let wait_s = wait_s.filter(|_| !crate::faults::is_on("unbounded-peers"));
        wait_s.map_or(Ok(turn), Err)
    }
}

#[derive(Clone, Copy)]
enum What {
    Transaction { bytes: u64 },
    File,
}

impl Gates {
    /// Gates without peers yet.
    pub(super) fn new(envelopes_per_second: u64, refusals_per_second: u64) -> Self {
        Self {
            envelopes_per_second,
            refusals_per_second,
            gates: Mutex::default(),
        }
    }

    /// Lets a transaction of `bytes` pass, or says after how many seconds to come again.
    pub(super) fn enter(
        self: &Arc<Self>,
        peer: &ServerName,
        bytes: u64,
        now_ms: u64,
    ) -> Result<Pass, u64> {
        self.with(peer, now_ms, |gate| {
            let under_way = gate.bytes_under_way.saturating_add(bytes);
            let alone = gate.under_way == 0;
            if gate.under_way >= TRANSACTIONS_UNDER_WAY_MAX
                || (under_way > TRANSACTIONS_UNDER_WAY_BYTES_MAX && !alone)
            {
                return Err(1);
            }
            let rates = [&mut gate.bytes, &mut gate.envelopes, &mut gate.refusals];
            let waits = rates.into_iter().filter_map(|rate| rate.wait_s(now_ms));
            let wait = waits.max();
            #[cfg(feature = "faults")]
            let wait = wait.filter(|_| !crate::faults::is_on("unbounded-peers"));
            if let Some(wait_s) = wait {
                return Err(wait_s);
            }
            gate.bytes.take(bytes);
            gate.under_way += 1;
            gate.bytes_under_way = under_way;
            Ok(())
        })?;
        Ok(self.pass(peer, What::Transaction { bytes }))
    }

    /// Lets a file be sent to the peer, or says after how many seconds to come again.
    pub(super) fn enter_file(
        self: &Arc<Self>,
        peer: &ServerName,
        now_ms: u64,
    ) -> Result<Pass, u64> {
        self.with(peer, now_ms, |gate| {
            if gate.files_under_way >= FILES_UNDER_WAY_MAX {
                return Err(1_u64);
            }
            gate.files_under_way += 1;
            Ok(())
        })?;
        Ok(self.pass(peer, What::File))
    }

    /// Lets a small request pass, or says after how many seconds to come again.
    pub(super) fn ask(&self, peer: &ServerName, now_ms: u64) -> Result<(), u64> {
        self.with(peer, now_ms, |gate| {
            let wait_s = gate.small_requests.wait_s(now_ms);
            gate.small_requests.take(u64::from(wait_s.is_none()));
            wait_s.map_or(Ok(()), Err)
        })
    }

    /// Lets a document of the peer be read, or says after how many seconds to come again.
    pub(super) fn take_document(&self, peer: &ServerName, now_ms: u64) -> Result<(), u64> {
        self.with(peer, now_ms, |gate| {
            let idle_ms = gate.documents_idle_ms.max(now_ms) + DOCUMENT_EVERY_MS;
            let latest_ms = now_ms + DOCUMENTS_BURST * DOCUMENT_EVERY_MS;
            if idle_ms > latest_ms {
                return Err((idle_ms - latest_ms).div_ceil(1000));
            }
            gate.documents_idle_ms = idle_ms;
            Ok(())
        })
    }

    fn pass(self: &Arc<Self>, peer: &ServerName, what: What) -> Pass {
        Pass {
            gates: Arc::clone(self),
            peer: peer.clone(),
            what,
        }
    }

    /// The peer has sent so many envelopes, whatever becomes of them.
    pub(super) fn count_envelopes(&self, peer: &ServerName, count: usize, now_ms: u64) {
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        self.with(peer, now_ms, |gate| gate.envelopes.take(count));
    }

    /// So many of the peer's envelopes, or of what it asked for in them, were refused.
    pub(super) fn count_refusals(&self, peer: &ServerName, count: usize, now_ms: u64) {
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        self.with(peer, now_ms, |gate| gate.refusals.take(count));
    }

    /// A transaction of the peer, or the like, was refused whole; whether that is worth another line in
    /// the audit log.
    pub(super) fn note_refusal(&self, peer: &ServerName, now_ms: u64) -> bool {
        self.with(peer, now_ms, |gate| {
            gate.refusals.take(REFUSED_WHOLE);
            let due = gate
                .refusal_noted_ms
                .is_none_or(|noted_ms| now_ms.saturating_sub(noted_ms) >= REFUSAL_NOTED_EVERY_MS);
            if due {
                gate.refusal_noted_ms = Some(now_ms);
            }
            due
        })
    }

    fn with<T>(&self, peer: &ServerName, now_ms: u64, act: impl FnOnce(&mut Gate) -> T) -> T {
        let mut gates = self.lock();
        if let Some(gate) = gates.get_mut(peer) {
            return act(gate);
        }
        let gate = gates.entry(peer.clone()).or_insert(Gate {
            turn: Arc::new(Semaphore::new(1)),
            under_way: 0,
            bytes_under_way: 0,
            files_under_way: 0,
            bytes: Bucket::new(BYTES_PER_SECOND, BURST_SECONDS, now_ms),
            envelopes: Bucket::new(self.envelopes_per_second, BURST_SECONDS, now_ms),
            refusals: Bucket::new(self.refusals_per_second, REFUSALS_BURST_SECONDS, now_ms),
            small_requests: Bucket::new(SMALL_REQUESTS_PER_SECOND, BURST_SECONDS, now_ms),
            refusal_noted_ms: None,
            documents_idle_ms: 0,
        });
        act(gate)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ServerName, Gate>> {
        self.gates.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if let Some(gate) = self.gates.lock().get_mut(&self.peer) {
            match self.what {
                What::Transaction { bytes } => {
                    gate.under_way = gate.under_way.saturating_sub(1);
                    gate.bytes_under_way = gate.bytes_under_way.saturating_sub(bytes);
                }
                What::File => gate.files_under_way = gate.files_under_way.saturating_sub(1),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    struct Standing;

    impl Clock for Standing {
        fn now_ms(&self) -> u64 {
            0
        }
    }

    fn gates() -> Arc<Gates> {
        Arc::new(Gates::new(100, 5))
    }

    fn names() -> [ServerName; 2] {
        ["a.example", "b.example"].map(|name| name.parse().unwrap())
    }

    /// Goal: a peer gets the transactions and bytes at a time that the protocol promises, and its bytes
    /// per second, and what one peer uses up is not missing for another.
    #[test]
    fn one_peer_has_its_share() {
        let gates = gates();
        let [a, b] = names();
        let mut passes = Vec::new();
        for _ in 0..TRANSACTIONS_UNDER_WAY_MAX {
            passes.push(gates.enter(&a, 10, 0).unwrap_or_else(|_| panic!("within")));
        }
        assert_eq!(gates.enter(&a, 10, 0).err(), Some(1));
        passes.clear();
        let most = TRANSACTIONS_UNDER_WAY_BYTES_MAX;
        passes.extend(gates.enter(&a, most, 0));
        assert_eq!(gates.enter(&a, 1, 0).err(), Some(1));
        passes.clear();

        for _ in 1..BYTES_PER_SECOND * BURST_SECONDS / most {
            assert!(gates.enter(&a, most, 0).is_ok());
        }
        assert_eq!(gates.enter(&a, 1, 0).err(), Some(1));
        assert!(gates.enter(&b, most, 0).is_ok());
        assert!(gates.enter(&a, most, 1000).is_ok());
    }

    /// Goal: who sends more envelopes than it may waits until that is made good, and is told how long; by
    /// four seconds' worth at once.
    #[test]
    fn a_flood_is_made_good() {
        let gates = gates();
        let [a, b] = names();
        assert!(gates.enter(&a, 1, 0).is_ok());
        gates.count_envelopes(&a, 600, 0);
        assert_eq!(gates.enter(&a, 1, 0).err(), Some(5));
        assert_eq!(gates.enter(&a, 1, 3_000).err(), Some(2));
        assert!(gates.enter(&a, 1, 5_000).is_ok());
        assert!(gates.enter(&b, 1, 0).is_ok());
    }

    /// Goal: who sends rubbish is slowed down, a low rate is not rounded away, and no wait is longer than
    /// the protocol allows; by refusals of envelopes and of whole transactions.
    #[test]
    fn rubbish_is_slowed_down() {
        let gates = gates();
        let [a, _] = names();
        for _ in 0..9 {
            assert!(gates.enter(&a, 1, 0).is_ok());
            gates.note_refusal(&a, 0);
        }
        assert!(gates.enter(&a, 1, 0).is_ok());
        gates.count_refusals(&a, 20, 0);
        assert_eq!(gates.enter(&a, 1, 0).err(), Some(3));
        // One in 200 ms.
        for now_ms in (100..=2_000).step_by(100) {
            assert!(gates.enter(&a, 1, now_ms).is_err(), "{now_ms}");
        }
        assert!(gates.enter(&a, 1, 2_200).is_ok());
        gates.count_refusals(&a, 1_000_000, 2_200);
        assert_eq!(gates.enter(&a, 1, 2_200).err(), Some(300));
    }

    /// Goal: of one peer one transaction is judged at a time, of two peers two. Method: a turn that is kept, and whose turn
    /// comes meanwhile.
    #[tokio::test(start_paused = true)]
    async fn each_peer_has_its_turn() {
        let gates = gates();
        let [a, b] = names();
        let enter = |peer| gates.enter(peer, 1, 0).unwrap_or_else(|_| panic!("within"));
        let clock = Standing;
        let (first, second, other) = (enter(&a), enter(&a), enter(&b));
        let kept = first.turn(&clock).await;
        assert!(kept.is_ok());
        let soon = Duration::from_secs(1);
        assert!(
            tokio::time::timeout(soon, second.turn(&clock))
                .await
                .is_err()
        );
        assert!(tokio::time::timeout(soon, other.turn(&clock)).await.is_ok());
        drop(kept);
        let came = tokio::time::timeout(soon, second.turn(&clock)).await;
        assert!(matches!(&came, Ok(Ok(_))));
        drop(came);
        gates.count_refusals(&a, 1_000, 0);
        assert!(
            first.turn(&clock).await.is_err(),
            "it was used up meanwhile"
        );
    }

    /// Goal: small requests have a rate of their own, which mail does not use up.
    #[test]
    fn small_requests_have_a_rate() {
        let gates = gates();
        let [a, _] = names();
        for _ in 0..SMALL_REQUESTS_PER_SECOND * BURST_SECONDS {
            assert_eq!(gates.ask(&a, 0), Ok(()));
        }
        assert_eq!(gates.ask(&a, 0), Err(1));
        assert!(gates.enter(&a, 1, 0).is_ok());
        assert_eq!(gates.ask(&a, 1_000), Ok(()));
    }

    /// Goal: a peer brings documents in a burst and then slowly, whatever another does; by more than that.
    #[test]
    fn documents_come_slowly() {
        let gates = gates();
        let [a, b] = names();
        for _ in 0..DOCUMENTS_BURST {
            assert_eq!(gates.take_document(&a, 0), Ok(()));
        }
        assert_eq!(gates.take_document(&a, 0), Err(10));
        assert_eq!(gates.take_document(&b, 0), Ok(()));
        assert_eq!(gates.take_document(&a, DOCUMENT_EVERY_MS - 1), Err(1));
        assert_eq!(gates.take_document(&a, DOCUMENT_EVERY_MS), Ok(()));
    }
}
