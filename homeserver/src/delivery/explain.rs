//! What a person of this organisation may do towards somebody, and which rule says so, for administrators: what is asked
//! here is what decides when the person does it.
//!
//! Of somebody at a partner's this homeserver knows its own half. The other half is asked for as a look-up, as the person
//! could make it: where the agreement grants none, it is the partner's own affair. No call waits for it.

use federation_proto::ids::{AccountId, Address, DeviceId, Handle, RequestId, ServerName};
use federation_proto::payload::{DirectoryQuery, Payload, Sender, Sought};
use homeserver_api::admin::{ExplainedContact, Explanation, PartnerHalf, PartnerState};
use homeserver_api::attributes::MessageAttributes;
use homeserver_api::policy::Contact;

use super::batch::{Batch, NotTaken, Times, policy_links, settle};
use super::limits::{CONFLICT_ATTEMPTS_MAX, LOOK_UP_TTL_MS};
use crate::audit::Actor;
use crate::identity::{IdentityError, LocalAccount};
use crate::node::Node;
use crate::policy::{self, By, Decision, Input, Link, Rules, barriers};
use crate::store::look_up::{self, Asker, LookUpRecord};
use crate::store::{PartOutcome, StoreError, account};

/// Bytes of what names a look-up at a partner's.
const EXPLANATION_BYTES: usize = 32;

/// Explains what `from` may do towards `to`. That it was asked is in the audit log.
pub async fn explain(
    node: &Node,
    actor: &Actor,
    from: &Handle,
    to: &Address,
) -> Result<Explanation, IdentityError> {
    for _ in 0..CONFLICT_ATTEMPTS_MAX {
        let mut batch = Batch::open(node).await?;
        let (id, asking) = person(&batch, from).await?;
        let address = Address {
            handle: from.clone(),
            server: node.server.clone(),
        };
        let (contacts, partner) = if to.server == node.server {
            let (other, account) = person(&batch, &to.handle).await?;
            let pair = ((id, &*asking), (other, &*account));
            (at_home(&batch, pair).await?, None)
        } else {
            let contacts = outwards(&mut batch, &asking, &to.server);
            let half = partner_half(&mut batch, id, &contacts, to).await?;
            (contacts, Some(half))
        };
        let writes = |explained: &ExplainedContact| explained.contact == Contact::Message;
        let allowed = contacts.iter().any(|one| writes(one) && one.allowed);
        batch.audit(actor.clone(), "policy.explained", &address, to.to_string());
        if batch.commit().await? == PartOutcome::Committed {
            return Ok(Explanation {
                from: address,
                to: to.clone(),
                allowed,
                contacts,
                partner,
            });
        }
        node.peers.refresh(node).await?;
    }
    Err(IdentityError::Busy)
}

/// How far a partner's half is known that was asked for; `None`: there is no such question any more.
pub async fn answer(node: &Node, explanation: &str) -> Result<Option<PartnerHalf>, StoreError> {
    let Some((device, request)) = parse(explanation) else {
        return Ok(None);
    };
    let found = look_up::get(&node.store, device, request).await?;
    let Some((record, _)) = found.filter(|(record, _)| record.expires_ms > node.clock.now_ms())
    else {
        return Ok(None);
    };
    let Asker::Administrator(answer) = record.asker else {
        return Ok(None);
    };
    let server = &record.server;
    Ok(Some(match answer {
        None => asked(server, explanation.to_owned()),
        Some(Ok(true)) => answered(
            Some(true),
            format!("{server} shows this person to people of ours who know the whole address"),
        ),
        Some(Ok(false)) => answered(
            Some(false),
            format!(
                "{server} shows nobody of this address: there is none, or none that may be found or reached from here"
            ),
        ),
        Some(Err(refusal)) => answered(None, refusal.to_string()),
    }))
}

async fn person(
    batch: &Batch<'_>,
    handle: &Handle,
) -> Result<(AccountId, std::sync::Arc<LocalAccount>), IdentityError> {
    let unknown = || IdentityError::UnknownUser(handle.clone());
    let id = account::by_handle(&batch.node.store, handle)
        .await?
        .ok_or_else(unknown)?;
    let account = batch.account(id).await?.ok_or_else(unknown)?;
    Ok((id, account))
}

/// Each contact between two people of this organisation: the actor's own rules, the barriers, the other one's rules. The
/// barriers are named where all let it pass.
async fn at_home(
    batch: &Batch<'_>,
    ((from, asking), (to, other)): ((AccountId, &LocalAccount), (AccountId, &LocalAccount)),
) -> Result<Vec<ExplainedContact>, StoreError> {
    let record = batch.barriers().await?;
    let now_ms = batch.now_ms;
    let judge = |account: &LocalAccount, input: &Input| {
        let rules = Rules {
            party: account.party(),
            links: &[],
            now_ms,
        };
        let (decision, by) = policy::explain(&rules, input);
        (decision, by.to_string())
    };
    let message = attributes(asking, &[]);
    let steps = |contact| match contact {
        Contact::Find => (
            Input::LookUp,
            Input::BeFound {
                by_beginning: false,
            },
        ),
        Contact::Invite => (Input::Invite, Input::BeInvited),
        Contact::Message => (Input::Send(message), Input::Receive(message)),
    };
    let explain = |contact| {
        let (acts, suffers) = steps(contact);
        let own = judge(asking, &acts);
        if own.0 != Decision::Allowed {
            return explained(contact, own);
        }
        let (decision, by) = match from == to {
            true => (Decision::Allowed, By::SegmentsDefault),
            false => {
                barriers::evaluate(&record.barriers, &asking.segments, &other.segments, contact)
            }
        };
        let barrier = (decision, by.to_string());
        let theirs = judge(other, &suffers);
        match (
            barrier.0 == Decision::Allowed,
            theirs.0 == Decision::Allowed,
        ) {
            (true, false) => explained(contact, theirs),
            _ => explained(contact, barrier),
        }
    };
    Ok(Contact::ALL.into_iter().map(explain).collect())
}

