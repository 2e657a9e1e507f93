//! What every agreement allows, as one snapshot in memory.
//!
//! The snapshot saves reading; it decides nothing alone: whoever accepts something on its word adds
//! [`PeerView::unchanged`] to the part, so that an agreement that changed meanwhile makes the commit
//! fail, on any node of the organisation.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use federation_proto::ids::ServerName;
use federation_proto::refusal::{Refusal, RefusalCode};
use homeserver_api::admin::{Operation, PeerState};

use crate::policy::{self, Agreement, Direction, Link};
use crate::store::{Key, Precondition, Value};

/// One peer as of the snapshot.
#[derive(Debug, Clone, PartialEq)]
pub struct PeerView {
    /// The peer.
    pub server: ServerName,
    /// Where its agreement stands.
    pub state: PeerState,
    /// What it allows, as policy sees it.
    pub agreement: Agreement,
    /// The peer's root certificate (DER); empty while only we have signed.
    pub root: Vec<u8>,
    pub(super) serial: (Key, Option<Value>),
}

impl PeerView {
    /// Whether people of `user_type` (ours: the sender's when outbound, the recipient's when inbound;
    /// `None`: of any type) may do `operation` in this direction now.
    pub fn judge(
        &self,
        direction: Direction,
        operation: Operation,
        user_type: Option<&str>,
        now_ms: u64,
    ) -> Result<(), Refusal> {
        let link = Link {
            server: &self.server,
            agreement: Some(&self.agreement),
        };
        policy::evaluate_link(&link, direction, operation, user_type, now_ms).into_result()
    }

    /// Holds as long as the agreement is as this view says.
    pub fn unchanged(&self) -> Precondition {
        Precondition::unchanged(self.serial.0.clone(), self.serial.1.clone())
    }
}

/// All peers.
#[derive(Default)]
pub struct Directory {
    views: ArcSwap<BTreeMap<ServerName, Arc<PeerView>>>,
}

impl Directory {
    /// The peer, in whichever state.
    pub fn get(&self, server: &ServerName) -> Option<Arc<PeerView>> {
        self.views.load().get(server).cloned()
    }

    /// All peers by name, in whichever state.
    pub fn all(&self) -> Vec<Arc<PeerView>> {
        self.views.load().values().cloned().collect()
    }

    /// The peer, when there is one and it allows this: see [`PeerView::judge`].
    pub fn judge(
        &self,
        server: &ServerName,
        direction: Direction,
        operation: Operation,
        user_type: Option<&str>,
        now_ms: u64,
    ) -> Result<Arc<PeerView>, Refusal> {
        let view = self.get(server).ok_or_else(|| {
            Refusal::new(
                RefusalCode::NoAgreement,
                format!("there is no agreement with {server}: ask your administrator to make one"),
            )
        })?;
        view.judge(direction, operation, user_type, now_ms)?;
        Ok(view)
    }
}
