//! Changes to an agreement that stands: proposed or put in force here, taken from the partner, consented
//! to or refused.

use std::sync::Arc;

use bytes::Bytes;
use federation_proto::agreement::{
    Agreement, AgreementError, Amendment, Consent, Decided, Document, Effect, Signed,
};
use federation_proto::fingerprint::Fingerprint;
use federation_proto::hash::Digest;
use federation_proto::ids::ServerName;
use federation_proto::keys::KeyId;
use homeserver_api::admin::{
    AmendRequest, Amended, AmendmentEffect, ConsentRequest, Proposal, RefuseAmendmentRequest,
};
use homeserver_api::keys::PartnerRootStanding;

use super::ceremony::{newest, not_older, note_refused, parse_fingerprint};
use super::change::{Change, change};
use super::consortium;
use super::error::PeeringError;
use super::outgoing::push;
use super::prepared::{Prepared, detail, differences, lines};
use super::root;
use super::standing::{by_current_keys, current, not_in_force};
use super::view::{Restored, newest_known};
use crate::audit::Actor;
use crate::node::Node;
use crate::store::peer::{self, OurHalf, OutgoingKind, PeerRecord, StoredManifest};

/// Changes what this side states to `server`, or says what would change: what only tightens is in force
/// from now on, anything else when the partner consents. The partner is told in the background. What tightens ends
/// every proposal; a new root is announced again after it.
pub async fn amend(
    node: &Arc<Node>,
    actor: &Actor,
    server: &ServerName,
    request: &AmendRequest,
) -> Result<Amended, PeeringError> {
    if request.dry_run {
        let (record, _) = peer::get(&node.store, server)
            .await?
            .ok_or_else(|| PeeringError::UnknownPeer(server.clone()))?;
        let agreement = Restored::of(&record)?.current;
        return Ok(Prepared::of(node, server, agreement, request)?.answer(None));
    }
    let now_ms = node.clock.now_ms();
    let announced = node
        .peers
        .get(server)
        .is_some_and(|peer| root::standing(node, &peer) == PartnerRootStanding::Announced);
    let amended = change(node, actor, server, |found| {
        let (mut record, agreement) = current(found, server)?;
        let prepared = Prepared::of(node, server, agreement, request)?;
        let narrowed = prepared.narrowed.iter().map(|term| (*term, now_ms));
        record.narrowed.extend(narrowed);
        let action = match prepared.effect {
            AmendmentEffect::InForce => "peer.amended",
            AmendmentEffect::Proposed => "peer.amendment-proposed",
        };
        let answer = prepared.answer(Some(prepared.amendment.to_armor()));
        Ok(Ok(prepared.change(record, action, answer)?))
    })
    .await?;
    if announced && amended.effect == AmendmentEffect::InForce {
        root::announce_to(node, actor, server).await?;
    }
    Ok(amended)
}

/// Consents to exactly the amendment that was read: it is in force from now on, and the partner is told in
/// the background. Returns the consent as text.
pub async fn consent(
    node: &Arc<Node>,
    actor: &Actor,
    server: &ServerName,
    request: &ConsentRequest,
) -> Result<String, PeeringError> {
    let now_ms = node.clock.now_ms();
    let confirmed = request.fingerprint.as_deref();
    let confirmed = confirmed.map(parse_fingerprint).transpose()?;
    change(node, actor, server, |found| {
        let (record, agreement) = current(found, server)?;
        let agreement = standing(agreement, server, now_ms)?;
        let read = proposed(&agreement, server, &request.amendment)?;
        let signed = agreement.signed().ok_or_else(|| not_in_force(server))?;
        if root::has_to_wait(node, signed, read) {
            return Err(PeeringError::State(format!(
                "you and {server} change your roots at the same time: {server} has to consent to yours first, then do \
                 this again"
            )));
        }
        let read = detail(read, &differences(&agreement, read));
        let (record, consent) = consenting(node, record, agreement, confirmed.as_ref(), now_ms)?;
        Ok(Ok(Change {
            record,
            action: "peer.consented",
            detail: read,
            answer: consent.to_armor(),
        }))
    })
    .await
}

