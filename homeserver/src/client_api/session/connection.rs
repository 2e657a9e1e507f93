//! One open session.
//!
//! What happens now and then is boxed while it happens, so that an idle session's task is small.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket, close_code};
use bytes::Bytes;
use futures_util::FutureExt as _;
use homeserver_api::policy::ClientVersion;
use homeserver_api::session::{
    CLOSE_BARRED, CLOSE_DEVICE_REMOVED, CLOSE_REPLACED, CLOSE_SUSPENDED, CLOSE_TOO_SLOW,
    CLOSE_UNAVAILABLE, ClientFrame, FRAME_SUBMISSIONS_MAX, Hello, ServerFrame, Submission,
    UNACKNOWLEDGED_DELIVERIES_MAX,
};
use tokio::time::{Instant, MissedTickBehavior};

use crate::delivery::inbox::{self, Sent};
use crate::delivery::mailboxes::{Bell, Ring, Rings};
use crate::delivery::submit::submit;
use crate::identity::{IdentityError, LocalAccount, sign_in};
use crate::node::Node;
use crate::store::device::{self, DeviceOf};
use crate::store::{StoreError, policy_serial, submit_state};

const PING_INTERVAL: Duration = Duration::from_secs(30);
/// A device that has said nothing for this long, pongs included, is gone.
const SILENCE_MAX: Duration = Duration::from_secs(59);
/// A device that does not read a frame within this time is cut.
const SEND_TIMEOUT: Duration = Duration::from_secs(30);
/// Most deliveries, and about the most bytes, in one frame.
const FRAME_DELIVERIES_MAX: usize = 256;
const FRAME_DELIVERY_BYTES: usize = 128 * 1024;
/// What has arrived is gathered into one job up to this many bytes.
const JOB_BYTES_MAX: usize = 1024 * 1024;

/// Why a session ended.
#[derive(Debug)]
pub(super) enum End {
    /// The device left, or its connection broke.
    Left,
    /// See [`CLOSE_REPLACED`].
    Replaced,
    /// See [`CLOSE_DEVICE_REMOVED`].
    Removed,
    /// See [`CLOSE_SUSPENDED`].
    Suspended,
    /// See [`CLOSE_BARRED`].
    Barred(String),
    /// See [`CLOSE_TOO_SLOW`].
    TooSlow,
    /// The homeserver stops.
    Stopping,
    /// The device sent what is no frame, or a frame that makes no sense.
    Protocol(String),
    /// The store failed.
    Store(StoreError),
}

impl From<StoreError> for End {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl End {
    fn close_frame(&self) -> Option<CloseFrame> {
        let (code, reason) = match self {
            Self::Left => return None,
            Self::Replaced => (CLOSE_REPLACED, "another session of this device opened"),
            Self::Removed => (CLOSE_DEVICE_REMOVED, "this device was removed"),
            Self::Suspended => (CLOSE_SUSPENDED, "this account is suspended"),
            Self::Barred(what) => (CLOSE_BARRED, what.as_str()),
            Self::TooSlow => (CLOSE_TOO_SLOW, "this device took too long"),
            Self::Stopping => (close_code::AWAY, "the homeserver stops: connect again"),
            Self::Protocol(problem) => (close_code::PROTOCOL, problem.as_str()),
            Self::Store(_) => (
                CLOSE_UNAVAILABLE,
                "the homeserver's store failed: try later",
            ),
        };
        // A close frame's reason has at most 123 bytes.
        let reason: String = reason.chars().filter(char::is_ascii).take(120).collect();
        Some(CloseFrame {
            code,
            reason: reason.into(),
        })
    }
}

/// Serves a session until it ends.
pub(super) async fn run(
    node: Arc<Node>,
    (device, client): (DeviceOf, Option<ClientVersion>),
    socket: WebSocket,
) {
    let bell = node.mailboxes.open(device.device);
    let mut session = Session {
        node: &node,
        device,
        client,
        socket,
        bell: &bell,
        rings: Rings::default(),
        rules: None,
        sign_in_ends: None,
        unacknowledged: VecDeque::new(),
        cursor: 0,
        heard: Instant::now(),
    };
    let end = match session.serve().await {
        Ok(never) => match never {},
        Err(end) => end,
    };
    node.mailboxes.end(&bell);
    if let End::Store(error) = &end {
        tracing::error!(%error, "a session ended because the store failed");
    }
    let close = end.close_frame();
    if close.is_some() {
        // Said once, to a device that reads; nobody waits for one that does not.
        let farewell = session.socket.send(Message::Close(close));
        let _ = tokio::time::timeout(Duration::from_secs(1), farewell).await;
    }
    node.mailboxes.close(device.device, &bell);
}

/// What arrived together.
#[derive(Default)]
struct Job {
    submissions: Vec<Submission>,
    acknowledged: Option<u64>,
    bytes: usize,
}

impl Job {
    fn is_full(&self) -> bool {
        self.submissions.len() >= FRAME_SUBMISSIONS_MAX || self.bytes >= JOB_BYTES_MAX
    }
}

struct Session<'a> {
    node: &'a Node,
    device: DeviceOf,
    /// What the client says that it is.
    client: Option<ClientVersion>,
    socket: WebSocket,
    bell: &'a Bell,
    /// What it was rung for and has not yet acted on.
    rings: Rings,
    /// The account's rules as last seen.
    rules: Option<Arc<LocalAccount>>,
    /// When its user has to type the password again.
    sign_in_ends: Option<Instant>,
    /// Sent, oldest first.
    unacknowledged: VecDeque<Sent>,
    /// The inbox number to read on from.
    cursor: u64,
    /// When the device last said anything.
    heard: Instant,
}

