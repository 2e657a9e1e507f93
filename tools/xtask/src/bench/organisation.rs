//! One organisation of a measurement: a homeserver process, administered with `hsctl`.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::failure::{self, Failure, Result};
use crate::ports::free_address;
use crate::process::Run as _;

/// How long a homeserver may take to listen.
const START_MAX: Duration = Duration::from_secs(30);
/// How long two homeservers may take to agree.
const AGREE_MAX: Duration = Duration::from_secs(30);
/// Between looks.
const LOOK: Duration = Duration::from_millis(50);
/// The administrator's and every account's password: the run is alone on loopback.
const PASSWORD: &str = "measured-on-loopback-only";

/// A running homeserver; killed when dropped.
pub(super) struct Organisation {
    name: &'static str,
    folder: PathBuf,
    hsctl: PathBuf,
    socket: PathBuf,
    password_file: PathBuf,
    /// Where its clients reach it.
    pub(super) client: SocketAddr,
    process: Child,
}

impl Organisation {
    /// Founds the organisation in `folder` and starts its homeserver, with a commit log before its store's index or without one.
    pub(super) fn start(
        name: &'static str,
        binaries: &Path,
        folder: &Path,
        commit_log: bool,
    ) -> Result<Self> {
        fs::create_dir_all(folder).map_err(failure::at(folder))?;
        let password_file = folder.join("password");
        fs::write(&password_file, PASSWORD).map_err(failure::at(&password_file))?;
        let (client, federation) = (free_address()?, free_address()?);
        let config = folder.join("entente.toml");
        let socket = folder.join("admin.sock");
        let homeserver = binaries.join("homeserver");
        Command::new(&homeserver)
            .args(["init", "--server-name", name])
            .arg("--config")
            .arg(&config)
            .arg("--data-dir")
            .arg(folder.join("data"))
            .args(["--listen-client", &client.to_string()])
            .args(["--listen-federation", &federation.to_string()])
            .args(["--federation-endpoint", &federation.to_string()])
            .arg("--admin-socket")
            .arg(&socket)
            .args(["--admin-name", "admin"])
            .arg("--admin-password-file")
            .arg(&password_file)
            .arg("--root-key")
            .arg(folder.join("root-key.enc"))
            .arg("--root-passphrase-file")
            .arg(&password_file)
            .captured()?;
        if !commit_log {
            leave_out_commit_log(&config)?;
        }
        let log = folder.join("log");
        let output = File::create(&log).map_err(failure::at(&log))?;
        let errors = output.try_clone().map_err(failure::at(&log))?;
        let process = Command::new(&homeserver)
            .arg("run")
            .arg("--config")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .spawn()
            .map_err(|source| Failure::Start {
                program: homeserver.display().to_string(),
                source,
            })?;
        let mut started = Self {
            name,
            folder: folder.to_path_buf(),
            hsctl: binaries.join("hsctl"),
            socket,
            password_file,
            client,
            process,
        };
        started.wait_listening()?;
        Ok(started)
    }

    /// Its process.
    pub(super) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Resident memory now, KiB.
    pub(super) fn resident_kib(&self) -> Result<u64> {
        let path = format!("/proc/{}/status", self.pid());
        let status = fs::read_to_string(&path).map_err(failure::at(&path))?;
        status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .and_then(|rest| rest.split_ascii_whitespace().next())
            .and_then(|kib| kib.parse().ok())
            .ok_or_else(|| Failure::Unexpected {
                program: path.clone(),
                what: "no VmRSS".to_owned(),
            })
    }

    /// Administers it; what hsctl prints.
    pub(super) fn hsctl(&self, arguments: &[&str]) -> Result<Value> {
        let printed = Command::new(&self.hsctl)
            .arg("--json")
            .arg("--socket")
            .arg(&self.socket)
            .args(arguments)
            .captured()?;
        let last = printed.lines().last().unwrap_or("null");
        serde_json::from_str(last)
            .or_else(|_| serde_json::from_str(&printed))
            .map_err(|error| Failure::Unexpected {
                program: format!("hsctl {}", arguments.join(" ")),
                what: error.to_string(),
            })
    }

