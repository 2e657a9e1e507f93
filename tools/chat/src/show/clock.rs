//! The wall clock, in the reader's time zone.

use time::macros::format_description;
use time::{Date, OffsetDateTime, UtcOffset};

/// The clock and the time zone as they were when the program started.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LocalClock {
    offset: UtcOffset,
}

impl LocalClock {
    /// Reads the time zone; must be called while there is one thread. Where it can't be read, times
    /// are UTC.
    pub(crate) fn new() -> Self {
        Self {
            offset: UtcOffset::current_local_offset().unwrap_or(UtcOffset::UTC),
        }
    }

    #[cfg(test)]
    pub(crate) const fn utc() -> Self {
        Self {
            offset: UtcOffset::UTC,
        }
    }

    /// Milliseconds since the Unix epoch.
    #[expect(
        clippy::disallowed_methods,
        reason = "how long a message still lives is shown by the reader's clock"
    )]
    pub(crate) fn now_ms(&self) -> u64 {
        let now = OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000_000;
        u64::try_from(now).unwrap_or(0)
    }

    /// The day, in the reader's time zone.
    pub(crate) fn day(&self, at_ms: u64) -> Option<Date> {
        self.local(at_ms).map(OffsetDateTime::date)
    }

    /// Hours and minutes.
    pub(crate) fn time_of_day(&self, at_ms: u64) -> String {
        let format = format_description!("[hour]:[minute]");
        self.local(at_ms)
            .and_then(|at| at.format(format).ok())
            .unwrap_or_else(|| "--:--".to_owned())
    }

    /// Day and time.
    pub(crate) fn date_and_time(&self, at_ms: u64) -> String {
        let format =
            format_description!("[day padding:none] [month repr:short] [year] [hour]:[minute]");
        self.local(at_ms)
            .and_then(|at| at.format(format).ok())
            .unwrap_or_else(|| "at an unknown time".to_owned())
    }

    fn local(&self, at_ms: u64) -> Option<OffsetDateTime> {
        let nanos = i128::from(at_ms) * 1_000_000;
        let utc = OffsetDateTime::from_unix_timestamp_nanos(nanos).ok()?;
        utc.checked_to_offset(self.offset)
    }
}

/// A day as a heading.
pub(crate) fn heading(day: Date) -> String {
    let format = format_description!("[weekday], [day padding:none] [month repr:long] [year]");
    day.format(format).unwrap_or_else(|_| day.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: times and days come out as people write them, and no number makes them panic; by a
    /// known moment and by the largest one.
    #[test]
    fn known_moment() {
        let clock = LocalClock::utc();
        let at_ms = 1_795_516_200_000; // 2026-11-24 10:30:00 UTC.
        assert_eq!(clock.time_of_day(at_ms), "10:30");
        assert_eq!(
            heading(clock.day(at_ms).unwrap()),
            "Tuesday, 24 November 2026"
        );
        assert_eq!(clock.date_and_time(at_ms), "24 Nov 2026 10:30");
        assert_eq!(clock.time_of_day(u64::MAX), "--:--");
    }
}
