//! The cases. Each has a stable id, cites the requirement that it tries, and says what to look at.

mod commits;
mod connection;
mod contacts;
mod devices;
mod hub;
mod lane;
mod operations;
mod questions;
mod rooms;
mod transaction;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use ring::signature::Ed25519KeyPair;

use crate::agreement::{ServerKeys, now_ms};
use crate::arrived::Arrival;
use crate::ceremony::CeremonyArguments;
use crate::consent::{self, ROOM_CONSENT, ROOM_CONSENT_REQUEST};
use crate::device_log::History;
use crate::failure::Result;
use crate::link::{PATIENCE, Reply, Target, request};
use crate::mailbox::Mailbox;
use crate::organisation::Organisation;
use crate::padding::{pad, unpad};
use crate::people::People;
use crate::receipt::{Answer, Receipt};
use crate::report::{Finding, Level, Outcome};
use crate::room::{Device, Room};
use crate::served::Served;
use crate::transaction::{Envelope, TRANSACTION_LABEL, Transaction, key_id, sign};
use crate::wire::{Decoder, Encoder};

/// How long the server under test has to start a conversation.
const START_PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);
/// Where transactions go.
const TRANSACTIONS: &str = "/federation/v1/transactions";
/// The kind of a request for key packages: needs no room, so any peer may send one.
const KEY_REQUEST: u8 = 5;
/// The kind of its answer.
const KEY_RESPONSE: u8 = 6;
/// What a key request asks for: key packages of a handle's account.
const OF_HANDLE: u8 = 1;
/// The kind that stands for positions which will never come.
const TOMBSTONE: u8 = 8;
/// The lane of what belongs to no room.
const CONTROL: [u8; 16] = [0; 16];

/// Refusal codes.
mod code {
    pub(super) const OUT_OF_SCOPE: u16 = 5;
    pub(super) const QUOTA: u16 = 11;
    pub(super) const UNKNOWN_RECIPIENT: u16 = 12;
    pub(super) const UNKNOWN_ROOM: u16 = 14;
    pub(super) const WRONG_EPOCH: u16 = 15;
    pub(super) const MALFORMED: u16 = 18;
    pub(super) const RATE_LIMITED: u16 = 22;
    pub(super) const CONSENT_REQUIRED: u16 = 30;
}

/// The fake peer and what it has done so far.
pub(crate) struct World {
    /// The server under test.
    pub(crate) target: Target,
    /// The fake peer.
    pub(crate) peer: Organisation,
    /// Keys of the server under test.
    pub(crate) server_keys: ServerKeys,
    /// The next position in the lane that is in use.
    pub(crate) next: AtomicU64,
    /// The peer's link epoch.
    pub(crate) link_epoch: u64,
    /// What the server under test sends.
    pub(crate) mailbox: Arc<Mailbox>,
    /// The last position of each room's lane that is used up.
    pub(crate) rooms: Mutex<BTreeMap<[u8; 16], u64>>,
    /// How many identifiers were drawn.
    pub(crate) drawn: AtomicU64,
    /// Where the server under test reaches the peer, for as long as the world stands.
    pub(crate) _served: Served,
}

