//! The compose file at work: both organisations founded, started, and made peers by name.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::IMAGE;
use super::podman::Podman;
use crate::failure::{self, Failure, Result};
use crate::process::Run as _;
use crate::workspace::{self, Workspace};

/// How long both may take to be healthy and peers.
const READY_MAX: Duration = Duration::from_secs(60);
/// Default limits: podman's own exceed what a confined machine grants.
const CONTAINERS_CONF: &str =
    "[containers]\ndefault_ulimits = [\"nofile=8192:8192\", \"nproc=4096:4096\"]\n";

/// A project folder with the compose file, its secrets, and a podman that it may call.
struct Project {
    folder: PathBuf,
    podman: PathBuf,
}

/// Founds, starts and peers both organisations, holds the example configuration to what they have, then takes everything
/// down again.
pub(super) fn tried(workspace: &Workspace, podman: &Podman, folder: &Path) -> Result {
    let project = Project::lay_out(workspace, podman, folder)?;
    // An interrupted trial leaves founded volumes behind, and nothing is founded twice.
    project.compose(&["down", "--volumes"]).shown()?;
    let outcome = project.ceremony().and_then(|()| example(workspace, podman));
    let taken_down = project.compose(&["down", "--volumes"]).shown();
    outcome.and(taken_down)
}

/// The example configuration is right, by the homeserver's own judgement, for an organisation that was founded.
fn example(workspace: &Workspace, podman: &Podman) -> Result {
    let example = workspace.root.join("docker/entente.toml");
    let example = format!("{}:/etc/entente/entente.toml:ro", example.display());
    podman
        .run_confined()
        .args(["--network=none", "--volume", &example])
        .args(["--volume", "entente-trial_a-data:/var/lib/entente", IMAGE])
        .args(["config", "check", "--config", "/etc/entente/entente.toml"])
        .shown()
}

impl Project {
    fn lay_out(workspace: &Workspace, podman: &Podman, parent: &Path) -> Result<Self> {
        let folder = workspace::folder(&parent.join("compose/docker"))?;
        let write = |name: &str, text: &str, mode: u32| -> Result<PathBuf> {
            let path = folder.join(name);
            if let Some(parent) = path.parent() {
                workspace::folder(parent)?;
            }
            fs::write(&path, text).map_err(failure::at(&path))?;
            fs::set_permissions(&path, fs::Permissions::from_mode(mode))
                .map_err(failure::at(&path))?;
            Ok(path)
        };
        // The Dockerfile is only looked at, for the image is there.
        for name in ["compose.yaml", "Dockerfile"] {
            let shipped = workspace.root.join("docker").join(name);
            let text = fs::read_to_string(&shipped).map_err(failure::at(&shipped))?;
            write(name, &text, 0o644)?;
        }
        write("containers.conf", CONTAINERS_CONF, 0o644)?;
        for organisation in ["a", "b"] {
            for secret in ["admin-password", "root-passphrase"] {
                write(
                    &format!("secrets/{organisation}/{secret}"),
                    "a secret for this trial alone\n",
                    0o644,
                )?;
            }
        }
        let script = format!("#!/bin/sh\nexec {} \"$@\"\n", podman.words());
        let podman = write("podman", &script, 0o755)?;
        Ok(Self { folder, podman })
    }

    fn ceremony(&self) -> Result {
        for organisation in ["a", "b"] {
            self.compose(&[
                "run",
                "--no-deps",
                "--rm",
                "-T",
                &format!("{organisation}-init"),
            ])
            .shown()?;
        }
        self.compose(&["up", "--detach", "--no-build", "a", "b"])
            .shown()?;
        for organisation in ["a", "b"] {
            self.until(&format!("{organisation} answers"), || {
                self.hsctl(organisation, &["status"], "").is_ok()
            })?;
        }
        let offer = self.hsctl("a", &["peer", "offer", "b.example"], "")?;
        let fingerprint = |organisation: &str| -> Result<String> {
            let status: serde_json::Value =
                serde_json::from_str(&self.hsctl(organisation, &["--json", "status"], "")?)
                    .unwrap_or_default();
            Ok(status
                .get("root_sha256")
                .and_then(serde_json::Value::as_str)
                .unwrap_or_default()
                .to_owned())
        };
        let of_a = fingerprint("a")?;
        let acceptance = self.hsctl(
            "b",
            &["peer", "accept", "-", "--fingerprint", &of_a],
            &offer,
        )?;
        let of_b = fingerprint("b")?;
        self.hsctl(
            "a",
            &["peer", "countersign", "-", "--fingerprint", &of_b],
            &acceptance,
        )?;
        // The countersignature travels over the network between the containers, to a name.
        self.until("the agreement is active at b", || {
            self.hsctl("b", &["--json", "peer", "show", "a.example"], "")
                .is_ok_and(|shown| shown.contains("\"active\""))
        })
    }

    fn compose(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("podman-compose");
        command
            .current_dir(&self.folder)
            .env("CONTAINERS_CONF", self.folder.join("containers.conf"))
            .arg("--podman-path")
            .arg(&self.podman)
            .args(["--project-name", "entente-trial", "--file", "compose.yaml"])
            .args(arguments);
        command
    }

    /// Runs `hsctl` in an organisation's container with this on its standard input.
    fn hsctl(&self, organisation: &str, arguments: &[&str], input: &str) -> Result<String> {
        let file = self.folder.join("input");
        fs::write(&file, input).map_err(failure::at(&file))?;
        let output = Command::new(&self.podman)
            .args([
                "exec",
                "--interactive",
                &format!("entente-trial_{organisation}_1"),
                "/bin/hsctl",
            ])
            .args(arguments)
            .stdin(Stdio::from(
                fs::File::open(&file).map_err(failure::at(&file))?,
            ))
            .output()
            .map_err(|source| Failure::Start {
                program: "podman".to_owned(),
                source,
            })?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(Failure::DidNotHold(format!(
            "hsctl {} at {organisation}: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        )))
    }

    fn until(&self, what: &str, mut so: impl FnMut() -> bool) -> Result {
        let deadline = Instant::now() + READY_MAX;
        while !so() {
            if Instant::now() > deadline {
                let _ = self.compose(&["logs"]).shown();
                return Err(Failure::DidNotHold(format!(
                    "not within {READY_MAX:?}: {what}"
                )));
            }
            thread::sleep(Duration::from_millis(250));
        }
        Ok(())
    }
}
