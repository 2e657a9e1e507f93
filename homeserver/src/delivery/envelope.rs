//! What one envelope of a peer does here.
//!
//! A peer speaks for its own people only: whatever names another server's is refused. Times can only
//! be shortened: a message lives no longer than its attributes say, counted from the earlier of its
//! origin's clock and ours.

use federation_proto::codec::{Reader, Wire};
use federation_proto::envelope::{Header, Lane};
use federation_proto::ids::{DeviceId, Member, RoomId, ServerName};
use federation_proto::keys::KeyId;
use federation_proto::link::latest_link_epoch;
use federation_proto::payload::{
    About, Handshake, Message, Notice, Payload, Relay, RemovalRequest, Sender, Welcome,
};
use federation_proto::refusal::{Refusal, RefusalCode};
use federation_proto::transaction::{VerifiedEnvelope, VerifyError, may_be_relayed};
use homeserver_api::admin::Operation;

use super::batch::{Batch, NotTaken, Times};
use super::contacts;
use super::dead_letters::said_by;
use super::directory;
use super::fan_out::{self, Class};
use super::limits::UNKNOWN_KEY_RETRY_MS;
use super::{audit_heads, group_info, inbox, keys, log_heads, reports, room_consents};
use crate::audit::Actor;
use crate::policy::{Direction, told_abroad};
use crate::rooms::follower::{self, RoomWelcome};
use crate::rooms::leaving::{self, Leaver};
use crate::rooms::{RoomCommit, RoomMessage, Unreached, hub, mls_framing};
use crate::store::inbox::InboxBody;
use crate::store::relayed::Last;

/// How far two servers' clocks may lie apart.
const CLOCK_TOLERANCE_MS: u64 = 5 * 60 * 1000;
/// How far ahead of the clock here a hub's stamp is handed on as it is. A clock that is wrong by more would keep the
/// stamps of its rooms there, which never go back.
const HUB_STAMP_AHEAD_MS_MAX: u64 = 24 * 60 * 60 * 1000;

/// Writes the effect of an envelope that `peer` has signed, or says why it has none.
pub(super) async fn apply(
    batch: &mut Batch<'_>,
    peer: &ServerName,
    envelope: &VerifiedEnvelope,
) -> Result<(), NotTaken> {
    let header = envelope.header();
    if header.expires_ms != 0 && header.expires_ms <= batch.now_ms {
        return Err(expired());
    }
    let payload = Payload::decode(header.kind, envelope.payload())
        .map_err(|error| NotTaken::refused(RefusalCode::Malformed, error.to_string()))?;
    let lane_fits = match &payload {
        // It stands in the lane of what it stands for.
        Payload::Tombstone(_) => true,
        payload => header.lane.room() == room_of(payload),
    };
    if !lane_fits {
        return Err(malformed("the payload is of another room than its lane"));
    }
    match payload {
        Payload::Message(message) => take_message(batch, peer, envelope, &message).await,
        Payload::Handshake(handshake) => take_handshake(batch, peer, handshake).await,
        Payload::Welcome(welcome) => take_welcome(batch, peer, welcome).await,
        Payload::Relay(relay) => take_relay(batch, peer, &relay).await,
        Payload::KeyRequest(request) => keys::take_request(batch, peer, &request).await,
        Payload::KeyResponse(response) => keys::take_response(batch, peer, response).await,
        Payload::Notice(notice) => take_notice(batch, peer, notice).await,
        Payload::Tombstone(_) => Ok(()),
        Payload::DirectoryQuery(query) => directory::take_query(batch, peer, &query).await,
        Payload::DirectoryAnswer(answer) => directory::take_answer(batch, peer, answer).await,
        Payload::AbuseReport(report) => reports::receive(batch, peer, report).await,
        Payload::GroupInfoRequest(request) => group_info::take_request(batch, peer, &request).await,
        Payload::GroupInfo(response) => group_info::take_response(batch, peer, response).await,
        Payload::RoomConsentRequest(asked) => room_consents::take_request(batch, peer, asked).await,
        Payload::RoomConsent(response) => room_consents::take_response(batch, peer, response).await,
        Payload::LogHead(said) => log_heads::take(batch, peer, said).await,
        Payload::AuditHead(said) => audit_heads::take(batch, peer, said).await,
        Payload::AuditSighting(seen) => audit_heads::take_sighting(batch, peer, &seen).await,
        Payload::Contact(said) => contacts::take(batch, peer, &said, header.expires_ms).await,
        Payload::RemovalRequest(request) => take_removal_request(batch, peer, &request).await,
        Payload::Removals(removals) => {
            let stamp_ms = hub_stamp(batch, peer, removals.room, removals.stamp_ms);
            leaving::apply(batch, peer, removals, stamp_ms).await
        }
    }
}

