//! The sweeper: deletes what has expired. Nothing waits for it: an expired item is never delivered,
//! swept or not.

use std::sync::Arc;
use std::time::Duration;

use federation_proto::ids::{AccountId, DeviceId, RequestId, ServerName};
use federation_proto::refusal::{Refusal, RefusalCode};

use super::batch::Batch;
use super::limits::{
    CONFLICT_ATTEMPTS_MAX, INBOX_PAGE_ITEMS, SWEEP_INTERVAL_MAX_MS, SWEEP_PLACES_MAX,
};
use super::{files, inbox};
use crate::node::Node;
use crate::store::expiry::{self, Place};
use crate::store::inbox::InboxBody;
use crate::store::key_request::Asked;
use crate::store::link_position::LaneCount;
use crate::store::{
    Part, PartOutcome, StoreError, contacts, key_request, link_position, look_up, payload,
};

/// The shortest sleep: expiries that follow each other closely are swept together.
const SWEEP_INTERVAL_MIN_MS: u64 = 1_000;

/// Sweeps until the store stops. Spawn it once for each node.
pub async fn run(node: Arc<Node>) {
    loop {
        let sleep_ms = match sweep(&node).await {
            Ok(sleep_ms) => sleep_ms,
            Err(StoreError::Stopped) => return,
            Err(error) => {
                tracing::error!(%error, "sweeping expired items failed");
                SWEEP_INTERVAL_MAX_MS
            }
        };
        tokio::time::sleep(Duration::from_millis(sleep_ms)).await;
    }
}

/// Deletes what is left of former link epochs of a peer, and counts it no longer.
async fn sweep_lanes(node: &Node, peer: &ServerName) -> Result<(), StoreError> {
    let before = link_position::lane_count(&node.store, peer).await?;
    delete_lanes(node, peer).await?;
    for _ in 0..CONFLICT_ATTEMPTS_MAX {
        let now = link_position::lane_count(&node.store, peer).await?;
        let (Some(before), Some(count)) = (before.record, now.record) else {
            return Ok(());
        };
        if before.link_epoch != count.link_epoch {
            // Then its lanes are former ones too, and an entry of their own stands for them.
            return Ok(());
        }
        let mut part = Part::default();
        let count = LaneCount { former: 0, ..count };
        link_position::put_lane_count(&mut part, peer, &now, &count)?;
        if node.store.commit(part).await? == PartOutcome::Committed {
            return Ok(());
        }
    }
    // Lanes begin all the time. The others' turn; then once more.
    let mut part = Part::default();
    let later_ms = node.clock.now_ms().saturating_add(SWEEP_INTERVAL_MIN_MS);
    expiry::put(&mut part, later_ms, Place::Lanes(peer.clone()));
    node.store.commit(part).await?;
    Ok(())
}

async fn delete_lanes(node: &Node, peer: &ServerName) -> Result<(), StoreError> {
    let mut from = None;
    loop {
        let mut part = Part::default();
        let page = INBOX_PAGE_ITEMS;
        from = link_position::delete_former(&node.store, &mut part, peer, from, page).await?;
        if !part.writes.is_empty() && node.store.commit(part).await? == PartOutcome::Conflict {
            // A lane has begun anew meanwhile: look at all of them again.
            from = None;
        } else if from.is_none() {
            return Ok(());
        }
        tokio::task::yield_now().await;
    }
}

