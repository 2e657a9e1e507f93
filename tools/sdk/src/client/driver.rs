//! The background session: connects, sends what waits, takes in what comes, and starts again.

use std::iter;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::FutureExt as _;
use homeserver_api::session::{ClientFrame, Delivery, Hello, ServerFrame, SubmissionResult};
use ring::rand::{SecureRandom as _, SystemRandom};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};

use super::shared::{Link, Shared};
use super::upkeep;
use crate::core::Again;
use crate::error::Error;
use crate::event::Event;
use crate::session::{Received, Receiver, Sender, Session};

const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// A session that stood this long was a good one: the next failure starts with a short pause.
const GOOD_SESSION: Duration = Duration::from_secs(1);
/// Most submissions without an answer: well below what the homeserver keeps results for.
const IN_FLIGHT_MAX: usize = 512;
/// Least pause before a submission is sent again.
const AGAIN_AFTER_MS_MIN: u64 = 20;
/// Most frames of deliveries that are taken in together.
const FRAMES_TOGETHER_MAX: usize = 16;
const PING_EVERY: Duration = Duration::from_secs(30);
/// Silence after which the connection counts as dead.
const SILENCE_MAX: Duration = Duration::from_secs(75);

/// Runs until told to stop.
pub(super) async fn run(shared: Arc<Shared>, mut stop: watch::Receiver<bool>) {
    let mut backoff = BACKOFF_MIN;
    loop {
        shared.link.send_replace(Link::Connecting);
        let began = Instant::now();
        let ended = tokio::select! {
            ended = session(&shared) => ended,
            () = stopped(&mut stop) => break,
        };
        let error = ended
            .err()
            .unwrap_or_else(|| Error::SessionLost("the homeserver ended it".to_owned()));
        if began.elapsed() >= GOOD_SESSION {
            backoff = BACKOFF_MIN;
        }
        if refuses_device(&error) {
            backoff = BACKOFF_MAX;
            shared.link.send_replace(Link::Refused(error.clone()));
        } else {
            shared.link.send_replace(Link::Connecting);
        }
        let retry_in = jittered(backoff);
        tracing::debug!(%error, ?retry_in, "no session");
        shared.emit(&Event::Disconnected {
            reason: error.to_string(),
            retry_in,
        });
        tokio::select! {
            () = sleep(retry_in) => {}
            () = stopped(&mut stop) => break,
        }
        backoff = (backoff * 2).min(BACKOFF_MAX);
    }
    shared.link.send_if_modified(|link| {
        let closed = matches!(link, Link::Closed);
        if !closed {
            *link = Link::Stopped;
        }
        !closed
    });
}

/// Longest sleep of [`keep`]: the clock may be set meanwhile.
const NAP: Duration = Duration::from_secs(60);
/// How long replaced records may stay readable to whoever has the store's key.
const REPLACED_FOR_MAX: Duration = Duration::from_secs(1);
/// How often a session that stands is looked after as if it had just begun.
const UPKEEP_EVERY_MS: u64 = 24 * 60 * 60 * 1000;