/// The room whose lane the payload belongs in; what has none belongs in the control lane.
fn room_of(payload: &Payload) -> Option<RoomId> {
    match payload {
        Payload::Message(message) => Some(message.room),
        Payload::Handshake(handshake) => Some(handshake.room),
        Payload::Welcome(welcome) => Some(welcome.room),
        Payload::Relay(relay) => relayed_header(relay).and_then(|header| header.lane.room()),
        Payload::Notice(notice) => Some(notice.room),
        Payload::GroupInfoRequest(request) => Some(request.room),
        Payload::GroupInfo(response) => Some(response.room),
        Payload::RemovalRequest(request) => Some(request.room),
        Payload::Removals(removals) => Some(removals.room),
        Payload::KeyRequest(_)
        | Payload::KeyResponse(_)
        | Payload::Tombstone(_)
        | Payload::RoomConsentRequest(_)
        | Payload::RoomConsent(_)
        | Payload::DirectoryQuery(_)
        | Payload::DirectoryAnswer(_)
        | Payload::AbuseReport(_)
        | Payload::Contact(_)
        | Payload::LogHead(_)
        | Payload::AuditHead(_)
        | Payload::AuditSighting(_) => None,
    }
}

async fn take_message(
    batch: &mut Batch<'_>,
    peer: &ServerName,
    envelope: &VerifiedEnvelope,
    message: &Message,
) -> Result<(), NotTaken> {
    granted(batch, peer, Operation::Message)?;
    let room_message = room_message(batch.now_ms, peer, envelope.header(), message)?;
    let own = batch.node.server.clone();
    let is_hub = batch
        .room(message.room)
        .await?
        .is_some_and(|room| room.hub == own);
    if !is_hub {
        // Members of the hub itself write without a relay.
        let unreached = follower::deliver_message(batch, peer, &room_message).await?;
        return tell_unreached(batch, peer, message, unreached).await;
    }
    let relay = |stamp_ms| Relay {
        stamp_ms,
        proof: envelope.proof(),
        envelope: envelope.bytes().clone(),
    };
    let origin = hub::Origin::Follower(&relay);
    let unreached = hub::order_message(batch, &room_message, origin).await?;
    tell_unreached(batch, peer, message, unreached).await
}

/// Tells the sender's server, or the sender itself, whom its message, accepted here, can't reach.
async fn tell_unreached(
    batch: &mut Batch<'_>,
    peer: &ServerName,
    message: &Message,
    unreached: Unreached,
) -> Result<(), NotTaken> {
    for (server, refusal) in unreached {
        if *peer == batch.node.server {
            // The hub has sent our own member's message back to the others here.
            let body = InboxBody::Returned {
                room: message.room,
                counter: message.reference,
                server,
                refusal,
            };
            inbox::append(batch, message.sender.device, body).await?;
            continue;
        }
        let notice = Payload::Notice(Notice {
            room: message.room,
            about: About::Message,
            device: message.sender.device,
            reference: message.reference,
            server,
            refusal: told_abroad(refusal),
        });
        let times = Times {
            accepted_ms: batch.now_ms,
            expires_ms: 0,
        };
        batch
            .send(peer, Some(message.room), &notice, times, None)
            .await?;
    }
    Ok(())
}