/// Deletes a request for keys, a group info or a consent that nobody has answered, and tells the device that asked; a later one
/// with the same id stays.
async fn sweep_key_request(
    node: &Node,
    device: DeviceId,
    request: RequestId,
    now_ms: u64,
) -> Result<(), StoreError> {
    let found = key_request::get(&node.store, device, request).await?;
    let Some((record, read)) = found.filter(|(record, _)| record.expires_ms <= now_ms) else {
        return Ok(());
    };
    tracing::debug!(server = %record.server, %device, "a request to a peer went unanswered");
    let mut batch = Batch::open(node).await?;
    key_request::take(&mut batch.part, device, request, read);
    let refusal = Refusal::new(
        RefusalCode::Unavailable,
        format!("{} has not answered in time: ask again", record.server),
    );
    let body = match record.of {
        Asked::GroupInfo(room) => InboxBody::GroupInfo {
            request,
            room,
            result: Err(refusal),
        },
        Asked::Consent(room) => InboxBody::RoomConsent {
            request,
            room,
            result: Err(refusal),
        },
        Asked::Keys => InboxBody::KeyMaterial {
            request,
            result: Err(refusal),
        },
    };
    inbox::append(&mut batch, device, body).await?;
    // A conflict means that it was answered just now, or that agreements have changed: the next sweep looks again.
    if batch.commit().await? == PartOutcome::Conflict {
        let mut part = Part::default();
        let again = Place::KeyRequest(device, request);
        expiry::put(
            &mut part,
            now_ms.saturating_add(SWEEP_INTERVAL_MIN_MS),
            again,
        );
        node.store.commit(part).await?;
    }
    Ok(())
}

/// Deletes a look-up that nobody has answered; a later one with the same id stays.
async fn sweep_look_up(
    node: &Node,
    device: DeviceId,
    request: RequestId,
    now_ms: u64,
) -> Result<(), StoreError> {
    let found = look_up::get(&node.store, device, request).await?;
    if let Some((record, read)) = found.filter(|(record, _)| record.expires_ms <= now_ms) {
        let mut part = Part::default();
        look_up::take(&mut part, device, request, read);
        // A conflict means that it was answered just now.
        node.store.commit(part).await?;
        tracing::debug!(server = %record.server, %device, "a look-up went unanswered");
    }
    Ok(())
}

/// Deletes those contacts of an account that are to be forgotten, and says when to look again.
async fn sweep_contacts(node: &Node, account: AccountId, now_ms: u64) -> Result<(), StoreError> {
    let (contacts, read) = contacts::get(&node.store, account, now_ms).await?;
    if read.is_some() {
        let mut part = Part::default();
        contacts::require(&mut part, account, read);
        contacts::put(&mut part, account, &contacts)?;
        // A conflict means that they were just written, and an entry with them.
        node.store.commit(part).await?;
    }
    Ok(())
}

/// Sweeps everything that is due; how long until it is worth looking again, milliseconds.
pub async fn sweep(node: &Node) -> Result<u64, StoreError> {
    loop {
        let now_ms = node.clock.now_ms();
        let due = expiry::due(&node.store, now_ms, SWEEP_PLACES_MAX).await?;
        if due.is_empty() {
            let next_ms = expiry::next_ms(&node.store).await?;
            let wait = next_ms.map_or(u64::MAX, |next_ms| next_ms.saturating_sub(now_ms));
            return Ok(wait.clamp(SWEEP_INTERVAL_MIN_MS, SWEEP_INTERVAL_MAX_MS));
        }
        let mut part = Part::default();
        for (at_ms, place) in due {
            match &place {
                Place::Inbox(device) => inbox::sweep(node, *device, Some(now_ms)).await?,
                Place::Payload(id, source) => payload::delete(&mut part, *id, source.as_ref()),
                Place::File(place) => files::sweep(node, *place, now_ms, at_ms).await?,
                Place::Lanes(peer) => sweep_lanes(node, peer).await?,
                Place::KeyRequest(device, request) => {
                    sweep_key_request(node, *device, *request, now_ms).await?;
                }
                Place::LookUp(device, request) => {
                    sweep_look_up(node, *device, *request, now_ms).await?;
                }
                Place::Contacts(account) => sweep_contacts(node, *account, now_ms).await?,
            }
            expiry::delete(&mut part, at_ms, &place);
        }
        // The entries go after what they stand for: a crash in between sweeps again.
        node.store.commit(part).await?;
        tokio::task::yield_now().await;
    }
}
