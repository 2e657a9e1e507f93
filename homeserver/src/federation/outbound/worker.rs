//! The task that serves one peer: one thing at a time, one transaction under way at most.
//!
//! [`Worker::step`] does one thing and says what to wait for; [`Worker::run`] does the waiting. What
//! was acknowledged leaves the outbox in the step that learnt of it; a process that dies before
//! sends it again, and the peer answers that it has it.

mod expiry;
mod splitting;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use federation_proto::codec::Wire;
use federation_proto::envelope::Lane;
use federation_proto::ids::ServerName;
use federation_proto::limits::{MANIFEST_BYTES_MAX, RECEIPT_BYTES_MAX};
use federation_proto::link::Anomaly;
use federation_proto::receipt::{self, Receipt};
use federation_proto::refusal::{Refusal, RefusalCode};
use federation_proto::transaction::{self, Link, SignedTransaction};
use federation_proto::version::{Version, VersionSet, negotiate};
use http::Method;
use tokio::time::Instant;

use self::expiry::{EXPIRY_INTERVAL, ended_rows};
use self::splitting::Suspicion;
use super::backoff::Backoff;
use super::links::{self, News, RING_EVERY_MS};
use super::network::Network;
use super::queue::{Filled, Load, Next, Queue};
use super::request::{self, RequestError};
use super::settle;
use crate::audit::{self, Actor, Event};
use crate::federation::paths::{self, room_manifest};
use crate::federation::peers::{self, Direction, Operation, PeerState, PeerView};
use crate::node::Node;
use crate::store::outbox;
use crate::store::{Part, StoreError};

/// Lanes whose being held is audited by one process.
const HELD_LANES_AUDITED_MAX: usize = 1024;
/// How long the task waits after a failure of the store, at first
const STORE_DELAY_FIRST: Duration = Duration::from_millis(200);
/// and at most.
const STORE_DELAY_MAX: Duration = Duration::from_secs(60);

/// Serves one peer.
pub(super) struct Worker {
    node: Arc<Node>,
    network: Arc<dyn Network>,
    server: ServerName,
    link: Arc<links::Link>,
    queue: Queue,
    backoff: Backoff,
    /// The version negotiated since the peer was last reached.
    version: Option<Version>,
    /// Lanes that were reported because the peer is ahead.
    held: BTreeSet<Lane>,
    /// When the search for expired rows goes on, and where; `None`: nothing waits.
    next_expiry: Option<Instant>,
    expiry_cursor: Option<(Lane, u64)>,
    suspicion: Option<Suspicion>,
}

