//! The program under test: a writer that is followed while it lives, and what is left of its store.

use std::fs::{self, OpenOptions};
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::ledger::{Found, INBOXES, Ledger, SENDERS, WINDOW};
use super::{Engine, Trial};
use crate::failure::{self, Failure, Result};
use crate::machine;
use crate::process::Run as _;

/// How long a program may take that is not meant to go on.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at a program.
const LOOK: Duration = Duration::from_millis(1);

/// A store, and the programs that it is tried with.
pub(super) struct Place {
    pub(super) engine: Engine,
    /// The store's folder.
    pub(super) store: PathBuf,
    /// For what the programs say: out of the reach of what happens to the store.
    logs: PathBuf,
    reader: PathBuf,
    writer: PathBuf,
    fault: Option<&'static str>,
}

/// How a writer works.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Load {
    /// Messages that stay in each inbox; without, nothing is acknowledged.
    pub(super) waiting: Option<u32>,
    /// Milliseconds that each sender waits after each answer.
    pub(super) pause: u32,
    /// It ends by itself after so many.
    pub(super) seconds: Option<u32>,
}

/// A system call that fails once in each thread.
#[derive(Debug, Clone, Copy)]
pub(super) struct Injection {
    pub(super) call: &'static str,
    /// Which of each thread's calls fails, from 1 on.
    pub(super) number: u32,
}

impl Place {
    /// A store in `store`, which need not be there yet; what the programs say is kept in `logs`.
    pub(super) fn new(
        trial: &Trial,
        engine: Engine,
        store: PathBuf,
        logs: &Path,
        fault: Option<&'static str>,
    ) -> Self {
        let writer = match fault {
            Some(_) => &trial.with_faults,
            None => &trial.program,
        };
        Self {
            engine,
            store,
            logs: logs.to_path_buf(),
            reader: trial.program.clone(),
            writer: writer.clone(),
            fault,
        }
    }

    /// The same with the store elsewhere.
    pub(super) fn at(&self, store: &Path) -> Self {
        Self {
            store: store.to_path_buf(),
            logs: self.logs.clone(),
            reader: self.reader.clone(),
            writer: self.writer.clone(),
            ..*self
        }
    }

    /// The arguments that name the store.
    fn name_store(&self, command: &mut Command) {
        command
            .args(["--engine", self.engine.name()])
            .arg("--folder")
            .arg(&self.store);
    }

    /// A command that does something with the store's people.
    pub(super) fn command(&self, verb: &str) -> Command {
        let mut command = self.command_alone(verb);
        add_people(&mut command);
        command
    }

    /// A command that does something with a store that has no people.
    pub(super) fn command_alone(&self, verb: &str) -> Command {
        let mut command = Command::new(&self.reader);
        command.arg(verb);
        self.name_store(&mut command);
        command
    }

    /// Everything that is in the store.
    pub(super) fn show(&self) -> Result<Shown> {
        let said = self.logs.join("show.log");
        let mut command = self.command_alone("show");
        let mut child = start(&mut command, &said, true)?;
        let Some(output) = child.stdout.take() else {
            return Err(unexpected("no pipe"));
        };
        let reader = thread::spawn(move || {
            let mut found = Found::default();
            each_line(output, |line| found.take(line));
            found
        });
        let has_ended = wait(&mut child, PATIENCE);
        // A child that has not ended is ended.
        let _ = child.kill();
        let success = child.wait().map_err(failure::at(&self.reader))?.success();
        let found = reader.join().map_err(|_| unexpected("no reader"))?;
        let ending = match (has_ended, success && found.is_whole) {
            (false, _) => Ending::Hung,
            (true, true) => Ending::Whole,
            (true, false) => ending_of(&said)?,
        };
        Ok(Shown { found, ending })
    }
}

/// How reading a store has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ending {
    /// All of it was read.
    Whole,
    /// It was refused, at opening or later, in these words.
    Told(String),
    /// The program panicked.
    Panicked(String),
    /// It did not come to an end.
    Hung,
}

/// What was read of a store.
pub(super) struct Shown {
    pub(super) found: Found,
    pub(super) ending: Ending,
}

