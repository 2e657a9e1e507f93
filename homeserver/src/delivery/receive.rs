//! What a peer has sent: judged envelope by envelope, taken in one part.
//!
//! The part holds the deliveries and the lanes' new positions together, so that an envelope has its
//! effect exactly once, however often it arrives. A refused envelope is refused alone, uses up its
//! position, and is audited. On a conflict everything is judged anew.

use std::collections::{BTreeMap, HashMap};

use federation_proto::envelope::Lane;
use federation_proto::ids::ServerName;
use federation_proto::limits::{LINK_LANES_MAX, RETRY_AFTER_MS_MAX};
use federation_proto::link::{
    Arrival, LanePosition, LinkEpoch, Receiver, Recent, judge_link_epoch,
};
use federation_proto::receipt::{ItemResult, LaneHead};
use federation_proto::refusal::{Refusal, RefusalCode};
use federation_proto::transaction::{VerifiedEnvelope, VerifiedTransaction};

use super::batch::{Batch, settle};
use super::envelope;
use super::limits::CONFLICT_ATTEMPTS_MAX;
use crate::audit::Actor;
use crate::node::Node;
use crate::store::link_position::{self, Read};
use crate::store::{PartOutcome, StoreError};

/// What became of a transaction's envelopes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// One result per envelope, in their order.
    pub results: Vec<ItemResult>,
    /// The head of every lane concerned.
    pub lanes: BTreeMap<Lane, LaneHead>,
}

/// Why a transaction was not taken at all.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ReceiveError {
    /// The agreement does not let the peer send, or its link epoch has passed.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Too much happens at once: the peer has to send it again.
    #[error("too much happens at once here: send it again")]
    Busy,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Takes a transaction of `peer`.
pub async fn receive(
    node: &Node,
    peer: &ServerName,
    transaction: &VerifiedTransaction,
) -> Result<Received, ReceiveError> {
    for _ in 0..CONFLICT_ATTEMPTS_MAX {
        let mut batch = Batch::open(node).await?;
        let view = batch.peer(peer).ok_or_else(|| {
            Refusal::new(RefusalCode::NoAgreement, "there is no agreement with you")
        })?;
        view.in_force(batch.now_ms)?;
        let mut lanes = Lanes::open(&mut batch, peer, transaction.link().link_epoch).await?;
        let mut results = Vec::with_capacity(transaction.envelopes().len());
        for envelope in transaction.envelopes() {
            results.push(lanes.take(&mut batch, envelope).await?);
        }
        let heads = lanes.close(&mut batch)?;
        if batch.commit().await? == PartOutcome::Committed {
            return Ok(Received {
                results,
                lanes: heads,
            });
        }
        // Perhaps the agreement is no longer what the directory says.
        node.peers.refresh(node).await?;
    }
    Err(ReceiveError::Busy)
}

/// The lanes that one transaction concerns.
struct Lanes<'p> {
    peer: &'p ServerName,
    link_epoch: u64,
    lanes: BTreeMap<Lane, OpenLane>,
    /// What this transaction itself has put into slots.
    recent: HashMap<(Lane, u64), Recent>,
    /// How many lanes the peer has here, once one of them may be new.
    count: Option<Count>,
}

struct Count {
    read: Read<u64>,
    lanes: u64,
}

struct OpenLane {
    read: Read<LanePosition>,
    receiver: Receiver,
    may_begin: bool,
}

impl OpenLane {
    /// Whether it has its first position of this transaction.
    const fn is_new(&self) -> bool {
        self.read.record.is_none() && self.receiver.position().sequence > 0
    }
}

impl<'p> Lanes<'p> {
    async fn open(
        batch: &mut Batch<'_>,
        peer: &'p ServerName,
        link_epoch: u64,
    ) -> Result<Self, ReceiveError> {
        let known = link_position::epoch(&batch.node.store, peer).await?;
        match judge_link_epoch(known.record, link_epoch) {
            LinkEpoch::Current => {}
            LinkEpoch::New => {
                link_position::put_epoch(&mut batch.part, peer, &known, link_epoch)?;
            }
            LinkEpoch::Stale => {
                return Err(ReceiveError::Refused(Refusal::new(
                    RefusalCode::StaleLinkEpoch,
                    "you have used a higher link epoch before: this server may have been restored \
                     from an old copy, or somebody replays its mail",
                )));
            }
        }
        Ok(Self {
            peer,
            link_epoch,
            lanes: BTreeMap::new(),
            recent: HashMap::new(),
            count: None,
        })
    }

