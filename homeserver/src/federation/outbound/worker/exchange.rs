//! Transactions under way: what is sent beside what, and what an answer settles.
//!
//! A lane is in one transaction at a time, so that its order needs nothing from the transport; which lanes
//! wait is known to [`federation_proto::link::Sender`]. A second transaction is begun when it is worth its
//! signature, or when the first one takes its time: a link that is answered at once gathers better batches.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use federation_proto::codec::Wire;
use federation_proto::exchange::ExchangeProof;
use federation_proto::ids::ServerName;
use federation_proto::limits::{
    CLOCK_SKEW_MS_MAX, RECEIPT_BYTES_MAX, TRANSACTIONS_UNDER_WAY_BYTES_MAX,
    TRANSACTIONS_UNDER_WAY_MAX,
};
use federation_proto::link::Anomaly;
use federation_proto::manifest::Manifest;
use federation_proto::padding::padded_length;
use federation_proto::receipt::{self, Receipt};
use federation_proto::transaction::{self, Link, SignedTransaction};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use http::Method;
use tokio::time::Instant;

use super::expiry::ended_rows;
use super::greeting::fetch_manifest;
use super::{Step, Worker, reached};
use crate::federation::outbound::links;
use crate::federation::outbound::network::Network;
use crate::federation::outbound::queue::Load;
use crate::federation::outbound::request::{self, RequestError};
use crate::federation::outbound::settle;
use crate::federation::paths;
use crate::federation::peers::PeerView;
use crate::node::Node;
use crate::store::exchange::ExchangeRecord;
use crate::store::{StoreError, outbox};

/// Another transaction is begun beside those under way when so many envelopes are ready for it,
const ANOTHER_ENVELOPES: usize = 256;
/// or when the last one has not been answered after this long.
const ANOTHER_AFTER: Duration = Duration::from_millis(20);

/// A transaction and what came of it.
pub(super) struct Answered {
    load: Load,
    signed: SignedTransaction,
    /// How long it was under way.
    took: Duration,
    result: Result<Receipt, RequestError>,
}

/// Transactions that are sent and not answered.
#[derive(Default)]
pub(super) struct UnderWay {
    exchanges: FuturesUnordered<BoxFuture<'static, Answered>>,
    /// Answers that nobody has looked at yet.
    answered: Vec<Answered>,
    bytes: u64,
    /// When the last one was begun.
    begun: Option<Instant>,
    /// Whether the next one has to wait for an answer, for its size.
    next_is_too_large: bool,
}

impl UnderWay {
    /// Whether nothing is under way, and no answer waits.
    pub(super) fn is_empty(&self) -> bool {
        self.exchanges.is_empty() && self.answered.is_empty()
    }

    /// An answer, if there is one.
    pub(super) fn take_answered(&mut self) -> Option<Answered> {
        let answered = self
            .answered
            .pop()
            .or_else(|| self.exchanges.next().now_or_never().flatten())?;
        self.bytes = self.bytes.saturating_sub(length(&answered.signed));
        self.next_is_too_large = false;
        Some(answered)
    }

    /// Gives up waiting for answers.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }

    fn begin(&mut self, bytes: u64, exchange: BoxFuture<'static, Answered>) {
        self.bytes = self.bytes.saturating_add(bytes);
        self.begun = Some(Instant::now());
        self.exchanges.push(exchange);
        // On its way at once, not when somebody waits for its answer.
        self.answered
            .extend(self.exchanges.next().now_or_never().flatten());
    }

    async fn next(&mut self) {
        if self.answered.is_empty() {
            self.answered.extend(self.exchanges.next().await);
        }
    }

    fn has_room_for(&self, bytes: u64) -> bool {
        self.is_empty() || self.bytes.saturating_add(bytes) <= TRANSACTIONS_UNDER_WAY_BYTES_MAX
    }
}

/// As it is on the wire.
fn length(signed: &SignedTransaction) -> u64 {
    u64::try_from(padded_length(signed.bytes.len())).unwrap_or(u64::MAX)
}

impl Worker {
    /// Whether a transaction may be begun now.
    pub(super) fn may_begin(&self) -> bool {
        let worth_it = || self.queue.ready_items(ANOTHER_ENVELOPES) >= ANOTHER_ENVELOPES;
        self.under_way.is_empty()
            || self
                .another_at()
                .is_some_and(|at| at <= Instant::now() || worth_it())
    }

