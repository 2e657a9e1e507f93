//! `cargo xtask trial`.

use clap::Args;

use crate::failure::{Failure, Result};

/// What to run.
#[derive(Args)]
pub(crate) struct Options {}

/// Runs it.
pub(crate) fn run(_options: &Options) -> Result {
    Err(Failure::Missing("trial is not in this tree".to_owned()))
}
