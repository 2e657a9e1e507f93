//! A follower's part: what the hub has ordered goes to the devices here.
//!
//! Agreement and policy filter messages and additions; an ordered commit is never filtered, for the
//! room would be lost to everyone here.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use federation_proto::ids::{AccountId, DeviceId, Member, RoomId, ServerName};
use federation_proto::refusal::{Refusal, RefusalCode};
use homeserver_api::attributes::MessageAttributes;
use homeserver_api::policy::Contact;

use super::hub::{audit_membership, note_removed};
use super::membership::{
    check_commit, check_framing, check_group_info, check_invite, may_be_added,
};
use super::{
    RoomCommit, RoomMessage, Unreached, pace, read_message, step, unknown_room, vanished,
    wrong_epoch,
};
use crate::audit::Actor;
use crate::ciphertext::Ciphertext;
use crate::delivery::batch::{Batch, policy_links};
use crate::delivery::fan_out::{self, Class};
use crate::delivery::limits::INBOX_CONTROL_TTL_MS;
use crate::delivery::{NotTaken, colleagues};
use crate::policy::{self, Direction, Input, Rules};
use crate::store::StoreError;
use crate::store::inbox::InboxBody;
use crate::store::room::RoomRecord;

/// An addition to a room, as the added devices learn of it.
#[derive(Debug, Clone, Copy)]
pub struct Added<'a> {
    /// The room.
    pub room: RoomId,
    /// Its hub.
    pub hub: &'a ServerName,
    /// The welcome.
    pub welcome: &'a Ciphertext,
    /// The hub's stamp, milliseconds since the Unix epoch.
    pub stamp_ms: u64,
}

/// A whole addition, as the hub tells it to the added devices' server.
#[derive(Debug, Clone)]
pub struct RoomWelcome {
    /// The room.
    pub room: RoomId,
    /// Its hub.
    pub hub: ServerName,
    /// The epoch that the added devices start in.
    pub epoch: u64,
    /// The device that made the commit.
    pub sender: Member,
    /// Every device in the room after the commit.
    pub members: Vec<Member>,
    /// The devices here that were added.
    pub recipients: Vec<DeviceId>,
    /// The welcome.
    pub welcome: Ciphertext,
    /// The hub's stamp, milliseconds since the Unix epoch.
    pub stamp_ms: u64,
}

/// Delivers a message that the hub `from` has ordered to the room's devices here.
pub async fn deliver_message(
    batch: &mut Batch<'_>,
    from: &ServerName,
    message: &RoomMessage,
) -> Result<Unreached, NotTaken> {
    let room = followed_room(batch, from, message.room).await?;
    let room = room.without_going();
    if !room.has(&message.sender) {
        return Err(unknown_room());
    }
    let attributes = read_message(message, &room, batch.now_ms)?;
    let own = batch.node.server.clone();
    // What the hub passes on comes over the link with the hub as well as from its origin.
    let passed_on = message.sender.server != *from && message.sender.server != own;
    if let Some(hub) = batch.peer(from).filter(|_| passed_on) {
        hub.judge_passing(Direction::Inbound, &attributes, batch.now_ms)?;
    }
    let recipients = room.devices_of(&own, Some(message.sender.device));
    let (allowed, mut unreached) =
        allowed_recipients(batch, &room, message, &attributes, recipients).await?;
    let (ready, full) =
        fan_out::room_for(batch, &allowed, message.message.len(), Class::Message).await?;
    if !full.is_empty() {
        unreached.push((own, fan_out::full_refusal()));
    }
    if ready.is_empty() {
        let first = unreached.into_iter().next().map(|(_, refusal)| refusal);
        return Err(first.unwrap_or_else(gone_refusal).into());
    }
    deliver_to(batch, message, &ready)?;
    Ok(unreached)
}