/// The worlds of a run: the fake peer, and another one with which little is agreed.
pub(crate) struct Worlds<'a> {
    /// Everything is granted, both ways.
    pub(crate) everything: World,
    /// Messages and look-ups are granted, and nothing else.
    pub(crate) little: World,
    /// People of the server under test, when its operator has made them.
    pub(crate) people: Option<People>,
    /// How the operator is asked.
    pub(crate) operator: &'a CeremonyArguments,
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
            .u8(OF_HANDLE)
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

    /// A new room of the fake peer's, in which `writer` is its own and `guest` is the server's under test.
    fn room(&self, writer: Device, guest: Device) -> Room {
        Room {
            id: self.draw(),
            hub: self.peer.name.clone(),
            writer,
            guest_server: self.target.server.clone(),
            guest,
        }
    }

    /// An identifier that was not used before.
    fn draw(&self) -> [u8; 16] {
        let number = self.drawn.fetch_add(1, Ordering::Relaxed);
        let mut id = [0xc0; 16];
        for (to, from) in id.iter_mut().rev().zip(number.to_le_bytes()) {
            *to = from;
        }
        id
    }

    /// The next position of a lane.
    fn next_on(&self, lane: [u8; 16]) -> u64 {
        if lane == CONTROL {
            return self.next.load(Ordering::Relaxed);
        }
        let rooms = self.rooms.lock().unwrap_or_else(PoisonError::into_inner);
        let last = rooms.get(&lane).copied().unwrap_or_default();
        last.saturating_add(1)
    }

    /// So many positions of a lane were used up.
    fn used(&self, lane: [u8; 16], count: u64) {
        if lane == CONTROL {
            self.next.fetch_add(count, Ordering::Relaxed);
        } else {
            let mut rooms = self.rooms.lock().unwrap_or_else(PoisonError::into_inner);
            let last = rooms.entry(lane).or_default();
            *last = last.saturating_add(count);
        }
    }

    /// An envelope at the next position of a lane.
    fn envelope_on(&self, lane: [u8; 16], kind: u8, payload: Vec<u8>) -> Envelope {
        Envelope {
            kind,
            lane,
            payload,
            ..self.envelope_at(self.next_on(lane))
        }
    }

    /// Sends one envelope on a lane, and moves on when its position was used up.
    async fn say(&self, lane: [u8; 16], kind: u8, payload: Vec<u8>) -> Result<Sent> {
        let envelope = self.envelope_on(lane, kind, payload);
        let sent = self.send(self.sign(&[envelope]).bytes).await?;
        if matches!(sent.answers(), [Answer::Accepted | Answer::Refused { .. }]) {
            self.used(lane, 1);
        }
        Ok(sent)
    }

    /// Sends many envelopes of one lane in one transaction; what came of each.
    async fn say_all(&self, lane: [u8; 16], kind: u8, payloads: Vec<Vec<u8>>) -> Result<Sent> {
        let first = self.next_on(lane);
        let envelopes: Vec<Envelope> = payloads
            .into_iter()
            .zip(first..)
            .map(|(payload, sequence)| Envelope {
                kind,
                lane,
                payload,
                ..self.envelope_at(sequence)
            })
            .collect();
        let sent = self.send(self.sign(&envelopes).bytes).await?;
        let used = sent
            .answers()
            .iter()
            .filter(|answer| matches!(answer, Answer::Accepted | Answer::Refused { .. }))
            .count();
        self.used(lane, u64::try_from(used).unwrap_or(u64::MAX));
        Ok(sent)
    }

    /// What is answered to a request, of which `read` makes something.
    async fn hears<T>(&self, mark: usize, read: impl Fn(&Arrival) -> Option<T>) -> Option<T> {
        self.mailbox.wait_for(mark, PATIENCE, read).await
    }

    /// Asks for somebody's key packages; what is answered, and what else came before that.
    async fn ask_keys(&self, who: &Asker, handle: &str) -> Result<(Option<Keys>, Vec<Arrival>)> {
        let mark = self.mailbox.mark();
        let request = self.draw();
        let payload = Encoder::new()
            .fixed(&request)
            .fixed(&who.account)
            .fixed(&who.device)
            .vector(1, who.handle.as_bytes())
            .u8(OF_HANDLE)
            .vector(1, handle.as_bytes())
            // No size of the device log is known.
            .vector(4, b"")
            .finish();
        self.say(CONTROL, KEY_REQUEST, payload).await?;
        let answer = self
            .hears(mark, |arrival| Keys::read(arrival, &request, &who.device))
            .await;
        let others = self.mailbox.since(mark);
        let before = others
            .into_iter()
            .take_while(|arrival| Keys::read(arrival, &request, &who.device).is_none());
        Ok((answer, before.collect()))
    }

    /// Asks for the consent of the server under test to a room with these.
    async fn ask_consent(
        &self,
        who: &Asker,
        room: &[u8; 16],
        domains: &[&str],
    ) -> Result<Option<Vec<u8>>> {
        let mark = self.mailbox.mark();
        let request = self.draw();
        let mut domains = domains.to_vec();
        domains.sort_unstable();
        let list = domains.iter().fold(Encoder::new(), |list, server| {
            list.vector(1, server.as_bytes())
        });
        let payload = Encoder::new()
            .fixed(&request)
            .fixed(room)
            .fixed(&who.account)
            .fixed(&who.device)
            .vector(4, &list.finish())
            .finish();
        self.say(CONTROL, ROOM_CONSENT_REQUEST, payload).await?;
        let answer = self.hears(mark, |arrival| match arrival.kind {
            ROOM_CONSENT => consent::answered(&arrival.payload, &request, &who.device),
            _ => None,
        });
        Ok(answer.await)
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

/// A person of the fake peer's.
struct Asker {
    handle: &'static str,
    account: [u8; 16],
    device: [u8; 16],
}

/// What a request for key packages was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Keys {
    /// Devices, each with its server and account.
    Of(Vec<(String, [u8; 16], [u8; 16])>, KeyPackages),
    Refused(Refusal),
}

