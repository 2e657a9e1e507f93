//! How long to wait before the next attempt. Pure: time and randomness are arguments.

use std::time::Duration;

use federation_proto::link::deferral_wait_ms;

/// While mail waits for an unreachable peer, it is probed this often,
const PROBE: Duration = Duration::from_secs(2);
/// and this often once it has been away for [`PROBE_PATIENCE_MS`].
const PROBE_SLOW: Duration = Duration::from_secs(30);
const PROBE_PATIENCE_MS: u64 = 10 * 60 * 1000;

/// Delays towards one peer; those of its lanes are the business of [`federation_proto::link`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Backoff {
    unreachable_since_ms: Option<u64>,
    deferrals: u32,
}

impl Backoff {
    /// Something went right: the next delay is the shortest again.
    pub(super) fn reset(&mut self) {
        *self = Self::default();
    }

    /// Whether the peer could not be reached last time.
    pub(super) const fn is_unreachable(&self) -> bool {
        self.unreachable_since_ms.is_some()
    }

    /// The peer can't be reached.
    pub(super) fn unreachable(&mut self, now_ms: u64, random: u32) -> Duration {
        let since_ms = *self.unreachable_since_ms.get_or_insert(now_ms);
        let away_ms = now_ms.saturating_sub(since_ms);
        let delay = if away_ms < PROBE_PATIENCE_MS {
            PROBE
        } else {
            PROBE_SLOW
        };
        jittered(delay, random)
    }

    /// The peer answered that it does not take this now; `asked` is how long it asks to wait.
    pub(super) fn deferred(&mut self, asked: Duration, random: u32) -> Duration {
        self.unreachable_since_ms = None;
        let asked_ms = u64::try_from(asked.as_millis()).unwrap_or(u64::MAX);
        let wait_ms = deferral_wait_ms(self.deferrals, asked_ms, random);
        self.deferrals = self.deferrals.saturating_add(1);
        Duration::from_millis(wait_ms)
    }
}

/// Between four fifths of `delay` and all of it: peers that failed together don't return together,
/// and the stated bound holds.
pub(super) fn jittered(delay: Duration, random: u32) -> Duration {
    let fifth = delay / 5;
    delay - fifth.mul_f64(f64::from(random) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: deferrals double, what the peer asks for is waited for in full, and success starts over; by
    /// walking through them with the largest and the least spread.
    #[test]
    fn deferrals_double() {
        let mut backoff = Backoff::default();
        let mut delays = Vec::new();
        for _ in 0..4 {
            delays.push(backoff.deferred(Duration::ZERO, 0).as_secs());
        }
        assert_eq!(delays, [1, 2, 4, 8]);
        backoff.reset();
        let asked = Duration::from_secs(7);
        assert_eq!(backoff.deferred(asked, u32::MAX), asked);
        assert_eq!(backoff.deferred(asked, 0), asked);
    }

    /// Goal: an unreachable peer is probed every 2 s, and every 30 s once it was away for ten minutes.
    #[test]
    fn probes_slow_down() {
        let mut backoff = Backoff::default();
        assert_eq!(backoff.unreachable(1_000, 0).as_secs(), 2);
        assert_eq!(backoff.unreachable(600_999, 0).as_secs(), 2);
        assert_eq!(backoff.unreachable(601_000, 0).as_secs(), 30);
    }

    /// Goal: jitter shortens by at most a fifth and never lengthens.
    #[test]
    fn jitter_is_bounded() {
        for random in [0, 1, u32::MAX / 2, u32::MAX] {
            let delay = jittered(Duration::from_secs(10), random);
            assert!((Duration::from_secs(8)..=Duration::from_secs(10)).contains(&delay));
        }
    }
}
