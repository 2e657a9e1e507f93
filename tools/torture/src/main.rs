//! `torture`: drives a store as a homeserver does, and tells what it finds in one. For the trial of the store, which
//! kills it, cuts the power of its disk, lets a sync fail or fills the disk meanwhile.
//!
//! What `write` prints is the record of what it was answered; whoever started it keeps that, out of the reach of
//! everything that is killed. `show` prints what is in a store. Nothing here judges: that is for whoever keeps the record.
//!
//! | line of `write` | |
//! |---|---|
//! | `s SENDER SEQUENCE` | the commit of a message is handed over next |
//! | `a SENDER SEQUENCE` | it was answered: it has to be there from now on |
//! | `d SENDER SEQUENCE` | the commit that acknowledges a message is handed over next |
//! | `r SENDER SEQUENCE` | it was answered: the message must never be there again |
//! | `x SENDER SEQUENCE` | a commit was refused, though its precondition held |
//! | `h SENDER SEQUENCE` | a message waits whose payload is not there |
//! | `w KEY` | what was read at this key (in hexadecimal) was never written there |
//! | `e TEXT` | a commit failed |
//!
//! | line of `show` | |
//! |---|---|
//! | `q INBOX NUMBER SENDER SEQUENCE LIFE` | an item of an inbox |
//! | `p SENDER SEQUENCE LIFE` | a payload |
//! | `c SENDER SEQUENCE` | how far a sender has come |
//! | `t INBOX NUMBER` | the last number of an inbox |
//! | `n INBOX ENTRIES` | how many are counted in an inbox |
//! | `w KEY` | as above |
//! | `end` | that was all |
//!
//! `write`, `show`, `fill`, `drain` and `open` work on a store without keys: what they write reaches the engine as it is. With `--sealed`
//! it is as a homeserver has it; `erase` and `rotate` know no other one.
//!
//! | last line of `erase` and `rotate` | |
//! |---|---|
//! | `erased` and eight numbers | see `erase.rs` |
//! | `rotated WAITING CPU_MS TOOK_MS` | what a rotation has cost |
//!
//! Exit status: 0 done, 1 the store failed or was refused, 2 wrong usage.

mod disk;
mod erase;
mod fill;
mod inbox;
mod keys;
mod message;
mod rotation;
mod sender;
mod show;
mod write;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::{Args, Parser, Subcommand, ValueEnum};
use homeserver::store::engine::open_embedded;
#[cfg(feature = "sled")]
use homeserver::store::engine::sled::SledEngine;
use homeserver::store::{Engine, Store, StoreError};

use crate::sender::People;

/// How long an engine may take to end its threads, and how often that is looked at.
const CLOSING_MAX: Duration = Duration::from_secs(10);
const CLOSING_LOOK: Duration = Duration::from_millis(2);

/// Drives a store as a homeserver does, and tells what it finds in one.
#[derive(Parser)]
#[command(name = "torture", version, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Sends, reads and acknowledges, and prints what was begun and what was answered.
    Write {
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        people: People,
        #[command(flatten)]
        pace: write::Pace,
    },
    /// Prints all that is in the store.
    Show {
        #[command(flatten)]
        place: Place,
    },
    /// Sends messages that nobody acknowledges, prints nothing of each, and at the end how many they were.
    Fill {
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        people: People,
        /// How many, in addition to those that are there.
        #[arg(long)]
        messages: u64,
    },
    /// Acknowledges everything, prints how much that was, and stays until its standard input ends.
    Drain {
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        people: People,
    },
    /// Opens the store, reads the beginning of an inbox, and prints how many milliseconds that took and how many
    /// messages wait in all inboxes.
    Open {
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        people: People,
    },
    /// Writes contents into an empty data folder, deletes every second one, lets a rotation of keys go by, and prints what of them
    /// can be read from the disk.
    Erase {
        #[command(flatten)]
        place: Place,
    },
    /// Acknowledges one message, lets a rotation of keys go by, and prints what that cost.
    Rotate {
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        people: People,
    },
}

