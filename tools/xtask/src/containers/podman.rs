//! Podman with its images and containers in a folder of ours, in the way that works without systemd,
//! overlay file systems or a bridge.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::failure::Result;
use crate::process::Run as _;

/// Limits of a container; podman's own defaults exceed what a confined machine grants.
pub(super) const LIMITS: [&str; 4] = [
    "--ulimit",
    "nofile=8192:8192",
    "--ulimit",
    "nproc=4096:4096",
];

/// Podman over one folder.
pub(super) struct Podman {
    store: PathBuf,
    run: PathBuf,
}

impl Podman {
    /// Podman whose store lies in this folder.
    pub(super) fn in_folder(folder: &Path) -> Self {
        Self {
            store: folder.join("store"),
            run: folder.join("run"),
        }
    }

    /// A podman command.
    pub(super) fn command(&self) -> Command {
        let mut command = Command::new("podman");
        command.args(self.arguments());
        command
    }

    /// A container that may do nothing: read-only, no privilege, gone when it ends.
    pub(super) fn run_confined(&self) -> Command {
        let mut command = self.command();
        command
            .args([
                "run",
                "--rm",
                "--read-only",
                "--cap-drop=all",
                "--security-opt=no-new-privileges",
            ])
            .args(LIMITS);
        command
    }

    /// The same command as words for a shell; none of them has a space, for target folders with spaces
    /// break more than this.
    pub(super) fn words(&self) -> String {
        format!("podman {}", self.arguments().join(" "))
    }

    /// Whether there is such an image.
    pub(super) fn has_image(&self, name: &str) -> bool {
        self.command().args(["image", "exists", name]).succeeds()
    }

    /// One fact about an image.
    pub(super) fn inspect(&self, image: &str, format: &str) -> Result<String> {
        let printed = self
            .command()
            .args(["image", "inspect", "--format", format, image])
            .captured()?;
        Ok(printed.trim().to_owned())
    }

    fn arguments(&self) -> Vec<String> {
        vec![
            "--root".to_owned(),
            self.store.display().to_string(),
            "--runroot".to_owned(),
            self.run.display().to_string(),
            "--storage-driver=vfs".to_owned(),
            "--cgroup-manager=cgroupfs".to_owned(),
            "--runtime=runc".to_owned(),
        ]
    }
}
