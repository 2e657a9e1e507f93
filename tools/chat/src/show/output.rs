//! Where output goes: text for people, or one JSON object per line for programs.
//!
//! Results go to standard output, notes about what is going on to standard error.

use std::io::{self, IsTerminal as _, Write as _};

use serde::Serialize;

use crate::failure::{Failure, Result};
use crate::show::clock::LocalClock;

/// How this run prints.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    /// One JSON object per line.
    pub(crate) json: bool,
    /// Times and days.
    pub(crate) clock: LocalClock,
    /// Colours and weights.
    pub(crate) paint: Paint,
}

/// Colours and weights, or none.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Paint {
    on: bool,
}

impl Paint {
    #[cfg(test)]
    pub(crate) const fn plain() -> Self {
        Self { on: false }
    }

    pub(crate) fn strong(self, text: &str) -> String {
        self.wrap("1", text)
    }

    pub(crate) fn faint(self, text: &str) -> String {
        self.wrap("2", text)
    }

    pub(crate) fn alarm(self, text: &str) -> String {
        self.wrap("31", text)
    }

    fn wrap(self, code: &str, text: &str) -> String {
        if self.on {
            format!("\u{1b}[{code}m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }
}

impl Output {
    pub(crate) fn new(json: bool, clock: LocalClock) -> Self {
        let on = io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self {
            json,
            clock,
            paint: Paint { on },
        }
    }

    /// A result for people; nothing under `--json`.
    pub(crate) fn line(&self, line: &str) -> Result {
        if self.json {
            return Ok(());
        }
        print(line)
    }

    /// A result for programs; nothing without `--json`.
    pub(crate) fn object(&self, object: &impl Serialize) -> Result {
        if !self.json {
            return Ok(());
        }
        let line = serde_json::to_string(object)
            .map_err(|error| Failure::new("output", error.to_string()))?;
        print(&line)
    }

    /// What is going on; never part of the result.
    pub(crate) fn note(&self, note: &str) {
        eprintln!("{}", self.paint.faint(note));
    }

    /// What a person has to know, whatever else the command does.
    pub(crate) fn warning(&self, warning: &str) {
        eprintln!("{}", self.paint.alarm(warning));
    }

    /// Why the command ends without success.
    pub(crate) fn failure(&self, failure: &Failure) {
        if failure.is_silent() {
            return;
        }
        // Nothing is left to be done when even this can't be printed.
        let _ = self.object(&failure.object());
        eprintln!("{} {}", self.paint.alarm("chat:"), failure.sentence);
    }
}

fn print(line: &str) -> Result {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()?;
    Ok(())
}
