//! What a device submits: judged item by item, taken in one part, answered when that is durable.
//!
//! Idempotent by the device's counter: a repeated one gets its stored result again. On a conflict
//! (rules, an agreement or a room changed meanwhile) nothing has happened and all is judged anew.

use bytes::Bytes;
use federation_proto::ids::{Member, RoomId, ServerName};
use federation_proto::limits::MESSAGE_BYTES_MAX;
use federation_proto::payload::{Handshake, Payload};
use federation_proto::refusal::{Refusal, RefusalCode};
use homeserver_api::session::{Commit, Outcome, Submission, SubmissionBody, SubmissionResult};

use super::batch::{Batch, NotTaken, Times, policy_links, settle};
use super::limits::{CONFLICT_ATTEMPTS_MAX, CONFLICT_RETRY_MS, SPACE_RETRY_MS};
use super::{directory, group_info, inbox, keys, outbox::SenderRef, reports, room_consents};
use crate::audit::{Actor, Event};
use crate::ciphertext::Ciphertext;
use crate::identity::LocalAccount;
use crate::node::Node;
use crate::policy::{self, Input, Rules};
use crate::rooms::leaving::{self, Leaver};
use crate::rooms::{self, RoomCommit, RoomMessage, hub};
use crate::store::device::DeviceOf;
use crate::store::inbox::InboxBody;
use crate::store::submit_state::{self, SubmitState};
use crate::store::{PartOutcome, Precondition, StoreError};

/// Takes or refuses what a device submits; returns when the outcome is durable. One result for each
/// submission, in their order.
pub async fn submit(
    node: &Node,
    device: DeviceOf,
    submissions: &[Submission],
) -> Result<Vec<SubmissionResult>, StoreError> {
    if let Some(refusal) = node.space.refusal() {
        let retry_after_ms = u64::from(SPACE_RETRY_MS);
        return Ok(each(
            submissions,
            &Outcome::Deferred {
                retry_after_ms,
                refusal,
            },
        ));
    }
    for _ in 0..CONFLICT_ATTEMPTS_MAX {
        if let Some(results) = attempt(node, device, submissions).await? {
            return Ok(results);
        }
        // Perhaps an agreement is no longer what the directory says.
        node.peers.refresh(node).await?;
    }
    Ok(each(submissions, &busy()))
}

/// One outcome for all of them.
fn each(submissions: &[Submission], outcome: &Outcome) -> Vec<SubmissionResult> {
    submissions
        .iter()
        .map(|submission| SubmissionResult {
            counter: submission.counter,
            outcome: outcome.clone(),
        })
        .collect()
}

fn busy() -> Outcome {
    Outcome::Deferred {
        retry_after_ms: CONFLICT_RETRY_MS,
        refusal: Refusal::new(
            RefusalCode::RateLimited,
            "the rules or the room change too fast just now: submit again in a moment",
        ),
    }
}

/// One attempt; `None` on a conflict.
async fn attempt(
    node: &Node,
    device: DeviceOf,
    submissions: &[Submission],
) -> Result<Option<Vec<SubmissionResult>>, StoreError> {
    let mut batch = Batch::open(node).await?;
    if node.mailboxes.is_held(device.device) {
        // It is being cut off. If that fails, it submits again.
        return Ok(Some(each(submissions, &busy())));
    }
    let (mut state, read) = submit_state::get(&node.store, device.device).await?;
    let account = match batch.account_of(device.device).await? {
        Some(account) => batch.account(account).await?,
        None => None,
    };
    let Some(account) = account else {
        return Ok(Some(each(submissions, &gone())));
    };
    let before = state.last_counter();
    let mut submitter = Submitter {
        device,
        account: &account,
        member: Member {
            server: node.server.clone(),
            account: device.account,
            device: device.device,
        },
    };
    let mut results = Vec::with_capacity(submissions.len());
    for submission in submissions {
        let outcome = submitter.judge(&mut batch, &mut state, submission).await?;
        results.push(SubmissionResult {
            counter: submission.counter,
            outcome,
        });
    }
    if state.last_counter() == before {
        // Repetitions and gaps alone: nothing to write.
        return Ok(Some(results));
    }
    let key = submit_state::key(device.device);
    batch.part.require(Precondition::unchanged(key, read));
    state.put(&mut batch.part, device.device)?;
    match batch.commit().await? {
        PartOutcome::Committed => Ok(Some(results)),
        PartOutcome::Conflict => Ok(None),
    }
}

/// The device was removed a moment ago; its session is about to be cut.
fn gone() -> Outcome {
    Outcome::Refused(Refusal::new(
        RefusalCode::AccountSuspended,
        "this device was removed from its account: enrol it anew",
    ))
}