/// Which store.
#[derive(Args)]
struct Place {
    /// What it stands on.
    #[arg(long, value_enum)]
    engine: EngineName,
    /// Its folder; made if it is not there.
    #[arg(long, value_name = "DIR")]
    folder: PathBuf,
    /// With keys: then it is a data folder, which has the store and the generations of its keys in it.
    #[arg(long)]
    sealed: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum EngineName {
    /// With the commit log before it.
    Fjall,
    /// fjall alone.
    FjallWithoutLog,
    /// Only in a build with the feature.
    Sled,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| format!("can't start: {error}"))
        .and_then(|runtime| runtime.block_on(run(cli.command)));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(sentence) => {
            eprintln!("error: {sentence}");
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> Result<(), String> {
    match command {
        Command::Write {
            place,
            people,
            pace,
        } => {
            let opened = open(&place).await?;
            write::run(&opened.store, people, pace).await?;
            opened.close().await
        }
        Command::Show { place } => {
            let opened = open(&place).await?;
            show::run(&opened.store).await?;
            opened.close().await
        }
        Command::Fill {
            place,
            people,
            messages,
        } => {
            let opened = open(&place).await?;
            fill::fill(&opened.store, people, messages).await?;
            opened.close().await?;
            say(&format!("filled {messages}\n"));
            Ok(())
        }
        Command::Drain { place, people } => {
            let opened = open(&place).await?;
            let acknowledged = fill::drain(&opened.store, people).await?;
            say(&format!("acknowledged {acknowledged}\n"));
            fill::wait_for_end().await?;
            opened.close().await
        }
        Command::Open { place, people } => {
            let begun = Instant::now();
            let opened = open(&place).await?;
            inbox::read(&opened.store, 0, 0, 100).await?;
            let took = begun.elapsed().as_millis();
            let waiting = inbox::waiting(&opened.store, people).await?;
            say(&format!("opened {took} {waiting}\n"));
            opened.close().await
        }
        Command::Erase { place } => {
            let opened = keys::open(place.engine, &place.folder).await?;
            let found = erase::run(&opened.store, &place.folder).await?;
            opened.close().await?;
            say(&found.line());
            Ok(())
        }
        Command::Rotate { place, people } => {
            let opened = keys::open(place.engine, &place.folder).await?;
            let cost = rotation::run(&opened.store, people).await?;
            opened.close().await?;
            say(&cost);
            Ok(())
        }
    }
}

/// A store that is open.
struct Opened {
    engine: Arc<dyn Engine>,
    store: Store,
}

impl Opened {
    /// Closes it: all its threads have ended when this returns.
    async fn close(self) -> Result<(), String> {
        drop(self.store);
        let begun = Instant::now();
        // The writer's thread lets go of the engine a little after the store is gone.
        while Arc::strong_count(&self.engine) > 1 {
            if begun.elapsed() > CLOSING_MAX {
                return Err(format!("the store is not closed after {CLOSING_MAX:?}"));
            }
            tokio::time::sleep(CLOSING_LOOK).await;
        }
        Ok(())
    }
}

async fn open(place: &Place) -> Result<Opened, String> {
    if place.sealed {
        return keys::open(place.engine, &place.folder).await;
    }
    std::fs::create_dir_all(&place.folder)
        .map_err(|error| format!("{}: {error}", place.folder.display()))?;
    let engine = open_engine(place.engine, &place.folder).map_err(|error| error.to_string())?;
    let engine = spoilt(engine).await.map_err(|error| error.to_string())?;
    let store = Store::new(Arc::clone(&engine)).map_err(|error| error.to_string())?;
    Ok(Opened { engine, store })
}

fn open_engine(name: EngineName, folder: &Path) -> Result<Arc<dyn Engine>, StoreError> {
    match name {
        EngineName::Fjall => open_embedded(folder, true),
        EngineName::FjallWithoutLog => open_embedded(folder, false),
        #[cfg(feature = "sled")]
        EngineName::Sled => Ok(Arc::new(SledEngine::open(folder)?)),
        #[cfg(not(feature = "sled"))]
        EngineName::Sled => Err(StoreError::Engine(
            "this program was built without sled".to_owned(),
        )),
    }
}

/// The engine with the protection off that a test build is told to switch off.
#[cfg(feature = "faults")]
async fn spoilt(engine: Arc<dyn Engine>) -> Result<Arc<dyn Engine>, StoreError> {
    use homeserver::faults::{BufferedEngine, is_on};

    match is_on("answer-before-sync") {
        true => Ok(Arc::new(BufferedEngine::over(engine).await?)),
        false => Ok(engine),
    }
}

/// The engine as it is.
#[cfg(not(feature = "faults"))]
async fn spoilt(engine: Arc<dyn Engine>) -> Result<Arc<dyn Engine>, StoreError> {
    Ok(engine)
}

/// Prints whole lines at once; whoever closed the pipe wants none.
fn say(lines: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(lines.as_bytes()).and_then(|()| out.flush());
}

/// Bytes in words.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
