//! What becomes of an agreement: paused, taken up again, ended; and the peer's newer keys.

use std::sync::Arc;

use bytes::Bytes;
use federation_proto::agreement::Agreement;
use federation_proto::ids::ServerName;
use federation_proto::manifest::{self, Manifest};

use super::change::{Change, Found, change};
use super::error::PeeringError;
use super::view::stored_manifest;
use crate::audit::Actor;
use crate::node::Node;
use crate::store::StoreError;
use crate::store::peer::{PeerRecord, StoredManifest};

/// Pauses the agreement; either side may, alone, always.
pub async fn suspend(
    node: &Arc<Node>,
    actor: &Actor,
    server: &ServerName,
    reason: &str,
) -> Result<(), PeeringError> {
    let now_ms = node.clock.now_ms();
    change(node, actor, server, |found| {
        let (record, agreement) = current(found, server)?;
        let after = match agreement {
            Some(Agreement::Active(active)) => {
                Agreement::Suspended(active.suspend(reason.to_owned(), now_ms))
            }
            Some(Agreement::Suspended(_)) => {
                return Err(PeeringError::State(format!(
                    "the agreement with {server} is suspended already"
                )));
            }
            _ => return Err(not_in_force(server)),
        };
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
        let (record, agreement) = current(found, server)?;
        let after = match agreement {
            Some(Agreement::Suspended(suspended)) => Agreement::Active(suspended.resume()),
            _ => {
                return Err(PeeringError::State(format!(
                    "the agreement with {server} is not suspended by this side"
                )));
            }
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
        let revoked = match (restored.current, restored.ceremony) {
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
            ..found.record
        };
        let after = Agreement::Revoked(revoked);
        Ok(Ok(moved(record, &after, "peer.revoked", reason)))
    })
    .await
}

/// Notes that the last day of the agreement, or of what is under way, is past.
pub async fn expire(node: &Arc<Node>, server: &ServerName) -> Result<(), StoreError> {
    let now_ms = node.clock.now_ms();
    let expired = change(node, &Actor::System, server, |found| {
        let Some(restored) = found.restored else {
            return Err(PeeringError::UnknownPeer(server.clone()));
        };
        let record = found.record;
        let in_force = matches!(
            restored.current,
            Some(Agreement::Active(_) | Agreement::Suspended(_))
        );
        let current = match restored.current {
            Some(Agreement::Active(active)) => active.expire(now_ms).ok(),
            Some(Agreement::Suspended(suspended)) => suspended.expire(now_ms).ok(),
            _ => None,
        };
        if let Some(expired) = current {
            let after = Agreement::Expired(expired);
            return Ok(Ok(moved(record, &after, "peer.expired", "")));
        }
        let ceremony = match restored.ceremony {
            Some(Agreement::Offered(offered)) => offered.expire(now_ms).ok(),
            Some(Agreement::Accepted(accepted)) => accepted.expire(now_ms).ok(),
            _ => None,
        };
        let Some(expired) = ceremony else {
            return Ok(Err(()));
        };
        let record = PeerRecord {
            ceremony: None,
            ..record
        };
        let action = "peer.offer-expired";
        Ok(Ok(if in_force {
            Change {
                record,
                action,
                detail: String::new(),
                answer: (),
            }
        } else {
            moved(record, &Agreement::Expired(expired), action, "")
        }))
    })
    .await;
    match expired {
        Err(PeeringError::Store(error)) => Err(error),
        // Nothing else can keep a day from passing; whoever asked will ask again.
        Ok(()) | Err(_) => Ok(()),
    }
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

/// Takes a manifest that the peer has sent, when it is newer than the known one.
pub async fn take_manifest(
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
    let root = known.identity().root();
    let taken = manifest::decode(bytes)
        .map_err(|error| document(&error))?
        .verify(server, root, Some(&known), now_ms)
        .map_err(|error| document(&error))?;
    if taken.serial() > known.serial() {
        let actor = Actor::Peer(server.clone());
        change(node, &actor, server, |found| {
            let (record, _) = current(found, server)?;
            let stored = record.manifest.as_ref();
            let stored = stored.and_then(|stored| stored_manifest(server, root, stored));
            if stored.is_some_and(|stored| stored.serial() >= taken.serial()) {
                // Another one came meanwhile.
                return Ok(Err(()));
            }
            Ok(Ok(Change {
                record: PeerRecord {
                    manifest: Some(StoredManifest {
                        bytes: taken.bytes().clone(),
                        taken_ms: now_ms,
                    }),
                    ..record
                },
                action: "peer.keys-changed",
                detail: format!("manifest serial {}", taken.serial()),
                answer: (),
            }))
        })
        .await?;
    }
    Ok(Arc::new(taken))
}

fn current(
    found: Found,
    server: &ServerName,
) -> Result<(PeerRecord, Option<Agreement>), PeeringError> {
    match found.restored {
        Some(restored) => Ok((found.record, restored.current)),
        None => Err(PeeringError::UnknownPeer(server.clone())),
    }
}

fn moved(record: PeerRecord, after: &Agreement, action: &'static str, detail: &str) -> Change<()> {
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

fn not_in_force(server: &ServerName) -> PeeringError {
    PeeringError::State(format!(
        "the agreement with {server} is not in force: `hsctl peer show {server}` says where it stands"
    ))
}
