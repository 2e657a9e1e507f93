//! After a restore: what waited in the backup goes out once more under its old numbers, so that the peer says what of it it has
//! had since; then a new link epoch begins, in which everything else is numbered.
//!
//! Under the old numbers nothing else is sent: the homeserver may have given them to other envelopes after the backup.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use federation_proto::envelope::Lane;
use federation_proto::refusal::RefusalCode;

use super::{Step, Worker};
use crate::audit::Actor;
use crate::federation::outbound::request::RequestError;
use crate::federation::peers::{self, PeerView, PeeringError};
use crate::store::reconcile::{self, Left};
use crate::store::{Part, PartOutcome, StoreError};

/// Records deleted in one part.
const DELETED_AT_ONCE: usize = 1000;
/// When it is tried again to begin a link epoch.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// A peer that misses what it had acknowledged makes a new link epoch begin no more often than this.
const RENUMBERED_EVERY_MS: u64 = 10 * 60 * 1000;
/// A peer that puts off what waited in the backup keeps everything else waiting for no longer than this: it has not had what it
/// puts off, so that this may be numbered anew as well.
const PUT_OFF_MS_MAX: u64 = 10 * 60 * 1000;

/// Whether it is still to be found out what the peer has had.
pub(super) enum Reconciling {
    /// Nobody has looked yet.
    Unknown,
    /// It is.
    Due {
        /// The last number of each lane that had rows in the backup.
        lanes: Arc<HashMap<Lane, u64>>,
        /// Since when it puts some of that off, and there is nothing else to send.
        put_off_since_ms: Option<u64>,
    },
    /// Everything is numbered anew, and the peer has not answered in that numbering yet: where the clock is behind, the peer may
    /// know a higher one.
    Numbered,
    /// There is nothing to find out.
    Done,
}

impl Reconciling {
    /// What may be sent; `None`: everything.
    pub(super) const fn lanes(&self) -> Option<&Arc<HashMap<Lane, u64>>> {
        match self {
            Self::Due { lanes, .. } => Some(lanes),
            Self::Unknown | Self::Numbered | Self::Done => None,
        }
    }

    /// Whether the peer may have had this row by now, from the original of the backup.
    pub(super) fn may_have_arrived(&self, lane: Lane, number: u64) -> bool {
        let last = self.lanes().and_then(|lanes| lanes.get(&lane));
        last.is_some_and(|last| number <= *last)
    }
}

impl Worker {
    /// Reads, once, whether there is something to find out.
    pub(super) async fn look_for_restore(&mut self) -> Result<(), StoreError> {
        if !matches!(self.reconciling, Reconciling::Unknown) {
            return Ok(());
        }
        self.reconciling = match reconcile::left(&self.node.store, &self.server).await? {
            Some(Left::Asking(lanes)) => Reconciling::Due {
                lanes: Arc::new(lanes),
                put_off_since_ms: None,
            },
            Some(Left::Numbered) => Reconciling::Numbered,
            None => Reconciling::Done,
        };
        if self.reconciling.lanes().is_some() {
            self.read_afresh(self.queue.link_epoch());
        }
        Ok(())
    }

    /// Whether the peer has taken a later numbering than this one, so that this one is of no use any more.
    pub(super) fn has_left_numbering(&self, error: &RequestError) -> bool {
        let is_stale = matches!(
            error,
            RequestError::Refused {
                code: Some(RefusalCode::StaleLinkEpoch),
                ..
            }
        );
        let is_restored = matches!(
            self.reconciling,
            Reconciling::Due { .. } | Reconciling::Numbered
        );
        is_stale && is_restored
    }

    /// The peer has taken a later numbering: a new one is begun. Where it does not take that either, for the clock here is behind,
    /// there is a pause before each further one.
    pub(super) async fn leave_numbering(
        &mut self,
        error: &RequestError,
    ) -> Result<Step, StoreError> {
        if self.reconciling.lanes().is_some() {
            return self.end_reconciling().await;
        }
        if self.number_anew().await? {
            tracing::warn!(
                server = %self.server,
                "the peer knows a higher link epoch than the new one: is the clock behind?"
            );
        }
        self.failed(error).await
    }

