//! The hub's part: one order for each room.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use federation_proto::ids::{DeviceId, Member, RoomId, ServerName};
use federation_proto::payload::{Handshake, Message, Payload, Relay, Sender, Welcome};
use federation_proto::refusal::{Refusal, RefusalCode};

use super::follower::{self, Added};
use super::membership::{check_adds, check_commit, check_group_info, check_invite};
use super::{
    RoomCommit, RoomMessage, Unreached, leaving, observed, pace, read_message, sender_ref, step,
    unknown_room, vanished, wrong_epoch,
};
use crate::audit::Actor;
use crate::ciphertext::Ciphertext;
use crate::delivery::batch::{Batch, Happened, Times};
use crate::delivery::fan_out::{self, Class};
use crate::delivery::{NotTaken, settle};
use crate::policy::Direction;
use crate::store::group_info::GroupInfoRecord;
use crate::store::room::RoomRecord;

/// Where a message came from.
pub enum Origin<'a> {
    /// A device of this homeserver, whose submission had this counter; policy has let it out.
    Own {
        /// The submission's counter.
        counter: u64,
    },
    /// A follower: makes the relay of its envelope, with this stamp.
    Follower(&'a (dyn Fn(u64) -> Relay + Sync)),
}

/// Orders a message: into the inboxes here, and once towards each other homeserver in the room.
pub async fn order_message(
    batch: &mut Batch<'_>,
    message: &RoomMessage,
    origin: Origin<'_>,
) -> Result<Unreached, NotTaken> {
    let room = hubbed_room(batch, message.room, &message.sender).await?;
    let attributes = read_message(message, &room, batch.now_ms)?;
    let own = batch.node.server.clone();

    let recipients = room.devices_of(&own, Some(message.sender.device));
    let (allowed, mut unreached) =
        follower::allowed_recipients(batch, &room, message, &attributes, recipients).await?;
    let (ready, full) =
        fan_out::room_for(batch, &allowed, message.message.len(), Class::Message).await?;
    if !full.is_empty() {
        unreached.push((own.clone(), fan_out::full_refusal()));
    }

    let mut destinations = Vec::new();
    for server in room.servers().into_iter().filter(|server| **server != own) {
        if *server == message.sender.server {
            // It has the message; its other devices in the room get it in the room's order.
            if room.members_of(server).count() > 1 {
                destinations.push(server);
            }
            continue;
        }
        match may_pass_on(batch, &room, server, &attributes) {
            Ok(()) => destinations.push(server),
            Err(refusal) => unreached.push((server.clone(), refusal)),
        }
    }
    if ready.is_empty() && destinations.is_empty() {
        // Nobody gets it, so it is refused; a room without others takes it and has nothing to do.
        return match unreached.into_iter().next() {
            Some((_, refusal)) => Err(refusal.into()),
            None if allowed.is_empty() => Ok(Unreached::new()),
            None => Err(follower::gone_refusal().into()),
        };
    }

    follower::deliver_to(batch, message, &ready)?;
    let times = Times {
        accepted_ms: message.accepted_ms,
        expires_ms: message.expires_ms,
    };
    let (payload, sender) = match &origin {
        _ if destinations.is_empty() => return Ok(unreached),
        Origin::Own { counter } => (
            own_message(message, *counter),
            Some(sender_ref(&message.sender, message.room, *counter)),
        ),
        Origin::Follower(relay) => (Payload::Relay(relay(batch.now_ms)), None),
    };
    let mut reached = !ready.is_empty();
    for server in destinations {
        let sent = batch
            .send(server, Some(message.room), &payload, times, sender.clone())
            .await;
        match settle(sent)? {
            Ok(()) => reached = true,
            // One peer that takes nothing costs the others nothing.
            Err(refusal) => unreached.push((server.clone(), refusal)),
        }
    }
    match unreached.pop() {
        Some((_, refusal)) if !reached => Err(refusal.into()),
        last => {
            unreached.extend(last);
            Ok(unreached)
        }
    }
}

/// A message of a device of this homeserver, as it goes to a peer.
pub fn own_message(message: &RoomMessage, counter: u64) -> Payload {
    Payload::Message(Message {
        room: message.room,
        sender: Sender {
            account: message.sender.account,
            device: message.sender.device,
        },
        reference: counter,
        message: message.message.bytes().clone(),
    })
}

