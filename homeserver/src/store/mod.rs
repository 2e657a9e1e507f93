//! The store: one ordered key space, one durable commit path.
//!
//! [`Store::commit`] answers only after the write is durable. Callers hand over a [`Part`]: writes
//! that happen together or not at all, and the preconditions under which they may. Many parts share
//! one fsync; a part whose preconditions fail is refused alone.
//!
//! Only `engine/*` names a database. Each record family has its own file and its own key prefix; `docs/store.md` has all of
//! them. What people wrote is sealed on its way to the engine, so that it can be destroyed: see [`sealed`].

pub mod account;
pub mod administrators;
pub mod agreement_serial;
pub mod allowance;
pub mod audit;
pub mod audit_heads;
pub mod barriers;
pub mod check;
pub mod consortium;
pub mod contacts;
pub mod dead_letters;
pub mod departure;
pub mod device;
pub mod device_log;
pub mod engine;
pub mod enrolment;
pub mod everything;
pub mod evidence;
pub mod exchange;
pub mod expiry;
pub mod file;
pub mod group_info;
pub mod inbox;
pub mod key_claims;
pub mod key_package;
pub mod key_request;
pub mod lane_base;
pub mod lease;
pub mod link_position;
pub mod log_heads;
pub mod look_up;
pub mod moving;
pub mod node_row;
pub mod notice;
pub mod outbox;
pub mod payload;
pub mod peer;
mod pending;
pub mod policy_serial;
pub mod quarantine;
pub mod reconcile;
pub mod record;
pub mod recount;
pub mod relayed;
pub mod report;
pub mod restored;
pub mod room;
pub mod schema;
pub mod sealed;
pub mod shared_keys;
pub mod submit_state;
pub mod tally;
pub mod user_type;
mod writer;

use std::sync::Arc;

use bytes::Bytes;
use federation_proto::ids::ServerName;
use ring::rand::SecureRandom;
use tokio::sync::{Mutex, MutexGuard};

pub use engine::{Engine, Range, Read};
use pending::Following;
pub use pending::Pending;
use sealed::Seals;
use sealed::generations::Generations;
pub use writer::BATCH_PARTS_MAX;

/// A key; families are told apart by its first byte.
pub type Key = Bytes;
/// A value; its first byte is its format's version.
pub type Value = Bytes;

/// What must hold for a part to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Precondition {
    /// The key has no value.
    Absent(Key),
    /// The key has a value, whichever.
    Present(Key),
    /// The key has exactly this value.
    Equals(Key, Value),
    /// The tally at the key (see [`tally`]) stands at no more than this many bytes.
    Within(Key, u64),
    /// The tally at the key stands at no more than this many entries.
    WithinEntries(Key, u64),
}

impl Precondition {
    /// The key still has the value that was read: `None` means it had none.
    pub fn unchanged(key: Key, read: Option<Value>) -> Self {
        match read {
            Some(value) => Self::Equals(key, value),
            None => Self::Absent(key),
        }
    }

    /// The key that the precondition speaks of.
    pub fn key(&self) -> &Key {
        match self {
            Self::Absent(key)
            | Self::Present(key)
            | Self::Equals(key, _)
            | Self::Within(key, _)
            | Self::WithinEntries(key, _) => key,
        }
    }
}

/// One change to one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// The key has this value from now on.
    Put(Key, Value),
    /// The key has no value from now on.
    Delete(Key),
    /// The next number of a sequence gets this value: the number at `tail` (eight bytes, big-endian;
    /// none means 0) grows by one, and the entry's key is `prefix` followed by the new number.
    /// Numbers are assigned in commit order, so a reader who has seen 6 has missed no 5.
    Append {
        /// Where the last assigned number lies.
        tail: Key,
        /// What the entries' keys start with.
        prefix: Key,
        /// The entry's value.
        value: Value,
        /// What another key has that is made of the same number: what it starts with, and its value.
        beside: Option<(Key, Value)>,
    },
    /// The tally at `tally` (see [`tally`]) grows by one entry of this many bytes.
    Count {
        /// Where the tally lies.
        tally: Key,
        /// The bytes of the entry's value.
        bytes: u64,
    },
    /// The tally at `tally` falls by the entry at `entry`, if that has a value at this point: so one
    /// that is taken out twice is counted out once.
    Uncount {
        /// Where the tally lies.
        tally: Key,
        /// The entry.
        entry: Key,
        /// Bytes of the entry's value that were not counted in.
        uncounted: u64,
    },
}

