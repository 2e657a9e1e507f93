//! Who falls out of a room's step because what waits for him leaves no room for what the hub has ordered, and how he
//! hears of it.
//!
//! A room goes on without whoever does not read: nothing that is ordered waits for one inbox or one outbox. A device
//! here is told by an item that is let in however full its inbox is; a follower by Removals without any, which are let in
//! however full its outbox is. Each is told once, and not again before it has asked for the group info: so what is
//! let in beyond the bounds is one small item for each room that somebody is in.
//!
//! A homeserver that has missed something asks for nothing itself: its devices do, and it takes the room's newest state
//! out of the answer.

use federation_proto::ids::{DeviceId, Member, RoomId, ServerName};
use federation_proto::payload::{Payload, Removal, Removals};
use federation_proto::refusal::{Refusal, RefusalCode};

use super::hub::{audit_changes, note_removed};
use super::{MEMBERS_MAX, malformed, observed};
use crate::audit::Actor;
use crate::delivery::batch::{Batch, Times};
use crate::delivery::fan_out::{self, Class};
use crate::delivery::{NotTaken, inbox, settle};
use crate::store::StoreError;
use crate::store::inbox::InboxBody;
use crate::store::room::{Going, RoomRecord};

/// Of `devices` here those with room for `bytes` of what the hub has ordered. The others are told that the room goes on
/// without them, which `room`, as it is then, notes.
pub(super) async fn keep_up(
    batch: &mut Batch<'_>,
    id: RoomId,
    room: &mut RoomRecord,
    devices: &[DeviceId],
    bytes: usize,
) -> Result<Vec<DeviceId>, StoreError> {
    let (ready, full) = fan_out::room_for(batch, devices, bytes, Class::Handshake).await?;
    for device in full {
        tell(batch, id, room, device).await?;
    }
    Ok(ready)
}

/// Tells a device of this homeserver, unless it was told before, that something is missing that led to the room's present
/// epoch, or was ordered in it.
async fn tell(
    batch: &mut Batch<'_>,
    id: RoomId,
    room: &mut RoomRecord,
    device: DeviceId,
) -> Result<(), StoreError> {
    if room.is_behind(device) {
        return Ok(());
    }
    // Whom the room's newest commit has removed learns it in the same way, and is not noted any more.
    let is_in = room
        .members_of(&batch.node.server)
        .any(|member| member.device == device);
    if is_in {
        room.note_behind(device);
    }
    let body = InboxBody::OutOfStep {
        room: id,
        epoch: room.epoch,
    };
    inbox::append(batch, device, body).await
}

/// A device commits only when it can be told that its commit was ordered: without that it falls out of step by its own.
pub(super) async fn may_hear(
    batch: &mut Batch<'_>,
    sender: &Member,
    bytes: usize,
) -> Result<(), NotTaken> {
    let devices = [sender.device];
    let (_, full) = fan_out::room_for(batch, &devices, bytes, Class::Handshake).await?;
    if full.is_empty() {
        return Ok(());
    }
    Err(NotTaken::refused(
        RefusalCode::Quota,
        "this device's inbox is full: take in what waits there, then commit again",
    ))
}

/// A device asks for the way back: from now on it is told again. It gets the removals that it may have missed.
pub async fn asked(
    batch: &mut Batch<'_>,
    id: RoomId,
    device: DeviceId,
) -> Result<Option<InboxBody>, NotTaken> {
    let Some(room) = batch.room(id).await?.filter(|room| room.is_behind(device)) else {
        return Ok(None);
    };
    let mut after = RoomRecord::clone(&room);
    after.note_asked(device);
    batch.set_room(id, Some(after));
    Ok((!room.going.is_empty()).then(|| InboxBody::Removals {
        room: id,
        epoch: room.epoch,
        accepted_ms: room.stamp_ms,
        proposals: proposals(&room.going),
    }))
}

fn proposals(going: &[Going]) -> Vec<bytes::Bytes> {
    going.iter().map(|going| going.proposal.clone()).collect()
}

/// The hub's part: `server` can't be sent what was ordered, so the room goes on without it. It is told, unless it was
/// before, however much waits for it.
pub(super) async fn leave_behind(
    batch: &mut Batch<'_>,
    id: RoomId,
    room: &mut RoomRecord,
    server: &ServerName,
    why: &Refusal,
) -> Result<(), NotTaken> {
    if room.is_server_behind(server) {
        return Ok(());
    }
    let told = removals(id, room, &[]);
    let times = times(room);
    batch.send_unbounded(server, Some(id), &told, times).await?;
    if room.members_of(server).next().is_some() {
        room.note_server_behind(server);
    }
    let (code, detail) = (why.code, why.to_string());
    batch.audit_refusal(server, "room.went-on-without", id, code, detail);
    Ok(())
}

/// What the sender of a message is told for a homeserver that has fallen out of step.
pub(super) fn behind_refusal(server: &ServerName) -> Refusal {
    Refusal::new(
        RefusalCode::Quota,
        format!(
            "{server} has not taken what was ordered in this room, so much waits for it: send again when it has come \
             back; if that goes on, ask your administrator what keeps it away"
        ),
    )
}

