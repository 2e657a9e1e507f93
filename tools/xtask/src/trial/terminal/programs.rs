//! Programs as the trial sees them: line by line, or in a terminal.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;

use serde_json::Value;

use super::PATIENCE;
use crate::failure::{Failure, Result};

/// A program's objects as they come; killed when dropped.
pub(super) struct Lines {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Lines {
    pub(super) fn open(mut command: Command) -> Result<Self> {
        let mut child = start(command.stdin(Stdio::null()).stdout(Stdio::piped()))?;
        let (sender, lines) = mpsc::channel();
        if let Some(output) = child.stdout.take() {
            thread::spawn(move || {
                let lines = BufReader::new(output).lines();
                for line in lines.map_while(std::result::Result::ok) {
                    if sender.send(line).is_err() {
                        return;
                    }
                }
            });
        }
        Ok(Self { child, lines })
    }

    /// The next object that is meant.
    pub(super) fn until(&mut self, meant: impl Fn(&Value) -> bool) -> Option<Value> {
        loop {
            let line = self.lines.recv_timeout(PATIENCE).ok()?;
            let object: Value = serde_json::from_str(&line).ok()?;
            if meant(&object) {
                return Some(object);
            }
        }
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A program in a terminal of its own, made by `script`.
pub(super) struct Screen {
    child: Child,
    bytes: mpsc::Receiver<Vec<u8>>,
    pub(super) text: String,
    /// What was looked at before.
    seen: usize,
}

impl Screen {
    pub(super) fn open(line: &str) -> Result<Self> {
        let mut command = Command::new("script");
        command
            .args([
                "--quiet",
                "--return",
                "--flush",
                "--command",
                line,
                "/dev/null",
            ])
            .env("TERM", "xterm")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = start(&mut command)?;
        let (sender, bytes) = mpsc::channel();
        if let Some(mut output) = child.stdout.take() {
            thread::spawn(move || {
                let mut buffer = [0; 4096];
                while let Ok(count @ 1..) = output.read(&mut buffer) {
                    let part = buffer.get(..count).unwrap_or_default().to_vec();
                    if sender.send(part).is_err() {
                        return;
                    }
                }
            });
        }
        Ok(Self {
            child,
            bytes,
            text: String::new(),
            seen: 0,
        })
    }

    pub(super) fn types(&mut self, keys: &str) -> Result {
        let input = self.child.stdin.as_mut();
        let written = input.map_or(Ok(()), |input| {
            input
                .write_all(keys.as_bytes())
                .and_then(|()| input.flush())
        });
        written.map_err(|error| Failure::DidNotHold(format!("the terminal takes no keys: {error}")))
    }

    /// Whether this appears, after what was looked at before.
    pub(super) fn shows(&mut self, what: &str) -> bool {
        loop {
            let new = self.text.get(self.seen..).unwrap_or_default();
            if let Some(at) = new.find(what) {
                self.seen += at + what.len();
                return true;
            }
            match self.bytes.recv_timeout(PATIENCE) {
                Ok(bytes) => self.text.push_str(&String::from_utf8_lossy(&bytes)),
                Err(_) => return false,
            }
        }
    }

    /// Whether the program ends, and well.
    pub(super) fn ends(&mut self) -> bool {
        // Its output ends with it.
        loop {
            match self.bytes.recv_timeout(PATIENCE) {
                Ok(bytes) => self.text.push_str(&String::from_utf8_lossy(&bytes)),
                Err(mpsc::RecvTimeoutError::Timeout) => return false,
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
            }
        }
        self.child.wait().is_ok_and(|status| status.success())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn start(command: &mut Command) -> Result<Child> {
    let program = command.get_program().to_string_lossy().into_owned();
    command
        .spawn()
        .map_err(|source| Failure::Start { program, source })
}
