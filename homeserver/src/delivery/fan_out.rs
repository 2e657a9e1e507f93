//! From one message or handshake to the inboxes of the devices here.

use federation_proto::ids::DeviceId;
use federation_proto::refusal::{Refusal, RefusalCode};

use super::batch::{Batch, NotTaken};
use super::inbox;
use super::limits::{INBOX_HANDSHAKE_FACTOR, INBOX_HANDSHAKE_SHARE, INBOX_SHARE};
pub use super::mailboxes::Class;
use super::mailboxes::{Count, Fill};
use crate::ciphertext::Ciphertext;
use crate::store::StoreError;
use crate::store::expiry::{self, Place};
use crate::store::inbox::{Content, InboxBody};
use crate::store::payload::{self, PayloadId};

/// Of `devices` those that exist and have room for `bytes` more of this class from whoever brings it; and those that
/// have none, in their order. One peer fills a part of an inbox only, so that what others send finds room beside it.
pub async fn room_for(
    batch: &mut Batch<'_>,
    devices: &[DeviceId],
    bytes: usize,
    class: Class,
) -> Result<(Vec<DeviceId>, Vec<DeviceId>), StoreError> {
    let (factor, share) = match class {
        Class::Message => (1, INBOX_SHARE),
        Class::Handshake => (INBOX_HANDSHAKE_FACTOR, INBOX_HANDSHAKE_SHARE),
    };
    let limits = &batch.node.config.limits;
    let most = Count {
        items: limits.inbox_messages_max.saturating_mul(factor),
        bytes: limits.inbox_bytes_max.saturating_mul(factor),
    };
    let most_of_one = Count {
        items: most.items / share,
        bytes: most.bytes / share,
    };
    let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
    let fits = |count: Count, most: Count| {
        count.items < most.items && count.bytes.saturating_add(bytes) <= most.bytes
    };
    let source = batch.source().cloned();
    let mut ready = Vec::with_capacity(devices.len());
    let mut full = Vec::new();
    for device in devices {
        if batch.account_of(*device).await?.is_none() {
            continue;
        }
        let has_room = |fill: &Fill| {
            let (all, brought) = fill.of(class, source.as_ref());
            fits(all, most) && fits(brought, most_of_one)
        };
        let has_room = has_room(batch.fill(*device).await?)
            || batch.recount(*device).await?.is_some_and(has_room);
        if has_room {
            ready.push(*device);
        } else {
            full.push(*device);
        }
    }
    Ok((ready, full))
}

/// What a sender is told when an inbox is full.
pub fn full_refusal() -> Refusal {
    Refusal::new(
        RefusalCode::Quota,
        "the recipient's inbox is full: send again when the recipient's device has been online",
    )
}

/// Puts one ciphertext into the inboxes of `devices`, which exist: in the one item, or once beside
/// all of them.
pub fn deliver(
    batch: &mut Batch<'_>,
    devices: &[DeviceId],
    ciphertext: &Ciphertext,
    expires_ms: u64,
    body: impl Fn(Content) -> InboxBody,
) -> Result<(), NotTaken> {
    match devices {
        [] => Ok(()),
        [device] => {
            let body = body(Content::Inline(ciphertext.clone()));
            Ok(inbox::put(batch, *device, expires_ms, body)?)
        }
        _ => {
            let id = PayloadId(batch.node.random_id()?);
            let source = batch.source().cloned();
            payload::put(&mut batch.part, id, source.as_ref(), ciphertext.bytes());
            batch.note_brought(ciphertext.len());
            let sweep_ms = expiry::sweep_ms(batch.now_ms, expires_ms);
            expiry::put(&mut batch.part, sweep_ms, Place::Payload(id, source));
            for device in devices {
                payload::wait_for(&mut batch.part, id, *device);
                inbox::put(batch, *device, expires_ms, body(Content::Shared(id)))?;
            }
            Ok(())
        }
    }
}
