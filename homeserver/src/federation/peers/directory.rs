//! What every agreement allows, as one snapshot in memory.
//!
//! The snapshot saves reading; it decides nothing alone: whoever accepts something on its word adds
//! [`PeerView::unchanged`] to the part, so that an agreement that changed meanwhile makes the commit
//! fail, on any node of the organisation.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use federation_proto::hash::Digest;
use federation_proto::ids::{ConsortiumId, ServerName};
use federation_proto::manifest::{FormerRoot, Manifest};
use federation_proto::refusal::{Refusal, RefusalCode};
use homeserver_api::admin::{Operation, PeerState};
use homeserver_api::attributes::MessageAttributes;

use super::view;
use crate::node::Node;
use crate::policy::{self, Agreement, Direction, Link};
use crate::store::peer::{OutgoingDocument, Renewal};
use crate::store::{Key, Precondition, StoreError, Value, agreement_serial, peer};
use crate::tls::PeerAnchor;

/// One peer as of the snapshot.
#[derive(Debug, Clone, PartialEq)]
pub struct PeerView {
    /// The peer.
    pub server: ServerName,
    /// Where its agreement stands.
    pub state: PeerState,
    /// Where the agreement stands that both have signed, whatever ceremony is under way; `None`: there
    /// has been none.
    pub agreed: Option<PeerState>,
    /// Whether it was this side that has suspended it.
    pub suspended_here: bool,
    /// What it allows, as policy sees it.
    pub agreement: Agreement,
    /// The peer's root certificate (DER); empty while only we have signed.
    pub root: Vec<u8>,
    /// What TLS pinned for the peer before we consented to its new root, while it may not know of that.
    pub(super) former: Option<PeerAnchor>,
    /// The newest of the peer's key manifests under that former root.
    pub former_manifest: Option<Arc<Manifest>>,
    /// The root of ours that the agreement pins at the peer; `None`: it has no agreement.
    pub our_root: Option<Bytes>,
    /// The root of ours in an amendment that waits for the peer's consent.
    pub(super) our_proposed_root: Option<Bytes>,
    /// SHA-256 of that amendment.
    pub(super) our_proposal: Option<Digest>,
    /// The newest of the peer's key manifests; `None` while only we have signed.
    pub manifest: Option<Arc<Manifest>>,
    /// Where the peer is reached, `host:port` each.
    pub endpoints: Vec<String>,
    /// The epoch of our numbering towards it.
    pub link_epoch: u64,
    /// Whether that epoch was begun with mail waiting.
    pub renumbered: bool,
    /// How many bytes of mail may wait; `None`: nothing is agreed.
    pub waiting: Option<WaitingBounds>,
    /// When the offer or acceptance that is under way ends, milliseconds since the Unix epoch.
    pub ceremony_ends_ms: Option<u64>,
    /// Our countersignature, while it has yet to reach the peer.
    pub countersignature_to_deliver: Option<Bytes>,
    /// Documents that have yet to reach the peer, in their order.
    pub outgoing: Vec<OutgoingDocument>,
    /// Whether an amendment of the partner waits for our consent.
    pub(super) proposed: bool,
    /// When the agreement was revoked; `None`: it was not.
    pub ended: Option<Ended>,
    /// What remains of an agreement that both had signed and that was revoked or has expired.
    pub parted: Option<Parted>,
    /// The last warning of the agreement's end.
    pub(super) warned: Option<(u64, u16)>,
    /// The charter that the agreement follows from; `None`: the two have made it themselves.
    pub chartered: Option<Chartered>,
    pub(super) serial: (Key, Option<Value>),
}

/// What an agreement that stands has to do with a consortium.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chartered {
    /// Which.
    pub consortium: ConsortiumId,
    /// What it was called in the charter that the agreement follows from.
    pub name: String,
    /// Counts the consortium's charters: which of them that is.
    pub serial: u64,
    /// How far it is with the charter that renews it.
    pub renewal: Option<Renewal>,
    /// Whether both halves of that are in force.
    pub renewed: bool,
    /// Whether something is to do for it here, if the newest charter says so.
    pub due: bool,
}

/// The end of an agreement that was revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// When, milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// When it would have ended by itself, milliseconds since the Unix epoch.
    pub last_day_ms: u64,
}

/// Who a former partner was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parted {
    /// When the agreement ended, milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// Whether this side has ended it: it has not run out, nor has the partner ended it first.
    pub by_us: bool,
    /// The root that the partner had (DER),
    pub root: Vec<u8>,
    /// and those before it, as its newest manifest says.
    pub former_roots: Vec<FormerRoot>,
}

