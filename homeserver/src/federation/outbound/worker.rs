//! The task that serves one peer.
//!
//! [`Worker::step`] does one thing and says what to wait for; [`Worker::run`] does the waiting. A few
//! transactions may be under way meanwhile, each with lanes of its own. What was acknowledged leaves the
//! outbox in the step that learnt of it; a process that dies before sends it again, and the peer answers
//! that it has it.

mod disagreement;
mod documents;
mod exchange;
mod expiry;
mod greeting;
mod pace;
mod reconcile;
mod splitting;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use federation_proto::envelope::Lane;
use federation_proto::ids::ServerName;
use federation_proto::refusal::{Refusal, RefusalCode};
use federation_proto::version::Version;
use tokio::task::JoinSet;
use tokio::time::Instant;

use self::exchange::UnderWay;
use self::expiry::EXPIRY_INTERVAL;
use self::pace::Pace;
use self::reconcile::Reconciling;
use self::splitting::Suspicion;
use super::backoff::Backoff;
use super::cut_if_ended;
use super::links::{self, News, RING_EVERY_MS};
use super::network::Network;
use super::queue::{Filled, Next, Queue};
use super::request::RequestError;
use super::settle;
use crate::cluster::Fence;
use crate::federation::peers::{self, Direction, Operation, PeerState, PeerView};
use crate::http_client::ConnectionError;
use crate::node::Node;
use crate::store::StoreError;
use crate::store::lease::Duty;
use crate::store::outbox;

/// How long the task waits after a failure of the store, at first
const STORE_DELAY_FIRST: Duration = Duration::from_millis(200);
/// and at most.
const STORE_DELAY_MAX: Duration = Duration::from_secs(60);

/// Serves one peer.
pub(super) struct Worker {
    node: Arc<Node>,
    network: Arc<dyn Network>,
    server: ServerName,
    /// What it writes under; `None`: it is not this node that sends to the peer.
    fence: Option<Fence>,
    link: Arc<links::Link>,
    queue: Queue,
    under_way: UnderWay,
    backoff: Backoff,
    /// What is waited for once nothing is under way any more.
    pause: Option<Duration>,
    /// The version negotiated since the peer was last reached.
    version: Option<Version>,
    /// Lanes that were reported because the peer is ahead.
    held: BTreeSet<Lane>,
    /// When the search for expired rows goes on, and where; `None`: nothing waits.
    next_expiry: Option<Instant>,
    expiry_cursor: Option<(Lane, u64)>,
    suspicion: Option<Suspicion>,
    reconciling: Reconciling,
    /// The peer misses what it had acknowledged: everything is to be numbered anew.
    is_behind: bool,
    pace: Pace,
    /// When documents are tried again that the peer did not take.
    documents_at: Option<Instant>,
    /// A hub is being asked for the peer's manifest.
    hub_asked: JoinSet<()>,
}

/// What a step asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Another step at once.
    Again,
    /// Nothing to do before something that is under way is answered, unless there is mail.
    Answer,
    /// Nothing to do until there is mail.
    Idle,
    /// Nothing to do before this has passed, unless there is mail.
    Mail(Duration),
    /// Nothing may be tried before this has passed.
    Delay(Duration),
    /// The peer is gone for good.
    Gone,
}

impl Worker {
    /// A worker that has not done anything yet.
    pub(super) fn new(node: Arc<Node>, network: Arc<dyn Network>, server: ServerName) -> Self {
        let link = node.links.link(&server);
        // Keys may have changed while nobody was here to tell it.
        link.to_announce.store(true, Ordering::Release);
        let fence = node.cluster.fence(&Duty::Outbound(server.clone()));
        Self {
            queue: Queue::new(server.clone(), 0).under(fence.clone()),
            fence,
            link,
            node,
            network,
            server,
            under_way: UnderWay::default(),
            backoff: Backoff::default(),
            pause: None,
            version: None,
            held: BTreeSet::new(),
            next_expiry: None,
            expiry_cursor: None,
            suspicion: None,
            reconciling: Reconciling::Unknown,
            is_behind: false,
            pace: Pace::default(),
            documents_at: None,
            hub_asked: JoinSet::new(),
        }
    }