/// The device whose submissions are judged.
pub(super) struct Submitter<'a> {
    pub(super) device: DeviceOf,
    pub(super) account: &'a LocalAccount,
    member: Member,
}

impl Submitter<'_> {
    async fn judge(
        &mut self,
        batch: &mut Batch<'_>,
        state: &mut SubmitState,
        submission: &Submission,
    ) -> Result<Outcome, StoreError> {
        let counter = submission.counter;
        let last = state.last_counter();
        if counter <= last {
            let store = &batch.node.store;
            let kept = state.outcome(store, self.device.device, counter).await?;
            return Ok(kept.unwrap_or_else(|| too_old(counter)));
        }
        if counter != last.saturating_add(1) {
            return Ok(Outcome::Refused(Refusal::new(
                RefusalCode::CounterGap,
                format!("the next submission has counter {}", last.saturating_add(1)),
            )));
        }
        let mark = batch.mark();
        let taken = match &submission.body {
            SubmissionBody::Message { room, message } => {
                self.message(batch, counter, *room, message).await
            }
            SubmissionBody::Commit(commit) => self.commit(batch, counter, commit).await,
            SubmissionBody::ClaimKeys {
                request,
                address,
                known,
            } => keys::claim(self, batch, counter, *request, (address, &known[..])).await,
            SubmissionBody::AskDevices {
                request,
                server,
                account,
                known,
            } => {
                let of = (server, *account, &known[..]);
                keys::ask_devices(self, batch, counter, *request, of).await
            }
            SubmissionBody::LookUp {
                request,
                server,
                sought,
            } => directory::ask(self, batch, counter, *request, (server, sought)).await,
            SubmissionBody::Report(report) => reports::submit(self, batch, counter, report).await,
            SubmissionBody::RequestGroupInfo { request, room } => {
                let sender = self.sender_ref(*room, counter);
                group_info::request(batch, &self.member, sender, *request).await
            }
            SubmissionBody::AskConsent {
                request,
                server,
                room,
                domains,
            } => {
                let of = (server, *room, &domains[..]);
                room_consents::ask(self, batch, counter, *request, of).await
            }
            SubmissionBody::Leave { room } => self.leave(batch, counter, *room).await,
        };
        let outcome = match settle(taken)? {
            Ok(()) => Outcome::Accepted {
                accepted_ms: batch.now_ms,
            },
            Err(refusal) => {
                batch.roll_back(&mark);
                self.audit_refusal(batch, &submission.body, &refusal)
                    .await?;
                Outcome::Refused(refusal)
            }
        };
        state.push(&outcome);
        Ok(outcome)
    }

    async fn audit_refusal(
        &self,
        batch: &mut Batch<'_>,
        body: &SubmissionBody,
        refusal: &Refusal,
    ) -> Result<(), StoreError> {
        let (action, subject) = match body {
            SubmissionBody::Message { room, .. } => ("message.refused", room.to_string()),
            SubmissionBody::Commit(commit) => ("commit.refused", commit.room.to_string()),
            SubmissionBody::ClaimKeys { address, .. } => ("invite.refused", address.to_string()),
            SubmissionBody::AskDevices { server, .. } => ("devices.refused", server.to_string()),
            SubmissionBody::LookUp { server, .. } => ("directory.refused", server.to_string()),
            SubmissionBody::Report(report) => {
                let server = &report.address.server;
                let subject = format!("account {} of {server}", report.account);
                ("report.refused", subject)
            }
            SubmissionBody::RequestGroupInfo { room, .. } => {
                ("group-info.refused", room.to_string())
            }
            SubmissionBody::AskConsent { room, .. } => ("room-consent.refused", room.to_string()),
            SubmissionBody::Leave { room } => ("leave.refused", room.to_string()),
        };
        let (actor, detail) = (Actor::Device(self.device.device), refusal.to_string());
        match (refusal.code, body) {
            // Lost races are a room's everyday life.
            (RefusalCode::WrongEpoch | RefusalCode::PendingRemoves, _) => {}
            // A device that commits without end has as many refused as it likes.
            (RefusalCode::RateLimited, SubmissionBody::Commit(_)) => {
                let (node, at_ms) = (batch.node, batch.now_ms);
                let event = Event {
                    at_ms,
                    actor,
                    action,
                    subject,
                    detail,
                };
                node.repeated.note(&node.store, event).await?;
            }
            _ => batch.audit(actor, action, subject, detail),
        }
        Ok(())
    }

    pub(super) const fn member(&self) -> &Member {
        &self.member
    }

    pub(super) fn sender_ref(&self, room: RoomId, counter: u64) -> SenderRef {
        SenderRef {
            account: self.device.account,
            device: self.device.device,
            room,
            counter,
        }
    }

    /// Judges by the account's own rules and the agreements with `servers`.
    pub(super) fn evaluate<'s>(
        &self,
        batch: &mut Batch<'_>,
        servers: impl IntoIterator<Item = &'s ServerName>,
        input: &Input,
    ) -> Result<(), Refusal> {
        let links = batch.links(servers);
        let rules = Rules {
            party: self.account.party(),
            links: &policy_links(&links),
            now_ms: batch.now_ms,
        };
        policy::evaluate(&rules, input).into_result()
    }

    async fn message(
        &self,
        batch: &mut Batch<'_>,
        counter: u64,
        id: RoomId,
        message: &Bytes,
    ) -> Result<(), NotTaken> {
        if message.len() > MESSAGE_BYTES_MAX {
            return Err(NotTaken::refused(
                RefusalCode::TooLarge,
                format!("a message has at most {MESSAGE_BYTES_MAX} bytes: send it as a file"),
            ));
        }
        let room = match batch.room(id).await? {
            Some(room) if room.may_act(&self.member) => room.without_going(),
            Some(_) | None => return Err(rooms::unknown_room()),
        };
        let mut message = RoomMessage {
            room: id,
            sender: self.member.clone(),
            message: Ciphertext::new(message.clone()),
            accepted_ms: batch.now_ms,
            expires_ms: 0,
        };
        let attributes = rooms::read_message(&message, &room, batch.now_ms)?;
        self.evaluate(batch, room.servers(), &Input::Send(attributes))?;
        let ttl_ms = u64::from(attributes.ttl_seconds).saturating_mul(1000);
        message.expires_ms = batch.now_ms.saturating_add(ttl_ms);

        if room.hub == batch.node.server {
            let origin = hub::Origin::Own { counter };
            let unreached = hub::order_message(batch, &message, origin).await?;
            for (server, refusal) in unreached {
                let body = InboxBody::Returned {
                    room: id,
                    counter,
                    server,
                    refusal,
                };
                inbox::append(batch, self.device.device, body).await?;
            }
            return Ok(());
        }
        let times = Times {
            accepted_ms: message.accepted_ms,
            expires_ms: message.expires_ms,
        };
        let payload = hub::own_message(&message, counter);
        let sender = self.sender_ref(id, counter);
        batch
            .send(&room.hub, Some(id), &payload, times, Some(sender))
            .await
    }

    /// The account leaves; also one that may do nothing else any more.
    async fn leave(
        &self,
        batch: &mut Batch<'_>,
        counter: u64,
        room: RoomId,
    ) -> Result<(), NotTaken> {
        let known = batch.room(room).await?;
        if known.is_none_or(|known| !known.has(&self.member)) {
            return Err(rooms::unknown_room());
        }
        let leaver = Leaver {
            server: &self.member.server,
            account: self.member.account,
            device: None,
        };
        leaving::ask(batch, room, &leaver, Some(self.sender_ref(room, counter))).await
    }

    async fn commit(
        &self,
        batch: &mut Batch<'_>,
        counter: u64,
        commit: &Commit,
    ) -> Result<(), NotTaken> {
        if self.account.suspended {
            self.evaluate(batch, [], &Input::Invite)?;
        }
        let room_commit = RoomCommit {
            room: commit.room,
            hub: commit.hub.clone(),
            epoch: commit.epoch,
            sender: self.member.clone(),
            commit: Ciphertext::new(commit.commit.clone()),
            adds: commit.adds.clone(),
            removes: commit.removes.clone(),
            welcome: commit.welcome.clone().map(Ciphertext::new),
            group_info: Some(commit.group_info.clone()),
            founding: commit.founding.clone(),
            counter,
        };
        if commit.hub == batch.node.server {
            return hub::order_commit(batch, &room_commit, true).await;
        }
        // The hub orders it. What is sure to fail there need not travel.
        rooms::follower::check_proposal(batch, &room_commit).await?;
        let payload = Payload::Handshake(Handshake {
            room: commit.room,
            hub: commit.hub.clone(),
            epoch: commit.epoch,
            sender: self.member.clone(),
            reference: counter,
            commit: commit.commit.clone(),
            adds: commit.adds.clone(),
            removes: commit.removes.clone(),
            welcome: commit.welcome.clone(),
            group_info: Some(commit.group_info.clone()),
            stamp_ms: 0,
        });
        let times = Times {
            accepted_ms: batch.now_ms,
            expires_ms: 0,
        };
        let sender = self.sender_ref(commit.room, counter);
        let room = Some(commit.room);
        batch
            .send(&commit.hub, room, &payload, times, Some(sender))
            .await
    }
}

fn too_old(counter: u64) -> Outcome {
    Outcome::Refused(Refusal::new(
        RefusalCode::CounterGap,
        format!("submission {counter} was answered so long ago that its result is no longer kept"),
    ))
}
