//! Who leaves: the removals that a hub orders, and what its followers keep of them.
//!
//! Nobody can remove himself from an MLS group, and a device that is gone can't be waited for. So the hub proposes the
//! removal, as the group's external sender, and orders it as everything else in the room. From then on it takes
//! nothing of that device, and every commit has to take the removal up. A server asks for its own people
//! alone.

use std::collections::BTreeSet;
use std::sync::Arc;

use federation_proto::ids::{AccountId, DeviceId, Member, RoomId, ServerName};
use federation_proto::payload::{Payload, Removal, RemovalRequest, Removals};
use room_rules::{Observed, removal};

use super::follower::followed_room;
use super::{RoomCommit, malformed, mls_framing, observed, pending_removes, step, wrong_epoch};
use crate::audit::Actor;
use crate::delivery::batch::{Batch, Happened, Times};
use crate::delivery::outbox::SenderRef;
use crate::delivery::{NotTaken, inbox, settle};
use crate::store::inbox::InboxBody;
use crate::store::room::{Going, RoomRecord};

/// How long members have the say alone while removals wait: a commit from outside, which can't take them up, is
/// refused this long after the oldest of them was ordered.
pub const OUTSIDE_HELD_MS: u64 = 10_000;

/// Who is to leave.
#[derive(Debug, Clone, Copy)]
pub struct Leaver<'a> {
    /// Of which homeserver.
    pub server: &'a ServerName,
    /// The account.
    pub account: AccountId,
    /// The one device of it that goes; `None`: the account goes, with all of its devices.
    pub device: Option<DeviceId>,
}

impl Leaver<'_> {
    /// Whether this device goes.
    pub fn is(&self, member: &Member) -> bool {
        member.server == *self.server
            && member.account == self.account
            && self.device.is_none_or(|device| member.device == device)
    }

    /// Whether any device of it is in the room and not on its way out.
    pub fn is_in(&self, room: &RoomRecord) -> bool {
        let mut members = room.members_of(self.server);
        members.any(|member| self.is(member) && !room.is_going(member))
    }
}

/// Has somebody of this homeserver leave a room: orders it, or asks the hub in an envelope that waits as long as
/// it has to. Whoever is not there has left.
pub async fn ask(
    batch: &mut Batch<'_>,
    id: RoomId,
    leaver: &Leaver<'_>,
    sender: Option<SenderRef>,
) -> Result<(), NotTaken> {
    let Some(room) = batch.room(id).await?.filter(|room| leaver.is_in(room)) else {
        return Ok(());
    };
    let asked = room
        .members
        .iter()
        .filter(|member| leaver.is(member) && !room.is_going(member));
    batch.note_own((id, &room.hub), asked, Happened::Asked);
    if room.hub == batch.node.server {
        order(batch, id, leaver).await?;
        return Ok(());
    }
    let request = Payload::RemovalRequest(RemovalRequest {
        room: id,
        account: leaver.account,
        device: leaver.device,
    });
    let times = Times {
        accepted_ms: batch.now_ms,
        expires_ms: 0,
    };
    batch
        .send(&room.hub, Some(id), &request, times, sender)
        .await
}

/// The hub's part: orders the removal of whoever is in the room; whether anybody is. One answer for a room that does not
/// exist, one of another hub, and one that he is not in.
pub async fn order(
    batch: &mut Batch<'_>,
    id: RoomId,
    leaver: &Leaver<'_>,
) -> Result<bool, NotTaken> {
    let own = batch.node.server.clone();
    let room = batch.room(id).await?;
    let Some(room) = room.filter(|room| room.hub == own && leaver.is_in(room)) else {
        return Ok(false);
    };
    let leaving = room.members_of(leaver.server);
    let leaving = leaving.filter(|member| leaver.is(member) && !room.is_going(member));
    let leaving: Vec<_> = leaving
        .map(|member| (member.clone(), leaver.device.is_none()))
        .collect();
    let actor = if *leaver.server == own {
        Actor::System
    } else {
        Actor::Peer(leaver.server.clone())
    };
    order_each(batch, id, &room, leaving, actor).await?;
    Ok(true)
}

