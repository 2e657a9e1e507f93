//! One pair: a sending device of one organisation, a receiving device of the other, one room.
//!
//! Three tasks on one thread: one sends what is due, one reads the sender's results, one reads the
//! receiver's deliveries and acknowledges them. There is no task and no timer per message: a frame
//! is one wake-up, however many messages it holds.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use entente_sdk::frames::{
    ClientFrame, Delivery, DeliveryBody, Outcome, ServerFrame, Submission, SubmissionBody,
    SubmissionResult,
};
use entente_sdk::ids::RoomId;
use entente_sdk::refusal::RefusalCode;
use entente_sdk::session::{Receiver, Sender, Session};
use ring::digest::{SHA256, digest};
use tokio::sync::Notify;

use crate::clock::Clock;
use crate::ledger::{Arrival, Faults, Identity, Ledger};
use crate::prepare::Prepared;
use crate::schedule::Schedule;
use crate::tally::{Tally, Window};

/// Most submissions in one frame.
const BATCH_MAX: u64 = 128;
/// Most submissions sent and not yet answered, in open loop too: more would only wait elsewhere.
const UNANSWERED_MAX: usize = 1024;
/// Every so many messages one is encrypted and decrypted live; the others are replays.
const FRESH_EVERY: u64 = 100;

/// How a phase sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Load {
    /// Closed loop: each pair keeps this many messages in flight, from sender to receiver.
    Closed { window: u64 },
    /// Open loop: messages are due at fixed times.
    Open { schedule: Schedule },
}

/// A phase as a pair sees it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) load: Load,
    pub(crate) window: Window,
}

struct Unanswered {
    counter: u64,
    message: Bytes,
    intended_us: u64,
}

struct Books {
    ledger: Ledger,
    plan: Option<Plan>,
    sent_in_phase: u64,
    /// Sent and not accepted, oldest first.
    unanswered: VecDeque<Unanswered>,
    /// How many of them the homeserver still owes an answer.
    answers_due: usize,
    /// The homeserver said "not now": nothing new until what it put off has been sent again.
    hold: Option<Duration>,
    tally: Option<Tally>,
}

/// A pair and its books; see the module.
pub(crate) struct Pair {
    index: u64,
    prepared: Prepared,
    /// SHA-256 of each message in the pool, and its place there.
    places: HashMap<[u8; 32], u64>,
    /// Counter of the sender's submission number 0.
    first_counter: u64,
    clock: Clock,
    /// Something may be due: a window has room, time has passed, an answer came.
    pub(crate) wake: Arc<Notify>,
    books: RefCell<Books>,
}

/// A pair's open sessions.
pub(crate) struct Sessions {
    sender: (Sender, Receiver),
    receiver: (Sender, Receiver),
}

impl Pair {
    /// Opens both devices' sessions.
    ///
    /// # Errors
    /// When a session can't be opened, in words.
    pub(crate) async fn open(
        index: u64,
        prepared: Prepared,
        clock: Clock,
        wake: Arc<Notify>,
    ) -> Result<(Rc<Self>, Sessions), entente_sdk::Error> {
        let Prepared {
            sender, receiver, ..
        } = &prepared;
        let (from, hello) = Session::open(&sender.endpoint, &sender.token).await?;
        let (to, _) = Session::open(&receiver.endpoint, &receiver.token).await?;
        let places = (0..)
            .zip(&prepared.pool)
            .map(|(place, message)| (sha256(message), place))
            .collect();
        let pair = Self {
            index,
            prepared,
            places,
            first_counter: hello.last_counter + 1,
            clock,
            wake,
            books: RefCell::new(Books {
                ledger: Ledger::default(),
                plan: None,
                sent_in_phase: 0,
                unanswered: VecDeque::new(),
                answers_due: 0,
                hold: None,
                tally: None,
            }),
        };
        let sessions = Sessions {
            sender: from.split(),
            receiver: to.split(),
        };
        Ok((Rc::new(pair), sessions))
    }