async fn take_relay(
    batch: &mut Batch<'_>,
    peer: &ServerName,
    relay: &Relay,
) -> Result<(), NotTaken> {
    granted(batch, peer, Operation::Message)?;
    let header = relayed_header(relay).ok_or_else(|| malformed("the relayed envelope"))?;
    if !may_be_relayed(header.kind) {
        return Err(malformed("only members' messages are relayed"));
    }
    let latest = batch.now_ms.saturating_add(CLOCK_TOLERANCE_MS);
    let earliest = header.created_ms.saturating_sub(CLOCK_TOLERANCE_MS);
    if !(earliest..=latest).contains(&relay.stamp_ms) {
        return Err(malformed(
            "the hub's stamp is out of range: check its clock",
        ));
    }
    let origin = header.origin;
    let manifest = if origin == batch.node.server {
        batch.node.keys.manifest()
    } else {
        let view = batch.peer(&origin).ok_or_else(|| {
            NotTaken::refused(
                RefusalCode::NotFullMesh,
                format!("there is no agreement with {origin}, whose member wrote this"),
            )
        })?;
        view.judge(Direction::Inbound, Operation::Message, None, batch.now_ms)?;
        view.manifest.clone().ok_or_else(|| {
            NotTaken::refused(
                RefusalCode::NotFullMesh,
                format!("the agreement with {origin} is not complete"),
            )
        })?
    };
    let verdict = relay.proof.verify(
        relay.envelope.clone(),
        &manifest,
        &origin,
        peer,
        relay.stamp_ms,
    );
    let inner = match verdict {
        Ok(inner) => inner,
        // Perhaps the origin has changed its keys, and we have not heard of it yet.
        Err(VerifyError::UnknownKey(key) | VerifyError::KeyNotValid(key))
            if origin != batch.node.server && await_key(batch, &origin, key, peer, header.lane) =>
        {
            return Err(NotTaken::Deferred {
                code: RefusalCode::UnknownKey,
                retry_after_ms: UNKNOWN_KEY_RETRY_MS,
            });
        }
        Err(error) => return Err(malformed(format!("the relayed envelope: {error}"))),
    };
    let Payload::Message(message) = Payload::decode(inner.header().kind, inner.payload())
        .map_err(|error| malformed(format!("the relayed message: {error}")))?
    else {
        return Err(malformed("only members' messages are relayed"));
    };
    if inner.header().lane.room() != Some(message.room) {
        return Err(malformed(
            "the relayed message is of another room than its lane",
        ));
    }
    let place = Last {
        link_epoch: inner.header().link_epoch,
        sequence: inner.header().sequence,
    };
    let last = batch.relayed(message.room, &origin).await?;
    let goes_on = last.is_some_and(|last| last.link_epoch == place.link_epoch);
    // It would keep the origin's own from passing until then (LINK-025): an honest hub has not begun it.
    if !goes_on && place.link_epoch > latest_link_epoch(relay.stamp_ms) {
        return Err(malformed(
            "the relayed envelope's link epoch lies ahead of the hub's stamp",
        ));
    }
    if last.is_some_and(|last| place <= last) {
        return Err(malformed("the message has been relayed before"));
    }
    let room_message = room_message(batch.now_ms, &origin, inner.header(), &message)?;
    let unreached = follower::deliver_message(batch, peer, &room_message).await?;
    batch.set_relayed(message.room, &origin, place);
    tell_unreached(batch, &origin, &message, unreached).await
}

/// Asks for a newer manifest of `origin`, of the room's hub too: whether that is worth waiting for.
fn await_key(
    batch: &Batch<'_>,
    origin: &ServerName,
    key: KeyId,
    hub: &ServerName,
    lane: Lane,
) -> bool {
    let links = &batch.node.links;
    if let Some(room) = lane.room() {
        links.ask_hub_too(origin, hub, room);
    }
    links.await_key(origin, key, batch.now_ms)
}

