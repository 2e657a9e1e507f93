//! What becomes of an agreement: paused, taken up again, ended; and the peer's newer keys.

use std::sync::Arc;

use bytes::Bytes;
use federation_proto::agreement::{Agreement, Decided, Declaration};
use federation_proto::ids::ServerName;
use federation_proto::manifest::{self, Manifest, ManifestError};

use super::change::{Change, Found, change};
use super::error::PeeringError;
use super::outgoing::push_standing;
use super::root;
use super::view::stored_manifest;
use crate::audit::{Actor, Event};
use crate::federation::outbound::{MANIFEST_EVERY_MS, MANIFESTS_AT_ONCE_MAX};
use crate::node::Node;
use crate::store::StoreError;
use crate::store::peer::{OutgoingDocument, OutgoingKind, PeerRecord, StoredManifest};

/// Pauses the agreement; either side may, alone, always.
pub async fn suspend(
    node: &Arc<Node>,
    actor: &Actor,
    server: &ServerName,
    reason: &str,
) -> Result<(), PeeringError> {
    let now_ms = node.clock.now_ms();
    change(node, actor, server, |found| {
        let (mut record, agreement) = current(found, server)?;
        let agreement = match agreement {
            Some(agreement @ Agreement::Active(_)) => agreement,
            Some(Agreement::Suspended(_)) => {
                return Err(PeeringError::State(format!(
                    "the agreement with {server} is suspended already"
                )));
            }
            _ => return Err(not_in_force(server)),
        };
        let (agreement, declaration) = declared(node, agreement, Decided::Suspended, reason);
        let after = match agreement {
            Agreement::Active(active) => {
                Agreement::Suspended(active.suspend(reason.to_owned(), now_ms))
            }
            other => other,
        };
        if let Some(declaration) = declaration {
            push_standing(&mut record.outgoing, &declaration);
        }
        Ok(Ok(moved(record, &after, "peer.suspended", reason)))
    })
    .await
}

/// Ends our pause.
pub async fn resume(
    node: &Arc<Node>,
    actor: &Actor,
    server: &ServerName,
) -> Result<(), PeeringError> {
    change(node, actor, server, |found| {
        let (mut record, agreement) = current(found, server)?;
        let Some(agreement @ Agreement::Suspended(_)) = agreement else {
            return Err(PeeringError::State(format!(
                "the agreement with {server} is not suspended by this side, so there is nothing to resume here; what the \
                 partner has suspended, the partner resumes (`hsctl peer show {server}` says how it stands)"
            )));
        };
        let (agreement, declaration) = declared(node, agreement, Decided::Resumed, "");
        if let Some(declaration) = declaration {
            push_standing(&mut record.outgoing, &declaration);
        }
        let after = match agreement {
            Agreement::Suspended(suspended) => Agreement::Active(suspended.resume()),
            other => other,
        };
        Ok(Ok(moved(record, &after, "peer.resumed", "")))
    })
    .await
}

/// Ends the agreement, or what is under way; nothing of it passes any more once this returns.
pub async fn revoke(
    node: &Arc<Node>,
    actor: &Actor,
    server: &ServerName,
    reason: &str,
) -> Result<(), PeeringError> {
    let now_ms = node.clock.now_ms();
    change(node, actor, server, |found| {
        let Some(restored) = found.restored else {
            return Err(PeeringError::UnknownPeer(server.clone()));
        };
        let why = reason.to_owned();
        let (current, declaration) = match restored.current {
            Some(agreement @ (Agreement::Active(_) | Agreement::Suspended(_))) => {
                let (agreement, declaration) = declared(node, agreement, Decided::Revoked, reason);
                (Some(agreement), declaration)
            }
            other => (other, None),
        };
        let revoked = match (current, restored.ceremony) {
            (Some(Agreement::Active(active)), _) => active.revoke(why, now_ms),
            (Some(Agreement::Suspended(suspended)), _) => suspended.revoke(why, now_ms),
            (_, Some(Agreement::Accepted(accepted))) => accepted.revoke(why, now_ms),
            (_, Some(Agreement::Offered(offered))) => offered.revoke(why, now_ms),
            (Some(Agreement::Expired(expired)), _) => expired.revoke(why, now_ms),
            _ => {
                return Err(PeeringError::State(format!(
                    "the agreement with {server} is revoked already"
                )));
            }
        };
        let record = PeerRecord {
            ceremony: None,
            to_deliver: false,
            // Nothing else matters any more.
            outgoing: declaration
                .map(|declaration| OutgoingDocument {
                    kind: OutgoingKind::Declaration,
                    bytes: declaration.bytes().clone(),
                })
                .into_iter()
                .collect(),
            ..found.record
        };
        let after = Agreement::Revoked(revoked);
        Ok(Ok(moved(record, &after, "peer.revoked", reason)))
    })
    .await
}

