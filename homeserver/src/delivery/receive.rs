//! What a peer has sent: judged envelope by envelope, taken in one part.
//!
//! The part holds the deliveries and the lanes' new positions together, so that an envelope has its
//! effect exactly once, however often it arrives. A refused envelope is refused alone, uses up its
//! position, and is audited. On a conflict everything is judged anew.

use std::collections::{BTreeMap, HashMap};

use federation_proto::envelope::{Kind, Lane};
use federation_proto::ids::ServerName;
use federation_proto::limits::{LINK_LANES_MAX, RETRY_AFTER_MS_MAX};
use federation_proto::link::{
    Arrival, LanePosition, LinkEpoch, Receiver, Recent, judge_link_epoch,
};
use federation_proto::receipt::{ItemResult, LaneHead};
use federation_proto::refusal::{Refusal, RefusalCode};
use federation_proto::transaction::{VerifiedEnvelope, VerifiedTransaction};

use super::batch::{Batch, NotTaken};
use super::envelope;
use super::limits::{
    CONFLICT_ATTEMPTS_MAX, DAMAGED_RETRY_MS, PART_FULL_RETRY_MS, PART_GROWTH_BYTES_MAX,
    SPACE_RETRY_MS, WAITING_FULL_RETRY_MS,
};
use crate::node::Node;
use crate::policy::told_abroad;
use crate::store::expiry::{self, Place};
use crate::store::link_position::{self, LaneCount, Read};
use crate::store::{PartOutcome, StoreError};

/// What became of a transaction's envelopes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// One result per envelope, in their order.
    pub results: Vec<ItemResult>,
    /// The head of every lane concerned.
    pub lanes: BTreeMap<Lane, LaneHead>,
    /// How many of the accepted ones ask for something that their answers refuse, or that is not there.
    pub refused_answers: usize,
}

