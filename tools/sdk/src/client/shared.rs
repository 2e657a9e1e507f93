//! What the clones of a client and its tasks share: the core behind one queue of jobs.
//!
//! Jobs run on a blocking thread, and all that wait become durable in one batch. Nothing runs when
//! nothing waits. After a batch is durable its jobs are answered, then its effects are told.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use homeserver_api::ids::{Address, RequestId, RoomId};
use homeserver_api::refusal::Refusal;
use homeserver_api::session::Listing;
use tokio::sync::{Notify, mpsc, oneshot, watch};

use crate::clock::Clock;
use crate::core::{Core, Effects, Identity};
use crate::error::Error;
use crate::event::{EVENTS_WAITING_MAX, Event, Events};
use crate::message::MessageId;
use crate::session::Endpoint;
use crate::tls::RootPin;

/// Who waits for something to end well or not.
type Waiter<T, E> = oneshot::Sender<Result<T, E>>;

/// Most jobs in one batch.
const BATCH_JOBS_MAX: usize = 256;

/// How the background session stands.
#[derive(Debug, Clone)]
pub(super) enum Link {
    Stopped,
    Connecting,
    /// A session stands; what waited for this device is coming in.
    Up,
    /// A session stands, and what waited when it began is here.
    CaughtUp,
    /// The homeserver refuses this device; it is asked again now and then.
    Refused(Error),
    Closed,
}

pub(super) struct Shared {
    pub(super) clock: Arc<dyn Clock>,
    pub(super) endpoint: Endpoint,
    pub(super) identity: Identity,
    pub(super) link: watch::Sender<Link>,
    /// Something new is to be sent.
    pub(super) outbox: Notify,
    /// Counter of the last durable submission.
    pub(super) last_counter: AtomicU64,
    /// An answer about somebody's devices has come.
    pub(super) answered: Notify,
    /// The keeper has something to look at.
    pub(super) keeper: Notify,
    /// When the next message may be due; `u64::MAX` for never.
    pub(super) next_deadline: AtomicU64,
    /// Whether a batch has replaced records that are still to be made unreadable.
    pub(super) replaced: AtomicBool,
    /// One upkeep at a time.
    pub(super) upkeep: tokio::sync::Mutex<()>,
    core: Mutex<Option<Core>>,
    queue: Mutex<Queue>,
    listeners: Mutex<Vec<mpsc::Sender<Event>>>,
    operations: Mutex<HashMap<u64, Waiter<RoomId, Error>>>,
    answers: Mutex<HashMap<MessageId, Vec<Waiter<u64, Refusal>>>>,
    look_ups: Mutex<HashMap<RequestId, Waiter<Listing, Refusal>>>,
    reports: Mutex<HashMap<u64, Waiter<(), Refusal>>>,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Box<dyn Job>>,
    running: bool,
}

trait Job: Send {
    fn execute(&mut self, core: &mut Core);
    fn finish(self: Box<Self>, shared: &Shared, committed: &Result<(), Error>);
}

struct Task<T, F, A> {
    job: Option<F>,
    outcome: Result<T, Error>,
    after: A,
    reply: oneshot::Sender<Result<T, Error>>,
}

impl<T, F, A> Job for Task<T, F, A>
where
    T: Send,
    F: FnOnce(&mut Core) -> Result<T, Error> + Send,
    A: FnOnce(&Shared, &T) + Send,
{
    fn execute(&mut self, core: &mut Core) {
        if let Some(job) = self.job.take() {
            self.outcome = core.job(job);
        }
    }

    fn finish(self: Box<Self>, shared: &Shared, committed: &Result<(), Error>) {
        let outcome = match (self.outcome, committed) {
            (Ok(_), Err(error)) => Err(error.clone()),
            (outcome, _) => outcome,
        };
        if let Ok(value) = &outcome {
            (self.after)(shared, value);
        }
        // Nobody waits for a job whose caller went away; it is done all the same.
        let _ = self.reply.send(outcome);
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Shared({})", self.identity.address)
    }
}