    /// From when on another transaction may be begun beside those under way, however small; `None`: not
    /// before one is answered.
    fn another_at(&self) -> Option<Instant> {
        let under_way = &self.under_way;
        let room = under_way.exchanges.len() < TRANSACTIONS_UNDER_WAY_MAX
            && !under_way.next_is_too_large
            && under_way.has_room_for(0);
        // While one is to blame for a refusal, it is looked for in one transaction after the other; and a slow link is not
        // shared.
        let alone = self.suspicion.is_some() || self.pace.is_alone();
        let may = room && !alone && self.pause.is_none() && !self.is_behind;
        Some(under_way.begun.filter(|_| may)? + ANOTHER_AFTER)
    }

    /// Waits for an answer, for mail, for an administrator, for keys that change on either side, or until another
    /// transaction may be begun.
    pub(in crate::federation::outbound) async fn answer(&mut self) {
        let link = Arc::clone(&self.link);
        let ready_at = if self.queue.ready_items(1) > 0 {
            Some(Instant::now())
        } else {
            let now_ms = self.node.clock.now_ms();
            let wait_ms = |at_ms: u64| at_ms.saturating_sub(now_ms);
            let lane_ms = self.queue.next_lane_ms().map(wait_ms);
            lane_ms.map(|wait_ms| Instant::now() + Duration::from_millis(wait_ms))
        };
        let another_at = self.another_at();
        let begin_at = another_at.and_then(|another_at| Some(ready_at?.max(another_at)));
        let ask_again_at = self.ask_again_at().filter(|_| self.pause.is_none());
        tokio::select! {
            () = self.under_way.next() => {}
            () = link.mail.notified() => self.mail(),
            // The agreement may have ended: what waits must not wait for this answer.
            () = link.now.notified() => self.retry_now(),
            // Nor do keys: the next step fetches the peer's, or announces ours; in a pause there is none.
            () = link.manifest.notified() => if self.pause.is_some() {
                self.fetch_stale_manifest().await;
            },
            () = reached(ask_again_at) => {}
            () = reached(begin_at) => {}
            () = reached(self.next_expiry) => {}
        }
    }

    pub(super) async fn send(
        &mut self,
        peer: &Arc<PeerView>,
        load: Load,
        now_ms: u64,
    ) -> Result<Step, StoreError> {
        let ended = ended_rows(&self.node, peer, &load.rows, (now_ms, &self.reconciling)).await?;
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
        if !self.under_way.has_room_for(length(&signed)) {
            self.queue.put_back(load);
            self.under_way.next_is_too_large = true;
            return Ok(Step::Answer);
        }
        let (node, network) = (Arc::clone(&self.node), Arc::clone(&self.network));
        let (bytes, peer) = (length(&signed), Arc::clone(peer));
        let bell = Arc::clone(&self.link);
        let exchange = async move {
            let begun = Instant::now();
            let result = exchange(&node, network.as_ref(), &peer, (&link, &bell), &signed).await;
            Answered {
                load,
                signed,
                took: begun.elapsed(),
                result,
            }
        };
        self.under_way.begin(bytes, exchange.boxed());
        Ok(Step::Again)
    }

    /// A transaction has an answer, or there will be none.
    pub(super) async fn answered(
        &mut self,
        peer: &PeerView,
        answered: Answered,
        now_ms: u64,
    ) -> Result<Step, StoreError> {
        let Answered {
            load,
            signed,
            took,
            result,
        } = answered;
        self.judge_pace(&load, &signed, took, &result);
        match result {
            Ok(receipt) => self.settle(peer, load, &signed, &receipt, now_ms).await,
            Err(error) if error.worth_splitting() => self.split(peer, load, &error, now_ms).await,
            Err(error) if self.has_left_numbering(&error) => {
                self.queue.put_back(load);
                self.leave_numbering(&error).await
            }
            Err(error) => {
                self.note_unusable(&error).await?;
                self.queue.put_back(load);
                self.failed(&error).await
            }
        }
    }

    /// What a transaction has shown of the way to the peer.
    fn judge_pace(
        &mut self,
        load: &Load,
        signed: &SignedTransaction,
        took: Duration,
        result: &Result<Receipt, RequestError>,
    ) {
        match result {
            Ok(_) => {
                let within = self.node.config.federation.patience.with(length(signed));
                self.pace.passed(load.bytes(), took, within);
            }
            Err(error) if error.was_too_slow() => {
                // In a pause what was under way beside it has failed before.
                let together = self.pause.is_some();
                self.pace.was_too_short(load.bytes(), together);
            }
            Err(_) => {}
        }
    }

