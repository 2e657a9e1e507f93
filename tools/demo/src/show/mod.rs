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
use crate::record::{Record, Tally, checker_notices, tally};
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

/// Two people and their conversation: Alice of a.example and Bob of b.example, or two of c.example.
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
    let mut stopped = std::pin::pin!(stopped);
    let set = async { Stage::set(display, &programs(arguments)?, folder).await };
    let set = tokio::select! {
        set = set => set,
        () = &mut stopped => Err(Failure::stopped()),
    };
    let mut stage = match set {
        Ok(stage) => stage,
        Err(failure) => {
            let nothing = Summary::new(&Tally::default(), BTreeMap::new(), 0)?;
            return conclude(arguments, &nothing).and(Err(failure));
        }
    };
    let played = tokio::select! {
        played = stage.play(arguments.messages) => played,
        () = &mut stopped => Err(Failure::stopped()),
    };
    // Counted also when an act failed: what was lost then is what whoever looks for the cause needs.
    let summary = stage.summary()?;
    print(&format!("\n{}", summary.in_words()))?;
    let mut held = played.and_then(|()| summary.verdict());
    let keep = arguments.keep && held.is_ok();
    if keep {
        held = tokio::select! {
            told = async { stage.how_to_chat(&programs(arguments)?).await } => told,
            () = &mut stopped => Err(Failure::stopped()),
        };
    }
    conclude(arguments, &summary)?;
    if keep && held.is_ok() {
        stopped.await;
    }
    held.map_err(|failure| stage.with_logs(failure))
}

/// The last line, whatever came before.
fn conclude(arguments: &Arguments, summary: &Summary) -> Result {
    if arguments.json {
        print(&summary.json()?)?;
    }
    Ok(())
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

    async fn play(&mut self, messages: u64) -> Result {
        self.peering().await?;
        let couple = self.conversation().await?;
        self.refusals(&couple).await?;
        let neighbours = self.neighbours().await?;
        self.kills(&[&couple, &neighbours], messages).await?;
        self.last_look(&[&couple, &neighbours]).await?;
        checker_notices(&self.record.entries())
    }

    /// What the record says so far.
    fn summary(&self) -> Result<Summary> {
        Summary::new(
            &tally(&self.record.entries()),
            self.refused.clone(),
            self.kills,
        )
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
