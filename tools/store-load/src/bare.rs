//! An engine by itself: one thread gives it batches, with no queue before it and nobody to be answered.
//!
//! The batches hold the next transaction of each sender, up to the commit path's cap: as if all of them had come back in time.
//! They are made by another thread, so that the engine's waits for nothing but the engine.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use homeserver::store::{BATCH_PARTS_MAX, Engine, Part, PartOutcome};
use tokio::runtime::Handle;
use tokio::task::spawn_blocking;

use crate::counts::{Counts, Measured, Times};
use crate::rows::Sender;

/// Batches that are made ahead.
const BATCHES_AHEAD: usize = 4;

/// Drives the engine until the time is over.
pub(crate) async fn drive(
    engine: Arc<dyn Engine>,
    senders: Vec<Sender>,
    times: Times,
    counts: &Arc<Counts>,
) -> Result<Measured, String> {
    let (made, batches) = sync_channel(BATCHES_AHEAD);
    let making = spawn_blocking(move || make(senders, &made));
    let applying = spawn_blocking({
        let counts = Arc::clone(counts);
        move || apply(engine.as_ref(), &batches, &counts)
    });
    let measured = counts.measure(times).await;
    applying.await.map_err(|error| error.to_string())??;
    making.await.map_err(|error| error.to_string())?;
    Ok(measured)
}

/// Makes batches until nobody takes them any more.
fn make(mut senders: Vec<Sender>, made: &SyncSender<Vec<Part>>) {
    loop {
        for some in senders.chunks_mut(BATCH_PARTS_MAX) {
            let batch = some.iter_mut().map(Sender::transaction).collect();
            if made.send(batch).is_err() {
                return;
            }
        }
    }
}

/// Gives them to the engine, one after the other.
fn apply(
    engine: &dyn Engine,
    batches: &Receiver<Vec<Part>>,
    counts: &Counts,
) -> Result<(), String> {
    let runtime = Handle::current();
    while counts.goes_on() {
        let batch = batches.recv().map_err(|error| error.to_string())?;
        let outcomes = runtime
            .block_on(engine.apply(&batch))
            .map_err(|error| error.to_string())?;
        if outcomes.contains(&PartOutcome::Conflict) {
            return Err("a transaction was refused".to_owned());
        }
        counts.answered(outcomes.len());
    }
    Ok(())
}
