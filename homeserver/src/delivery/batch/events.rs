//! What is recorded in the part: of acts each, of what a peer brings about within bounds; and how much there is.

use federation_proto::ids::ServerName;
use federation_proto::refusal::RefusalCode;

use super::Batch;
use crate::audit::{self, Actor, Event, PeerEvent};

impl Batch<'_> {
    /// Records an event in the same part.
    pub fn audit(
        &mut self,
        actor: Actor,
        action: &'static str,
        subject: impl ToString,
        detail: impl Into<String>,
    ) {
        let event = self.event((actor, action), subject, detail);
        audit::record(&mut self.part, &event);
    }

    /// Records in the same part that something of `peer` was refused, as far as that does not happen again
    /// and again.
    pub fn audit_refusal(
        &mut self,
        peer: &ServerName,
        action: &'static str,
        subject: impl ToString,
        code: RefusalCode,
        detail: impl Into<String>,
    ) {
        let (actor, code) = (Actor::Peer(peer.clone()), Some(code));
        self.audit_peer(peer, (actor, action, code), subject, detail);
    }

    /// As [`Batch::audit_refusal`], of whatever a peer brings about; without a code it is a change.
    pub fn audit_peer(
        &mut self,
        peer: &ServerName,
        (actor, action, code): (Actor, &'static str, Option<RefusalCode>),
        subject: impl ToString,
        detail: impl Into<String>,
    ) {
        let event = self.event((actor, action), subject, detail);
        self.events.push(PeerEvent {
            peer: peer.clone(),
            code,
            event,
        });
    }

    fn event(
        &self,
        (actor, action): (Actor, &'static str),
        subject: impl ToString,
        detail: impl Into<String>,
    ) -> Event {
        Event {
            at_ms: self.now_ms,
            actor,
            action,
            subject: subject.to_string(),
            detail: detail.into(),
        }
    }

    /// An answer refuses what a peer asks for, or what it asks for is not there: to the peer's rate of refusals it is one.
    pub(in crate::delivery) const fn note_refused_answer(&mut self) {
        self.refused_answers = self.refused_answers.saturating_add(1);
    }

    /// How much of what was asked for in the batch was refused, or is not there.
    pub(in crate::delivery) const fn refused_answers(&self) -> usize {
        self.refused_answers
    }

    /// The bytes of what the part writes, as far as it has come.
    pub(in crate::delivery) fn part_bytes(&mut self) -> usize {
        let (writes, bytes) = self.weighed;
        let bytes = bytes.saturating_add(self.part.bytes_behind(writes));
        self.weighed = (self.part.writes.len(), bytes);
        bytes
    }
}
