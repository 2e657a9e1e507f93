//! Looking people up, at home and at peers.
//!
//! No question tells whether somebody is there who may not be found: unknown, hidden and out of scope are one
//! answer, "nobody". What an account asks, and what a peer asks for all its people, is counted: nobody copies a
//! directory. Over its allowance a question is refused rather than put off, for what a device submits and what
//! a peer sends in the control lane waits for what was before it.

use std::num::TryFromIntError;

use federation_proto::ids::{AccountId, Address, DeviceId, Handle, RequestId, RoomId, ServerName};
use federation_proto::limits::DIRECTORY_HANDLES_MAX;
use federation_proto::payload::{DirectoryAnswer, DirectoryQuery, Found, Payload, Sender, Sought};
use federation_proto::refusal::{Refusal, RefusalCode};
use homeserver_api::admin::Operation;
use homeserver_api::policy::Contact;
use homeserver_api::session::Listing;

use super::batch::{Batch, NotTaken, Times, policy_links, settle};
use super::dead_letters::said_by;
use super::envelope::{append_if_room, granted, malformed};
use super::limits::{
    ACCOUNT_LOOK_UP_UNITS_MAX, LOOK_UP_HANDLES_MAX, LOOK_UP_TTL_MS, LOOK_UPS_MS,
    PEER_LOOK_UP_UNITS_MAX,
};
use super::submit::Submitter;
use super::{colleagues, inbox};
use crate::audit::Actor;
use crate::identity::LocalAccount;
use crate::policy::{self, Input, Rules};
use crate::store::StoreError;
use crate::store::account;
use crate::store::allowance::{Purpose, Whose};
use crate::store::inbox::InboxBody;
use crate::store::look_up::{self, Asker, LookUpRecord};

/// An own device asks.
pub(super) async fn ask(
    submitter: &Submitter<'_>,
    batch: &mut Batch<'_>,
    counter: u64,
    request: RequestId,
    (server, sought): (&ServerName, &Sought),
) -> Result<(), NotTaken> {
    submitter.evaluate(batch, [server], &Input::LookUp)?;
    let device = submitter.device;
    let budget = Budget {
        whose: Whose::Account(device.account),
        units_max: ACCOUNT_LOOK_UP_UNITS_MAX,
        actor: Actor::Device(device.device),
    };
    budget.check(batch).await?;
    if *server == batch.node.server {
        let found = find(batch, Seeker::Own(device.account), sought).await?;
        budget.charge(batch, found.handles.len());
        let listing = listing(server, found);
        let body = InboxBody::Directory {
            request,
            result: Ok(listing),
        };
        return Ok(inbox::append(batch, device.device, body).await?);
    }
    budget.charge(batch, 0);
    let payload = Payload::DirectoryQuery(DirectoryQuery {
        request,
        requester: Sender {
            account: device.account,
            device: device.device,
        },
        sought: sought.clone(),
    });
    let times = times(batch);
    let open = LookUpRecord {
        server: server.clone(),
        sought: sought.clone(),
        // The question may travel that long, and then its answer.
        expires_ms: times.expires_ms.saturating_add(LOOK_UP_TTL_MS),
        asker: Asker::Device,
    };
    look_up::put(&mut batch.part, device.device, request, &open)?;
    // A question is of no room; its sender is found by the request's id.
    let sender = submitter.sender_ref(RoomId::from_bytes([0; 16]), counter);
    batch
        .send(server, None, &payload, times, Some(sender))
        .await
}

/// A peer's device asks: the answer goes back in an envelope of its own.
pub(super) async fn take_query(
    batch: &mut Batch<'_>,
    peer: &ServerName,
    query: &DirectoryQuery,
) -> Result<(), NotTaken> {
    granted(batch, peer, Operation::Directory)?;
    let budget = Budget {
        whose: Whose::Peer(peer.clone()),
        units_max: PEER_LOOK_UP_UNITS_MAX,
        actor: Actor::Peer(peer.clone()),
    };
    let result = match settle(budget.check(batch).await)? {
        Ok(()) => {
            let found = find(batch, Seeker::Peer(peer), &query.sought).await?;
            budget.charge(batch, found.handles.len());
            Ok(found)
        }
        Err(refusal) => {
            batch.note_refused_answer();
            Err(refusal)
        }
    };
    let answer = Payload::DirectoryAnswer(DirectoryAnswer {
        request: query.request,
        device: query.requester.device,
        result,
    });
    let times = times(batch);
    batch.send(peer, None, &answer, times, None).await
}

/// A peer answers.
pub(super) async fn take_answer(
    batch: &mut Batch<'_>,
    peer: &ServerName,
    answer: DirectoryAnswer,
) -> Result<(), NotTaken> {
    let (device, request) = (answer.device, answer.request);
    let found = look_up::get(&batch.node.store, device, request).await?;
    let now_ms = batch.now_ms;
    let asked = found.filter(|(asked, _)| {
        let answered = matches!(asked.asker, Asker::Administrator(Some(_)));
        asked.server == *peer && asked.expires_ms > now_ms && !answered
    });
    let Some((mut asked, read)) = asked else {
        return Err(not_asked());
    };
    if let Ok(found) = &answer.result
        && !found
            .handles
            .iter()
            .all(|handle| asked.sought.includes(handle))
    {
        return Err(malformed("it names people whom nobody looked for"));
    }
    // An answer to the same question, earlier in this part?
    if !batch.take(look_up::key(device, request)) {
        return Err(not_asked());
    }
    if matches!(asked.asker, Asker::Administrator(_)) {
        let answer = answer.result.map(|found| !found.handles.is_empty());
        let answer = answer.map_err(|refusal| said_by(peer, &refusal));
        asked.asker = Asker::Administrator(Some(answer));
        return Ok(look_up::answer(
            &mut batch.part,
            device,
            request,
            &asked,
            read,
        )?);
    }
    look_up::take(&mut batch.part, device, request, read);
    let result = match answer.result {
        Ok(found) => Ok(listing(peer, found)),
        Err(refusal) => Err(said_by(peer, &refusal)),
    };
    let body = InboxBody::Directory { request, result };
    append_if_room(batch, device, body).await
}

