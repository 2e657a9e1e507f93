//! `cargo xtask containers`.

use clap::Args;

use crate::failure::{Failure, Result};

/// What to run.
#[derive(Args)]
pub(crate) struct Options {}

/// Runs it.
pub(crate) fn run(_options: &Options) -> Result {
    Err(Failure::Missing(
        "containers is not in this tree".to_owned(),
    ))
}
