//! Logs, metrics and health.
//!
//! Deliberately absent: bodies, contents, tokens and keys, in logs as in metrics.

mod logging;
mod stopwatch;

pub use logging::start_logging;
pub use stopwatch::Stopwatch;