async fn take_handshake(
    batch: &mut Batch<'_>,
    peer: &ServerName,
    handshake: Handshake,
) -> Result<(), NotTaken> {
    let (room, said_ms) = (handshake.room, handshake.stamp_ms);
    let commit = RoomCommit {
        room: handshake.room,
        hub: handshake.hub,
        epoch: handshake.epoch,
        sender: handshake.sender,
        commit: handshake.commit.into(),
        adds: handshake.adds,
        removes: handshake.removes,
        welcome: handshake.welcome.map(Into::into),
        group_info: handshake.group_info,
        // A room begins at its hub.
        founding: None,
        counter: handshake.reference,
    };
    if commit.hub == *peer {
        let stamp_ms = hub_stamp(batch, peer, room, said_ms);
        return follower::apply_commit(batch, peer, &commit, stamp_ms).await;
    }
    if commit.sender.server != *peer {
        return Err(malformed(
            "a server proposes commits of its own people only",
        ));
    }
    hub::order_commit(batch, &commit, false).await
}

async fn take_removal_request(
    batch: &mut Batch<'_>,
    peer: &ServerName,
    request: &RemovalRequest,
) -> Result<(), NotTaken> {
    // Its own people alone: the server is the envelope's origin. No agreement's scope keeps anybody in a room.
    let leaver = Leaver {
        server: peer,
        account: request.account,
        device: request.device,
    };
    if !leaving::order(batch, request.room, &leaver).await? {
        // The answer says nothing of it, but it costs as much as one that refuses.
        let (code, detail) = (RefusalCode::UnknownRoom, "nobody who is there was meant");
        batch.audit_refusal(peer, "room.nobody-removed", request.room, code, detail);
        batch.note_refused_answer();
    }
    Ok(())
}

/// The stamp that devices judge by what a hub has ordered: the hub's own, so that all members judge alike wherever they
/// are. That its clock is ahead of ours is noted.
fn hub_stamp(batch: &mut Batch<'_>, hub: &ServerName, room: RoomId, stamp_ms: u64) -> u64 {
    let ahead_ms = stamp_ms.saturating_sub(batch.now_ms);
    if ahead_ms > CLOCK_TOLERANCE_MS {
        let detail = format!(
            "the clock of {hub} is {} seconds ahead of ours: see which of the two is wrong",
            ahead_ms / 1000
        );
        let what = (Actor::Peer(hub.clone()), "room.clock-ahead", None);
        batch.audit_peer(hub, what, room, detail);
    }
    stamp_ms.min(batch.now_ms.saturating_add(HUB_STAMP_AHEAD_MS_MAX))
}

async fn take_welcome(
    batch: &mut Batch<'_>,
    peer: &ServerName,
    welcome: Welcome,
) -> Result<(), NotTaken> {
    let stamp_ms = hub_stamp(batch, peer, welcome.room, welcome.stamp_ms);
    let welcome = RoomWelcome {
        room: welcome.room,
        hub: welcome.hub,
        epoch: welcome.epoch,
        sender: welcome.sender,
        members: welcome.members,
        recipients: welcome.recipients,
        welcome: welcome.welcome.into(),
        stamp_ms,
    };
    follower::apply_welcome(batch, peer, &welcome).await
}

pub(super) fn not_asked() -> NotTaken {
    malformed("nobody here waits for an answer to this request")
}

/// As [`inbox::append`], as far as the inbox has room for the whole item: answers and notices must not fill it without
/// end.
pub(super) async fn append_if_room(
    batch: &mut Batch<'_>,
    device: DeviceId,
    body: InboxBody,
) -> Result<(), NotTaken> {
    let bytes = inbox::appended_bytes(batch, &body)?;
    let (_, full) = fan_out::room_for(batch, &[device], bytes, Class::Handshake).await?;
    if !full.is_empty() {
        return Err(fan_out::full_refusal().into());
    }
    Ok(inbox::append(batch, device, body).await?)
}

