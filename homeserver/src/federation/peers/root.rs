//! Our own root, as our partners go by it: announced by an amendment to each, and given up for none that has not
//! consented.
//!
//! While there are two roots, what a partner is shown and told is of the one that its agreement pins; everything
//! here asks the agreement for it.

use std::sync::Arc;

use bytes::Bytes;
use federation_proto::agreement::{Amendment, Consent, Declaration, Signed};
use federation_proto::fingerprint::Fingerprint;
use federation_proto::ids::ServerName;
use federation_proto::manifest::{self, Manifest};
use homeserver_api::keys::{PartnerRoot, PartnerRootStanding, RootStatus, SwitchRootRequest};

use super::amendments::standing as in_standing;
use super::ceremony::parse_fingerprint;
use super::change::change;
use super::directory::PeerView;
use super::error::PeeringError;
use super::prepared::Prepared;
use super::standing::{current, not_in_force};
use super::statement::under;
use crate::audit::Actor;
use crate::node::Node;
use crate::store::peer::{OutgoingDocument, OutgoingKind};

/// Our manifest for a partner: of the root that it goes by.
pub(super) fn own_manifest(node: &Node, signed: &Signed) -> Arc<Manifest> {
    let known = node.keys.manifest_under(&signed.ours().root);
    // It goes by one that is forgotten, and can be told nothing before it has consented to the present one.
    known.unwrap_or_else(|| node.keys.manifest())
}

/// As `own_manifest`, for a peer that asks.
pub fn manifest_for(node: &Node, server: &ServerName) -> Arc<Manifest> {
    let root = node
        .peers
        .get(server)
        .and_then(|peer| peer.our_root.clone());
    root.and_then(|root| node.keys.manifest_under(&root))
        .unwrap_or_else(|| node.keys.manifest())
}

/// How far the change is, with every partner.
pub fn status(node: &Node) -> RootStatus {
    let keys = node.keys.status(node.clock.now_ms());
    let partners = node.peers.all().into_iter().filter(|peer| peer.is_signed());
    RootStatus {
        fingerprint: keys.fingerprint,
        words: Fingerprint::of_root(&node.keys.root()).words().join(" "),
        change: keys.root_change,
        partners: partners
            .map(|peer| PartnerRoot {
                server: peer.server.clone(),
                standing: standing(node, &peer),
                amendment: on_its_way(node, &peer),
            })
            .collect(),
    }
}

/// How far a partner is with the root that is to count.
pub(super) fn standing(node: &Node, peer: &PeerView) -> PartnerRootStanding {
    let target = Some(Bytes::from(node.keys.target_root().to_vec()));
    if peer.our_root == target {
        PartnerRootStanding::Consented
    } else if peer.our_proposed_root == target {
        PartnerRootStanding::Announced
    } else {
        PartnerRootStanding::NotAnnounced
    }
}

/// The amendment that announces the root, while it has yet to reach the partner.
fn on_its_way(node: &Node, peer: &PeerView) -> Option<String> {
    let target = node.keys.target_root();
    let waits = peer.outgoing.iter().rev();
    waits
        .filter(|document| document.kind == OutgoingKind::Amendment)
        .filter_map(|document| Amendment::open(document.bytes.clone(), node.clock.now_ms()).ok())
        .find(|amendment| amendment.statement().root == target.as_ref())
        .map(|amendment| amendment.to_armor())
}

/// Announces the root that is to count to these partners, or to all: each is brought an amendment in the background,
/// and its administrator consents when he has compared the fingerprint. Who has been told or has consented is not told
/// again.
pub async fn announce(
    node: &Arc<Node>,
    actor: &Actor,
    partners: &[ServerName],
) -> Result<(), PeeringError> {
    let all = node.peers.all().into_iter().filter(|peer| peer.is_signed());
    let named = match partners {
        [] => all.map(|peer| peer.server.clone()).collect(),
        named => named.to_vec(),
    };
    // One that can't be told keeps nobody else from it.
    let mut told = Ok(());
    for server in &named {
        told = told.and(announce_to(node, actor, server).await);
    }
    told
}

pub(super) async fn announce_to(
    node: &Arc<Node>,
    actor: &Actor,
    server: &ServerName,
) -> Result<(), PeeringError> {
    let now_ms = node.clock.now_ms();
    change(node, actor, server, |found| {
        let (record, agreement) = current(found, server)?;
        let agreement = in_standing(agreement, server, now_ms)?;
        let target = Bytes::from(node.keys.target_root().to_vec());
        let signed = agreement.signed().ok_or_else(|| not_in_force(server))?;
        let proposed = signed.amendments(signed.side()).proposed();
        let announced = proposed.is_some_and(|proposed| proposed.statement().root == target);
        if announced || signed.ours().root == target {
            return Ok(Err(()));
        }
        // What else is proposed stays proposed.
        let before = proposed.map_or_else(|| signed.ours(), |proposed| proposed.statement());
        let statement = under(node, &target, before)?;
        let prepared = Prepared::stating(node, agreement, statement, now_ms)?;
        Ok(Ok(prepared.change(record, "peer.root-announced", ())?))
    })
    .await
}