impl Shown {
    /// What was found, if all of it was.
    pub(super) fn whole(self) -> Result<Found> {
        match self.ending {
            Ending::Whole => Ok(self.found),
            ending => Err(Failure::DidNotHold(format!(
                "the store can't be read any more: {ending:?}"
            ))),
        }
    }
}

/// A writer that runs; killed when dropped.
pub(super) struct Writer {
    child: Child,
    answered: Arc<AtomicU64>,
    reader: Option<JoinHandle<Ledger>>,
    said: PathBuf,
}

impl Writer {
    /// Starts the writer's next life.
    pub(super) fn start(place: &Place, load: Load, ledger: Ledger) -> Result<Self> {
        Self::run(place, Command::new(&place.writer), load, ledger)
    }

    /// As [`Writer::start`], with system calls that fail; those that did are in the file `trace`.
    pub(super) fn start_injected(
        place: &Place,
        load: Load,
        ledger: Ledger,
        injection: Injection,
        trace: &Path,
    ) -> Result<Self> {
        let Injection { call, number } = injection;
        let strace = machine::find_program("strace").unwrap_or_else(|| "strace".into());
        let mut command = Command::new(strace);
        command
            // The program stays our child, so that it can be killed and waited for; only the calls in question stop it.
            .args(["-D", "-f", "--seccomp-bpf", "-qq", "-o"])
            .arg(trace)
            .arg("-e")
            .arg(format!("trace={call}"))
            .arg("-e")
            .arg(format!("inject={call}:error=EIO:when={number}"))
            .arg(&place.writer);
        Self::run(place, command, load, ledger)
    }

    fn run(place: &Place, mut command: Command, load: Load, mut ledger: Ledger) -> Result<Self> {
        let life = ledger.begin_life();
        command.arg("write");
        place.name_store(&mut command);
        add_people(&mut command);
        command
            .args(["--life", &life.to_string()])
            .args(["--pause", &load.pause.to_string()]);
        if let Some(waiting) = load.waiting {
            command.args(["--waiting", &waiting.to_string()]);
        }
        if let Some(seconds) = load.seconds {
            command.args(["--seconds", &seconds.to_string()]);
        }
        if let Some(fault) = place.fault {
            command.env("ENTENTE_FAULT", fault);
        }
        let said = place.logs.join("write.log");
        let mut child = start(&mut command, &said, false)?;
        let Some(output) = child.stdout.take() else {
            return Err(unexpected("no pipe"));
        };
        let answered = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&answered);
        let reader = thread::spawn(move || {
            each_line(output, |line| {
                ledger.take(line);
                count.store(ledger.answered_in_life(), Ordering::Relaxed);
            });
            ledger
        });
        Ok(Self {
            child,
            answered,
            reader: Some(reader),
            said,
        })
    }

    /// Waits until so many commits of this life were answered.
    pub(super) fn wait_answered(&mut self, count: u64) -> Result {
        let deadline = Instant::now() + PATIENCE;
        while self.answered.load(Ordering::Relaxed) < count {
            let ended = self.child.try_wait().map_err(failure::at(&self.said))?;
            if ended.is_some() || Instant::now() > deadline {
                return Err(Failure::DidNotHold(format!(
                    "fewer than {count} commits were answered within {PATIENCE:?} or before the writer ended: {}",
                    last_line(&self.said)?
                )));
            }
            thread::sleep(LOOK);
        }
        Ok(())
    }

    /// Kills it; all that it has told until then.
    pub(super) fn kill(mut self) -> Result<Ledger> {
        // It may have ended by itself.
        let _ = self.child.kill();
        self.child.wait().map_err(failure::at(&self.said))?;
        self.told()
    }

    /// Waits until it ends by itself: all that it has told, and whether it ended well.
    pub(super) fn end(mut self) -> Result<(Ledger, bool)> {
        if !wait(&mut self.child, PATIENCE) {
            return Err(Failure::DidNotHold(format!(
                "the writer has not ended within {PATIENCE:?}"
            )));
        }
        let status = self.child.wait().map_err(failure::at(&self.said))?;
        Ok((self.told()?, status.success()))
    }

    fn told(&mut self) -> Result<Ledger> {
        let reader = self.reader.take();
        reader
            .and_then(|reader| reader.join().ok())
            .ok_or_else(|| unexpected("no reader"))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
        // Whoever holds the other end of the pipe, a tracer too, has ended once the reader has.
        let _ = self.told();
    }
}

