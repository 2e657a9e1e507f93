//! `[store]`: how the store writes.

use super::settings::{Section, parsed};

/// `[store]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreConfig {
    /// Whether commits go to a log first and to the index later. May be changed between two starts.
    pub commit_log: bool,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self { commit_log: true }
    }
}

impl StoreConfig {
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        let default = Self::default();
        Self {
            commit_log: section
                .optional("commit_log", parsed)
                .unwrap_or(default.commit_log),
        }
    }
}
