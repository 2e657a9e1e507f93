//! From one message or handshake to the inboxes of the devices here.

use federation_proto::ids::DeviceId;
use federation_proto::refusal::{Refusal, RefusalCode};

use super::batch::{Batch, NotTaken};
use super::inbox;
use super::limits::{INBOX_BYTES_MAX, INBOX_HANDSHAKE_FACTOR, INBOX_ITEMS_MAX};
use crate::ciphertext::Ciphertext;
use crate::store::StoreError;
use crate::store::expiry::{self, Place};
use crate::store::inbox::{Content, InboxBody};
use crate::store::payload::{self, PayloadId};

/// What is fanned out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Refused by a full inbox.
    Message,
    /// Let in beyond that, up to [`INBOX_HANDSHAKE_FACTOR`] times.
    Handshake,
}

/// Of `devices` those that exist and have room for `bytes` more; and how many are full.
pub async fn room_for(
    batch: &mut Batch<'_>,
    devices: &[DeviceId],
    bytes: usize,
    class: Class,
) -> Result<(Vec<DeviceId>, usize), StoreError> {
    let factor = match class {
        Class::Message => 1,
        Class::Handshake => INBOX_HANDSHAKE_FACTOR,
    };
    let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
    let mut ready = Vec::with_capacity(devices.len());
    let mut full = 0;
    for device in devices {
        if batch.account_of(*device).await?.is_none() {
            continue;
        }
        let fill = batch.fill(*device).await?;
        let fits = fill.items < INBOX_ITEMS_MAX.saturating_mul(factor)
            && fill.bytes.saturating_add(bytes) <= INBOX_BYTES_MAX.saturating_mul(factor);
        if fits {
            ready.push(*device);
        } else {
            full += 1;
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