/// A question is given up before the peer has taken it: what its device is told.
pub(super) async fn given_up(
    batch: &mut Batch<'_>,
    device: DeviceId,
    query: &DirectoryQuery,
    refusal: &Refusal,
) -> Result<InboxBody, StoreError> {
    let request = query.request;
    if let Some((_, read)) = look_up::get(&batch.node.store, device, request).await? {
        look_up::take(&mut batch.part, device, request, read);
    }
    Ok(InboxBody::Directory {
        request,
        result: Err(refusal.clone()),
    })
}

/// What somebody may still ask.
struct Budget {
    whose: Whose,
    units_max: u32,
    actor: Actor,
}

impl Budget {
    async fn check(&self, batch: &mut Batch<'_>) -> Result<(), NotTaken> {
        let (purpose, units_max) = (Purpose::LookUp, self.units_max);
        let left = batch
            .allows(purpose, &self.whose, units_max, LOOK_UPS_MS)
            .await?;
        left.map_err(|wait_ms| {
            let wait = policy::in_words(rounded_up(wait_ms));
            let reason = match self.whose {
                Whose::Account(_) => {
                    format!("you have looked up as many people as you may in a day: try again in {wait}")
                }
                Whose::Peer(_) => format!(
                    "your organisation has looked up as many people here as it may in a day: try again in {wait}"
                ),
            };
            NotTaken::refused(RefusalCode::RateLimited, reason)
        })
    }

    /// Counts a question and what it was told.
    fn charge(&self, batch: &mut Batch<'_>, told: usize) {
        let told: Result<u32, TryFromIntError> = told.try_into();
        let units = told.unwrap_or(u32::MAX).saturating_add(1);
        let units_max = self.units_max;
        if batch.use_up(Purpose::LookUp, &self.whose, units, units_max) {
            let detail = format!(
                "{units_max} look-ups and addresses within a day: further look-ups are refused until it is over"
            );
            let subject = batch.node.server.clone();
            batch.audit(self.actor.clone(), "directory.limited", subject, detail);
        }
    }
}

/// Who looks.
#[derive(Debug, Clone, Copy)]
enum Seeker<'a> {
    /// An account of this homeserver.
    Own(AccountId),
    /// Somebody of a peer.
    Peer(&'a ServerName),
}

/// Who of this organisation is found by `seeker`.
async fn find(
    batch: &mut Batch<'_>,
    seeker: Seeker<'_>,
    sought: &Sought,
) -> Result<Found, StoreError> {
    let store = batch.node.store.clone();
    let (candidates, by_beginning): (Vec<(Handle, AccountId)>, bool) = match sought {
        Sought::Handle(handle) => {
            let id = account::by_handle(&store, handle).await?;
            (
                id.map(|id| (handle.clone(), id)).into_iter().collect(),
                false,
            )
        }
        Sought::Prefix(beginning) => {
            let handles = account::handles_with(&store, beginning, LOOK_UP_HANDLES_MAX).await?;
            (handles, true)
        }
    };
    let mut found = Found::default();
    for (handle, id) in candidates {
        // Handles outlive their accounts.
        let Some(account) = batch.account(id).await? else {
            continue;
        };
        let (peer, barred) = match seeker {
            Seeker::Peer(peer) => (Some(peer), false),
            Seeker::Own(own) => {
                let may = colleagues::may(batch, (own, id), Contact::Find).await?;
                (None, may.is_err())
            }
        };
        if barred || !may_be_found(batch, peer, &account, by_beginning) {
            continue;
        }
        if found.handles.len() == DIRECTORY_HANDLES_MAX {
            found.more = true;
            break;
        }
        found.handles.push(handle);
    }
    Ok(found)
}

fn may_be_found(
    batch: &mut Batch<'_>,
    peer: Option<&ServerName>,
    account: &LocalAccount,
    by_beginning: bool,
) -> bool {
    let links = batch.links(peer);
    let rules = Rules {
        party: account.party(),
        links: &policy_links(&links),
        now_ms: batch.now_ms,
    };
    policy::evaluate(&rules, &Input::BeFound { by_beginning }) == policy::Decision::Allowed
}

fn listing(server: &ServerName, found: Found) -> Listing {
    let address = |handle| Address {
        handle,
        server: server.clone(),
    };
    Listing {
        addresses: found.handles.into_iter().map(address).collect(),
        more: found.more,
    }
}

fn times(batch: &Batch<'_>) -> Times {
    Times {
        accepted_ms: batch.now_ms,
        expires_ms: batch.now_ms.saturating_add(LOOK_UP_TTL_MS),
    }
}

/// Whole minutes, or whole hours of more than one, in seconds.
fn rounded_up(ms: u64) -> u32 {
    const MINUTE_MS: u64 = 60 * 1000;
    const HOUR_MS: u64 = 60 * MINUTE_MS;
    let unit_ms = if ms > HOUR_MS { HOUR_MS } else { MINUTE_MS };
    let rounded_ms = ms.div_ceil(unit_ms).saturating_mul(unit_ms);
    u32::try_from(rounded_ms / 1000).unwrap_or(u32::MAX)
}

fn not_asked() -> NotTaken {
    malformed("nobody here waits for an answer to this look-up")
}
