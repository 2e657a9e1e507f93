//! A device's inbox: what is put in, read, and taken out when the device has stored it.

use federation_proto::ids::{DeviceId, ServerName};
use homeserver_api::session::{Delivery, DeliveryBody};

use super::batch::Batch;
use super::limits::{
    INBOX_CONTROL_TTL_MS, INBOX_COUNT_TRUSTED_MS, INBOX_PAGE_ITEMS, INBOX_RECOUNT_MS,
    INBOX_RECOUNT_SHARED_MS,
};
use super::mailboxes::{Fill, Item};
use crate::node::Node;
use crate::store::inbox::{self, Content, InboxBody, InboxRecord};
use crate::store::payload::{self, PayloadId};
use crate::store::{Part, PartOutcome, StoreError};

/// Puts an answer or a returned message into a device's inbox (not a message or handshake of a
/// room: those go through [`super::fan_out`]). A device that is gone gets nothing.
pub async fn append(
    batch: &mut Batch<'_>,
    device: DeviceId,
    body: InboxBody,
) -> Result<(), StoreError> {
    if batch.account_of(device).await?.is_none() {
        return Ok(());
    }
    let record = appended(batch, body);
    put_record(batch, device, &record)
}

/// What [`append`] makes an inbox grow by.
pub(super) fn appended_bytes(batch: &Batch<'_>, body: &InboxBody) -> Result<usize, StoreError> {
    Ok(inbox::value(&appended(batch, body.clone()))?.len())
}

fn appended(batch: &Batch<'_>, body: InboxBody) -> InboxRecord {
    InboxRecord {
        expires_ms: batch.now_ms.saturating_add(INBOX_CONTROL_TTL_MS),
        source: batch.source().cloned(),
        body,
    }
}

/// Puts an item into the inbox of a device that exists.
pub(super) fn put(
    batch: &mut Batch<'_>,
    device: DeviceId,
    expires_ms: u64,
    body: InboxBody,
) -> Result<(), StoreError> {
    let record = InboxRecord {
        expires_ms,
        source: batch.source().cloned(),
        body,
    };
    put_record(batch, device, &record)
}

fn put_record(
    batch: &mut Batch<'_>,
    device: DeviceId,
    record: &InboxRecord,
) -> Result<(), StoreError> {
    let value = inbox::value(record)?;
    let item = Item::of(record, value.len());
    batch.note_filled(device, item, value.len(), record.expires_ms);
    inbox::append(&mut batch.part, device, record.source.as_ref(), value);
    Ok(())
}

/// How full a device's inbox is, counted once and then kept up to date. What other nodes put in and take out shows when it
/// is counted again.
pub(crate) async fn fill(node: &Node, device: DeviceId) -> Result<Fill, StoreError> {
    let counted_ms = node.mailboxes.counted_ms(device);
    let ends_ms = counted_ms.map_or(0, |ms| ms.saturating_add(INBOX_COUNT_TRUSTED_MS));
    if !node.cluster.is_alone() && node.clock.now_ms() >= ends_ms {
        return count(node, device).await;
    }
    match node.mailboxes.fill(device) {
        Some(fill) => Ok(fill),
        None => count(node, device).await,
    }
}

/// How full a device's inbox is, counted again unless that was done lately: `None`. What is put in and taken out while
/// somebody counts may be missed or counted twice, and before anything is refused for it that is put right.
pub(super) async fn recount(node: &Node, device: DeviceId) -> Result<Option<Fill>, StoreError> {
    let now_ms = node.clock.now_ms();
    let counted_ms = node.mailboxes.counted_ms(device);
    let every_ms = match node.cluster.is_alone() {
        true => INBOX_RECOUNT_MS,
        false => INBOX_RECOUNT_SHARED_MS,
    };
    let again_ms = counted_ms.map_or(0, |ms| ms.saturating_add(every_ms));
    if now_ms < again_ms {
        return Ok(None);
    }
    Ok(Some(count(node, device).await?))
}

async fn count(node: &Node, device: DeviceId) -> Result<Fill, StoreError> {
    let mut fill = Fill::default();
    let mut from = 0;
    loop {
        let page = inbox::range(&node.store, device, from, INBOX_PAGE_ITEMS).await?;
        for (number, record, bytes) in &page {
            fill.add(&Item::of(record, *bytes));
            from = number.saturating_add(1);
        }
        if page.len() < INBOX_PAGE_ITEMS {
            break;
        }
        tokio::task::yield_now().await;
    }
    let now_ms = node.clock.now_ms();
    node.mailboxes.set_fill(device, fill.clone(), now_ms);
    Ok(fill)
}

