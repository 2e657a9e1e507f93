//! Offer, acceptance, countersignature: how two organisations become peers.
//!
//! An agreement in force stays so while a new one is being made, and is replaced by it when both have
//! signed; the numbering of the link goes on. After an agreement has ended, a new one starts a new
//! link epoch over an empty outbox.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use federation_proto::agreement::{
    Acceptance, Accepted, Active, Agreement, AgreementError, Countersignature, Draft, Offer,
    Statement,
};
use federation_proto::fingerprint::Fingerprint;
use federation_proto::ids::ServerName;
use federation_proto::link::next_link_epoch;
use federation_proto::manifest::{self, Manifest};
use federation_proto::refusal::{Refusal, RefusalCode};
use homeserver_api::admin::{AcceptRequest, CountersignRequest, OfferRequest};

use super::change::{ATTEMPTS_MAX, Change, Found, change};
use super::error::PeeringError;
use super::statement::statement;
use super::view::{self, Restored, stored_manifest};
use crate::audit::{Actor, Event};
use crate::federation::outbound;
use crate::node::Node;
use crate::store::StoreError;
use crate::store::peer::{self, PeerRecord, StoredManifest};

/// How long an offer may be accepted.
const OFFER_VALID_MS: u64 = 30 * 24 * 60 * 60 * 1000;

/// Makes an offer; it takes the place of an earlier one. Returns it as text.
pub async fn offer(
    node: &Arc<Node>,
    actor: &Actor,
    request: &OfferRequest,
) -> Result<String, PeeringError> {
    let statement = statement(
        node,
        &request.server,
        request.terms.as_ref(),
        &request.endpoints,
        &request.contact,
    )?;
    let answer_by_ms = statement.made_ms.saturating_add(OFFER_VALID_MS);
    let offered = Draft::new(statement, answer_by_ms)?
        .offer(&node.keys.issuing_key(), node.random.as_ref())
        .map_err(|rejected| rejected.error)?;
    let text = offered.offer().to_armor();
    let ceremony = Agreement::Offered(offered).record();
    change(node, actor, &request.server, |found| {
        Ok(Ok(Change {
            record: PeerRecord {
                ceremony: Some(ceremony.clone()),
                ..found.record
            },
            action: "peer.offered",
            detail: String::new(),
            answer: (),
        }))
    })
    .await?;
    Ok(text)
}

/// Accepts an offer whose fingerprint the partner's administrator has read aloud. Returns the
/// acceptance as text: the same one when the same offer is accepted again, since its document may be lost.
pub async fn accept(
    node: &Arc<Node>,
    actor: &Actor,
    request: &AcceptRequest,
) -> Result<String, PeeringError> {
    let now_ms = node.clock.now_ms();
    let offer = Offer::from_armor(&request.document, now_ms)?;
    let confirmed = parse_fingerprint(&request.fingerprint)?;
    if offer.statement().to != node.server {
        return Err(PeeringError::Document(format!(
            "the offer is for {}, and this is {}",
            offer.statement().to,
            node.server
        )));
    }
    let server = offer.statement().from.clone();
    let root = offer.statement().root.clone();
    let offered_manifest = offer.manifest().clone();
    let statement = statement(
        node,
        &server,
        request.terms.as_ref(),
        &request.endpoints,
        &request.contact,
    )?;
    let accepted = Accepted::accept(
        offer,
        &confirmed,
        statement,
        &node.keys.issuing_key(),
        node.random.as_ref(),
        now_ms,
    )?;
    let text = accepted.acceptance().to_armor();
    let ceremony = Agreement::Accepted(accepted.clone()).record();
    change(node, actor, &server, |found| {
        same_root(&found, &root)?;
        if let Some(before) = accepted_before(&found, &accepted)? {
            return Ok(Err(before));
        }
        not_older(&found.record, &offered_manifest, now_ms)?;
        Ok(Ok(Change {
            record: PeerRecord {
                ceremony: Some(ceremony.clone()),
                ..found.record
            },
            action: "peer.accepted",
            detail: format!("fingerprint {confirmed}"),
            answer: text.clone(),
        }))
    })
    .await
}