impl Session<'_> {
    async fn serve(&mut self) -> Result<std::convert::Infallible, End> {
        self.check_rules().await?;
        let (state, _) = submit_state::get(&self.node.store, self.device.device).await?;
        self.send(&ServerFrame::Hello(Hello {
            server_time_ms: self.node.clock.now_ms(),
            last_counter: state.last_counter(),
        }))
        .await?;
        drop(state);

        let mut ping = tokio::time::interval_at(Instant::now() + PING_INTERVAL, PING_INTERVAL);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut mail = true;
        let mut caught_up = false;
        loop {
            // Also while the device never stops sending.
            self.rings = self.rings.and(self.bell.heard());
            if self.rings.has(Ring::Mail) {
                mail = true;
            }
            if self.rings != Rings::default() {
                Box::pin(self.act_on_rings()).await?;
            }
            let window = self.unacknowledged.len() < UNACKNOWLEDGED_DELIVERIES_MAX;
            if mail && window {
                mail = Box::pin(self.deliver()).await?;
            }
            if !mail && !caught_up {
                caught_up = true;
                self.send(&ServerFrame::CaughtUp).await?;
            }
            let sign_in_ends = self.sign_in_ends;
            let more = mail && self.unacknowledged.len() < UNACKNOWLEDGED_DELIVERIES_MAX;
            tokio::select! {
                biased;
                message = self.socket.recv() => {
                    Box::pin(self.arrived(message)).await?;
                }
                rings = self.bell.rung() => self.rings = self.rings.and(rings),
                () = at(sign_in_ends), if sign_in_ends.is_some() => {
                    Box::pin(self.check_rules()).await?;
                }
                _ = ping.tick() => self.ping().await?,
                () = std::future::ready(()), if more => {}
            }
        }
    }

    /// Ends the session or tells the device, as it was rung for.
    async fn act_on_rings(&mut self) -> Result<(), End> {
        let rings = std::mem::take(&mut self.rings);
        check_ended(rings)?;
        let mut changed = rings.has(Ring::Peers) || rings.has(Ring::Devices);
        if rings.has(Ring::Rules) {
            changed |= self.check_rules().await?;
        }
        if changed {
            self.send(&ServerFrame::AccountChanged).await?;
        }
        Ok(())
    }

    /// Reads the account's rules again, and whether they differ; ends the session of a removed
    /// device or a suspended account.
    async fn check_rules(&mut self) -> Result<bool, End> {
        let (rules, ends_ms) = rules(self.node, self.device, self.client, self.bell).await?;
        let now_ms = self.node.clock.now_ms();
        self.sign_in_ends = ends_ms.and_then(|ends_ms| {
            let left = Duration::from_millis(ends_ms.saturating_sub(now_ms));
            Instant::now().checked_add(left)
        });
        let changed = self.rules.as_ref().is_some_and(|former| *former != rules);
        self.rules = Some(rules);
        Ok(changed)
    }

    async fn ping(&mut self) -> Result<(), End> {
        if self.heard.elapsed() >= SILENCE_MAX {
            return Err(End::TooSlow);
        }
        self.send_message(Message::Ping(Bytes::new())).await
    }

    /// Acts on a message and on whatever else has arrived with it.
    async fn arrived(&mut self, first: Option<Result<Message, axum::Error>>) -> Result<(), End> {
        let mut job = Job::default();
        self.gather(&mut job, first)?;
        while !job.is_full() {
            match self.socket.recv().now_or_never() {
                Some(message) => self.gather(&mut job, message)?,
                None => break,
            }
        }
        let stored = self.acknowledged(job.acknowledged)?;
        let (node, device) = (self.node, self.device);
        let submitting = async {
            match job.submissions.as_slice() {
                [] => Ok(Vec::new()),
                submissions => submit(node, device, submissions).await,
            }
        };
        let acknowledging = async {
            if stored.is_empty() {
                return Ok(());
            }
            inbox::acknowledge(node, device.device, stored).await
        };
        let (results, acknowledged) = tokio::join!(submitting, acknowledging);
        acknowledged?;
        let results = results?;
        if !results.is_empty() {
            self.send(&ServerFrame::Results(results)).await?;
        }
        Ok(())
    }

    fn gather(
        &mut self,
        job: &mut Job,
        message: Option<Result<Message, axum::Error>>,
    ) -> Result<(), End> {
        let Some(Ok(message)) = message else {
            return Err(End::Left);
        };
        self.heard = Instant::now();
        let bytes = match message {
            Message::Binary(bytes) => bytes,
            Message::Ping(_) | Message::Pong(_) => return Ok(()),
            Message::Close(_) => return Err(End::Left),
            Message::Text(_) => {
                return Err(End::Protocol("frames are binary messages".to_owned()));
            }
        };
        job.bytes = job.bytes.saturating_add(bytes.len());
        match ClientFrame::decode(&bytes) {
            Ok(ClientFrame::Submit(submissions)) if submissions.len() > FRAME_SUBMISSIONS_MAX => {
                Err(End::Protocol(format!(
                    "a frame has at most {FRAME_SUBMISSIONS_MAX} submissions"
                )))
            }
            Ok(ClientFrame::Submit(submissions)) => {
                job.submissions.extend(submissions);
                Ok(())
            }
            Ok(ClientFrame::Acknowledge(number)) => {
                job.acknowledged = job.acknowledged.max(Some(number));
                Ok(())
            }
            Err(error) => Err(End::Protocol(error.to_string())),
        }
    }

    /// Takes what an acknowledgement covers off the window.
    fn acknowledged(&mut self, number: Option<u64>) -> Result<Vec<Sent>, End> {
        let Some(number) = number else {
            return Ok(Vec::new());
        };
        if number >= self.cursor {
            return Err(End::Protocol(format!(
                "delivery {number} was acknowledged and never sent"
            )));
        }
        let covered = self
            .unacknowledged
            .partition_point(|sent| sent.number <= number);
        Ok(self.unacknowledged.drain(..covered).collect())
    }

    /// Sends the next deliveries; whether more may wait.
    async fn deliver(&mut self) -> Result<bool, End> {
        let window = UNACKNOWLEDGED_DELIVERIES_MAX.saturating_sub(self.unacknowledged.len());
        let page = inbox::read(
            self.node,
            self.device.device,
            self.cursor,
            window.min(FRAME_DELIVERIES_MAX),
            FRAME_DELIVERY_BYTES,
        )
        .await?;
        self.cursor = page.next;
        if page.deliveries.is_empty() {
            return Ok(page.more);
        }
        let (deliveries, sent): (Vec<_>, Vec<_>) = page.deliveries.into_iter().unzip();
        self.unacknowledged.extend(sent);
        self.send(&ServerFrame::Deliver(deliveries)).await?;
        Ok(page.more)
    }

    async fn send(&mut self, frame: &ServerFrame) -> Result<(), End> {
        let bytes = frame
            .encode()
            .map_err(|error| End::Protocol(error.to_string()))?;
        self.send_message(Message::Binary(bytes.into())).await
    }

    /// Sends, and meanwhile still hears that the session is to end.
    async fn send_message(&mut self, message: Message) -> Result<(), End> {
        let Self {
            node,
            device,
            client,
            socket,
            bell,
            rings,
            ..
        } = self;
        let mut sending = pin!(socket.send(message));
        let mut patience = pin!(tokio::time::sleep(SEND_TIMEOUT));
        loop {
            tokio::select! {
                biased;
                sent = &mut sending => return sent.map_err(|_| End::Left),
                rung = bell.rung() => {
                    check_ended(rung)?;
                    if rung.has(Ring::Rules) {
                        rules(node, *device, *client, bell).await?;
                    }
                    *rings = rings.and(rung);
                }
                () = &mut patience => return Err(End::TooSlow),
            }
        }
    }
}

