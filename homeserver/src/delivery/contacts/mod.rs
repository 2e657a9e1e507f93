//! Consent: who of other organisations may start conversations with a person.
//!
//! What a person decides is one record of the own homeserver; what another one has to hear of it travels
//! as an envelope, and no call waits for that. Every device of the account learns of it.
//!
//! Deliberately absent: rooms that two people share already. Consent is about being added.

mod act;
mod received;

use federation_proto::ids::{AccountId, Address, DeviceId, Handle, ServerName};
use federation_proto::limits::CONTACT_ASK_MS_MAX;
use federation_proto::payload::{self, ContactAct, Payload};
use federation_proto::refusal::{Refusal, RefusalCode};
use homeserver_api::contacts::ContactChange;

use super::batch::{Batch, NotTaken, Times};
use super::fan_out::{self, Class};
use super::inbox;
use super::outbox::SenderRef;
use crate::identity::LocalAccount;
use crate::policy::{self, Approach, Consent};
use crate::store::contacts::{self, Outsider};
use crate::store::inbox::InboxBody;
use crate::store::{StoreError, device};

pub use act::{act, list, remove, starts};
pub(super) use received::{take, undelivered};

/// Whether `outsider` may bring the account's devices into rooms.
pub async fn approach(
    batch: &mut Batch<'_>,
    id: AccountId,
    account: &LocalAccount,
    outsider: &Outsider<'_>,
) -> Result<Approach, StoreError> {
    let consent = match batch.contacts(id).await?.consent(outsider) {
        contacts::Consent::Given => Consent::Given,
        contacts::Consent::Open => Consent::Open,
        contacts::Consent::Barred => Consent::Barred,
    };
    Ok(policy::approach(account.policy.outside_contacts, consent))
}

/// Notes which account is behind the handle of somebody who may have the account's keys: a block by his
/// handle then holds for what he adds with them.
pub async fn meet(
    batch: &mut Batch<'_>,
    id: AccountId,
    outsider: &Outsider<'_>,
) -> Result<(), StoreError> {
    let Some(handle) = outsider.handle else {
        return Ok(());
    };
    let now_ms = batch.now_ms;
    let mut contacts = batch.contacts(id).await?.clone();
    if let Some(contact) = contacts.entry(outsider.server, handle, false, now_ms) {
        contact.account.get_or_insert(outsider.account);
        if contact.standing == contacts::Standing::Met {
            contact.set(contacts::Standing::Met, now_ms);
        }
        batch.set_contacts(id, contacts);
    }
    Ok(())
}

/// What somebody is told who has to ask before he starts a conversation with `handle` here.
pub fn must_ask(server: &ServerName, handle: &Handle) -> Refusal {
    Refusal::new(
        RefusalCode::ConsentRequired,
        format!(
            "{handle}@{server} decides who of other organisations may start a conversation: ask first \
             with `chat contact ask {handle}@{server}`"
        ),
    )
}

/// Somebody of this homeserver's who lets somebody elsewhere know something.
struct Speaker<'a> {
    account: AccountId,
    handle: &'a Handle,
    /// The device that is told when it can't be delivered.
    device: Option<DeviceId>,
}

/// Queues what a person lets somebody of another organisation know.
async fn send(
    batch: &mut Batch<'_>,
    speaker: &Speaker<'_>,
    to: &Address,
    act: ContactAct,
    text: &str,
) -> Result<(), NotTaken> {
    let payload = Payload::Contact(payload::Contact {
        act,
        account: speaker.account,
        from: speaker.handle.clone(),
        to: to.handle.clone(),
        text: text.to_owned(),
    });
    let times = Times {
        accepted_ms: batch.now_ms,
        expires_ms: batch.now_ms.saturating_add(CONTACT_ASK_MS_MAX),
    };
    let sender = speaker.device.map(|device| SenderRef {
        account: speaker.account,
        device,
        room: federation_proto::ids::RoomId::from_bytes([0; 16]),
        counter: 0,
    });
    batch.send(&to.server, None, &payload, times, sender).await
}

/// Tells the account's devices, but for the one that did it, as far as their inboxes have room: whoever has
/// missed it finds it in the list.
async fn tell(
    batch: &mut Batch<'_>,
    account: AccountId,
    but: Option<DeviceId>,
    address: &Address,
    change: ContactChange,
    text: &str,
) -> Result<(), StoreError> {
    let devices: Vec<DeviceId> = device::of_account(&batch.node.store, account)
        .await?
        .into_iter()
        .map(|(device, _)| device)
        .filter(|device| Some(*device) != but)
        .collect();
    let body = InboxBody::Contact {
        address: address.clone(),
        change,
        text: text.to_owned(),
    };
    let bytes = inbox::appended_bytes(batch, &body)?;
    let (ready, _) = fan_out::room_for(batch, &devices, bytes, Class::Message).await?;
    for device in ready {
        inbox::append(batch, device, body.clone()).await?;
    }
    Ok(())
}