/// The key packages of devices, in the same order.
#[derive(Clone, PartialEq, Eq)]
struct KeyPackages(Vec<Vec<u8>>);

impl std::fmt::Debug for KeyPackages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} key packages", self.0.len())
    }
}

/// A refusal's code and reason.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Refusal {
    code: u16,
    reason: String,
}

impl Refusal {
    fn read(input: &mut Decoder<'_>) -> Option<Self> {
        Some(Self {
            code: input.u16()?,
            reason: input.text(2)?,
        })
    }
}

impl Keys {
    /// The answer to this request of this device, if it is that.
    fn read(arrival: &Arrival, request: &[u8; 16], device: &[u8; 16]) -> Option<Self> {
        let mut input = Decoder::new(&arrival.payload);
        let is_answer = (arrival.kind, arrival.lane) == (KEY_RESPONSE, CONTROL)
            && input.fixed()? == *request
            && input.fixed()? == *device;
        if !is_answer {
            return None;
        }
        let answer = match input.u8()? {
            1 => {
                let mut list = Decoder::new(input.vector(4)?);
                let (mut devices, mut packages) = (Vec::new(), Vec::new());
                while !list.is_empty() {
                    devices.push((list.text(1)?, list.fixed()?, list.fixed()?));
                    packages.push(list.vector(2)?.to_vec());
                }
                History::read(&mut input)?;
                Self::Of(devices, KeyPackages(packages))
            }
            2 => Self::Refused(Refusal::read(&mut input)?),
            _ => return None,
        };
        input.is_empty().then_some(answer)
    }

    const fn code(&self) -> Option<u16> {
        match self {
            Self::Of(..) => None,
            Self::Refused(refusal) => Some(refusal.code),
        }
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
pub(crate) async fn all(worlds: &Worlds<'_>) -> Result<Vec<Outcome>> {
    let world = &worlds.everything;
    let mut outcomes = connection::cases(world).await?;
    outcomes.extend(transaction::cases(world).await?);
    outcomes.extend(operations::cases(world).await?);
    outcomes.extend(rooms::without_people(world).await?);
    outcomes.extend(contacts::without_people(worlds).await?);
    if let Some(people) = &worlds.people {
        let (others, hosted) = rooms::with_people(world, people).await?;
        outcomes.extend(others);
        outcomes.extend(contacts::with_people(worlds, people).await?);
        outcomes.extend(questions::cases(worlds, people).await?);
        outcomes.extend(devices::cases(&worlds.everything, people).await?);
        outcomes.extend(hub::cases(worlds, people).await?);
        // Her client has been connected since: she finds the room.
        if let Some(hosted) = hosted {
            outcomes.push(rooms::hosted::written(worlds, hosted).await?);
        }
    } else {
        eprintln!("Cases that need people of the server under test are left out: no --people.");
    }
    outcomes.extend(lane::cases(world).await?);
    outcomes.push(arrivals(worlds));
    Ok(outcomes)
}

/// Everything that the server under test has sent meanwhile.
fn arrivals(worlds: &Worlds<'_>) -> Outcome {
    let mailboxes = [&worlds.everything.mailbox, &worlds.little.mailbox];
    let came: usize = mailboxes.iter().map(|mailbox| mailbox.mark()).sum();
    let wrong: u64 = mailboxes.iter().map(|mailbox| mailbox.wrong()).sum();
    let case = Case {
        id: "sent.holds",
        requirement: "ENV-010",
        level: Level::Must,
        must: "what the server sends is padded, signed, in the order of its lanes and for its peer alone",
        hint: "sign the Merkle root of the headers as they are sent",
    };
    let got = format!("{came} envelopes taken, {wrong} transactions that do not hold");
    case.outcome(Finding::new(wrong == 0 && came > 0, got))
}
