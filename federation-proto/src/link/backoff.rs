//! How long to wait after an answer that puts everything off. Pure: randomness is an argument.

use crate::limits::{NO_PROGRESS_WAIT_MS, RETRY_AFTER_MS_MAX};

/// The wait after the receiver has taken nothing for the time being, `deferrals` times in a row before
/// this one: it doubles from 1 s to 300 s, is never shorter than what the receiver asks for, and is
/// spread by up to a fifth, so that those who were put off together don't come back together.
#[must_use]
pub fn deferral_wait_ms(deferrals: u32, asked_ms: u64, random: u32) -> u64 {
    let most_ms = u64::from(RETRY_AFTER_MS_MAX);
    let doubled_ms = NO_PROGRESS_WAIT_MS
        .saturating_mul(1 << deferrals.min(16))
        .min(most_ms);
    let spread_ms = (doubled_ms / 5).saturating_mul(random.into()) / u64::from(u32::MAX);
    let wait_ms = if doubled_ms < most_ms {
        doubled_ms.saturating_add(spread_ms)
    } else {
        doubled_ms.saturating_sub(spread_ms)
    };
    wait_ms.min(most_ms).max(asked_ms.min(most_ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: waits double from 1 s to 300 s, a longer wish of the receiver counts in full, and nothing
    /// is longer than 300 s; by walking through them without and with spread.
    #[test]
    fn waits_double() {
        let mut waits = Vec::new();
        for deferrals in 0..11 {
            waits.push(deferral_wait_ms(deferrals, 0, 0) / 1000);
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        for random in [0, 1, u32::MAX / 2, u32::MAX] {
            assert_eq!(deferral_wait_ms(0, 7_000, random), 7_000);
            assert_eq!(deferral_wait_ms(0, u64::MAX, random), 300_000);
            assert!((8_000..=9_600).contains(&deferral_wait_ms(3, 0, random)));
            assert!((240_000..=300_000).contains(&deferral_wait_ms(60, 0, random)));
        }
    }
}