/// A delivery sent and not yet acknowledged: what its acknowledgement takes out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    /// Its number.
    pub number: u64,
    payload: Option<PayloadId>,
    item: Item,
}

#[cfg(test)]
impl Sent {
    /// The payload that it shares with other devices.
    pub(super) const fn payload(&self) -> Option<PayloadId> {
        self.payload
    }
}

/// Up to `items_max` deliveries with numbers from `from` on, and about `bytes_max` bytes; at least
/// one when any waits. Expired ones are passed over. `next` is where to read on.
pub struct Page {
    /// What to send, oldest first.
    pub deliveries: Vec<(Delivery, Sent)>,
    /// The number to read on from.
    pub next: u64,
    /// Whether more may wait.
    pub more: bool,
}

/// Reads on in a device's inbox.
pub async fn read(
    node: &Node,
    device: DeviceId,
    from: u64,
    items_max: usize,
    bytes_max: usize,
) -> Result<Page, StoreError> {
    let now_ms = node.clock.now_ms();
    let items = inbox::range(&node.store, device, from, items_max).await?;
    let mut page = Page {
        more: items.len() == items_max,
        next: from,
        deliveries: Vec::with_capacity(items.len()),
    };
    let mut total = 0_usize;
    for (number, record, bytes) in items {
        if total >= bytes_max {
            page.more = true;
            break;
        }
        let sent = Sent {
            number,
            payload: record.body.payload(),
            item: Item::of(&record, bytes),
        };
        if record.expires_ms > now_ms
            && let Some((body, length)) = body(node, record).await?
        {
            // A shared payload may be far larger than its reference.
            if total > 0 && total.saturating_add(length) > bytes_max {
                page.more = true;
                break;
            }
            total = total.saturating_add(length);
            page.deliveries.push((Delivery { number, body }, sent));
        }
        page.next = number.saturating_add(1);
    }
    Ok(page)
}

/// The item as its device sees it and about how long it is; `None` when its payload has been swept.
async fn body(
    node: &Node,
    record: InboxRecord,
) -> Result<Option<(DeliveryBody, usize)>, StoreError> {
    /// About what a delivery has besides its ciphertext.
    const FRAME_BYTES: usize = 128;
    let expires_ms = record.expires_ms;
    let load = async |content| match content {
        Content::Inline(ciphertext) => Ok::<_, StoreError>(Some(ciphertext.into_bytes())),
        Content::Shared(id) => payload::get(&node.store, id).await,
    };
    Ok(match record.body {
        InboxBody::Message {
            room,
            accepted_ms,
            content,
        } => load(content).await?.map(|message| {
            let length = message.len();
            let body = DeliveryBody::Message {
                room,
                message,
                accepted_ms,
                expires_ms,
            };
            (body, length + FRAME_BYTES)
        }),
        InboxBody::Commit {
            room,
            epoch,
            accepted_ms,
            content,
        } => load(content).await?.map(|commit| {
            let length = commit.len();
            let body = DeliveryBody::Commit {
                room,
                epoch,
                commit,
                accepted_ms,
            };
            (body, length + FRAME_BYTES)
        }),
        InboxBody::Welcome {
            room,
            hub,
            accepted_ms,
            content,
        } => load(content).await?.map(|welcome| {
            let length = welcome.len();
            let body = DeliveryBody::Welcome {
                room,
                hub,
                welcome,
                accepted_ms,
            };
            (body, length + 2 * FRAME_BYTES)
        }),
        InboxBody::KeyMaterial { request, result } => {
            let length = result.as_ref().map_or(0, |found| {
                let keys = found.devices.iter();
                let keys = keys.map(|claimed| claimed.key_package.len() + 2 * FRAME_BYTES);
                found.history.len() + keys.sum::<usize>()
            });
            let body = DeliveryBody::KeyMaterial { request, result };
            Some((body, length + 8 * FRAME_BYTES))
        }
        InboxBody::CommitRefused {
            room,
            counter,
            refusal,
        } => {
            let body = DeliveryBody::CommitRefused {
                room,
                counter,
                refusal,
            };
            Some((body, 8 * FRAME_BYTES))
        }
        InboxBody::Returned {
            room,
            counter,
            server,
            refusal,
        } => {
            let body = DeliveryBody::Returned {
                room,
                counter,
                server,
                refusal,
            };
            Some((body, 8 * FRAME_BYTES))
        }
        InboxBody::Directory { request, result } => {
            let told = result.as_ref().map_or(0, |listing| listing.addresses.len());
            let body = DeliveryBody::Directory { request, result };
            Some((body, (8 + 3 * told) * FRAME_BYTES))
        }
        InboxBody::ReportReturned {
            room,
            server,
            refusal,
        } => {
            let body = DeliveryBody::ReportReturned {
                room,
                server,
                refusal,
            };
            Some((body, 8 * FRAME_BYTES))
        }
        InboxBody::GroupInfo {
            request,
            room,
            result,
        } => {
            let length = result.as_ref().map_or(0, |info| info.group_info.len());
            let body = DeliveryBody::GroupInfo {
                request,
                room,
                result,
            };
            Some((body, length + 8 * FRAME_BYTES))
        }
        InboxBody::RoomClosed { room, server } => {
            let body = DeliveryBody::RoomClosed { room, server };
            Some((body, 8 * FRAME_BYTES))
        }
        InboxBody::OutOfStep { room, epoch } => {
            let body = DeliveryBody::OutOfStep { room, epoch };
            Some((body, FRAME_BYTES))
        }
        InboxBody::RoomConsent {
            request,
            room,
            result,
        } => {
            let length = result.as_ref().map_or(0, bytes::Bytes::len);
            let body = DeliveryBody::RoomConsent {
                request,
                room,
                result,
            };
            Some((body, length + 8 * FRAME_BYTES))
        }
        InboxBody::Removals {
            room,
            epoch,
            accepted_ms,
            proposals,
        } => {
            let length: usize = proposals.iter().map(bytes::Bytes::len).sum();
            let body = DeliveryBody::Removals {
                room,
                epoch,
                proposals,
                accepted_ms,
            };
            Some((body, length + 8 * FRAME_BYTES))
        }
        InboxBody::Contact {
            address,
            change,
            text,
        } => {
            let body = DeliveryBody::Contact {
                address,
                change,
                text,
            };
            Some((body, 8 * FRAME_BYTES))
        }
    })
}

