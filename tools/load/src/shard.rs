//! A thread that runs some of the pairs, on a runtime of its own.
//!
//! One shard is enough for most machines: a second one takes a core from the homeservers.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{Notify, mpsc, oneshot};

use crate::clock::Clock;
use crate::pair::{Pair, Plan};
use crate::prepare::Prepared;
use crate::tally::Tally;

/// How often a shard publishes its count of deliveries and looks whether a phase has drained.
const LOOK: Duration = Duration::from_millis(100);

/// A phase for a shard.
pub(crate) struct PhaseOrder {
    pub(crate) plan: Plan,
    /// How long to wait for what is under way once sending has ended.
    pub(crate) drain: Duration,
    pub(crate) answer: oneshot::Sender<Result<Tally, String>>,
}

/// A running shard; ends when dropped.
pub(crate) struct Shard {
    orders: Option<mpsc::UnboundedSender<PhaseOrder>>,
    thread: Option<JoinHandle<()>>,
}

/// A pair on its way into a shard: its index over all shards, and how the pacer wakes it.
pub(crate) struct Assigned {
    pub(crate) index: u64,
    pub(crate) prepared: Prepared,
    pub(crate) wake: Arc<Notify>,
}

impl Shard {
    /// Starts the thread; `ready` is answered when all its sessions are open. `delivered` is
    /// advanced as messages arrive.
    pub(crate) fn start(
        clock: Clock,
        pairs: Vec<Assigned>,
        delivered: Arc<AtomicU64>,
        ready: oneshot::Sender<Result<(), String>>,
    ) -> std::io::Result<Self> {
        let (orders, incoming) = mpsc::unbounded_channel();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let thread = std::thread::Builder::new()
            .name("shard".into())
            .spawn(move || {
                let local = tokio::task::LocalSet::new();
                local.block_on(&runtime, serve(clock, pairs, delivered, ready, incoming));
            })?;
        Ok(Self {
            orders: Some(orders),
            thread: Some(thread),
        })
    }

    /// Orders a phase; the answer comes through the order's channel.
    pub(crate) fn order(&self, order: PhaseOrder) {
        if let Some(orders) = &self.orders {
            // A shard that has ended drops the order, which its answer's receiver notices.
            let _ = orders.send(order);
        }
    }
}

impl Drop for Shard {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            // A panic in it has been printed already.
            let _ = thread.join();
        }
    }
}

async fn serve(
    clock: Clock,
    assigned: Vec<Assigned>,
    delivered: Arc<AtomicU64>,
    ready: oneshot::Sender<Result<(), String>>,
    mut orders: mpsc::UnboundedReceiver<PhaseOrder>,
) {
    let mut pairs = Vec::with_capacity(assigned.len());
    for Assigned {
        index,
        prepared,
        wake,
    } in assigned
    {
        match Pair::open(index, prepared, clock, wake).await {
            Ok((pair, sessions)) => {
                pair.start(sessions);
                pairs.push(pair);
            }
            Err(error) => {
                let _ = ready.send(Err(format!("pair {index} can't connect: {error}")));
                return;
            }
        }
    }
    // Whoever waits for it may have given up; then the orders end too.
    let _ = ready.send(Ok(()));
    while let Some(order) = orders.recv().await {
        let tally = run(clock, &pairs, &order, &delivered).await;
        let _ = order.answer.send(tally);
    }
}

async fn run(
    clock: Clock,
    pairs: &[Rc<Pair>],
    order: &PhaseOrder,
    delivered: &AtomicU64,
) -> Result<Tally, String> {
    let new_tally = || Tally::new(order.plan.window).map_err(|error| error.to_string());
    for pair in pairs {
        pair.begin(order.plan, new_tally()?);
    }
    let until_us = order.plan.window.until_us;
    let drained_by_us =
        until_us.saturating_add(u64::try_from(order.drain.as_micros()).unwrap_or(u64::MAX));
    let mut published = 0;
    loop {
        let next_us = if clock.micros() < until_us {
            until_us
        } else {
            drained_by_us
        };
        tokio::time::sleep(LOOK.min(clock.until(next_us))).await;
        let count: u64 = pairs.iter().map(|pair| pair.delivered()).sum();
        delivered.fetch_add(count - published, Ordering::Relaxed);
        published = count;
        let now_us = clock.micros();
        let under_way: u64 = pairs.iter().map(|pair| pair.under_way()).sum();
        if now_us >= until_us && (under_way == 0 || now_us >= drained_by_us) {
            break;
        }
    }
    let mut total = new_tally()?;
    for pair in pairs {
        if let Some(tally) = pair.end() {
            total.merge(tally);
        }
    }
    Ok(total)
}
