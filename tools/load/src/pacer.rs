//! Wakes senders when their messages are due.
//!
//! A thread of its own, because the runtime's timer counts in milliseconds: at 12,000 messages a
//! second that would send in clumps of twelve. The thread sleeps until the next message is due,
//! but at least [`TICK`], and then wakes every pair that has one. What a sender sends late for this
//! reason still counts from the time it was due.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::Notify;

use crate::clock::Clock;
use crate::schedule::Schedule;

/// The shortest sleep: bounds the generator's own CPU at high rates.
const TICK: Duration = Duration::from_micros(200);
/// The longest sleep: how late a stop may be noticed.
const NAP: Duration = Duration::from_millis(100);

/// A running pacer; stops when dropped.
pub(crate) struct Pacer {
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Pacer {
    /// Starts waking `pairs[n]` whenever pair n has a message due.
    pub(crate) fn start(
        clock: Clock,
        schedule: Schedule,
        pairs: Vec<Arc<Notify>>,
    ) -> std::io::Result<Self> {
        let stopping = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&stopping);
        let thread = std::thread::Builder::new()
            .name("pacer".into())
            .spawn(move || pace(clock, schedule, &pairs, &stop))?;
        Ok(Self {
            stopping,
            thread: Some(thread),
        })
    }
}

impl Drop for Pacer {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It ends within NAP; a panic in it has been printed already.
            let _ = thread.join();
        }
    }
}

fn pace(clock: Clock, schedule: Schedule, pairs: &[Arc<Notify>], stop: &AtomicBool) {
    let pair_count = u64::try_from(pairs.len()).unwrap_or(u64::MAX);
    let mut announced = 0_u64;
    while !stop.load(Ordering::Relaxed) {
        let due = schedule.due(clock.micros());
        // Each pair at most once, however many of its messages are due.
        for index in announced..due.min(announced.saturating_add(pair_count)) {
            let pair = usize::try_from(schedule.pair(index)).ok();
            if let Some(notify) = pair.and_then(|pair| pairs.get(pair)) {
                notify.notify_one();
            }
        }
        announced = due;
        std::thread::sleep(clock.until(schedule.due_us(due)).clamp(TICK, NAP));
    }
}
