//! What a receipt says of a batch, lane by lane.

use std::collections::BTreeSet;

use crate::envelope::Lane;
use crate::hash::Digest;
use crate::link::chain;
use crate::link::sender::{Batch, BatchItem, ReceiptError};
use crate::receipt::{ItemResult, Receipt};
use crate::refusal::RefusalCode;
use crate::transaction::SignedTransaction;

/// What a receipt says of one lane.
pub(super) struct Progress {
    // The chain hash that the receiver must have, as long as it can be known.
    pub(super) chain: Option<Digest>,
    pub(super) consumed: usize,
    pub(super) retry_after_ms: Option<u32>,
    pub(super) blocked_by_gap: bool,
}

impl Progress {
    pub(super) fn note(&mut self, item: &BatchItem, result: &ItemResult, hash: &Digest) {
        match result {
            ItemResult::Accepted | ItemResult::Duplicate | ItemResult::Refused(_) => {
                self.consumed += 1;
                // Of what a tombstone stands for the receiver may have consumed a part before; at
                // a conflict it has something else.
                let conflict = matches!(result, ItemResult::Refused(refusal)
                    if refusal.code == RefusalCode::LinkConflict);
                self.chain = self
                    .chain
                    .filter(|_| !item.item.tombstone && !conflict)
                    .map(|before| chain(&before, hash));
            }
            ItemResult::Deferred {
                code,
                retry_after_ms,
            } => {
                if self.retry_after_ms.is_none() {
                    self.retry_after_ms = Some(*retry_after_ms);
                    self.blocked_by_gap = self.consumed == 0 && *code == RefusalCode::LaneGap;
                }
            }
        }
    }
}

/// Checks that the receipt answers the batch: one result per item, no lane's item consumed after a
/// deferred one, and each lane's position not below what was consumed.
pub(super) fn check(
    batch: &Batch,
    sent: &SignedTransaction,
    receipt: &Receipt,
) -> Result<(), ReceiptError> {
    let body = receipt.body();
    if body.root != sent.root {
        return Err(ReceiptError::OtherTransaction);
    }
    if body.results.len() != batch.items().len()
        || sent.position_hashes.len() != batch.items().len()
    {
        return Err(ReceiptError::Contradiction);
    }
    let mut deferred = BTreeSet::new();
    for (item, result) in batch.items().iter().zip(&body.results) {
        let head = body
            .lanes
            .get(&item.lane)
            .ok_or(ReceiptError::Contradiction)?;
        if matches!(result, ItemResult::Deferred { .. }) {
            deferred.insert(item.lane);
        } else if deferred.contains(&item.lane) || head.sequence < item.item.last() {
            return Err(ReceiptError::Contradiction);
        }
    }
    Ok(())
}

/// The lanes of a batch, each once, in the order of their first items.
pub(super) fn lanes_of(batch: &Batch) -> Vec<Lane> {
    // A lane's items stand together.
    let mut lanes: Vec<_> = batch.items().iter().map(|item| item.lane).collect();
    lanes.dedup();
    lanes
}
