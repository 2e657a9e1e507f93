//! The fault proxy as a process, steered line by line.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::failure::{Failure, Result};

/// A wire to `to` that can be spoilt; ended when dropped.
pub(super) struct Wire {
    /// Where it is entered.
    pub(super) address: String,
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Wire {
    /// Lays it.
    pub(super) fn lay(binaries: &Path, to: &str) -> Result<Self> {
        let mut child = Command::new(binaries.join("faultproxy"))
            .args(["--to", to])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|source| Failure::Start {
                program: "faultproxy".to_owned(),
                source,
            })?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(unexpected("no pipe"));
        };
        let mut wire = Self {
            address: String::new(),
            child,
            input,
            output: BufReader::new(output),
        };
        let line = wire.line()?;
        wire.address = line
            .strip_prefix("listening ")
            .ok_or_else(|| unexpected(&line))?
            .to_owned();
        Ok(wire)
    }

    /// Gives a command, such as `both stall`; it holds when this returns.
    pub(super) fn command(&mut self, command: &str) -> Result {
        writeln!(self.input, "{command}")
            .and_then(|()| self.input.flush())
            .map_err(|error| unexpected(&error.to_string()))?;
        match self.line()?.as_str() {
            "ok" => Ok(()),
            other => Err(unexpected(other)),
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

impl Drop for Wire {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn unexpected(what: &str) -> Failure {
    Failure::Unexpected {
        program: "faultproxy".to_owned(),
        what: what.to_owned(),
    }
}
