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
use crate::store::{Part, StoreError, reconcile};

/// Records deleted in one part.
const DELETED_AT_ONCE: usize = 1000;
/// When it is tried again to begin a link epoch.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// A peer that misses what it had acknowledged makes a new link epoch begin no more often than this.
const RENUMBERED_EVERY_MS: u64 = 10 * 60 * 1000;

/// Whether it is still to be found out what the peer has had.
pub(super) enum Reconciling {
    /// Nobody has looked yet.
    Unknown,
    /// It is; with the last number of each lane that had rows in the backup.
    Due(Arc<HashMap<Lane, u64>>),
    /// There is nothing to find out.
    Done,
}

impl Reconciling {
    /// What may be sent; `None`: everything.
    pub(super) const fn lanes(&self) -> Option<&Arc<HashMap<Lane, u64>>> {
        match self {
            Self::Due(lanes) => Some(lanes),
            Self::Unknown | Self::Done => None,
        }
    }

    /// Whether the ordinary work goes on.
    pub(super) const fn is_done(&self) -> bool {
        matches!(self, Self::Done)
    }
}

impl Worker {
    /// Reads, once, whether there is something to find out.
    pub(super) async fn look_for_restore(&mut self) -> Result<(), StoreError> {
        if !matches!(self.reconciling, Reconciling::Unknown) {
            return Ok(());
        }
        let lanes = reconcile::lanes(&self.node.store, &self.server).await?;
        self.reconciling =
            lanes.map_or(Reconciling::Done, |lanes| Reconciling::Due(Arc::new(lanes)));
        if self.reconciling.lanes().is_some() {
            self.read_afresh(self.queue.link_epoch());
        }
        Ok(())
    }

    /// Whether the old numbering is of no use to find out more: the peer has taken a later one.
    pub(super) fn has_left_numbering(&self, error: &RequestError) -> bool {
        let is_stale = matches!(
            error,
            RequestError::Refused {
                code: Some(RefusalCode::StaleLinkEpoch),
                ..
            }
        );
        is_stale && self.reconciling.lanes().is_some()
    }

    /// All is found out that can be: what is left is numbered anew.
    pub(super) async fn end_reconciling(&mut self) -> Result<Step, StoreError> {
        if !self.number_anew().await? {
            return Ok(Step::Delay(AGAIN_AFTER));
        }
        loop {
            let mut part = Part::default();
            let (store, server) = (&self.node.store, &self.server);
            let deleted = reconcile::delete_some(store, &mut part, server, DELETED_AT_ONCE).await?;
            store.commit(part).await?;
            if deleted < DELETED_AT_ONCE {
                break;
            }
        }
        self.reconciling = Reconciling::Done;
        Ok(Step::Again)
    }

    /// The peer misses what it had acknowledged, for it was restored from an old copy. That is lost, and what follows it must not
    /// wait for ever: it is numbered anew, unless that was done a moment ago. Whether it was.
    pub(super) async fn go_on_without_lost(
        &mut self,
        peer: &PeerView,
        now_ms: u64,
    ) -> Result<bool, StoreError> {
        let since_ms = now_ms.saturating_sub(peer.link_epoch);
        if since_ms < RENUMBERED_EVERY_MS || self.reconciling.lanes().is_some() {
            return Ok(false);
        }
        self.number_anew().await
    }

    /// Begins a new link epoch; whether it did.
    /// Alone with the worker (`&mut`): what it has under way may be sent to another thread, and not shared with one.
    async fn number_anew(&mut self) -> Result<bool, StoreError> {
        match peers::begin_link_epoch(&self.node, &Actor::System, &self.server).await {
            Ok(_) => Ok(true),
            Err(PeeringError::Store(error)) => Err(error),
            Err(error) => {
                tracing::warn!(server = %self.server, %error, "no new link epoch could be begun; trying again");
                Ok(false)
            }
        }
    }
}
