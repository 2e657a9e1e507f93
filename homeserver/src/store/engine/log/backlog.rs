//! How much is young, and who waits for whom: the writer for room, the background for work.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::store::StoreError;

/// What the writer and the background tell each other.
#[derive(Default)]
pub(super) struct Backlog {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Bytes of the log that the index does not hold.
    bytes: usize,
    /// The segment in use is half full, or there is more than may stay young.
    work: bool,
    stopping: bool,
    /// Why nothing goes to the index any more.
    failure: Option<StoreError>,
}

impl Backlog {
    /// Of a log that has so many bytes already.
    pub(super) fn new(bytes: usize) -> Self {
        Self {
            state: Mutex::new(State {
                bytes,
                ..State::default()
            }),
            changed: Condvar::new(),
        }
    }

    /// Waits until `bytes` more are no more than `max`, or are all there is; fails when the background
    /// has failed: it would wait for ever.
    pub(super) fn wait_for_room(&self, bytes: usize, max: usize) -> Result<(), StoreError> {
        let mut state = self.lock();
        loop {
            if let Some(error) = &state.failure {
                return Err(error.clone());
            }
            if state.bytes == 0 || state.bytes.saturating_add(bytes) <= max {
                return Ok(());
            }
            state.work = true;
            self.changed.notify_all();
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// So many bytes more are young; `work` wakes the background.
    pub(super) fn add(&self, bytes: usize, segment_wanted: bool, young_bytes_max: usize) {
        let mut state = self.lock();
        state.bytes = state.bytes.saturating_add(bytes);
        if segment_wanted || state.bytes > young_bytes_max {
            state.work = true;
            self.changed.notify_all();
        }
    }

    /// The index holds so many bytes more.
    pub(super) fn subtract(&self, bytes: usize) {
        let mut state = self.lock();
        state.bytes = state.bytes.saturating_sub(bytes);
        self.changed.notify_all();
    }

    /// Bytes of the log that the index does not hold.
    pub(super) fn bytes(&self) -> usize {
        self.lock().bytes
    }

    /// Nothing goes to the index any more: no write may wait for it.
    pub(super) fn fail(&self, error: StoreError) {
        self.lock().failure = Some(error);
        self.changed.notify_all();
    }

    /// The background has to end.
    pub(super) fn stop(&self) {
        self.lock().stopping = true;
        self.changed.notify_all();
    }

    /// Whether the background has to end.
    pub(super) fn is_stopping(&self) -> bool {
        self.lock().stopping
    }

    /// Waits for work, `time` at most; whether to go on.
    pub(super) fn wait_for_work(&self, time: Duration) -> bool {
        let idle = |state: &mut State| !state.work && !state.stopping;
        let (mut state, _) = self
            .changed
            .wait_timeout_while(self.lock(), time, idle)
            .unwrap_or_else(PoisonError::into_inner);
        state.work = false;
        !state.stopping
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