    async fn settle(
        &mut self,
        peer: &PeerView,
        load: Load,
        signed: &SignedTransaction,
        receipt: &Receipt,
        now_ms: u64,
    ) -> Result<Step, StoreError> {
        for (lane, theirs) in self.queue.ahead(&load, receipt) {
            // After a restart the peer may have taken rows that were not read here yet; after a restore such as were given
            // out after the backup, and what it says of those in the backup is about them (LINK-062).
            let rows = outbox::lane(&self.node.store, &self.server, lane, theirs, 1).await?;
            if !rows.is_empty() || self.reconciling.lanes().is_some() {
                self.queue.note_given_out(lane, theirs);
            }
        }
        let now = (now_ms, self.random());
        let (settled, rows) = match self.queue.answered(load, signed, receipt, now) {
            Ok(settled) => settled,
            Err(error) => {
                // The batch waits again, but its contents are no longer at hand: read them afresh.
                self.start_over(peer);
                let error = RequestError::Unusable(format!("its receipt: {error}"));
                self.note_unusable(&error).await?;
                return self.failed(&error).await;
            }
        };
        self.report(&settled).await?;
        let proof = ExchangeProof {
            signature: signed.signature,
            receipt: receipt.bytes().clone(),
        };
        let proof = proof
            .to_bytes()
            .map_err(|_| StoreError::Corrupt { family: "exchange" })?;
        let proof = (&signed.root, ExchangeRecord { proof });
        if !settle::settle(&self.node, peer, &settled, rows, proof).await? {
            return Ok(self.start_over(peer));
        }
        let is_behind = |anomaly: &Anomaly| matches!(anomaly, Anomaly::PeerBehind { .. });
        if settled.anomalies.iter().any(is_behind) {
            self.note_behind(peer, now_ms);
        }
        self.note_answered_anew().await?;
        self.backoff.reset();
        if let Some(suspicion) = &mut self.suspicion {
            suspicion.others_pass = true;
        }
        let done = u64::try_from(settled.done.len()).unwrap_or(u64::MAX);
        let problem = settled
            .deferred
            .first()
            .map(|(_, code)| format!("{} put off a part of the mail: {code}", self.server))
            .or_else(|| clocks_apart(&self.server, receipt.body().at_ms, now_ms));
        let held_lanes = self.held_lanes();
        self.link.update(|status| {
            status.reachable = Some(Ok(()));
            status.last_error = problem;
            status.next_attempt_ms = None;
            status.held_lanes = held_lanes;
            status.acknowledged = status.acknowledged.saturating_add(done);
        });
        Ok(Step::Again)
    }
}

/// What both administrators are told when the clocks of two homeservers lie too far apart: each sees it by the other's
/// receipts.
fn clocks_apart(server: &ServerName, theirs_ms: u64, ours_ms: u64) -> Option<String> {
    if theirs_ms.abs_diff(ours_ms) <= CLOCK_SKEW_MS_MAX {
        return None;
    }
    let seconds = theirs_ms.abs_diff(ours_ms) / 1000;
    let side = if theirs_ms > ours_ms {
        "ahead of"
    } else {
        "behind"
    };
    Some(format!(
        "the clock of {server} is {seconds} seconds {side} ours: see which of the two is wrong"
    ))
}

/// Sends a transaction and checks the answer's signature.
async fn exchange(
    node: &Arc<Node>,
    network: &dyn Network,
    peer: &PeerView,
    (link, bell): (&Link, &links::Link),
    signed: &SignedTransaction,
) -> Result<Receipt, RequestError> {
    let answer = request::send(
        network,
        node.config.federation.patience,
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
    let now_ms = node.clock.now_ms();
    let verify = |manifest: &Manifest| receipt.clone().verify(manifest, link, now_ms);
    match verify(known) {
        // The peer has changed its keys: its new manifest says so.
        Err(error) if error.is_of_key() => {}
        verdict => return verdict.map_err(|error| unusable(&error)),
    }
    // Transactions that are answered together learn of it together.
    let _turn = bell.asking.lock().await;
    let now_known = node.peers.get(&peer.server);
    let now_known = now_known.iter().flat_map(|peer| {
        let manifests = [&peer.manifest, &peer.former_manifest];
        manifests.into_iter().flatten()
    });
    for manifest in now_known {
        match verify(manifest) {
            Err(error) if error.is_of_key() => {}
            verdict => return verdict.map_err(|error| unusable(&error)),
        }
    }
    // Each newer manifest is an act that stays: a peer that has another for each receipt waits.
    if !bell.may_ask_for_manifest(now_ms) {
        bell.stale_manifest.store(true, Ordering::Release);
        return Err(RequestError::KeysAwaited);
    }
    let newest = match fetch_manifest(node, network, peer).await {
        Err(RequestError::Unusable(_)) if !bell.may_take_manifest(now_ms) => {
            return Err(RequestError::KeysAwaited);
        }
        fetched => fetched?,
    };
    verify(&newest).map_err(|error| unusable(&error))
}
