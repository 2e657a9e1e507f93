//! The measurement's clock: microseconds since the process began to measure.
//!
//! Intended send times, arrival times and window bounds are all plain numbers on this one axis, so
//! that what computes with them reads no clock.

use std::time::{Duration, Instant};

/// A monotonic clock with its origin at its creation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    origin: Instant,
}

impl Clock {
    /// Starts a clock at zero.
    #[expect(
        clippy::disallowed_methods,
        reason = "a load generator measures real time; this module is where it reads it"
    )]
    pub(crate) fn start() -> Self {
        Self {
            origin: Instant::now(),
        }
    }

    /// Microseconds since the origin.
    pub(crate) fn micros(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// How long from now until `at_us`; zero when that is past.
    pub(crate) fn until(&self, at_us: u64) -> Duration {
        Duration::from_micros(at_us.saturating_sub(self.micros()))
    }
}
