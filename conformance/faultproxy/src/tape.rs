//! What a network observer at the proxy's place would see.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use crate::proxy::Direction;

/// Bytes as they came in, before any fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// When.
    pub at: Instant,
    /// Which way.
    pub direction: Direction,
    /// What.
    pub bytes: Vec<u8>,
}

/// Keeps what passes while it runs.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tape(Arc<Mutex<Option<Vec<Seen>>>>);

impl Tape {
    /// Runs from now on; what it held is gone.
    pub(crate) fn start(&self) {
        *self.lock() = Some(Vec::new());
    }

    /// Stops, and gives out what it holds.
    pub(crate) fn stop(&self) -> Vec<Seen> {
        self.lock().take().unwrap_or_default()
    }

    pub(crate) fn note(&self, direction: Direction, bytes: &[u8]) {
        if let Some(seen) = self.lock().as_mut() {
            seen.push(Seen {
                at: Instant::now(),
                direction,
                bytes: bytes.to_vec(),
            });
        }
    }

    /// Nothing that holds the lock can leave the list half changed.
    fn lock(&self) -> MutexGuard<'_, Option<Vec<Seen>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