/// What a step asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Another step at once.
    Again,
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
        Self {
            link: node.links.link(&server),
            queue: Queue::new(server.clone(), 0),
            node,
            network,
            server,
            backoff: Backoff::default(),
            version: None,
            held: BTreeSet::new(),
            next_expiry: None,
            expiry_cursor: None,
            suspicion: None,
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
                    self.queue = Queue::new(self.server.clone(), self.queue.link_epoch());
                    tokio::time::sleep(store_delay).await;
                    store_delay = store_delay.saturating_mul(2).min(STORE_DELAY_MAX);
                    continue;
                }
            };
            match step {
                Step::Again => tokio::task::yield_now().await,
                Step::Gone => return,
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
        if self.next_expiry.is_some_and(|at| at <= Instant::now()) {
            self.expire().await?;
        }
        match self.step().await {
            Err(StoreError::Corrupt {
                family: outbox::FAMILY,
            }) => {
                settle::bury_undecodable(&self.node, &self.server).await?;
                self.queue = Queue::new(self.server.clone(), self.queue.link_epoch());
                Ok(Step::Again)
            }
            other => other,
        }
    }

    /// Waits for `delay` (`None`: for ever), for an administrator and, when `for_mail`, for mail.
    async fn wait(&mut self, delay: Option<Duration>, for_mail: bool) {
        let mut until = delay.map(|delay| Instant::now() + delay);
        if for_mail && self.link.stale_manifest.load(Ordering::Acquire) {
            // It was asked for a moment ago, and is missed again.
            let again = Instant::now() + Duration::from_millis(RING_EVERY_MS);
            until = Some(until.map_or(again, |until| until.min(again)));
        }
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
                () = reached(self.next_expiry) => {
                    if let Err(error) = self.expire().await {
                        tracing::error!(server = %self.server, %error, "expiry of waiting mail failed");
                    }
                }
            }
        }
    }

    async fn fetch_stale_manifest(&self) {
        let peer = self.node.peers.get(&self.server);
        let Some(peer) = peer.filter(|peer| peer.agreed == Some(PeerState::Active)) else {
            return;
        };
        if let Err(error) = self.renew_manifest(&peer).await {
            tracing::debug!(server = %self.server, %error, "its manifest could not be fetched");
        }
    }

    /// Fetches the peer's manifest when a newer one is missed: from itself, else from a hub that has
    /// relayed its mail.
    pub(super) async fn renew_manifest(&self, peer: &PeerView) -> Result<(), RequestError> {
        let is_stale = self.link.stale_manifest.load(Ordering::Acquire);
        if !is_stale || !self.link.may_ask_for_manifest(self.node.clock.now_ms()) {
            return Ok(());
        }
        self.link.stale_manifest.store(false, Ordering::Release);
        let Err(error) = self.fetch_manifest(peer).await else {
            return Ok(());
        };
        let known = |peer: &PeerView| peer.manifest.as_ref().map(|manifest| manifest.serial());
        if let Some((hub, room)) = self.link.hub()
            && let Some(hub) = self.node.peers.get(&hub)
            && let Ok(taken) = self
                .fetch_manifest_of(&hub, &room_manifest(room, &self.server))
                .await
            && Some(taken.serial()) > known(peer)
        {
            return Ok(());
        }
        self.link.stale_manifest.store(true, Ordering::Release);
        Err(error)
    }

    fn retry_now(&mut self) {
        self.backoff.reset();
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
        let Some(peer) = self.node.peers.get(&self.server) else {
            return Ok(Step::Gone);
        };
        let now_ms = self.node.clock.now_ms();
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
            PeerState::Suspended => {
                self.version = None;
                self.next_expiry.get_or_insert_with(Instant::now);
                Ok(Step::Idle)
            }
            PeerState::Offered | PeerState::Accepted => Ok(Step::Idle),
            PeerState::Expired | PeerState::Revoked => self.step_ended(&peer).await,
        }
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
        settle::clear(&self.node, &self.server, &refusal).await?;
        self.queue = Queue::new(self.server.clone(), 0);
        self.link.update(|status| status.next_attempt_ms = None);
        Ok(Step::Idle)
    }

    async fn step_active(&mut self, peer: &PeerView, now_ms: u64) -> Result<Step, StoreError> {
        if self.queue.link_epoch() != peer.link_epoch {
            self.queue = Queue::new(self.server.clone(), peer.link_epoch);
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
        if self.version.is_none()
            && let Err(error) = self.greet(peer).await
        {
            return self.failed(&error).await;
        }
        if let Err(error) = self.renew_manifest(peer).await {
            return self.failed(&error).await;
        }
        if self.queue.fill(&self.node.store).await? == Filled::OutOfStep {
            return Ok(self.start_over(peer));
        }
        let limits = self.limits(now_ms);
        match self.queue.next(&self.node.store, now_ms, limits).await? {
            Next::Load(load) => self.send(peer, load, now_ms).await,
            Next::OutOfStep => Ok(self.start_over(peer)),
            Next::Nothing if self.queue.fill(&self.node.store).await? == Filled::Something => {
                Ok(Step::Again)
            }
            Next::Nothing => Ok(match self.queue.next_lane_ms() {
                Some(at_ms) => Step::Mail(Duration::from_millis(at_ms.saturating_sub(now_ms))),
                None => Step::Idle,
            }),
        }
    }

    /// The outbox is not as it was read: read it afresh.
    fn start_over(&mut self, peer: &PeerView) -> Step {
        self.queue = Queue::new(self.server.clone(), peer.link_epoch);
        Step::Again
    }

    async fn send(&mut self, peer: &PeerView, load: Load, now_ms: u64) -> Result<Step, StoreError> {
        let ended = ended_rows(peer, &load.rows, now_ms);
        if !ended.is_empty() {
            self.queue.put_back(load);
            return self.give_up(peer, &ended).await;
        }
        let Some(version) = self.version else {
            // Nothing is sent before the peer has said what it speaks: greet it first.
            self.queue.put_back(load);
            return Ok(Step::Again);
        };
        let link = Link {
            version,
            origin: self.node.server.clone(),
            destination: self.server.clone(),
            link_epoch: peer.link_epoch,
        };
        let key = self.node.keys.envelope_key();
        let signed = match transaction::sign(&key, &link, &load.envelopes()) {
            Ok(signed) => signed,
            Err(error) => {
                self.queue.put_back(load);
                return self
                    .failed(&RequestError::Unusable(error.to_string()))
                    .await;
            }
        };
        match self.exchange(peer, &link, &signed).await {
            Ok(receipt) => self.answered(peer, load, &signed, &receipt).await,
            Err(error) if error.worth_splitting() => self.split(peer, load, &error, now_ms).await,
            Err(error) => {
                self.queue.put_back(load);
                self.failed(&error).await
            }
        }
    }

    async fn exchange(
        &self,
        peer: &PeerView,
        link: &Link,
        signed: &SignedTransaction,
    ) -> Result<Receipt, RequestError> {
        let answer = request::send(
            self.network.as_ref(),
            peer,
            Method::POST,
            paths::TRANSACTIONS,
            signed.bytes.clone(),
            RECEIPT_BYTES_MAX,
        )
        .await?;
        let unusable =
            |error: &dyn std::fmt::Display| RequestError::Unusable(format!("its receipt: {error}"));
        let receipt = receipt::decode(answer).map_err(|error| unusable(&error))?;
        let known = peer
            .manifest
            .as_ref()
            .ok_or_else(|| unusable(&"its keys are not known"))?;
        let now_ms = self.node.clock.now_ms();
        match receipt.clone().verify(known, link, now_ms) {
            Err(error) if error.is_of_key() => {
                // The peer has changed its keys: its new manifest says so.
                let manifest = self.fetch_manifest(peer).await?;
                receipt.verify(&manifest, link, now_ms)
            }
            verdict => verdict,
        }
        .map_err(|error| unusable(&error))
    }

    async fn answered(
        &mut self,
        peer: &PeerView,
        load: Load,
        signed: &SignedTransaction,
        receipt: &Receipt,
    ) -> Result<Step, StoreError> {
        let now_ms = self.node.clock.now_ms();
        for (lane, theirs) in self.queue.ahead(&load, receipt) {
            // After a restart the peer may have taken rows that were not read here yet.
            let rows = outbox::lane(&self.node.store, &self.server, lane, theirs, 1).await?;
            if !rows.is_empty() {
                self.queue.note_given_out(lane, theirs);
            }
        }
        let (settled, rows) = match self.queue.answered(load, signed, receipt, now_ms) {
            Ok(settled) => settled,
            Err(error) => {
                // The batch waits again, but its contents are no longer at hand: read them afresh.
                self.start_over(peer);
                let error = RequestError::Unusable(format!("its receipt: {error}"));
                return self.failed(&error).await;
            }
        };
        for anomaly in &settled.anomalies {
            self.report(anomaly).await?;
        }
        if !settle::settle(&self.node, peer, &settled, rows).await? {
            return Ok(self.start_over(peer));
        }
        self.backoff.reset();
        if let Some(suspicion) = &mut self.suspicion {
            suspicion.others_pass = true;
        }
        let done = u64::try_from(settled.done.len()).unwrap_or(u64::MAX);
        let problem = settled
            .deferred
            .first()
            .map(|(_, code)| format!("{} put off a part of the mail: {code}", self.server));
        self.link.update(|status| {
            status.reachable = Some(Ok(()));
            status.last_error = problem;
            status.next_attempt_ms = None;
            status.acknowledged = status.acknowledged.saturating_add(done);
        });
        Ok(Step::Again)
    }

    /// Both ends disagree: an operator has to know. A lane that is held is tried again and again, and
    /// is audited once by each process.
    async fn report(&mut self, anomaly: &Anomaly) -> Result<(), StoreError> {
        tracing::warn!(server = %self.server, ?anomaly, "both ends of the link disagree");
        let Anomaly::PeerAhead { lane, theirs, ours } = *anomaly else {
            return Ok(());
        };
        if self.held.len() >= HELD_LANES_AUDITED_MAX || !self.held.insert(lane) {
            return Ok(());
        }
        let mut part = Part::default();
        let event = Event {
            at_ms: self.node.clock.now_ms(),
            actor: Actor::System,
            action: "link.held",
            subject: self.server.to_string(),
            detail: format!(
                "lane {lane}: {} has position {theirs}, and {ours} is the last that was given out: this \
                 homeserver may have been restored from an old copy. The lane's mail waits",
                self.server
            ),
        };
        audit::record(&mut part, &event);
        self.node.store.commit(part).await?;
        Ok(())
    }

    /// Learns whether the peer is there and which versions it speaks; a starting server greets its
    /// peers this way, which ends their delays towards it.
    async fn greet(&mut self, peer: &PeerView) -> Result<(), RequestError> {
        let answer = request::send(
            self.network.as_ref(),
            peer,
            Method::GET,
            paths::PROBE,
            Bytes::new(),
            VersionSet::BYTES_MAX,
        )
        .await?;
        let theirs = VersionSet::from_bytes(answer)
            .map_err(|error| RequestError::Unusable(error.to_string()))?;
        let version = negotiate(&VersionSet::ours(), &theirs).ok_or_else(|| {
            RequestError::Unusable(format!(
                "{} speaks the protocol versions {theirs}, this homeserver {}: one of them needs \
                 an update",
                self.server,
                VersionSet::ours()
            ))
        })?;
        self.version = Some(version);
        self.backoff.reset();
        self.link.update(|status| {
            status.reachable = Some(Ok(()));
            status.last_error = None;
            status.next_attempt_ms = None;
        });
        Ok(())
    }

    async fn deliver_countersignature(
        &mut self,
        peer: &PeerView,
        document: Bytes,
    ) -> Result<Step, StoreError> {
        let sent = request::send(
            self.network.as_ref(),
            peer,
            Method::POST,
            paths::COUNTERSIGNATURE,
            document.clone(),
            0,
        )
        .await;
        match sent {
            Ok(_) => {
                peers::countersignature_delivered(&self.node, &self.server, &document).await?;
                self.backoff.reset();
                Ok(Step::Again)
            }
            Err(error) => self.failed(&error).await,
        }
    }

    async fn fetch_manifest(
        &self,
        peer: &PeerView,
    ) -> Result<Arc<federation_proto::manifest::Manifest>, RequestError> {
        self.fetch_manifest_of(peer, paths::MANIFEST).await
    }

    /// The peer's manifest, from whoever keeps it under `path`.
    async fn fetch_manifest_of(
        &self,
        keeper: &PeerView,
        path: &str,
    ) -> Result<Arc<federation_proto::manifest::Manifest>, RequestError> {
        let bytes = request::send(
            self.network.as_ref(),
            keeper,
            Method::GET,
            path,
            Bytes::new(),
            MANIFEST_BYTES_MAX,
        )
        .await?;
        peers::take_manifest(&self.node, &self.server, bytes)
            .await
            .map_err(|error| RequestError::Unusable(error.to_string()))
    }

    async fn failed(&mut self, error: &RequestError) -> Result<Step, StoreError> {
        let mut random = [0_u8; 4];
        // Without randomness there is no jitter; that harms nobody.
        let _ = self.node.random.fill(&mut random);
        let random = u32::from_be_bytes(random);
        let now_ms = self.node.clock.now_ms();
        let delay = match error {
            RequestError::Unreachable(_) => {
                self.version = None;
                self.backoff.unreachable(now_ms, random)
            }
            RequestError::Refused { retry_after, .. } => {
                self.backoff.deferred(*retry_after, random)
            }
            RequestError::Unusable(_) => self.backoff.deferred(Duration::ZERO, random),
        };
        let reachable = match error {
            RequestError::Unreachable(error) => Err(error.to_string()),
            RequestError::Refused { .. } | RequestError::Unusable(_) => Ok(()),
        };
        let delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        self.link.update(|status| {
            status.reachable = Some(reachable);
            status.last_error = Some(error.to_string());
            status.next_attempt_ms = Some(now_ms.saturating_add(delay_ms));
        });
        tracing::debug!(server = %self.server, %error, ?delay, "sending failed");
        Ok(Step::Delay(delay))
    }
}

/// Waits until this moment (`None`: for ever).
async fn reached(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
