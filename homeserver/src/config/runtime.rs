//! `[runtime]`: how the process uses the machine.

use super::settings::{Section, number};

/// `[runtime]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeConfig {
    /// Threads that serve connections; the store has a thread of its own besides. With 1, everything
    /// runs on one thread without any hand-over, which costs least processor time for a message.
    pub workers: usize,
}

impl Default for RuntimeConfig {
    fn default() -> Self {
        Self { workers: 1 }
    }
}

impl RuntimeConfig {
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        let workers = section.optional("workers", number(1, 256));
        workers
            .and_then(|workers| usize::try_from(workers).ok())
            .map_or_else(Self::default, |workers| Self { workers })
    }
}
