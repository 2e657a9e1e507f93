//! One organisation's homeserver: the real binary, initialised, started, killed, started again.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use entente_sdk::ids::Address;
use serde::Deserialize;
use tokio::process::{Child, Command};

use crate::failure::{Failure, Result, While};
use crate::hsctl::Hsctl;
use crate::ports::Ports;

/// How long a homeserver may take to answer after its start.
const START_MAX: Duration = Duration::from_secs(40);
/// How often it is asked meanwhile.
const ASK_AGAIN: Duration = Duration::from_millis(25);

/// A homeserver, running or killed.
pub(crate) struct Homeserver {
    /// Its server name.
    pub(crate) name: &'static str,
    /// Its administrator.
    pub(crate) hsctl: Hsctl,
    program: PathBuf,
    folder: PathBuf,
    log: PathBuf,
    client_port: u16,
    federation_port: u16,
    root_sha256: String,
    process: Option<Child>,
}

/// A new account with the password that the homeserver made.
#[derive(Deserialize)]
pub(crate) struct Account {
    pub(crate) address: Address,
    pub(crate) password: String,
}

#[derive(Deserialize)]
struct Status {
    server: String,
    root_sha256: String,
}

impl Homeserver {
    /// `homeserver init` in a folder of its own.
    pub(crate) async fn init(
        name: &'static str,
        programs: &Path,
        parent: &Path,
        ports: &mut Ports,
    ) -> Result<Self> {
        // Short names: the path of a Unix socket has at most 107 bytes.
        let folder = parent.join(name.split('.').next().unwrap_or(name));
        std::fs::create_dir(&folder).while_to(format!("make {}", folder.display()))?;
        let socket = folder.join("admin.sock");
        let server = Self {
            name,
            hsctl: Hsctl::new(programs.join("hsctl"), socket),
            program: programs.join("homeserver"),
            log: folder.join("log"),
            folder,
            client_port: ports.free()?,
            federation_port: ports.free()?,
            root_sha256: String::new(),
            process: None,
        };
        server.run_init().await?;
        Ok(server)
    }

    async fn run_init(&self) -> Result {
        let secret = |file: &str, text: &str| {
            let path = self.folder.join(file);
            std::fs::write(&path, text)
                .while_to(format!("write {}", path.display()))
                .map(|()| path)
        };
        let output = Command::new(&self.program)
            .arg("init")
            .arg("--config")
            .arg(self.config())
            .args(["--server-name", self.name])
            .arg("--data-dir")
            .arg(self.folder.join("data"))
            .args(["--client-listen", &self.client_endpoint()])
            .args(["--federation-listen", &self.federation_endpoint()])
            .arg("--admin-socket")
            .arg(self.folder.join("admin.sock"))
            .args(["--federation-endpoint", &self.federation_endpoint()])
            .args(["--admin-name", "admin"])
            .arg("--admin-password-file")
            .arg(secret(
                "admin-password",
                "a password for the demonstration\n",
            )?)
            .arg("--root-key")
            .arg(self.folder.join("root-key.enc"))
            .arg("--root-key-passphrase-file")
            .arg(secret(
                "root-passphrase",
                "a passphrase for the demonstration\n",
            )?)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .while_to(format!("run {}", self.program.display()))?;
        if output.status.success() {
            return Ok(());
        }
        Err(Failure::new(format!(
            "can't initialise {}: {}",
            self.name,
            String::from_utf8_lossy(&output.stderr).trim()
        )))
    }

    /// `homeserver run`, until it answers its administrator.
    pub(crate) async fn start(&mut self) -> Result {
        let log = |file: &Path| -> std::io::Result<File> {
            OpenOptions::new().create(true).append(true).open(file)
        };
        let to = log(&self.log).while_to(format!("write {}", self.log.display()))?;
        let too = to
            .try_clone()
            .while_to(format!("write {}", self.log.display()))?;
        let process = Command::new(&self.program)
            .arg("run")
            .arg("--config")
            .arg(self.config())
            .stdin(Stdio::null())
            .stdout(to)
            .stderr(too)
            .kill_on_drop(true)
            .spawn()
            .while_to(format!("run {}", self.program.display()))?;
        self.process = Some(process);
        let status = self.wait_until_it_answers().await?;
        if status.server != self.name {
            return Err(Failure::new(format!(
                "{} says that it is {}",
                self.name, status.server
            )));
        }
        self.root_sha256 = status.root_sha256;
        Ok(())
    }

    async fn wait_until_it_answers(&mut self) -> Result<Status> {
        let deadline = tokio::time::Instant::now() + START_MAX;
        loop {
            let run = self.hsctl.run(&["status"]).await?;
            if run.succeeded {
                return serde_json::from_str(&run.stdout)
                    .while_to(format!("read the status of {}", self.name));
            }
            self.must_be_running()?;
            if tokio::time::Instant::now() > deadline {
                return Err(Failure::new(format!(
                    "{} does not answer within {} s: {}",
                    self.name,
                    START_MAX.as_secs(),
                    run.stderr.trim()
                ))
                .with_log(&self.log));
            }
            tokio::time::sleep(ASK_AGAIN).await;
        }
    }

    /// Fails when the process has ended by itself.
    pub(crate) fn must_be_running(&mut self) -> Result {
        let ended = match &mut self.process {
            Some(process) => process.try_wait().while_to("look after a process")?,
            None => return Ok(()),
        };
        ended.map_or(Ok(()), |status| {
            Err(
                Failure::new(format!("{} ended by itself: {status}", self.name))
                    .with_log(&self.log),
            )
        })
    }

    /// SIGKILL: no chance to finish anything.
    pub(crate) async fn kill(&mut self) -> Result {
        self.must_be_running()?;
        if let Some(mut process) = self.process.take() {
            process
                .kill()
                .await
                .while_to(format!("kill {}", self.name))?;
        }
        Ok(())
    }

    /// Makes an account; the homeserver chooses its password.
    pub(crate) async fn create_user(&self, handle: &str, user_type: &str) -> Result<Account> {
        self.hsctl
            .ask(&["user", "create", handle, "--type", user_type])
            .await
            .map_err(|failure| failure.with_log(&self.log))
    }

    /// Where clients reach it.
    pub(crate) fn client_endpoint(&self) -> String {
        format!("127.0.0.1:{}", self.client_port)
    }

    fn federation_endpoint(&self) -> String {
        format!("127.0.0.1:{}", self.federation_port)
    }

    /// The fingerprint of its organisation's root; known once it has run.
    pub(crate) fn root_sha256(&self) -> &str {
        &self.root_sha256
    }

    /// Its folder.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// What it logs.
    pub(crate) fn log(&self) -> &Path {
        &self.log
    }

    fn config(&self) -> PathBuf {
        self.folder.join("entente.toml")
    }
}
