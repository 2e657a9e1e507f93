//! What a part's changes of rooms mean for open evidence: written in the same part.

use std::collections::{BTreeMap, BTreeSet, HashMap, btree_map, hash_map};

use bytes::Bytes;
use federation_proto::codec::Wire as _;
use federation_proto::hash::Digest;
use federation_proto::ids::{AccountId, DeviceId, EvidenceId, RoomId};
use federation_proto::limits::{
    ACCOUNT_STATEMENTS_MAX, EVIDENCE_PROOF_BYTES_MAX, EVIDENCE_STEPS_MAX,
};
use federation_proto::payload::Payload;
use federation_proto::transaction::VerifiedEnvelope;

use crate::delivery::batch::{Happened, RoomEvent};
use crate::delivery::limits::EVIDENCE_ROOM_PROOFS_MAX;
use crate::node::Node;
use crate::store::evidence::{
    self, EvidenceRecord, KeysRow, ProofRow, RoomRow, SaidRow, StepRow, WhatRow,
};
use crate::store::{Part, StoreError, Value};

/// Evidence that is open about an account.
struct Open {
    id: EvidenceId,
    record: EvidenceRecord,
    read: Value,
}

/// A room's row as read, and as it is now.
struct Tracked {
    row: Option<RoomRow>,
    read: Option<Value>,
}

/// Adds what has happened to the rows of open evidence; whether there is any that it concerns.
pub(in crate::delivery) async fn write(
    node: &Node,
    part: &mut Part,
    now_ms: u64,
    events: Vec<RoomEvent>,
) -> Result<bool, StoreError> {
    let mut open: HashMap<AccountId, Vec<Open>> = HashMap::new();
    let mut rows: BTreeMap<(EvidenceId, RoomId), Tracked> = BTreeMap::new();
    let mut changed = BTreeSet::new();
    for event in events {
        let accounts: BTreeSet<_> = event.members.iter().map(|member| member.account).collect();
        for account in accounts {
            if let hash_map::Entry::Vacant(new) = open.entry(account) {
                new.insert(open_about(node, account).await?);
            }
            for about in open.get(&account).into_iter().flatten() {
                let place = (about.id, event.room);
                if let btree_map::Entry::Vacant(new) = rows.entry(place) {
                    let found = evidence::room(&node.store, about.id, event.room).await?;
                    let (row, read) = found.unzip();
                    new.insert(Tracked { row, read });
                }
                let Some(tracked) = rows.get_mut(&place) else {
                    continue;
                };
                if take(node, part, now_ms, about, &event, &mut tracked.row)? {
                    changed.insert(place);
                }
            }
        }
    }
    for (id, room) in &changed {
        if let Some(Tracked {
            row: Some(row),
            read,
        }) = rows.remove(&(*id, *room))
        {
            evidence::put_room(part, *id, *room, &row, read)?;
        }
    }
    Ok(!changed.is_empty())
}

async fn open_about(node: &Node, account: AccountId) -> Result<Vec<Open>, StoreError> {
    let limit = ACCOUNT_STATEMENTS_MAX;
    let mut found = Vec::new();
    for (_, id) in evidence::open_ones(&node.store, Some(account), None, limit).await? {
        if let Some((record, read)) = evidence::get(&node.store, id).await? {
            found.push(Open { id, record, read });
        }
    }
    Ok(found)
}

