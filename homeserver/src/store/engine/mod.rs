//! The engines that a store can stand on.
//!
//! Invariants, which one suite (`tests.rs`) holds every engine to:
//! - `apply` answers after everything that it says was committed is durable.
//! - After an error nothing is known of that batch, and the engine takes no more writes.
//! - A read sees whole batches, and a snapshot sees one moment of all keys.

mod changes;
pub mod embedded;
mod index;
pub mod log;
pub mod memory;
mod note;
pub mod postgresql;
mod remembered;
#[cfg(feature = "sled")]
pub mod sled;
mod space;
#[cfg(test)]
mod tests;

use std::future::{Future, ready};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;

use super::{Key, Order, Part, PartOutcome, StoreError, Value};

/// What an engine answers: at once when it lies in this process, later when a server has to be asked.
/// Whether the work is done when the method is called or when the answer is waited for is the engine's
/// affair; an answer that is not waited for may have come to anything.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// Which entries are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range<'a> {
    /// The lowest key.
    pub from: &'a [u8],
    /// The first key above all of them; none is read when it does not lie above `from`.
    pub to: &'a [u8],
    /// Most entries.
    pub limit: usize,
    /// No further entry once the values have this many bytes together; the first is read whatever its
    /// size.
    pub bytes_max: usize,
    /// Which end comes first.
    pub order: Order,
}

/// What can be read: the engine as it is now, or one moment of it.
pub trait Read: Send + Sync {
    /// The value at `key`.
    fn get<'a>(&'a self, key: &'a [u8]) -> Answer<'a, Option<Value>>;

    /// The entries of `range`, all from one moment.
    fn range<'a>(&'a self, range: Range<'a>) -> Answer<'a, Vec<(Key, Value)>>;
}

/// An ordered map with atomic, durable batches. Nothing domain-specific.
pub trait Engine: Read + 'static {
    /// Judges and applies `parts` in order, each atomically, each seeing the ones before it; when it
    /// answers, all that was committed is durable. After an error the engine takes no more writes.
    /// One caller at a time in a process, the writer, who waits for the answer.
    fn apply<'a>(&'a self, parts: &'a [Part]) -> Answer<'a, Vec<PartOutcome>>;

    /// This moment of all keys, for as long as it is held. To be held for short: what is overwritten
    /// and deleted meanwhile keeps its space.
    fn snapshot(&self) -> Answer<'_, Box<dyn Read>>;
}

/// Opens the embedded store in `folder`, or makes a new one there: with a commit log before its index,
/// or without one. Either opens what the other has left; without, all that the log holds is taken to the
/// index first.
pub fn open_embedded(folder: &Path, commit_log: bool) -> Result<Arc<dyn Engine>, StoreError> {
    if commit_log {
        return Ok(Arc::new(log::LoggedEngine::open(folder)?));
    }
    log::remove(folder)?;
    Ok(Arc::new(embedded::EmbeddedEngine::open(folder)?))
}

/// The answer of an engine that need not wait.
fn at_once<'a, T: Send + 'a>(result: Result<T, StoreError>) -> Answer<'a, T> {
    Box::pin(ready(result))
}

impl Range<'_> {
    /// Whether no key can lie in it.
    fn is_empty(&self) -> bool {
        self.from >= self.to || self.limit == 0
    }

    /// The first of `entries`, which lie in this range and in its order, up to its bounds.
    fn take_from(
        &self,
        entries: impl Iterator<Item = Result<(Key, Value), StoreError>>,
    ) -> Result<Vec<(Key, Value)>, StoreError> {
        let mut found = Vec::new();
        let mut bytes = 0_usize;
        for entry in entries.take(self.limit) {
            let (key, value) = entry?;
            bytes = bytes.saturating_add(value.len());
            found.push((key, value));
            if bytes >= self.bytes_max {
                break;
            }
        }
        Ok(found)
    }
}