/// Takes out what a device has stored.
pub async fn acknowledge(
    node: &Node,
    device: DeviceId,
    stored: Vec<Sent>,
) -> Result<(), StoreError> {
    let (mut part, mut shared) = (Part::default(), Vec::new());
    for sent in &stored {
        inbox::delete(&mut part, device, sent.number, sent.item.source());
        let Some(id) = sent.payload else { continue };
        payload::release(&mut part, id, device);
        // Nobody comes to wait for it later. Where this device is the last one, both go together: whatever ends the process,
        // nothing is left that nobody waits for.
        match payload::is_awaited_beside(&node.store, id, device).await? {
            true => shared.push((id, sent.item.source())),
            false => payload::delete(&mut part, id, sent.item.source()),
        }
    }
    node.store.commit(part).await?;
    let freed = stored.iter().map(|sent| &sent.item);
    node.mailboxes.emptied(device, freed);
    // Two that were last at once have each left them to the other.
    delete_unawaited(node, shared.into_iter()).await
}

/// Deletes those payloads that no device waits for any more.
pub(super) async fn delete_unawaited<'a>(
    node: &Node,
    payloads: impl Iterator<Item = (PayloadId, Option<&'a ServerName>)>,
) -> Result<(), StoreError> {
    let mut part = Part::default();
    for (id, source) in payloads {
        if !payload::is_awaited(&node.store, id).await? {
            payload::delete(&mut part, id, source);
        }
    }
    if !part.writes.is_empty() {
        node.store.commit(part).await?;
    }
    Ok(())
}

/// Takes out everything that has expired by `now_ms`, or (`None`) everything at all.
pub(super) async fn sweep(
    node: &Node,
    device: DeviceId,
    now_ms: Option<u64>,
) -> Result<(), StoreError> {
    let mut from = 0;
    loop {
        let page = inbox::range(&node.store, device, from, INBOX_PAGE_ITEMS).await?;
        let Some((last, _, _)) = page.last() else {
            return Ok(());
        };
        from = last.saturating_add(1);
        let more = page.len() == INBOX_PAGE_ITEMS;
        let gone: Vec<Sent> = page
            .into_iter()
            .filter(|(_, record, _)| now_ms.is_none_or(|now_ms| record.expires_ms <= now_ms))
            .map(|(number, record, bytes)| Sent {
                number,
                payload: record.body.payload(),
                item: Item::of(&record, bytes),
            })
            .collect();
        if !gone.is_empty() {
            acknowledge(node, device, gone).await?;
        }
        if !more {
            return Ok(());
        }
        tokio::task::yield_now().await;
    }
}

/// Deletes the inbox of a removed device.
pub async fn delete(node: &Node, device: DeviceId) -> Result<PartOutcome, StoreError> {
    sweep(node, device, None).await?;
    node.mailboxes.forget(device);
    let mut part = Part::default();
    inbox::delete_tail(&mut part, device);
    node.store.commit(part).await
}