/// The hub's part: one of the follower's devices has been sent the newest group info, which its homeserver reads too. From
/// now on that is sent what is ordered; first the removals that wait.
pub async fn server_asked(
    batch: &mut Batch<'_>,
    id: RoomId,
    server: &ServerName,
) -> Result<(), NotTaken> {
    let room = batch.room(id).await?;
    let Some(room) = room.filter(|room| room.is_server_behind(server)) else {
        return Ok(());
    };
    let mut after = RoomRecord::clone(&room);
    after.note_server_asked(server);
    if !after.going.is_empty() {
        let payload = removals(id, &after, &room.going);
        let sent = batch.send(server, Some(id), &payload, times(&after), None);
        if let Err(refusal) = settle(sent.await)? {
            leave_behind(batch, id, &mut after, server, &refusal).await?;
        }
    }
    batch.set_room(id, Some(after));
    Ok(())
}

fn removals(id: RoomId, room: &RoomRecord, going: &[Going]) -> Payload {
    let removal = |going: &Going| Removal {
        member: going.member.clone(),
        proposal: going.proposal.clone(),
    };
    Payload::Removals(Removals {
        room: id,
        epoch: room.epoch,
        stamp_ms: room.stamp_ms,
        removals: going.iter().map(removal).collect(),
    })
}

const fn times(room: &RoomRecord) -> Times {
    Times {
        accepted_ms: room.stamp_ms,
        expires_ms: 0,
    }
}

/// The follower's part: the hub has come to `epoch`, and something that it ordered before has not come here. Each device
/// is told, and asks for the way back.
pub(super) async fn gone_on(
    batch: &mut Batch<'_>,
    id: RoomId,
    room: &RoomRecord,
    epoch: u64,
) -> Result<(), NotTaken> {
    if epoch < room.epoch {
        // It has come back meanwhile.
        return Ok(());
    }
    // As the hub has it: what the devices are told.
    let mut there = RoomRecord {
        epoch,
        ..room.clone()
    };
    for device in room.devices_of(&batch.node.server, None) {
        tell(batch, id, &mut there, device).await?;
    }
    let after = RoomRecord {
        epoch: room.epoch,
        ..there
    };
    batch.set_room(id, Some(after));
    Ok(())
}

/// The follower's part: takes over where the hub `from` has come to without it, out of a group info that one of the
/// devices here has asked for.
pub async fn catch_up(
    batch: &mut Batch<'_>,
    from: &ServerName,
    id: RoomId,
    (epoch, group_info): (u64, &[u8]),
) -> Result<(), NotTaken> {
    let room = batch.room(id).await?;
    let Some(room) = room.filter(|room| room.hub == *from && room.epoch < epoch) else {
        return Ok(());
    };
    let own = batch.node.server.clone();
    let mut members = observed::members(group_info)?;
    if members.len() > MEMBERS_MAX {
        return Err(malformed("the room has more devices than may be in one"));
    }
    // The hub's list does not decide who of ours is in it.
    members.retain(|member| member.server != own || room.has(member));
    members.sort_unstable();
    members.dedup();
    let mut after = RoomRecord {
        epoch,
        members,
        // What it has removed it orders again for this epoch, and when the epochs between ended is not known.
        going: Vec::new(),
        epoch_ends: Vec::new(),
        ..RoomRecord::clone(&room)
    };
    let goes = |member: &&Member| !after.has(member);
    let removed: Vec<Member> = room.members.iter().filter(goes).cloned().collect();
    let comes = |member: &&Member| !room.has(member);
    let added: Vec<Member> = after.members.iter().filter(comes).cloned().collect();
    after.change(&removed, &[]);
    changed_meanwhile(batch, id, after, (&added, &removed));
    Ok(())
}

/// The follower's part: the hub `from` answers a device here that it is in no such room, so that it was removed by
/// something that has not come here.
pub async fn not_listed(
    batch: &mut Batch<'_>,
    from: &ServerName,
    id: RoomId,
    device: DeviceId,
) -> Result<(), NotTaken> {
    let room = batch.room(id).await?;
    let Some(room) = room.filter(|room| room.hub == *from) else {
        return Ok(());
    };
    let own = batch.node.server.clone();
    let listed = |member: &&Member| member.device == device && !room.is_going(member);
    // Whoever is on his way out is told the same while he is still listed.
    let Some(member) = room.members_of(&own).find(listed).cloned() else {
        return Ok(());
    };
    let mut after = RoomRecord::clone(&room);
    let removed = [member];
    after.change(&removed, &[]);
    changed_meanwhile(batch, id, after, (&[], &removed));
    Ok(())
}

/// Writes a followed room that is known to have changed by something that has not come here: who came and went, and that
/// it is over here when nobody is left.
fn changed_meanwhile(
    batch: &mut Batch<'_>,
    id: RoomId,
    after: RoomRecord,
    (added, removed): (&[Member], &[Member]),
) {
    note_removed(batch, id, &after, removed);
    let hub = Actor::Peer(after.hub.clone());
    audit_changes(batch, hub, id, after.epoch, added, removed);
    let own = &batch.node.server;
    let any_here = after.members_of(own).next().is_some();
    batch.set_room(id, any_here.then_some(after));
}
