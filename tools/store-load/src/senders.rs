//! Many senders at once, as tasks of a runtime: each sends again when its transaction is durable.

use std::sync::Arc;

use homeserver::store::{Part, PartOutcome, Store};
use tokio::task::JoinSet;

use crate::counts::{Counts, Measured, Times};
use crate::raw_log::RawLog;
use crate::rows::Sender;

/// What makes transactions durable; clones share it.
#[derive(Clone)]
pub(crate) enum Carrier {
    Store(Store),
    RawLog(RawLog),
}

impl Carrier {
    async fn commit(&self, part: Part) -> Result<(), String> {
        match self {
            Self::Store(store) => match store.commit(part).await {
                Ok(PartOutcome::Committed) => Ok(()),
                Ok(PartOutcome::Conflict) => Err("a transaction was refused".to_owned()),
                Err(error) => Err(error.to_string()),
            },
            Self::RawLog(log) => log.commit(part).await,
        }
    }
}

/// Lets all of them send until the time is over.
pub(crate) async fn drive(
    carrier: &Carrier,
    senders: Vec<Sender>,
    times: Times,
    counts: &Arc<Counts>,
) -> Result<Measured, String> {
    let mut tasks = JoinSet::new();
    for sender in senders {
        tasks.spawn(send(carrier.clone(), sender, Arc::clone(counts)));
    }
    let measured = counts.measure(times).await;
    while let Some(ended) = tasks.join_next().await {
        ended.map_err(|error| error.to_string())??;
    }
    Ok(measured)
}

async fn send(carrier: Carrier, mut sender: Sender, counts: Arc<Counts>) -> Result<(), String> {
    while counts.goes_on() {
        carrier.commit(sender.transaction()).await?;
        counts.answered(1);
    }
    Ok(())
}
