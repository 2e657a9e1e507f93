//! What is given up: noted, audited, and its sender told, in the part that takes it out of the
//! outbox.

use federation_proto::codec::{Reader, Wire};
use federation_proto::envelope::{Header, Kind, Lane};
use federation_proto::ids::{DeviceId, RoomId, ServerName};
use federation_proto::payload::{About, Notice, Payload};
use federation_proto::refusal::{Refusal, RefusalCode};

use super::batch::{Batch, NotTaken, Times};
use super::{contacts, directory, inbox, reports};
use crate::audit::Actor;
use crate::store::StoreError;
use crate::store::dead_letters::{self, DeadLetterRecord};
use crate::store::inbox::InboxBody;
use crate::store::key_request;
use crate::store::outbox::{OriginRef, OutboxRow, SenderRef};

/// Why an envelope is given up, and whose words that is.
#[derive(Debug, Clone, Copy)]
pub enum Why<'r> {
    /// This homeserver's.
    Ours(&'r Refusal),
    /// Those of the server that it was for.
    Theirs(&'r Refusal),
}

/// Gives up an envelope that waited for `destination`. The caller takes it out of the outbox, in the
/// same part.
pub async fn give_up(
    batch: &mut Batch<'_>,
    destination: &ServerName,
    lane: Lane,
    row: &OutboxRow,
    why: Why<'_>,
) -> Result<(), StoreError> {
    if row.kind == Kind::Tombstone {
        // It stands for something that was given up before.
        return Ok(());
    }
    // Two commits at once are nothing out of the ordinary: the loser tries again. So does whose room changes too fast.
    let (refusal, told) = match why {
        Why::Ours(refusal) => (refusal, refusal.clone()),
        Why::Theirs(refusal) => (refusal, said_by(destination, refusal)),
    };
    let lost_a_race = row.kind == Kind::Handshake
        && matches!(
            refusal.code,
            RefusalCode::WrongEpoch | RefusalCode::PendingRemoves | RefusalCode::RateLimited
        )
        && is_proposal(destination, row);
    if !lost_a_race {
        match &row.sender {
            Some(sender) => {
                let device = Some(sender.device);
                note(batch, destination, lane.room(), device, &told)?;
            }
            // An answer, or what another server's people wrote: others make as many of them as they like.
            None => {
                let (part, now_ms) = (&mut batch.part, batch.now_ms);
                dead_letters::count(part, destination, refusal.code, now_ms);
                audit(batch, destination, &told);
            }
        }
    }
    match &row.sender {
        Some(sender) => tell_device(batch, destination, row, sender, &told).await,
        // As it was said: there it is told as our words.
        None => tell_origin(batch, destination, row, refusal).await,
    }
}

/// What another server says, told as its words: people must not take them for their own server's.
pub fn said_by(server: &ServerName, refusal: &Refusal) -> Refusal {
    Refusal::new(refusal.code, format!("{server} says: {:?}", refusal.reason))
}

/// Records that something was given up, by itself.
pub fn note(
    batch: &mut Batch<'_>,
    destination: &ServerName,
    room: Option<RoomId>,
    device: Option<DeviceId>,
    refusal: &Refusal,
) -> Result<(), StoreError> {
    let record = DeadLetterRecord {
        at_ms: batch.now_ms,
        server: destination.clone(),
        room,
        device,
        code: refusal.code.number(),
        reason: refusal.reason.clone(),
    };
    dead_letters::append(&mut batch.part, &record)?;
    audit(batch, destination, refusal);
    Ok(())
}

/// Not each of many: what people here lost is among the dead letters.
fn audit(batch: &mut Batch<'_>, destination: &ServerName, refusal: &Refusal) {
    let what = (Actor::System, "envelope.given-up", Some(refusal.code));
    batch.audit_peer(destination, what, destination, refusal.to_string());
}

/// Tells the device of this homeserver that had sent it.
async fn tell_device(
    batch: &mut Batch<'_>,
    destination: &ServerName,
    row: &OutboxRow,
    sender: &SenderRef,
    refusal: &Refusal,
) -> Result<(), StoreError> {
    let body = match row.kind {
        Kind::KeyRequest | Kind::GroupInfoRequest | Kind::RoomConsentRequest => {
            let (request, body) = match Payload::decode(row.kind, row.payload.clone()) {
                Ok(Payload::KeyRequest(asked)) => (
                    asked.request,
                    InboxBody::KeyMaterial {
                        request: asked.request,
                        result: Err(refusal.clone()),
                    },
                ),
                Ok(Payload::GroupInfoRequest(asked)) => (
                    asked.request,
                    InboxBody::GroupInfo {
                        request: asked.request,
                        room: asked.room,
                        result: Err(refusal.clone()),
                    },
                ),
                Ok(Payload::RoomConsentRequest(asked)) => (
                    asked.request,
                    InboxBody::RoomConsent {
                        request: asked.request,
                        room: asked.room,
                        result: Err(refusal.clone()),
                    },
                ),
                Ok(_) | Err(_) => return Ok(()),
            };
            let found = key_request::get(&batch.node.store, sender.device, request).await?;
            if let Some((_, read)) = found {
                key_request::take(&mut batch.part, sender.device, request, read);
            }
            body
        }
        Kind::DirectoryQuery => match Payload::decode(row.kind, row.payload.clone()) {
            Ok(Payload::DirectoryQuery(query)) => {
                directory::given_up(batch, sender.device, &query, refusal).await?
            }
            Ok(_) | Err(_) => return Ok(()),
        },
        Kind::AbuseReport => match Payload::decode(row.kind, row.payload.clone()) {
            Ok(Payload::AbuseReport(report)) => {
                let place = (sender.room, destination);
                reports::given_up(batch, place, &report, refusal).await?
            }
            Ok(_) | Err(_) => return Ok(()),
        },
        Kind::Contact => match Payload::decode(row.kind, row.payload.clone()) {
            Ok(Payload::Contact(said)) => {
                return contacts::undelivered(batch, sender, destination, &said, refusal).await;
            }
            Ok(_) | Err(_) => return Ok(()),
        },
        Kind::Handshake if is_proposal(destination, row) => InboxBody::CommitRefused {
            room: sender.room,
            counter: sender.counter,
            refusal: refusal.clone(),
        },
        _ => InboxBody::Returned {
            room: sender.room,
            counter: sender.counter,
            server: destination.clone(),
            refusal: refusal.clone(),
        },
    };
    inbox::append(batch, sender.device, body).await
}

/// Tells the server whose message or commit this homeserver, as the room's hub, could not pass on.
async fn tell_origin(
    batch: &mut Batch<'_>,
    destination: &ServerName,
    row: &OutboxRow,
    refusal: &Refusal,
) -> Result<(), StoreError> {
    let Some(origin) = row.origin.clone().or_else(|| relayed(row)) else {
        return Ok(());
    };
    let notice = Payload::Notice(Notice {
        room: origin.room,
        // A commit that was ordered stands, whoever could not be reached.
        about: About::Message,
        device: origin.device,
        reference: origin.reference,
        server: destination.clone(),
        refusal: refusal.clone(),
    });
    let times = Times {
        accepted_ms: batch.now_ms,
        expires_ms: 0,
    };
    let room = Some(origin.room);
    let why = match batch.send(&origin.server, room, &notice, times, None).await {
        Ok(()) => return Ok(()),
        Err(NotTaken::Refused(why)) => why.to_string(),
        Err(NotTaken::Deferred { .. }) => "what waits for it is as much as it lets wait".to_owned(),
        Err(NotTaken::Store(error)) => return Err(error),
    };
    // The sender there will not hear of it from us: at least an administrator can.
    let what = (Actor::System, "notice.given-up", Some(refusal.code));
    batch.audit_peer(&origin.server, what, &origin.server, why);
    Ok(())
}

/// Whether the row is a commit that its destination has yet to order.
fn is_proposal(destination: &ServerName, row: &OutboxRow) -> bool {
    let payload = Payload::decode(row.kind, row.payload.clone());
    matches!(payload, Ok(Payload::Handshake(commit)) if commit.hub == *destination)
}

/// Whose message is inside a relayed envelope. It was verified when it was received.
fn relayed(row: &OutboxRow) -> Option<OriginRef> {
    let Ok(Payload::Relay(relay)) = Payload::decode(row.kind, row.payload.clone()) else {
        return None;
    };
    let mut reader = Reader::new(relay.envelope.clone());
    let header = Header::read(&mut reader).ok()?;
    let start = relay.envelope.len().checked_sub(reader.remaining())?;
    match Payload::decode(header.kind, relay.envelope.slice(start..)) {
        Ok(Payload::Message(message)) => Some(OriginRef {
            server: header.origin,
            device: message.sender.device,
            room: message.room,
            reference: message.reference,
        }),
        Ok(_) | Err(_) => None,
    }
}