/// This organisation's half of each contact with people of `server`.
fn outwards(
    batch: &mut Batch<'_>,
    asking: &LocalAccount,
    server: &ServerName,
) -> Vec<ExplainedContact> {
    let now_ms = batch.now_ms;
    let views = batch.links([server]);
    let links = policy_links(&views);
    let message = attributes(asking, &links);
    let explain = |contact| {
        let input = match contact {
            Contact::Find => Input::LookUp,
            Contact::Invite => Input::Invite,
            Contact::Message => Input::Send(message),
        };
        let rules = Rules {
            party: asking.party(),
            links: &links,
            now_ms,
        };
        let (decision, by) = policy::explain(&rules, &input);
        explained(contact, (decision, by.to_string()))
    };
    Contact::ALL.into_iter().map(explain).collect()
}

fn explained(contact: Contact, (decision, rule): (Decision, String)) -> ExplainedContact {
    let refusal = decision.into_result().err();
    ExplainedContact {
        contact,
        allowed: refusal.is_none(),
        rule,
        reason: refusal.map(|refusal| refusal.to_string()),
    }
}

/// A message as the account writes it when nothing is chosen, as near as may be to what its agreements ask for.
fn attributes(account: &LocalAccount, links: &[Link<'_>]) -> MessageAttributes {
    let policy = &account.policy;
    let agreements = links.iter().filter_map(|link| link.agreement);
    let ttl_seconds = agreements.fold(policy.ttl.default_seconds, |seconds, agreement| {
        seconds
            .max(agreement.ttl_min_seconds)
            .min(agreement.ttl_max_seconds)
    });
    MessageAttributes {
        ttl_seconds: ttl_seconds.max(1),
        burn_seconds: policy.burn.default_seconds,
        label: policy.labels.default,
        file: false,
    }
}

/// Asks the partner whether it shows the person to `account`, when `account` may ask that.
async fn partner_half(
    batch: &mut Batch<'_>,
    account: AccountId,
    contacts: &[ExplainedContact],
    to: &Address,
) -> Result<PartnerHalf, IdentityError> {
    let not_shared = |reason: String| PartnerHalf {
        state: PartnerState::NotShared,
        allowed: None,
        reason,
        explanation: None,
    };
    let refused = contacts
        .iter()
        .find(|explained| explained.contact == Contact::Find && !explained.allowed);
    if let Some(refused) = refused {
        let rule = &refused.rule;
        return Ok(not_shared(format!(
            "{} is not asked: its people may not be looked up by this one ({rule})",
            to.server
        )));
    }
    match settle(ask(batch, account, to).await) {
        Ok(Ok(explanation)) => Ok(asked(&to.server, explanation)),
        Ok(Err(refusal)) => Ok(not_shared(refusal.to_string())),
        Err(error) => Err(error.into()),
    }
}

/// Sends the look-up; what its answer is found by.
async fn ask(batch: &mut Batch<'_>, account: AccountId, to: &Address) -> Result<String, NotTaken> {
    // No device: the answer is fetched by whoever knows these.
    let device = DeviceId::from_bytes(batch.node.random_id()?);
    let request = RequestId::from_bytes(batch.node.random_id()?);
    let sought = Sought::Handle(to.handle.clone());
    let times = Times {
        accepted_ms: batch.now_ms,
        expires_ms: batch.now_ms.saturating_add(LOOK_UP_TTL_MS),
    };
    let open = LookUpRecord {
        server: to.server.clone(),
        sought: sought.clone(),
        // The question may travel that long, and then its answer.
        expires_ms: times.expires_ms.saturating_add(LOOK_UP_TTL_MS),
        asker: Asker::Administrator(None),
    };
    let payload = Payload::DirectoryQuery(DirectoryQuery {
        request,
        requester: Sender { account, device },
        sought,
    });
    batch.send(&to.server, None, &payload, times, None).await?;
    look_up::put(&mut batch.part, device, request, &open)?;
    Ok([*device.as_bytes(), *request.as_bytes()]
        .map(hex::encode)
        .concat())
}

fn parse(explanation: &str) -> Option<(DeviceId, RequestId)> {
    let bytes: [u8; EXPLANATION_BYTES] = hex::decode(explanation).ok()?.try_into().ok()?;
    let (device, request) = bytes.split_at(EXPLANATION_BYTES / 2);
    Some((
        DeviceId::from_bytes(device.try_into().ok()?),
        RequestId::from_bytes(request.try_into().ok()?),
    ))
}

fn asked(server: &ServerName, explanation: String) -> PartnerHalf {
    PartnerHalf {
        state: PartnerState::Asked,
        allowed: None,
        reason: format!("{server} was asked and has not answered yet"),
        explanation: Some(explanation),
    }
}

fn answered(allowed: Option<bool>, reason: String) -> PartnerHalf {
    PartnerHalf {
        state: PartnerState::Answered,
        allowed,
        reason,
        explanation: None,
    }
}
