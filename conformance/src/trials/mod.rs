//! What trials need of a hostile peer: it makes an agreement, gets into a room with one person of the server under
//! test, and then sends as no honest server would.
//!
//! It tells and is told on its standard streams, one line each, so that whoever starts it can restart the server or
//! revoke the agreement in between. Its last line is one JSON object of figures; it judges nothing itself.

mod flood;
mod poison;
mod replay;
mod stall;
mod stream;

use std::io::{self, BufRead as _, Write as _};

use clap::{Args, ValueEnum};
use ring::signature::Ed25519KeyPair;
use tokio::time::{Duration, Instant, sleep};

use crate::agreement::{EVERYTHING, now_ms};
use crate::ceremony::{CeremonyArguments, agree};
use crate::failure::{Failure, Result};
use crate::link::{Reply, Target};
use crate::organisation::Organisation;
use crate::padding::{pad, unpad};
use crate::receipt::{Answer, Receipt};
use crate::room::{Device, MESSAGE, Room, WELCOME};
use crate::served::{Served, Stall};
use crate::session::Session;
use crate::transaction::{Envelope, TRANSACTION_LABEL, key_id, sign};

/// Where transactions go.
const TRANSACTIONS: &str = "/federation/v1/transactions";
/// How a server is greeted.
const PROBE: &str = "/federation/v1/probe";
/// The status of an answer that puts off for a while what came too fast.
const TOO_FAST: u16 = 429;
/// Such a transaction comes again after this time, and until it has come for so long.
const AGAIN_AFTER: Duration = Duration::from_millis(250);
const JUDGED_WITHIN: Duration = Duration::from_secs(60);
/// The peer's link epoch.
const LINK_EPOCH: u64 = 2;
/// How long its envelopes live.
const TTL_MS: u64 = 86_400_000;

#[derive(Args)]
pub(crate) struct TrialArguments {
    /// In which way.
    #[arg(value_enum)]
    how: How,
    #[command(flatten)]
    ceremony: CeremonyArguments,
    /// The account that it writes to, at the server under test: 32 hexadecimal digits.
    #[arg(long, value_name = "ID", value_parser = id)]
    account: [u8; 16],
    /// The device, likewise.
    #[arg(long, value_name = "ID", value_parser = id)]
    device: [u8; 16],
    /// Messages to send; for `stream`, messages a second.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    count: u32,
}

#[derive(Clone, Copy, ValueEnum)]
enum How {
    /// Sends steadily and does not stop when it is revoked.
    Stream,
    /// Sends everything again, in every way.
    Replay,
    /// Hides one bad envelope among good ones.
    Poison,
    /// Floods whenever it is told `go`, until it is told `rest`; `end` ends it.
    Flood,
    /// Takes the first greeting, and never answers.
    StallGreeting,
    /// Takes the first transaction, and never answers.
    StallTransaction,
}

impl How {
    /// What of the server under test it never answers.
    const fn stalls_at(self) -> Option<&'static str> {
        match self {
            Self::Stream | Self::Replay | Self::Poison | Self::Flood => None,
            Self::StallGreeting => Some(PROBE),
            Self::StallTransaction => Some(TRANSACTIONS),
        }
    }
}

fn id(text: &str) -> std::result::Result<[u8; 16], String> {
    let bytes = hex::decode(text).map_err(|error| error.to_string())?;
    bytes
        .try_into()
        .map_err(|_| "an id has 32 hexadecimal digits".to_owned())
}

/// Misbehaves.
pub(crate) async fn run(arguments: &TrialArguments) -> Result {
    let stall = Stall::at(arguments.how.stalls_at());
    let mut hostile = Hostile::enter(arguments, stall.clone()).await?;
    let figures = match arguments.how {
        How::Stream => stream::run(&mut hostile, arguments.count).await?,
        How::Replay => replay::run(&mut hostile, arguments).await?,
        How::Poison => poison::run(&mut hostile, arguments.count).await?,
        How::Flood => flood::run(&mut hostile).await?,
        How::StallGreeting | How::StallTransaction => stall::run(&stall).await?,
    };
    say(&figures.to_string())
}

