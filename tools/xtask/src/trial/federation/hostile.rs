//! A peer that sends everything again, or hides one bad envelope among good ones; and what every hostile peer is.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde::Deserialize;

use super::super::checks::{Check, Control};
use super::super::ground::Ground;
use super::super::homeserver::{Homeserver, Plan, read};
use super::super::person::Person;
use crate::conformance::operator;
use crate::failure::{Failure, Result};
use crate::ports::free_address;

/// The hostile peer's name.
pub(super) const PEER: &str = "hostile.example";
/// Envelopes that are captured and sent again.
const CAPTURED: u32 = 10_000;
/// Envelopes of which one can't be read, and how long the others may take.
const WITH_POISON: u32 = 10_000;
const POISON_MAX_MS: u64 = 1_000;

/// A homeserver with one person, whom a hostile peer writes to.
pub(super) struct Victim {
    pub(super) server: Homeserver,
    pub(super) peer: Misbehaving,
    pub(super) bob: Person,
}

/// The hostile peer's process; killed when dropped.
pub(super) struct Misbehaving {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Misbehaving {
    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        match self.output.read_line(&mut line) {
            Ok(1..) => Ok(line.trim().to_owned()),
            Ok(0) => Err(unexpected("it ended too early")),
            Err(error) => Err(unexpected(&error.to_string())),
        }
    }

    pub(super) fn hears(&mut self, expected: &str) -> Result {
        let line = self.line()?;
        if line == expected {
            Ok(())
        } else {
            Err(unexpected(&line))
        }
    }

    pub(super) fn tell(&mut self, line: &str) -> Result {
        writeln!(self.input, "{line}")
            .and_then(|()| self.input.flush())
            .map_err(|error| unexpected(&error.to_string()))
    }

    pub(super) fn figures<T: serde::de::DeserializeOwned>(&mut self) -> Result<T> {
        read("conformance misbehave", &self.line()?)
    }
}

impl Drop for Misbehaving {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(super) fn unexpected(what: &str) -> Failure {
    Failure::Unexpected {
        program: "conformance misbehave".to_owned(),
        what: what.to_owned(),
    }
}

#[derive(Deserialize)]
struct User {
    account: String,
    device_list: Vec<Device>,
}

#[derive(Deserialize)]
struct Device {
    device: String,
}

impl Victim {
    pub(super) fn of(
        ground: &Ground<'_>,
        name: &str,
        fault: Option<&'static str>,
        how: &str,
        count: u32,
    ) -> Result<Self> {
        let folder = ground.folder(name)?;
        let server = Homeserver::start_new(Plan {
            name: "a.example",
            binaries: &ground.binaries,
            program: &ground.homeserver(fault),
            fault,
            namespace: None,
            client: free_address()?.to_string(),
            federation: free_address()?.to_string(),
            folder: folder.join("a"),
        })?;
        let bob = Person::enrol(&server, "bob", &ground.binaries)?;
        let user: User = read("hsctl user show", &server.hsctl(&["user", "show", "bob"])?)?;
        let [device] = user.device_list.as_slice() else {
            return Err(Failure::DidNotHold("Bob has one device".to_owned()));
        };
        let operator: PathBuf = operator(&ground.binaries, &server, &folder, None)?;
        let mut child = Command::new(ground.binaries.join("conformance"))
            .args(["misbehave", how, "--peer", PEER, "--server", server.name])
            .args(["--address", &server.federation])
            .args(["--account", &user.account, "--device", &device.device])
            .args(["--count", &count.to_string(), "--exchange"])
            .arg(&folder)
            .arg("--operator")
            .arg(operator)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|source| Failure::Start {
                program: "conformance".to_owned(),
                source,
            })?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(unexpected("no pipe"));
        };
        let peer = Misbehaving {
            child,
            input,
            output: BufReader::new(output),
        };
        Ok(Self { server, peer, bob })
    }
}

/// What was sent again, by way.
#[derive(Debug, Deserialize)]
struct Replays {
    captured: u64,
    ways: BTreeMap<String, Way>,
}

#[derive(Debug, Deserialize)]
struct Way {
    replayed: u64,
    accepted: u64,
}

impl Replays {
    fn holds(&self) -> bool {
        self.captured == u64::from(CAPTURED)
            && !self.ways.is_empty()
            && self
                .ways
                .values()
                .all(|way| way.replayed == self.captured && way.accepted == 0)
    }
}

impl std::fmt::Display for Replays {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} captured; accepted again:", self.captured)?;
        for (way, found) in &self.ways {
            write!(f, " {way} {}/{};", found.accepted, found.replayed)?;
        }
        Ok(())
    }
}

/// Ten thousand captured envelopes are sent again in every way.
pub(super) fn replay(ground: &Ground<'_>) -> Result<Check> {
    const FAULT: &str = "accept-again";
    let run = |name: &str, fault: Option<&'static str>| -> Result<Replays> {
        let mut victim = Victim::of(ground, name, fault, "replay", CAPTURED)?;
        victim.peer.hears("restart")?;
        victim.server.kill()?;
        victim.server.start()?;
        victim.peer.tell("restarted")?;
        victim.peer.figures()
    };
    let with = run("y", None)?;
    let without = run("y0", Some(FAULT))?;
    Ok(Check {
        id: "replays-are-not-accepted",
        must: format!(
            "{CAPTURED} envelopes that were accepted are sent again over the same link in order and backwards, another \
             connection, another peer's link, after SIGKILL and restart, and after the keys have changed: accepted 0"
        ),
        got: with.to_string(),
        ok: Some(with.holds()),
        control: Some(Control {
            without: FAULT,
            got: without.to_string(),
            ok: without.holds(),
        }),
    })
}

/// What became of many with one that is poison.
#[derive(Debug, Deserialize)]
struct Poison {
    sent: u64,
    accepted: u64,
    refused: u64,
    not_taken: u64,
    took_ms: u64,
}

impl Poison {
    fn holds(&self) -> bool {
        self.sent == u64::from(WITH_POISON)
            && self.accepted == self.sent.saturating_sub(1)
            && self.refused == 1
            && self.took_ms <= POISON_MAX_MS
    }
}

impl std::fmt::Display for Poison {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "of {} sent {} delivered, {} refused, {} not taken, in {} ms",
            self.sent, self.accepted, self.refused, self.not_taken, self.took_ms
        )
    }
}

/// One bad envelope among ten thousand of one lane.
pub(super) fn poison(ground: &Ground<'_>) -> Result<Check> {
    const FAULT: &str = "poison-blocks";
    let run = |name: &str, fault: Option<&'static str>| -> Result<Poison> {
        Victim::of(ground, name, fault, "poison", WITH_POISON)?
            .peer
            .figures()
    };
    let with = run("o", None)?;
    let without = run("o0", Some(FAULT))?;
    Ok(Check {
        id: "poison-holds-up-nothing",
        must: format!(
            "{WITH_POISON} envelopes of one lane, one of which can't be read: it is refused alone, and all others are in \
             their device's inbox within {POISON_MAX_MS} ms"
        ),
        got: with.to_string(),
        ok: Some(with.holds()),
        control: Some(Control {
            without: FAULT,
            got: without.to_string(),
            // A slow machine is no sign that the control was noticed: what counts is what was held up.
            ok: without.not_taken == 0,
        }),
    })
}
