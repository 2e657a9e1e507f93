//! The administrators' hands: the real `hsctl`, one run a command.

use std::path::PathBuf;
use std::process::Stdio;

use serde::de::DeserializeOwned;
use tokio::process::Command;

use crate::failure::{Failure, Result, While};

/// `hsctl` over one homeserver's local socket.
#[derive(Debug, Clone)]
pub(crate) struct Hsctl {
    program: PathBuf,
    socket: PathBuf,
}

/// How a run ended.
pub(crate) struct Run {
    pub(crate) succeeded: bool,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Hsctl {
    /// This program, over this socket.
    pub(crate) fn new(program: PathBuf, socket: PathBuf) -> Self {
        Self { program, socket }
    }

    /// Runs a command and takes whatever comes of it.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Result<Run> {
        let output = Command::new(&self.program)
            .arg("--socket")
            .arg(&self.socket)
            .arg("--json")
            .args(arguments)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .while_to(format!("run {}", self.program.display()))?;
        Ok(Run {
            succeeded: output.status.success(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// Runs a command that must succeed.
    pub(crate) async fn done(&self, arguments: &[&str]) -> Result {
        self.text(arguments).await.map(|_| ())
    }

    /// Runs a command that must succeed and reads its answer.
    pub(crate) async fn ask<A: DeserializeOwned>(&self, arguments: &[&str]) -> Result<A> {
        let text = self.text(arguments).await?;
        serde_json::from_str(&text).while_to(format!("read what `{}` printed", spell(arguments)))
    }

    async fn text(&self, arguments: &[&str]) -> Result<String> {
        let run = self.run(arguments).await?;
        if run.succeeded {
            return Ok(run.stdout);
        }
        Err(Failure::new(format!(
            "`{}` failed: {}",
            spell(arguments),
            run.stderr.trim()
        )))
    }
}

fn spell(arguments: &[&str]) -> String {
    format!("hsctl {}", arguments.join(" "))
}
