//! A peer is revoked that does not stop sending, or that takes what it is asked and says nothing.

use std::fmt;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::super::checks::{Check, Control};
use super::super::ground::Ground;
use super::super::homeserver::read;
use super::hostile::{PEER, Victim};
use crate::failure::{Failure, Result};

/// Messages a second of a peer that is to be revoked.
const RATE: u32 = 500;
/// Of which so many must have been accepted: else it was no traffic to stop.
const ACCEPTED_MIN: u64 = 900;
/// The last acceptance, the cut of connections and the return of mail, after the revocation begins.
const HEARD_MAX_MS: u64 = 1_000;
/// How long mail may take into the outbox, and how long its return is waited for.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often is looked whether it is there.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// What a revoked peer saw.
#[derive(Debug, Deserialize)]
struct Stream {
    accepted: u64,
    accepted_after: u64,
    last_accepted_after_ms: u64,
    cut_after_ms: Option<u64>,
    let_in_again: u64,
}

impl Stream {
    fn holds(&self) -> bool {
        self.accepted >= ACCEPTED_MIN
            && self.last_accepted_after_ms <= HEARD_MAX_MS
            && self.cut_after_ms.is_some_and(|after| after <= HEARD_MAX_MS)
            && self.let_in_again == 0
    }
}

impl fmt::Display for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} accepted, {} of them after the revocation began, the last {} ms after; ",
            self.accepted, self.accepted_after, self.last_accepted_after_ms
        )?;
        match self.cut_after_ms {
            Some(after) => write!(f, "its connection was cut {after} ms after")?,
            None => f.write_str("its connection was not cut")?,
        }
        write!(f, ", and it got in again {} times", self.let_in_again)
    }
}

/// What became of a peer that stalled, and of the mail for it.
#[derive(Debug, Default, Clone, Copy)]
struct Stalled {
    closed_after_ms: Option<u64>,
    returned_after_ms: Option<u64>,
}

impl Stalled {
    fn holds(&self) -> bool {
        [self.closed_after_ms, self.returned_after_ms]
            .iter()
            .all(|after| after.is_some_and(|after| after <= HEARD_MAX_MS))
    }
}

impl fmt::Display for Stalled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.closed_after_ms {
            Some(after) => write!(f, "our connection was closed {after} ms after")?,
            None => f.write_str("our connection was not closed")?,
        }
        match self.returned_after_ms {
            Some(after) => write!(f, " and the mail dead-lettered {after} ms after"),
            None => f.write_str(" and the mail not dead-lettered"),
        }
    }
}

#[derive(Deserialize)]
struct Closed {
    closed_after_ms: Option<u64>,
}

#[derive(Deserialize)]
struct Outbox {
    destinations: Vec<Destination>,
}

#[derive(Deserialize)]
struct Destination {
    server: String,
    waiting: u64,
}

#[derive(Deserialize)]
struct DeadLetters {
    dead_letters: Vec<DeadLetter>,
}

#[derive(Deserialize)]
struct DeadLetter {
    server: String,
}

impl Victim {
    fn revoke(&self) -> Result {
        self.server.hsctl(&["peer", "revoke", PEER, "--yes"])?;
        Ok(())
    }

    fn has_mail_waiting(&self) -> Result<bool> {
        let outbox: Outbox = read(
            "hsctl outbox list",
            &self.server.hsctl(&["outbox", "list"])?,
        )?;
        let mut destinations = outbox.destinations.iter();
        Ok(destinations.any(|destination| destination.server == PEER && destination.waiting > 0))
    }

    fn has_dead_letters(&self) -> Result<bool> {
        let letters: DeadLetters =
            read("hsctl dead-letters", &self.server.hsctl(&["dead-letters"])?)?;
        Ok(letters
            .dead_letters
            .iter()
            .any(|letter| letter.server == PEER))
    }
}

/// Looks until it is so, or patience is over.
fn comes(mut so: impl FnMut() -> Result<bool>) -> Result<bool> {
    let begun = Instant::now();
    while !so()? {
        if begun.elapsed() > PATIENCE {
            return Ok(false);
        }
        thread::sleep(LOOK_AGAIN);
    }
    Ok(true)
}