/// Our countersignature has reached the peer.
pub async fn countersignature_delivered(
    node: &Arc<Node>,
    server: &ServerName,
    document: &Bytes,
) -> Result<(), StoreError> {
    let noted = change(node, &Actor::System, server, |found| {
        let (record, agreement) = current(found, server)?;
        let delivered = agreement
            .as_ref()
            .and_then(Agreement::signed)
            .is_some_and(|signed| signed.countersignature().bytes() == document);
        Ok(if record.to_deliver && delivered {
            Ok(Change {
                record: PeerRecord {
                    to_deliver: false,
                    ..record
                },
                action: "peer.countersignature-delivered",
                detail: String::new(),
                answer: (),
            })
        } else {
            Err(())
        })
    })
    .await;
    match noted {
        Err(PeeringError::Store(error)) => Err(error),
        // It is delivered again, which does no harm.
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Takes a manifest that the peer has sent, when it is newer than the known one. One that does not hold, or
/// goes back behind the known one, is audited: somebody may have taken the peer over. One that comes too soon
/// after many others is not taken, and asked for again later.
pub async fn take_manifest(
    node: &Arc<Node>,
    server: &ServerName,
    bytes: Bytes,
) -> Result<Arc<Manifest>, PeeringError> {
    let taken = take_checked_manifest(node, server, bytes).await;
    if let Err(PeeringError::Document(why)) = &taken {
        let event = Event {
            at_ms: node.clock.now_ms(),
            actor: Actor::System,
            action: "peer.manifest-refused",
            subject: server.to_string(),
            detail: why.clone(),
        };
        node.repeated.note(&node.store, event).await?;
    }
    taken
}

async fn take_checked_manifest(
    node: &Arc<Node>,
    server: &ServerName,
    bytes: Bytes,
) -> Result<Arc<Manifest>, PeeringError> {
    let document = |error: &dyn std::fmt::Display| {
        PeeringError::Document(format!("the key manifest of {server}: {error}"))
    };
    let view = node
        .peers
        .get(server)
        .ok_or_else(|| PeeringError::UnknownPeer(server.clone()))?;
    let known = view
        .manifest
        .clone()
        .ok_or_else(|| PeeringError::UnknownPeer(server.clone()))?;
    let now_ms = node.clock.now_ms();
    let unverified = manifest::decode(bytes).map_err(|error| document(&error))?;
    let under = |known: &Manifest| {
        let root = known.identity().root();
        unverified.clone().verify(server, root, Some(known), now_ms)
    };
    // As long as the partner may not know of our consent to its new root, it shows the keys of the one before.
    let before = view
        .former_manifest
        .as_deref()
        .map(|known| (known, under(known)));
    let (known, taken) = match before {
        None => (
            known.as_ref(),
            under(&known).map_err(|error| document(&error))?,
        ),
        Some((former, Ok(taken))) => (former, taken),
        Some((_, Err(by_former))) => match under(&known) {
            Ok(taken) => (known.as_ref(), taken),
            // It is of the former root, so what is wrong with it is what that says.
            Err(ManifestError::Certificate(_)) => return Err(document(&by_former)),
            Err(error) => return Err(document(&error)),
        },
    };
    let root = known.identity().root();
    if taken.serial() > known.serial() {
        let new_issuer = taken.body().issuing_certificate != known.body().issuing_certificate;
        let actor = Actor::Peer(server.clone());
        let mut budget = None;
        change(node, &actor, server, |found| {
            let (record, _) = current(found, server)?;
            let stored = record.manifest.as_ref();
            let stored = stored.and_then(|stored| stored_manifest(server, root, stored));
            if stored.is_some_and(|stored| stored.serial() >= taken.serial()) {
                // Another one came meanwhile.
                return Ok(Err(()));
            }
            // Spent once, however often the record changes meanwhile, and not for what is known already.
            let left = match budget {
                Some(left) => left,
                None => node
                    .links
                    .take_manifest(server, new_issuer, now_ms)
                    .ok_or_else(|| too_often(server))?,
            };
            budget = Some(left);
            let often = if left == 0 {
                ": it changes its keys often, the next is taken in a few minutes"
            } else {
                ""
            };
            Ok(Ok(Change {
                record: PeerRecord {
                    manifest: Some(StoredManifest {
                        bytes: taken.bytes().clone(),
                        taken_ms: now_ms,
                    }),
                    ..record
                },
                action: "peer.keys-changed",
                detail: format!("manifest serial {}{often}", taken.serial()),
                answer: (),
            }))
        })
        .await?;
    }
    Ok(Arc::new(taken))
}

fn too_often(server: &ServerName) -> PeeringError {
    PeeringError::NotYet(format!(
        "{server} has changed its keys {MANIFESTS_AT_ONCE_MAX} times: from then on one manifest in {} minutes is taken",
        MANIFEST_EVERY_MS / 60_000
    ))
}

/// Signs what was decided, for the partner. Deciding must not fail for want of a signature: without one
/// the partner sees what follows from the decision, and not why.
fn declared(
    node: &Node,
    agreement: Agreement,
    decided: Decided,
    reason: &str,
) -> (Agreement, Option<Declaration>) {
    let now_ms = node.clock.now_ms();
    let signed = agreement.change(|signed| {
        let manifest = root::own_manifest(node, &signed);
        signed.declare(
            decided,
            reason,
            &manifest,
            &node.keys.issuing_key(),
            node.random.as_ref(),
            now_ms,
        )
    });
    match signed {
        Ok((agreement, declaration)) => (agreement, Some(declaration)),
        Err(rejected) => {
            tracing::error!(error = %rejected.error, "the partner can't be told of a decision");
            (*rejected.state, None)
        }
    }
}

/// What a document's maker signs with must not be keys that it has given up since, as far as is known here.
pub(super) fn by_current_keys(
    record: &PeerRecord,
    agreement: &Agreement,
    bytes: &Bytes,
) -> Result<(), PeeringError> {
    let server = agreement.partner();
    let document = |error: &dyn std::fmt::Display| {
        PeeringError::Document(format!("the key manifest of {server}: {error}"))
    };
    let unverified = manifest::decode(bytes.clone()).map_err(|error| document(&error))?;
    // A manifest under another root, one before our consent or before an end, says nothing of these keys.
    let root = agreement.signed().map(|signed| &signed.theirs().root);
    let stored = root.zip(record.manifest.as_ref());
    let Some(newest) = stored.and_then(|(root, stored)| stored_manifest(server, root, stored))
    else {
        return Ok(());
    };
    // Documents wait for their delivery, so the manifest may have been renewed since: not the issuing CA.
    let same_issuer = newest.body().issuing_certificate == *unverified.issuing_certificate();
    if same_issuer || unverified.serial() >= newest.serial() {
        return Ok(());
    }
    Err(document(
        &"it was replaced by one with another issuing CA: ask for a new document",
    ))
}

pub(super) fn current(
    found: Found,
    server: &ServerName,
) -> Result<(PeerRecord, Option<Agreement>), PeeringError> {
    match found.restored {
        Some(restored) => Ok((found.record, restored.current)),
        None => Err(PeeringError::UnknownPeer(server.clone())),
    }
}

pub(super) fn moved(
    record: PeerRecord,
    after: &Agreement,
    action: &'static str,
    detail: &str,
) -> Change<()> {
    Change {
        record: PeerRecord {
            current: Some(after.record()),
            ..record
        },
        action,
        detail: detail.to_owned(),
        answer: (),
    }
}

pub(super) fn not_in_force(server: &ServerName) -> PeeringError {
    PeeringError::State(format!(
        "the agreement with {server} is not in force: `hsctl peer show {server}` says where it stands"
    ))
}
