//! The engines that a store can stand on.

mod changes;
pub mod embedded;
pub mod memory;
#[cfg(test)]
mod tests;

use super::{Key, Order, Part, PartOutcome, StoreError, Value};

/// An ordered map with atomic, durable batches. Nothing domain-specific.
pub trait Engine: Send + Sync + 'static {
    /// Judges and applies `parts` in order, each atomically, each seeing the ones before it; when it
    /// returns, all that was committed is durable. After an error the engine takes no more writes.
    /// One caller at a time: the writer.
    fn apply(&self, parts: &[Part]) -> Result<Vec<PartOutcome>, StoreError>;

    /// The value at `key`.
    fn get(&self, key: &[u8]) -> Result<Option<Value>, StoreError>;

    /// Up to `limit` entries with `from <= key < to`, from one snapshot.
    fn range(
        &self,
        from: &[u8],
        to: &[u8],
        limit: usize,
        order: Order,
    ) -> Result<Vec<(Key, Value)>, StoreError>;
}
