//! Files of peers that could not be fetched: remembered for a moment, so that whoever waits for one is
//! told instead of waiting on.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use federation_proto::ids::{FileId, ServerName};
use federation_proto::refusal::Refusal;

/// How long a failure is the answer; after that the file is tried again.
const KEPT_MS: u64 = 10_000;
/// Most failures remembered; beyond that they are all forgotten, and tried again.
const FAILURES_MAX: usize = 1024;

/// What could not be fetched, in this process.
#[derive(Debug, Default)]
pub struct Fetches {
    failures: Mutex<HashMap<(ServerName, FileId), (Refusal, u64)>>,
}

impl Fetches {
    /// The file could not be fetched.
    pub fn failed(&self, server: &ServerName, file: FileId, refusal: Refusal, now_ms: u64) {
        let mut failures = self.lock();
        if failures.len() >= FAILURES_MAX {
            failures.clear();
        }
        failures.insert((server.clone(), file), (refusal, now_ms));
    }

    /// Why the file could not be fetched a moment ago.
    pub fn failure(&self, server: &ServerName, file: FileId, now_ms: u64) -> Option<Refusal> {
        let mut failures = self.lock();
        let key = (server.clone(), file);
        let (refusal, at_ms) = failures.get(&key)?.clone();
        if now_ms.saturating_sub(at_ms) < KEPT_MS {
            return Some(refusal);
        }
        failures.remove(&key);
        None
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(ServerName, FileId), (Refusal, u64)>> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