/// The record once we have consented to what the partner proposes; the partner is told in the background.
pub(super) fn consenting(
    node: &Node,
    mut record: PeerRecord,
    agreement: Agreement,
    confirmed: Option<&Fingerprint>,
    now_ms: u64,
) -> Result<(PeerRecord, Consent), PeeringError> {
    let (agreement, consent) = agreement
        .change(|signed| {
            let manifest = root::own_manifest(node, &signed);
            signed.consent(
                confirmed,
                &manifest,
                &node.keys.issuing_key(),
                node.random.as_ref(),
                now_ms,
            )
        })
        .map_err(|rejected| rejected.error)?;
    push(&mut record.outgoing, OutgoingKind::Consent, consent.bytes())?;
    let manifest = agreement
        .signed()
        .and_then(|signed| newest_after_consent(&record, signed, now_ms));
    let record = PeerRecord {
        current: Some(agreement.record()),
        manifest: manifest.or_else(|| record.manifest.clone()),
        ..record
    };
    Ok((record, consent))
}

/// The newest manifest to keep once we have consented; `None`: the stored one, of a root before, counts as
/// long as the partner may not know of our consent.
pub(super) fn newest_after_consent(
    record: &PeerRecord,
    signed: &Signed,
    now_ms: u64,
) -> Option<StoredManifest> {
    let before = signed.before_our_consent();
    let other_root = before.is_some_and(|(before, _)| before.root != signed.theirs().root);
    (!other_root).then(|| newest(record, signed.partner_manifest(), now_ms))
}

/// Drops exactly the proposal that was read; the partner's administrator is told why.
pub async fn refuse(
    node: &Arc<Node>,
    actor: &Actor,
    server: &ServerName,
    request: &RefuseAmendmentRequest,
) -> Result<(), PeeringError> {
    let now_ms = node.clock.now_ms();
    change(node, actor, server, |found| {
        let (mut record, agreement) = current(found, server)?;
        let agreement = standing(agreement, server, now_ms)?;
        let refused = proposed(&agreement, server, &request.amendment)?.sha256();
        let (agreement, declaration) = agreement
            .change(|signed| {
                let manifest = root::own_manifest(node, &signed);
                signed.declare(
                    Decided::Refused(refused),
                    &request.reason,
                    &manifest,
                    &node.keys.issuing_key(),
                    node.random.as_ref(),
                    now_ms,
                )
            })
            .map_err(|rejected| rejected.error)?;
        push(
            &mut record.outgoing,
            OutgoingKind::Declaration,
            declaration.bytes(),
        )?;
        Ok(Ok(Change {
            record: PeerRecord {
                current: Some(agreement.record()),
                ..record
            },
            action: "peer.amendment-refused",
            detail: format!("amendment {refused}: {}", request.reason),
            answer: (),
        }))
    })
    .await
}

/// Takes an amendment that the peer itself has brought.
pub async fn amendment_from(
    node: &Arc<Node>,
    peer: &ServerName,
    document: Bytes,
) -> Result<(), PeeringError> {
    let actor = Actor::Peer(peer.clone());
    let opened = Document::open(document, node.clock.now_ms()).map_err(PeeringError::from);
    let taken = match opened {
        Ok(amendment) => take_amendment(node, &actor, peer, amendment).await,
        Err(error) => Err(error),
    };
    note_refused(node, &actor, peer, &taken).await?;
    taken
}

