//! What a person sees while it runs, on standard error: a bar on a terminal, a line for each part elsewhere.

use std::io::{IsTerminal as _, Write as _, stderr};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// One bar at a time.
pub(crate) struct Progress {
    bar: ProgressBar,
    lines: bool,
}

impl Progress {
    /// Shows nothing yet.
    pub(crate) fn new() -> Self {
        Self {
            bar: ProgressBar::no_length(),
            lines: !stderr().is_terminal(),
        }
    }

    /// Starts counting `total` things.
    pub(crate) fn count(&self, what: &str, total: usize) {
        self.restart(
            what,
            u64::try_from(total).unwrap_or(u64::MAX),
            "{pos}/{len}",
        );
    }

    /// One of the things is done.
    pub(crate) fn one_done(&self) {
        self.bar.inc(1);
    }

    /// Starts a phase of this length.
    pub(crate) fn phase(&self, what: &str, length: Duration) {
        self.restart(what, millis(length), "{msg}");
    }

    /// So much of the phase has passed, and messages arrive at this rate.
    pub(crate) fn advance(&self, elapsed: Duration, rate: f64) {
        self.bar.set_position(millis(elapsed));
        self.bar.set_message(format!("{rate:.0} delivered/s"));
    }

    /// The phase sends no more.
    pub(crate) fn draining(&self) {
        self.bar.set_message("waiting for what is under way");
    }

    /// Takes the bar away.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }

    fn restart(&self, what: &str, length: u64, shown: &str) {
        if self.lines {
            // Whoever watched may be gone; the run goes on.
            let _ = writeln!(stderr().lock(), "{what} …");
        }
        let template = format!("{{prefix:34}} [{{bar:30}}] {shown}");
        if let Ok(style) = ProgressStyle::with_template(&template) {
            self.bar.set_style(style.progress_chars("=> "));
        }
        self.bar.reset();
        self.bar.set_length(length);
        self.bar.set_prefix(what.to_owned());
        self.bar.set_message("");
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