/// How many bytes of mail an agreement lets wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WaitingBounds {
    /// In our outbox: the peer would let no more wait at its side.
    pub outbound_bytes_max: u64,
    /// In inboxes here, brought by the peer.
    pub inbound_bytes_max: u64,
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
        let link = self.link();
        policy::evaluate_link(&link, direction, operation, user_type, now_ms).into_result()
    }

    /// Whether the agreement lets a message with these attributes, which was not written by one of ours, pass in
    /// this direction now.
    pub fn judge_passing(
        &self,
        direction: Direction,
        attributes: &MessageAttributes,
        now_ms: u64,
    ) -> Result<(), Refusal> {
        policy::evaluate_passing(&self.link(), direction, attributes, now_ms).into_result()
    }

    /// Whether the agreement is in force now, whatever it grants.
    pub fn in_force(&self, now_ms: u64) -> Result<(), Refusal> {
        policy::evaluate_standing(&self.link(), now_ms).into_result()
    }

    /// The roots that device certificates of the peer's people may lead to beside its root, as its newest
    /// manifest says.
    pub fn former_roots(&self) -> Vec<FormerRoot> {
        let manifest = self.manifest.as_ref();
        manifest.map_or_else(Vec::new, |manifest| manifest.body().former_roots.clone())
    }

    /// Whether both have signed an agreement that has not ended, suspended or not.
    pub fn is_signed(&self) -> bool {
        matches!(self.agreed, Some(PeerState::Active | PeerState::Suspended))
    }

    /// When the agreement ends, or before it the offer or acceptance under way, milliseconds since the Unix
    /// epoch.
    pub fn ends_ms(&self) -> Option<u64> {
        let agreement = self.is_signed().then_some(self.agreement.expires_ms);
        [agreement, self.ceremony_ends_ms]
            .into_iter()
            .flatten()
            .min()
    }

    /// Holds as long as the agreement is as this view says.
    pub fn unchanged(&self) -> Precondition {
        Precondition::unchanged(self.serial.0.clone(), self.serial.1.clone())
    }

    /// The peer as policy sees it.
    pub fn link(&self) -> Link<'_> {
        Link {
            server: &self.server,
            agreement: Some(&self.agreement),
        }
    }

    /// What TLS pins for the peer; `None`: it may not connect.
    fn anchor(&self, now_ms: u64) -> Option<PeerAnchor> {
        self.pinned().filter(|_| self.may_connect(now_ms))
    }

    /// What TLS pins for the peer when we call it to tell it that the agreement has ended.
    fn farewell(&self) -> Option<PeerAnchor> {
        self.pinned().filter(|_| self.is_to_be_told())
    }

    /// Whether the peer has yet to be told that the agreement has ended.
    pub fn is_to_be_told(&self) -> bool {
        self.agreed == Some(PeerState::Revoked) && !self.outgoing.is_empty()
    }

    fn may_connect(&self, now_ms: u64) -> bool {
        match self.state {
            PeerState::Active | PeerState::Suspended => true,
            // It may bring its countersignature, as long as that would be taken.
            PeerState::Accepted => self
                .ceremony_ends_ms
                .is_some_and(|ends_ms| now_ms < ends_ms),
            _ => false,
        }
    }

    fn pinned(&self) -> Option<PeerAnchor> {
        let manifest = self.manifest.as_ref()?;
        let anchor = view::anchor(self.root.clone(), manifest);
        Some(match &self.former {
            Some(former) => PeerAnchor {
                roots: [anchor.roots, former.roots.clone()].concat(),
                pins: [anchor.pins, former.pins.clone()].concat(),
            },
            None => anchor,
        })
    }
}

/// All peers.
#[derive(Default)]
pub struct Directory {
    views: ArcSwap<BTreeMap<ServerName, Arc<PeerView>>>,
    /// Who may connect, as of the last refresh. Locked while one goes on: a slow reader must not put
    /// an older snapshot over a newer one.
    anchors: tokio::sync::Mutex<HashMap<ServerName, PeerAnchor>>,
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

    /// Takes the snapshot anew from the store, and with it who may connect. Call it at start, after
    /// every change, and whenever a part failed because an agreement had changed.
    ///
    /// A peer whose record does not decode is left out, so that nobody connects under what can't be read. That is an
    /// error, and what has changed of all others holds nevertheless.
    pub async fn refresh(&self, node: &Node) -> Result<(), StoreError> {
        let mut known = self.anchors.lock().await;
        let now_ms = node.clock.now_ms();
        let before = self.views.load_full();
        let mut views = BTreeMap::new();
        let mut anchors = HashMap::new();
        let mut farewells = HashMap::new();
        let (records, mut damaged) = peer::readable(&node.store).await?;
        for (server, record) in records {
            let serial = Some(agreement_serial::value(record.serial));
            // Signatures are checked when a record has changed, not each time it is read.
            let same = before.get(&server).filter(|view| view.serial.1 == serial);
            let view = match same {
                Some(view) => Arc::clone(view),
                None => match view::of(&server, &record) {
                    Ok(view) => Arc::new(view),
                    Err(StoreError::Corrupt { .. }) => {
                        damaged = damaged.saturating_add(1);
                        continue;
                    }
                    Err(error) => return Err(error),
                },
            };
            #[cfg(feature = "faults")]
            let view = keep_revoked(before.get(&server), view);
            if let Some(anchor) = view.anchor(now_ms) {
                anchors.insert(server.clone(), anchor);
            }
            if let Some(farewell) = view.farewell() {
                farewells.insert(server.clone(), farewell);
            }
            views.insert(server, view);
        }
        self.views.store(Arc::new(views));
        node.peer_roots.replace_farewells(farewells);
        if *known != anchors {
            node.peer_roots.replace(anchors.clone());
            *known = anchors;
        }
        match damaged {
            0 => Ok(()),
            _ => Err(StoreError::Corrupt { family: "peer" }),
        }
    }
}

/// The fault `keep-revoked`: the view before, as if it were of today.
#[cfg(feature = "faults")]
fn keep_revoked(before: Option<&Arc<PeerView>>, after: Arc<PeerView>) -> Arc<PeerView> {
    match before {
        Some(before)
            if after.state == PeerState::Revoked && crate::faults::is_on("keep-revoked") =>
        {
            Arc::new(PeerView {
                serial: after.serial.clone(),
                ..PeerView::clone(before)
            })
        }
        _ => after,
    }
}
