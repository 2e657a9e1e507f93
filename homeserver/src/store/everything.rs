//! All entries of a store as of one moment, a chunk at a time, and what they come to.

use ring::digest::{Context, SHA256};

use super::{Key, Order, Range, Read, Store, StoreError, Value};

/// Entries read at once.
const CHUNK: usize = 1000;
/// Bytes of values read at once, but for the last entry.
const CHUNK_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Below every record's key, and above the marks that engines keep for themselves.
const FIRST: &[u8] = &[1];
/// Above every record's key.
const END: &[u8] = b"\xff";

/// All entries of one moment, in the order of their keys.
pub struct Everything {
    moment: Box<dyn Read>,
    from: Vec<u8>,
    bytes_max: usize,
}

impl From<Box<dyn Read>> for Everything {
    fn from(moment: Box<dyn Read>) -> Self {
        Self {
            moment,
            from: FIRST.to_vec(),
            bytes_max: CHUNK_BYTES_MAX,
        }
    }
}

impl Everything {
    /// What `store` holds now.
    pub async fn of(store: &Store) -> Result<Self, StoreError> {
        Ok(Self::from(store.snapshot().await?))
    }

    /// The same with fewer bytes at once, for whoever shares the process with others.
    #[must_use]
    pub fn within(mut self, bytes_max: usize) -> Self {
        self.bytes_max = bytes_max;
        self
    }

    /// The moment that they are of.
    pub fn moment(&self) -> &dyn Read {
        &*self.moment
    }

    /// The next entries; none at the end.
    pub async fn next(&mut self) -> Result<Vec<(Key, Value)>, StoreError> {
        let range = Range {
            from: &self.from,
            to: END,
            limit: CHUNK,
            bytes_max: self.bytes_max,
            order: Order::Ascending,
        };
        let chunk = self.moment.range(range).await?;
        if let Some((last, _)) = chunk.last() {
            self.from = [last.as_ref(), &[0]].concat();
        }
        Ok(chunk)
    }
}

/// Whether `store` holds nothing at all.
pub async fn is_empty(store: &Store) -> Result<bool, StoreError> {
    let found = store.range(FIRST, END, 1, Order::Ascending).await?;
    Ok(found.is_empty())
}

/// What entries come to. Stores that hold the same have the same sum, whatever they stand on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sum {
    /// How many there are.
    pub entries: u64,
    /// The bytes of their keys and values.
    pub bytes: u64,
    /// SHA-256 over each in the order of the keys: the lengths of key and value (4 bytes each, big-endian), key, value.
    pub sha256: [u8; 32],
}

/// A sum that grows.
pub struct Summing {
    entries: u64,
    bytes: u64,
    context: Context,
}

impl Default for Summing {
    fn default() -> Self {
        Self {
            entries: 0,
            bytes: 0,
            context: Context::new(&SHA256),
        }
    }
}

impl Summing {
    /// Counts an entry in; they come in the order of their keys.
    pub fn add(&mut self, key: &[u8], value: &[u8]) {
        self.entries = self.entries.saturating_add(1);
        let bytes = u64::try_from(key.len().saturating_add(value.len())).unwrap_or(u64::MAX);
        self.bytes = self.bytes.saturating_add(bytes);
        for piece in [key, value] {
            let length = u32::try_from(piece.len()).unwrap_or(u32::MAX);
            self.context.update(&length.to_be_bytes());
        }
        self.context.update(key);
        self.context.update(value);
    }

    /// How many were counted in so far.
    pub const fn entries(&self) -> u64 {
        self.entries
    }

    /// What was counted in so far.
    pub fn sum(&self) -> Sum {
        let digest = self.context.clone().finish();
        Sum {
            entries: self.entries,
            bytes: self.bytes,
            // SHA-256 has 32 bytes.
            sha256: digest.as_ref().try_into().unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a sum tells entries apart that run into each other. Method: the same bytes, divided otherwise between keys,
    /// values and entries.
    #[test]
    fn sums_tell_entries_apart() {
        let sum = |entries: &[(&[u8], &[u8])]| {
            let mut summing = Summing::default();
            for (key, value) in entries {
                summing.add(key, value);
            }
            summing.sum()
        };
        let one = sum(&[(b"ab", b"cd")]);
        assert_eq!((one.entries, one.bytes), (1, 4));
        assert_eq!(one, sum(&[(b"ab", b"cd")]));
        for other in [
            sum(&[(b"a", b"bcd")]),
            sum(&[(b"abc", b"d")]),
            sum(&[(b"a", b"b"), (b"c", b"d")]),
            sum(&[]),
        ] {
            assert_ne!(one.sha256, other.sha256);
        }
    }
}