/// Takes an amendment of `server`: what only tightens is in force from now on, anything else waits for an
/// administrator.
pub(super) async fn take_amendment(
    node: &Arc<Node>,
    actor: &Actor,
    server: &ServerName,
    amendment: Amendment,
) -> Result<(), PeeringError> {
    if amendment.statement().from != *server {
        return Err(PeeringError::Document(format!(
            "the amendment is of {}, not of {server}",
            amendment.statement().from
        )));
    }
    let now_ms = node.clock.now_ms();
    change(node, actor, server, |found| {
        let (mut record, agreement) = current(found, server)?;
        let agreement = standing(agreement, server, now_ms)?;
        let changes = differences(&agreement, &amendment);
        let before = agreement.signed().ok_or_else(|| not_in_force(server))?;
        let before = consented_of(before).map(Consent::sha256);
        let (agreement, effect) = agreement
            .change(|signed| {
                let known = newest_known(server, &signed, &record);
                let known: Vec<_> = known.iter().map(AsRef::as_ref).collect();
                signed.amend_known(amendment.clone(), &known, now_ms)
            })
            .map_err(|rejected| match rejected.error {
                AgreementError::UnknownIssuer => of_unknown_issuer(node, actor, server, &amendment),
                error => error.into(),
            })?;
        let action = match effect {
            // Also when newer keys have become known since it came first: it is answered as it was then.
            Effect::Known => return Ok(Err(())),
            Effect::InForce => "peer.amended-by-partner",
            Effect::Proposed => "peer.amendment-proposed-by-partner",
        };
        not_older(&record, amendment.manifest(), now_ms)?;
        let signed = agreement.signed().ok_or_else(|| not_in_force(server))?;
        let consented = consented_of(signed);
        let undone = before.filter(|before| Some(*before) != consented.map(Consent::sha256));
        if let (Some(renewal), true) = (&mut record.renewal, undone.is_some()) {
            renewal.theirs = false;
        }
        // A consent to what this amendment has overtaken is worth nothing any more.
        record.outgoing.retain(|waits| {
            let bytes = Some(&waits.bytes);
            waits.kind != OutgoingKind::Consent || bytes == consented.map(Consent::bytes)
        });
        let manifest = newest(&record, signed.partner_manifest(), now_ms);
        Ok(Ok(Change {
            record: PeerRecord {
                current: Some(agreement.record()),
                manifest: Some(manifest),
                ..record
            },
            action,
            detail: match undone {
                Some(undone) => format!(
                    "{}; it was made instead of the one that was consented to here: consent {undone} is undone",
                    detail(&amendment, &changes)
                ),
                None => detail(&amendment, &changes),
            },
            answer: (),
        }))
    })
    .await?;
    // It may state what a charter says that was signed here: then nobody needs to be asked.
    consortium::catch_up(node, server).await?;
    Ok(())
}

/// Our consent to the partner's amendment in force.
fn consented_of(signed: &Signed) -> Option<&Consent> {
    let in_force = signed.amendments(signed.side().other()).in_force();
    in_force.and_then(federation_proto::agreement::Amended::consent)
}

/// Why an amendment is not taken that names another root and that nobody known has signed. Its maker may have an
/// issuing CA that is not known here yet: the manifest under the root in force says so, and is fetched.
fn of_unknown_issuer(
    node: &Node,
    actor: &Actor,
    server: &ServerName,
    amendment: &Amendment,
) -> PeeringError {
    let refused = PeeringError::from(AgreementError::UnknownIssuer);
    let known = node
        .peers
        .get(server)
        .and_then(|peer| peer.manifest.clone());
    if known.is_none_or(|known| amendment.manifest().serial() <= known.serial()) {
        return refused;
    }
    if !matches!(actor, Actor::Peer(_)) {
        node.links.fetch_manifest(server);
        return PeeringError::Document(format!(
            "{refused}. A newer manifest of {server} is asked for: take the document again when `hsctl audit` has its \
             `peer.keys-changed`"
        ));
    }
    let issuer = Digest::of(amendment.manifest().identity().issuing());
    let (issuer, now_ms) = (KeyId::of(issuer.as_bytes()), node.clock.now_ms());
    if node.links.await_key(server, issuer, now_ms) {
        return PeeringError::KeysAwaited(
            "the amendment names another root and is signed by an issuing CA that is not known here: your newest \
             manifest under the root in force is asked for, bring this again"
                .to_owned(),
        );
    }
    refused
}

