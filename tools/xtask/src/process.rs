//! Running programs: shown to the user, or captured; steps that say how long they took.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::failure::{Failure, Result};

/// Ways to run a command to its end.
pub(crate) trait Run {
    /// Runs it with its output shown; fails unless it succeeds.
    fn shown(&mut self) -> Result;
    /// Runs it and returns its standard output; its standard error is shown.
    fn captured(&mut self) -> Result<String>;
    /// Whether it can be run and succeeds; its output is dropped.
    fn succeeds(&mut self) -> bool;
}

/// A line to standard output. Whoever closed it wants none: the exit status still tells.
pub(crate) fn say(line: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

impl Run for Command {
    fn shown(&mut self) -> Result {
        let status = self
            .stdin(Stdio::null())
            .status()
            .map_err(|source| not_started(self, source))?;
        if status.success() {
            Ok(())
        } else {
            Err(ended(self, &status.to_string()))
        }
    }

    fn captured(&mut self) -> Result<String> {
        let output = self
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()
            .map_err(|source| not_started(self, source))?;
        if !output.status.success() {
            return Err(ended(self, &output.status.to_string()));
        }
        String::from_utf8(output.stdout).map_err(|_| Failure::Unexpected {
            program: program(self),
            what: "bytes that are not UTF-8".to_owned(),
        })
    }

    fn succeeds(&mut self) -> bool {
        self.stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    }
}

/// Runs a step and says on standard error what it is and how long it took.
pub(crate) fn step<T>(name: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    eprintln!("── {name}");
    let started = Instant::now();
    let outcome = work();
    let word = if outcome.is_ok() { "done" } else { "FAILED" };
    eprintln!(
        "── {name}: {word} in {:.1} s",
        started.elapsed().as_secs_f64()
    );
    outcome
}

fn program(command: &Command) -> String {
    command.get_program().to_string_lossy().into_owned()
}

fn not_started(command: &Command, source: std::io::Error) -> Failure {
    Failure::Start {
        program: program(command),
        source,
    }
}

fn ended(command: &Command, status: &str) -> Failure {
    let mut line = program(command);
    for argument in command.get_args() {
        line.push(' ');
        line.push_str(&argument.to_string_lossy());
    }
    Failure::Ended {
        command: line,
        status: status.to_owned(),
    }
}