fn add_people(command: &mut Command) {
    command
        .args(["--senders", &SENDERS.to_string()])
        .args(["--inboxes", &INBOXES.to_string()])
        .args(["--window", &WINDOW.to_string()]);
}

/// Starts a program whose output is read; what it says besides goes to a file, `alone` or behind what was said before.
fn start(command: &mut Command, said: &Path, alone: bool) -> Result<Child> {
    let mut options = OpenOptions::new();
    let options = match alone {
        true => options.write(true).truncate(true),
        false => options.append(true),
    };
    let file = options.create(true).open(said).map_err(failure::at(said))?;
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(file)
        .spawn()
        .map_err(|source| Failure::Start {
            program: command.get_program().to_string_lossy().into_owned(),
            source,
        })
}

/// Hands on every whole line: the last one may have been cut off when its writer was killed, and then says nothing.
fn each_line(output: ChildStdout, mut take: impl FnMut(&str)) {
    let mut reader = BufReader::new(output);
    let mut line = String::new();
    while let Ok(1..) = reader.read_line(&mut line) {
        let Some(whole) = line.strip_suffix('\n') else {
            return;
        };
        take(whole);
        line.clear();
    }
    // Nobody waits for a pipe to be emptied.
    let _ = reader.read_to_end(&mut Vec::new());
}

/// Waits until a program has ended; whether it has.
fn wait(child: &mut Child, patience: Duration) -> bool {
    let deadline = Instant::now() + patience;
    loop {
        // A child that can't be waited for is gone.
        if !matches!(child.try_wait(), Ok(None)) {
            return true;
        }
        if Instant::now() > deadline {
            return false;
        }
        thread::sleep(LOOK);
    }
}

/// How a program has ended that did not do what it was to, by what it said.
fn ending_of(said: &Path) -> Result<Ending> {
    let text = fs::read(said).map_err(failure::at(said))?;
    let text = String::from_utf8_lossy(&text);
    let last = text.trim_end().lines().next_back().unwrap_or_default();
    Ok(match text.contains("panicked at") {
        true => Ending::Panicked(last.to_owned()),
        false => Ending::Told(last.to_owned()),
    })
}

fn last_line(said: &Path) -> Result<String> {
    Ok(match ending_of(said)? {
        Ending::Told(line) | Ending::Panicked(line) => line,
        Ending::Whole | Ending::Hung => String::new(),
    })
}

/// Runs a command to its end; the numbers behind `word` in the last line that it printed.
pub(super) fn numbers_of(command: &mut Command, word: &str) -> Result<Vec<u64>> {
    let printed = command.captured()?;
    numbers_behind(&printed, word)
}

/// The numbers behind `word` in the last line.
pub(super) fn numbers_behind(printed: &str, word: &str) -> Result<Vec<u64>> {
    let last = printed.lines().next_back().unwrap_or_default();
    let numbers = last
        .strip_prefix(word)
        .ok_or_else(|| unexpected(last))?
        .split_whitespace();
    numbers
        .map(|number| number.parse().map_err(|_| unexpected(last)))
        .collect()
}

/// The program printed something else than it should.
pub(super) fn unexpected(what: &str) -> Failure {
    Failure::Unexpected {
        program: "torture".to_owned(),
        what: what.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the numbers of a report are read, and anything else is told. Method: one of each.
    #[test]
    fn numbers_of_a_report() {
        let numbers = |printed| numbers_behind(printed, "opened ");
        assert_eq!(numbers("w 50\nopened 12 1000\n").unwrap(), [12, 1000]);
        assert!(numbers("opened 12 a").is_err());
        assert!(numbers("").is_err());
    }
}