    /// Makes accounts for one run; addresses and passwords, as the load generator's inventory has them.
    pub(super) fn accounts(&self, run: &str, count: usize) -> Result<Vec<Value>> {
        let password_file = self.password_file.display().to_string();
        (0..count)
            .map(|number| {
                let handle = format!("{run}-{number}");
                self.hsctl(&["user", "create", &handle, "--password-file", &password_file])?;
                Ok(json!({
                    "address": format!("{handle}@{}", self.name),
                    "password": PASSWORD,
                }))
            })
            .collect()
    }

    /// SHA-256 of the organisation's root certificate.
    pub(super) fn root_sha256(&self) -> Result<String> {
        let status = self.hsctl(&["status"])?;
        super::at(&status, "/root_sha256")
            .as_str()
            .map(str::to_owned)
            .ok_or_else(|| Failure::Unexpected {
                program: "hsctl status".to_owned(),
                what: status.to_string(),
            })
    }

    fn wait_listening(&mut self) -> Result {
        let started = Instant::now();
        while started.elapsed() < START_MAX {
            if TcpStream::connect(self.client).is_ok() && self.socket.exists() {
                return Ok(());
            }
            if let Ok(Some(status)) = self.process.try_wait() {
                return Err(self.not_up(&format!("ended with {status}")));
            }
            thread::sleep(LOOK);
        }
        Err(self.not_up("does not listen"))
    }

    fn not_up(&self, what: &str) -> Failure {
        let log = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
        let tail: Vec<&str> = log.lines().rev().take(5).collect();
        let tail: Vec<&str> = tail.into_iter().rev().collect();
        Failure::DidNotHold(format!(
            "the homeserver of {} {what}:\n{}",
            self.name,
            tail.join("\n")
        ))
    }
}

impl Drop for Organisation {
    fn drop(&mut self) {
        // It may have ended by itself; either way there is nothing left to do.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A configuration that `homeserver init` has written says nothing of the store: its defaults hold.
fn leave_out_commit_log(config: &Path) -> Result {
    let mut text = fs::read_to_string(config).map_err(failure::at(config))?;
    text.push_str("\n[store]\ncommit_log = false\n");
    fs::write(config, text).map_err(failure::at(config))
}

/// Lets two organisations make an agreement, and waits until both homeservers call it active.
pub(super) fn peer(a: &Organisation, b: &Organisation, folder: &Path) -> Result {
    let offer = folder.join("offer.txt");
    let acceptance = folder.join("acceptance.txt");
    let countersignature = folder.join("countersignature.txt");
    let text = |path: &Path| path.display().to_string();
    a.hsctl(&["peer", "offer", b.name, "--out", &text(&offer)])?;
    let of_a = fingerprint(b, &offer)?;
    b.hsctl(&[
        "peer",
        "accept",
        &text(&offer),
        "--fingerprint",
        &of_a,
        "--out",
        &text(&acceptance),
    ])?;
    let of_b = fingerprint(a, &acceptance)?;
    a.hsctl(&[
        "peer",
        "countersign",
        &text(&acceptance),
        "--fingerprint",
        &of_b,
        "--out",
        &text(&countersignature),
    ])?;
    let started = Instant::now();
    while started.elapsed() < AGREE_MAX {
        let active = |one: &Organisation, other: &Organisation| {
            one.hsctl(&["peer", "show", other.name])
                .map(|peer| *super::at(&peer, "/state") == "active")
        };
        if active(a, b)? && active(b, a)? {
            return Ok(());
        }
        thread::sleep(LOOK);
    }
    Err(Failure::DidNotHold(format!(
        "{} and {} did not come to an agreement within {} s",
        a.name,
        b.name,
        AGREE_MAX.as_secs()
    )))
}

/// The fingerprint that the administrators compare over the telephone.
fn fingerprint(reader: &Organisation, document: &Path) -> Result<String> {
    let summary = reader.hsctl(&["peer", "inspect", &document.display().to_string()])?;
    super::at(&summary, "/fingerprint")
        .as_str()
        .map(str::to_owned)
        .ok_or_else(|| Failure::Unexpected {
            program: "hsctl peer inspect".to_owned(),
            what: summary.to_string(),
        })
}
