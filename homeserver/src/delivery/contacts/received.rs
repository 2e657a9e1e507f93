//! What somebody of another organisation asks or decides, as his homeserver tells it.

use federation_proto::ids::{AccountId, Address, ServerName};
use federation_proto::limits::CONTACT_ASK_MS_MAX;
use federation_proto::payload::{Contact as Said, ContactAct};
use federation_proto::refusal::{Refusal, RefusalCode};
use homeserver_api::admin::Operation;
use homeserver_api::contacts::ContactChange;

use super::{Speaker, send, tell};
use crate::audit::Actor;
use crate::delivery::batch::{Batch, NotTaken, policy_links, settle};
use crate::delivery::limits::{CONTACT_ASKS_MS, PEER_CONTACT_ASKS_MAX};
use crate::delivery::outbox::SenderRef;
use crate::policy::{self, Direction, Input, Rules};
use crate::store::allowance::{Purpose, Whose};
use crate::store::contacts::{Contact, Standing};
use crate::store::{StoreError, account};

/// Takes what a person of `peer` lets one of ours know. Nobody is told whether there is such a person, and
/// whether the person wants to hear of it: what has no effect is accepted like all else.
pub(in crate::delivery) async fn take(
    batch: &mut Batch<'_>,
    peer: &ServerName,
    said: &Said,
    expires_ms: u64,
) -> Result<(), NotTaken> {
    may_say(batch, peer, said.act).await?;
    let from = Address {
        handle: said.from.clone(),
        server: peer.clone(),
    };
    let Some((id, own)) = addressee(batch, peer, said).await? else {
        ignored(batch, &from, said, None);
        return Ok(());
    };
    let mut contacts = batch.contacts(id).await?.clone();
    let now_ms = batch.now_ms;
    // Only an ask may come from somebody of whom nothing is known here.
    let known = contacts.get(peer, &said.from).is_some();
    let contact = match known || said.act == ContactAct::Ask {
        true => contacts.entry(peer, &said.from, false, now_ms),
        false => None,
    };
    // A handle is never given to another account.
    let is_his = |contact: &Contact| contact.account.is_none_or(|known| known == said.account);
    let Some(contact) = contact.filter(|contact| is_his(contact)) else {
        ignored(batch, &from, said, Some(id));
        return Ok(());
    };
    contact.account = Some(said.account);
    let effect = step(contact, said, expires_ms, now_ms);
    batch.set_contacts(id, contacts);
    if effect.grants {
        let speaker = Speaker {
            account: id,
            handle: &own.handle,
            device: None,
        };
        let sent = send(batch, &speaker, &from, ContactAct::Grant, "").await;
        if let Err(refusal) = settle(sent)? {
            // He may ask again; to refuse would tell him more than others are told.
            let what = (Actor::System, "contact.grant-not-sent", Some(refusal.code));
            batch.audit_peer(peer, what, &from, refusal.to_string());
        }
    }
    match effect.told {
        Some((change, action)) => {
            note(batch, &from, said, Some(id), action);
            tell(batch, id, None, &from, change, &said.text).await?;
        }
        None => ignored(batch, &from, said, Some(id)),
    }
    Ok(())
}

/// What its agreement lets the peer say, and how often. The answer is the same whoever is meant.
async fn may_say(
    batch: &mut Batch<'_>,
    peer: &ServerName,
    act: ContactAct,
) -> Result<(), NotTaken> {
    let direction = match act {
        ContactAct::Ask => Direction::Inbound,
        // A grant is about what our people may do there.
        ContactAct::Grant => Direction::Outbound,
        // What ends something is always heard.
        ContactAct::Withdraw | ContactAct::Revoke => return Ok(()),
    };
    let view = batch
        .peer(peer)
        .ok_or_else(|| Refusal::new(RefusalCode::NoAgreement, "there is no agreement with you"))?;
    view.judge(direction, Operation::Invite, None, batch.now_ms)?;
    let whose = Whose::Peer(peer.clone());
    if act == ContactAct::Ask
        && !batch
            .take_one(Purpose::Ask, &whose, PEER_CONTACT_ASKS_MAX, CONTACT_ASKS_MS)
            .await?
    {
        return Err(NotTaken::refused(
            RefusalCode::RateLimited,
            format!(
                "people of {peer} have asked {PEER_CONTACT_ASKS_MAX} times within a day: ask tomorrow"
            ),
        ));
    }
    Ok(())
}

/// The person who is meant, if it may be said to him.
async fn addressee(
    batch: &mut Batch<'_>,
    peer: &ServerName,
    said: &Said,
) -> Result<Option<(AccountId, std::sync::Arc<crate::identity::LocalAccount>)>, StoreError> {
    let Some(id) = account::by_handle(&batch.node.store, &said.to).await? else {
        return Ok(None);
    };
    let Some(account) = batch.account(id).await? else {
        return Ok(None);
    };
    let input = match said.act {
        ContactAct::Ask => Input::BeInvited,
        ContactAct::Grant => Input::Invite,
        ContactAct::Withdraw | ContactAct::Revoke => return Ok(Some((id, account))),
    };
    let links = batch.links([peer]);
    let rules = Rules {
        party: account.party(),
        links: &policy_links(&links),
        now_ms: batch.now_ms,
    };
    let may = policy::evaluate(&rules, &input).into_result().is_ok();
    Ok(may.then_some((id, account)))
}