    /// Whether the peer may have another lane here. Counted over all link epochs, for a position is
    /// kept for each: so a peer can't fill the store with lanes.
    async fn may_begin(&mut self, batch: &Batch<'_>) -> Result<bool, StoreError> {
        if self.count.is_none() {
            let read = link_position::lanes(&batch.node.store, self.peer).await?;
            let lanes = read.record.unwrap_or(0);
            self.count = Some(Count { read, lanes });
        }
        let begun = self.lanes.values().filter(|lane| lane.is_new()).count();
        let begun = u64::try_from(begun).unwrap_or(u64::MAX);
        let known = self.count.as_ref().map_or(0, |count| count.lanes);
        Ok(known.saturating_add(begun) < LINK_LANES_MAX)
    }

    /// Judges one envelope and, where it is next, writes its effect or its refusal.
    async fn take(
        &mut self,
        batch: &mut Batch<'_>,
        envelope: &VerifiedEnvelope,
    ) -> Result<ItemResult, StoreError> {
        let (id, sequence) = (envelope.header().lane, envelope.header().sequence);
        if !self.lanes.contains_key(&id) {
            let read = link_position::position(&batch.node.store, self.peer, id).await?;
            let may_begin = read.record.is_some() || self.may_begin(batch).await?;
            let receiver = Receiver::resume(self.link_epoch, read.record);
            let lane = OpenLane {
                read,
                receiver,
                may_begin,
            };
            self.lanes.insert(id, lane);
        }
        let Some(lane) = self.lanes.get_mut(&id) else {
            return Err(StoreError::Corrupt {
                family: "link position",
            });
        };
        if !lane.may_begin {
            return Ok(ItemResult::Deferred {
                code: RefusalCode::Quota,
                retry_after_ms: RETRY_AFTER_MS_MAX,
            });
        }
        let record = match self.recent.get(&(id, Recent::slot(sequence))) {
            Some(record) => Some(*record),
            None if lane.receiver.needs_record(sequence) => {
                link_position::recent(&batch.node.store, self.peer, id, sequence).await?
            }
            None => None,
        };
        let arrival = lane.receiver.judge(envelope, record.as_ref());
        let next = match arrival {
            Arrival::Next(next) => next,
            other => {
                if let Arrival::Conflict { stored, arrived } = &other {
                    let detail = format!("position {sequence}: had {stored}, got {arrived}");
                    batch.audit(Actor::Peer(self.peer.clone()), "link.conflict", id, detail);
                }
                // Only the next envelope's result is still open.
                return Ok(other.settled().unwrap_or(ItemResult::Duplicate));
            }
        };
        let (consumed, result) = match settle(envelope::apply(batch, self.peer, envelope).await)? {
            Ok(()) => (next.accept(), ItemResult::Accepted),
            Err(refusal) => {
                let actor = Actor::Peer(self.peer.clone());
                batch.audit(actor, "envelope.refused", id, refusal.to_string());
                (next.refuse(refusal.code), ItemResult::Refused(refusal))
            }
        };
        if let Some(record) = consumed.record() {
            link_position::put_recent(&mut batch.part, self.peer, id, &record)?;
            self.recent
                .insert((id, Recent::slot(record.sequence)), record);
        }
        Ok(result)
    }

    /// Writes the positions that have moved.
    fn close(self, batch: &mut Batch<'_>) -> Result<BTreeMap<Lane, LaneHead>, StoreError> {
        let mut heads = BTreeMap::new();
        let begun = self.lanes.values().filter(|lane| lane.is_new()).count();
        if let Some(count) = self.count.filter(|_| begun > 0) {
            let begun = u64::try_from(begun).unwrap_or(u64::MAX);
            let lanes = count.lanes.saturating_add(begun);
            link_position::put_lanes(&mut batch.part, self.peer, &count.read, lanes)?;
        }
        for (id, lane) in self.lanes {
            let position = lane.receiver.position();
            heads.insert(id, position.head());
            if lane.read.record.as_ref() != Some(position) && position.sequence > 0 {
                link_position::put_position(&mut batch.part, self.peer, id, &lane.read, position)?;
            }
        }
        Ok(heads)
    }
}
