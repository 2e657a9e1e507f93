//! The PostgreSQL engine: one table in a database that several processes may share.
//!
//! Invariants:
//! - A batch is one transaction under one lock of the database, so batches of all processes come one after
//!   the other. PostgreSQL gives the lock back only when the commit is durable, on a synchronous standby
//!   too: whoever judges next sees nothing that could still be lost. The reasons are in
//!   `docs/adr/0036-one-lock-for-batches-in-postgresql.md`.
//! - A server that may answer before it is durable is refused, at opening and in every batch.
//! - A connection that breaks leaves unknown what became of its transaction. Each batch therefore notes its
//!   number, and the next attempt looks for it under the lock: a batch is written once.
//! - A fail-over is an interruption: batches and reads are tried again until `TIME_MAX`.
//!
//! Deliberately absent: a cache of what was written. Another process may have changed it.

mod batch;
mod connect;
mod failure;
mod migrations;
mod read;
#[cfg(test)]
pub(crate) mod tests;

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use deadpool_postgres::Pool;

use self::batch::Batch;
use self::connect::Readers;
use self::failure::Patience;
use super::{Answer, Engine, Range, Read};
use crate::store::writer::BATCH_TIME_MAX;
use crate::store::{Key, Part, PartOutcome, StoreError, Value};

pub use connect::Access;

/// How long an answer is tried for: longer than a fail-over is to take, and over before the writer's
/// watchdog ends the process.
const TIME_MAX: Duration = Duration::from_secs(25);

const _: () = assert!(TIME_MAX.as_secs() < BATCH_TIME_MAX.as_secs());

/// A store in a PostgreSQL database.
pub struct PostgresqlEngine {
    /// One connection, so that reads don't keep batches waiting.
    writer: Pool,
    readers: Readers,
    /// Under which this process notes its batches.
    node: Vec<u8>,
    /// The number of the newest batch.
    number: AtomicI64,
    failed: AtomicBool,
}

impl PostgresqlEngine {
    /// Opens the store in a database, inside the runtime that it will be used in; an empty database gets
    /// its tables. Whatever stands in the way is told at once: nothing is tried again here.
    pub async fn open(access: Access) -> Result<Self, StoreError> {
        let writer = connect::writer(&access)?;
        let readers = Readers::of(&access)?;
        let mut client = writer.get().await.map_err(connect::refused)?;
        connect::check_server(&client).await?;
        migrations::run(&mut client).await?;
        let node = batch::register(&client).await?;
        drop(client);
        Ok(Self {
            writer,
            readers,
            node,
            number: AtomicI64::new(0),
            failed: AtomicBool::new(false),
        })
    }

    /// Tells whether a store could be opened there, and changes nothing.
    pub async fn look(access: &Access) -> Result<(), StoreError> {
        let client = connect::writer(access)?.get().await;
        connect::check_server(&client.map_err(connect::refused)?).await
    }

    async fn write(&self, parts: &[Part]) -> Result<Vec<PartOutcome>, StoreError> {
        let number = self.number.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        let mut batch = Batch::new(&self.node, number, parts);
        let patience = Patience::new();
        loop {
            let pools = (&self.writer, &self.readers);
            match batch.attempt(pools, patience.attempt_ends()).await {
                Ok(outcomes) => return Ok(outcomes),
                Err(failure) => patience.after(failure).await?,
            }
        }
    }
}

impl Read for PostgresqlEngine {
    fn get<'a>(&'a self, key: &'a [u8]) -> Answer<'a, Option<Value>> {
        Box::pin(async move {
            let patience = Patience::new();
            loop {
                match read::pooled_get(&self.readers, key, patience.attempt_ends()).await {
                    Ok(value) => return Ok(value),
                    Err(failure) => patience.after(failure).await?,
                }
            }
        })
    }

    fn range<'a>(&'a self, range: Range<'a>) -> Answer<'a, Vec<(Key, Value)>> {
        Box::pin(async move {
            let patience = Patience::new();
            loop {
                match read::pooled_range(&self.readers, range, patience.attempt_ends()).await {
                    Ok(entries) => return Ok(entries),
                    Err(failure) => patience.after(failure).await?,
                }
            }
        })
    }
}

impl Engine for PostgresqlEngine {
    fn apply<'a>(&'a self, parts: &'a [Part]) -> Answer<'a, Vec<PartOutcome>> {
        Box::pin(async move {
            if self.failed.load(Ordering::Acquire) {
                return Err(StoreError::Stopped);
            }
            let result = self.write(parts).await;
            if result.is_err() {
                self.failed.store(true, Ordering::Release);
            }
            result
        })
    }

    fn snapshot(&self) -> Answer<'_, Box<dyn Read>> {
        Box::pin(async move {
            let patience = Patience::new();
            loop {
                match read::Moment::take(&self.readers, patience.attempt_ends()).await {
                    Ok(moment) => {
                        let moment: Box<dyn Read> = Box::new(moment);
                        return Ok(moment);
                    }
                    Err(failure) => patience.after(failure).await?,
                }
            }
        })
    }
}
