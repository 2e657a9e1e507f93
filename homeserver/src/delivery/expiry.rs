//! The sweeper: deletes what has expired. Nothing waits for it: an expired item is never delivered,
//! swept or not.

use std::sync::Arc;
use std::time::Duration;

use federation_proto::envelope::Lane;
use federation_proto::ids::{AccountId, DeviceId, RequestId, ServerName};
use federation_proto::refusal::{Refusal, RefusalCode};
use homeserver_api::admin::PeerState;

use super::batch::Batch;
use super::limits::{
    CONFLICT_ATTEMPTS_MAX, INBOX_PAGE_ITEMS, LANE_PAGES_AT_ONCE_MAX, LANES_AGAIN_MS,
    SWEEP_DAMAGED_RETRY_MS, SWEEP_INTERVAL_MAX_MS, SWEEP_PLACES_MAX,
};
use super::{files, inbox};
use crate::node::Node;
use crate::store::expiry::{self, Place};
use crate::store::inbox::InboxBody;
use crate::store::key_request::Asked;
use crate::store::lease::Duty;
use crate::store::link_position::{LaneCount, LanePass};
use crate::store::{
    Part, PartOutcome, StoreError, contacts, key_request, link_position, look_up, payload,
};

/// The shortest sleep: expiries that follow each other closely are swept together.
const SWEEP_INTERVAL_MIN_MS: u64 = 1_000;

/// Between two pages of what is looked through for payloads that nobody waits for.
const ORPHANS_PAUSE: Duration = Duration::from_millis(20);

