//! Evidence of who was cut off: opened in the part of the act, filled with what each room goes through, complete when nothing
//! is left to wait for, and signed when somebody asks for it.
//!
//! Rooms are looked through once, in parts of their own, as whoever is cut off may be in thousands. What happens to
//! his devices in a room before it was looked at opens its row as well: so no room is missed.

mod document;
mod rows;

use std::time::Duration;

use federation_proto::ids::{AccountId, DeviceId, EvidenceId, Handle, RoomId};
use federation_proto::payload::Payload;

use super::batch::{Batch, Happened};
use super::limits::{
    CONFLICT_ATTEMPTS_MAX, DEPARTURE_ROOMS_PAGE, EVIDENCE_DELETED_AT_ONCE, EVIDENCE_PAGE,
    SESSIONS_CUT_MS_MAX, SESSIONS_CUT_SHARED_MS_MAX, SESSIONS_ENDED_SHARED_MS,
};
use super::mailboxes::{Held, Ring};
use crate::audit::{self, Actor, Event};
use crate::node::Node;
use crate::rooms::leaving::Leaver;
use crate::store::evidence::{self, By, EvidenceRecord, Reason, RoomRow};
use crate::store::outbox::OutboxRow;
use crate::store::room::{self, RoomRecord};
use crate::store::{Part, PartOutcome, StoreError};

pub use document::page;
pub(super) use rows::write;

/// What is cut.
#[derive(Debug)]
pub struct Cut<'a> {
    /// The account.
    pub account: AccountId,
    /// Its handle.
    pub handle: &'a Handle,
    /// Why.
    pub reason: Reason,
    /// By whom.
    pub actor: &'a Actor,
    /// The devices with their keys.
    pub devices: Vec<(DeviceId, [u8; 32])>,
}

/// Evidence that was opened. As long as this is kept nothing is taken of the devices: keep it until the part is written.
#[derive(Debug)]
pub struct Opened {
    id: EvidenceId,
    _held: Held,
}

/// Opens evidence in the part that cuts devices off.
pub fn open(node: &Node, part: &mut Part, cut: Cut<'_>) -> Result<Opened, StoreError> {
    // First the hold, then the clock: what was taken of them before has a stamp that is not after the cut, and between the cut's
    // time and its being written nothing is taken.
    let held = node
        .mailboxes
        .hold(cut.devices.iter().map(|(device, _)| *device).collect());
    let cut_ms = node.clock.now_ms();
    let id = evidence::id(cut_ms, node.random_id()?);
    let mut devices = cut.devices;
    devices.sort_unstable();
    let by = match cut.actor {
        Actor::Admin(name) => By::Administrator(name.clone()),
        Actor::Local(user) => By::Operator(*user),
        Actor::Device(device) => By::Device(*device),
        Actor::Peer(_) | Actor::System => By::System,
    };
    let event = Event {
        at_ms: cut_ms,
        actor: cut.actor.clone(),
        action: "deprovisioning.opened",
        subject: format!("{}@{}", cut.handle, node.server),
        detail: format!("evidence {id}; {} devices", devices.len()),
    };
    audit::record(part, &event);
    let record = EvidenceRecord {
        account: cut.account,
        handle: cut.handle.clone(),
        reason: cut.reason,
        by,
        cut_ms,
        devices,
        sessions: None,
        sessions_ended_ms: None,
        listed_ms: None,
        completed_ms: None,
    };
    evidence::open(part, id, &record)?;
    Ok(Opened { id, _held: held })
}

/// Cuts the sessions of devices whose end has just been written, and notes how many there were and when the last had
/// ended. One that takes longer is noted later: it is served nothing meanwhile.
pub async fn cut_sessions(
    node: &Node,
    opened: &Opened,
    devices: &[DeviceId],
) -> Result<(), StoreError> {
    let id = opened.id;
    let open = node.mailboxes.serving(devices);
    node.mailboxes.ring(devices.iter().copied(), Ring::Rules);
    let ended = async {
        node.mailboxes.ended(devices).await;
        // Other nodes say that they have heard after their sessions have.
        node.cluster.until_heard().await;
    };
    let patience = Duration::from_millis(match node.cluster.is_alone() {
        true => SESSIONS_CUT_MS_MAX,
        false => SESSIONS_CUT_SHARED_MS_MAX,
    });
    let in_time = tokio::time::timeout(patience, ended).await.is_ok();
    let open = u32::try_from(open).unwrap_or(u32::MAX);
    for _ in 0..CONFLICT_ATTEMPTS_MAX {
        let Some((mut record, read)) = evidence::get(&node.store, id).await? else {
            return Ok(());
        };
        record.sessions = Some(open);
        if in_time && record.sessions_ended_ms.is_none() {
            record.sessions_ended_ms = Some(node.clock.now_ms());
        }
        let mut part = Part::default();
        evidence::replace(&mut part, id, &record, read)?;
        if node.store.commit(part).await? == PartOutcome::Committed {
            return Ok(());
        }
    }
    Ok(())
}

