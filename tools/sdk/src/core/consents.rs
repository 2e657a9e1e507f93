//! A room's policy: the consents of the organisations in it, asked for, put in, renewed, and kept to.
//!
//! The room's group carries them, so no server can loosen what another one has signed: what this device writes it
//! holds to what all of them allow, and it takes in nothing that does not keep to it.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use homeserver_api::codec::Wire as _;
use homeserver_api::ids::{Member, RequestId, RoomId, ServerName};
use homeserver_api::refusal::Refusal;
use homeserver_api::room_consent::SignedRoomConsent;
use homeserver_api::session::SubmissionBody;
use room_rules::consents::{Bounds, Consents};
use room_rules::settings::{RETAINED_EPOCHS, RoomSettings};

use super::Core;
use super::plan::Plan;
use super::records::{
    ConsentAsk, EpochBounds, Operation, OperationKind, PolicyRecord, Purpose, RoomRecord, Standing,
};
use super::rooms::{Leaf, settings};
use super::successors::{lineage_of, says};
use crate::error::Error;
use crate::mls::Group;

const HOUR_MS: u64 = 60 * 60 * 1000;
/// How long before its end an organisation's people renew its consent.
const RENEW_AHEAD_MS: u64 = 30 * 24 * HOUR_MS;
/// How long each device of the organisation waits for the one before it to do that,
const RENEW_TURN_MS: u64 = 6 * HOUR_MS;
/// and so many of them at most.
const RENEW_TURNS_MAX: u64 = 40;
/// When it is tried again, where nothing came of it or the new one ends no later.
const RENEW_AGAIN_MS: u64 = 24 * HOUR_MS;

impl Core {
    /// Asks for the consents that a room with these organisations lacks, for an operation that brings them together.
    pub(super) fn ask_consents(
        &mut self,
        operation: &mut Operation,
        domains: &BTreeSet<ServerName>,
        present: &Consents,
    ) -> Result<(), Error> {
        let now = self.now_ms();
        for server in domains {
            let stands = present.get(server).is_some_and(|consent| {
                let claims = consent.claims();
                domains.is_subset(&claims.domains) && claims.is_in_force(now)
            });
            let is_asked = operation
                .consents
                .iter()
                .any(|ask| ask.server == *server && domains.is_subset(&ask.domains));
            if !stands && !is_asked {
                self.ask_consent(operation, server, domains)?;
            }
        }
        Ok(())
    }

    /// Asks beside the claims for what an operation is going to need, as far as that can be foreseen.
    pub(super) fn ask_foreseen(&mut self, operation: &mut Operation) -> Result<(), Error> {
        let listed = match operation.kind {
            OperationKind::Create => None,
            OperationKind::Add => Some(settings(self.group(operation.room)?)?),
            _ => return Ok(()),
        };
        let claimed = operation.claims.iter();
        let mut domains: BTreeSet<ServerName> =
            claimed.map(|claim| claim.address.server.clone()).collect();
        domains.insert(self.identity.member.server.clone());
        if let Some(listed) = &listed {
            domains.extend(listed.domains().into_iter().cloned());
        }
        let consents = listed.map(|listed| listed.consents).unwrap_or_default();
        self.ask_consents(operation, &domains, &consents)
    }

    /// Asks for what a plan needs and nobody has foreseen; whether there was any.
    pub(super) fn ask_for_plan(
        &mut self,
        operation: &Operation,
        plan: &Plan,
    ) -> Result<bool, Error> {
        let brings = matches!(operation.kind, OperationKind::Create | OperationKind::Add);
        let Some(next) = plan.settings.as_ref().filter(|_| brings) else {
            return Ok(false);
        };
        let domains = next.domains().into_iter().cloned().collect();
        let mut asking = operation.clone();
        self.ask_consents(&mut asking, &domains, &next.consents)?;
        let asks = asking.consents.len() > operation.consents.len();
        if asks {
            self.put_operation(asking)?;
        }
        Ok(asks)
    }

    fn ask_consent(
        &mut self,
        operation: &mut Operation,
        server: &ServerName,
        domains: &BTreeSet<ServerName>,
    ) -> Result<(), Error> {
        let request = RequestId::from_bytes(self.random_bytes()?);
        let body = SubmissionBody::AskConsent {
            request,
            server: server.clone(),
            room: operation.room,
            domains: domains.iter().cloned().collect(),
        };
        self.enqueue(body, Purpose::Consent { request })?;
        operation.consents.push(ConsentAsk {
            request,
            server: server.clone(),
            domains: domains.clone(),
            answer: None,
        });
        Ok(())
    }

