//! `chat talk`: one conversation, live.
//!
//! On a terminal the line being typed stays at the bottom and messages appear above it; with
//! standard input or output elsewhere each line read is sent and each message printed, so that it
//! can be scripted. Both share what typing and events mean.

mod editor;
mod input;
mod keys;
mod screen;
mod shown;
mod under_way;

use std::collections::BTreeSet;
use std::io::IsTerminal as _;
use std::time::Duration;

use entente_sdk::ids::{Address, RoomId};
use entente_sdk::{Body, Bounds, Client, Event, Events, MessageId, Progress, SendOptions};
use tokio::time::Instant;

use crate::cli::{self, Common};
use crate::commands::{history, reader, start};
use crate::device;
use crate::failure::{Failure, Result};
use crate::place::{self, Place};
use crate::show::clock::heading;
use crate::show::duration::{describe_seconds, parse_seconds};
use crate::show::event;
use crate::show::message::{MessageObject, Reader, Saving};
use crate::show::output::Output;
use crate::show::safe;
use crate::talk::input::{Input, Line};
use crate::talk::screen::Screen;
use crate::talk::shown::{Shown, by_time, passed_over};
use crate::talk::under_way::UnderWay;

pub(crate) async fn run(common: &Common, arguments: &cli::Talk, output: &Output) -> Result {
    let client = device::open(common).await?;
    let outcome = async {
        let known = client.last_number().await?;
        let room = match place::find(&client, &arguments.with).await? {
            Some(room) => room,
            None => {
                device::wait_connected(&client, device::timeout(common)).await?;
                start::find_or_start(common, &client, &arguments.with, output).await?
            }
        };
        let events = client.events();
        client.connect();
        // A new conversation needed the session, so that it may stand already: then no event will tell.
        let stands = tokio::time::timeout(Duration::ZERO, client.connected()).await;
        let online = matches!(stands, Ok(Ok(())));
        let interactive =
            std::io::stdin().is_terminal() && std::io::stdout().is_terminal() && !output.json;
        let mut talk = Talk {
            client: &client,
            room,
            with: match &arguments.with {
                Place::With(address) => Some(address),
                Place::Room(_) => None,
            },
            rooms: BTreeSet::from([room]),
            options: arguments.options.send_options(),
            reader: Reader {
                saving: Saving::InTalk,
                ..reader(&client, output)
            },
            output,
            screen: if interactive {
                Some(Screen::open()?)
            } else {
                None
            },
            under_way: UnderWay::default(),
            failures: 0,
            online,
            shown: Shown::default(),
            day: None,
        };
        talk.find_rooms().await?;
        talk.history(known).await?;
        talk.run(events, device::timeout(common)).await
    }
    .await;
    device::close(&client, output).await;
    outcome
}

struct Talk<'a> {
    client: &'a Client,
    /// Where what is typed goes.
    room: RoomId,
    /// Whom the conversation is with, unless a room was named.
    with: Option<&'a Address>,
    /// What is shown: every conversation of two with him, or the room that was named.
    rooms: BTreeSet<RoomId>,
    options: SendOptions,
    reader: Reader,
    output: &'a Output,
    screen: Option<Screen>,
    /// Own messages that the homeserver has not taken yet.
    under_way: UnderWay,
    /// Lines that were not carried out, and own messages that did not get through.
    failures: u32,
    online: bool,
    shown: Shown,
    day: Option<time::Date>,
}

/// What follows a line.
enum Next {
    GoOn,
    Leave,
}

