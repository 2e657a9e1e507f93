//! The one commit path: takes whatever waits, applies it as one durable batch, answers all.

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};

use tokio::sync::oneshot;

use super::{Engine, Part, PartOutcome, StoreError};

/// Most parts in one durable batch.
const BATCH_PARTS_MAX: usize = 1024;

type Answer = oneshot::Sender<Result<PartOutcome, StoreError>>;

/// Queues parts for the writer's thread.
#[derive(Clone)]
pub(super) struct WriterHandle {
    queue: Sender<(Part, Answer)>,
}

impl WriterHandle {
    /// Queues a part behind all earlier ones.
    pub(super) fn enqueue(&self, part: Part) -> oneshot::Receiver<Result<PartOutcome, StoreError>> {
        let (answer, receiver) = oneshot::channel();
        // A send fails only when the thread is gone; the dropped sender then tells the caller.
        let _ = self.queue.send((part, answer));
        receiver
    }
}

/// Starts the writer's thread; it ends when the last handle is dropped or the engine fails.
pub(super) fn spawn(engine: Arc<dyn Engine>) -> Result<WriterHandle, StoreError> {
    let (queue, waiting) = mpsc::channel();
    std::thread::Builder::new()
        .name("store-writer".to_owned())
        .spawn(move || run(engine.as_ref(), &waiting))
        .map_err(|error| StoreError::Engine(error.to_string()))?;
    Ok(WriterHandle { queue })
}

fn run(engine: &dyn Engine, waiting: &Receiver<(Part, Answer)>) {
    while let Ok(first) = waiting.recv() {
        let (parts, answers): (Vec<Part>, Vec<Answer>) = std::iter::once(first)
            .chain(waiting.try_iter().take(BATCH_PARTS_MAX - 1))
            .unzip();
        match engine.apply(&parts) {
            Ok(outcomes) => {
                for (answer, outcome) in answers.into_iter().zip(outcomes) {
                    let _ = answer.send(Ok(outcome));
                }
            }
            Err(error) => {
                for answer in answers {
                    let _ = answer.send(Err(error.clone()));
                }
                // Whether the failed batch is on the disk is unknown: writing on could acknowledge
                // what a restart then contradicts.
                return;
            }
        }
    }
}