/// Applies a commit that the hub `from` has ordered.
pub async fn apply_commit(
    batch: &mut Batch<'_>,
    from: &ServerName,
    commit: &RoomCommit,
    stamp_ms: u64,
) -> Result<(), NotTaken> {
    let before = followed_room(batch, from, commit.room).await?;
    if commit.epoch < before.epoch {
        return Err(wrong_epoch(&before));
    }
    check_framing(commit)?;
    if commit.epoch > before.epoch {
        let begun = commit.epoch.checked_add(1).ok_or_else(vanished)?;
        return step::gone_on(batch, commit.room, &before, begun).await;
    }
    super::external::check_member(commit, &before)?;
    let mut after = RoomRecord::clone(&before);
    after.change(&commit.removes, &commit.adds);
    if after.members.len() > super::MEMBERS_MAX {
        return Err(too_large());
    }
    after.end_epoch(batch.now_ms).ok_or_else(vanished)?;
    // Stamps never go back.
    let stamp_ms = stamp_ms.max(before.stamp_ms);
    after.stamp_ms = stamp_ms;
    // The hub's list does not decide who of ours is in it.
    let barred = barred_additions(batch, commit, &before, &after).await?;
    after.change(&barred, &[]);
    // Those whom it has not removed stay where they are until the hub orders that again.
    let mut going = std::mem::take(&mut after.going);
    going.retain(|going| after.has(&going.member));
    after.going = going;
    deliver_commit(batch, commit, &before, &mut after).await?;
    audit_membership(batch, commit, after.epoch);
    note_removed(batch, commit.room, &after, &commit.removes);
    let any_here = after.members_of(&batch.node.server).next().is_some();
    batch.set_room(commit.room, any_here.then_some(after));
    Ok(())
}

/// The protocol lets rooms be larger, and each server say how large it bears (ROOM-029).
fn too_large() -> NotTaken {
    NotTaken::refused(
        RefusalCode::TooLarge,
        format!(
            "this homeserver takes part in rooms of at most {} devices: start another one",
            super::MEMBERS_MAX
        ),
    )
}

/// Of the devices here that a commit adds those whose rules keep them out; all of them when it passes for a
/// colleague's who is not in the room.
async fn barred_additions(
    batch: &mut Batch<'_>,
    commit: &RoomCommit,
    before: &RoomRecord,
    after: &RoomRecord,
) -> Result<Vec<Member>, StoreError> {
    let own = batch.node.server.clone();
    let mut barred = Vec::new();
    let by = &commit.sender;
    let pretends = by.server == own && !before.has(by);
    for member in commit.adds.iter().filter(|member| member.server == own) {
        let may = may_be_added(batch, member, by, after).await?;
        if pretends || may.is_err() {
            barred.push(member.clone());
        }
    }
    Ok(barred)
}

/// Lets devices here into a room that the hub `from` has added them to.
pub async fn apply_welcome(
    batch: &mut Batch<'_>,
    from: &ServerName,
    welcome: &RoomWelcome,
) -> Result<(), NotTaken> {
    let own = batch.node.server.clone();
    if welcome.hub != *from || *from == own {
        return Err(super::malformed("the welcome is not of a room of this hub"));
    }
    if welcome.members.len() > super::MEMBERS_MAX {
        return Err(too_large());
    }
    super::mls_framing::welcome(welcome.welcome.bytes()).map_err(super::malformed)?;
    let mut members = welcome.members.clone();
    members.sort_unstable();
    members.dedup();
    let (epoch, stamp_ms) = (welcome.epoch, welcome.stamp_ms);
    let mut after = RoomRecord::new(from.clone(), epoch, stamp_ms, members);
    let before = match batch.room(welcome.room).await? {
        // Devices of this homeserver were in it: the ordered commit before has added the new ones.
        Some(room) if room.hub == *from && room.epoch == welcome.epoch => Some(room),
        Some(_) => {
            return Err(NotTaken::refused(
                RefusalCode::RoomExists,
                "a room with this id exists: start one with another random id",
            ));
        }
        None => None,
    };
    let added: Vec<Member> = after
        .members_of(&own)
        .filter(|member| welcome.recipients.contains(&member.device))
        .cloned()
        .collect();
    if added.is_empty() || added.len() != welcome.recipients.len() {
        return Err(super::malformed(
            "the welcome's recipients are not among its members",
        ));
    }
    let by = &welcome.sender;
    let is_member = match by.server == own {
        // Nobody passes for a colleague, who needs no consent.
        true => before.as_ref().is_some_and(|room| room.has(by)),
        false => after.has(by),
    };
    if !is_member {
        return Err(super::malformed(
            "the welcome is of a commit by nobody in the room",
        ));
    }
    let allowed = allowed_additions(batch, (from, by), &after, welcome, &added).await?;
    if let Some(room) = &before {
        after.epoch_ends.clone_from(&room.epoch_ends);
        after.behind.clone_from(&room.behind);
        after.going.clone_from(&room.going);
    }
    // Of our devices those are in it that were before or may be now, whatever the hub lists.
    let here = |member: &Member| {
        before.as_ref().is_some_and(|room| room.has(member))
            && !welcome.recipients.contains(&member.device)
    };
    after
        .members
        .retain(|member| member.server != own || here(member) || allowed.contains(&member.device));
    after.stamp_ms = before
        .as_ref()
        .map_or(welcome.stamp_ms, |room| room.stamp_ms.max(welcome.stamp_ms));
    if before.is_none() {
        batch.follow(&after).await?;
    }
    let addition = Added {
        room: welcome.room,
        hub: from,
        welcome: &welcome.welcome,
        stamp_ms: after.stamp_ms,
    };
    deliver_welcome(batch, &addition, &allowed).await?;
    let names: Vec<String> = allowed.iter().map(ToString::to_string).collect();
    let detail = format!("epoch {}; added: {}", welcome.epoch, names.join(", "));
    let what = (Actor::Peer(from.clone()), "room.joined", None);
    batch.audit_peer(from, what, welcome.room, detail);
    batch.set_room(welcome.room, Some(after));
    Ok(())
}