impl Talk<'_> {
    async fn run(&mut self, mut events: Events, linger: Duration) -> Result {
        let mut input = Input::start(self.screen.is_some())?;
        self.prompt()?;
        loop {
            tokio::select! {
                line = input.next() => match line {
                    Line::Keys(bytes) => {
                        let screen = self.screen.as_mut();
                        let typed = screen.map_or_else(Vec::new, |screen| screen.keys(&bytes));
                        for typed in typed {
                            match typed {
                                keys::Typed::Line(line) => {
                                    if matches!(self.typed(&line).await?, Next::Leave) {
                                        return Ok(());
                                    }
                                }
                                keys::Typed::Leave => return Ok(()),
                            }
                        }
                        self.prompt()?;
                    }
                    Line::Text(line) => {
                        if matches!(self.typed(&line).await?, Next::Leave) {
                            break;
                        }
                    }
                    Line::Bad(why) => self.alarm(&Failure::new("input", why))?,
                    Line::End => break,
                },
                event = events.next() => {
                    let Some(event) = event else { return Err(behind()) };
                    self.event(&event).await?;
                    self.prompt()?;
                }
                () = reached(self.under_way.next_due()) => {
                    self.waiting(Some(Instant::now())).await?;
                    self.prompt()?;
                }
                _ = tokio::signal::ctrl_c() => return Ok(()),
            }
        }
        let taken = self.finish(&mut events, linger).await;
        if self.failures > 0 && self.screen.is_none() {
            return Err(Failure::new(
                "not-all-done",
                format!(
                    "{} of the lines or messages did not get through: the errors above say why.",
                    self.failures
                ),
            ));
        }
        taken
    }

    /// After the last line of a script: what it sent must be taken before the program ends.
    async fn finish(&mut self, events: &mut Events, linger: Duration) -> Result {
        let until = tokio::time::sleep(linger);
        tokio::pin!(until);
        while self.under_way.count() > 0 {
            tokio::select! {
                event = events.next() => match event {
                    Some(event) => self.event(&event).await?,
                    None => return Err(behind()),
                },
                () = reached(self.under_way.next_due()) => {
                    self.waiting(Some(Instant::now())).await?;
                }
                () = &mut until => {
                    self.waiting(None).await?;
                    return Err(Failure::not_now(
                        "waiting",
                        format!(
                            "{} messages are kept on this device and go out the next time chat \
                             connects; don't send them again.",
                            self.under_way.count()
                        ),
                    ));
                }
            }
        }
        Ok(())
    }

    /// Looks which conversations with the other one there are; what is typed goes where both look for it.
    async fn find_rooms(&mut self) -> Result<bool> {
        let Some(address) = self.with else {
            return Ok(false);
        };
        self.rooms = place::all_with(self.client, address).await?;
        let first = self.rooms.first().copied().unwrap_or(self.room);
        self.rooms.insert(self.room);
        let moved = first != self.room;
        self.room = first;
        Ok(moved)
    }

    /// Shows the end of the conversation; `known` is the last number from before this session.
    async fn history(&mut self, known: u64) -> Result {
        let rooms = self.client.rooms().await?;
        if let Some(room) = rooms.iter().find(|room| room.room == self.room) {
            let names: Vec<String> = room
                .addresses
                .iter()
                .map(|address| self.reader.name(address))
                .collect();
            self.faint(&format!(
                "{} · end-to-end encrypted · ordered by {} · /help for more, Ctrl-D to leave",
                names.join(", "),
                room.hub
            ))?;
        }
        let mut history = Vec::new();
        for room in &self.rooms {
            history.push(self.client.history(*room).await?);
        }
        let history = by_time(history);
        // What came with a history of another device is old, whenever it came.
        let numbers = history.iter().map(|message| match message.from_history {
            true => 0,
            false => message.number,
        });
        let numbers: Vec<u64> = numbers.collect();
        self.shown.history(numbers.iter().copied());
        let skipped = passed_over(numbers.into_iter(), known);
        for message in history.into_iter().skip(skipped) {
            if message.progress == Progress::Waiting {
                self.under_way.shown(message.id);
            }
            self.message(&message).await?;
        }
        Ok(())
    }

    async fn event(&mut self, event: &Event) -> Result {
        match event {
            Event::Connected => self.online = true,
            Event::Disconnected { .. } => {
                self.online = false;
                self.waiting(None).await?;
            }
            Event::Message(message)
                if self.rooms.contains(&message.room) && self.shown.lacks(message.number) =>
            {
                return self.message(message).await;
            }
            Event::Accepted { message, .. } => {
                self.output.object(&event::object(event))?;
                return match self.under_way.decided(*message) {
                    Some(shown) => self.decided(*message, shown).await,
                    None => Ok(()),
                };
            }
            Event::Refused { message, .. } | Event::Returned { message, .. } => {
                self.output.object(&event::object(event))?;
                // What was not under way any more was shown when it was accepted.
                let shown = self.under_way.decided(*message).unwrap_or(true);
                if let Some(message) = history::if_there(self.client, *message).await?
                    && self.rooms.contains(&message.room)
                {
                    self.failures += 1;
                    return self.decided(message.id, shown).await;
                }
                return Ok(());
            }
            Event::Deleted { message, .. } => drop(self.under_way.decided(*message)),
            Event::MembersChanged { room, .. }
            | Event::RoomLeft { room }
            | Event::RoomOver { room, .. }
            | Event::RoomRenamed { room, .. }
            | Event::RoomContinues { room, .. }
            | Event::RoomOutOfStep { room, .. }
            | Event::RoomResynced { room, .. }
            | Event::Unreadable { room, .. }
            | Event::MessagesMissing { room, .. }
            | Event::OutOfOrder { room, .. }
            | Event::RoomForked { room, .. }
            | Event::Held { room, .. }
                if self.rooms.contains(room) =>
            {
                if let Some(news) = event::news(event, self.output.clock) {
                    self.faint(&news)?;
                }
            }
            Event::RoomJoined { .. } if self.find_rooms().await? => {
                self.faint("You have both begun a conversation: what you send now goes into one of the two.")?;
            }
            Event::Contact { .. }
            | Event::DevicesChanged { .. }
            | Event::AddressChanged { .. }
            | Event::DevicesRefused { .. } => {
                if let Some(news) = event::news(event, self.output.clock) {
                    self.faint(&news)?;
                }
            }
            Event::Message(_) => return Ok(()),
            _ => {}
        }
        self.output.object(&event::object(event))
    }

    /// One line that the user typed: a command or a text to send.
    async fn typed(&mut self, line: &str) -> Result<Next> {
        let text = match line.strip_prefix('/') {
            // A text that begins with a slash is typed with two.
            Some(rest) if rest.starts_with('/') => rest,
            Some(command) => return self.command(command).await,
            None => line,
        };
        if text.trim().is_empty() {
            return Ok(Next::GoOn);
        }
        match self.client.send_text(self.room, text, self.options).await {
            Ok(message) => self.sent(message).await?,
            Err(error) => self.alarm(&error.into())?,
        }
        Ok(Next::GoOn)
    }

    /// An own message that was taken in: printed when it is decided, or when that takes long.
    async fn sent(&mut self, message: MessageId) -> Result {
        let Some(message) = history::if_there(self.client, message).await? else {
            return Ok(());
        };
        // A program is told both, the message and what becomes of it. For a person the event that tells it is
        // waited for, even when it has come already.
        self.output.object(&MessageObject::from(&message))?;
        self.under_way.hidden(message.id, Instant::now());
        if self.online {
            Ok(())
        } else {
            self.waiting(None).await
        }
    }

    /// Shows those own messages as waiting that are due by `now`, or all.
    async fn waiting(&mut self, now: Option<Instant>) -> Result {
        for message in self.under_way.due(now) {
            match history::if_there(self.client, message).await? {
                Some(message) if message.progress == Progress::Waiting => self.lines(&message)?,
                // Its event is on the way.
                Some(_) => self.under_way.hide(message, Instant::now()),
                None => {}
            }
        }
        Ok(())
    }

    /// An own message is decided: what became of it, or the message as a whole when it is not on the screen yet.
    async fn decided(&mut self, message: MessageId, shown: bool) -> Result {
        let Some(message) = history::if_there(self.client, message).await? else {
            return Ok(());
        };
        if !shown {
            return self.lines(&message);
        }
        match self.reader.outcome(&message) {
            Some(line) => self.line(&line),
            None => Ok(()),
        }
    }

    async fn command(&mut self, command: &str) -> Result<Next> {
        let (name, argument) = command.split_once(' ').unwrap_or((command, ""));
        let argument = argument.trim();
        match name {
            "quit" | "q" => return Ok(Next::Leave),
            "help" => {
                for line in HELP {
                    self.faint(line)?;
                }
            }
            "ttl" | "burn" => self.set_time(name, argument).await?,
            "file" if argument.is_empty() => {
                self.alarm(&Failure::new("input", "Name the file: /file PATH."))?
            }
            "file" => {
                let sent = self
                    .client
                    .send_file(self.room, argument, self.options)
                    .await;
                match sent {
                    Ok(message) => self.sent(message).await?,
                    Err(error) => self.alarm(&error.into())?,
                }
            }
            "save" => self.save(argument).await?,
            _ => self.alarm(&Failure::new(
                "input",
                format!(
                    "/{name} is not a command: see /help. A text that begins with a slash is typed \
                     with two."
                ),
            ))?,
        }
        Ok(Next::GoOn)
    }

    async fn set_time(&mut self, name: &str, argument: &str) -> Result {
        let policy = self.client.policy().await?;
        let bounds = policy.map(|policy| match name {
            "ttl" => policy.ttl,
            _ => policy.burn,
        });
        let seconds = match parse_seconds(argument).and_then(|seconds| match bounds {
            Some(bounds) if !bounds.contains(seconds) => Err(out_of_bounds(name, &bounds)),
            _ => Ok(seconds),
        }) {
            Ok(seconds) => seconds,
            Err(sentence) => return self.alarm(&Failure::new("input", sentence)),
        };
        let shown = describe_seconds(u64::from(seconds));
        if name == "ttl" {
            self.options.ttl_seconds = Some(seconds);
            self.faint(&format!("What you send from now on expires after {shown}."))
        } else if seconds == 0 {
            self.options.burn_seconds = Some(0);
            self.faint("What you send from now on does not burn.")
        } else {
            self.options.burn_seconds = Some(seconds);
            self.faint(&format!(
                "What you send from now on burns {shown} after reading."
            ))
        }
    }

    async fn save(&mut self, argument: &str) -> Result {
        let (digits, path) = argument.split_once(' ').unwrap_or((argument, ""));
        let saved = async {
            let message = place::message(self.client, digits).await?;
            let Body::File { name, .. } = &message.body else {
                return Err(Failure::new("no-file", "That message has no file."));
            };
            let path = if path.is_empty() {
                crate::commands::own_name(name)?
            } else {
                path.into()
            };
            self.client.save_file(message.id, &path).await?;
            Ok(path)
        };
        match saved.await {
            Ok(path) => self.faint(&format!("{} is saved.", path.display())),
            Err(failure) => self.alarm(&failure),
        }
    }

    async fn message(&mut self, message: &entente_sdk::Message) -> Result {
        if !history::is_shown(self.client, message).await? {
            return Ok(());
        }
        self.output.object(&MessageObject::from(message))?;
        self.lines(message)
    }

    /// A message for people.
    fn lines(&mut self, message: &entente_sdk::Message) -> Result {
        if self.output.json {
            return Ok(());
        }
        let at_ms = message.accepted_ms.unwrap_or(message.sent_ms);
        let day = self.output.clock.day(at_ms);
        if let Some(today) = day.filter(|_| day != self.day) {
            self.faint(&format!("── {}", heading(today)))?;
        }
        self.day = day;
        for line in self.reader.lines(message) {
            self.line(&line)?;
        }
        Ok(())
    }

    fn faint(&mut self, line: &str) -> Result {
        let line = self.output.paint.faint(line);
        self.line(&line)
    }

    /// Something that was asked for and not done: told at once, and by the exit status of a script.
    fn alarm(&mut self, failure: &Failure) -> Result {
        self.failures += 1;
        self.output.object(&failure.object())?;
        let line = self.output.paint.alarm(&safe::one_line(&failure.sentence));
        self.line(&line)
    }

    fn line(&mut self, line: &str) -> Result {
        match &mut self.screen {
            Some(screen) => screen.above(line),
            None => self.output.line(line),
        }
    }

    fn prompt(&mut self) -> Result {
        let Some(screen) = &mut self.screen else {
            return Ok(());
        };
        let state = match (self.online, self.under_way.count()) {
            (true, 0) => String::new(),
            (true, waiting) => format!("[{waiting} going out] "),
            (false, 0) => "[not connected] ".to_owned(),
            (false, waiting) => format!("[not connected, {waiting} waiting] "),
        };
        screen.prompt(&format!("{state}{}> ", self.reader.address.handle))
    }
}

/// Why a time is not taken: the account's own bounds.
fn out_of_bounds(name: &str, bounds: &Bounds) -> String {
    let length = |seconds: u32| describe_seconds(u64::from(seconds));
    format!(
        "Your account allows /{name} from {} to {}.",
        length(bounds.min_seconds),
        length(bounds.max_seconds)
    )
}

/// Waits until then, or for ever.
async fn reached(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

fn behind() -> Failure {
    Failure::new(
        "behind",
        "The client ended, or this program was too slow for what came in. Run chat talk again; \
         what was sent and not taken yet goes out then.",
    )
}

const HELP: [&str; 7] = [
    "Type a text and press Enter to send it.",
    "/file PATH          send a file",
    "/save ID [PATH]     keep a file that was sent here",
    "/ttl 1d             what you send from now on expires after a day",
    "/burn 30s           what you send from now on burns 30 s after it is read; /burn 0: never",
    "//text              send a text that begins with a slash",
    "/quit or Ctrl-D     leave",
];