/// Notes that a hub has accepted an envelope, when it asks for a removal.
pub async fn accepted(batch: &mut Batch<'_>, row: &OutboxRow) -> Result<(), StoreError> {
    let Ok(Payload::RemovalRequest(asked)) = Payload::decode(row.kind, row.payload.clone()) else {
        return Ok(());
    };
    let Some(room) = batch.room(asked.room).await? else {
        return Ok(());
    };
    let own = batch.node.server.clone();
    let leaver = Leaver {
        server: &own,
        account: asked.account,
        device: asked.device,
    };
    let leaving: Vec<_> = room
        .members
        .iter()
        .filter(|member| leaver.is(member))
        .collect();
    batch.note_own((asked.room, &room.hub), leaving, Happened::Accepted);
    Ok(())
}

/// Looks through all rooms for whoever was cut off since the last time.
pub(super) async fn list_rooms(node: &Node) -> Result<(), StoreError> {
    let mut after = None;
    loop {
        let page = evidence::open_ones(&node.store, None, after, EVIDENCE_PAGE).await?;
        let Some(last) = page.last() else {
            return Ok(());
        };
        after = Some(*last);
        for (_, id) in page {
            let found = evidence::get(&node.store, id).await?;
            if let Some((record, _)) = found.filter(|(record, _)| record.listed_ms.is_none()) {
                list_rooms_of(node, id, &record).await?;
            }
        }
    }
}

async fn list_rooms_of(
    node: &Node,
    id: EvidenceId,
    record: &EvidenceRecord,
) -> Result<(), StoreError> {
    let mut after = None;
    loop {
        let page = room::page(&node.store, after, DEPARTURE_ROOMS_PAGE).await?;
        let Some((last, _)) = page.last() else {
            break;
        };
        let last = *last;
        if list_page(node, id, record, &page).await? {
            after = Some(last);
        }
        tokio::task::yield_now().await;
    }
    for _ in 0..CONFLICT_ATTEMPTS_MAX {
        let Some((mut record, read)) = evidence::get(&node.store, id).await? else {
            return Ok(());
        };
        record.listed_ms = Some(node.clock.now_ms());
        let mut part = Part::default();
        evidence::replace(&mut part, id, &record, read)?;
        if node.store.commit(part).await? == PartOutcome::Committed {
            return Ok(());
        }
    }
    Ok(())
}

/// Writes rows for the rooms of a page that the devices are in; `false`: something has happened in one of them meanwhile.
async fn list_page(
    node: &Node,
    id: EvidenceId,
    record: &EvidenceRecord,
    page: &[(RoomId, RoomRecord)],
) -> Result<bool, StoreError> {
    let mut part = Part::default();
    for (room_id, room) in page {
        let here = room.members_of(&node.server);
        let here: Vec<_> = here.filter(|member| record.has(member)).cloned().collect();
        if here.is_empty() {
            continue;
        }
        let (known, read) = evidence::room(&node.store, id, *room_id).await?.unzip();
        let mut row = known.unwrap_or_else(|| RoomRow {
            hub: room.hub.clone(),
            devices: Vec::new(),
            steps: Vec::new(),
        });
        let before = row.clone();
        rows::join(&mut row.devices, here.iter().map(|member| member.device));
        // Somebody who left before he was cut off, which no commit has taken up.
        let (going, epoch) = (&room.going, room.epoch);
        for going in going.iter().filter(|going| record.has(&going.member)) {
            let said = Happened::Ordered {
                epoch,
                stamp_ms: going.since_ms,
            };
            rows::add(
                &mut row,
                going.since_ms,
                [going.member.device],
                (said, None),
            );
        }
        if row != before {
            part.require(crate::store::Precondition::Present(room::key(*room_id)));
            evidence::put_room(&mut part, id, *room_id, &row, read)?;
        }
    }
    if part.writes.is_empty() {
        return Ok(true);
    }
    Ok(node.store.commit(part).await? == PartOutcome::Committed)
}

/// Completes what has nothing left to wait for, and deletes what is not kept any longer.
pub(super) async fn finish(node: &Node) -> Result<(), StoreError> {
    let mut after = None;
    loop {
        let page = evidence::open_ones(&node.store, None, after, EVIDENCE_PAGE).await?;
        let Some(last) = page.last() else {
            break;
        };
        after = Some(*last);
        for (_, id) in page {
            finish_one(node, id).await?;
        }
    }
    forget_old(node).await
}

