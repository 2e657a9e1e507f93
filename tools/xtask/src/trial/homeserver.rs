//! One organisation's homeserver: the real binary, made, started, killed, started again.

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde::Deserialize;

use crate::failure::{self, Failure, Result};
use crate::process::Run as _;

/// How long a start may take.
const START_MAX: Duration = Duration::from_secs(40);
/// How often it is asked meanwhile.
const ASK_AGAIN: Duration = Duration::from_millis(50);

/// How to make one.
pub(crate) struct Plan<'a> {
    /// Its server name.
    pub(crate) name: &'static str,
    /// The folder with `hsctl`, `chat` and the homeserver.
    pub(crate) binaries: &'a Path,
    /// The homeserver's binary.
    pub(crate) program: &'a Path,
    /// The protection that is off, in a test build.
    pub(crate) fault: Option<&'static str>,
    /// The network namespace that it runs in.
    pub(crate) namespace: Option<String>,
    /// Where clients reach it.
    pub(crate) client: String,
    /// Where peers reach it.
    pub(crate) federation: String,
    /// The folder for everything of it.
    pub(crate) folder: PathBuf,
}

/// A homeserver; killed when dropped.
pub(crate) struct Homeserver {
    pub(crate) name: &'static str,
    pub(crate) client: String,
    pub(crate) federation: String,
    pub(crate) folder: PathBuf,
    pub(crate) namespace: Option<String>,
    pub(crate) root_sha256: String,
    program: PathBuf,
    hsctl: PathBuf,
    fault: Option<&'static str>,
    process: Option<Child>,
}

#[derive(Deserialize)]
struct Status {
    root_sha256: String,
}

/// A new account.
#[derive(Deserialize)]
pub(crate) struct Account {
    pub(crate) address: String,
    pub(crate) password: String,
}

impl Homeserver {
    /// Makes and starts one.
    pub(crate) fn start_new(plan: Plan<'_>) -> Result<Self> {
        let endpoint = plan.federation.clone();
        let mut server = Self::make(plan, &endpoint, &[])?;
        server.start()?;
        Ok(server)
    }

    /// Makes one whose peers reach it at `endpoint`, with further words for `homeserver init`.
    pub(super) fn make(plan: Plan<'_>, endpoint: &str, further: &[&str]) -> Result<Self> {
        fs::create_dir_all(&plan.folder).map_err(failure::at(&plan.folder))?;
        let server = Self::of(plan);
        server.init(endpoint, further)?;
        Ok(server)
    }

    /// One whose folder has everything already.
    pub(super) fn of(plan: Plan<'_>) -> Self {
        Self {
            name: plan.name,
            client: plan.client,
            federation: plan.federation,
            folder: plan.folder,
            namespace: plan.namespace,
            root_sha256: String::new(),
            program: plan.program.to_path_buf(),
            hsctl: plan.binaries.join("hsctl"),
            fault: plan.fault,
            process: None,
        }
    }

    fn init(&self, endpoint: &str, further: &[&str]) -> Result {
        let secret = |file: &str| -> Result<PathBuf> {
            let path = self.folder.join(file);
            fs::write(&path, "a secret for this trial alone\n").map_err(failure::at(&path))?;
            Ok(path)
        };
        Command::new(&self.program)
            .arg("init")
            .arg("--config")
            .arg(self.config())
            .args(["--server-name", self.name])
            .arg("--data-dir")
            .arg(self.folder.join("data"))
            .args(["--listen-client", &self.client])
            .args(["--listen-federation", &self.federation])
            .arg("--admin-socket")
            .arg(self.socket())
            .args(["--federation-endpoint", endpoint])
            .args(["--admin-name", "admin"])
            .arg("--admin-password-file")
            .arg(secret("admin-password")?)
            .arg("--root-key")
            .arg(self.folder.join("root-key.enc"))
            .arg("--root-passphrase-file")
            .arg(secret("root-passphrase")?)
            .args(further)
            .captured()
            .map(drop)
    }

    /// Starts it and waits until it answers its administrator.
    pub(super) fn start(&mut self) -> Result {
        self.launch()?;
        self.wait_ready()
    }