/// Orders a commit, or refuses it: the first one of an epoch wins. `own` when a device of this
/// homeserver made it.
pub async fn order_commit(
    batch: &mut Batch<'_>,
    commit: &RoomCommit,
    own: bool,
) -> Result<(), NotTaken> {
    let here = batch.node.server.clone();
    let before = match batch.room(commit.room).await? {
        Some(room) if room.may_act(&commit.sender) && room.hub == here => room,
        Some(_) if commit.epoch == 0 && own => {
            return Err(NotTaken::refused(
                RefusalCode::RoomExists,
                "a room with this id exists: start one with another random id",
            ));
        }
        None if commit.epoch == 0 && own && commit.hub == here => {
            let founder = vec![commit.sender.clone()];
            Arc::new(RoomRecord::new(here, 0, 0, founder))
        }
        Some(_) | None => return Err(unknown_room()),
    };
    #[cfg(feature = "faults")]
    let before = forked(before, commit);
    if commit.hub != before.hub {
        return Err(super::malformed("the commit is meant for another hub"));
    }
    if commit.epoch != before.epoch {
        return Err(wrong_epoch(&before));
    }
    check_commit(commit, &before, None)?;
    check_group_info(commit)?;
    leaving::hold_outside(commit, &before, batch.now_ms)?;
    pace::of_device(batch, commit)?;
    if own {
        check_invite(batch, commit).await?;
    }
    let mut after = RoomRecord::clone(&before);
    after.change(&commit.removes, &commit.adds);
    after.end_epoch(batch.now_ms).ok_or_else(vanished)?;
    // Stamps never go back, whatever the clock does.
    after.stamp_ms = batch.now_ms.max(before.stamp_ms);
    check_adds(batch, commit, &after).await?;
    let checked = observed::check(batch, commit, &before).await?;
    after.retained_epochs = checked.retained_epochs;
    // What it has not taken up comes from outside, and can't: it is ordered again for the epoch that begins.
    let mut left = std::mem::take(&mut after.going);
    left.retain(|going| after.has(&going.member));

    check_room_for(batch, commit, &before, own).await?;
    write_commit(batch, commit, &before, after).await?;
    match checked.next {
        Some(next) if !left.is_empty() => {
            leaving::order_again(batch, commit.room, &next, left).await
        }
        _ => Ok(()),
    }
}

/// The fault `fork-rooms`: the room as it was before the commit that has just been ordered.
#[cfg(feature = "faults")]
fn forked(before: Arc<RoomRecord>, commit: &RoomCommit) -> Arc<RoomRecord> {
    let is_late = commit.epoch.checked_add(1) == Some(before.epoch);
    if is_late && crate::faults::is_on("fork-rooms") {
        return Arc::new(RoomRecord {
            epoch: commit.epoch,
            ..RoomRecord::clone(&before)
        });
    }
    before
}

/// Whom a commit adds has to get the welcome, for nothing else leads him into the room; and its author must be able to
/// hear of it. Whoever else has no room for it stops nobody: he falls out of step.
async fn check_room_for(
    batch: &mut Batch<'_>,
    commit: &RoomCommit,
    before: &RoomRecord,
    own: bool,
) -> Result<(), NotTaken> {
    if own {
        step::may_hear(batch, &commit.sender, commit.commit.len()).await?;
    }
    let here = &batch.node.server;
    let added = commit.adds.iter().filter(|member| member.server == *here);
    let added: Vec<DeviceId> = added.map(|member| member.device).collect();
    let bytes = commit.welcome.as_ref().map_or(0, Ciphertext::len);
    let (_, full) = fan_out::room_for(batch, &added, bytes, Class::Handshake).await?;
    if !full.is_empty() {
        return Err(fan_out::full_refusal().into());
    }
    let mut behind = commit.adds.iter().map(|member| &member.server);
    match behind.find(|server| before.is_server_behind(server)) {
        Some(server) => Err(step::behind_refusal(server).into()),
        None => Ok(()),
    }
}

