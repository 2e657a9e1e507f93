//! The wall clock, as an argument: whoever needs the time is handed one.

use std::time::{SystemTime, UNIX_EPOCH};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// The wall clock.
pub trait Clock: Send + Sync {
    /// Milliseconds since the Unix epoch.
    fn now_ms(&self) -> u64;
}

/// The machine's clock.
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that reads the clock"
    )]
    fn now_ms(&self) -> u64 {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| {
                u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
            })
    }
}

/// A moment in milliseconds since the Unix epoch, as people read it (RFC 3339, in UTC, whole seconds).
#[must_use]
pub fn as_text(ms: u64) -> String {
    i64::try_from(ms / 1000)
        .ok()
        .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok())
        .and_then(|at| at.format(&Rfc3339).ok())
        .unwrap_or_else(|| format!("{ms} ms since 1970"))
}

#[cfg(test)]
mod tests {
    use super::as_text;

    /// Goal: moments are read as people write them, and none is too far away for it. Method: one of each.
    #[test]
    fn moments_are_texts() {
        assert_eq!(as_text(1_764_342_000_999), "2025-11-28T15:00:00Z");
        assert_eq!(as_text(u64::MAX), format!("{} ms since 1970", u64::MAX));
    }
}