/// What was accepted by the room's hub, or by its follower, and then refused further on.
async fn take_notice(
    batch: &mut Batch<'_>,
    peer: &ServerName,
    notice: Notice,
) -> Result<(), NotTaken> {
    let own = batch.node.server.clone();
    let concerns = batch.room(notice.room).await?.is_some_and(|room| {
        let may_say = match notice.about {
            // Only the hub takes commits.
            About::Handshake => room.hub == *peer,
            // A server speaks for itself, the hub for all behind it.
            About::Message => notice.server == *peer || room.hub == *peer,
        };
        may_say
            && room.members_of(peer).next().is_some()
            && room.devices_of(&own, None).contains(&notice.device)
    });
    if !concerns {
        return Err(NotTaken::refused(
            RefusalCode::UnknownRoom,
            "there is no such room with both of us in it",
        ));
    }
    // The hub's words too, when it speaks for one behind it: nobody else vouches for them.
    let refusal = said_by(peer, &notice.refusal);
    let body = match notice.about {
        About::Message => InboxBody::Returned {
            room: notice.room,
            counter: notice.reference,
            server: notice.server,
            refusal,
        },
        About::Handshake => InboxBody::CommitRefused {
            room: notice.room,
            counter: notice.reference,
            refusal,
        },
    };
    append_if_room(batch, notice.device, body).await
}

/// The agreement lets the peer's people do this to ours.
pub(super) fn granted(
    batch: &mut Batch<'_>,
    peer: &ServerName,
    operation: Operation,
) -> Result<(), Refusal> {
    let view = batch
        .peer(peer)
        .ok_or_else(|| Refusal::new(RefusalCode::NoAgreement, "there is no agreement with you"))?;
    view.judge(Direction::Inbound, operation, None, batch.now_ms)
}

fn room_message(
    now_ms: u64,
    origin: &ServerName,
    header: &Header,
    message: &Message,
) -> Result<RoomMessage, NotTaken> {
    let frame = mls_framing::application(&message.message).map_err(malformed)?;
    let ttl_ms = u64::from(frame.attributes.ttl_seconds).saturating_mul(1000);
    let accepted_ms = header.created_ms.min(now_ms);
    let expires_ms = match header.expires_ms {
        0 => u64::MAX,
        stated_ms => stated_ms,
    };
    let expires_ms = expires_ms.min(accepted_ms.saturating_add(ttl_ms));
    if expires_ms <= now_ms {
        return Err(expired());
    }
    let Sender { account, device } = message.sender;
    Ok(RoomMessage {
        room: message.room,
        sender: Member {
            server: origin.clone(),
            account,
            device,
        },
        message: message.message.clone().into(),
        accepted_ms,
        expires_ms,
    })
}

fn expired() -> NotTaken {
    NotTaken::refused(
        RefusalCode::Expired,
        "its time-to-live had run out when it arrived",
    )
}

fn relayed_header(relay: &Relay) -> Option<Header> {
    Header::read(&mut Reader::new(relay.envelope.clone())).ok()
}

/// The member's message that a relay holds, as this server has verified it before.
pub(super) fn relayed_message(relay: &Relay) -> Option<Message> {
    let mut reader = Reader::new(relay.envelope.clone());
    let header = Header::read(&mut reader).ok()?;
    let payload = reader.take("payload", reader.remaining()).ok()?;
    match Payload::decode(header.kind, payload).ok()? {
        Payload::Message(message) => Some(message),
        _ => None,
    }
}

pub(super) fn malformed(problem: impl std::fmt::Display) -> NotTaken {
    NotTaken::refused(RefusalCode::Malformed, problem.to_string())
}
