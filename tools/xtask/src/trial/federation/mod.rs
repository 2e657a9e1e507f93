//! The trial `federation`: what a hostile or broken peer, or a broken network, does to the others: nothing.
//!
//! Homeservers and clients are real. The hostile peer is that of the conformance suite, which shares no code with
//! them.

mod bad_peer;
mod flooding;
mod hostile;
mod partition;
mod revoked;
mod rotations;

use clap::ValueEnum;

use super::checks::{Check, Report};
use super::ground::Ground;
use crate::failure::Result;
use crate::process;
use crate::workspace::Workspace;

/// A check of this trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Wanted {
    /// A peer is revoked that sends 500 messages a second, or says nothing.
    Revoked,
    /// Ten thousand captured envelopes are sent again.
    Replay,
    /// One bad envelope among ten thousand.
    Poison,
    /// The network is cut for half a minute at 200 messages a second.
    Partition,
    /// One bad peer of ten.
    BadPeer,
    /// A peer that floods.
    Flooding,
    /// Twenty rotations of keys.
    Rotations,
}

impl Wanted {
    const fn words(self) -> &'static str {
        match self {
            Self::Revoked => "a peer is revoked while it sends",
            Self::Replay => "everything is sent again",
            Self::Poison => "one bad envelope among many",
            Self::Partition => "a long partition",
            Self::BadPeer => "one bad peer of ten",
            Self::Flooding => "a peer floods",
            Self::Rotations => "keys change under traffic",
        }
    }

    fn check(self, ground: &Ground<'_>) -> Result<Check> {
        match self {
            Self::Revoked => revoked::check(ground),
            Self::Replay => hostile::replay(ground),
            Self::Poison => hostile::poison(ground),
            Self::Partition => partition::check(ground),
            Self::BadPeer => bad_peer::check(ground),
            Self::Flooding => flooding::check(ground),
            Self::Rotations => rotations::check(ground),
        }
    }
}

/// Runs the wanted checks, or all; `network_can_be_cut` says why not, where that can't be tried.
pub(super) fn run(
    workspace: &Workspace,
    network_can_be_cut: std::result::Result<(), String>,
    only: &[Wanted],
) -> Result<Report> {
    Ground::lay(workspace, "f", |ground, report| {
        for wanted in Wanted::value_variants() {
            if !only.is_empty() && !only.contains(wanted) {
                continue;
            }
            let check = match (wanted, &network_can_be_cut) {
                (Wanted::Partition, Err(reason)) => {
                    Check::skipped(partition::ID, partition::must(), reason)
                }
                _ => process::step(wanted.words(), || wanted.check(ground))?,
            };
            report.checks.push(check);
        }
        Ok(())
    })
}