/// The hub's part: orders the removal of everybody of an organisation with which there is no agreement any more.
pub async fn order_all(
    batch: &mut Batch<'_>,
    id: RoomId,
    server: &ServerName,
) -> Result<(), NotTaken> {
    let own = batch.node.server.clone();
    let room = batch.room(id).await?;
    let Some(room) = room.filter(|room| room.hub == own) else {
        return Ok(());
    };
    let leaving = room.members_of(server);
    let leaving = leaving.filter(|member| !room.is_going(member));
    let leaving: Vec<_> = leaving.map(|member| (member.clone(), true)).collect();
    order_each(batch, id, &room, leaving, Actor::System).await
}

/// The hub's part: orders the removal of devices whose certificates ended too long ago by the tree of this epoch.
pub async fn order_lapsed(
    batch: &mut Batch<'_>,
    id: RoomId,
    epoch: u64,
    lapsed: &[Member],
) -> Result<(), NotTaken> {
    let own = batch.node.server.clone();
    let room = batch.room(id).await?;
    // In a later epoch they may have another certificate.
    let Some(room) = room.filter(|room| room.hub == own && room.epoch == epoch) else {
        return Ok(());
    };
    let leaving = lapsed.iter().filter(|member| room.may_act(member));
    let leaving = leaving.map(|member| (member.clone(), false)).collect();
    order_each(batch, id, &room, leaving, Actor::System).await
}

/// Orders the removal of these devices, each with whether its account goes too.
async fn order_each(
    batch: &mut Batch<'_>,
    id: RoomId,
    room: &Arc<RoomRecord>,
    leaving: Vec<(Member, bool)>,
    actor: Actor,
) -> Result<(), NotTaken> {
    let observed = observed::kept(batch, id).await?;
    let going = observed::propose(&observed, leaving, batch.now_ms)?;
    announce(batch, id, room, going, actor).await
}

/// Orders again what a commit from outside has left out, for the epoch that it began.
pub(super) async fn order_again(
    batch: &mut Batch<'_>,
    id: RoomId,
    next: &Observed,
    left: Vec<Going>,
) -> Result<(), NotTaken> {
    let Some(room) = batch.room(id).await? else {
        return Ok(());
    };
    let left = left.into_iter().map(|going| (going.member, going.account));
    let going = observed::propose(next, left.collect(), batch.now_ms)?;
    announce(batch, id, &room, going, Actor::System).await
}

/// Refuses a commit from outside while members have the say alone.
pub(super) fn hold_outside(
    commit: &RoomCommit,
    room: &RoomRecord,
    now_ms: u64,
) -> Result<(), NotTaken> {
    let since_ms = room.going.iter().map(|going| going.since_ms).min();
    let held = since_ms.is_some_and(|since| now_ms < since.saturating_add(OUTSIDE_HELD_MS));
    if held && mls_framing::comes_from_outside(commit.commit.bytes()) {
        return Err(pending_removes());
    }
    Ok(())
}

/// Puts removals into the room's order: into its record, the inboxes here, and once towards each other homeserver.
async fn announce(
    batch: &mut Batch<'_>,
    id: RoomId,
    room: &Arc<RoomRecord>,
    going: Vec<Going>,
    actor: Actor,
) -> Result<(), NotTaken> {
    if going.is_empty() {
        return Ok(());
    }
    let own = batch.node.server.clone();
    let mut after = RoomRecord::clone(room);
    // Stamps never go back, whatever the clock does.
    after.stamp_ms = batch.now_ms.max(room.stamp_ms);
    let payload = Payload::Removals(Removals {
        room: id,
        epoch: room.epoch,
        stamp_ms: after.stamp_ms,
        removals: going
            .iter()
            .map(|going| Removal {
                member: going.member.clone(),
                proposal: going.proposal.clone(),
            })
            .collect(),
    });
    deliver(batch, id, &mut after, &going).await?;
    let times = Times {
        accepted_ms: after.stamp_ms,
        expires_ms: 0,
    };
    for server in room.servers().into_iter().filter(|s| **s != own) {
        if after.is_server_behind(server) {
            continue;
        }
        let sent = batch.send(server, Some(id), &payload, times, None).await;
        if let Err(refusal) = settle(sent)? {
            // Nobody stays in a room because some peer takes nothing: its devices come back by the group info.
            step::leave_behind(batch, id, &mut after, server, &refusal).await?;
        }
    }
    let names: Vec<_> = going
        .iter()
        .map(|going| format!("{}/{}", going.member.server, going.member.device))
        .collect();
    let detail = format!("epoch {}: {}", room.epoch, names.join(", "));
    match batch.source().cloned() {
        Some(peer) => batch.audit_peer(&peer, (actor, "room.removals-ordered", None), id, detail),
        None => batch.audit(actor, "room.removals-ordered", id, detail),
    }
    take_in(batch, id, after, going);
    Ok(())
}

