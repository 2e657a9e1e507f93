//! Progress, on standard error: bars and spinners on a terminal, plain lines elsewhere.

use std::future::Future;
use std::io::{IsTerminal, Write, stderr};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::failure::{Failure, Result};

/// How often a spinner turns.
const TURN: Duration = Duration::from_millis(100);

/// Where progress is shown.
pub(crate) struct Display {
    bars: Option<MultiProgress>,
}

impl Display {
    /// Bars when standard error is a terminal.
    pub(crate) fn new() -> Self {
        Self {
            bars: stderr().is_terminal().then(MultiProgress::new),
        }
    }

    /// A heading.
    pub(crate) fn act(&self, title: &str) {
        self.line("");
        self.line(title);
    }

    /// A line under the last step.
    pub(crate) fn note(&self, text: &str) {
        self.line(&format!("      {text}"));
    }

    /// Runs a step and shows that it runs, then that it held.
    pub(crate) async fn step<T>(
        &self,
        title: &str,
        step: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let spinner = self.bars.as_ref().map(|bars| {
            let spinner = bars.add(ProgressBar::new_spinner());
            spinner.set_style(style("  {spinner} {msg}"));
            spinner.set_message(title.to_owned());
            spinner.enable_steady_tick(TURN);
            spinner
        });
        let started = Instant::now();
        let held = step.await;
        if let Some(spinner) = spinner {
            spinner.finish_and_clear();
        }
        let mark = if held.is_ok() { "ok" } else { "FAILED" };
        self.line(&format!(
            "  {mark}  {title} ({:.1} s)",
            started.elapsed().as_secs_f64()
        ));
        held
    }

    /// A bar that counts messages up to `total`.
    pub(crate) fn messages(&self, total: u64) -> Bar {
        let bar = match &self.bars {
            Some(bars) => bars.add(ProgressBar::new(total)),
            None => ProgressBar::hidden(),
        };
        bar.set_style(style(
            "  {bar:30} {pos}/{len} messages shown, {elapsed} {wide_msg}",
        ));
        Bar { bar }
    }

    /// What did not hold.
    pub(crate) fn failed(&self, failure: &Failure) {
        self.line("");
        self.line(&format!("the demonstration failed: {failure}"));
    }

    fn line(&self, text: &str) {
        // Whoever watched may be gone; the show goes on, and its exit code still tells.
        match &self.bars {
            Some(bars) => drop(bars.println(text)),
            None => drop(writeln!(stderr().lock(), "{text}")),
        }
    }
}

/// A bar of messages; vanishes when dropped.
pub(crate) struct Bar {
    bar: ProgressBar,
}

impl Bar {
    /// So many are shown.
    pub(crate) fn set(&self, shown: u64) {
        self.bar.set_position(shown);
    }

    /// What happens just now.
    pub(crate) fn say(&self, text: &str) {
        self.bar.set_message(text.to_owned());
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