/// Of the added devices here those that may be with everyone in the room and have room for the welcome. None at all: a
/// refusal.
async fn allowed_additions(
    batch: &mut Batch<'_>,
    (from, by): (&ServerName, &Member),
    after: &RoomRecord,
    welcome: &RoomWelcome,
    added: &[Member],
) -> Result<Vec<DeviceId>, NotTaken> {
    let bytes = welcome.welcome.len();
    let mut allowed = Vec::with_capacity(added.len());
    let mut refused = Vec::new();
    for member in added {
        match may_be_added(batch, member, by, after).await? {
            Ok(()) => {
                let device = [member.device];
                // Nothing else leads it into the room, and nobody waits for it.
                let room_for = fan_out::room_for(batch, &device, bytes, Class::Handshake);
                match room_for.await?.0.is_empty() {
                    false => allowed.push(member.device),
                    true => refused.push((member.device, fan_out::full_refusal())),
                }
            }
            Err(refusal) => refused.push((member.device, mesh(refusal, from))),
        }
    }
    if allowed.is_empty()
        && let Some((_, refusal)) = refused.pop()
    {
        return Err(refusal.into());
    }
    for (device, refusal) in refused {
        let detail = format!("device {device}: {refusal}");
        let (room, code) = (welcome.room, refusal.code);
        batch.audit_refusal(from, "welcome.refused", room, code, detail);
    }
    Ok(allowed)
}

/// A missing agreement with somebody else than the hub means that the room is no full mesh.
fn mesh(refusal: Refusal, hub: &ServerName) -> Refusal {
    let about_hub = refusal.reason.contains(hub.as_str());
    match refusal.code {
        RefusalCode::NoAgreement if !about_hub => Refusal::new(
            RefusalCode::NotFullMesh,
            format!(
                "not every two organisations in the room are peers: {}",
                refusal.reason
            ),
        ),
        _ => refusal,
    }
}

/// Of `recipients` those whose rules let the message in, and why not the others.
pub(super) async fn allowed_recipients(
    batch: &mut Batch<'_>,
    room: &RoomRecord,
    message: &RoomMessage,
    attributes: &MessageAttributes,
    recipients: Vec<DeviceId>,
) -> Result<(Vec<DeviceId>, Unreached), NotTaken> {
    let own = batch.node.server.clone();
    let mut verdicts: HashMap<AccountId, bool> = HashMap::new();
    let mut allowed = Vec::with_capacity(recipients.len());
    let mut unreached = Unreached::new();
    let here = room
        .members_of(&own)
        .filter(|m| recipients.contains(&m.device));
    for member in here {
        let may = match verdicts.entry(member.account) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(new) => {
                let verdict = may_receive(batch, member, message, attributes).await?;
                let may = *new.insert(verdict.is_ok());
                unreached.extend(verdict.err().map(|refusal| (own.clone(), refusal)));
                may
            }
        };
        if may {
            allowed.push(member.device);
        }
    }
    // All are refused: the caller refuses the message, and its refusal is audited. Some are: here.
    if !allowed.is_empty() {
        for (_, refusal) in &unreached {
            let (sender, code) = (&message.sender, refusal.code);
            let (action, detail) = ("message.refused", refusal.to_string());
            if sender.server == own {
                let actor = Actor::Device(sender.device);
                batch.audit(actor, action, message.room, detail);
            } else {
                batch.audit_refusal(&sender.server, action, message.room, code, detail);
            }
        }
    }
    Ok((allowed, unreached))
}

/// What a sender is told when nobody is left to get a message.
pub(super) fn gone_refusal() -> Refusal {
    Refusal::new(
        RefusalCode::RecipientGone,
        "the recipient's device or account is gone: remove it from the room",
    )
}

