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

    /// Up to `limit` entries with `from <= key < to`, from one snapshot; no further one once the values
    /// have `bytes_max` together.
    fn range(
        &self,
        from: &[u8],
        to: &[u8],
        limit: usize,
        bytes_max: usize,
        order: Order,
    ) -> Result<Vec<(Key, Value)>, StoreError>;
}

/// The first of `entries`, up to `limit` of them, and none once those before have `bytes_max` together.
fn up_to(
    entries: impl Iterator<Item = Result<(Key, Value), StoreError>>,
    limit: usize,
    bytes_max: usize,
) -> Result<Vec<(Key, Value)>, StoreError> {
    let mut found = Vec::new();
    let mut bytes = 0_usize;
    for entry in entries.take(limit) {
        let (key, value) = entry?;
        bytes = bytes.saturating_add(value.len());
        found.push((key, value));
        if bytes >= bytes_max {
            break;
        }
    }
    Ok(found)
}