impl Write {
    fn bytes(&self) -> usize {
        match self {
            Self::Put(key, value) => key.len() + value.len(),
            Self::Delete(key) => key.len(),
            Self::Append {
                tail,
                prefix,
                value,
                beside,
            } => {
                let beside = beside.as_ref();
                let beside = beside.map_or(0, |(prefix, value)| prefix.len() + value.len());
                tail.len() + prefix.len() + value.len() + beside
            }
            Self::Count { tally, .. } => tally.len(),
            Self::Uncount { tally, entry, .. } => tally.len() + entry.len(),
        }
    }
}

/// Writes that happen together or not at all.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Part {
    /// All must hold, judged right before the writes and after every earlier part.
    pub preconditions: Vec<Precondition>,
    /// Applied in order.
    pub writes: Vec<Write>,
}

impl Part {
    /// Adds a precondition.
    pub fn require(&mut self, precondition: Precondition) -> &mut Self {
        self.preconditions.push(precondition);
        self
    }

    /// Adds a write of `value` at `key`.
    pub fn put(&mut self, key: Key, value: Value) -> &mut Self {
        self.writes.push(Write::Put(key, value));
        self
    }

    /// Adds an entry with the next number of the sequence at `tail`; see [`Write::Append`].
    pub fn append(&mut self, tail: Key, prefix: Key, value: Value) -> &mut Self {
        self.writes.push(Write::Append {
            tail,
            prefix,
            value,
            beside: None,
        });
        self
    }

    /// Counts an entry of this many bytes in; see [`Write::Count`].
    pub fn count(&mut self, tally: Key, bytes: usize) -> &mut Self {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.writes.push(Write::Count { tally, bytes });
        self
    }

    /// Counts the entry at `entry` out, as it is before the writes that follow; see
    /// [`Write::Uncount`].
    pub fn uncount(&mut self, tally: Key, entry: Key) -> &mut Self {
        self.writes.push(Write::Uncount {
            tally,
            entry,
            uncounted: 0,
        });
        self
    }

    /// The bytes of the writes behind the first `skipped`.
    pub fn bytes_behind(&self, skipped: usize) -> usize {
        let writes = self.writes.get(skipped..).unwrap_or_default();
        writes.iter().map(Write::bytes).sum()
    }

    /// Adds a deletion of `key`.
    pub fn delete(&mut self, key: Key) -> &mut Self {
        self.writes.push(Write::Delete(key));
        self
    }
}

/// What became of a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartOutcome {
    /// Written and durable.
    Committed,
    /// A precondition did not hold; nothing was written. Read again and decide anew.
    Conflict,
}

/// Which end of a range comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Lowest key first.
    Ascending,
    /// Highest key first.
    Descending,
}

