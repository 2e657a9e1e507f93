//! What did not hold, and at which homeserver to look.

use std::fmt;
use std::path::{Path, PathBuf};

/// What did not hold.
#[derive(Debug)]
pub(crate) struct Failure {
    message: String,
    logs: Vec<PathBuf>,
    stop: bool,
}

/// Most lines of a log that are shown.
const LOG_LINES_MAX: usize = 25;

impl Failure {
    /// This did not hold.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            logs: Vec::new(),
            stop: false,
        }
    }

    /// Somebody stopped it.
    pub(crate) fn stopped() -> Self {
        Self {
            stop: true,
            ..Self::new("stopped before its end")
        }
    }

    /// Whether somebody stopped it, so that there is no cause to look for.
    pub(crate) fn is_stop(&self) -> bool {
        self.stop
    }

    /// The end of this log may say why. The first to be named are the nearest to what happened.
    pub(crate) fn with_log(mut self, log: &Path) -> Self {
        if !self.logs.iter().any(|known| known == log) {
            self.logs.push(log.to_owned());
        }
        self
    }

    /// Whether a log is named already.
    pub(crate) fn has_log(&self) -> bool {
        !self.logs.is_empty()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        for log in &self.logs {
            write!(f, "\n\nthe end of {}:\n{}", log.display(), tail(log))?;
        }
        Ok(())
    }
}

fn tail(log: &Path) -> String {
    match std::fs::read(log) {
        Ok(bytes) => {
            let text = String::from_utf8_lossy(&bytes);
            let lines: Vec<&str> = text.lines().collect();
            let from = lines.len().saturating_sub(LOG_LINES_MAX);
            let lines: Vec<String> = lines
                .into_iter()
                .skip(from)
                .map(|line| format!("  {line}"))
                .collect();
            lines.join("\n")
        }
        Err(error) => format!("  can't be read: {error}"),
    }
}

/// The result of everything that can fail to hold.
pub(crate) type Result<T = ()> = std::result::Result<T, Failure>;

/// Says what was being done when an error came.
pub(crate) trait While<T> {
    /// `what` reads after "can't": "can't start a.example: …".
    fn while_to(self, what: impl fmt::Display) -> Result<T>;
}

impl<T, E: fmt::Display> While<T> for std::result::Result<T, E> {
    fn while_to(self, what: impl fmt::Display) -> Result<T> {
        self.map_err(|error| Failure::new(format!("can't {what}: {error}")))
    }
}