/// The acceptance, as text, with which the offer was accepted here before.
fn accepted_before(found: &Found, now: &Accepted) -> Result<Option<String>, PeeringError> {
    let Some(restored) = &found.restored else {
        return Ok(None);
    };
    let from = &now.offer().statement().from;
    let signed = restored.current.as_ref().and_then(Agreement::signed);
    if signed.is_some_and(|signed| signed.offer() == now.offer()) {
        return Err(PeeringError::State(made_already(from)));
    }
    let Some(Agreement::Accepted(before)) = &restored.ceremony else {
        return Ok(None);
    };
    if before.offer() != now.offer() {
        return Ok(None);
    }
    let [stated, wanted] = [before, now].map(|of| of.acceptance().statement());
    if !state_the_same(stated, wanted) {
        // The former document may be with the partner by now: a second one would leave open which of them counts.
        return Err(PeeringError::State(format!(
            "this offer was accepted here already, with other terms. The same flags as then give the same \
             acceptance again; to accept with others, ask {from} for a new offer"
        )));
    }
    Ok(Some(before.acceptance().to_armor()))
}

/// That the agreement that an offer began is made.
pub(super) fn made_already(from: &ServerName) -> String {
    format!("the agreement that this offer began is made already: see `hsctl peer show {from}`")
}

/// Whether an administrator has asked for the same. Keys and time go on by themselves.
fn state_the_same(before: &Statement, now: &Statement) -> bool {
    let lasts_ms = |statement: &Statement| statement.expires_ms.saturating_sub(statement.made_ms);
    before.terms == now.terms
        && before.endpoints == now.endpoints
        && before.contact == now.contact
        && lasts_ms(before) == lasts_ms(now)
}

/// Countersigns an acceptance of our offer: the agreement is in force here from now on, and the
/// partner is told in the background. Returns the countersignature as text: the same one when the same
/// acceptance is countersigned again.
pub async fn countersign(
    node: &Arc<Node>,
    actor: &Actor,
    request: &CountersignRequest,
) -> Result<String, PeeringError> {
    let now_ms = node.clock.now_ms();
    let acceptance = Acceptance::from_armor(&request.document, now_ms)?;
    let confirmed = parse_fingerprint(&request.fingerprint)?;
    let server = acceptance.statement().from.clone();
    clear_ended(node, &server).await?;
    let countersigned = change(node, actor, &server, |mut found| {
        same_root(&found, &acceptance.statement().root)?;
        not_older(&found.record, acceptance.manifest(), now_ms)?;
        let restored = found.restored.take();
        if let Some(before) = countersigned_before(restored.as_ref(), &acceptance, &confirmed)? {
            return Ok(Err(before));
        }
        let ceremony = restored.and_then(|restored| restored.ceremony);
        let Some(Agreement::Offered(offered)) = ceremony else {
            return Err(PeeringError::State(format!(
                "there is no offer to {server} that waits for an acceptance: make one first"
            )));
        };
        let active = offered
            .countersign(
                acceptance.clone(),
                &confirmed,
                &node.keys.issuing_key(),
                node.random.as_ref(),
                now_ms,
            )
            .map_err(|rejected| rejected.error)?;
        let text = active.signed().countersignature().to_armor();
        Ok(Ok(Change {
            record: PeerRecord {
                to_deliver: true,
                ..in_force(found.record, active, now_ms)
            },
            action: "peer.countersigned",
            detail: format!("fingerprint {confirmed}"),
            answer: text,
        }))
    })
    .await;
    note_refused(node, actor, &server, &countersigned).await?;
    countersigned
}