/// The store could not do what it was asked; whether a write happened is then unknown.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The engine failed. After a failed write the store takes no more writes.
    #[error("the store failed: {0}")]
    Engine(String),
    /// Another process holds the store.
    #[error(
        "the store is in use by another process: stop the other homeserver, or give this one its own \
         data folder"
    )]
    Locked,
    /// The store has lost batches that were durable once.
    #[error(
        "the store ends at batch {found}, but batch {noted} had been written: its journal is damaged; \
         restore a backup"
    )]
    Behind {
        /// The last batch found.
        found: u64,
        /// The last batch noted.
        noted: u64,
    },
    /// The commit log has lost batches that were durable once.
    #[error("the commit log is not whole: {0}; restore a backup")]
    Log(String),
    /// The store was written by another version.
    #[error(
        "the store has records of version {found}, this homeserver knows version {known}: run the \
         version that wrote it, or a newer one that can bring it up to date"
    )]
    Schema {
        /// The store's version.
        found: u8,
        /// This program's version.
        known: u8,
    },
    /// No organisation was made here.
    #[error("the store is empty: make the organisation with `homeserver init`")]
    Empty,
    /// What was written can't be sealed or opened: the operator has to mend it.
    #[error("the keys of the store can't be used: {0}")]
    Keys(String),
    /// An earlier write failed, or the store is shutting down.
    #[error(
        "the store takes no more writes: restart the homeserver after mending its disk or its \
         database"
    )]
    Stopped,
    /// A tally is not what the records make it.
    #[error(
        "the store counts {counted} rooms of {hub}, with {counted_bytes} bytes, and holds {found}, with {found_bytes}: \
         nothing is lost, but the bound on that organisation's rooms is off by as much; report it as a defect of \
         the homeserver"
    )]
    Miscounted {
        /// Who orders the rooms.
        hub: ServerName,
        /// Rooms by the tally.
        counted: u64,
        /// Their bytes by the tally.
        counted_bytes: u64,
        /// Rooms that are there.
        found: u64,
        /// Their bytes.
        found_bytes: u64,
    },
    /// A tally of the outbox is not what the rows make it.
    #[error(
        "the store counts {counted} messages {whose} that wait, with {counted_bytes} bytes, and holds {found}, with \
         {found_bytes}: nothing is lost, but the bound on them is off by as much; report it as a defect of the homeserver"
    )]
    MiscountedMail {
        /// From or for whom.
        whose: String,
        /// Rows by the tally.
        counted: u64,
        /// Their bytes by the tally.
        counted_bytes: u64,
        /// Rows that are there.
        found: u64,
        /// Their bytes.
        found_bytes: u64,
    },
    /// A stored value does not decode.
    #[error("the store holds a {family} record that does not decode: run `homeserver store check`")]
    Corrupt {
        /// The record family.
        family: &'static str,
    },
}

/// A handle to the store; clones share it.
#[derive(Clone)]
pub struct Store {
    engine: Arc<dyn Engine>,
    writer: writer::WriterHandle,
    numbering: Arc<Mutex<()>>,
    seals: Option<Arc<Seals>>,
}

impl Store {
    /// A store over an opened engine; starts the writer's thread. An engine that waits for a server has
    /// to be given inside the runtime that it was opened in, and works as long as that does.
    ///
    /// It has no keys, so what people write is neither sealed nor opened: for what writes none, and for tests.
    pub fn new(engine: Arc<dyn Engine>) -> Result<Self, StoreError> {
        let writer = writer::spawn(Arc::clone(&engine))?;
        Ok(Self {
            engine,
            writer,
            numbering: Arc::default(),
            seals: None,
        })
    }

    /// The store of another node over the same engine: it writes by itself, under the same keys.
    #[cfg(test)]
    pub(crate) fn beside(&self) -> Result<Self, StoreError> {
        Ok(Self {
            seals: self.seals.clone(),
            ..Self::new(Arc::clone(&self.engine))?
        })
    }

    /// An organisation's store over an opened engine, with the keys that seal what people write.
    pub async fn sealed(
        engine: Arc<dyn Engine>,
        generations: Generations,
        random: Arc<dyn SecureRandom + Send + Sync>,
    ) -> Result<Self, StoreError> {
        let store = Self::new(Arc::clone(&engine))?;
        schema::check(&store).await?;
        let seals = Seals::of(engine, generations, random).await?;
        Ok(Self {
            seals: Some(Arc::new(seals)),
            ..store
        })
    }

    /// A sealed store in memory, with keys of its own that nothing keeps.
    #[cfg(test)]
    pub(crate) fn sealed_in_memory(
        random: Arc<dyn SecureRandom + Send + Sync>,
    ) -> Result<Self, StoreError> {
        use futures_util::FutureExt as _;

        let engine: Arc<dyn Engine> = Arc::new(engine::memory::MemoryEngine::default());
        let seals = Seals::in_memory(Arc::clone(&engine), random)?;
        let mut part = Part::default();
        seals.put_first(&mut part);
        let parts = [part];
        if let Some(written) = engine.apply(&parts).now_or_never() {
            written?;
        }
        Ok(Self {
            seals: Some(Arc::new(seals)),
            ..Self::new(engine)?
        })
    }