/// Why a transaction was not taken at all.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ReceiveError {
    /// The agreement does not let the peer send, or its link epoch has passed.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Its link epoch lies ahead of the clock here.
    #[error(
        "your link epoch lies {ahead_s} seconds ahead of the clock here: see which of the two clocks is wrong, and begin \
         a new link epoch when they agree"
    )]
    EpochAhead {
        /// By how many seconds.
        ahead_s: u64,
    },
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
        batch.brought_by(&view).await?;
        let mut lanes = Lanes::open(&mut batch, peer, transaction.link().link_epoch).await?;
        let mut results = Vec::with_capacity(transaction.envelopes().len());
        for envelope in transaction.envelopes() {
            results.push(lanes.take(&mut batch, envelope).await?);
        }
        let heads = lanes.close(&mut batch)?;
        let refused_answers = batch.refused_answers();
        if batch.commit().await? == PartOutcome::Committed {
            return Ok(Received {
                results,
                lanes: heads,
                refused_answers,
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
    known: Read<LaneCount>,
    /// Lanes that are stored, those of former link epochs too, with those that this transaction has begun.
    count: u64,
    /// What this transaction itself has put into slots.
    recent: HashMap<(Lane, u64), Recent>,
    /// Bytes of the envelopes that were judged.
    judged_bytes: usize,
}

struct OpenLane {
    read: Read<LanePosition>,
    receiver: Receiver,
    /// There are as many lanes as are kept, and this is a further one: nothing of it is taken.
    is_beyond: bool,
}

impl<'p> Lanes<'p> {
    async fn open(
        batch: &mut Batch<'_>,
        peer: &'p ServerName,
        link_epoch: u64,
    ) -> Result<Self, ReceiveError> {
        let store = &batch.node.store;
        let known = link_position::epoch(store, peer).await?;
        match judge_link_epoch(known.record, link_epoch, batch.now_ms) {
            // Whoever raises it meanwhile makes this part fail: its numbering has ended.
            LinkEpoch::Current => link_position::require_epoch(&mut batch.part, peer, &known),
            LinkEpoch::New => link_position::put_epoch(&mut batch.part, peer, &known, link_epoch)?,
            LinkEpoch::Stale => {
                return Err(ReceiveError::Refused(Refusal::new(
                    RefusalCode::StaleLinkEpoch,
                    "you have used a higher link epoch before: this server may have been restored \
                     from an old copy, or somebody replays its mail",
                )));
            }
            LinkEpoch::Ahead => {
                let ahead_s = link_epoch.saturating_sub(batch.now_ms) / 1000;
                return Err(ReceiveError::EpochAhead { ahead_s });
            }
        }
        let known = link_position::lane_count(store, peer).await?;
        let before = known.record.unwrap_or_default();
        let counted = before.at(link_epoch);
        // The former numbering's positions are of no use any more. One entry stands for them as long as any are counted:
        // how often the link epoch rises is up to the peer.
        if before.former == 0 && counted.former > 0 {
            expiry::put(&mut batch.part, batch.now_ms, Place::Lanes(peer.clone()));
        }
        Ok(Self {
            peer,
            link_epoch,
            lanes: BTreeMap::new(),
            known,
            count: counted.stored(),
            recent: HashMap::new(),
            judged_bytes: 0,
        })
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
            let receiver = Receiver::resume(self.link_epoch, read.record);
            let is_known = read
                .record
                .is_some_and(|position| position.link_epoch == self.link_epoch);
            let is_beyond = !is_known && self.count >= LINK_LANES_MAX && id != Lane::CONTROL;
            if !is_known && !is_beyond {
                self.count = self.count.saturating_add(1);
            }
            // One that is not taken has a head in the receipt too, at position 0 (LINK-040); nothing of it is stored.
            let lane = OpenLane {
                read,
                receiver,
                is_beyond,
            };
            self.lanes.insert(id, lane);
        }
        let Some(lane) = self.lanes.get_mut(&id) else {
            return Err(StoreError::Corrupt {
                family: "link position",
            });
        };
        if lane.is_beyond {
            return Ok(ItemResult::Deferred {
                code: RefusalCode::Quota,
                retry_after_ms: RETRY_AFTER_MS_MAX,
            });
        }
        #[cfg(feature = "faults")]
        forget_consumed(&mut lane.receiver, self.link_epoch, sequence);
        let slot = Recent::slot(sequence, self.count);
        let record = match self.recent.get(&(id, slot)) {
            Some(record) => Some(*record),
            None if lane.receiver.needs_record(sequence) => {
                link_position::recent(&batch.node.store, self.peer, id, slot).await?
            }
            None => None,
        };
        let arrival = lane.receiver.judge(envelope, record.as_ref());
        let next = match arrival {
            Arrival::Next(next) => next,
            other => {
                if let Arrival::Conflict { stored, arrived } = &other {
                    let detail = format!("position {sequence}: had {stored}, got {arrived}");
                    let code = RefusalCode::LinkConflict;
                    batch.audit_refusal(self.peer, "link.conflict", id, code, detail);
                }
                // Only the next envelope's result is still open.
                return Ok(other.settled().unwrap_or(ItemResult::Duplicate));
            }
        };
        let (kind, bytes) = (envelope.header().kind, envelope.payload().len());
        if batch.node.space.is_short() && kind != Kind::Tombstone {
            return Ok(ItemResult::Deferred {
                code: RefusalCode::Unavailable,
                retry_after_ms: SPACE_RETRY_MS,
            });
        }
        if !batch.may_bring(kind, bytes) {
            return Ok(ItemResult::Deferred {
                code: RefusalCode::Quota,
                retry_after_ms: WAITING_FULL_RETRY_MS,
            });
        }
        // What comes behind too much is asked for again, in a part of its own.
        let most = self.judged_bytes.saturating_add(PART_GROWTH_BYTES_MAX);
        if batch.part_bytes() > most {
            return Ok(ItemResult::Deferred {
                code: RefusalCode::Quota,
                retry_after_ms: PART_FULL_RETRY_MS,
            });
        }
        self.judged_bytes = self.judged_bytes.saturating_add(bytes);
        let mark = batch.mark();
        batch.bring(Some(envelope));
        let (consumed, result) = match envelope::apply(batch, self.peer, envelope).await {
            Ok(()) => (next.accept(), ItemResult::Accepted),
            #[cfg(feature = "faults")]
            Err(NotTaken::Refused(refusal)) if crate::faults::is_on("poison-blocks") => {
                batch.roll_back(&mark);
                return Ok(ItemResult::Deferred {
                    code: refusal.code,
                    retry_after_ms: 0,
                });
            }
            Err(NotTaken::Refused(refusal)) => {
                batch.roll_back(&mark);
                let (code, detail) = (refusal.code, refusal.to_string());
                batch.audit_refusal(self.peer, "envelope.refused", id, code, detail);
                let consumed = next.refuse(refusal.code);
                (consumed, ItemResult::Refused(told_abroad(refusal)))
            }
            // Its position stays open, so that what follows it on the lane is a gap until it is back.
            Err(NotTaken::Deferred {
                code,
                retry_after_ms,
            }) => {
                batch.roll_back(&mark);
                return Ok(ItemResult::Deferred {
                    code,
                    retry_after_ms,
                });
            }
            // One damaged record holds up what concerns it, and nothing else.
            Err(NotTaken::Store(error @ StoreError::Corrupt { .. })) => {
                tracing::error!(%error, peer = %self.peer, lane = %id, "an envelope has to wait");
                batch.roll_back(&mark);
                return Ok(ItemResult::Deferred {
                    code: RefusalCode::Unavailable,
                    retry_after_ms: DAMAGED_RETRY_MS,
                });
            }
            Err(NotTaken::Store(error)) => return Err(error),
        };
        if let Some(record) = consumed.record() {
            // How many there are is up to the peer: where there are many lanes, fewer of each are remembered.
            let slot = Recent::slot(record.sequence, self.count);
            link_position::put_recent(&mut batch.part, self.peer, id, slot, &record)?;
            self.recent.insert((id, slot), record);
        }
        Ok(result)
    }

    /// Writes the positions that have moved.
    fn close(self, batch: &mut Batch<'_>) -> Result<BTreeMap<Lane, LaneHead>, StoreError> {
        let mut heads = BTreeMap::new();
        // A lane of which nothing is stored has not begun: it may come again and again.
        let begun = |lane: &&OpenLane| {
            let position = lane.receiver.position();
            let before = lane.read.record.as_ref();
            let known = before.is_some_and(|before| before.link_epoch == position.link_epoch);
            !known && position.sequence > 0
        };
        let begun = self.lanes.values().filter(begun).count();
        let mut count = self.known.record.unwrap_or_default().at(self.link_epoch);
        let begun = u64::try_from(begun).unwrap_or(u64::MAX);
        count.lanes = count.lanes.saturating_add(begun);
        if self.known.record != Some(count) {
            link_position::put_lane_count(&mut batch.part, self.peer, &self.known, &count)?;
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

/// The fault `accept-again`: a position that was consumed is the lane's next.
#[cfg(feature = "faults")]
fn forget_consumed(receiver: &mut Receiver, link_epoch: u64, sequence: u64) {
    let position = *receiver.position();
    if sequence <= position.sequence && crate::faults::is_on("accept-again") {
        let before = LanePosition {
            sequence: sequence.saturating_sub(1),
            ..position
        };
        *receiver = Receiver::resume(link_epoch, Some(before));
    }
}