/// Sweeps until the store stops. Spawn it once for each node.
pub async fn run(node: Arc<Node>) {
    let orphans = async {
        node.cluster.until_held(&Duty::Tasks).await;
        if let Err(error) = delete_orphans(&node).await {
            tracing::error!(%error, "payloads that nobody waits for are left until they expire");
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = sweeps(&node) => {}
        () = orphans => {}
    }
}

/// Deletes payloads that nobody waits for any more, and that a process has left which ended before it could: all are looked
/// through once, beside all else.
async fn delete_orphans(node: &Node) -> Result<(), StoreError> {
    let mut after = None;
    loop {
        let (payloads, last) =
            expiry::payloads(&node.store, after.as_ref(), INBOX_PAGE_ITEMS).await?;
        let Some(last) = last else { return Ok(()) };
        let mut kept = Vec::with_capacity(payloads.len());
        for (id, source) in &payloads {
            // Most have gone before their entries do.
            if payload::is_kept(&node.store, *id).await? {
                kept.push((*id, source.as_ref()));
            }
        }
        inbox::delete_unawaited(node, kept.into_iter()).await?;
        after = Some(last);
        tokio::time::sleep(ORPHANS_PAUSE).await;
    }
}

async fn sweeps(node: &Node) {
    loop {
        node.cluster.until_held(&Duty::Tasks).await;
        let sleep_ms = match sweep(node).await {
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

/// Goes on with deleting what is left of former link epochs of a peer, a bounded part of it; at the end it is counted
/// no longer. The entry that stands for it goes in the same part, or to a later time: one that is put meanwhile stays.
async fn sweep_lanes(node: &Node, peer: &ServerName, at_ms: u64) -> Result<(), StoreError> {
    let store = &node.store;
    let count = link_position::lane_count(store, peer).await?.record;
    let count = count.unwrap_or_default();
    let pass = link_position::lane_pass(store, peer).await?;
    let mut pass = pass.unwrap_or(LanePass {
        link_epoch: count.link_epoch,
        from: None,
        is_whole: true,
    });
    // Nothing may be left of them.
    let mut is_over = count.former == 0;
    let mut pages = 0;
    while !is_over && pages < LANE_PAGES_AT_ONCE_MAX {
        pages += 1;
        is_over = !sweep_lanes_page(node, peer, &mut pass).await?;
        tokio::task::yield_now().await;
    }
    let mut part = Part::default();
    let place = Place::Lanes(peer.clone());
    expiry::delete(&mut part, at_ms, &place);
    let later_ms = node.clock.now_ms().saturating_add(LANES_AGAIN_MS);
    expiry::put(&mut part, later_ms, place);
    match is_over {
        true => match forget_former(node, peer, &pass, at_ms).await? {
            Forgotten::Yes => return Ok(()),
            Forgotten::NotYet => link_position::put_lane_pass(&mut part, peer, &pass)?,
            Forgotten::No => link_position::delete_lane_pass(&mut part, peer),
        },
        false => link_position::put_lane_pass(&mut part, peer, &pass)?,
    }
    store.commit(part).await?;
    Ok(())
}

/// Deletes what is left of former link epochs in the next page of a peer's rows; whether there was one.
async fn sweep_lanes_page(
    node: &Node,
    peer: &ServerName,
    pass: &mut LanePass,
) -> Result<bool, StoreError> {
    let (mut part, from) = (Part::default(), pass.from.clone());
    let (store, rows) = (&node.store, INBOX_PAGE_ITEMS);
    let next = link_position::delete_former(store, &mut part, peer, from, rows).await?;
    if !part.writes.is_empty() && store.commit(part).await? == PartOutcome::Conflict {
        // A lane of this page has begun anew meanwhile. The next pass comes by again: one that began again here would
        // not end as long as lanes begin.
        pass.is_whole = false;
    }
    let more = next.is_some();
    pass.from = next.or(pass.from.take());
    Ok(more)
}

/// Whether former lanes are counted no longer.
enum Forgotten {
    Yes,
    /// All of them are gone, but lanes begin all the time.
    NotYet,
    /// Some are left: the pass has left some out, or the link epoch has risen since it began.
    No,
}

/// Counts former lanes no longer when a pass has deleted all of them.
async fn forget_former(
    node: &Node,
    peer: &ServerName,
    pass: &LanePass,
    at_ms: u64,
) -> Result<Forgotten, StoreError> {
    for _ in 0..CONFLICT_ATTEMPTS_MAX {
        let read = link_position::lane_count(&node.store, peer).await?;
        let mut part = Part::default();
        if let Some(count) = read.record {
            if count.former > 0 && (!pass.is_whole || pass.link_epoch != count.link_epoch) {
                return Ok(Forgotten::No);
            }
            let count = LaneCount { former: 0, ..count };
            link_position::put_lane_count(&mut part, peer, &read, &count)?;
        }
        link_position::delete_lane_pass(&mut part, peer);
        expiry::delete(&mut part, at_ms, &Place::Lanes(peer.clone()));
        if node.store.commit(part).await? == PartOutcome::Committed {
            return Ok(Forgotten::Yes);
        }
    }
    Ok(Forgotten::NotYet)
}

/// Goes on with deleting what is remembered of the lanes of a peer whose agreement has ended, a bounded part of it; their
/// positions stay, so that nothing of former agreements comes again. Where something may be left, an entry for later.
async fn sweep_remembered(
    node: &Node,
    entries: &mut Part,
    peer: &ServerName,
    from: Lane,
) -> Result<(), StoreError> {
    let (store, rows) = (&node.store, INBOX_PAGE_ITEMS);
    let mut from = link_position::first_row(peer, from);
    // The entry was written with the end, which may have been a moment ago.
    node.peers.refresh(node).await?;
    for _ in 0..LANE_PAGES_AT_ONCE_MAX {
        // What a new agreement makes it remember stays.
        if is_in_force(node, peer) {
            return Ok(());
        }
        let mut part = Part::default();
        let next = link_position::delete_recent(store, &mut part, peer, &from, rows).await?;
        if !part.writes.is_empty() {
            // On a conflict an agreement is in force again, and its mail comes.
            store.commit(part).await?;
        }
        let Some(next) = next else {
            return Ok(());
        };
        from = next;
        tokio::task::yield_now().await;
    }
    if let Some(lane) = link_position::lane_at(peer, &from) {
        let later_ms = node.clock.now_ms().saturating_add(LANES_AGAIN_MS);
        expiry::put(entries, later_ms, Place::Remembered(peer.clone(), lane));
    }
    Ok(())
}

fn is_in_force(node: &Node, peer: &ServerName) -> bool {
    let view = node.peers.get(peer);
    view.is_some_and(|view| matches!(view.agreed, Some(PeerState::Active | PeerState::Suspended)))
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
        if due.entries.is_empty() && due.damaged.is_empty() {
            let next_ms = expiry::next_ms(&node.store).await?;
            let wait = next_ms.map_or(u64::MAX, |next_ms| next_ms.saturating_sub(now_ms));
            return Ok(wait.clamp(SWEEP_INTERVAL_MIN_MS, SWEEP_INTERVAL_MAX_MS));
        }
        let mut part = Part::default();
        for key in due.damaged {
            tracing::error!(
                ?key,
                "an entry of the sweeper names no place: it is deleted"
            );
            part.delete(key);
        }
        for (at_ms, place) in due.entries {
            match sweep_place(node, &mut part, &place, (at_ms, now_ms)).await {
                Ok(Entry::Done) => expiry::delete(&mut part, at_ms, &place),
                Ok(Entry::SeenTo) => {}
                // One damaged record holds up what expires beside it, and nothing else.
                Err(error @ StoreError::Corrupt { .. }) => {
                    tracing::error!(%error, ?place, "what has expired there can't be deleted yet");
                    expiry::delete(&mut part, at_ms, &place);
                    expiry::put(
                        &mut part,
                        now_ms.saturating_add(SWEEP_DAMAGED_RETRY_MS),
                        place,
                    );
                }
                Err(error) => return Err(error),
            }
        }
        // The entries go after what they stand for: a crash in between sweeps again.
        node.store.commit(part).await?;
        tokio::task::yield_now().await;
    }
}

/// What becomes of the entry of a place that was swept.
enum Entry {
    /// It is of no use any more.
    Done,
    /// It is gone, or stands at a later time.
    SeenTo,
}

async fn sweep_place(
    node: &Node,
    part: &mut Part,
    place: &Place,
    (at_ms, now_ms): (u64, u64),
) -> Result<Entry, StoreError> {
    match place {
        Place::Inbox(device) => inbox::sweep(node, *device, Some(now_ms)).await?,
        Place::Payload(id, source) => payload::delete(part, *id, source.as_ref()),
        Place::File(place) => files::sweep(node, *place, now_ms, at_ms).await?,
        Place::Lanes(peer) => {
            sweep_lanes(node, peer, at_ms).await?;
            return Ok(Entry::SeenTo);
        }
        Place::Remembered(peer, lane) => sweep_remembered(node, part, peer, *lane).await?,
        Place::KeyRequest(device, request) => {
            sweep_key_request(node, *device, *request, now_ms).await?;
        }
        Place::LookUp(device, request) => sweep_look_up(node, *device, *request, now_ms).await?,
        Place::Contacts(account) => sweep_contacts(node, *account, now_ms).await?,
    }
    Ok(Entry::Done)
}

#[cfg(test)]
mod tests;
