//! What has been done so far, counted by whoever does it and read at both ends of the measured time.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How long to do it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    pub(crate) warm_up: Duration,
    pub(crate) measured: Duration,
}

/// Counts of a run, and its end.
#[derive(Default)]
pub(crate) struct Counts {
    answered: AtomicU64,
    batches: AtomicU64,
    over: AtomicBool,
}

/// What was done in the measured time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Measured {
    pub(crate) seconds: f64,
    pub(crate) transactions: u64,
    pub(crate) batches: u64,
}

impl Counts {
    /// So many transactions more are durable, and whoever waited has been told.
    pub(crate) fn answered(&self, transactions: usize) {
        let transactions = u64::try_from(transactions).unwrap_or(u64::MAX);
        self.answered.fetch_add(transactions, Ordering::Relaxed);
    }

    /// One batch more goes to the disk.
    pub(crate) fn batch(&self) {
        self.batches.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether there is still something to be measured.
    pub(crate) fn goes_on(&self) -> bool {
        !self.over.load(Ordering::Relaxed)
    }

    /// Waits until the time is over, and says so to those who work.
    pub(crate) async fn measure(&self, times: Times) -> Measured {
        tokio::time::sleep(times.warm_up).await;
        let (begun, answered, batches) = self.now();
        tokio::time::sleep(times.measured).await;
        let (ended, answered_then, batches_then) = self.now();
        self.over.store(true, Ordering::Relaxed);
        Measured {
            seconds: ended.duration_since(begun).as_secs_f64(),
            transactions: answered_then.saturating_sub(answered),
            batches: batches_then.saturating_sub(batches),
        }
    }

    fn now(&self) -> (Instant, u64, u64) {
        let answered = self.answered.load(Ordering::Relaxed);
        let batches = self.batches.load(Ordering::Relaxed);
        (Instant::now(), answered, batches)
    }
}
