//! The engines that a store can stand on.

pub mod memory;

use super::{Key, Order, Part, PartOutcome, StoreError, Value};

/// An ordered map with atomic, durable batches. Nothing domain-specific.
pub trait Engine: Send + Sync + 'static {
    /// Judges and applies `parts` in order, each atomically, each seeing the ones before it; when it
    /// returns, all that was committed is durable.
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

/// The number after the one at a sequence's tail.
fn next_number(tail: Option<&Value>) -> Result<u64, StoreError> {
    let last = match tail {
        None => 0,
        Some(value) => u64::from_be_bytes(
            value
                .as_ref()
                .try_into()
                .map_err(|_| StoreError::Corrupt { family: "tail" })?,
        ),
    };
    last.checked_add(1)
        .ok_or(StoreError::Corrupt { family: "tail" })
}

/// The key of a sequence's entry.
fn numbered_key(prefix: &Key, number: u64) -> Key {
    [prefix.as_ref(), &number.to_be_bytes()].concat().into()
}
