//! Logs, metrics and health.
//!
//! Deliberately absent: bodies, contents, tokens and keys, in logs as in metrics.

mod stopwatch;

pub use stopwatch::Stopwatch;
