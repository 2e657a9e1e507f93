//! Runs phases: tells the shards, keeps the pace, reads the processes at both ends of the measured
//! window.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};

use crate::clock::Clock;
use crate::latency::float;
use crate::pacer::Pacer;
use crate::pair::{Load, Plan};
use crate::prepare::Prepared;
use crate::process::{self, Use, Watched};
use crate::progress::Progress;
use crate::report::{PhaseReport, ProcessReport, per_10k};
use crate::schedule::Schedule;
use crate::shard::{Assigned, PhaseOrder, Shard};
use crate::tally::Window;

/// Between the order and the first message, so that every shard has the order.
const HEAD_START: Duration = Duration::from_millis(50);
/// How often the progress display is brought up to date.
const LOOK: Duration = Duration::from_millis(250);

/// What a phase does.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    /// Keep so many messages in flight per pair.
    Closed { window: u64 },
    /// Send so many a second.
    Open { rate: u64 },
}

/// How long its parts last.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timing {
    pub(crate) warm_up: Duration,
    pub(crate) measured: Duration,
    pub(crate) drain: Duration,
}

/// Pairs with open sessions.
pub(crate) struct Run {
    clock: Clock,
    shards: Vec<Shard>,
    wakes: Vec<Arc<Notify>>,
    delivered: Arc<AtomicU64>,
    watched: Vec<Watched>,
}

impl Run {
    /// Opens all sessions, spread over so many threads.
    ///
    /// # Errors
    /// When a session can't be opened, in words.
    pub(crate) async fn start(
        prepared: Vec<Prepared>,
        threads: usize,
        watched: Vec<Watched>,
    ) -> Result<Self, String> {
        let clock = Clock::start();
        let delivered = Arc::new(AtomicU64::new(0));
        let mut wakes = Vec::new();
        let mut assignments: Vec<Vec<Assigned>> = Vec::new();
        assignments.resize_with(threads.max(1), Vec::new);
        let all = assignments.len();
        for (at, prepared) in prepared.into_iter().enumerate() {
            let wake = Arc::new(Notify::new());
            wakes.push(Arc::clone(&wake));
            if let Some(assigned) = assignments.get_mut(at % all) {
                assigned.push(Assigned {
                    index: u64::try_from(at).unwrap_or(u64::MAX),
                    prepared,
                    wake,
                });
            }
        }
        let mut shards = Vec::new();
        for pairs in assignments {
            let (ready, opened) = oneshot::channel();
            let shard = Shard::start(clock, pairs, Arc::clone(&delivered), ready)
                .map_err(|error| format!("can't start a thread: {error}"))?;
            opened.await.map_err(|_| "a thread ended early")??;
            shards.push(shard);
        }
        Ok(Self {
            clock,
            shards,
            wakes,
            delivered,
            watched,
        })
    }

    /// Runs one phase.
    ///
    /// # Errors
    /// When a shard fails or a watched process is gone, in words.
    pub(crate) async fn phase(
        &self,
        kind: Kind,
        timing: Timing,
        progress: &Progress,
    ) -> Result<PhaseReport, String> {
        let start_us = self.clock.micros() + micros(HEAD_START);
        let from_us = start_us + micros(timing.warm_up);
        let window = Window {
            from_us,
            until_us: from_us + micros(timing.measured),
        };
        let pairs = u64::try_from(self.wakes.len()).unwrap_or(u64::MAX);
        let load = match kind {
            Kind::Closed { window } => Load::Closed { window },
            Kind::Open { rate } => Load::Open {
                schedule: Schedule::new(start_us, rate, pairs),
            },
        };
        let mut answers = Vec::new();
        for shard in &self.shards {
            let (answer, receiver) = oneshot::channel();
            shard.order(PhaseOrder {
                plan: Plan { load, window },
                drain: timing.drain,
                answer,
            });
            answers.push(receiver);
        }
        let pacer = match load {
            Load::Closed { .. } => None,
            Load::Open { schedule } => Some(
                Pacer::start(self.clock, schedule, self.wakes.clone())
                    .map_err(|error| format!("can't start a thread: {error}"))?,
            ),
        };

        progress.phase(&describe(kind), timing.warm_up + timing.measured);
        self.watch_until(window.from_us, start_us, progress).await;
        let before = self.read_processes()?;
        self.watch_until(window.until_us, start_us, progress).await;
        let after = self.read_processes()?;
        progress.draining();

        let mut total = None;
        for answer in answers {
            let tally = answer.await.map_err(|_| "a thread ended early")??;
            match &mut total {
                None => total = Some(tally),
                Some(total) => total.merge(tally),
            }
        }
        // Until here: the last messages that were due need a wake-up too.
        drop(pacer);
        let tally = total.ok_or("there are no threads")?;
        let delivered = tally.delivered_in_window;
        let mut report = PhaseReport::counts(
            tally,
            timing.measured.as_secs_f64(),
            timing.warm_up.as_secs_f64(),
        );
        match kind {
            Kind::Closed { window } => {
                report.kind = "closed";
                report.window = Some(window);
            }
            Kind::Open { rate } => {
                report.kind = "open";
                report.rate = Some(rate);
            }
        }
        report.processes = self.costs(&before, &after, delivered);
        report.watched_cpu_seconds_per_10k = report
            .processes
            .iter()
            .filter(|process| process.watched)
            .map(|process| process.cpu_seconds_per_10k)
            .sum();
        Ok(report)
    }

    async fn watch_until(&self, at_us: u64, start_us: u64, progress: &Progress) {
        let mut before = self.delivered.load(Ordering::Relaxed);
        loop {
            let left = self.clock.until(at_us);
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(left.min(LOOK)).await;
            let now = self.delivered.load(Ordering::Relaxed);
            let elapsed = Duration::from_micros(self.clock.micros().saturating_sub(start_us));
            let rate = float(now.saturating_sub(before)) / left.min(LOOK).as_secs_f64();
            progress.advance(elapsed, rate);
            before = now;
        }
    }

    /// The watched processes and, last, this one.
    fn read_processes(&self) -> Result<Vec<Use>, String> {
        let pids = self.watched.iter().map(|watched| watched.pid);
        pids.chain([std::process::id()])
            .map(|pid| process::read(pid).map_err(|error| error.to_string()))
            .collect()
    }

    fn costs(&self, before: &[Use], after: &[Use], delivered: u64) -> Vec<ProcessReport> {
        let names = self.watched.iter().map(|watched| watched.name.as_str());
        let names = names.map(|name| (name, true)).chain([("load", false)]);
        names
            .zip(before.iter().zip(after))
            .map(|((name, watched), (before, after))| {
                let cpu_ns = after.cpu_ns_since(before);
                ProcessReport {
                    name: name.to_owned(),
                    watched,
                    cpu_seconds: float(cpu_ns) / 1e9,
                    cpu_seconds_per_10k: per_10k(cpu_ns, delivered),
                    resident_kib: after.resident_kib,
                }
            })
            .collect()
    }
}

fn describe(kind: Kind) -> String {
    match kind {
        Kind::Closed { window } => format!("closed loop, window {window}"),
        Kind::Open { rate } => format!("open loop, {rate}/s"),
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