    /// Starts it.
    pub(super) fn launch(&mut self) -> Result {
        let log = self.folder.join("log");
        let output = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log)
            .map_err(failure::at(&log))?;
        let errors = output.try_clone().map_err(failure::at(&log))?;
        let mut command = inside(self.namespace.as_deref(), &self.program);
        command.arg("run").arg("--config").arg(self.config());
        if let Some(fault) = self.fault {
            command.env("ENTENTE_FAULT", fault);
        }
        let child = command
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .spawn()
            .map_err(|source| Failure::Start {
                program: self.program.display().to_string(),
                source,
            })?;
        self.process = Some(child);
        Ok(())
    }

    fn wait_ready(&mut self) -> Result {
        let deadline = Instant::now() + START_MAX;
        loop {
            if let Ok(printed) = self.ask_quietly(&["status"]) {
                let status: Status = read("hsctl status", &printed)?;
                self.root_sha256 = status.root_sha256;
                return Ok(());
            }
            if self.has_ended() || Instant::now() > deadline {
                let log = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
                return Err(Failure::DidNotHold(format!(
                    "{} does not start:\n{log}",
                    self.name
                )));
            }
            thread::sleep(ASK_AGAIN);
        }
    }

    /// Whether it has ended by itself.
    pub(super) fn has_ended(&mut self) -> bool {
        let ended = |process: &mut Child| process.try_wait().ok().flatten();
        self.process.as_mut().and_then(ended).is_some()
    }

    /// A signal by its name.
    pub(super) fn signal(&self, name: &str) -> Result {
        let Some(process) = &self.process else {
            return Ok(());
        };
        // The shell's own: a small machine may have no program `kill`.
        Command::new("sh")
            .args(["-c", "kill -s \"$1\" \"$2\"", "sh", name])
            .arg(process.id().to_string())
            .captured()
            .map(drop)
    }

    /// SIGKILL.
    pub(super) fn kill(&mut self) -> Result {
        if let Some(mut process) = self.process.take() {
            process.kill().map_err(failure::at(&self.program))?;
            process.wait().map_err(failure::at(&self.program))?;
        }
        Ok(())
    }

    /// SIGTERM; its exit status, or none when it does not end in time.
    pub(super) fn terminate(&mut self, patience: Duration) -> Result<Option<i32>> {
        self.signal("TERM")?;
        let Some(process) = self.process.as_mut() else {
            return Ok(None);
        };
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline {
            let ended = process.try_wait().map_err(failure::at(&self.program))?;
            if let Some(status) = ended {
                self.process = None;
                return Ok(status.code());
            }
            thread::sleep(ASK_AGAIN);
        }
        Ok(None)
    }

    /// Runs an administrator's command that must succeed.
    pub(crate) fn hsctl(&self, arguments: &[&str]) -> Result<String> {
        self.hsctl_command(arguments).captured()
    }

    fn ask_quietly(&self, arguments: &[&str]) -> Result<String> {
        let mut command = self.hsctl_command(arguments);
        let output = command
            .stdin(Stdio::null())
            .output()
            .map_err(|source| Failure::Start {
                program: "hsctl".to_owned(),
                source,
            })?;
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        } else {
            Err(Failure::Ended {
                command: "hsctl".to_owned(),
                status: output.status.to_string(),
            })
        }
    }

    fn hsctl_command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.hsctl);
        command
            .arg("--socket")
            .arg(self.socket())
            .arg("--json")
            .args(arguments);
        command
    }

    /// Makes an account whose password the homeserver chooses.
    pub(crate) fn account(&self, handle: &str) -> Result<Account> {
        read(
            "hsctl user create",
            &self.hsctl(&["user", "create", handle, "--type", "standard"])?,
        )
    }

    fn config(&self) -> PathBuf {
        self.folder.join("entente.toml")
    }

    /// Where its administrator reaches it.
    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.join("admin.sock")
    }
}

impl Drop for Homeserver {
    fn drop(&mut self) {
        // Best effort: nothing of a trial outlives it.
        let _ = self.kill();
    }
}

/// A program, in a network namespace if there is one.
pub(super) fn inside(namespace: Option<&str>, program: &Path) -> Command {
    match namespace {
        None => Command::new(program),
        Some(namespace) => {
            let mut command = Command::new("ip");
            command.args(["netns", "exec", namespace]).arg(program);
            command
        }
    }
}

/// Reads what a program of ours printed.
pub(super) fn read<T: serde::de::DeserializeOwned>(program: &str, printed: &str) -> Result<T> {
    serde_json::from_str(printed.trim()).map_err(|error| Failure::Unexpected {
        program: program.to_owned(),
        what: format!("{error}: {printed}"),
    })
}
