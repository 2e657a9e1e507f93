//! What a person asks or decides, by one of his devices.

use federation_proto::ids::{AccountId, Address};
use federation_proto::limits::CONTACT_TEXT_BYTES_MAX;
use federation_proto::payload::{self, ContactAct as Said};
use federation_proto::refusal::{Refusal, RefusalCode};
use homeserver_api::contacts::{
    ContactAct, ContactChange, ContactInfo, ContactRequest, ContactStanding,
};

use super::{Speaker, send, tell};
use crate::audit::Actor;
use crate::delivery::batch::{Batch, NotTaken, policy_links, settle};
use crate::delivery::limits::{
    ACCOUNT_CONTACT_ASKS_MAX, CONFLICT_ATTEMPTS_MAX, CONFLICT_RETRY_MS, CONTACT_ASKS_MS,
};
use crate::identity::LocalAccount;
use crate::node::Node;
use crate::policy::{self, Input, Rules};
use crate::store::allowance::{Purpose, Whose};
use crate::store::contacts::{CONTACTS_MAX, Contact, Contacts, Standing};
use crate::store::device::DeviceOf;
use crate::store::{PartOutcome, StoreError, contacts};

/// Everybody with whom the account has asked or decided something, by homeserver and handle.
pub async fn list(node: &Node, account: AccountId) -> Result<Vec<ContactInfo>, StoreError> {
    let now_ms = node.clock.now_ms();
    let (contacts, _) = contacts::get(&node.store, account, now_ms).await?;
    Ok(contacts.all().iter().filter_map(info).collect())
}

/// Does what a person asks or decides about `address`; how he stands with it then. Returns when that is
/// durable; what the other homeserver has to hear of it waits in the outbox.
pub async fn act(
    node: &Node,
    device: DeviceOf,
    address: &Address,
    request: &ContactRequest,
) -> Result<ContactInfo, NotTaken> {
    let text = request.text.as_deref().unwrap_or_default();
    if !text.is_empty() && request.act != ContactAct::Ask {
        return Err(NotTaken::refused(
            RefusalCode::Malformed,
            "only an ask has a text: leave it out",
        ));
    }
    if !payload::Contact::is_text(text) {
        return Err(NotTaken::refused(
            RefusalCode::Malformed,
            format!(
                "the text of an ask is one line of at most {CONTACT_TEXT_BYTES_MAX} bytes, without \
                 characters that are not seen: shorten it"
            ),
        ));
    }
    let change = match request.act {
        ContactAct::Ask => Change::Ask(text),
        ContactAct::Allow => Change::Allow,
        ContactAct::Block => Change::Block(request.account),
    };
    let done = decide(node, device, address, change).await?;
    // Whatever was asked or decided is shown.
    done.ok_or_else(unknown)
}

/// Takes back what was asked or decided about `address`.
pub async fn remove(node: &Node, device: DeviceOf, address: &Address) -> Result<(), NotTaken> {
    decide(node, device, address, Change::Remove)
        .await
        .map(drop)
}

/// Who starts a conversation with somebody that has asked him lets him in by that.
pub async fn starts(
    batch: &mut Batch<'_>,
    device: DeviceOf,
    account: &LocalAccount,
    address: &Address,
) -> Result<(), NotTaken> {
    let contacts = batch.contacts(device.account).await?;
    let asks = contacts
        .get(&address.server, &address.handle)
        .is_some_and(|contact| matches!(contact.standing, Standing::AsksUs(_)));
    if asks {
        // Where rules forbid to let him in, they may well let the person out.
        let allowed = apply(batch, device, account, address, Change::Allow).await;
        let _ = settle(allowed)?;
    }
    Ok(())
}

/// What is done about somebody.
#[derive(Debug, Clone, Copy)]
enum Change<'a> {
    Ask(&'a str),
    Allow,
    Block(Option<AccountId>),
    Remove,
}