    /// Works until the peer is gone or the store stops.
    pub(super) async fn run(mut self) {
        let mut store_delay = STORE_DELAY_FIRST;
        loop {
            let step = match self.go_on().await {
                Ok(step) => {
                    store_delay = STORE_DELAY_FIRST;
                    step
                }
                Err(StoreError::Stopped) => return,
                Err(error) => {
                    tracing::error!(server = %self.server, %error, "sending is held up");
                    self.read_afresh(self.queue.link_epoch());
                    tokio::time::sleep(store_delay).await;
                    store_delay = store_delay.saturating_mul(2).min(STORE_DELAY_MAX);
                    continue;
                }
            };
            match step {
                Step::Again => tokio::task::yield_now().await,
                Step::Gone => return,
                Step::Answer => self.answer().await,
                Step::Idle => self.wait(None, true).await,
                Step::Mail(delay) => self.wait(Some(delay), true).await,
                Step::Delay(delay) => {
                    self.next_expiry
                        .get_or_insert_with(|| Instant::now() + EXPIRY_INTERVAL);
                    self.link.set_unreachable(self.backoff.is_unreachable());
                    self.wait(Some(delay), false).await;
                    self.link.set_unreachable(false);
                }
            }
        }
    }

    /// Does one thing; gives up what has expired when it is time for that, whatever else there is.
    pub(super) async fn go_on(&mut self) -> Result<Step, StoreError> {
        if !self.is_here() {
            return Ok(Step::Gone);
        }
        self.look_for_restore().await?;
        if self.next_expiry.is_some_and(|at| at <= Instant::now()) {
            self.expire().await?;
        }
        match self.step().await {
            Err(StoreError::Corrupt {
                family: outbox::FAMILY,
            }) => {
                // What is under way might be among it.
                self.read_afresh(self.queue.link_epoch());
                if let Some(fence) = self.fence.clone() {
                    settle::bury_undecodable(&self.node, &self.server, &fence).await?;
                }
                Ok(Step::Again)
            }
            other => other,
        }
    }

    /// Whether it is still this node that sends to the peer, under the same lease. What is written is held to that by the
    /// store; a node that was stopped and goes on should not send either.
    fn is_here(&self) -> bool {
        let duty = Duty::Outbound(self.server.clone());
        self.fence.is_some() && self.node.cluster.fence(&duty) == self.fence
    }

    /// Waits for `delay` (`None`: for ever), for an administrator and, when `for_mail`, for mail.
    async fn wait(&mut self, delay: Option<Duration>, for_mail: bool) {
        let until = delay.map(|delay| Instant::now() + delay);
        let ask_again_at = self.ask_again_at().filter(|_| for_mail);
        let link = Arc::clone(&self.link);
        loop {
            tokio::select! {
                () = link.mail.notified(), if for_mail => return self.mail(),
                () = link.now.notified() => return self.retry_now(),
                () = link.manifest.notified() => {
                    if for_mail {
                        return;
                    }
                    // A delay is for what waits here; what waits for the manifest need not wait too.
                    self.fetch_stale_manifest().await;
                }
                () = reached(until) => return,
                () = reached(ask_again_at) => return,
                () = reached(self.next_expiry) => {
                    if let Err(error) = self.expire().await {
                        tracing::error!(server = %self.server, %error, "expiry of waiting mail failed");
                    }
                }
            }
        }
    }

    /// When a manifest is asked for again that was asked for a moment ago, and is missed again.
    fn ask_again_at(&self) -> Option<Instant> {
        let is_stale = self.link.stale_manifest.load(Ordering::Acquire);
        is_stale.then(|| Instant::now() + Duration::from_millis(RING_EVERY_MS))
    }

    pub(super) fn retry_now(&mut self) {
        self.backoff.reset();
        self.pause = None;
        self.documents_at = None;
        self.queue.mail(News::Anywhere);
    }

    /// There may be new mail.
    pub(super) fn mail(&mut self) {
        self.queue.mail(self.link.take_news());
        self.next_expiry
            .get_or_insert_with(|| Instant::now() + EXPIRY_INTERVAL);
    }