async fn may_receive(
    batch: &mut Batch<'_>,
    recipient: &Member,
    message: &RoomMessage,
    attributes: &MessageAttributes,
) -> Result<Result<(), Refusal>, StoreError> {
    let is_colleague = message.sender.server == batch.node.server;
    let Some(account) = batch.account(recipient.account).await? else {
        // A colleague's device learns of those who are gone by the removals that take them out.
        return Ok(if is_colleague {
            Ok(())
        } else {
            Err(gone_refusal())
        });
    };
    if is_colleague {
        let pair = (message.sender.account, recipient.account);
        let may = colleagues::may(batch, pair, Contact::Message).await?;
        if may.is_err() {
            return Ok(may);
        }
    }
    let links = batch.links([&message.sender.server]);
    let mut party = account.party();
    // Mail for a suspended account waits for it, and expires by its TTL.
    party.suspended = false;
    let rules = Rules {
        party,
        links: &policy_links(&links),
        now_ms: batch.now_ms,
    };
    Ok(policy::evaluate(&rules, &Input::Receive(*attributes)).into_result())
}

pub(super) fn deliver_to(
    batch: &mut Batch<'_>,
    message: &RoomMessage,
    devices: &[DeviceId],
) -> Result<(), NotTaken> {
    let (room, accepted_ms) = (message.room, message.accepted_ms);
    fan_out::deliver(
        batch,
        devices,
        &message.message,
        message.expires_ms,
        |content| InboxBody::Message {
            room,
            accepted_ms,
            content,
        },
    )
}

/// Delivers a commit to every device here that was in the room before it, removed ones too: they
/// learn by it that they are out. Those without room for it are told that the room goes on without them.
pub(super) async fn deliver_commit(
    batch: &mut Batch<'_>,
    commit: &RoomCommit,
    before: &RoomRecord,
    after: &mut RoomRecord,
) -> Result<(), NotTaken> {
    let devices = before.devices_of(&batch.node.server, None);
    let bytes = commit.commit.len();
    let devices = step::keep_up(batch, commit.room, after, &devices, bytes).await?;
    let (room, epoch, stamp_ms) = (commit.room, commit.epoch, after.stamp_ms);
    let expires_ms = stamp_ms
        .max(batch.now_ms)
        .saturating_add(INBOX_CONTROL_TTL_MS);
    fan_out::deliver(batch, &devices, &commit.commit, expires_ms, |content| {
        InboxBody::Commit {
            room,
            epoch,
            accepted_ms: stamp_ms,
            content,
        }
    })
}

pub(super) async fn deliver_welcome(
    batch: &mut Batch<'_>,
    added: &Added<'_>,
    recipients: &[DeviceId],
) -> Result<(), NotTaken> {
    let devices = existing(batch, recipients).await?;
    let expires_ms = added
        .stamp_ms
        .max(batch.now_ms)
        .saturating_add(INBOX_CONTROL_TTL_MS);
    fan_out::deliver(batch, &devices, added.welcome, expires_ms, |content| {
        InboxBody::Welcome {
            room: added.room,
            hub: added.hub.clone(),
            accepted_ms: added.stamp_ms,
            content,
        }
    })
}

async fn existing(batch: &Batch<'_>, devices: &[DeviceId]) -> Result<Vec<DeviceId>, StoreError> {
    let mut found = Vec::with_capacity(devices.len());
    for device in devices {
        if batch.account_of(*device).await?.is_some() {
            found.push(*device);
        }
    }
    Ok(found)
}

/// The room, when `from` is its hub.
pub(super) async fn followed_room(
    batch: &mut Batch<'_>,
    from: &ServerName,
    id: RoomId,
) -> Result<Arc<RoomRecord>, NotTaken> {
    match batch.room(id).await? {
        Some(room) if room.hub == *from => Ok(room),
        Some(_) | None => Err(unknown_room()),
    }
}

/// Holds an own device's commit against what this follower knows, before it travels to the hub.
pub async fn check_proposal(batch: &mut Batch<'_>, commit: &RoomCommit) -> Result<(), NotTaken> {
    let room = followed_room(batch, &commit.hub, commit.room).await?;
    if !room.may_act(&commit.sender) {
        return Err(unknown_room());
    }
    if commit.epoch != room.epoch {
        return Err(wrong_epoch(&room));
    }
    // Devices here that the hub lists and this homeserver has kept out may be removed too.
    let own = batch.node.server.clone();
    check_commit(commit, &room, Some(&own))?;
    check_group_info(commit)?;
    step::may_hear(batch, &commit.sender, commit.commit.len()).await?;
    check_invite(batch, commit).await?;
    for added in commit.adds.iter().filter(|member| member.server == own) {
        colleagues::may_be_added(batch, added, &commit.sender, &room).await??;
    }
    pace::of_device(batch, commit)
}