/// Deletes what expires, tries again what was put off and makes unreadable what was replaced, also while there is no session; once a
/// day, while there is one, looks after the certificate and the rest.
pub(super) async fn keep(shared: Arc<Shared>, mut stop: watch::Receiver<bool>) {
    let mut forget_at: Option<Instant> = None;
    let mut upkeep_at_ms = shared.clock.now_ms().saturating_add(UPKEEP_EVERY_MS);
    loop {
        if shared.replaced.load(Ordering::Acquire) {
            forget_at.get_or_insert_with(|| Instant::now() + REPLACED_FOR_MAX);
        }
        let left_ms = shared
            .next_deadline
            .load(Ordering::Acquire)
            .saturating_sub(shared.clock.now_ms());
        let delete_at = Instant::now() + Duration::from_millis(left_ms).min(NAP);
        tokio::select! {
            () = sleep_until(forget_at.map_or(delete_at, |at| at.min(delete_at))) => {}
            () = shared.keeper.notified() => {}
            () = stopped(&mut stop) => return,
        }
        let now_ms = shared.clock.now_ms();
        if upkeep_at_ms <= now_ms && matches!(*shared.link.borrow(), Link::Up | Link::CaughtUp) {
            upkeep_at_ms = now_ms.saturating_add(UPKEEP_EVERY_MS);
            tokio::spawn(upkeep::if_due(Arc::clone(&shared)));
        }
        let deadline = shared.next_deadline.load(Ordering::Acquire);
        if deadline <= shared.clock.now_ms()
            && let Err(error) = shared.run(crate::core::Core::do_due).await
        {
            tracing::warn!(%error, "expired messages can't be deleted, or held ones sent");
            sleep(REPLACED_FOR_MAX).await;
        }
        if forget_at.is_some_and(|at| at <= Instant::now()) {
            forget_at = None;
            shared.replaced.store(false, Ordering::Release);
            if let Err(error) = shared.run(|core| core.forget_replaced()).await {
                tracing::warn!(%error, "replaced records can't be made unreadable");
            }
        }
    }
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error means that nobody can stop it any other way any more.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Whether asking again at once is pointless.
fn refuses_device(error: &Error) -> bool {
    match error {
        Error::Problem(problem) => matches!(problem.status, 401 | 403),
        Error::StaleStore
        | Error::RestoredServer
        | Error::Untrusted(_)
        | Error::Store(_)
        | Error::Closed => true,
        _ => false,
    }
}

fn jittered(pause: Duration) -> Duration {
    let mut random = [0];
    let _ = SystemRandom::new().fill(&mut random);
    let [random] = random;
    // Between 75 % and 125 %, so that a homeserver's clients don't come back all at once.
    pause * (192 + u32::from(random) / 2) / 256
}

/// One session from its beginning to its end.
async fn session(shared: &Arc<Shared>) -> Result<(), Error> {
    let (session, hello) = Session::open(&shared.endpoint, &shared.identity.token).await?;
    let Hello { last_counter, .. } = hello;
    shared.run(move |core| core.greeted(last_counter)).await?;
    shared.link.send_replace(Link::Up);
    shared.emit(&Event::Connected);
    tokio::spawn(upkeep::if_due(Arc::clone(shared)));

    let (sender, receiver) = session.split();
    let (frames, to_send) = mpsc::channel(4);
    let acknowledged = watch::Sender::new(0);
    let writer = write(sender, to_send, acknowledged.subscribe());
    let reader = Reader {
        shared: Arc::clone(shared),
        frames,
        acknowledged,
        sent: 0,
        in_flight: 0,
        hold_until: None,
    };
    // Both halves at once: neither side of a full connection waits for the other.
    tokio::select! {
        ended = writer => ended,
        ended = reader.read(receiver) => ended,
    }
}

async fn write(
    mut sender: Sender,
    mut frames: mpsc::Receiver<ClientFrame>,
    mut acknowledged: watch::Receiver<u64>,
) -> Result<(), Error> {
    let mut ping_at = Instant::now() + PING_EVERY;
    loop {
        tokio::select! {
            frame = frames.recv() => match frame {
                Some(frame) => sender.send(&frame).await?,
                None => return Ok(()),
            },
            changed = acknowledged.changed() => {
                if changed.is_err() {
                    return Ok(());
                }
                let number = *acknowledged.borrow_and_update();
                sender.send(&ClientFrame::Acknowledge(number)).await?;
            }
            () = sleep_until(ping_at) => {
                sender.ping().await?;
                ping_at = Instant::now() + PING_EVERY;
            }
        }
    }
}

struct Reader {
    shared: Arc<Shared>,
    frames: mpsc::Sender<ClientFrame>,
    acknowledged: watch::Sender<u64>,
    /// Counter of the last submission sent in this session.
    sent: u64,
    in_flight: usize,
    /// Nothing is sent before this moment: the homeserver asked to wait.
    hold_until: Option<Instant>,
}

impl Reader {
    async fn read(mut self, mut receiver: Receiver) -> Result<(), Error> {
        let shared = Arc::clone(&self.shared);
        let mut heard = Instant::now();
        loop {
            self.submit().await?;
            let hold_until = self.hold_until;
            tokio::select! {
                received = receiver.next_or_pong() => {
                    heard = Instant::now();
                    let (received, behind) = with_what_waits(received, &mut receiver);
                    for received in iter::once(received).chain(behind) {
                        match received? {
                            Some(Received::Frame(frame)) => self.take(frame).await?,
                            Some(Received::Pong) => {}
                            None => return Ok(()),
                        }
                    }
                }
                () = shared.outbox.notified() => {}
                // Room for another frame came free while there was more to send.
                () = room_for_more(&self.frames), if self.blocked() => {}
                () = sleep_until(hold_until.unwrap_or(heard)), if hold_until.is_some() => {
                    self.hold_until = None;
                }
                () = sleep_until(heard + SILENCE_MAX) => {
                    return Err(Error::SessionLost(
                        "the homeserver was silent for too long".to_owned(),
                    ));
                }
            }
        }
    }

    fn has_more(&self) -> bool {
        self.hold_until.is_none()
            && self.in_flight < IN_FLIGHT_MAX
            && self.sent < self.shared.last_counter.load(Ordering::Acquire)
    }

    fn blocked(&self) -> bool {
        self.has_more() && self.frames.capacity() == 0
    }

    /// Sends what waits, as one frame, as far as the homeserver's answers keep up.
    async fn submit(&mut self) -> Result<(), Error> {
        if !self.has_more() || self.frames.capacity() == 0 {
            return Ok(());
        }
        let (after, count) = (self.sent, IN_FLIGHT_MAX - self.in_flight);
        // The last counter of the same moment: what is made meanwhile is not among these.
        let (submissions, made) = self
            .shared
            .run(move |core| {
                Ok((
                    core.submissions_after(after, count)?,
                    core.outbox_bounds().1,
                ))
            })
            .await?;
        let Some(last) = submissions.last() else {
            // Everything up to there is answered already.
            self.sent = made;
            return Ok(());
        };
        self.sent = last.counter;
        self.in_flight += submissions.len();
        // There is room: this task alone sends.
        let _ = self.frames.try_send(ClientFrame::Submit(submissions));
        Ok(())
    }

    async fn take(&mut self, frame: ServerFrame) -> Result<(), Error> {
        match frame {
            ServerFrame::Results(results) => self.take_results(results).await,
            ServerFrame::Deliver(deliveries) => {
                let number = take_deliveries(&self.shared, deliveries).await?;
                self.acknowledged.send_replace(number);
                if self.shared.run(|core| Ok(core.key_packages_used())).await?
                    >= upkeep::REFILL_AFTER_USED
                {
                    tokio::spawn(upkeep::key_packages(Arc::clone(&self.shared)));
                }
                Ok(())
            }
            ServerFrame::AccountChanged => {
                tokio::spawn(upkeep::account(Arc::clone(&self.shared)));
                Ok(())
            }
            ServerFrame::CaughtUp => {
                self.shared.link.send_replace(Link::CaughtUp);
                Ok(())
            }
            ServerFrame::Hello(_) => Err(Error::Protocol("a second hello".to_owned())),
        }
    }

    async fn take_results(&mut self, results: Vec<SubmissionResult>) -> Result<(), Error> {
        self.in_flight = self.in_flight.saturating_sub(results.len());
        let again = with_roots(&self.shared, move |core, fresh| {
            core.take_results(results.clone(), fresh)
        })
        .await?;
        if let Some(Again { counter, after_ms }) = again {
            self.sent = self.sent.min(counter.saturating_sub(1));
            let pause = Duration::from_millis(after_ms.max(AGAIN_AFTER_MS_MIN));
            self.hold_until = Some(Instant::now() + pause);
        }
        Ok(())
    }
}

/// What a session brought.
type Brought = Result<Option<Received>, Error>;

/// Deliveries with those that have come behind them already, and what came behind these. Taken in together they cost one
/// batch: where mail comes faster than a device takes it in, the batches are most of its work.
fn with_what_waits(brought: Brought, receiver: &mut Receiver) -> (Brought, Option<Brought>) {
    let Ok(Some(Received::Frame(ServerFrame::Deliver(mut deliveries)))) = brought else {
        return (brought, None);
    };
    let mut behind = None;
    for _ in 1..FRAMES_TOGETHER_MAX {
        match receiver.next_or_pong().now_or_never() {
            Some(Ok(Some(Received::Frame(ServerFrame::Deliver(more))))) => deliveries.extend(more),
            Some(Ok(Some(Received::Pong))) => {}
            other => {
                behind = other;
                break;
            }
        }
    }
    let deliveries = Received::Frame(ServerFrame::Deliver(deliveries));
    (Ok(Some(deliveries)), behind)
}

async fn room_for_more(frames: &mpsc::Sender<ClientFrame>) {
    // The permit goes back at once; it only tells that there is room.
    let _ = frames.reserve().await;
}

async fn take_deliveries(shared: &Arc<Shared>, deliveries: Vec<Delivery>) -> Result<u64, Error> {
    with_roots(shared, move |core, fresh| {
        core.receive(deliveries.clone(), fresh)
    })
    .await
}

/// Runs a job that may meet a root that is not known here yet: then the roots are
/// fetched, and the job runs once more with what is known then.
async fn with_roots<T, F>(shared: &Arc<Shared>, job: F) -> Result<T, Error>
where
    T: Send + 'static,
    F: Fn(&mut crate::core::Core, bool) -> Result<T, Error> + Clone + Send + 'static,
{
    let first = job.clone();
    match shared.run(move |core| first(core, false)).await {
        Err(error) if error.wants_roots() => {
            upkeep::anchors(shared).await?;
            shared.run(move |core| job(core, true)).await
        }
        outcome => outcome,
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use super::*;
    use crate::client::tests::person;
    use crate::testing::loopback::{Loopback, within};

    /// Goal: what is made while a session looks for what to send is sent in that session; by making something
    /// between the look and what is concluded from it, at a session's beginning.
    #[tokio::test]
    async fn nothing_is_overlooked() {
        within(async {
            let homeserver = Loopback::start("a.example").await;
            let alice = person(&homeserver, "alice").await;
            let bob = person(&homeserver, "bob").await;
            let with = [bob.client.address().clone()];
            alice.client.start_conversation(&with).await.unwrap();
            alice.client.disconnect().await;

            let shared = Arc::clone(&alice.client.shared);
            let (frames, _to_send) = mpsc::channel(4);
            let mut reader = Reader {
                shared: Arc::clone(&shared),
                frames,
                acknowledged: watch::Sender::new(0),
                sent: 0,
                in_flight: 0,
                hold_until: None,
            };
            assert!(
                reader.has_more(),
                "everything is answered, which it can't know yet"
            );
            {
                // The core is busy until both jobs wait for it, the look first.
                let (free, busy) = std::sync::mpsc::channel();
                let mut holding = pin!(shared.run(move |_| {
                    let _ = busy.recv();
                    Ok(())
                }));
                assert!(begun(holding.as_mut()).await);
                let mut submitting = pin!(reader.submit());
                assert!(begun(submitting.as_mut()).await);
                let mut making = pin!(shared.run(move |core| core.start_conversation(&with)));
                assert!(begun(making.as_mut()).await);
                free.send(()).unwrap();
                holding.await.unwrap();
                making.await.unwrap();
                submitting.await.unwrap();
            }
            assert!(reader.has_more());
        })
        .await;
    }

    /// Polls once; whether there is more to do.
    async fn begun<F: Future>(mut future: std::pin::Pin<&mut F>) -> bool {
        std::future::poll_fn(|context| {
            std::task::Poll::Ready(future.as_mut().poll(context).is_pending())
        })
        .await
    }
}