async fn decide(
    node: &Node,
    device: DeviceOf,
    address: &Address,
    change: Change<'_>,
) -> Result<Option<ContactInfo>, NotTaken> {
    for _ in 0..CONFLICT_ATTEMPTS_MAX {
        let mut batch = Batch::open(node).await?;
        let account = batch.account(device.account).await?.ok_or_else(unknown)?;
        let done = apply(&mut batch, device, &account, address, change).await?;
        if batch.commit().await? == PartOutcome::Committed {
            return Ok(done);
        }
        // Perhaps the agreement is no longer what the directory says.
        node.peers.refresh(node).await?;
    }
    Err(NotTaken::Deferred {
        code: RefusalCode::RateLimited,
        retry_after_ms: u32::try_from(CONFLICT_RETRY_MS).unwrap_or(u32::MAX),
    })
}

/// One change, in the batch's part.
async fn apply(
    batch: &mut Batch<'_>,
    device: DeviceOf,
    account: &LocalAccount,
    address: &Address,
    change: Change<'_>,
) -> Result<Option<ContactInfo>, NotTaken> {
    if address.server == batch.node.server {
        return Err(NotTaken::refused(
            RefusalCode::Malformed,
            format!(
                "{address} is of your own organisation, whose people need no consent: start the \
                 conversation"
            ),
        ));
    }
    judge(batch, account, address, change)?;
    let mut contacts = batch.contacts(device.account).await?.clone();
    let now_ms = batch.now_ms;
    if matches!(change, Change::Remove) && !is_shown(&contacts, address) {
        return Err(unknown());
    }
    let contact = contacts
        .entry(&address.server, &address.handle, true, now_ms)
        .ok_or_else(full)?;
    let outcome = step(contact, change, now_ms)?;
    let (shown, changed) = (info(contact), outcome.told.is_some());
    if let Some(said) = outcome.said {
        say(batch, device, account, address, said, change).await?;
    }
    if changed {
        batch.set_contacts(device.account, contacts);
    }
    if let Some((told, action)) = outcome.told {
        let own = format!("by account {}", device.account);
        batch.audit(Actor::Device(device.device), action, address, own);
        tell(
            batch,
            device.account,
            Some(device.device),
            address,
            told,
            "",
        )
        .await?;
    }
    Ok(shown)
}

/// Whether agreement and policy let the one way or the other through; what ends consent needs nobody's
/// leave.
fn judge(
    batch: &mut Batch<'_>,
    account: &LocalAccount,
    address: &Address,
    change: Change<'_>,
) -> Result<(), Refusal> {
    let input = match change {
        Change::Ask(_) => Input::Invite,
        Change::Allow => Input::BeInvited,
        Change::Block(_) | Change::Remove => return Ok(()),
    };
    let links = batch.links([&address.server]);
    let rules = Rules {
        party: account.party(),
        links: &policy_links(&links),
        now_ms: batch.now_ms,
    };
    policy::evaluate(&rules, &input).into_result()
}

/// What follows a change.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    /// What the other one is let know.
    said: Option<Said>,
    /// What the account's other devices are told, and what the audit log calls it.
    told: Option<(ContactChange, &'static str)>,
}

