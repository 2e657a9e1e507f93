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
/// And in the control, where all that is accepted again is to find room in the peer's share of an inbox.
const CAPTURED_IN_CONTROL: u32 = 1_000;
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
        // It stands for another machine: what it computes itself takes nothing from the homeserver and its other peers.
        let mut child = Command::new("nice")
            .args(["-n", "19"])
            .arg(ground.binaries.join("conformance"))
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
                program: "nice conformance".to_owned(),
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

/// What became of the envelopes that were sent again in one way.
#[derive(Debug, Default, Clone, Copy, Deserialize)]
struct Way {
    accepted: u64,
    /// Known, each by its position.
    duplicate: u64,
    refused: u64,
    /// Refused with their whole transaction.
    refused_whole: u64,
    /// Put off, each alone.
    deferred: u64,
    /// Put off with their whole transaction, or not answered: nobody has looked at them.
    not_judged: u64,
}

impl Way {
    fn sent(&self) -> u64 {
        let all = [
            self.accepted,
            self.duplicate,
            self.refused,
            self.refused_whole,
            self.deferred,
            self.not_judged,
        ];
        all.into_iter().fold(0, u64::saturating_add)
    }
}

/// How a way to send again must end for every envelope.
#[derive(Clone, Copy)]
enum End {
    /// It is known.
    Known,
    /// Its whole transaction is refused.
    Refused,
    /// It is not taken; the server may wait for a key that no manifest lists.
    NotTaken,
}

/// Every way, as the hostile peer calls it.
const WAYS: [(&str, End); 9] = [
    ("same link", End::Known),
    ("same link, last first", End::Known),
    ("another connection", End::Known),
    ("another peer's link", End::Refused),
    ("another peer's link, signed by that peer", End::Refused),
    ("after a restart", End::Known),
    ("after a new key", End::Known),
    ("signed anew with the new key", End::Known),
    ("after the old key has ended", End::NotTaken),
];

impl Replays {
    /// All were judged in every way, and none was accepted.
    fn holds(&self) -> bool {
        self.captured == u64::from(CAPTURED)
            && self.ways.len() == WAYS.len()
            && WAYS.iter().all(|(name, end)| {
                self.ways.get(*name).is_some_and(|way| match end {
                    End::Known => way.duplicate == self.captured && way.sent() == self.captured,
                    End::Refused => {
                        way.refused_whole == self.captured && way.sent() == self.captured
                    }
                    End::NotTaken => way.accepted == 0 && way.sent() == self.captured,
                })
            })
    }

    /// Something that had been accepted was accepted again.
    fn accepts_again(&self) -> bool {
        self.ways.values().any(|way| way.accepted > 0)
    }
}

impl std::fmt::Display for Replays {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} captured; sent again:", self.captured)?;
        for (name, way) in &self.ways {
            write!(f, " {name}:")?;
            for (count, what) in [
                (way.accepted, "accepted"),
                (way.duplicate, "known"),
                (way.refused, "refused"),
                (way.refused_whole, "refused whole"),
                (way.deferred, "put off"),
                (way.not_judged, "not judged"),
            ] {
                if count > 0 || what == "accepted" {
                    write!(f, " {count} {what}")?;
                }
            }
            f.write_str(";")?;
        }
        Ok(())
    }
}

