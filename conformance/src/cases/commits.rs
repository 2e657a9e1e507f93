//! Commits that a follower proposes to the hub under test: wrong ones, each right in everything but one thing, then
//! right ones.

mod judged;
mod ordering;

use super::hub::{ACCOUNT, HANDLE, Member, Welcomed, member};
use super::{Case, Sent, World, Worlds};
use crate::arrived::Arrival;
use crate::ceremony::CeremonyArguments;
use crate::failure::Result;
use crate::group::{Made, Seat};
use crate::receipt::Answer;
use crate::report::{Finding, Outcome};
use crate::room::HANDSHAKE;
use crate::wire::{Decoder, Encoder};

/// More devices of the person's: one that is added later, one that never is.
const SECOND: [u8; 16] = [0x83; 16];
const THIRD: [u8; 16] = [0x84; 16];
/// Another person of the fake peer's, who takes no part in the room before the end.
const STRANGER: [u8; 16] = [0x91; 16];

/// A commit on its way to the hub.
#[derive(Debug, Clone)]
struct Proposal {
    epoch: u64,
    /// The device of the person's that has made it, as the payload says.
    by: [u8; 16],
    commit: Vec<u8>,
    adds: Vec<Member>,
    removes: Vec<Member>,
    welcome: Option<Vec<u8>>,
    group_info: Option<Vec<u8>>,
}

/// An ordered commit as it came back.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Ordered {
    /// The room, and so the lane.
    room: [u8; 16],
    hub: String,
    epoch: u64,
    sender: Member,
    commit: Vec<u8>,
    adds: Vec<Member>,
    removes: Vec<Member>,
    /// Nothing comes with it that is the hub's alone.
    alone: bool,
}

fn members(list: &[u8]) -> Option<Vec<Member>> {
    let mut list = Decoder::new(list);
    let mut members = Vec::new();
    while !list.is_empty() {
        members.push(member(&mut list)?);
    }
    Some(members)
}

fn ordered(arrival: &Arrival) -> Option<Ordered> {
    let mut input = Decoder::new(&arrival.payload);
    if arrival.kind != HANDSHAKE {
        return None;
    }
    let (room, hub, epoch) = (input.fixed()?, input.text(1)?, input.u64()?);
    if room != arrival.lane {
        return None;
    }
    let (sender, _reference) = (member(&mut input)?, input.u64()?);
    let commit = input.vector(4)?.to_vec();
    let (adds, removes) = (members(input.vector(4)?)?, members(input.vector(4)?)?);
    let alone = input.u8()? == 0 && input.u8()? == 0;
    Some(Ordered {
        room,
        hub,
        epoch,
        sender,
        commit,
        adds,
        removes,
        alone,
    })
}

/// The room, and the person's devices.
struct Room<'a> {
    world: &'a World,
    operator: &'a CeremonyArguments,
    id: [u8; 16],
    hub: String,
    creator: Member,
    first: Seat,
    first_id: [u8; 16],
}

impl Room<'_> {
    fn member(&self, device: [u8; 16]) -> Member {
        (self.world.peer.name.clone(), ACCOUNT, device)
    }

    /// A device of the person's that is in no room.
    fn device(&self, device: &[u8; 16]) -> Result<Seat> {
        let identity = self.world.peer.device(HANDLE, &ACCOUNT, device)?;
        Ok(Seat::new(identity))
    }

    /// What the first device has made, as it is to be proposed.
    fn proposal(&self, epoch: u64, made: Made) -> Proposal {
        Proposal {
            epoch,
            by: self.first_id,
            commit: made.commit,
            adds: Vec::new(),
            removes: Vec::new(),
            welcome: made.welcome,
            group_info: Some(made.group_info),
        }
    }

    fn payload(&self, proposal: &Proposal) -> Vec<u8> {
        let write = |encoder: Encoder, (server, account, device): &Member| {
            encoder
                .vector(1, server.as_bytes())
                .fixed(account)
                .fixed(device)
        };
        let list = |members: &[Member]| members.iter().fold(Encoder::new(), write).finish();
        let optional = |encoder: Encoder, bytes: Option<&[u8]>| match bytes {
            Some(bytes) => encoder.u8(1).vector(4, bytes),
            None => encoder.u8(0),
        };
        let payload = Encoder::new()
            .fixed(&self.id)
            .vector(1, self.hub.as_bytes())
            .u64(proposal.epoch);
        let payload = write(payload, &self.member(proposal.by))
            .u64(1)
            .vector(4, &proposal.commit)
            .vector(4, &list(&proposal.adds))
            .vector(4, &list(&proposal.removes));
        let payload = optional(payload, proposal.welcome.as_deref());
        optional(payload, proposal.group_info.as_deref())
            .u64(0)
            .finish()
    }

    async fn propose(&self, proposal: &Proposal) -> Result<Sent> {
        let payload = self.payload(proposal);
        self.world.say(self.id, HANDSHAKE, payload).await
    }

    /// Proposes what must be refused: what came of it, and whether it was ordered instead.
    async fn refused(
        &self,
        case: Case,
        proposal: &Proposal,
        expected: u16,
    ) -> Result<(Outcome, bool)> {
        let sent = self.propose(proposal).await?;
        let ok = is_refused(&sent, expected);
        let outcome = case.outcome(Finding::new(ok, sent.describe()));
        Ok((outcome, is_accepted(&sent)))
    }
}

fn is_accepted(sent: &Sent) -> bool {
    sent.answers() == [Answer::Accepted]
}

fn is_refused(sent: &Sent, expected: u16) -> bool {
    matches!(sent.answers(), [Answer::Refused { code, .. }] if *code == expected)
}

pub(super) async fn cases(
    worlds: &Worlds<'_>,
    came: &Welcomed,
    first: Seat,
) -> Result<Vec<Outcome>> {
    let [first_id] = came.recipients.as_chunks::<16>().0 else {
        return Ok(Vec::new());
    };
    let mut room = Room {
        world: &worlds.everything,
        operator: worlds.operator,
        id: came.room,
        hub: came.hub.clone(),
        creator: came.sender.clone(),
        first,
        first_id: *first_id,
    };
    let mut outcomes = Vec::new();
    judged::cases(&mut room, &mut outcomes).await?;
    ordering::cases(room, &mut outcomes).await?;
    Ok(outcomes)
}