/// The countersignature, as text, that was given to this acceptance before, while the agreement stands.
fn countersigned_before(
    restored: Option<&Restored>,
    acceptance: &Acceptance,
    confirmed: &Fingerprint,
) -> Result<Option<String>, PeeringError> {
    let current = restored.and_then(|restored| restored.current.as_ref());
    let Some(signed) = current.and_then(Agreement::signed) else {
        return Ok(None);
    };
    if signed.acceptance() != acceptance {
        return Ok(None);
    }
    let found = acceptance.manifest().identity().fingerprint();
    if found != *confirmed {
        return Err(AgreementError::WrongFingerprint { found }.into());
    }
    Ok(Some(signed.countersignature().to_armor()))
}

/// Takes a countersignature that `peer` itself has brought.
pub async fn activate_online(
    node: &Arc<Node>,
    peer: &ServerName,
    document: Bytes,
) -> Result<(), PeeringError> {
    let actor = Actor::Peer(peer.clone());
    let own = Countersignature::decode(document)
        .map_err(PeeringError::from)
        .and_then(|countersignature| {
            if countersignature.body().from == *peer {
                return Ok(countersignature);
            }
            Err(PeeringError::Document(format!(
                "the countersignature is of {}, and you are {peer}",
                countersignature.body().from
            )))
        });
    note_refused(node, &actor, peer, &own).await?;
    take_countersignature(node, &actor, peer, own?).await
}

pub(super) async fn take_countersignature(
    node: &Arc<Node>,
    actor: &Actor,
    server: &ServerName,
    countersignature: Countersignature,
) -> Result<(), PeeringError> {
    let taken = take_checked(node, actor, server, countersignature).await;
    note_refused(node, actor, server, &taken).await?;
    taken
}

/// Audits that a document did not complete the agreement, whoever brought it: somebody may be trying.
pub(super) async fn note_refused<T>(
    node: &Node,
    actor: &Actor,
    server: &ServerName,
    result: &Result<T, PeeringError>,
) -> Result<(), StoreError> {
    let Err(
        error @ (PeeringError::Document(_)
        | PeeringError::TooEarly(_)
        | PeeringError::State(_)
        | PeeringError::UnknownPeer(_)),
    ) = result
    else {
        return Ok(());
    };
    let event = Event {
        at_ms: node.clock.now_ms(),
        actor: actor.clone(),
        action: "peer.document-refused",
        subject: server.to_string(),
        detail: error.to_string(),
    };
    node.repeated.note(&node.store, event).await
}

async fn take_checked(
    node: &Arc<Node>,
    actor: &Actor,
    server: &ServerName,
    countersignature: Countersignature,
) -> Result<(), PeeringError> {
    let now_ms = node.clock.now_ms();
    if peer::get(&node.store, server).await?.is_none() {
        return Err(PeeringError::UnknownPeer(server.clone()));
    }
    clear_ended(node, server).await?;
    change(node, actor, server, |mut found| {
        let Some(restored) = found.restored.take() else {
            return Err(PeeringError::UnknownPeer(server.clone()));
        };
        let current = restored.current.as_ref().and_then(Agreement::signed);
        if current.is_some_and(|signed| signed.countersignature() == &countersignature) {
            // It came before: by another way, or twice.
            return Ok(Err(()));
        }
        let Some(Agreement::Accepted(accepted)) = restored.ceremony else {
            return Err(PeeringError::State(format!(
                "no offer of {server} was accepted here that waits for a countersignature"
            )));
        };
        let active = accepted
            .activate(countersignature.clone(), now_ms)
            .map_err(|rejected| rejected.error)?;
        Ok(Ok(Change {
            record: PeerRecord {
                to_deliver: false,
                ..in_force(found.record, active, now_ms)
            },
            action: "peer.activated",
            detail: String::new(),
            answer: (),
        }))
    })
    .await
}

