//! `S`: how far a device's submissions have come, and its latest results; `s`: results before those.
//!
//! Results are runs: a frame of accepted submissions is one run of a few bytes. The latest runs stand
//! in `S`, which every frame writes anew; a full set of them moves into one of a ring of chunks, so
//! that each frame writes little and at least the last [`RESULTS_KEPT_MAX`] results can be told again.

use federation_proto::ids::DeviceId;
use federation_proto::refusal::Refusal;
use homeserver_api::session::{Outcome, RESULTS_KEPT_MAX};
use serde::{Deserialize, Serialize};

use super::record::{decode, encode};
use super::{Key, Part, Store, StoreError, Value};

const FAMILY: &str = "submit state";
const VERSION: u8 = 1;
const STATE: u8 = b'S';
const CHUNK: u8 = b's';
/// Most runs in `S`.
const RUNS_MAX: usize = 32;
/// Chunks in the ring: each holds at least [`RUNS_MAX`] results.
const CHUNKS: u64 = 32;

const _: () = assert!(RUNS_MAX * 32 >= RESULTS_KEPT_MAX);

/// A final outcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum Final {
    Accepted { accepted_ms: u64 },
    Refused(Refusal),
}

/// Consecutive counters with one outcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Run {
    count: u64,
    outcome: Final,
}

/// Runs whose last counter is `last`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
struct Runs {
    last: u64,
    runs: Vec<Run>,
}

impl Runs {
    fn find(&self, counter: u64) -> Option<Outcome> {
        let mut end = self.last;
        for run in self.runs.iter().rev() {
            let start = end.checked_sub(run.count)?;
            if counter > start && counter <= end {
                return Some(match &run.outcome {
                    Final::Accepted { accepted_ms } => Outcome::Accepted {
                        accepted_ms: *accepted_ms,
                    },
                    Final::Refused(refusal) => Outcome::Refused(refusal.clone()),
                });
            }
            end = start;
        }
        None
    }
}

/// How far a device's submissions have come.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SubmitState {
    recent: Runs,
    chunks: u64,
    #[serde(skip)]
    moved: Vec<(u64, Runs)>,
}

impl SubmitState {
    /// The highest counter with a final outcome.
    pub const fn last_counter(&self) -> u64 {
        self.recent.last
    }

    /// The latest results' outcome of `counter`, if it stands here.
    pub fn recent_outcome(&self, counter: u64) -> Option<Outcome> {
        self.recent.find(counter)
    }

    /// Adds the outcome of the next counter; one to be deferred adds nothing.
    pub fn push(&mut self, outcome: &Outcome) {
        let outcome = match outcome {
            Outcome::Accepted { accepted_ms } => Final::Accepted {
                accepted_ms: *accepted_ms,
            },
            Outcome::Refused(refusal) => Final::Refused(refusal.clone()),
            Outcome::Deferred { .. } => return,
        };
        match self.recent.runs.last_mut() {
            Some(run) if run.outcome == outcome => run.count += 1,
            _ => {
                if self.recent.runs.len() == RUNS_MAX {
                    let full = Runs {
                        last: self.recent.last,
                        runs: std::mem::take(&mut self.recent.runs),
                    };
                    self.moved.push((self.chunks % CHUNKS, full));
                    self.chunks += 1;
                }
                self.recent.runs.push(Run { count: 1, outcome });
            }
        }
        self.recent.last += 1;
    }

    /// Writes the state.
    pub fn put(&mut self, part: &mut Part, device: DeviceId) -> Result<(), StoreError> {
        for (slot, runs) in self.moved.drain(..) {
            part.put(chunk_key(device, slot), encode(FAMILY, VERSION, &runs)?);
        }
        part.put(key(device), encode(FAMILY, VERSION, self)?);
        Ok(())
    }

    /// The outcome of a counter that has one, while it is kept.
    pub async fn outcome(
        &self,
        store: &Store,
        device: DeviceId,
        counter: u64,
    ) -> Result<Option<Outcome>, StoreError> {
        if let Some(outcome) = self.recent_outcome(counter) {
            return Ok(Some(outcome));
        }
        for slot in 0..CHUNKS.min(self.chunks) {
            let Some(value) = store.get(&chunk_key(device, slot)).await? else {
                continue;
            };
            if let Some(outcome) = decode::<Runs>(FAMILY, VERSION, &value)?.find(counter) {
                return Ok(Some(outcome));
            }
        }
        Ok(None)
    }
}

/// Where a device's state lies.
pub fn key(device: DeviceId) -> Key {
    [&[STATE][..], device.as_bytes()].concat().into()
}

/// The device's state and its stored bytes (for a precondition).
pub async fn get(
    store: &Store,
    device: DeviceId,
) -> Result<(SubmitState, Option<Value>), StoreError> {
    match store.get(&key(device)).await? {
        Some(value) => Ok((decode(FAMILY, VERSION, &value)?, Some(value))),
        None => Ok((SubmitState::default(), None)),
    }
}

/// Deletes a removed device's state.
pub fn delete(part: &mut Part, device: DeviceId) {
    part.delete(key(device));
    for slot in 0..CHUNKS {
        part.delete(chunk_key(device, slot));
    }
}

fn chunk_key(device: DeviceId, slot: u64) -> Key {
    // Slots are below 32.
    let slot = u8::try_from(slot).unwrap_or(u8::MAX);
    [&[CHUNK][..], device.as_bytes(), &[slot]].concat().into()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use federation_proto::refusal::RefusalCode;
    use proptest::prelude::*;

    use super::*;
    use crate::store::engine::memory::MemoryEngine;

    fn outcome(n: u8) -> Outcome {
        match n {
            0 => Outcome::Refused(Refusal::new(RefusalCode::Malformed, "no")),
            n => Outcome::Accepted {
                accepted_ms: u64::from(n),
            },
        }
    }

    proptest! {
        /// Goal: the last 1,024 results can be told again, whatever they were and however they came
        /// in frames; against a plain list.
        #[test]
        fn keeps_the_last_results(frames in prop::collection::vec(prop::collection::vec(0_u8..4, 1..60), 1..60)) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                let store = Store::new(Arc::new(MemoryEngine::default())).unwrap();
                let device = DeviceId::from_bytes([1; 16]);
                let mut plain = Vec::new();
                for frame in frames {
                    let (mut state, _) = get(&store, device).await.unwrap();
                    for n in frame {
                        state.push(&outcome(n));
                        plain.push(outcome(n));
                    }
                    let mut part = Part::default();
                    state.put(&mut part, device).unwrap();
                    store.commit(part).await.unwrap();
                }
                let (state, _) = get(&store, device).await.unwrap();
                prop_assert_eq!(state.last_counter(), u64::try_from(plain.len()).unwrap());
                for (n, expected) in plain.iter().enumerate().rev().take(RESULTS_KEPT_MAX) {
                    let counter = u64::try_from(n).unwrap() + 1;
                    let kept = state.outcome(&store, device, counter).await.unwrap();
                    prop_assert_eq!(kept.as_ref(), Some(expected));
                }
                Ok(())
            })?;
        }
    }
}