async fn finish_one(node: &Node, id: EvidenceId) -> Result<(), StoreError> {
    let Some((mut record, read)) = evidence::get(&node.store, id).await? else {
        return Ok(());
    };
    let before = record.clone();
    let now_ms = node.clock.now_ms();
    let devices: Vec<_> = record.devices.iter().map(|(device, _)| *device).collect();
    // Whether other nodes serve them still is not known here: long after the cut they don't.
    let known_ms = match node.cluster.is_alone() {
        true => 0,
        false => record.cut_ms.saturating_add(SESSIONS_ENDED_SHARED_MS),
    };
    let none_served = now_ms >= known_ms && node.mailboxes.serving(&devices) == 0;
    if record.sessions_ended_ms.is_none() && none_served {
        // One that took long; or the process ended before it could be noted, and all sessions with it.
        record.sessions.get_or_insert(0);
        record.sessions_ended_ms = Some(now_ms);
    }
    let none_waits = evidence::waiting(&node.store, id, 1).await? == 0;
    let mut part = Part::default();
    if none_waits && record.listed_ms.is_some() && record.sessions_ended_ms.is_some() {
        record.completed_ms = Some(now_ms);
        let event = Event {
            at_ms: now_ms,
            actor: Actor::System,
            action: "deprovisioning.completed",
            subject: format!("{}@{}", record.handle, node.server),
            detail: format!(
                "evidence {id}; {} ms after the cut",
                now_ms.saturating_sub(record.cut_ms)
            ),
        };
        audit::record(&mut part, &event);
    }
    if record != before {
        evidence::replace(&mut part, id, &record, read)?;
        // A conflict means that it has just changed: the next round looks again.
        node.store.commit(part).await?;
    }
    Ok(())
}

/// Deletes what was cut long ago. What is still waited for stays, and is looked at again.
async fn forget_old(node: &Node) -> Result<(), StoreError> {
    let (mut after, now_ms) = (None, node.clock.now_ms());
    loop {
        let page = evidence::old(&node.store, after, now_ms, EVIDENCE_PAGE).await?;
        let Some((last, _)) = page.last() else {
            return Ok(());
        };
        after = Some(*last);
        for (id, _) in page
            .into_iter()
            .filter(|(_, record)| record.completed_ms.is_some())
        {
            let mut is_all = false;
            while !is_all {
                let mut part = Part::default();
                let limit = EVIDENCE_DELETED_AT_ONCE;
                is_all = evidence::delete_some(&node.store, &mut part, id, limit).await?;
                node.store.commit(part).await?;
                tokio::task::yield_now().await;
            }
        }
    }
}

/// Up to `limit` before `before`, newest first; `complete`: those alone that are (not) complete. Each with how many of its
/// rooms are waited for.
pub async fn list(
    node: &Node,
    mut before: Option<EvidenceId>,
    complete: Option<bool>,
    limit: usize,
) -> Result<Vec<(EvidenceId, EvidenceRecord, usize)>, StoreError> {
    let mut found = Vec::new();
    while found.len() < limit {
        let page = evidence::before(&node.store, before, EVIDENCE_PAGE).await?;
        let full = page.len() == EVIDENCE_PAGE;
        before = page.last().map(|(id, _)| *id);
        for (id, record) in page {
            let is_complete = record.completed_ms.is_some();
            if complete.is_none_or(|complete| is_complete == complete) {
                let waiting = waiting(node, id).await?;
                found.push((id, record, waiting));
            }
        }
        if !full {
            break;
        }
        tokio::task::yield_now().await;
    }
    found.truncate(limit);
    Ok(found)
}

/// How many of its rooms are waited for.
pub async fn waiting(node: &Node, id: EvidenceId) -> Result<usize, StoreError> {
    evidence::waiting(&node.store, id, usize::MAX).await
}

/// One, and up to `limit` of its rooms behind `after`; `None`: there is none.
pub async fn get(
    node: &Node,
    id: EvidenceId,
    after: Option<RoomId>,
    limit: usize,
) -> Result<Option<(EvidenceRecord, Vec<(RoomId, RoomRow)>)>, StoreError> {
    let Some((record, _)) = evidence::get(&node.store, id).await? else {
        return Ok(None);
    };
    let rooms = evidence::rooms(&node.store, id, after, limit).await?;
    let rooms = rooms.into_iter().map(|(room, row, _)| (room, row));
    Ok(Some((record, rooms.collect())))
}
