//! `cargo xtask bench`: measures the homeserver under load.

use crate::failure::{Failure, Result};

/// Runs the measurement.
pub(crate) fn run(_arguments: &[String]) -> Result {
    Err(Failure::Missing(
        "the load generator is not in this tree".to_owned(),
    ))
}