/// How `contact` stands after the change.
fn step(contact: &mut Contact, change: Change<'_>, now_ms: u64) -> Result<Outcome, Refusal> {
    let was_known = contact.account.is_some();
    let before = contact.standing.clone();
    let outcome = |said, told| Ok(Outcome { said, told });
    let asked = Some((ContactChange::Asked, "contact.asked"));
    let allowed = Some((ContactChange::Allowed, "contact.allowed"));
    match (change, before) {
        (Change::Ask(_), Standing::Blocked) => Err(Refusal::new(
            RefusalCode::Malformed,
            format!(
                "you have blocked {0}: take that back first with `chat contact remove {0}`",
                contact.address()
            ),
        )),
        (Change::Ask(_), Standing::Met) => {
            contact.set(Standing::Asked, now_ms);
            outcome(Some(Said::Ask), asked)
        }
        (Change::Ask(_), Standing::Allowed) if !contact.allows_us => {
            outcome(Some(Said::Ask), asked)
        }
        // Each has asked the other, and so consents.
        (Change::Ask(_) | Change::Allow, Standing::AsksUs(_)) => {
            contact.set(Standing::Allowed, now_ms);
            contact.allows_us = true;
            outcome(Some(Said::Grant), allowed)
        }
        (Change::Allow, Standing::Met | Standing::Blocked) => {
            contact.set(Standing::Allowed, now_ms);
            outcome(None, allowed)
        }
        (Change::Ask(_), Standing::Asked | Standing::Allowed)
        | (Change::Allow, Standing::Asked | Standing::Allowed)
        | (Change::Block(None), Standing::Blocked) => outcome(None, None),
        (Change::Block(account), before) => {
            contact.set(Standing::Blocked, now_ms);
            contact.allows_us = false;
            contact.account = account.or(contact.account);
            outcome(
                ends(&before, was_known),
                Some((ContactChange::Blocked, "contact.blocked")),
            )
        }
        (Change::Remove, before) => {
            contact.set(Standing::Met, now_ms);
            contact.allows_us = false;
            outcome(
                ends(&before, was_known),
                Some((ContactChange::Removed, "contact.removed")),
            )
        }
    }
}

/// What the other one is let know when this ends. That his ask is declined, he is not told: it would tell
/// him that there is somebody.
fn ends(before: &Standing, was_known: bool) -> Option<Said> {
    match before {
        Standing::Asked => Some(Said::Withdraw),
        Standing::Allowed if was_known => Some(Said::Revoke),
        _ => None,
    }
}

async fn say(
    batch: &mut Batch<'_>,
    device: DeviceOf,
    account: &LocalAccount,
    address: &Address,
    said: Said,
    change: Change<'_>,
) -> Result<(), NotTaken> {
    let whose = Whose::Account(device.account);
    if said == Said::Ask
        && !batch
            .take_one(
                Purpose::Ask,
                &whose,
                ACCOUNT_CONTACT_ASKS_MAX,
                CONTACT_ASKS_MS,
            )
            .await?
    {
        return Err(NotTaken::refused(
            RefusalCode::RateLimited,
            format!(
                "this account has asked {ACCOUNT_CONTACT_ASKS_MAX} people within a day: ask tomorrow"
            ),
        ));
    }
    let text = match change {
        Change::Ask(text) if said == Said::Ask => text,
        _ => "",
    };
    let speaker = Speaker {
        account: device.account,
        handle: &account.handle,
        device: Some(device.device),
    };
    let sent = send(batch, &speaker, address, said, text).await;
    match (said, settle(sent)?) {
        // Whatever keeps it here: what was taken back holds at once.
        (Said::Withdraw | Said::Revoke, _) | (_, Ok(())) => Ok(()),
        (_, Err(refusal)) => Err(refusal.into()),
    }
}

fn is_shown(contacts: &Contacts, address: &Address) -> bool {
    let contact = contacts.get(&address.server, &address.handle);
    contact.is_some_and(|contact| info(contact).is_some())
}

/// As the person sees it; whom he has only met is not shown.
pub(super) fn info(contact: &Contact) -> Option<ContactInfo> {
    let (standing, text) = match &contact.standing {
        Standing::Met => return None,
        Standing::AsksUs(text) => (ContactStanding::AsksYou, text.clone()),
        Standing::Asked => (ContactStanding::Asked, String::new()),
        Standing::Allowed => (ContactStanding::Allowed, String::new()),
        Standing::Blocked => (ContactStanding::Blocked, String::new()),
    };
    Some(ContactInfo {
        address: contact.address(),
        standing,
        allows_you: contact.allows_us,
        text,
        since_ms: contact.since_ms,
        expires_ms: (contact.expires_ms != 0).then_some(contact.expires_ms),
    })
}

fn unknown() -> NotTaken {
    NotTaken::refused(
        RefusalCode::UnknownRecipient,
        "nothing was asked or decided about this address: `chat contact list` shows about whom",
    )
}

fn full() -> NotTaken {
    NotTaken::refused(
        RefusalCode::Quota,
        format!("an account has at most {CONTACTS_MAX} contacts: remove one first"),
    )
}