impl Shared {
    pub(super) fn new(core: Core, clock: Arc<dyn Clock>) -> Result<Arc<Self>, Error> {
        let identity = core.identity().clone();
        let endpoint = Endpoint::pinned(
            identity.endpoint.clone(),
            identity.member.server.clone(),
            RootPin(identity.root_sha256),
        )?;
        let (_, last_counter) = core.outbox_bounds();
        let next_deadline = core.next_deadline_ms().unwrap_or(u64::MAX);
        Ok(Arc::new(Self {
            clock,
            endpoint,
            identity,
            link: watch::Sender::new(Link::Stopped),
            outbox: Notify::new(),
            last_counter: AtomicU64::new(last_counter),
            answered: Notify::new(),
            keeper: Notify::new(),
            next_deadline: AtomicU64::new(next_deadline),
            replaced: AtomicBool::new(false),
            upkeep: tokio::sync::Mutex::default(),
            core: Mutex::new(Some(core)),
            queue: Mutex::default(),
            listeners: Mutex::default(),
            operations: Mutex::default(),
            answers: Mutex::default(),
            look_ups: Mutex::default(),
            reports: Mutex::default(),
        }))
    }

    /// Runs a job and waits until it is durable.
    pub(super) async fn run<T, F>(self: &Arc<Self>, job: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce(&mut Core) -> Result<T, Error> + Send + 'static,
    {
        self.run_with(job, |_, _| {}).await
    }

    /// Runs a job; `after` runs once it is durable, before any effect of its batch is told.
    async fn run_with<T, F, A>(self: &Arc<Self>, job: F, after: A) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce(&mut Core) -> Result<T, Error> + Send + 'static,
        A: FnOnce(&Self, &T) + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let task = Task {
            job: Some(job),
            outcome: Err(Error::Closed),
            after,
            reply,
        };
        let start = {
            let mut queue = lock(&self.queue);
            queue.jobs.push_back(Box::new(task));
            !std::mem::replace(&mut queue.running, true)
        };
        if start {
            let shared = Arc::clone(self);
            tokio::task::spawn_blocking(move || shared.drain());
        }
        answer.await.map_err(|_| Error::Closed)?
    }

    /// Runs a job that begins an operation, and waits for the operation's end.
    pub(super) async fn run_operation<F>(self: &Arc<Self>, job: F) -> Result<RoomId, Error>
    where
        F: FnOnce(&mut Core) -> Result<u64, Error> + Send + 'static,
    {
        let (waiter, end) = oneshot::channel();
        self.run_with(job, |shared, number| {
            lock(&shared.operations).insert(*number, waiter);
        })
        .await?;
        end.await.map_err(|_| Error::Closed)?
    }

    /// Runs a job that may begin an operation, and waits for that one's end; `None` when it began none.
    pub(super) async fn run_operation_if<F>(
        self: &Arc<Self>,
        job: F,
    ) -> Result<Option<RoomId>, Error>
    where
        F: FnOnce(&mut Core) -> Result<Option<u64>, Error> + Send + 'static,
    {
        let (waiter, end) = oneshot::channel();
        let begun = self
            .run_with(job, |shared, number| {
                if let Some(number) = number {
                    lock(&shared.operations).insert(*number, waiter);
                }
            })
            .await?;
        match begun {
            Some(_) => end.await.map_err(|_| Error::Closed)?.map(Some),
            None => Ok(None),
        }
    }

    /// Runs a job that asks for people, and waits for the answer.
    pub(super) async fn run_look_up<F>(
        self: &Arc<Self>,
        job: F,
    ) -> Result<Result<Listing, Refusal>, Error>
    where
        F: FnOnce(&mut Core) -> Result<RequestId, Error> + Send + 'static,
    {
        let (waiter, end) = oneshot::channel();
        self.run_with(job, |shared, request| {
            let mut waiting = lock(&shared.look_ups);
            // Whoever gave up waiting.
            waiting.retain(|_, waiter| !waiter.is_closed());
            waiting.insert(*request, waiter);
        })
        .await?;
        end.await.map_err(|_| Error::Closed)
    }

    /// Runs a job that reports somebody, and waits until the homeserver has the report; who it was.
    pub(super) async fn run_report<F>(
        self: &Arc<Self>,
        job: F,
    ) -> Result<Result<Address, Refusal>, Error>
    where
        F: FnOnce(&mut Core) -> Result<(u64, Address), Error> + Send + 'static,
    {
        let (waiter, end) = oneshot::channel();
        let (_, address) = self
            .run_with(job, |shared, (counter, _)| {
                let mut waiting = lock(&shared.reports);
                waiting.retain(|_, waiter| !waiter.is_closed());
                waiting.insert(*counter, waiter);
            })
            .await?;
        let answer = end.await.map_err(|_| Error::Closed)?;
        Ok(answer.map(|()| address))
    }

