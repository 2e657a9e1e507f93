//! The cases. Each has a stable id, cites the requirement that it tries, and says what to look at.

mod connection;
mod lane;
mod operations;
mod transaction;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ring::signature::Ed25519KeyPair;

use crate::agreement::now_ms;
use crate::failure::Result;
use crate::link::{Reply, Target, request};
use crate::organisation::Organisation;
use crate::padding::{pad, unpad};
use crate::receipt::{Answer, Receipt};
use crate::report::{Finding, Level, Outcome};
use crate::transaction::{Envelope, TRANSACTION_LABEL, Transaction, key_id, sign};
use crate::wire::Encoder;

/// Where transactions go.
const TRANSACTIONS: &str = "/federation/v1/transactions";
/// The kind of a request for key packages: needs no room, so any peer may send one.
const KEY_REQUEST: u8 = 5;
/// The kind that stands for positions which will never come.
const TOMBSTONE: u8 = 8;

/// The fake peer and what it has done so far.
pub(crate) struct World {
    /// The server under test.
    pub(crate) target: Target,
    /// The fake peer.
    pub(crate) peer: Organisation,
    /// Envelope keys of the server under test.
    pub(crate) server_keys: Vec<[u8; 32]>,
    /// The next position in the lane that is in use.
    pub(crate) next: AtomicU64,
    /// The peer's link epoch.
    pub(crate) link_epoch: u64,
}

/// What came of a transaction.
pub(crate) enum Sent {
    /// A receipt, which names the transaction and is signed.
    Receipt(Receipt),
    /// Another answer.
    Reply(Reply),
    /// The connection ended instead.
    Cut(String),
}

impl Sent {
    fn describe(&self) -> String {
        match self {
            Self::Receipt(receipt) => format!("a receipt: {:?}", receipt.answers),
            Self::Reply(reply) => {
                format!(
                    "status {} ({})",
                    reply.status,
                    reply
                        .problem()
                        .unwrap_or_else(|| "no problem type".to_owned())
                )
            }
            Self::Cut(how) => format!("the connection ended: {how}"),
        }
    }

    fn answers(&self) -> &[Answer] {
        match self {
            Self::Receipt(receipt) => &receipt.answers,
            Self::Reply(_) | Self::Cut(_) => &[],
        }
    }

    /// Refused as a whole, by an answer of the 400 range.
    fn refused_whole(&self) -> bool {
        matches!(self, Self::Reply(reply) if (400..500).contains(&reply.status))
    }
}

impl World {
    /// The lane that the suite uses: the one of requests that belong to no room.
    const LANE: [u8; 16] = [0; 16];

    /// An envelope that is right in every field, at the next position.
    pub(crate) fn envelope(&self) -> Envelope {
        self.envelope_at(self.next.load(Ordering::Relaxed))
    }

    fn envelope_at(&self, sequence: u64) -> Envelope {
        // A request for key packages of somebody who is not there: valid, and without effect.
        let payload = Encoder::new()
            .u64(sequence)
            .u64(self.link_epoch)
            .fixed(&[1; 16])
            .fixed(&[2; 16])
            .vector(1, b"asker")
            .u8(1)
            .vector(1, b"nobody-of-that-name")
            // No size of the device log is known.
            .vector(4, b"")
            .finish();
        Envelope {
            version: 1,
            suite: 1,
            kind: KEY_REQUEST,
            origin: self.peer.name.clone(),
            destination: self.target.server.clone(),
            key_id: key_id(&self.peer.envelope_key),
            link_epoch: self.link_epoch,
            lane: Self::LANE,
            sequence,
            created_ms: now_ms(),
            expires_ms: now_ms().saturating_add(3_600_000),
            payload,
            claimed_hash: None,
        }
    }

    /// Signs rightly.
    fn sign(&self, envelopes: &[Envelope]) -> Transaction {
        sign(&self.peer.envelope_key, TRANSACTION_LABEL, envelopes)
    }

    /// Sends bytes as a transaction.
    async fn send(&self, bytes: Vec<u8>) -> Result<Sent> {
        self.send_body(pad(&bytes)).await
    }

    /// Sends a body as it is.
    async fn send_body(&self, bytes: Vec<u8>) -> Result<Sent> {
        Ok(
            match request(&self.target, &self.peer.tls, "POST", TRANSACTIONS, bytes).await? {
                Err(how) => Sent::Cut(how),
                Ok(reply) if reply.status == 200 => {
                    match unpad(&reply.body).and_then(|receipt| Receipt::decode(&receipt)) {
                        Some(receipt) => Sent::Receipt(receipt),
                        None => Sent::Reply(reply),
                    }
                }
                Ok(reply) => Sent::Reply(reply),
            },
        )
    }

    /// Sends one right envelope at the next position, and moves on when it is accepted.
    async fn send_good(&self) -> Result<Sent> {
        let sent = self.send(self.sign(&[self.envelope()]).bytes).await?;
        if sent.answers() == [Answer::Accepted] {
            self.next.fetch_add(1, Ordering::Relaxed);
        }
        Ok(sent)
    }

    /// The next position was used up.
    fn moved_on(&self) {
        self.next.fetch_add(1, Ordering::Relaxed);
    }

    /// A whole transaction that must be refused without effect: the next right one still fits.
    async fn must_refuse(&self, bytes: Vec<u8>) -> Result<Finding> {
        self.must_refuse_body(pad(&bytes)).await
    }

    /// As [`World::must_refuse`], of a body as it is.
    async fn must_refuse_body(&self, body: Vec<u8>) -> Result<Finding> {
        let sent = self.send_body(body).await?;
        let without_effect = self.send_good().await?;
        let good = without_effect.answers() == [Answer::Accepted];
        Ok(Finding::new(
            sent.refused_whole() && good,
            format!(
                "{}; then a right one: {}",
                sent.describe(),
                without_effect.describe()
            ),
        ))
    }

    fn another_key(&self) -> Result<Arc<Ed25519KeyPair>> {
        Ok(Organisation::new(&self.peer.name)?.envelope_key)
    }
}

/// What every case states about itself.
struct Case {
    id: &'static str,
    requirement: &'static str,
    level: Level,
    must: &'static str,
    hint: &'static str,
}

impl Case {
    fn outcome(self, finding: Finding) -> Outcome {
        let hint = (!finding.ok).then_some(self.hint);
        Outcome {
            id: self.id,
            requirement: self.requirement,
            level: self.level,
            must: self.must,
            finding,
            hint,
        }
    }
}

/// All cases, in order: a lane's positions go on from one to the next.
pub(crate) async fn all(world: &World) -> Result<Vec<Outcome>> {
    let mut outcomes = connection::cases(world).await?;
    outcomes.extend(transaction::cases(world).await?);
    outcomes.extend(operations::cases(world).await?);
    outcomes.extend(lane::cases(world).await?);
    Ok(outcomes)
}