/// A peer in a room.
struct Hostile {
    target: Target,
    peer: Organisation,
    served: Served,
    room: Room,
    session: Session,
    /// The next position in the room's lane.
    next: u64,
}

/// How many envelopes a server took, and what became of the others.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Fates {
    accepted: u64,
    duplicate: u64,
    refused: u64,
    deferred: u64,
    /// Refused with their whole transaction.
    whole: u64,
    /// Not judged: put off with their whole transaction, or not answered.
    unjudged: u64,
}

impl Fates {
    /// Whether the answer was a receipt.
    const fn has_receipt(self) -> bool {
        self.whole == 0 && self.unjudged == 0
    }
}

impl Hostile {
    async fn enter(arguments: &TrialArguments, stall: Stall) -> Result<Self> {
        let target = arguments.ceremony.target.target();
        let peer = Organisation::new(&arguments.ceremony.peer)?;
        let manifest = peer.manifest(now_ms())?;
        let served = Served::start(&peer, "127.0.0.1:0", manifest, None, stall).await?;
        agree(
            &arguments.ceremony,
            &peer,
            &served.address.to_string(),
            &EVERYTHING,
        )
        .await?;
        let room = Room {
            id: [6; 16],
            hub: peer.name.clone(),
            writer: Room::WRITER,
            guest_server: target.server.clone(),
            guest: Device {
                account: arguments.account,
                device: arguments.device,
            },
        };
        let session = open(&target, &peer).await?;
        let mut hostile = Self {
            target,
            peer,
            served,
            room,
            session,
            next: 1,
        };
        let welcome = hostile.envelope(WELCOME, hostile.room.welcome());
        let fates = hostile.send(hostile.signed(&[welcome]), 1).await;
        if fates.accepted == 1 {
            Ok(hostile)
        } else {
            Err(Failure::Operator(format!(
                "the server does not take the welcome to a room: {fates:?}"
            )))
        }
    }

    /// An envelope at the next position.
    fn envelope(&mut self, kind: u8, payload: Vec<u8>) -> Envelope {
        let sequence = self.next;
        self.next = sequence.saturating_add(1);
        let place = self.place(self.room.id, sequence);
        let expires_ms = match kind {
            MESSAGE => place.created_ms.saturating_add(TTL_MS),
            _ => 0,
        };
        Envelope {
            kind,
            expires_ms,
            payload,
            ..place
        }
    }

    /// An envelope at this position, of no kind yet.
    fn place(&self, lane: [u8; 16], sequence: u64) -> Envelope {
        Envelope {
            version: 1,
            suite: 1,
            kind: 0,
            origin: self.peer.name.clone(),
            destination: self.target.server.clone(),
            key_id: key_id(&self.peer.envelope_key),
            link_epoch: LINK_EPOCH,
            lane,
            sequence,
            created_ms: now_ms(),
            expires_ms: 0,
            payload: Vec::new(),
            claimed_hash: None,
        }
    }

    /// So many messages at the next positions.
    fn messages(&mut self, count: u64) -> Vec<Envelope> {
        (0..count)
            .map(|_| {
                let payload = self.room.message(self.next);
                self.envelope(MESSAGE, payload)
            })
            .collect()
    }

    fn signed(&self, envelopes: &[Envelope]) -> Vec<u8> {
        signed_by(&self.peer.envelope_key, envelopes)
    }

    /// Sends a transaction of so many envelopes.
    async fn send(&mut self, bytes: Vec<u8>, count: u64) -> Fates {
        fates(&self.session.post(TRANSACTIONS, pad(&bytes)).await, count)
    }

    /// As [`Hostile::send`], until it is judged.
    async fn send_until_judged(&mut self, bytes: &[u8], count: u64) -> Fates {
        let who = (&self.target, &self.peer);
        send_until_judged(who, &mut self.session, bytes, count).await
    }
}