/// Notes who goes. A room that everybody leaves ends.
fn take_in(batch: &mut Batch<'_>, id: RoomId, mut after: RoomRecord, mut going: Vec<Going>) {
    let named = |known: &Going| going.iter().any(|new| new.member == known.member);
    after.going.retain(|known| !named(known));
    let happened = Happened::Ordered {
        epoch: after.epoch,
        stamp_ms: after.stamp_ms,
    };
    let members = going.iter().map(|going| &going.member);
    batch.note_own((id, &after.hub), members, happened);
    // A hub may name whom it likes, as often as it likes: what is kept is of those who are there, once.
    let mut kept = BTreeSet::new();
    going.retain(|going| after.has(&going.member) && kept.insert(going.member.clone()));
    after.going.extend(going);
    let anybody = after.members.iter().any(|member| !after.is_going(member));
    if !anybody {
        batch.note_own((id, &after.hub), &after.members, Happened::Ended);
    }
    batch.set_room(id, anybody.then_some(after));
}

/// Into the inboxes of all devices here that are in the room, those too that go: they learn by it that they are
/// out. One whose inbox is full is told so, and gets them when it asks.
async fn deliver(
    batch: &mut Batch<'_>,
    id: RoomId,
    room: &mut RoomRecord,
    going: &[Going],
) -> Result<(), NotTaken> {
    let devices = room.devices_of(&batch.node.server, None);
    let bytes = going.iter().map(|going| going.proposal.len()).sum();
    let ready = step::keep_up(batch, id, room, &devices, bytes).await?;
    for device in ready {
        let body = InboxBody::Removals {
            room: id,
            epoch: room.epoch,
            accepted_ms: room.stamp_ms,
            proposals: going.iter().map(|going| going.proposal.clone()).collect(),
        };
        inbox::append(batch, device, body).await?;
    }
    Ok(())
}

/// The follower's part: takes in what the hub `from` has ordered.
pub async fn apply(
    batch: &mut Batch<'_>,
    from: &ServerName,
    said: Removals,
    stamp_ms: u64,
) -> Result<(), NotTaken> {
    let room = followed_room(batch, from, said.room).await?;
    if said.removals.is_empty() || said.epoch > room.epoch {
        return step::gone_on(batch, said.room, &room, said.epoch).await;
    }
    if said.epoch != room.epoch {
        return Err(wrong_epoch(&room));
    }
    let mut going = Vec::with_capacity(said.removals.len());
    for Removal { member, proposal } in said.removals {
        let read = removal::read(&proposal).map_err(malformed)?;
        if (read.room, read.epoch) != (said.room, said.epoch) {
            return Err(malformed(
                "a removal is of another room or epoch than it says",
            ));
        }
        going.push(Going {
            member,
            account: read.account,
            since_ms: stamp_ms,
            proposal,
        });
    }
    let mut after = RoomRecord::clone(&room);
    after.stamp_ms = stamp_ms.max(room.stamp_ms);
    deliver(batch, said.room, &mut after, &going).await?;
    take_in(batch, said.room, after, going);
    Ok(())
}