/// A peer that sends 500 messages a second is revoked.
fn streaming(ground: &Ground<'_>, name: &str, fault: Option<&'static str>) -> Result<Stream> {
    let mut victim = Victim::of(ground, name, fault, "stream", RATE)?;
    victim.peer.hears("sending")?;
    victim.peer.tell("revoking")?;
    victim.revoke()?;
    victim.peer.figures()
}

/// A peer that takes what it is asked and never answers is revoked, while somebody's mail waits for it.
fn stalling(
    ground: &Ground<'_>,
    name: &str,
    fault: Option<&'static str>,
    how: &str,
) -> Result<Stalled> {
    let mut victim = Victim::of(ground, name, fault, how, 1)?;
    // It asks for keys at the peer, and waits for them.
    let mut writing = victim
        .bob
        .command(&["send", &format!("anybody@{PEER}"), "hello"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|source| Failure::Start {
            program: "chat".to_owned(),
            source,
        })?;
    let found = (|| {
        victim.peer.hears("stalling")?;
        if !comes(|| victim.has_mail_waiting())? {
            return Err(Failure::DidNotHold("nothing waits for the peer".to_owned()));
        }
        victim.peer.tell("revoking")?;
        let begun = Instant::now();
        victim.revoke()?;
        let returned = comes(|| victim.has_dead_letters())?.then(|| begun.elapsed());
        let Closed { closed_after_ms } = victim.peer.figures()?;
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Ok(Stalled {
            closed_after_ms,
            returned_after_ms: returned.map(ms),
        })
    })();
    // It may have been told already.
    let _ = writing.kill();
    let _ = writing.wait();
    found
}

/// A peer is revoked: while it sends, and while it owes an answer.
pub(super) fn check(ground: &Ground<'_>) -> Result<Check> {
    const KEEP: &str = "keep-revoked";
    const CALL: &str = "keep-calling";
    let (greeting, transaction) = ("stall-greeting", "stall-transaction");
    let stream = streaming(ground, "r", None)?;
    let greeted = stalling(ground, "rg", None, greeting)?;
    let sent = stalling(ground, "rt", None, transaction)?;
    let stream_kept = streaming(ground, "r0", Some(KEEP))?;
    let greeted_kept = stalling(ground, "rg0", Some(CALL), greeting)?;
    let sent_kept = stalling(ground, "rt0", Some(CALL), transaction)?;
    let all = |stream: &Stream, greeted: &Stalled, sent: &Stalled| {
        format!("{stream}; silent when greeted: {greeted}; silent on a transaction: {sent}")
    };
    Ok(Check {
        id: "revoked-peer-is-cut",
        must: format!(
            "a peer that sends {RATE} messages/s is revoked: the last acceptance and the cut of its connection come at most \
             {HEARD_MAX_MS} ms after the command begins, and it does not get in again; one that takes our greeting or our \
             transaction and says nothing is revoked: our connection to it is closed and the mail for it dead-lettered as fast"
        ),
        got: all(&stream, &greeted, &sent),
        ok: Some(stream.holds() && greeted.holds() && sent.holds()),
        control: Some(Control {
            without: "keep-revoked; keep-calling",
            got: all(&stream_kept, &greeted_kept, &sent_kept),
            // Each part is to be noticed by itself.
            ok: stream_kept.holds()
                || stream_kept.accepted < ACCEPTED_MIN
                || greeted_kept.holds()
                || sent_kept.holds(),
        }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a connection or mail that is kept too long, or for ever, is noticed. Method: at the bound and beyond.
    #[test]
    fn what_is_kept_is_noticed() {
        let stalled = |closed_after_ms, returned_after_ms| Stalled {
            closed_after_ms,
            returned_after_ms,
        };
        assert!(stalled(Some(HEARD_MAX_MS), Some(0)).holds());
        assert!(!stalled(Some(HEARD_MAX_MS + 1), Some(0)).holds());
        assert!(!stalled(None, Some(0)).holds());
        assert!(!stalled(Some(0), None).holds());
    }
}
