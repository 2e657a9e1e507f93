//! The signed document: a page of rooms at a time, so that a user with thousands of rooms fits as well.

use std::collections::BTreeMap;

use bytes::Bytes;
use federation_proto::codec::Wire as _;
use federation_proto::deprovisioning::{
    By, Cut, CutDevice, Evidence, HubKeys, Proof, Reason, RoomEvidence, Said, Sessions,
    SignedEvidence, Step, What,
};
use federation_proto::hash::Digest;
use federation_proto::ids::{EvidenceId, RoomId};
use federation_proto::limits::{EVIDENCE_HUBS_MAX, EVIDENCE_ROOMS_MAX};
use federation_proto::transaction::EnvelopeProof;

use crate::audit::{self, Actor, Event};
use crate::delivery::limits::EVIDENCE_PAGE_BYTES;
use crate::node::Node;
use crate::store::evidence::{self, EvidenceRecord, RoomRow, SaidRow, WhatRow};
use crate::store::{Part, StoreError};

/// The page that begins behind `after` (`None`: the first), signed now; `None`: there is no such evidence. That it was signed is
/// in the audit log.
pub async fn page(
    node: &Node,
    actor: &Actor,
    id: EvidenceId,
    after: Option<RoomId>,
) -> Result<Option<SignedEvidence>, StoreError> {
    let Some((record, _)) = evidence::get(&node.store, id).await? else {
        return Ok(None);
    };
    // One more than fits tells whether there is another page.
    let mut waiting = evidence::rooms(&node.store, id, after, EVIDENCE_ROOMS_MAX + 1).await?;
    let (mut rooms, mut hubs, mut bytes) = (Vec::new(), BTreeMap::new(), 0_usize);
    let mut more = waiting.len() > EVIDENCE_ROOMS_MAX;
    waiting.truncate(EVIDENCE_ROOMS_MAX);
    for (room, row, row_bytes) in waiting {
        let mut new = BTreeMap::new();
        for proof in row.steps.iter().filter_map(|step| step.what.proof()) {
            if hubs.contains_key(&proof.manifest) || new.contains_key(&proof.manifest) {
                continue;
            }
            if let Some(keys) = evidence::keys(&node.store, id, &proof.manifest).await? {
                let hub = HubKeys {
                    server: keys.server,
                    root: keys.root,
                    manifest: keys.manifest,
                };
                new.insert(proof.manifest, hub);
            }
        }
        let of_hubs: usize = new
            .values()
            .map(|hub| hub.root.len() + hub.manifest.len())
            .sum();
        let with = bytes.saturating_add(row_bytes).saturating_add(of_hubs);
        let fits = with <= EVIDENCE_PAGE_BYTES && hubs.len() + new.len() <= EVIDENCE_HUBS_MAX;
        if !rooms.is_empty() && !fits {
            more = true;
            break;
        }
        bytes = with;
        hubs.append(&mut new);
        rooms.push(shown(room, row)?);
    }
    let now_ms = node.clock.now_ms();
    let evidence = Evidence {
        sessions: sessions(&record),
        listed_ms: record.listed_ms,
        completed_ms: record.completed_ms,
        cut: cut(node, id, record),
        at_ms: now_ms,
        after,
        more,
        hubs: hubs.into_values().collect(),
        rooms,
    };
    let issuing = Bytes::copy_from_slice(&node.keys.issuing());
    let subject = format!("{}@{}", evidence.cut.handle, node.server);
    let signed = evidence
        .sign(issuing, &node.keys.issuing_key(), node.random.as_ref())
        .map_err(|error| StoreError::Engine(format!("evidence could not be signed: {error}")))?;
    let event = Event {
        at_ms: now_ms,
        actor: actor.clone(),
        action: "deprovisioning.exported",
        subject,
        detail: format!("evidence {id}"),
    };
    let mut part = Part::default();
    audit::record(&mut part, &event);
    node.store.commit(part).await?;
    Ok(Some(signed))
}

fn sessions(record: &EvidenceRecord) -> Option<Sessions> {
    Some(Sessions {
        count: record.sessions?,
        ended_ms: record.sessions_ended_ms?,
    })
}

fn cut(node: &Node, id: EvidenceId, record: EvidenceRecord) -> Cut {
    let device = |(device, key)| CutDevice { device, key };
    Cut {
        evidence: id,
        server: node.server.clone(),
        account: record.account,
        handle: record.handle,
        reason: match record.reason {
            evidence::Reason::UserDeleted => Reason::UserDeleted,
            evidence::Reason::UserSuspended => Reason::UserSuspended,
            evidence::Reason::DeviceRemoved => Reason::DeviceRemoved,
        },
        by: match record.by {
            evidence::By::Administrator(name) => By::Administrator(name),
            evidence::By::Operator(user) => By::Operator(user),
            evidence::By::Device(device) => By::Device(device),
            evidence::By::System => By::System,
        },
        cut_ms: record.cut_ms,
        devices: record.devices.into_iter().map(device).collect(),
    }
}

fn shown(room: RoomId, row: RoomRow) -> Result<RoomEvidence, StoreError> {
    let mut steps = Vec::with_capacity(row.steps.len());
    for step in row.steps {
        steps.push(Step {
            at_ms: step.at_ms,
            devices: step.devices,
            what: match step.what {
                WhatRow::Asked => What::Asked,
                WhatRow::Accepted => What::Accepted,
                WhatRow::Ordered(said) => What::Ordered(said_of(said)?),
                WhatRow::Removed(said) => What::Removed(said_of(said)?),
                WhatRow::Ended => What::Ended,
            },
        });
    }
    Ok(RoomEvidence {
        room,
        hub: row.hub,
        devices: row.devices,
        steps,
    })
}

fn said_of(said: SaidRow) -> Result<Said, StoreError> {
    let proof = match said.proof {
        Some(proof) => Some(Proof {
            manifest: Digest::from_bytes(proof.manifest),
            place: EnvelopeProof::from_bytes(proof.place)
                .map_err(|_| StoreError::Corrupt { family: "evidence" })?,
            envelope: proof.envelope,
        }),
        None => None,
    };
    Ok(Said {
        epoch: said.epoch,
        stamp_ms: said.stamp_ms,
        proof,
    })
}
