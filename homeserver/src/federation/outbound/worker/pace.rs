//! How much goes into a transaction, and whether another one goes out beside it: as much as the way to the peer has
//! shown that it carries. Pure: times are arguments.
//!
//! A transaction that comes through late is as good as one that does not: the peer gives its body up, and the whole of
//! it goes out again. On a slow or lossy link nothing would ever arrive. So a transaction for which the time was too
//! short is followed by half of it, alone, until one comes through; and only one that took a small part of its time
//! lets more go out. A link of which nothing is known begins in the middle: a fast one is at the most after four
//! transactions, and a slow one fails once or twice, and not for minutes.

use std::time::Duration;

use federation_proto::limits::PADDED_BYTES_MIN;
use federation_proto::link::BatchLimits;

/// Most bytes of the first transaction. At the rate at which bodies have to arrive it takes a few seconds.
const FIRST_BYTES: usize = 256 * 1024;
/// Least that is tried, however slow the link is: half of it is padded to as much.
const LEAST_BYTES: usize = PADDED_BYTES_MIN;
/// After a failure half as much is tried.
const SHRINK: usize = 2;
/// After a quick transaction twice as much as it had,
const GROW: usize = 2;
/// which is one that has taken at most this part of its time. Then several of twice the size fit into theirs, which
/// share the link: four of them take eight times as long at most.
const QUICK_PART: u32 = 16;

/// What is known of the way to the peer.
pub(super) struct Pace {
    bytes_max: usize,
    alone: bool,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            bytes_max: FIRST_BYTES,
            alone: false,
        }
    }
}

impl Pace {
    /// Most bytes of a transaction, headers and payloads together.
    pub(super) const fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    /// Whether nothing may go out beside a transaction.
    pub(super) const fn is_alone(&self) -> bool {
        self.alone
    }

    /// A transaction with so many bytes was answered after `took`, and would have been given up after `within`.
    pub(super) fn passed(&mut self, bytes: usize, took: Duration, within: Duration) {
        if took.saturating_mul(QUICK_PART) > within {
            return;
        }
        self.alone = false;
        // What was not tried is not known: a small one says nothing of a large one.
        let shown = bytes.saturating_mul(GROW);
        let most = BatchLimits::default().bytes_max;
        self.bytes_max = self.bytes_max.max(shown.min(most));
    }

    /// The time of a transaction with so many bytes was over before it was answered; `together` with others that were
    /// under way beside it, for which that was noted before.
    pub(super) fn was_too_short(&mut self, bytes: usize, together: bool) {
        self.alone = true;
        let half = (bytes / SHRINK).max(LEAST_BYTES);
        // A small one fails beside a large one because of that.
        self.bytes_max = if together {
            self.bytes_max.max(half)
        } else {
            half
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WITHIN: Duration = Duration::from_secs(32);
    const QUICK: Duration = Duration::from_secs(2);
    const SLOW: Duration = Duration::from_millis(2_001);

    /// Goal: a fast link carries the most after four transactions, none of which says more than it had; by full ones
    /// and a small one.
    #[test]
    fn a_fast_link_grows() {
        let mut pace = Pace::default();
        assert!(!pace.is_alone());
        pace.passed(1_000, QUICK, WITHIN);
        assert_eq!(pace.bytes_max(), FIRST_BYTES);
        for _ in 0..4 {
            pace.passed(pace.bytes_max(), QUICK, WITHIN);
        }
        assert_eq!(pace.bytes_max(), BatchLimits::default().bytes_max);
        pace.passed(pace.bytes_max(), QUICK, WITHIN);
        assert_eq!(pace.bytes_max(), BatchLimits::default().bytes_max);
    }

    /// Goal: on a slow link half as much goes out, alone, down to the least; what passes slowly keeps that, and what
    /// passes quickly ends it. By failures and passes.
    #[test]
    fn a_slow_link_shrinks() {
        let mut pace = Pace::default();
        pace.was_too_short(FIRST_BYTES, false);
        assert_eq!((pace.bytes_max(), pace.is_alone()), (FIRST_BYTES / 2, true));
        pace.passed(FIRST_BYTES / 2, SLOW, WITHIN);
        assert_eq!((pace.bytes_max(), pace.is_alone()), (FIRST_BYTES / 2, true));
        for _ in 0..20 {
            pace.was_too_short(pace.bytes_max(), false);
        }
        assert_eq!((pace.bytes_max(), pace.is_alone()), (LEAST_BYTES, true));
        pace.passed(LEAST_BYTES, QUICK, WITHIN);
        assert_eq!(
            (pace.bytes_max(), pace.is_alone()),
            (2 * LEAST_BYTES, false)
        );
    }

    /// Goal: of several that fail together the largest counts, in whichever order they do; by a large one and a small
    /// one, and by the small one alone.
    #[test]
    fn the_largest_of_several_counts() {
        for sizes in [[1_000, FIRST_BYTES], [FIRST_BYTES, 1_000]] {
            let mut pace = Pace::default();
            for (number, bytes) in sizes.into_iter().enumerate() {
                pace.was_too_short(bytes, number > 0);
            }
            assert_eq!(pace.bytes_max(), FIRST_BYTES / 2);
        }
    }
}