    /// Takes in an organisation's answer.
    pub(super) fn take_room_consent(
        &mut self,
        request: RequestId,
        result: Result<Bytes, Refusal>,
    ) -> Result<(), Error> {
        let waiting = self.operations.values().find_map(|operation| {
            let asks = &operation.consents;
            let at = asks
                .iter()
                .position(|ask| ask.request == request && ask.answer.is_none())?;
            Some((operation.clone(), at))
        });
        // An answer that nobody waits for: the operation has failed meanwhile.
        let Some((mut operation, at)) = waiting else {
            return Ok(());
        };
        let bytes = match result {
            Ok(bytes) => bytes,
            Err(refusal) => {
                return self.fail_operation(operation.number, Error::Refused(refusal));
            }
        };
        let room = operation.room;
        if let Some(ask) = operation.consents.get_mut(at) {
            let fits = SignedRoomConsent::from_bytes(bytes.clone()).is_ok_and(|consent| {
                let claims = consent.claims();
                claims.server == ask.server && claims.room == room
            });
            if !fits {
                let error =
                    Error::Policy(format!("what {} has answered is no consent", ask.server));
                return self.fail_operation(operation.number, error);
            }
            ask.answer = Some(bytes);
        }
        self.put_operation(operation)?;
        self.advance_room(room)
    }

    /// There is no agreement any more with whoever orders a room, or the own organisation has ended the one with somebody
    /// in it: it is over here, and what was said stays.
    pub(super) fn take_closed(&mut self, room: RoomId, server: &ServerName) -> Result<(), Error> {
        let record = self.room(room)?;
        let hub = record.hub.clone();
        if matches!(record.standing, Standing::Left | Standing::Broken(_)) {
            return Ok(());
        }
        if hub == *server {
            let reason = format!("the agreement with {server}, which orders it, has ended");
            return self.break_room(room, &reason);
        }
        if !settings(self.group(room)?)?.domains().contains(server) {
            return Err(Error::Protocol(format!(
                "the homeserver closes a room of {hub} for the end of the agreement with {server}, which is not in it"
            )));
        }
        let reason = format!(
            "your organisation has ended its agreement with {server}, whose people are in it: yours have left it"
        );
        self.break_room(room, &reason)
    }

    /// Begins to renew the own organisation's consents whose time has come.
    pub(super) fn renew_consents_due(&mut self) -> Result<(), Error> {
        let now = self.now_ms();
        let due = self.renew_at.iter().filter(|(_, at)| **at <= now);
        for room in due.map(|(room, _)| *room).collect::<Vec<_>>() {
            let mut record = self.room(room)?.clone();
            // Unless the room goes on with a newer one.
            record.policy.renew_at_ms = Some(now.saturating_add(RENEW_AGAIN_MS));
            self.put_room(record)?;
            let is_under_way = |operation: &Operation| {
                operation.room == room && operation.kind == OperationKind::Consent
            };
            if self.operations.values().any(is_under_way) {
                continue;
            }
            let listed = settings(self.group(room)?)?;
            let domains = listed.domains().into_iter().cloned().collect();
            let number = self.new_operation(room, OperationKind::Consent, BTreeSet::new(), None)?;
            let Some(mut operation) = self.operations.get(&number).cloned() else {
                continue;
            };
            let own = self.identity.member.server.clone();
            self.ask_consent(&mut operation, &own, &domains)?;
            self.put_operation(operation)?;
        }
        Ok(())
    }

    /// Keeps up when the own organisation's consent to a room is to be renewed.
    pub(super) fn schedule_renewal(&mut self, record: &RoomRecord) {
        let renews = record.standing == Standing::Joined;
        match record.policy.renew_at_ms.filter(|_| renews) {
            Some(at_ms) => {
                self.renew_at.insert(record.room, at_ms);
                self.effects.schedule_changed = true;
            }
            None => drop(self.renew_at.remove(&record.room)),
        }
    }

    /// What the organisations in a room let its messages be now.
    pub(super) fn bounds(&self, room: RoomId) -> Result<Bounds, Error> {
        let policy = &self.room(room)?.policy;
        Ok(policy
            .bounds
            .last()
            .map_or_else(Bounds::default, |of| of.bounds))
    }

    /// Whether a room stands still because a consent to it has ended; the error says whose.
    pub(super) fn is_consented(&self, room: RoomId) -> Result<(), Error> {
        let policy = &self.room(room)?.policy;
        match &policy.ends {
            Some((at_ms, server)) if *at_ms <= self.now_ms() => {
                Err(room_rules::Error::ConsentEnded(server.clone()).into())
            }
            _ => Ok(()),
        }
    }
}

