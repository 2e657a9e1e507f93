//! Open loop: when each pair's messages are due, whatever the servers do.
//!
//! Messages of all pairs are spread evenly over time, pair after pair. A message's latency counts
//! from the moment it was due, not from the moment the generator got round to it: a stall of the
//! servers (or of the generator) then shows in every message it held up, not in one
//! ("coordinated omission").

/// Microseconds in a second.
const SECOND_US: u128 = 1_000_000;

/// A constant rate over all pairs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Schedule {
    /// When the first message of the first pair is due.
    start_us: u64,
    /// Messages a second, all pairs together; at least 1.
    rate: u64,
    /// Pairs; at least 1.
    pairs: u64,
}

impl Schedule {
    pub(crate) fn new(start_us: u64, rate: u64, pairs: u64) -> Self {
        Self {
            start_us,
            rate: rate.max(1),
            pairs: pairs.max(1),
        }
    }

    /// When message `index` (from 0, over all pairs) is due.
    pub(crate) fn due_us(&self, index: u64) -> u64 {
        let offset = u128::from(index) * SECOND_US / u128::from(self.rate);
        self.start_us
            .saturating_add(u64::try_from(offset).unwrap_or(u64::MAX))
    }

    /// How many messages, over all pairs, are due at `now_us`.
    pub(crate) fn due(&self, now_us: u64) -> u64 {
        let Some(elapsed) = now_us.checked_sub(self.start_us) else {
            return 0;
        };
        // The largest index with index * SECOND_US / rate <= elapsed, plus one.
        let last = ((u128::from(elapsed) + 1) * u128::from(self.rate) - 1) / SECOND_US;
        u64::try_from(last).unwrap_or(u64::MAX).saturating_add(1)
    }

    /// The pair that message `index` belongs to.
    pub(crate) fn pair(&self, index: u64) -> u64 {
        index % self.pairs
    }

    /// The index over all pairs of `pair`'s message number `nth` (from 0).
    pub(crate) fn index(&self, pair: u64, nth: u64) -> u64 {
        nth.saturating_mul(self.pairs).saturating_add(pair)
    }

    /// How many messages of `pair` are due at `now_us`.
    pub(crate) fn due_of(&self, pair: u64, now_us: u64) -> u64 {
        self.due(now_us).saturating_sub(pair).div_ceil(self.pairs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: counts and times agree: message n is due exactly when the count passes n. Checked for
    /// rates that divide a second and rates that don't, a microsecond before, at and after.
    #[test]
    fn counts_and_times_agree() {
        for rate in [1, 3, 7, 100, 12_345, 999_983] {
            let schedule = Schedule::new(500, rate, 4);
            assert_eq!(schedule.due(499), 0);
            for index in [0, 1, 2, 10, 101, 5_003] {
                let at = schedule.due_us(index);
                assert!(schedule.due(at) > index, "rate {rate} index {index}");
                assert!(schedule.due(at - 1) <= index, "rate {rate} index {index}");
            }
        }
    }

    /// Goal: every message belongs to exactly one pair, and the pairs' counts add up; by summing
    /// the pairs' counts at many moments.
    #[test]
    fn pairs_add_up() {
        let schedule = Schedule::new(0, 1_000, 7);
        for now_us in (0..50_000).step_by(333) {
            let sum: u64 = (0..7).map(|pair| schedule.due_of(pair, now_us)).sum();
            assert_eq!(sum, schedule.due(now_us));
        }
        for pair in 0..7 {
            for nth in 0..5 {
                assert_eq!(schedule.pair(schedule.index(pair, nth)), pair);
            }
        }
    }
}