/// What follows.
struct Effect {
    /// The person consents by that, and the other one is let know.
    grants: bool,
    /// What the person's devices are told, and what the audit log calls it; `None`: it has no effect.
    told: Option<(ContactChange, &'static str)>,
}

/// How `contact` stands after what he has said.
fn step(contact: &mut Contact, said: &Said, expires_ms: u64, now_ms: u64) -> Effect {
    let effect = |grants, told| Effect { grants, told };
    let before = contact.standing.clone();
    match (said.act, before) {
        (ContactAct::Ask, Standing::Met) => {
            contact.set(Standing::AsksUs(said.text.clone()), now_ms);
            let longest_ms = now_ms.saturating_add(CONTACT_ASK_MS_MAX);
            contact.expires_ms = match expires_ms {
                0 => longest_ms,
                stated_ms => stated_ms.min(longest_ms),
            };
            effect(
                false,
                Some((ContactChange::AsksYou, "contact.ask-received")),
            )
        }
        // Each has asked the other; or the person had said so before he was asked.
        (ContactAct::Ask, Standing::Asked | Standing::Allowed) => {
            let is_news = !contact.allows_us;
            contact.set(Standing::Allowed, now_ms);
            contact.allows_us = true;
            let told = (ContactChange::AllowsYou, "contact.allowed-both");
            effect(true, is_news.then_some(told))
        }
        (ContactAct::Grant, Standing::Asked | Standing::Allowed) => {
            let is_news = !contact.allows_us;
            contact.set(Standing::Allowed, now_ms);
            contact.allows_us = true;
            let told = (ContactChange::AllowsYou, "contact.granted");
            effect(false, is_news.then_some(told))
        }
        (ContactAct::Withdraw, Standing::AsksUs(_)) => {
            contact.set(Standing::Met, now_ms);
            effect(false, Some((ContactChange::Withdrawn, "contact.withdrawn")))
        }
        (ContactAct::Revoke, Standing::Asked) => {
            contact.set(Standing::Met, now_ms);
            effect(false, Some((ContactChange::Revoked, "contact.revoked")))
        }
        (ContactAct::Revoke, Standing::Allowed) => {
            let was = std::mem::take(&mut contact.allows_us);
            effect(
                false,
                was.then_some((ContactChange::Revoked, "contact.revoked")),
            )
        }
        // He asks already, was not asked, or is blocked.
        _ => effect(false, None),
    }
}

/// Records an ask without an effect; of all else that has none, which may come as often as a peer likes, there is nothing to say.
fn ignored(batch: &mut Batch<'_>, from: &Address, said: &Said, to: Option<AccountId>) {
    if said.act == ContactAct::Ask {
        note(batch, from, said, to, "contact.ignored");
    }
}

/// Our own person is named by the account's identifier, as everywhere where the log does not need a name.
fn note(
    batch: &mut Batch<'_>,
    from: &Address,
    said: &Said,
    to: Option<AccountId>,
    action: &'static str,
) {
    let act = match said.act {
        ContactAct::Ask => "ask",
        ContactAct::Grant => "grant",
        ContactAct::Withdraw => "withdrawal",
        ContactAct::Revoke => "revocation",
    };
    let detail = match to {
        Some(account) => format!("{act} to account {account}"),
        None => format!("{act} to nobody who can be asked from there"),
    };
    let what = (Actor::Peer(from.server.clone()), action, None);
    batch.audit_peer(&from.server, what, from, detail);
}

/// What a person let somebody know could not be delivered: an ask is no more, and whoever waits for an
/// effect is told why there is none.
pub(in crate::delivery) async fn undelivered(
    batch: &mut Batch<'_>,
    sender: &SenderRef,
    destination: &ServerName,
    said: &Said,
    refusal: &Refusal,
) -> Result<(), StoreError> {
    let address = Address {
        handle: said.to.clone(),
        server: destination.clone(),
    };
    match said.act {
        ContactAct::Ask => {
            let mut contacts = batch.contacts(sender.account).await?.clone();
            let now_ms = batch.now_ms;
            let asked = contacts
                .get(destination, &said.to)
                .is_some_and(|contact| contact.standing == Standing::Asked);
            if asked && let Some(contact) = contacts.entry(destination, &said.to, true, now_ms) {
                contact.set(Standing::Met, now_ms);
                batch.set_contacts(sender.account, contacts);
            }
        }
        ContactAct::Grant => {}
        // It holds here, and nobody waits for it.
        ContactAct::Withdraw | ContactAct::Revoke => return Ok(()),
    }
    let change = ContactChange::Undelivered;
    let reason = refusal.to_string();
    tell(batch, sender.account, None, &address, change, &reason).await
}