/// Puts in what was answered, as far as it is newer than what stands there, and drops what nobody needs any more.
pub(super) fn put_in(operation: &Operation, next: &mut RoomSettings) {
    let answered = operation.consents.iter().filter_map(|ask| {
        let bytes = ask.answer.clone()?;
        SignedRoomConsent::from_bytes(bytes).ok()
    });
    for consent in answered {
        let claims = consent.claims();
        let present = next
            .consents
            .get(&claims.server)
            .map(SignedRoomConsent::claims);
        let is_newer = present.is_none_or(|present| {
            // A renewal for its own sake is one when it lasts longer.
            let lasts =
                operation.kind != OperationKind::Consent || claims.expires_ms > present.expires_ms;
            claims.serial > present.serial && lasts
        });
        if is_newer {
            next.consents.insert(claims.server.clone(), consent);
        }
    }
    next.drop_unlisted();
}

/// A room's policy in the epoch that its group is in.
pub(super) fn policy_of(
    before: PolicyRecord,
    group: &Group,
    leaves: &[Leaf],
    own: &Member,
) -> Result<PolicyRecord, Error> {
    let PolicyRecord {
        mut bounds,
        lineage,
        ..
    } = before;
    let settings = settings(group)?;
    let epoch = group.current_epoch();
    let now = Bounds::of(&settings.consents)?;
    if bounds.last().is_none_or(|last| last.bounds != now) {
        bounds.push(EpochBounds { epoch, bounds: now });
    }
    // What messages are held to that can still be read: the last one before them, and those since.
    let oldest = epoch.saturating_sub(RETAINED_EPOCHS.into());
    let older = bounds.iter().filter(|of| of.epoch <= oldest).count();
    bounds.drain(..older.saturating_sub(1));
    let end = |(server, consent): (&ServerName, &SignedRoomConsent)| {
        (consent.claims().expires_ms, server.clone())
    };
    let index = group.current_member_index();
    let before_us = leaves
        .iter()
        .filter(|leaf| leaf.device.member.server == own.server && leaf.index < index)
        .count();
    let turn = u64::try_from(before_us)
        .unwrap_or(u64::MAX)
        .min(RENEW_TURNS_MAX);
    let renew_at = |consent: &SignedRoomConsent| {
        let claims = consent.claims();
        let first = claims.expires_ms.saturating_sub(RENEW_AHEAD_MS);
        // One that is short from the first is not renewed without end.
        let first = first.max(claims.serial.saturating_add(RENEW_AGAIN_MS));
        first.saturating_add(turn.saturating_mul(RENEW_TURN_MS))
    };
    Ok(PolicyRecord {
        bounds,
        ends: settings.consents.iter().map(end).min(),
        renew_at_ms: settings.consents.get(&own.server).map(renew_at),
        serials: serials_of(&settings),
        lineage: lineage_of(lineage, group, leaves, &settings)?,
    })
}

/// The serials of the last consents of the organisations that are or were in a room.
fn serials_of(settings: &RoomSettings) -> BTreeMap<ServerName, u64> {
    let serial = |(server, consent): (&ServerName, &SignedRoomConsent)| {
        (server.clone(), consent.claims().serial)
    };
    let mut serials = settings.former.clone();
    serials.extend(settings.consents.iter().map(serial));
    serials
}

/// Whether a room with these settings can be what one with this policy has become, where this device has not followed each
/// commit: no consent has given way to an older one, none is forgotten, and what the room says to continue is the same.
pub(super) fn check_goes_on(before: &PolicyRecord, next: &RoomSettings) -> Result<(), Error> {
    let serials = serials_of(next);
    let mut known = before.serials.iter();
    let older = known.find(|(server, serial)| {
        let next = serials.get(*server);
        next.is_none_or(|next| next < *serial)
    });
    if let Some((server, _)) = older {
        return Err(Error::Policy(format!(
            "the consent of {server} in the room is gone, or older than the one that was there before"
        )));
    }
    if says(next)? != before.lineage.says {
        return Err(Error::Mls(
            "the room says to continue another one than before".to_owned(),
        ));
    }
    Ok(())
}

impl Operation {
    /// Whether all is here that it has asked for.
    pub(super) fn is_answered(&self) -> bool {
        self.claims.iter().all(|claim| claim.answer.is_some())
            && self.consents.iter().all(|ask| ask.answer.is_some())
    }
}

impl PolicyRecord {
    /// What messages of an epoch are held to.
    pub(super) fn bounds_in(&self, epoch: u64) -> Bounds {
        let known = self.bounds.iter().rev();
        let mut known = known.skip_while(|of| of.epoch > epoch);
        let first = self.bounds.first();
        known
            .next()
            .or(first)
            .map_or_else(Bounds::default, |of| of.bounds)
    }
}