    /// What seals and opens what people write, if the store has keys.
    pub fn seals(&self) -> Option<&Seals> {
        self.seals.as_deref()
    }

    /// Waits for a turn at numbering the audit log. It only saves this process's tasks from working against
    /// each other: that nothing is numbered twice is held by preconditions.
    pub async fn numbering(&self) -> MutexGuard<'_, ()> {
        self.numbering.lock().await
    }

    /// Resolves, with the reason, once the store takes no more writes: the process has to end then,
    /// because it can promise nothing any more.
    pub async fn stopped(&self) -> StoreError {
        self.writer.stopped().await
    }

    /// Adds the writer's figures to `registry`.
    pub fn register_metrics(&self, registry: &mut prometheus_client::registry::Registry) {
        self.writer.metrics().register(registry);
        if let Some(seals) = &self.seals {
            seals.register_metrics(registry);
        }
    }

    /// The value at `key`.
    pub async fn get(&self, key: &[u8]) -> Result<Option<Value>, StoreError> {
        match &self.seals {
            Some(seals) if sealed::is_content(key) => seals.get(key).await,
            _ => self.engine.get(key).await,
        }
    }

    /// Up to `limit` entries with `from <= key < to`, as of one moment.
    pub async fn range(
        &self,
        from: &[u8],
        to: &[u8],
        limit: usize,
        order: Order,
    ) -> Result<Vec<(Key, Value)>, StoreError> {
        self.range_within(from, to, limit, usize::MAX, order).await
    }

    /// As [`Store::range`], and no further entry once the values have this many bytes together; at
    /// least one when there is any.
    pub async fn range_within(
        &self,
        from: &[u8],
        to: &[u8],
        limit: usize,
        bytes_max: usize,
        order: Order,
    ) -> Result<Vec<(Key, Value)>, StoreError> {
        let range = Range {
            from,
            to,
            limit,
            bytes_max,
            order,
        };
        match &self.seals {
            Some(seals) if sealed::is_content(from) => seals.range(range).await,
            _ => self.engine.range(range).await,
        }
    }

    /// The keys of up to `limit` entries with `from <= key < to`, as of one moment: nothing is opened for them.
    pub async fn keys(
        &self,
        from: &[u8],
        to: &[u8],
        limit: usize,
        order: Order,
    ) -> Result<Vec<Key>, StoreError> {
        let range = Range {
            from,
            to,
            limit,
            bytes_max: usize::MAX,
            order,
        };
        let entries = self.engine.range(range).await?;
        Ok(entries.into_iter().map(|(key, _)| key).collect())
    }

    /// This moment of all keys, as they are stored; see [`Engine::snapshot`].
    pub async fn snapshot(&self) -> Result<Box<dyn Read>, StoreError> {
        self.engine.snapshot().await
    }

    /// Writes `part` durably, or refuses it alone.
    pub async fn commit(&self, part: Part) -> Result<PartOutcome, StoreError> {
        self.enqueue(part).await.wait().await
    }

    /// Writes `part` durably, or refuses it alone. Once it is written `then` runs, also when nobody
    /// waits for the outcome any more: what was queued is written whether its caller is still there
    /// or not, and whoever asks again is only told that it had been done.
    pub async fn commit_then(
        &self,
        part: Part,
        then: impl FnOnce() + Send + 'static,
    ) -> Result<PartOutcome, StoreError> {
        let pending = self.enqueue(part).await;
        Following::new(pending, then).wait().await
    }

    /// Queues `part` behind every part queued before it, as soon as the queue has room for it;
    /// [`Pending::wait`] tells what became of it.
    pub async fn enqueue(&self, part: Part) -> Pending {
        let Some(seals) = self.seals.as_ref().filter(|_| sealed::concerns(&part)) else {
            return Pending::of(self.writer.enqueue(part).await, None);
        };
        let _turn = seals.turn().await;
        match seals.seal(part).await {
            Ok(part) => Pending::of(self.writer.enqueue(part).await, Some(Arc::clone(seals))),
            Err(error) => Pending::failed(error),
        }
    }
}