fn check_ended(rings: Rings) -> Result<(), End> {
    if rings.has(Ring::Replaced) {
        return Err(End::Replaced);
    }
    if rings.has(Ring::Stopping) {
        return Err(End::Stopping);
    }
    Ok(())
}

/// The account's rules, if the device may have a session, and until when, milliseconds since the Unix epoch (`None`: without
/// end).
async fn rules(
    node: &Node,
    device: DeviceOf,
    client: Option<ClientVersion>,
    bell: &Bell,
) -> Result<(Arc<LocalAccount>, Option<u64>), End> {
    // First: what it is rung for from now on it may miss.
    let rung = bell.for_rules();
    let serial = policy_serial::get(&node.store).await?;
    let serial = policy_serial::number(serial.as_ref())?;
    let Some((record, _)) = device::get(&node.store, device).await? else {
        return Err(End::Removed);
    };
    let account = node.accounts.get(&node.store, device.account, serial);
    let account = account.await?.ok_or(End::Removed)?;
    if account.suspended {
        return Err(End::Suspended);
    }
    let admitted = sign_in::admit(&account, &record, client, node.clock.now_ms());
    match admitted {
        Ok(ends_ms) => {
            bell.looked(rung);
            Ok((account, ends_ms))
        }
        Err(IdentityError::Store(error)) => Err(End::Store(error)),
        Err(barred) => Err(End::Barred(barred.to_string())),
    }
}

/// Waits until then; for ever when there is no such time.
async fn at(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}
