//! Latency histograms with explicit bounds.

use hdrhistogram::Histogram;
use serde::Serialize;

/// Lowest value told apart: a microsecond.
const LOWEST_US: u64 = 1;
/// Highest value: a minute. Anything longer is counted as a minute *and* reported as out of bounds.
const HIGHEST_US: u64 = 60_000_000;
/// Significant decimal digits.
const DIGITS: u8 = 3;

/// A histogram of microseconds.
pub(crate) struct Latency {
    histogram: Histogram<u64>,
    out_of_bounds: u64,
}

impl Latency {
    pub(crate) fn new() -> Result<Self, hdrhistogram::CreationError> {
        Ok(Self {
            histogram: Histogram::new_with_bounds(LOWEST_US, HIGHEST_US, DIGITS)?,
            out_of_bounds: 0,
        })
    }

    /// Records one value.
    pub(crate) fn record(&mut self, micros: u64) {
        if micros > HIGHEST_US {
            self.out_of_bounds += 1;
        }
        self.histogram.saturating_record(micros.max(LOWEST_US));
    }

    /// Adds another histogram's values.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.out_of_bounds += other.out_of_bounds;
        // Both have the same bounds, so the only error there is can't occur.
        let _ = self.histogram.add(&other.histogram);
    }

    /// The quantiles that the report shows.
    pub(crate) fn summary(&self) -> LatencySummary {
        let at = |quantile| millis(self.histogram.value_at_quantile(quantile));
        LatencySummary {
            count: self.histogram.len(),
            p50_ms: at(0.50),
            p90_ms: at(0.90),
            p99_ms: at(0.99),
            p999_ms: at(0.999),
            max_ms: millis(self.histogram.max()),
            out_of_bounds: self.out_of_bounds,
        }
    }
}

/// A histogram in a report.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct LatencySummary {
    /// Values recorded.
    pub(crate) count: u64,
    pub(crate) p50_ms: f64,
    pub(crate) p90_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) p999_ms: f64,
    pub(crate) max_ms: f64,
    /// Values longer than the histogram's upper bound of a minute.
    pub(crate) out_of_bounds: u64,
}

/// Microseconds as milliseconds.
pub(crate) fn millis(micros: u64) -> f64 {
    float(micros) / 1_000.0
}

/// A count as a floating-point number.
#[expect(
    clippy::as_conversions,
    reason = "counts and microseconds of a run stay far below 2^53, where the conversion is exact"
)]
pub(crate) const fn float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: quantiles come out within the histogram's precision, and merging equals recording in
    /// one; by a known distribution split over two histograms.
    #[test]
    fn quantiles_of_a_known_distribution() {
        let mut all = Latency::new().unwrap();
        let mut half = Latency::new().unwrap();
        for micros in 1..=10_000 {
            if micros % 2 == 0 { &mut all } else { &mut half }.record(micros);
        }
        all.merge(&half);
        let summary = all.summary();
        assert_eq!(summary.count, 10_000);
        assert!((summary.p50_ms - 5.0).abs() < 0.01, "{summary:?}");
        assert!((summary.p99_ms - 9.9).abs() < 0.01, "{summary:?}");
        assert_eq!(summary.out_of_bounds, 0);
    }

    /// Goal: a value beyond the bounds is neither lost nor silent; by recording one.
    #[test]
    fn beyond_the_bounds() {
        let mut latency = Latency::new().unwrap();
        latency.record(HIGHEST_US + 1);
        let summary = latency.summary();
        assert_eq!((summary.count, summary.out_of_bounds), (1, 1));
        assert!(summary.max_ms >= millis(HIGHEST_US));
    }
}