/// Ten thousand captured envelopes are sent again in every way.
pub(super) fn replay(ground: &Ground<'_>) -> Result<Check> {
    const FAULT: &str = "accept-again";
    let run = |name: &str, fault: Option<&'static str>| -> Result<Replays> {
        let count = if fault.is_some() {
            CAPTURED_IN_CONTROL
        } else {
            CAPTURED
        };
        let mut victim = Victim::of(ground, name, fault, "replay", count)?;
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
             connection, another peer's link, after SIGKILL and restart, and after the keys have changed: accepted 0, and every one \
             was looked at, on its own link as one that is known"
        ),
        got: with.to_string(),
        ok: Some(with.holds()),
        control: Some(Control {
            without: FAULT,
            got: without.to_string(),
            // It counts as noticed for its own reason alone.
            ok: !without.accepts_again(),
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
    /// How many of them the device's client got out of its inbox, afterwards.
    #[serde(default)]
    in_inbox: u64,
}

impl Poison {
    fn holds(&self) -> bool {
        self.sent == u64::from(WITH_POISON)
            && self.accepted == self.sent.saturating_sub(1)
            && self.in_inbox == self.accepted
            && self.refused == 1
            && self.took_ms <= POISON_MAX_MS
    }
}

impl std::fmt::Display for Poison {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "of {} sent {} accepted, {} refused, {} not taken, in {} ms; {} were in the inbox then",
            self.sent, self.accepted, self.refused, self.not_taken, self.took_ms, self.in_inbox
        )
    }
}

/// One bad envelope among ten thousand of one lane.
pub(super) fn poison(ground: &Ground<'_>) -> Result<Check> {
    const FAULT: &str = "poison-blocks";
    let run = |name: &str, fault: Option<&'static str>| -> Result<Poison> {
        let mut victim = Victim::of(ground, name, fault, "poison", WITH_POISON)?;
        let mut found: Poison = victim.peer.figures()?;
        // Not a message of these can be read: the client says so of each, and of the welcome to their room.
        let welcome = 1;
        let count = found.accepted.saturating_add(welcome);
        let heard = victim.bob.hear_unreadable(count)?;
        found.in_inbox = heard.saturating_sub(welcome);
        Ok(found)
    };
    let with = run("o", None)?;
    let without = run("o0", Some(FAULT))?;
    Ok(Check {
        id: "poison-holds-up-nothing",
        must: format!(
            "{WITH_POISON} envelopes of one lane, one of which can't be read: it is refused alone, and all others are \
             accepted within {POISON_MAX_MS} ms and in their device's inbox then"
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

#[cfg(test)]
mod tests {
    use super::*;

    /// As it should be.
    fn good() -> Replays {
        let captured = u64::from(CAPTURED);
        let ways = WAYS.map(|(name, end)| {
            let mut way = Way::default();
            match end {
                End::Known => way.duplicate = captured,
                End::Refused => way.refused_whole = captured,
                End::NotTaken => way.not_judged = captured,
            }
            (name.to_owned(), way)
        });
        Replays {
            captured,
            ways: ways.into(),
        }
    }

    /// Goal: what nobody has looked at does not count as a replay that was not accepted. Method: one envelope of each
    /// way with another end, ways that are missing, and a control that was only slow.
    #[test]
    fn every_replay_is_looked_at() {
        assert!(good().holds());
        for (name, end) in WAYS {
            let mut accepted = good();
            let mut put_off = good();
            if let (Some(accepted), Some(put_off)) =
                (accepted.ways.get_mut(name), put_off.ways.get_mut(name))
            {
                accepted.accepted = 1;
                *put_off = Way {
                    not_judged: u64::from(CAPTURED),
                    ..Way::default()
                };
            }
            assert!(!accepted.holds(), "{name}");
            assert!(accepted.accepts_again(), "{name}");
            assert_eq!(put_off.holds(), matches!(end, End::NotTaken), "{name}");
            assert!(!put_off.accepts_again(), "{name}");
            let mut missing = good();
            missing.ways.remove(name);
            assert!(!missing.holds(), "{name}");
        }
        assert!(
            good()
                .to_string()
                .contains("same link: 0 accepted 10000 known;")
        );
    }

    /// Goal: all that was accepted has to be in the inbox. Method: one that is missing there.
    #[test]
    fn receipts_alone_are_no_delivery() {
        let mut found = Poison {
            sent: 10_000,
            accepted: 9_999,
            refused: 1,
            not_taken: 0,
            took_ms: 1_000,
            in_inbox: 9_999,
        };
        assert!(found.holds());
        found.in_inbox = 9_998;
        assert!(!found.holds());
    }
}
