//! What can be done to one direction of a connection.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Longest delay.
const DELAY_MS_MAX: u64 = 600_000;

/// A fault. A number of bytes is counted from the moment when the fault is set, or from the connection's begin if
/// that is later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fault {
    /// Everything passes as it comes.
    #[default]
    Pass,
    /// Everything arrives this much later, in order and as fast.
    Delay(Duration),
    /// So many bytes pass in a second, on each connection, in order: a narrow line, which reads no faster than it
    /// writes.
    Rate(u64),
    /// Nothing is read any more: the sender's buffers fill up, and nobody is told anything.
    Stall,
    /// So many bytes pass, then the connection ends in both directions.
    Truncate(u64),
    /// Of each piece that is read the second half goes first.
    Reorder,
    /// Each piece that is read goes twice.
    Duplicate,
    /// So many bytes pass, then this direction says that it has ended; the other goes on.
    HalfClose(u64),
    /// So many bytes pass, then every byte is replaced by noise.
    Garbage(u64),
}

/// A fault that nobody knows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no fault: say pass, delay MILLISECONDS (at most {DELAY_MS_MAX}), rate BYTES-PER-SECOND (at least 1), stall, truncate BYTES, reorder, duplicate, \
     half-close BYTES or garbage BYTES"
)]
pub struct FaultError(String);

impl FromStr for Fault {
    type Err = FaultError;

    fn from_str(text: &str) -> Result<Self, FaultError> {
        let unknown = || FaultError(text.to_owned());
        let mut words = text.split_whitespace();
        let name = words.next().ok_or_else(unknown)?;
        let number = words.next().map(str::parse::<u64>).transpose();
        let number = number.map_err(|_| unknown())?;
        if words.next().is_some() {
            return Err(unknown());
        }
        match (name, number) {
            ("pass", None) => Ok(Self::Pass),
            ("delay", Some(ms)) if ms <= DELAY_MS_MAX => Ok(Self::Delay(Duration::from_millis(ms))),
            ("rate", Some(bytes)) if bytes > 0 => Ok(Self::Rate(bytes)),
            ("stall", None) => Ok(Self::Stall),
            ("truncate", Some(bytes)) => Ok(Self::Truncate(bytes)),
            ("reorder", None) => Ok(Self::Reorder),
            ("duplicate", None) => Ok(Self::Duplicate),
            ("half-close", Some(bytes)) => Ok(Self::HalfClose(bytes)),
            ("garbage", Some(bytes)) => Ok(Self::Garbage(bytes)),
            _ => Err(unknown()),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pass => f.write_str("pass"),
            Self::Delay(delay) => write!(f, "delay {}", delay.as_millis()),
            Self::Rate(bytes) => write!(f, "rate {bytes}"),
            Self::Stall => f.write_str("stall"),
            Self::Truncate(bytes) => write!(f, "truncate {bytes}"),
            Self::Reorder => f.write_str("reorder"),
            Self::Duplicate => f.write_str("duplicate"),
            Self::HalfClose(bytes) => write!(f, "half-close {bytes}"),
            Self::Garbage(bytes) => write!(f, "garbage {bytes}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Goal: every fault is read as it is written, and nothing else is. Method: each one, and near misses.
    #[test]
    fn faults_are_read_as_they_are_written() {
        let faults = [
            Fault::Pass,
            Fault::Delay(Duration::from_millis(200)),
            Fault::Rate(1),
            Fault::Stall,
            Fault::Truncate(0),
            Fault::Reorder,
            Fault::Duplicate,
            Fault::HalfClose(7),
            Fault::Garbage(u64::MAX),
        ];
        for fault in faults {
            assert_eq!(fault.to_string().parse(), Ok(fault));
        }
        for wrong in [
            "",
            "Pass",
            "pass 1",
            "delay",
            "delay -1",
            "delay 600001",
            "rate",
            "rate 0",
            "stall 1",
            "truncate x",
            "garbage 1 2",
            "garbage 18446744073709551616",
        ] {
            assert!(wrong.parse::<Fault>().is_err(), "{wrong}");
        }
    }

    proptest! {
        /// Goal: any text is a fault, which is written and read back as the same, or none. Method: words that faults have
        /// and any others.
        #[test]
        fn any_text(text in "(pass|delay|rate|stall|truncate|reorder|duplicate|half-close|garbage|.{0,9})( [0-9]{0,21}){0,2}") {
            if let Ok(fault) = text.parse::<Fault>() {
                prop_assert_eq!(fault.to_string().parse(), Ok(fault));
            }
        }
    }
}