/// Sends a transaction of so many envelopes until it is judged: again while it is put off for its speed, and over a new
/// connection once the old one has ended.
async fn send_until_judged(
    (target, peer): (&Target, &Organisation),
    session: &mut Session,
    bytes: &[u8],
    count: u64,
) -> Fates {
    let begun = Instant::now();
    loop {
        let reply = session.post(TRANSACTIONS, pad(bytes)).await;
        let fates = fates(&reply, count);
        let may_help = match &reply {
            Ok(reply) => reply.status == TOO_FAST,
            Err(_) => true,
        };
        if fates.unjudged == 0 || !may_help || begun.elapsed() > JUDGED_WITHIN {
            return fates;
        }
        sleep(AGAIN_AFTER).await;
        if !session.is_open()
            && let Ok(new) = open(target, peer).await
        {
            *session = new;
        }
    }
}

async fn open(target: &Target, peer: &Organisation) -> Result<Session> {
    Session::open(target, &peer.tls)
        .await?
        .map_err(|problem| Failure::Unreachable {
            address: target.address.clone(),
            problem,
        })
}

fn signed_by(key: &Ed25519KeyPair, envelopes: &[Envelope]) -> Vec<u8> {
    sign(key, TRANSACTION_LABEL, envelopes).bytes
}

/// Whether the answer refuses a request for good: what is put off (429) may come again.
fn is_refused(reply: &std::result::Result<Reply, String>) -> bool {
    matches!(reply, Ok(reply) if (400..500).contains(&reply.status) && reply.status != TOO_FAST)
}

/// What became of a transaction's envelopes.
fn fates(reply: &std::result::Result<Reply, String>, count: u64) -> Fates {
    let receipt = match reply {
        Ok(reply) if reply.status == 200 => {
            unpad(&reply.body).and_then(|receipt| Receipt::decode(&receipt))
        }
        _ => None,
    };
    let Some(receipt) = receipt else {
        return if is_refused(reply) {
            Fates {
                whole: count,
                ..Fates::default()
            }
        } else {
            Fates {
                unjudged: count,
                ..Fates::default()
            }
        };
    };
    let mut fates = Fates::default();
    for answer in &receipt.answers {
        let one = match answer {
            Answer::Accepted => &mut fates.accepted,
            Answer::Duplicate => &mut fates.duplicate,
            Answer::Refused { .. } => &mut fates.refused,
            Answer::Deferred { .. } => &mut fates.deferred,
        };
        *one = one.saturating_add(1);
    }
    fates
}

impl std::ops::AddAssign for Fates {
    fn add_assign(&mut self, other: Self) {
        let pairs = [
            (&mut self.accepted, other.accepted),
            (&mut self.duplicate, other.duplicate),
            (&mut self.refused, other.refused),
            (&mut self.deferred, other.deferred),
            (&mut self.whole, other.whole),
            (&mut self.unjudged, other.unjudged),
        ];
        for (sum, more) in pairs {
            *sum = sum.saturating_add(more);
        }
    }
}

/// Tells whoever steers.
fn say(line: &str) -> Result {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")
        .and_then(|()| out.flush())
        .map_err(|error| Failure::Operator(error.to_string()))
}

/// Waits for exactly this line.
async fn told(expected: &'static str) -> Result {
    let line = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        io::stdin().lock().read_line(&mut line).map(|_| line)
    });
    match line.await {
        Ok(Ok(line)) if line.trim() == expected => Ok(()),
        _ => Err(Failure::Operator(format!("`{expected}` was not said"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: what was not judged does not count as refused. Method: answers that refuse, that put off, and none.
    #[test]
    fn put_off_is_not_refused() {
        let answered = |status| {
            Ok(Reply {
                status,
                body: Vec::new(),
            })
        };
        for (reply, is_refused) in [
            (answered(400), true),
            (answered(403), true),
            (answered(429), false),
            (answered(503), false),
            (answered(200), false),
            (Err("the connection is gone".to_owned()), false),
        ] {
            let (whole, unjudged) = if is_refused { (7, 0) } else { (0, 7) };
            let expected = Fates {
                whole,
                unjudged,
                ..Fates::default()
            };
            assert_eq!(fates(&reply, 7), expected);
        }
    }
}