    /// Starts the pair's tasks on the current local set.
    pub(crate) fn start(self: &Rc<Self>, sessions: Sessions) {
        let Sessions {
            sender: (to_home, from_home),
            receiver: (to_peer, from_peer),
        } = sessions;
        let to_home = Rc::new(tokio::sync::Mutex::new(to_home));
        self.spawn("sender", Rc::clone(self).send_all(Rc::clone(&to_home)));
        self.spawn(
            "sender's results",
            Rc::clone(self).read_results(from_home, to_home),
        );
        self.spawn(
            "receiver",
            Rc::clone(self).read_deliveries(from_peer, to_peer),
        );
    }

    fn spawn(
        self: &Rc<Self>,
        what: &'static str,
        task: impl Future<Output = Result<(), entente_sdk::Error>> + 'static,
    ) {
        let pair = Rc::clone(self);
        tokio::task::spawn_local(async move {
            let outcome = task.await;
            let reason = match outcome {
                Ok(()) => "the homeserver ended the session".to_owned(),
                Err(error) => error.to_string(),
            };
            let failure = format!("pair {}, {what}: {reason}", pair.index);
            if let Some(tally) = pair.books.borrow_mut().tally.as_mut() {
                tally.failures.push(failure);
            }
        });
    }

    /// Begins a phase.
    pub(crate) fn begin(&self, plan: Plan, tally: Tally) {
        let mut books = self.books.borrow_mut();
        books.plan = Some(plan);
        books.sent_in_phase = 0;
        books.tally = Some(tally);
        drop(books);
        self.wake.notify_one();
    }

    /// How many messages are owed, under way or unanswered; none once a session failed, since
    /// waiting would be pointless.
    pub(crate) fn under_way(&self) -> u64 {
        let books = self.books.borrow();
        let failed = books
            .tally
            .as_ref()
            .is_some_and(|tally| !tally.failures.is_empty());
        if failed {
            0
        } else {
            let sent = books.ledger.missing() + books.unanswered.len();
            self.owed(&books) + u64::try_from(sent).unwrap_or(u64::MAX)
        }
    }

    /// Messages delivered so far in this phase.
    pub(crate) fn delivered(&self) -> u64 {
        let books = self.books.borrow();
        books.tally.as_ref().map_or(0, |tally| tally.delivered)
    }

    /// Ends a phase: what is under way now counts as lost.
    pub(crate) fn end(&self) -> Option<Tally> {
        let mut books = self.books.borrow_mut();
        books.plan = None;
        let faults: Faults = books.ledger.settle();
        let mut tally = books.tally.take()?;
        tally.settled(faults);
        Some(tally)
    }

    async fn send_all(
        self: Rc<Self>,
        to_home: Rc<tokio::sync::Mutex<Sender>>,
    ) -> Result<(), entente_sdk::Error> {
        loop {
            let submissions = self.next_batch().await?;
            if submissions.is_empty() {
                self.wake.notified().await;
                continue;
            }
            let frame = ClientFrame::Submit(submissions);
            to_home.lock().await.send(&frame).await?;
        }
    }

    /// What is due now; empty when nothing is.
    async fn next_batch(&self) -> Result<Vec<Submission>, entente_sdk::Error> {
        if let Some(again) = self.put_off().await {
            return Ok(again);
        }
        let mut batch = Vec::new();
        for _ in 0..self.due() {
            let number = self.books.borrow().ledger.next_number();
            let (identity, message) = self.message(number)?;
            let now_us = self.clock.micros();
            let mut books = self.books.borrow_mut();
            let intended_us = match books.plan.map(|plan| plan.load) {
                Some(Load::Open { schedule }) => {
                    schedule.due_us(schedule.index(self.index, books.sent_in_phase))
                }
                _ => now_us,
            };
            let counter = self.first_counter + number;
            books.ledger.sent(identity, intended_us);
            books.sent_in_phase += 1;
            books.answers_due += 1;
            books.unanswered.push_back(Unanswered {
                counter,
                message: message.clone(),
                intended_us,
            });
            if let Some(tally) = books.tally.as_mut() {
                tally.sent += 1;
            }
            batch.push(self.submission(counter, message));
        }
        Ok(batch)
    }