    /// Waits for the homeserver's answer to an own message.
    pub(super) async fn wait_answer(
        self: &Arc<Self>,
        message: MessageId,
    ) -> Result<Result<u64, Refusal>, Error> {
        let (waiter, end) = oneshot::channel();
        let answered = self
            .run_with(
                move |core| core.answer(message),
                move |shared, answered| {
                    if answered.is_none() {
                        lock(&shared.answers)
                            .entry(message)
                            .or_default()
                            .push(waiter);
                    }
                },
            )
            .await?;
        match answered {
            Some(answer) => Ok(answer),
            None => end.await.map_err(|_| Error::Closed),
        }
    }

    fn drain(&self) {
        let mut draining = Draining {
            shared: self,
            done: false,
        };
        while let Some(mut jobs) = self.next_jobs() {
            let mut committed = Err(Error::Closed);
            let mut effects = Effects::default();
            if let Some(core) = lock(&self.core).as_mut() {
                for job in &mut jobs {
                    job.execute(core);
                }
                committed = core.commit().map(|told| effects = told);
                let (_, last_counter) = core.outbox_bounds();
                self.last_counter.store(last_counter, Ordering::Release);
                let deadline = core.next_deadline_ms().unwrap_or(u64::MAX);
                self.next_deadline.store(deadline, Ordering::Release);
            }
            for job in jobs {
                job.finish(self, &committed);
            }
            self.tell(effects);
        }
        draining.done = true;
    }

    fn next_jobs(&self) -> Option<Vec<Box<dyn Job>>> {
        let mut queue = lock(&self.queue);
        if queue.jobs.is_empty() {
            queue.running = false;
            return None;
        }
        let count = queue.jobs.len().min(BATCH_JOBS_MAX);
        Some(queue.jobs.drain(..count).collect())
    }

    fn tell(&self, effects: Effects) {
        for event in effects.events {
            self.emit(&event);
        }
        for (number, outcome) in effects.operations {
            if let Some(waiter) = lock(&self.operations).remove(&number) {
                let _ = waiter.send(outcome);
            }
        }
        for (message, answer) in effects.answers {
            for waiter in lock(&self.answers).remove(&message).unwrap_or_default() {
                let _ = waiter.send(answer.clone());
            }
        }
        for (request, answer) in effects.look_ups {
            if let Some(waiter) = lock(&self.look_ups).remove(&request) {
                let _ = waiter.send(answer);
            }
        }
        for (counter, answer) in effects.reports {
            if let Some(waiter) = lock(&self.reports).remove(&counter) {
                let _ = waiter.send(answer);
            }
        }
        if effects.outbox_grew {
            self.outbox.notify_one();
        }
        if effects.devices_answered {
            self.answered.notify_waiters();
        }
        let replaced = effects.replaced && !self.replaced.swap(true, Ordering::AcqRel);
        if replaced || effects.schedule_changed {
            self.keeper.notify_one();
        }
    }

    /// Tells every reader; one that is too far behind is cut off.
    pub(super) fn emit(&self, event: &Event) {
        lock(&self.listeners).retain(|listener| listener.try_send(event.clone()).is_ok());
    }

    pub(super) fn events(&self) -> Events {
        let (sender, receiver) = mpsc::channel(EVENTS_WAITING_MAX);
        if !matches!(*self.link.borrow(), Link::Closed) {
            lock(&self.listeners).push(sender);
        }
        Events { receiver }
    }

    /// Ends everything and gives the store back.
    pub(super) async fn close(self: &Arc<Self>) {
        self.link.send_replace(Link::Closed);
        let shared = Arc::clone(self);
        // Jobs that are queued already run first: they wait for the same lock in their order.
        let _ = self.run(|_| Ok(())).await;
        let _ = tokio::task::spawn_blocking(move || drop(lock(&shared.core).take())).await;
        lock(&self.listeners).clear();
        lock(&self.operations).clear();
        lock(&self.answers).clear();
        lock(&self.look_ups).clear();
        lock(&self.reports).clear();
    }
}

/// Sees to it that a job that panics ends the client instead of leaving everybody waiting: what its
/// batch has done is unknown, so nothing goes on from there.
struct Draining<'a> {
    shared: &'a Shared,
    done: bool,
}

impl Drop for Draining<'_> {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        drop(lock(&self.shared.core).take());
        let jobs = {
            let mut queue = lock(&self.shared.queue);
            queue.running = false;
            std::mem::take(&mut queue.jobs)
        };
        // Whoever waits hears that the client is closed, and finds it so.
        self.shared.link.send_replace(Link::Closed);
        drop(jobs);
        lock(&self.shared.operations).clear();
        lock(&self.shared.answers).clear();
        lock(&self.shared.look_ups).clear();
        lock(&self.shared.reports).clear();
        lock(&self.shared.listeners).clear();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
