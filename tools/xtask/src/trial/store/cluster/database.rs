//! The database of an organisation: a primary and its standby, in a process that is steered line by line
//! (`tools/postgresql-server`, `postgresql-pair`).

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::failure::{self, Failure, Result};

/// What that process makes.
const NAME: &str = "entente";
const USER: &str = "entente";
const PASSWORD: &str = "correct horse battery staple";

/// A primary and its standby; ended when dropped.
pub(super) struct Database {
    ports: [String; 2],
    root_certificate: PathBuf,
    password_file: PathBuf,
    child: Child,
    /// Closed, it ends the process and both servers.
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Database {
    /// Starts both; `folder` is for what belongs to them.
    pub(super) fn start(binaries: &Path, folder: &Path) -> Result<Self> {
        let log = folder.join("postgresql.log");
        let errors = fs::File::create(&log).map_err(failure::at(&log))?;
        let password_file = folder.join("postgresql-password");
        fs::write(&password_file, format!("{PASSWORD}\n")).map_err(failure::at(&password_file))?;
        let mut child = Command::new(binaries.join("postgresql-pair"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()
            .map_err(|source| Failure::Start {
                program: "postgresql-pair".to_owned(),
                source,
            })?;
        let (input, Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(unexpected("no pipe"));
        };
        let mut database = Self {
            ports: Default::default(),
            root_certificate: PathBuf::new(),
            password_file,
            child,
            input,
            output: BufReader::new(output),
        };
        let line = database.line()?;
        let mut words = line.splitn(4, ' ');
        let all = (words.next(), words.next(), words.next(), words.next());
        let (Some("ready"), Some(primary), Some(standby), Some(file)) = all else {
            let said = fs::read_to_string(&log).unwrap_or_default();
            return Err(unexpected(&format!("{line}{said}")));
        };
        database.ports = [primary, standby].map(str::to_owned);
        database.root_certificate = PathBuf::from(file);
        Ok(database)
    }

    /// From now on each commit is confirmed when the standby has it.
    pub(super) fn wait_for_standby(&mut self) -> Result {
        self.command("wait").map(drop)
    }

    /// The standby gets nothing more of what the primary goes on to confirm.
    pub(super) fn cut_off_standby(&mut self) -> Result {
        self.command("cut").map(drop)
    }

    /// SIGKILL to the primary with all its processes.
    pub(super) fn kill_primary(&mut self) -> Result {
        self.command("kill").map(drop)
    }

    /// The standby takes its place.
    pub(super) fn promote(&mut self) -> Result {
        self.command("promote").map(drop)
    }

    /// The value that the primary has for a key of the store, whatever it says; empty where there is none. The key's first
    /// byte, which says what the entry is, may be any.
    pub(super) fn value(&mut self, key: &str) -> Result<String> {
        self.command(&format!(
            "ask SELECT encode(value, 'hex') FROM entry WHERE substring(key FROM 2) = convert_to('{key}', 'UTF8')"
        ))
    }

    /// What `homeserver init` is told of it.
    pub(super) fn words(&self) -> Vec<String> {
        let mut words = ["--store-engine", "postgresql"].map(str::to_owned).to_vec();
        for port in &self.ports {
            words.push("--postgresql-host".to_owned());
            words.push(format!("localhost:{port}"));
        }
        let password = self.password_file.display().to_string();
        let root = self.root_certificate.display().to_string();
        for (flag, value) in [
            ("--postgresql-database", NAME),
            ("--postgresql-user", USER),
            ("--postgresql-password-file", password.as_str()),
            ("--postgresql-root-certificates", root.as_str()),
        ] {
            words.push(flag.to_owned());
            words.push(value.to_owned());
        }
        words
    }

    /// Gives a command; it is done when this returns, with the answer.
    fn command(&mut self, command: &str) -> Result<String> {
        let input = self.input.as_mut().ok_or_else(|| unexpected("no pipe"))?;
        writeln!(input, "{command}")
            .and_then(|()| input.flush())
            .map_err(|error| unexpected(&error.to_string()))?;
        let line = self.line()?;
        match line.strip_prefix("ok") {
            Some(answer) => Ok(answer.trim().to_owned()),
            None => Err(unexpected(&format!("{command}: {line}"))),
        }
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.output
            .read_line(&mut line)
            .map_err(|error| unexpected(&error.to_string()))?;
        Ok(line.trim().to_owned())
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.child.wait();
    }
}

fn unexpected(what: &str) -> Failure {
    Failure::Unexpected {
        program: "postgresql-pair".to_owned(),
        what: what.to_owned(),
    }
}