/// Whether the new root may take over: every partner has consented, or is named as one that is not waited for. Returns
/// SHA-256 of the new root's certificate.
pub fn may_switch(node: &Node, request: &SwitchRootRequest) -> Result<[u8; 32], PeeringError> {
    let fingerprint = parse_fingerprint(&request.fingerprint)?;
    let target = node.keys.target_root();
    if fingerprint != Fingerprint::of_root(&target) {
        return Err(PeeringError::State(format!(
            "the fingerprint is not that of the root that is to take over, {}: compare it with what `homeserver root \
             sign` printed",
            Fingerprint::of_root(&target)
        )));
    }
    let partners = node.peers.all().into_iter().filter(|peer| peer.is_signed());
    let missing: Vec<_> = partners
        .filter(|peer| standing(node, peer) != PartnerRootStanding::Consented)
        .map(|peer| peer.server.clone())
        .collect();
    let not_named = missing
        .iter()
        .filter(|server| !request.without.contains(server));
    let not_named: Vec<_> = not_named.map(ToString::to_string).collect();
    if node.keys.has_next_root() && !not_named.is_empty() {
        return Err(PeeringError::State(format!(
            "{} consented to the new root yet: wait (`hsctl keys root show`), or go on without (`--without`); people \
             there could not check new device certificates of yours until it has",
            match not_named.as_slice() {
                [one] => format!("{one} has not"),
                several => format!("{} have not", several.join(", ")),
            }
        )));
    }
    if let Some(other) = request
        .without
        .iter()
        .find(|server| !missing.contains(server))
    {
        return Err(PeeringError::State(format!(
            "{other} is no partner that has yet to consent: leave it out"
        )));
    }
    Ok(*fingerprint.digest().as_bytes())
}

/// Takes the announcements of the new root back, so that it can be given up; refused when a partner has consented.
pub async fn withdraw(node: &Arc<Node>, actor: &Actor) -> Result<(), PeeringError> {
    if !node.keys.has_next_root() {
        return Err(PeeringError::State(
            "no new root waits to take over: there is nothing to give up".to_owned(),
        ));
    }
    let mut withdrawn = Ok(());
    for peer in node.peers.all() {
        if peer.is_signed() && standing(node, &peer) == PartnerRootStanding::Announced {
            withdrawn = withdrawn.and(withdraw_from(node, actor, &peer.server).await);
        }
    }
    withdrawn?;
    // Nobody can consent any more: what was proposed is proposed no longer.
    let peers = node.peers.all();
    let consented = peers
        .iter()
        .find(|peer| peer.is_signed() && standing(node, peer) == PartnerRootStanding::Consented);
    match consented {
        Some(peer) => Err(PeeringError::State(format!(
            "{} has consented to the new root and takes no other: let it take over, and change the root again \
             afterwards if you must",
            peer.server
        ))),
        None => Ok(()),
    }
}

async fn withdraw_from(
    node: &Arc<Node>,
    actor: &Actor,
    server: &ServerName,
) -> Result<(), PeeringError> {
    let now_ms = node.clock.now_ms();
    change(node, actor, server, |found| {
        let (record, agreement) = current(found, server)?;
        let agreement = in_standing(agreement, server, now_ms)?;
        let target = node.keys.target_root();
        let signed = agreement.signed().ok_or_else(|| not_in_force(server))?;
        let proposed = signed.amendments(signed.side()).proposed();
        let proposed = proposed.filter(|proposed| proposed.statement().root == target.as_ref());
        let Some(proposed) = proposed else {
            return Ok(Err(()));
        };
        // A partner that an earlier change did not wait for goes by a root that is forgotten: it is offered the present one.
        let present = Bytes::from(node.keys.root().to_vec());
        let by = &signed.ours().root;
        let back = node.keys.manifest_under(by).map_or(&present, |_| by);
        let statement = under(node, back, proposed.statement())?;
        let prepared = Prepared::stating(node, agreement, statement, now_ms)?;
        Ok(Ok(prepared.change(record, "peer.root-withdrawn", ())?))
    })
    .await
}

/// Whether our consent to a new root of the partner's has to wait for the partner's consent to ours. Both at once would
/// wait for each other for ever: what either has signed under its former root is to arrive before the other's consent.
/// So the one whose name comes first consents first.
pub(super) fn has_to_wait(node: &Node, signed: &Signed, amendment: &Amendment) -> bool {
    let proposed = signed.amendments(signed.side()).proposed();
    let target = node.keys.target_root();
    let announced = proposed.is_some_and(|ours| ours.statement().root == target.as_ref());
    let theirs_changes = amendment.statement().root != signed.theirs().root;
    let is_first = signed.ours().from < signed.theirs().from;
    node.keys.has_two_roots() && announced && theirs_changes && !is_first
}

/// From a consent to our new root on, its maker takes nothing that we have signed under the former one, once it knows
/// that the consent has arrived. So what still waits for it is delivered first. Consents to anything else change nothing
/// of that.
pub(super) fn wait_for_what_was_signed_before(
    node: &Node,
    server: &ServerName,
    consent: &Consent,
) -> Result<(), PeeringError> {
    let Some(peer) = node.peers.get(server) else {
        return Ok(());
    };
    let is_to_the_proposal = peer.our_proposal == Some(consent.body().amendment_sha256);
    if !is_to_the_proposal || peer.our_proposed_root == peer.our_root {
        return Ok(());
    }
    let under_target = node.keys.manifest_under(&node.keys.target_root());
    let by = |document: &OutgoingDocument| {
        let bytes = document.bytes.clone();
        match document.kind {
            OutgoingKind::Amendment => None,
            OutgoingKind::Consent => Some(Consent::decode(bytes).ok()?.body().manifest.clone()),
            OutgoingKind::Declaration => {
                Some(Declaration::decode(bytes).ok()?.body().manifest.clone())
            }
        }
    };
    let waits = peer.outgoing.iter().filter_map(by).any(|bytes| {
        let issuing = manifest::decode(bytes).map(|by| by.issuing_certificate().clone());
        let target = under_target
            .as_ref()
            .map(|under| &under.body().issuing_certificate);
        issuing.ok().as_ref() != target
    });
    if waits && node.keys.has_two_roots() {
        return Err(PeeringError::NotYet(
            "documents under the former root are on their way to you: bring this one again"
                .to_owned(),
        ));
    }
    Ok(())
}