/// Takes an event into a row; whether it concerns that.
fn take(
    node: &Node,
    part: &mut Part,
    now_ms: u64,
    about: &Open,
    event: &RoomEvent,
    row: &mut Option<RoomRow>,
) -> Result<bool, StoreError> {
    let cut = event
        .members
        .iter()
        .filter(|member| about.record.has(member));
    let mut devices: BTreeSet<_> = cut.map(|member| member.device).collect();
    let listed = about.record.listed_ms.is_some();
    if devices.is_empty() || (listed && row.is_none()) {
        // He was not in it when he was cut off.
        return Ok(false);
    }
    let row = row.get_or_insert_with(|| RoomRow {
        hub: event.hub.clone(),
        devices: Vec::new(),
        steps: Vec::new(),
    });
    if listed {
        devices.retain(|device| row.devices.binary_search(device).is_ok());
    } else {
        // Its rooms are being looked through: this is one of them.
        join(&mut row.devices, devices.iter().copied());
        evidence::require(part, about.id, about.read.clone());
    }
    let before = row.steps.iter().filter(|step| step.what.proof().is_some());
    let has_room = before.count() < EVIDENCE_ROOM_PROOFS_MAX;
    let word = event.word.as_ref().filter(|_| has_room);
    let proof = word.and_then(|word| proof(node, event, word));
    let keys = proof
        .as_ref()
        .map(|proof| (proof.0.manifest, proof.2.clone()));
    let (happened, proof) = match proof {
        Some((proof, happened, _)) => (happened, Some(proof)),
        None => (event.happened, None),
    };
    if !add(row, now_ms, devices, (happened, proof)) {
        return Ok(!listed);
    }
    if let Some((manifest, keys)) = keys {
        evidence::put_keys(part, about.id, &manifest, &keys)?;
    }
    Ok(true)
}

/// What a hub has signed, what that says, and the keys by which it holds. `None`: it is too large to be kept, or its keys are not
/// known any more.
fn proof(
    node: &Node,
    event: &RoomEvent,
    word: &VerifiedEnvelope,
) -> Option<(ProofRow, Happened, KeysRow)> {
    if word.bytes().len() > EVIDENCE_PROOF_BYTES_MAX {
        return None;
    }
    let happened = match (
        Payload::decode(word.header().kind, word.payload()).ok()?,
        event.happened,
    ) {
        (Payload::Removals(said), Happened::Ordered { .. }) => Happened::Ordered {
            epoch: said.epoch,
            stamp_ms: said.stamp_ms,
        },
        (Payload::Handshake(said), Happened::Removed { .. }) => Happened::Removed {
            epoch: said.epoch.checked_add(1)?,
            stamp_ms: said.stamp_ms,
        },
        _ => return None,
    };
    let manifest = node.peers.get(&event.hub)?.manifest.clone()?;
    manifest.envelope_key(word.header().key_id)?;
    let proof = ProofRow {
        manifest: *Digest::of(manifest.bytes()).as_bytes(),
        place: word.proof().to_bytes().ok()?,
        envelope: Bytes::copy_from_slice(word.bytes()),
    };
    let keys = KeysRow {
        server: event.hub.clone(),
        root: manifest.identity().root().clone(),
        manifest: manifest.bytes().clone(),
    };
    Some((proof, happened, keys))
}

/// Adds a step for those devices that have had none of its kind; whether there are any.
pub(super) fn add(
    row: &mut RoomRow,
    at_ms: u64,
    devices: impl IntoIterator<Item = DeviceId>,
    (happened, proof): (Happened, Option<ProofRow>),
) -> bool {
    let said = |epoch, stamp_ms, proof| SaidRow {
        epoch,
        stamp_ms,
        proof,
    };
    let what = match happened {
        Happened::Asked => WhatRow::Asked,
        Happened::Accepted => WhatRow::Accepted,
        Happened::Ordered { epoch, stamp_ms } => WhatRow::Ordered(said(epoch, stamp_ms, proof)),
        Happened::Removed { epoch, stamp_ms } => WhatRow::Removed(said(epoch, stamp_ms, proof)),
        Happened::Ended => WhatRow::Ended,
    };
    let before = row.steps.iter().filter(|step| step.what.is_as(&what));
    let had: BTreeSet<_> = before.flat_map(|step| step.devices.clone()).collect();
    let mut new: Vec<_> = devices
        .into_iter()
        .filter(|device| !had.contains(device))
        .collect();
    new.sort_unstable();
    new.dedup();
    if new.is_empty() || row.steps.len() >= EVIDENCE_STEPS_MAX {
        return false;
    }
    row.steps.push(StepRow {
        at_ms,
        devices: new,
        what,
    });
    true
}

/// Adds devices to an ascending list.
pub(super) fn join(list: &mut Vec<DeviceId>, devices: impl IntoIterator<Item = DeviceId>) {
    list.extend(devices);
    list.sort_unstable();
    list.dedup();
}
