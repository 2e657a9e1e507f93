//! Who judges evidence has the organisation's root and the time, and asks nobody.

use bytes::Bytes;

use super::{Cut, Evidence, Proof, RoomEvidence, Said, SignedEvidence, Step, What};
use crate::codec::DecodeError;
use crate::hash::Digest;
use crate::ids::{Member, RoomId, ServerName};
use crate::limits::CLOCK_SKEW_MS_MAX;
use crate::manifest::{self, ManifestError};
use crate::organisation::{CertificateError, OrganisationIdentity};
use crate::payload::Payload;
use crate::transaction::VerifyError;

/// Why evidence is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EvidenceError {
    /// Its certificates do not hold.
    #[error(
        "the evidence's certificate does not lead to this root: {0}; after a change of the root, older evidence holds \
         under the former one"
    )]
    Certificate(#[from] CertificateError),
    /// The issuing CA did not sign it.
    #[error(
        "the evidence is not signed by the organisation's issuing CA: it was changed, or made up"
    )]
    BadSignature,
    /// Signed in the future.
    #[error("the evidence was signed in the future: compare the clocks")]
    FromTheFuture,
    /// It says that all is done, and shows that it is not.
    #[error("the evidence says that nothing is left to wait for, and room {0} says otherwise")]
    Contradiction(RoomId),
    /// A hub's word in it is not the hub's.
    #[error("room {room}: the word of its hub {hub} does not hold: {reason}")]
    Hub {
        /// The room.
        room: RoomId,
        /// Its hub.
        hub: ServerName,
        /// What is wrong.
        reason: HubError,
    },
    /// A page is missing, or of another cut.
    #[error("the evidence has {0}: pass all that was exported, in its order")]
    Pages(&'static str),
}

/// What is wrong with a hub's word.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HubError {
    /// The manifest is not in the evidence, or another server's.
    #[error("the manifest that its key is in is missing")]
    NoManifest,
    /// The manifest does not hold.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The manifest or the payload does not decode.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The envelope is not its own.
    #[error(transparent)]
    Envelope(#[from] VerifyError),
    /// The envelope says something else.
    #[error("what it has signed is something else")]
    SomethingElse,
    /// The own homeserver needs no proof of its own word.
    #[error("a homeserver proves nothing to itself")]
    OwnWord,
}

/// What evidence shows, once it is believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Judged {
    /// Rooms.
    pub rooms: usize,
    /// Rooms that other organisations order.
    pub foreign: usize,
    /// Rooms that are still waited for.
    pub waiting: usize,
    /// Words of other organisations' hubs, each with its signature.
    pub proved: usize,
    /// Words of theirs that stand without one.
    pub unproved: usize,
    /// Whether it says that nothing is left to wait for.
    pub complete: bool,
}

impl SignedEvidence {
    /// What it shows, when the organisation with this root has signed it and everything in it holds.
    ///
    /// # Errors
    /// When something does not.
    pub fn verify(&self, root: &Bytes, now_ms: u64) -> Result<Judged, EvidenceError> {
        let evidence = &self.evidence;
        if evidence.at_ms > now_ms.saturating_add(CLOCK_SKEW_MS_MAX) {
            return Err(EvidenceError::FromTheFuture);
        }
        let organisation =
            OrganisationIdentity::parse(root.clone(), self.issuing.clone(), evidence.at_ms)?;
        let bytes = evidence.signed_bytes(&self.issuing);
        if !bytes.is_ok_and(|bytes| organisation.verifies(&bytes, &self.signature)) {
            return Err(EvidenceError::BadSignature);
        }
        let mut judged = Judged {
            complete: evidence.completed_ms.is_some(),
            ..Judged::default()
        };
        for room in &evidence.rooms {
            judge_room(evidence, room, &mut judged)?;
        }
        Ok(judged)
    }
}

fn judge_room(
    evidence: &Evidence,
    room: &RoomEvidence,
    judged: &mut Judged,
) -> Result<(), EvidenceError> {
    judged.rooms = judged.rooms.saturating_add(1);
    if room.hub != evidence.cut.server {
        judged.foreign = judged.foreign.saturating_add(1);
    }
    if !room.is_done() {
        judged.waiting = judged.waiting.saturating_add(1);
        if judged.complete {
            return Err(EvidenceError::Contradiction(room.room));
        }
    }
    for step in &room.steps {
        let (What::Ordered(said) | What::Removed(said)) = &step.what else {
            continue;
        };
        match &said.proof {
            Some(proof) => {
                judge_word(evidence, room, step, (said, proof)).map_err(|reason| {
                    EvidenceError::Hub {
                        room: room.room,
                        hub: room.hub.clone(),
                        reason,
                    }
                })?;
                judged.proved = judged.proved.saturating_add(1);
            }
            None if room.hub != evidence.cut.server => {
                judged.unproved = judged.unproved.saturating_add(1);
            }
            None => {}
        }
    }
    Ok(())
}

