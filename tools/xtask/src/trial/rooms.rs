//! The trial `rooms`: that no server can bend a room.
//!
//! A crowd in one room through a partition, and a user of a hundred rooms who is deleted, with real homeservers and clients; then the tests of everything that an evil server may do, and
//! of the vectors of RFC 9420.

mod crowd;
mod deprovisioning;
mod suites;

use clap::ValueEnum;

use super::checks::{Check, Report};
use super::ground::Ground;
use crate::failure::Result;
use crate::process;
use crate::workspace::Workspace;

/// A check of this trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Wanted {
    /// Hundreds of devices of three organisations in one room, one of them cut off for a while.
    Crowd,
    /// A user with devices in a hundred rooms is deleted.
    Deprovisioning,
    /// Everything that an evil server may do to its own people.
    EvilServer,
    /// The vectors of RFC 9420 that touch our code.
    Rfc9420,
}

impl Wanted {
    const fn words(self) -> &'static str {
        match self {
            Self::Crowd => "a crowd in one room",
            Self::Deprovisioning => "a user of a hundred rooms is deleted",
            Self::EvilServer => "an evil server",
            Self::Rfc9420 => "the vectors of RFC 9420",
        }
    }

    fn check(self, ground: &Ground<'_>, devices: usize) -> Result<Check> {
        match self {
            Self::Crowd => crowd::check(ground, devices),
            Self::Deprovisioning => deprovisioning::check(ground),
            Self::EvilServer => suites::evil_server(ground),
            Self::Rfc9420 => suites::rfc9420(ground),
        }
    }
}

/// Runs the wanted checks, or all, with so many devices in the crowd.
pub(super) fn run(workspace: &Workspace, only: &[Wanted], devices: usize) -> Result<Report> {
    Ground::lay_without_faults(workspace, "r", |ground, report| {
        for wanted in Wanted::value_variants() {
            if only.is_empty() || only.contains(wanted) {
                let check = process::step(wanted.words(), || wanted.check(ground, devices))?;
                report.checks.push(check);
            }
        }
        Ok(())
    })
}
