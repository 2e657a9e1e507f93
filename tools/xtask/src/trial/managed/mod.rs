//! The trial `managed`: what an organisation's administrators and auditors rely on.

mod audit;
mod matrices;

use clap::ValueEnum;

use super::checks::{Check, Report};
use super::ground::Ground;
use crate::failure::Result;
use crate::process;
use crate::workspace::Workspace;

/// A check of this trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Wanted {
    /// An audit log is tampered with a thousand times.
    AuditTampering,
    /// How long an audit log of a million entries takes to verify.
    AuditSpeed,
    /// Every decision in ten thousand organisations made by chance is held to a model.
    PolicyMatrices,
}

impl Wanted {
    const fn words(self) -> &'static str {
        match self {
            Self::AuditTampering => "an audit log is tampered with",
            Self::AuditSpeed => "an audit log of a million entries is verified",
            Self::PolicyMatrices => "policy is held to its model",
        }
    }

    fn check(self, ground: &Ground<'_>) -> Result<Check> {
        match self {
            Self::AuditTampering => audit::tampering(ground),
            Self::AuditSpeed => audit::speed(ground),
            Self::PolicyMatrices => matrices::check(ground),
        }
    }
}

/// Runs the wanted checks, or all.
pub(super) fn run(workspace: &Workspace, only: &[Wanted]) -> Result<Report> {
    Ground::lay_without_faults(workspace, "m", |ground, report| {
        for wanted in Wanted::value_variants() {
            if only.is_empty() || only.contains(wanted) {
                let check = process::step(wanted.words(), || wanted.check(ground))?;
                report.checks.push(check);
            }
        }
        Ok(())
    })
}
