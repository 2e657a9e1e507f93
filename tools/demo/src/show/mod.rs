//! The show, act by act.

mod conversation;
mod keep;
mod kills;
mod peering;
mod refusals;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use entente_sdk::ids::RoomId;
use tokio::signal::unix::{SignalKind, signal};

use crate::arguments::Arguments;
use crate::display::Display;
use crate::failure::{Failure, Result, While};
use crate::homeserver::Homeserver;
use crate::person::Person;
use crate::ports::Ports;
use crate::record::{Record, checker_notices, tally};
use crate::summary::Summary;

/// Everything on stage.
struct Stage<'a> {
    display: &'a Display,
    record: Record,
    folder: PathBuf,
    /// `a.example`, `b.example`: partners.
    a: Homeserver,
    b: Homeserver,
    /// `c.example`: a stranger to both.
    c: Homeserver,
    /// How often each refusal came, by its code.
    refused: BTreeMap<String, u64>,
    kills: u64,
}

/// Alice of a.example, Bob of b.example, and their conversation.
struct Couple {
    alice: Person,
    bob: Person,
    room: RoomId,
}

/// Plays the show in a temporary folder and draws the conclusions.
pub(crate) async fn run(arguments: &Arguments, display: &Display) -> Result {
    let folder = tempfile::Builder::new()
        .prefix("entente-demo-")
        .tempdir()
        .while_to("make a temporary folder")?;
    // Whatever ends first, the homeservers end with it.
    let played = play(arguments, display, folder.path(), stopped()?).await;
    if played.as_ref().is_err_and(|failure| !failure.is_stop()) {
        // Whoever looks for the cause finds everything as it was.
        let kept = folder.keep();
        display.note(&format!("logs and stores are kept in {}", kept.display()));
    }
    played
}

async fn play(
    arguments: &Arguments,
    display: &Display,
    folder: &Path,
    stopped: impl Future<Output = ()>,
) -> Result {
    let programs = programs(arguments)?;
    let mut stopped = std::pin::pin!(stopped);
    let played = async {
        let mut stage = Stage::set(display, &programs, folder).await?;
        let played = stage.play(arguments.messages).await;
        let summary = played.map_err(|failure| stage.with_logs(failure))?;
        Ok((stage, summary))
    };
    let (mut stage, summary) = tokio::select! {
        played = played => played?,
        () = &mut stopped => return Err(Failure::stopped()),
    };
    print(&format!("\n{}", summary.in_words()))?;
    let verdict = summary.verdict();
    if arguments.keep && verdict.is_ok() {
        stage.how_to_chat(&programs).await?;
        stopped.await;
    }
    if arguments.json {
        print(&summary.json()?)?;
    }
    verdict.map_err(|failure| stage.with_logs(failure))
}

impl<'a> Stage<'a> {
    /// Initialises and starts the three homeservers.
    async fn set(display: &'a Display, programs: &Path, folder: &Path) -> Result<Self> {
        display.act("Three organisations, each with its own homeserver");
        let mut ports = Ports::new();
        let mut servers = Vec::new();
        for name in ["a.example", "b.example", "c.example"] {
            let started = async {
                let mut server = Homeserver::init(name, programs, folder, &mut ports).await?;
                server.start().await?;
                Ok(server)
            };
            let title = format!("{name} makes its own keys and root, and starts");
            servers.push(display.step(&title, started).await?);
        }
        let mut servers = servers.into_iter();
        let (Some(a), Some(b), Some(c)) = (servers.next(), servers.next(), servers.next()) else {
            return Err(Failure::new("a homeserver is missing"));
        };
        Ok(Self {
            display,
            record: Record::new(),
            folder: folder.to_owned(),
            a,
            b,
            c,
            refused: BTreeMap::new(),
            kills: 0,
        })
    }

    async fn play(&mut self, messages: u64) -> Result<Summary> {
        self.peering().await?;
        let couple = self.conversation().await?;
        self.refusals(&couple).await?;
        self.kills(&couple, messages).await?;
        self.last_look(&couple).await?;
        let entries = self.record.entries();
        checker_notices(&entries)?;
        Summary::new(&tally(&entries), self.refused.clone(), self.kills)
    }

    /// Names the logs of a and b, unless the failure names one already.
    fn with_logs(&mut self, failure: Failure) -> Failure {
        // A homeserver that has ended by itself is the better explanation.
        for server in [&mut self.a, &mut self.b, &mut self.c] {
            if let Err(ended) = server.must_be_running() {
                return Failure::new(format!("{failure}; {ended}"));
            }
        }
        if failure.has_log() {
            return failure;
        }
        failure.with_log(self.a.log()).with_log(self.b.log())
    }
}

/// Ctrl-C, or another polite request to stop.
fn stopped() -> Result<impl Future<Output = ()>> {
    let listen = |kind| signal(kind).while_to("listen for signals");
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut terminate = listen(SignalKind::terminate())?;
    let mut hang_up = listen(SignalKind::hangup())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hang_up.recv() => {}
        }
    })
}

/// The folder with the binaries; every one must be there.
fn programs(arguments: &Arguments) -> Result<PathBuf> {
    let folder = match &arguments.bin_dir {
        Some(folder) => folder.clone(),
        None => std::env::current_exe()
            .while_to("find this program's folder")?
            .parent()
            .map(Path::to_owned)
            .ok_or_else(|| Failure::new("this program lies in no folder"))?,
    };
    let folder = folder
        .canonicalize()
        .while_to(format!("find {}", folder.display()))?;
    for program in ["homeserver", "hsctl", "chat"] {
        let path = folder.join(program);
        if !path.is_file() {
            return Err(Failure::new(format!(
                "there is no {}: build it, or run `cargo demo`, which does",
                path.display()
            )));
        }
    }
    Ok(folder)
}

/// To standard output.
fn print(text: &str) -> Result {
    writeln!(std::io::stdout().lock(), "{text}").while_to("print")
}