/// Takes a consent that the peer itself has brought.
pub async fn consent_from(
    node: &Arc<Node>,
    peer: &ServerName,
    document: Bytes,
) -> Result<(), PeeringError> {
    let actor = Actor::Peer(peer.clone());
    let taken = match Consent::decode(document).map_err(PeeringError::from) {
        Ok(consent) => match root::wait_for_what_was_signed_before(node, peer, &consent) {
            Ok(()) => take_consent(node, &actor, peer, consent).await,
            Err(error) => return Err(error),
        },
        Err(error) => Err(error),
    };
    note_refused(node, &actor, peer, &taken).await?;
    taken
}

/// Takes the consent of `server`: what we proposed is in force from now on.
pub(super) async fn take_consent(
    node: &Arc<Node>,
    actor: &Actor,
    server: &ServerName,
    consent: Consent,
) -> Result<(), PeeringError> {
    if consent.body().from != *server {
        return Err(PeeringError::Document(format!(
            "the consent is of {}, not of {server}",
            consent.body().from
        )));
    }
    let now_ms = node.clock.now_ms();
    change(node, actor, server, |found| {
        let (mut record, agreement) = current(found, server)?;
        let agreement = standing(agreement, server, now_ms)?;
        by_current_keys(&record, &agreement, &consent.body().manifest)?;
        let before = agreement.clone();
        let take = |signed: Signed| Ok((signed.consented(consent.clone(), now_ms)?, ()));
        let (agreement, ()) = agreement.change(take).map_err(|rejected| rejected.error)?;
        if agreement == before {
            return Ok(Err(()));
        }
        let taken = consent.body().amendment_sha256;
        let by = consortium::settle(&mut record, taken, OurHalf::InForce);
        Ok(Ok(Change {
            record: PeerRecord {
                current: Some(agreement.record()),
                ..record
            },
            action: "peer.consented-by-partner",
            detail: match by {
                Some(charter) => format!("amendment {taken}, which states charter {charter}"),
                None => format!("amendment {taken}"),
            },
            answer: (),
        }))
    })
    .await
}

/// What a side proposes, for administrators.
pub(super) fn proposal(signed: &Signed, by_us: bool) -> Option<Proposal> {
    let side = if by_us {
        signed.side()
    } else {
        signed.side().other()
    };
    let amendment = signed.amendments(side).proposed()?;
    let (before, statement) = (signed.statement_of(side), amendment.statement());
    let new_root = before.root != statement.root;
    let new_root = new_root.then(|| Fingerprint::of_root(&statement.root));
    Some(Proposal {
        amendment: amendment.sha256().to_string(),
        serial: statement.serial,
        made_ms: statement.made_ms,
        changes: lines(&before.changes_to(statement)),
        new_fingerprint: new_root.as_ref().map(Fingerprint::to_string),
        new_words: new_root.map(|fingerprint| fingerprint.words().join(" ")),
    })
}

/// The agreement, while it may be amended.
pub(super) fn standing(
    agreement: Option<Agreement>,
    server: &ServerName,
    now_ms: u64,
) -> Result<Agreement, PeeringError> {
    let agreement = agreement.ok_or_else(|| not_in_force(server))?;
    match &agreement {
        Agreement::Active(_) | Agreement::Suspended(_) => {}
        _ => return Err(not_in_force(server)),
    }
    let expires_ms = agreement
        .signed()
        .map(|signed| signed.effective().expires_ms());
    if expires_ms.is_none_or(|expires_ms| now_ms >= expires_ms) {
        return Err(not_in_force(server));
    }
    Ok(agreement)
}

/// What the partner proposes, when it is what was read.
fn proposed<'a>(
    agreement: &'a Agreement,
    server: &ServerName,
    read: &str,
) -> Result<&'a Amendment, PeeringError> {
    let signed = agreement.signed();
    let proposed = signed.and_then(|s| s.amendments(s.side().other()).proposed());
    let proposed = proposed.ok_or_else(|| {
        PeeringError::State(format!(
            "{server} proposes nothing that waits for a consent"
        ))
    })?;
    if proposed.sha256().to_string() == read {
        Ok(proposed)
    } else {
        Err(PeeringError::State(format!(
            "{server} proposes something else by now: read it with `hsctl peer show {server}`"
        )))
    }
}