async fn write_commit(
    batch: &mut Batch<'_>,
    commit: &RoomCommit,
    before: &RoomRecord,
    mut after: RoomRecord,
) -> Result<(), NotTaken> {
    let own = batch.node.server.clone();
    let times = Times {
        accepted_ms: after.stamp_ms,
        expires_ms: 0,
    };
    follower::deliver_commit(batch, commit, before, &mut after).await?;
    let ordered = Payload::Handshake(Handshake {
        room: commit.room,
        hub: own.clone(),
        epoch: commit.epoch,
        sender: commit.sender.clone(),
        reference: commit.counter,
        commit: commit.commit.bytes().clone(),
        adds: commit.adds.clone(),
        removes: commit.removes.clone(),
        welcome: None,
        group_info: None,
        stamp_ms: after.stamp_ms,
    });
    for server in before
        .servers()
        .into_iter()
        .filter(|server| **server != own)
    {
        if after.is_server_behind(server) {
            continue;
        }
        let sent = batch.send_for(
            server,
            Some(commit.room),
            &ordered,
            times,
            commit.to_tell(&own),
        );
        match settle(sent.await)? {
            Ok(()) => {}
            // A room does not wait for a homeserver that takes nothing.
            Err(full) if full.code == RefusalCode::Quota => {
                step::leave_behind(batch, commit.room, &mut after, server, &full).await?;
            }
            Err(refusal) => return Err(refusal.into()),
        }
    }

    let mut added: BTreeMap<&ServerName, Vec<DeviceId>> = BTreeMap::new();
    for member in &commit.adds {
        added.entry(&member.server).or_default().push(member.device);
    }
    let welcome = commit
        .welcome
        .clone()
        .unwrap_or_else(|| Ciphertext::new(Bytes::new()));
    for (server, recipients) in added {
        if *server == own {
            let added = Added {
                room: commit.room,
                hub: &own,
                welcome: &welcome,
                stamp_ms: after.stamp_ms,
            };
            follower::deliver_welcome(batch, &added, &recipients).await?;
            continue;
        }
        let payload = Payload::Welcome(Welcome {
            room: commit.room,
            hub: own.clone(),
            epoch: after.epoch,
            sender: commit.sender.clone(),
            members: after.members.clone(),
            recipients,
            welcome: welcome.bytes().clone(),
            stamp_ms: after.stamp_ms,
        });
        let sent = batch.send_for(
            server,
            Some(commit.room),
            &payload,
            times,
            commit.to_tell(&own),
        );
        sent.await?;
    }
    audit_membership(batch, commit, after.epoch);
    note_removed(batch, commit.room, &after, &commit.removes);
    let epoch = after.epoch;
    batch.set_room(commit.room, Some(after));
    if let Some(group_info) = commit.group_info.clone() {
        batch.set_group_info(commit.room, GroupInfoRecord { epoch, group_info });
    }
    Ok(())
}

/// Notes those of this homeserver's devices that the hub has taken out of a room, which is `after` then.
pub(super) fn note_removed(
    batch: &mut Batch<'_>,
    room: RoomId,
    after: &RoomRecord,
    removed: &[Member],
) {
    let happened = Happened::Removed {
        epoch: after.epoch,
        stamp_ms: after.stamp_ms,
    };
    batch.note_own((room, &after.hub), removed, happened);
}

/// Records who came and went, in the part that makes it so.
pub(super) fn audit_membership(batch: &mut Batch<'_>, commit: &RoomCommit, epoch: u64) {
    let actor = if commit.sender.server == batch.node.server {
        Actor::Device(commit.sender.device)
    } else {
        Actor::Peer(commit.sender.server.clone())
    };
    audit_changes(
        batch,
        actor,
        commit.room,
        epoch,
        &commit.adds,
        &commit.removes,
    );
}

/// Records who came and went by an epoch's beginning.
pub(super) fn audit_changes(
    batch: &mut Batch<'_>,
    actor: Actor,
    room: RoomId,
    epoch: u64,
    adds: &[Member],
    removes: &[Member],
) {
    if adds.is_empty() && removes.is_empty() {
        return;
    }
    let names = |members: &[Member]| {
        let names: Vec<String> = members
            .iter()
            .map(|m| format!("{}/{}", m.server, m.device))
            .collect();
        names.join(", ")
    };
    let detail = format!(
        "epoch {epoch}; added: {}; removed: {}",
        names(adds),
        names(removes)
    );
    let action = "room.members-changed";
    // Whoever brought it may say that a device of ours has made it.
    match batch.source().cloned() {
        Some(peer) => batch.audit_peer(&peer, (actor, action, None), room, detail),
        None => batch.audit(actor, action, room, detail),
    }
}

/// The epoch of a room that this homeserver orders, for a member of it and for nobody else.
pub async fn epoch_for(
    batch: &mut Batch<'_>,
    id: RoomId,
    member: &Member,
) -> Result<u64, NotTaken> {
    Ok(hubbed_room(batch, id, member).await?.epoch)
}

/// The room, without those who are going, when this homeserver orders it and the sender may write there.
async fn hubbed_room(
    batch: &mut Batch<'_>,
    id: RoomId,
    sender: &Member,
) -> Result<Arc<RoomRecord>, NotTaken> {
    let own = batch.node.server.clone();
    match batch.room(id).await? {
        Some(room) if room.hub == own && room.may_act(sender) => Ok(room.without_going()),
        Some(_) | None => Err(unknown_room()),
    }
}

/// Whether a message may go on from this hub to another homeserver in the room.
fn may_pass_on(
    batch: &mut Batch<'_>,
    room: &RoomRecord,
    server: &ServerName,
    attributes: &homeserver_api::attributes::MessageAttributes,
) -> Result<(), Refusal> {
    if room.is_server_behind(server) {
        return Err(step::behind_refusal(server));
    }
    let view = batch.peer(server).ok_or_else(|| {
        Refusal::new(
            RefusalCode::NotFullMesh,
            format!(
                "the room's hub has no agreement with {server}: remove its members from the room"
            ),
        )
    })?;
    view.judge_passing(Direction::Outbound, attributes, batch.now_ms)
}
