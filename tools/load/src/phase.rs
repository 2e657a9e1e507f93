//! What the command line asks for: phases, each with its kind and its length.

use std::str::FromStr;
use std::time::Duration;

/// A rate of an open loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rate {
    /// Messages a second, all pairs together.
    PerSecond(u64),
    /// Percent of the highest throughput that this run's closed loops reached.
    Percent(u64),
}

/// `VALUE` or `VALUE@SECONDS`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Timed<T> {
    pub(crate) value: T,
    /// Measured seconds; absent: the run's default.
    pub(crate) seconds: Option<u64>,
}

impl<T> Timed<T> {
    /// How long to measure.
    pub(crate) fn measured(&self, default_seconds: u64) -> Duration {
        Duration::from_secs(self.seconds.unwrap_or(default_seconds))
    }
}

impl FromStr for Rate {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (number, percent) = match text.strip_suffix('%') {
            Some(number) => (number, true),
            None => (text, false),
        };
        match number.parse().map_err(|_| ())? {
            0 => Err(()),
            number if percent => Ok(Self::Percent(number)),
            number => Ok(Self::PerSecond(number)),
        }
    }
}

/// Reads a window.
pub(crate) fn parse_window(text: &str) -> Result<Timed<u64>, String> {
    timed(text).filter(|timed| timed.value > 0).ok_or_else(|| {
        format!("`{text}` is not a window: use messages in flight per pair, such as 16 or 16@30 for 30 s")
    })
}

/// Reads a rate.
pub(crate) fn parse_rate(text: &str) -> Result<Timed<Rate>, String> {
    timed(text).ok_or_else(|| {
        format!(
            "`{text}` is not a rate: use messages a second, or percent of the closed loops' \
             throughput, such as 100, 50% or 50%@60 for 60 s"
        )
    })
}

fn timed<T: FromStr>(text: &str) -> Option<Timed<T>> {
    let (value, seconds) = match text.split_once('@') {
        Some((value, seconds)) => (value, Some(seconds.parse().ok().filter(|s| *s > 0)?)),
        None => (text, None),
    };
    Some(Timed {
        value: value.parse().ok()?,
        seconds,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: every documented form is read, everything else is an error; by a table of both.
    #[test]
    fn forms() {
        let rate = |text| parse_rate(text).map(|timed| (timed.value, timed.seconds));
        assert_eq!(rate("100"), Ok((Rate::PerSecond(100), None)));
        assert_eq!(rate("50%@60"), Ok((Rate::Percent(50), Some(60))));
        for bad in ["", "0", "0%", "x", "1@", "1@0", "1@x", "-1", "1.5"] {
            assert!(rate(bad).is_err(), "{bad}");
        }
        assert_eq!(
            parse_window("16@30").unwrap().measured(5),
            Duration::from_secs(30)
        );
        assert_eq!(
            parse_window("16").unwrap().measured(5),
            Duration::from_secs(5)
        );
        assert!(parse_window("0").is_err());
    }
}