    /// Does one thing.
    pub(super) async fn step(&mut self) -> Result<Step, StoreError> {
        let Some(peer) = self.node.peers.get(&self.server).filter(|_| self.is_here()) else {
            return Ok(Step::Gone);
        };
        self.look_for_restore().await?;
        let now_ms = self.node.clock.now_ms();
        if peer.agreed != Some(PeerState::Active) {
            // What is not answered yet is sent again, should there be a later.
            cut_if_ended(&self.node, self.network.as_ref(), &self.server);
            self.read_afresh(self.queue.link_epoch());
            self.pause = None;
        }
        // What both have signed counts: an offer that is under way neither ends nor replaces it yet.
        let Some(agreed) = peer.agreed else {
            return Ok(Step::Idle);
        };
        match agreed {
            PeerState::Active if now_ms >= peer.agreement.expires_ms => {
                peers::expire(&self.node, &self.server).await?;
                Ok(Step::Again)
            }
            PeerState::Active => self.step_active(&peer, now_ms).await,
            PeerState::Suspended => self.step_suspended(&peer).await,
            PeerState::Offered | PeerState::Accepted => Ok(Step::Idle),
            PeerState::Expired | PeerState::Revoked => self.step_ended(&peer).await,
        }
    }

    /// No mail passes, and both sides go on to hear of each other's keys: one that missed two changes of them would
    /// neither let the other bring the end of the pause, nor find it.
    async fn step_suspended(&mut self, peer: &PeerView) -> Result<Step, StoreError> {
        self.version = None;
        self.next_expiry.get_or_insert_with(Instant::now);
        if let Some(step) = self.deliver_documents(peer).await? {
            return Ok(step);
        }
        if self.link.to_announce.swap(false, Ordering::AcqRel)
            && let Err(error) = self.greet(peer).await
        {
            self.link.to_announce.store(true, Ordering::Release);
            return self.failed(&error).await;
        }
        if let Err(error) = self.renew_manifest(peer).await {
            return self.failed(&error).await;
        }
        Ok(self.idle())
    }

    async fn step_ended(&mut self, peer: &PeerView) -> Result<Step, StoreError> {
        self.network.cut(&self.server);
        let refusal = peer
            .judge(
                Direction::Outbound,
                Operation::Message,
                None,
                self.node.clock.now_ms(),
            )
            .err()
            .unwrap_or_else(|| Refusal::new(RefusalCode::AgreementRevoked, "the agreement ended"));
        if !settle::clear(&self.node, peer, &refusal, self.fence.as_ref()).await? {
            return Ok(Step::Again);
        }
        // Whatever a restore had left to find out is gone with the rest.
        if !matches!(self.reconciling, Reconciling::Done) {
            self.reconciling = Reconciling::Unknown;
        }
        self.read_afresh(0);
        self.link.update(|status| {
            status.next_attempt_ms = None;
            status.held_lanes = 0;
        });
        // The last word: nothing is owed to the peer any more, but to say so.
        let told = self.deliver_documents(peer).await?;
        Ok(told.unwrap_or_else(|| self.idle()))
    }

