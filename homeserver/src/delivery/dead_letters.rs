//! What is given up: noted, audited, and its sender told, in the part that takes it out of the
//! outbox.

use federation_proto::codec::{Reader, Wire};
use federation_proto::envelope::{Header, Kind, Lane};
use federation_proto::ids::{DeviceId, RoomId, ServerName};
use federation_proto::payload::{About, Message, Notice, Payload};
use federation_proto::refusal::{Refusal, RefusalCode};

use super::batch::{Batch, NotTaken, Times};
use super::inbox;
use crate::audit::Actor;
use crate::store::StoreError;
use crate::store::dead_letters::{self, DeadLetterRecord};
use crate::store::inbox::InboxBody;
use crate::store::outbox::{OutboxRow, SenderRef};

/// Gives up an envelope that waited for `destination`. The caller takes it out of the outbox, in the
/// same part.
pub async fn give_up(
    batch: &mut Batch<'_>,
    destination: &ServerName,
    lane: Lane,
    row: &OutboxRow,
    refusal: &Refusal,
) -> Result<(), StoreError> {
    if row.kind == Kind::Tombstone {
        // It stands for something that was given up before.
        return Ok(());
    }
    // Two commits at once are nothing out of the ordinary: the loser tries again.
    let lost_a_race = row.kind == Kind::Handshake && refusal.code == RefusalCode::WrongEpoch;
    if !(lost_a_race && row.sender.is_some()) {
        let device = row.sender.as_ref().map(|sender| sender.device);
        note(batch, destination, lane.room(), device, refusal)?;
    }
    match &row.sender {
        Some(sender) => tell_device(batch, destination, row, sender, refusal).await,
        None => tell_origin(batch, destination, row, refusal),
    }
}

fn note(
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
    batch.audit(
        Actor::System,
        "envelope.given-up",
        destination,
        refusal.to_string(),
    );
    Ok(())
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
        Kind::KeyRequest => match Payload::decode(row.kind, row.payload.clone()) {
            Ok(Payload::KeyRequest(request)) => InboxBody::KeyMaterial {
                request: request.request,
                result: Err(refusal.clone()),
            },
            Ok(_) | Err(_) => return Ok(()),
        },
        Kind::Handshake => InboxBody::CommitRefused {
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

/// Tells the server whose envelope this homeserver, as the room's hub, could not pass on.
fn tell_origin(
    batch: &mut Batch<'_>,
    destination: &ServerName,
    row: &OutboxRow,
    refusal: &Refusal,
) -> Result<(), StoreError> {
    let Some((origin, message)) = relayed(row) else {
        return Ok(());
    };
    let notice = Payload::Notice(Notice {
        room: message.room,
        about: About::Message,
        device: message.sender.device,
        reference: message.reference,
        server: destination.clone(),
        refusal: refusal.clone(),
    });
    let times = Times {
        accepted_ms: batch.now_ms,
        expires_ms: 0,
    };
    match batch.send(&origin, Some(message.room), &notice, times, None) {
        Ok(()) | Err(NotTaken::Refused(_)) => Ok(()),
        Err(NotTaken::Store(error)) => Err(error),
    }
}

/// The message inside a relayed envelope, and whose it is. It was verified when it was received.
fn relayed(row: &OutboxRow) -> Option<(ServerName, Message)> {
    let Ok(Payload::Relay(relay)) = Payload::decode(row.kind, row.payload.clone()) else {
        return None;
    };
    let mut reader = Reader::new(relay.envelope.clone());
    let header = Header::read(&mut reader).ok()?;
    let start = relay.envelope.len().checked_sub(reader.remaining())?;
    match Payload::decode(header.kind, relay.envelope.slice(start..)) {
        Ok(Payload::Message(message)) => Some((header.origin, message)),
        Ok(_) | Err(_) => None,
    }
}