/// The record once both have signed.
pub(super) fn in_force(record: PeerRecord, active: Active, now_ms: u64) -> PeerRecord {
    let goes_on = is_in_force(&record);
    let manifest = newest(&record, active.signed().partner_manifest(), now_ms);
    PeerRecord {
        current: Some(Agreement::Active(active).record()),
        ceremony: None,
        outgoing: Vec::new(),
        warned: None,
        // What renewed, or narrowed, the agreement before says nothing of this one.
        renewal: None,
        narrowed: BTreeMap::new(),
        link_epoch: if goes_on {
            record.link_epoch
        } else {
            next_link_epoch(record.link_epoch, now_ms)
        },
        renumbered: goes_on && record.renumbered,
        manifest: Some(manifest),
        ..record
    }
}

pub(super) fn is_in_force(record: &PeerRecord) -> bool {
    use federation_proto::agreement::Record;
    matches!(
        record.current,
        Some(Record::Active(_) | Record::Suspended { .. })
    )
}

/// Before a new link epoch begins, nothing of the old one may wait any more.
pub(super) async fn clear_ended(node: &Node, server: &ServerName) -> Result<(), PeeringError> {
    let refusal = Refusal::new(
        RefusalCode::NoAgreement,
        format!("the agreement with {server} had ended"),
    );
    for _ in 0..ATTEMPTS_MAX {
        // Read each time: another node may have made the new agreement meanwhile, under which something waits.
        let record = peer::get(&node.store, server).await?;
        let Some((ended, _)) = record.filter(|(record, _)| !is_in_force(record)) else {
            return Ok(());
        };
        let ended = view::of(server, &ended)?;
        if outbound::clear(node, &ended, &refusal, None).await? {
            return Ok(());
        }
    }
    Err(PeeringError::Busy)
}

/// A partner with another root is another organisation: nothing of the old agreement may go on.
fn same_root(found: &Found, root: &Bytes) -> Result<(), PeeringError> {
    let current = found.restored.as_ref().and_then(|r| r.current.as_ref());
    let in_force = current.filter(|_| is_in_force(&found.record));
    match in_force.and_then(Agreement::signed) {
        Some(signed) if signed.theirs().root != *root => Err(PeeringError::State(format!(
            "the agreement in force with {} pins another root: revoke it first if that organisation \
             has really been set up anew",
            signed.theirs().from
        ))),
        Some(_) | None => Ok(()),
    }
}

/// A partner's keys never go back, not even over the end of an agreement: an older manifest may list
/// keys that were given up because somebody else has them.
pub(super) fn not_older(
    record: &PeerRecord,
    manifest: &Manifest,
    now_ms: u64,
) -> Result<(), PeeringError> {
    let (server, root) = (manifest.server(), manifest.identity().root());
    let stored = record.manifest.as_ref();
    let Some(known) = stored.and_then(|stored| stored_manifest(server, root, stored)) else {
        return Ok(());
    };
    manifest::decode(manifest.bytes().clone())
        .map_err(|error| PeeringError::Document(error.to_string()))?
        .verify(server, root, Some(&known), now_ms)
        .map_err(|error| {
            PeeringError::Document(format!(
                "{error}: ask {server} for a new document, made with its newest keys"
            ))
        })?;
    Ok(())
}

/// The newer one of the agreement's manifest and the one that is stored.
pub(super) fn newest(record: &PeerRecord, manifest: &Manifest, now_ms: u64) -> StoredManifest {
    let (server, root) = (manifest.server(), manifest.identity().root());
    let stored = record.manifest.as_ref().filter(|stored| {
        stored_manifest(server, root, stored)
            .is_some_and(|known| known.serial() >= manifest.serial())
    });
    stored.cloned().unwrap_or_else(|| StoredManifest {
        bytes: manifest.bytes().clone(),
        taken_ms: now_ms,
    })
}

pub(super) fn parse_fingerprint(text: &str) -> Result<Fingerprint, PeeringError> {
    text.parse()
        .map_err(|error| PeeringError::Statement(format!("`fingerprint`: {error}")))
}