    async fn step_active(&mut self, peer: &Arc<PeerView>, now_ms: u64) -> Result<Step, StoreError> {
        if self.queue.link_epoch() != peer.link_epoch {
            self.read_afresh(peer.link_epoch);
            // What was held is numbered anew, and what follows something lost.
            self.held.clear();
            self.is_behind = false;
            self.link.update(|status| status.held_lanes = 0);
        }
        if let Some(answered) = self.under_way.take_answered() {
            return self.answered(peer, answered, now_ms).await;
        }
        if self.pause.is_some() {
            return Ok(self.paused());
        }
        if let Some(step) = self.go_on_without_lost().await? {
            return Ok(step);
        }
        if let Some(countersignature) = &peer.countersignature_to_deliver {
            return self
                .deliver_countersignature(peer, countersignature.clone())
                .await;
        }
        if self.link.to_announce.swap(false, Ordering::AcqRel) {
            // A greeting says which manifest is the newest.
            self.version = None;
        }
        if let Some(step) = self.deliver_documents(peer).await? {
            return Ok(step);
        }
        if self.version.is_none()
            && let Err(error) = self.greet(peer).await
        {
            return self.failed(&error).await;
        }
        if let Err(error) = self.renew_manifest(peer).await {
            return self.failed(&error).await;
        }
        if self.queue.fill(&self.node.store, peer).await? == Filled::OutOfStep {
            return Ok(self.start_over(peer));
        }
        if !self.may_begin() {
            return Ok(Step::Answer);
        }
        let limits = self.limits(now_ms);
        match self.queue.next(&self.node.store, now_ms, limits).await? {
            Next::Load(load) => self.send(peer, load, now_ms).await,
            Next::OutOfStep => Ok(self.start_over(peer)),
            Next::Nothing
                if self.queue.fill(&self.node.store, peer).await? == Filled::Something =>
            {
                Ok(Step::Again)
            }
            Next::Nothing if !self.under_way.is_empty() => Ok(Step::Answer),
            Next::Nothing if self.reconciling.lanes().is_some() => {
                self.go_on_reconciling(now_ms).await
            }
            Next::Nothing => Ok(match self.queue.next_lane_ms() {
                Some(at_ms) => {
                    self.link
                        .update(|status| status.next_attempt_ms = Some(at_ms));
                    Step::Mail(Duration::from_millis(at_ms.saturating_sub(now_ms)))
                }
                None => self.idle(),
            }),
        }
    }

    /// The outbox is not as it was read: read it afresh.
    fn start_over(&mut self, peer: &PeerView) -> Step {
        self.read_afresh(peer.link_epoch);
        Step::Again
    }

    /// Forgets what was read of the outbox, and what is under way: its answers would be about that.
    fn read_afresh(&mut self, link_epoch: u64) {
        self.under_way.forget();
        self.queue = Queue::new(self.server.clone(), link_epoch).under(self.fence.clone());
        if let Some(lanes) = self.reconciling.lanes() {
            self.queue.only_up_to(Arc::clone(lanes));
        }
    }

    /// Nothing new is sent before a delay; what is under way may be answered first.
    fn paused(&mut self) -> Step {
        if !self.under_way.is_empty() {
            return Step::Answer;
        }
        self.pause.take().map_or(Step::Again, Step::Delay)
    }

    /// What spreads delays.
    fn random(&self) -> u32 {
        let mut random = [0_u8; 4];
        // Without randomness there is no spread; that harms nobody.
        let _ = self.node.random.fill(&mut random);
        u32::from_be_bytes(random)
    }

    async fn failed(&mut self, error: &RequestError) -> Result<Step, StoreError> {
        if matches!(error, RequestError::Unreachable(ConnectionError::Cut)) {
            // By ourselves: what that means for what waits is to be seen at once.
            return Ok(Step::Again);
        }
        if self.pause.is_some() {
            // What was under way together fails together, and counts once.
            return Ok(self.paused());
        }
        let random = self.random();
        let now_ms = self.node.clock.now_ms();
        let delay = match error {
            RequestError::Unreachable(_) => {
                self.version = None;
                self.backoff.unreachable(now_ms, random)
            }
            RequestError::Refused { retry_after, .. } => {
                self.backoff.deferred(*retry_after, random)
            }
            RequestError::KeysAwaited | RequestError::Unusable(_) => {
                self.backoff.deferred(Duration::ZERO, random)
            }
        };
        let reachable = match error {
            RequestError::Unreachable(error) => Err(error.to_string()),
            RequestError::Refused { .. }
            | RequestError::KeysAwaited
            | RequestError::Unusable(_) => Ok(()),
        };
        let delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        self.link.update(|status| {
            status.reachable = Some(reachable);
            status.last_error = Some(error.told());
            status.next_attempt_ms = Some(now_ms.saturating_add(delay_ms));
        });
        tracing::debug!(server = %self.server, %error, ?delay, "sending failed");
        self.pause = Some(delay);
        Ok(self.paused())
    }
}

/// Waits until this moment (`None`: for ever).
pub(super) async fn reached(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