    /// There is nothing to send of what waited in the backup. What the peer puts off is waited for, for a while; then what is left
    /// is numbered anew.
    pub(super) async fn go_on_reconciling(&mut self, now_ms: u64) -> Result<Step, StoreError> {
        if let Some(at_ms) = self.queue.next_lane_ms()
            && let Reconciling::Due {
                put_off_since_ms, ..
            } = &mut self.reconciling
        {
            let since_ms = *put_off_since_ms.get_or_insert(now_ms);
            let until_ms = since_ms.saturating_add(PUT_OFF_MS_MAX);
            if now_ms < until_ms {
                let wait_ms = at_ms.min(until_ms).saturating_sub(now_ms);
                self.link
                    .update(|status| status.next_attempt_ms = Some(at_ms));
                return Ok(Step::Mail(Duration::from_millis(wait_ms)));
            }
        }
        self.end_reconciling().await
    }

    /// All is found out that can be: what is left is numbered anew.
    async fn end_reconciling(&mut self) -> Result<Step, StoreError> {
        if !self.number_anew().await? {
            return Ok(Step::Delay(AGAIN_AFTER));
        }
        let (store, server) = (&self.node.store, &self.server);
        loop {
            let mut part = Part::default();
            let deleted = reconcile::delete_some(store, &mut part, server, DELETED_AT_ONCE).await?;
            let is_end = deleted < DELETED_AT_ONCE;
            if is_end {
                reconcile::put_numbered(&mut part, server);
            }
            if let Some(fence) = &self.fence {
                fence.require(&mut part);
            }
            if store.commit(part).await? == PartOutcome::Conflict {
                // Another node sends to the peer by now, and does this.
                return Ok(Step::Gone);
            }
            if is_end {
                break;
            }
        }
        self.reconciling = Reconciling::Numbered;
        Ok(Step::Again)
    }

    /// The peer has answered a transaction.
    pub(super) async fn note_answered_anew(&mut self) -> Result<(), StoreError> {
        if matches!(self.reconciling, Reconciling::Numbered) {
            let mut part = Part::default();
            reconcile::delete_numbered(&mut part, &self.server);
            if let Some(fence) = &self.fence {
                fence.require(&mut part);
            }
            self.node.store.commit(part).await?;
            self.reconciling = Reconciling::Done;
        }
        Ok(())
    }

    /// The peer misses what it had acknowledged, for it was restored from an old copy. That is lost, and what follows it must not
    /// wait for ever: it is to be numbered anew, unless that was done a moment ago.
    pub(super) fn note_behind(&mut self, peer: &PeerView, now_ms: u64) {
        let since_ms = now_ms.saturating_sub(peer.link_epoch);
        if since_ms >= RENUMBERED_EVERY_MS && self.reconciling.lanes().is_none() {
            self.is_behind = true;
        }
    }

    /// Numbers anew what waits for a peer that was found to miss something; `None`: there is nothing to do.
    ///
    /// What is under way is answered first, and nothing new is begun until then: what of it arrives would arrive once more under
    /// its new number.
    pub(super) async fn go_on_without_lost(&mut self) -> Result<Option<Step>, StoreError> {
        if !self.is_behind {
            return Ok(None);
        }
        if !self.under_way.is_empty() {
            return Ok(Some(Step::Answer));
        }
        self.is_behind = false;
        Ok(self.number_anew().await?.then_some(Step::Again))
    }

    /// Begins a new link epoch; whether it did.
    /// Alone with the worker (`&mut`): what it has under way may be sent to another thread, and not shared with one.
    async fn number_anew(&mut self) -> Result<bool, StoreError> {
        let fence = self.fence.as_ref();
        let begun =
            peers::begin_link_epoch_under(&self.node, &Actor::System, &self.server, fence).await;
        match begun {
            Ok(_) => Ok(true),
            Err(PeeringError::Store(error)) => Err(error),
            Err(error) => {
                tracing::warn!(server = %self.server, %error, "no new link epoch could be begun; trying again");
                Ok(false)
            }
        }
    }
}