    fn due(&self) -> u64 {
        let books = self.books.borrow();
        if books.hold.is_some() {
            return 0;
        }
        let room = UNANSWERED_MAX.saturating_sub(books.unanswered.len());
        self.owed(&books)
            .min(BATCH_MAX)
            .min(u64::try_from(room).unwrap_or(BATCH_MAX))
    }

    /// How many messages should have been sent by now and have not.
    fn owed(&self, books: &Books) -> u64 {
        let now_us = self.clock.micros();
        let Some(Plan { load, window }) = books.plan else {
            return 0;
        };
        match load {
            Load::Closed { .. } if now_us >= window.until_us => 0,
            Load::Closed { window } => {
                let missing = u64::try_from(books.ledger.missing()).unwrap_or(u64::MAX);
                window.saturating_sub(missing)
            }
            // What was due within the phase is sent, however late.
            Load::Open { schedule } => schedule
                .due_of(self.index, now_us.min(window.until_us.saturating_sub(1)))
                .saturating_sub(books.sent_in_phase),
        }
    }

    /// What the homeserver put off, once all answers are in and its delay is over.
    async fn put_off(&self) -> Option<Vec<Submission>> {
        let delay = {
            let books = self.books.borrow();
            books.hold.filter(|_| books.answers_due == 0)?
        };
        tokio::time::sleep(delay).await;
        let mut books = self.books.borrow_mut();
        books.hold = None;
        books.answers_due = books.unanswered.len();
        let again = books.unanswered.iter();
        Some(
            again
                .map(|entry| self.submission(entry.counter, entry.message.clone()))
                .collect(),
        )
    }

    fn submission(&self, counter: u64, message: Bytes) -> Submission {
        Submission {
            counter,
            body: SubmissionBody::Message {
                room: self.room(),
                message,
            },
        }
    }

    const fn room(&self) -> RoomId {
        self.prepared.room
    }

    /// Message `number`: a replay of the pool, or now and then a fresh one.
    fn message(&self, number: u64) -> Result<(Identity, Bytes), entente_sdk::Error> {
        let pool = &self.prepared.pool;
        let place = number % u64::try_from(pool.len()).unwrap_or(u64::MAX).max(1);
        if let Some(ciphers) = &self.prepared.ciphers
            && number % FRESH_EVERY == FRESH_EVERY - 1
        {
            return Ok((Identity::Fresh(number), ciphers.encrypt(number)?));
        }
        let replay = usize::try_from(place)
            .ok()
            .and_then(|place| pool.get(place));
        Ok((
            Identity::Replayed(place),
            replay.cloned().unwrap_or_default(),
        ))
    }

    async fn read_results(
        self: Rc<Self>,
        mut from_home: Receiver,
        to_home: Rc<tokio::sync::Mutex<Sender>>,
    ) -> Result<(), entente_sdk::Error> {
        while let Some(frame) = from_home.next().await? {
            match frame {
                ServerFrame::Results(results) => self.take_results(results),
                ServerFrame::Deliver(deliveries) => {
                    let last = deliveries.last().map(|delivery| delivery.number);
                    self.take_returns(deliveries);
                    if let Some(last) = last {
                        let frame = ClientFrame::Acknowledge(last);
                        to_home.lock().await.send(&frame).await?;
                    }
                }
                ServerFrame::Hello(_) | ServerFrame::AccountChanged | ServerFrame::CaughtUp => {}
            }
            self.wake.notify_one();
        }
        Ok(())
    }