/// Holds a step to what the hub has signed: in this room, of this epoch, about these devices.
fn judge_word(
    evidence: &Evidence,
    room: &RoomEvidence,
    step: &Step,
    (said, proof): (&Said, &Proof),
) -> Result<(), HubError> {
    let server = &evidence.cut.server;
    if room.hub == *server {
        return Err(HubError::OwnWord);
    }
    let of_key = |manifest: &Bytes| Digest::of(manifest) == proof.manifest;
    let mut hubs = evidence.hubs.iter();
    let keys = hubs
        .find(|hub| hub.server == room.hub && of_key(&hub.manifest))
        .ok_or(HubError::NoManifest)?;
    let manifest = manifest::decode(keys.manifest.clone())?;
    let manifest = manifest.verify(&room.hub, &keys.root, None, step.at_ms)?;
    let envelope = proof.place.verify(
        proof.envelope.clone(),
        &manifest,
        &room.hub,
        server,
        step.at_ms,
    )?;
    let payload = Payload::decode(envelope.header().kind, envelope.payload())?;
    let gone: Vec<Member> = match (payload, &step.what) {
        (Payload::Removals(removals), What::Ordered(_))
            if removals.room == room.room
                && (removals.epoch, removals.stamp_ms) == (said.epoch, said.stamp_ms) =>
        {
            let removals = removals.removals.into_iter();
            removals.map(|removal| removal.member).collect()
        }
        (Payload::Handshake(ordered), What::Removed(_))
            if ordered.room == room.room
                && ordered.hub == room.hub
                && ordered.epoch.checked_add(1) == Some(said.epoch)
                && ordered.stamp_ms == said.stamp_ms =>
        {
            ordered.removes
        }
        _ => return Err(HubError::SomethingElse),
    };
    let names = |device| {
        let mut gone = gone.iter();
        gone.any(|member| {
            (&member.server, member.account, member.device)
                == (server, evidence.cut.account, device)
        })
    };
    if step.devices.iter().all(|device| names(*device)) {
        Ok(())
    } else {
        Err(HubError::SomethingElse)
    }
}

/// The pages of one cut's evidence, taken in their order.
#[derive(Debug, Clone, Default)]
pub struct Pages {
    cut: Option<Cut>,
    last: Option<RoomId>,
    is_whole: bool,
    judged: Judged,
}

impl Pages {
    /// Takes the next page.
    ///
    /// # Errors
    /// When it does not hold, or is not the next one.
    pub fn take(
        &mut self,
        page: &SignedEvidence,
        root: &Bytes,
        now_ms: u64,
    ) -> Result<(), EvidenceError> {
        let judged = page.verify(root, now_ms)?;
        let evidence = page.claims();
        match &self.cut {
            _ if self.is_whole => return Err(EvidenceError::Pages("a page behind its last one")),
            Some(cut) if *cut != evidence.cut => {
                return Err(EvidenceError::Pages("pages of different cuts"));
            }
            Some(_) => {}
            None => {
                self.cut = Some(evidence.cut.clone());
                self.judged.complete = true;
            }
        }
        if evidence.after != self.last {
            return Err(EvidenceError::Pages("a gap between two pages"));
        }
        self.last = evidence.rooms.last().map(|room| room.room).or(self.last);
        self.is_whole = !evidence.more;
        let all = &mut self.judged;
        for (sum, more) in [
            (&mut all.rooms, judged.rooms),
            (&mut all.foreign, judged.foreign),
            (&mut all.waiting, judged.waiting),
            (&mut all.proved, judged.proved),
            (&mut all.unproved, judged.unproved),
        ] {
            *sum = sum.saturating_add(more);
        }
        all.complete &= judged.complete;
        Ok(())
    }

    /// What all of them show together.
    ///
    /// # Errors
    /// When the last page has not come.
    pub fn finish(self) -> Result<(Cut, Judged), EvidenceError> {
        match self.cut {
            Some(cut) if self.is_whole => Ok((cut, self.judged)),
            _ => Err(EvidenceError::Pages("no last page")),
        }
    }
}
