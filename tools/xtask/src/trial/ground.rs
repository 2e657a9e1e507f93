//! What every trial stands on: the binaries, a folder for all it makes, and the report.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::checks::Report;
use super::namespaces::Hosts;
use super::stage::{Setting, Stage};
use crate::failure::{self, Result};
use crate::workspace::{self, Workspace};

/// Binaries and a folder.
pub(super) struct Ground<'a> {
    workspace: &'a Workspace,
    /// The folder with the binaries.
    pub(super) binaries: PathBuf,
    with_faults: PathBuf,
    /// For everything that the trial makes.
    pub(super) folder: PathBuf,
}

impl Ground<'_> {
    /// Builds what trials need and runs one; what it made is kept when something did not hold. (A short prefix: the
    /// path of a Unix socket has at most 107 bytes.)
    pub(super) fn lay(
        workspace: &Workspace,
        prefix: &str,
        checks: impl FnOnce(&Ground<'_>, &mut Report) -> Result,
    ) -> Result<Report> {
        let with_faults = workspace.build_with_faults()?;
        Self::on(workspace, with_faults, prefix, checks)
    }

    /// As [`Ground::lay`], for a trial that switches nothing off.
    pub(super) fn lay_without_faults(
        workspace: &Workspace,
        prefix: &str,
        checks: impl FnOnce(&Ground<'_>, &mut Report) -> Result,
    ) -> Result<Report> {
        let homeserver = workspace.binaries().join("homeserver");
        Self::on(workspace, homeserver, prefix, checks)
    }

    fn on(
        workspace: &Workspace,
        with_faults: PathBuf,
        prefix: &str,
        checks: impl FnOnce(&Ground<'_>, &mut Report) -> Result,
    ) -> Result<Report> {
        let parent = workspace::folder(&workspace.target.join("trial"))?;
        let folder = tempfile::Builder::new()
            .prefix(prefix)
            .tempdir_in(&parent)
            .map_err(failure::at(&parent))?;
        let ground = Ground {
            workspace,
            binaries: workspace.binaries(),
            with_faults,
            folder: folder.path().to_path_buf(),
        };
        let mut report = Report::default();
        let outcome = checks(&ground, &mut report);
        if outcome.is_err() || report.counts().1 > 0 {
            // Whoever looks for the cause finds everything as it was.
            eprintln!("logs and stores are kept in {}", folder.keep().display());
        }
        if outcome.is_err() {
            // What was found before it could not go on is worth knowing too.
            eprint!("{}", report.text());
        }
        outcome.map(|()| report)
    }

    /// The homeserver's binary: the one with protections that can be switched off where one is to be.
    pub(super) fn homeserver(&self, fault: Option<&'static str>) -> PathBuf {
        match fault {
            Some(_) => self.with_faults.clone(),
            None => self.workspace.binaries().join("homeserver"),
        }
    }

    /// The workspace's root folder.
    pub(super) fn root(&self) -> &Path {
        &self.workspace.root
    }

    /// A cargo command in it.
    pub(super) fn cargo<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Command {
        self.workspace.cargo(arguments)
    }

    /// A folder of this name.
    pub(super) fn folder(&self, name: &str) -> Result<PathBuf> {
        workspace::folder(&self.folder.join(name))
    }

    /// Two homeservers that are peers.
    pub(super) fn stage(
        &self,
        name: &str,
        fault: Option<&'static str>,
        hosts: Option<&Hosts>,
    ) -> Result<Stage> {
        Stage::set(&Setting {
            binaries: &self.binaries,
            homeserver: &self.homeserver(fault),
            fault,
            hosts,
            folder: self.folder(name)?,
        })
    }
}