    fn take_results(&self, results: Vec<SubmissionResult>) {
        let now_us = self.clock.micros();
        let mut books = self.books.borrow_mut();
        let Books {
            ledger,
            unanswered,
            answers_due,
            hold,
            tally,
            ..
        } = &mut *books;
        for result in results {
            *answers_due = answers_due.saturating_sub(1);
            let at = unanswered
                .iter()
                .position(|entry| entry.counter == result.counter);
            let Some(at) = at else { continue };
            match result.outcome {
                Outcome::Accepted { .. } => {
                    if let (Some(entry), Some(tally)) = (unanswered.remove(at), tally.as_mut()) {
                        tally.accepted(entry.intended_us, now_us);
                    }
                }
                Outcome::Deferred { retry_after_ms, .. } => {
                    let delay = Duration::from_millis(retry_after_ms);
                    *hold = Some(hold.map_or(delay, |before| before.max(delay)));
                    if let Some(tally) = tally.as_mut() {
                        tally.deferred += 1;
                    }
                }
                // What followed a submission that was put off: it is sent again with it.
                Outcome::Refused(refusal)
                    if refusal.code == RefusalCode::CounterGap && hold.is_some() => {}
                Outcome::Refused(refusal) => {
                    unanswered.remove(at);
                    ledger.refused(result.counter - self.first_counter);
                    if let Some(tally) = tally.as_mut() {
                        *tally.refused.entry(refusal.code.to_string()).or_default() += 1;
                    }
                }
            }
        }
    }

    /// Deliveries to the sending device: what came back.
    fn take_returns(&self, deliveries: Vec<Delivery>) {
        let mut books = self.books.borrow_mut();
        for delivery in deliveries {
            let DeliveryBody::Returned {
                counter, refusal, ..
            } = delivery.body
            else {
                continue;
            };
            books
                .ledger
                .refused(counter.saturating_sub(self.first_counter));
            if let Some(tally) = books.tally.as_mut() {
                *tally.returned.entry(refusal.code.to_string()).or_default() += 1;
            }
        }
    }

    async fn read_deliveries(
        self: Rc<Self>,
        mut from_peer: Receiver,
        mut to_peer: Sender,
    ) -> Result<(), entente_sdk::Error> {
        while let Some(frame) = from_peer.next().await? {
            let ServerFrame::Deliver(deliveries) = frame else {
                continue;
            };
            let last = deliveries.last().map(|delivery| delivery.number);
            for delivery in deliveries {
                if let DeliveryBody::Message { room, message, .. } = delivery.body {
                    self.take_message(room, &message);
                }
            }
            self.wake.notify_one();
            if let Some(last) = last {
                to_peer.send(&ClientFrame::Acknowledge(last)).await?;
            }
        }
        Ok(())
    }

    fn take_message(&self, room: RoomId, message: &Bytes) {
        let place = self.places.get(&sha256(message)).copied();
        let identity = match (place, &self.prepared.ciphers) {
            _ if room != self.room() => None,
            (Some(place), _) => Some(Identity::Replayed(place)),
            (None, Some(ciphers)) => ciphers.decrypt(message).map(Identity::Fresh),
            (None, None) => None,
        };
        let now_us = self.clock.micros();
        let mut books = self.books.borrow_mut();
        let Books { ledger, tally, .. } = &mut *books;
        let Some(tally) = tally.as_mut() else { return };
        match identity {
            None => tally.unrecognised += 1,
            Some(identity) => {
                if matches!(identity, Identity::Fresh(_)) {
                    tally.decrypted += 1;
                }
                if let Arrival::First { intended_us } = ledger.arrived(identity) {
                    tally.arrived(intended_us, now_us);
                }
            }
        }
    }
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    let digest = digest(&SHA256, bytes);
    for (to, from) in hash.iter_mut().zip(digest.as_ref()) {
        *to = *from;
    }
    hash
}
