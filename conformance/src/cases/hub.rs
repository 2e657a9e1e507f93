//! A room that the server under test hubs, with a device of the fake peer's in it.

use ring::signature::KeyPair as _;

use super::commits;
use super::rooms::{GROUP_INFO, GROUP_INFO_REQUEST};
use super::{CONTROL, Case, KEY_REQUEST, KEY_RESPONSE, OF_HANDLE, START_PATIENCE, World, Worlds};
use crate::agreement::now_ms;
use crate::arrived::Arrival;
use crate::consent::{self, ROOM_CONSENT, ROOM_CONSENT_REQUEST};
use crate::device_log;
use crate::failure::Result;
use crate::group::{Role, Seat, room_extension};
use crate::people::People;
use crate::receipt::Answer;
use crate::report::{Finding, Level, Outcome};
use crate::room::WELCOME;
use crate::wire::{Decoder, Encoder};

/// The fake peer's person, and her device.
pub(super) const HANDLE: &str = "member";
pub(super) const ACCOUNT: [u8; 16] = [0x81; 16];
const DEVICE: [u8; 16] = [0x82; 16];
/// The types of the extensions of each room's group context.
const CONTEXT: [u16; 3] = [3, 5, crate::mls::ROOM_EXTENSION];

/// A room as its welcome tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Welcomed {
    pub(super) room: [u8; 16],
    pub(super) hub: String,
    pub(super) epoch: u64,
    pub(super) sender: Member,
    pub(super) members: Vec<Member>,
    pub(super) recipients: Vec<u8>,
    pub(super) welcome: Vec<u8>,
}

/// Server, account, device.
pub(super) type Member = (String, [u8; 16], [u8; 16]);

pub(super) fn member(input: &mut Decoder<'_>) -> Option<Member> {
    Some((input.text(1)?, input.fixed()?, input.fixed()?))
}

pub(super) fn welcome(arrival: &Arrival) -> Option<Welcomed> {
    let mut input = Decoder::new(&arrival.payload);
    if arrival.kind != WELCOME {
        return None;
    }
    let (room, hub, epoch) = (input.fixed()?, input.text(1)?, input.u64()?);
    let sender = member(&mut input)?;
    let mut list = Decoder::new(input.vector(4)?);
    let mut members = Vec::new();
    while !list.is_empty() {
        members.push(member(&mut list)?);
    }
    let recipients = input.vector(4)?.to_vec();
    let (welcome, _stamp_ms) = (input.vector(4)?.to_vec(), input.u64()?);
    (input.is_empty() && arrival.lane == room).then_some(Welcomed {
        room,
        hub,
        epoch,
        sender,
        members,
        recipients,
        welcome,
    })
}

/// A request for this person's keys: its id, and the device that asks.
fn asked_for_keys(arrival: &Arrival) -> Option<([u8; 16], [u8; 16])> {
    let mut input = Decoder::new(&arrival.payload);
    if arrival.kind != KEY_REQUEST {
        return None;
    }
    let (request, _account, device) = (input.fixed()?, input.fixed::<16>()?, input.fixed()?);
    let _by = input.text(1)?;
    (input.u8()? == OF_HANDLE && input.text(1)? == HANDLE).then_some((request, device))
}

/// The group info that answers a request.
fn group_info(arrival: &Arrival, request: &[u8; 16], of: &[u8; 16]) -> Option<(u64, Vec<u8>)> {
    let mut input = Decoder::new(&arrival.payload);
    if arrival.kind != GROUP_INFO || input.fixed()? != *request {
        return None;
    }
    let (room, device): ([u8; 16], [u8; 16]) = (input.fixed()?, input.fixed()?);
    if (room, device, input.u8()?) != (arrival.lane, *of, 1) {
        return None;
    }
    let (epoch, bytes) = (input.u64()?, input.vector(4)?.to_vec());
    input.is_empty().then_some((epoch, bytes))
}

pub(super) async fn cases(worlds: &Worlds<'_>, people: &People) -> Result<Vec<Outcome>> {
    let world = &worlds.everything;
    let mut seat = Seat::new(world.peer.device(HANDLE, &ACCOUNT, &DEVICE)?);
    let came = started(worlds, &seat).await?;
    let mark = world.mailbox.mark();
    let case = Case {
        id: "hub.welcome",
        requirement: "ROOM-026",
        level: Level::Must,
        must: "who is added to a room gets its welcome on the room's lane, with every device of the room after the commit",
        hint: "send it to each server with added devices",
    };
    let open = (
        world.target.server.clone(),
        people.open.account,
        people.open.device,
    );
    let added = (world.peer.name.clone(), ACCOUNT, DEVICE);
    let is_right = |came: &Welcomed| {
        let mut members = came.members.clone();
        members.sort();
        let mut expected = [open.clone(), added.clone()];
        expected.sort();
        members == expected
            && came.sender == open
            && came.hub == open.0
            && came.recipients == DEVICE
    };
    let ok = came.as_ref().is_some_and(is_right);
    let got = came.as_ref().map_or_else(
        || "no welcome".to_owned(),
        |came| {
            format!(
                "of {}, by {:?}, with {:?}",
                came.hub, came.sender, came.members
            )
        },
    );
    let mut outcomes = vec![case.outcome(Finding::new(ok, got))];
    let Some(room) = came else {
        return Ok(outcomes);
    };
    let joined = seat.join(&room.welcome);
    let is_in = joined.is_ok();
    outcomes.push(opened(world, people, &seat, joined)?);
    outcomes.push(asked(world, &room, mark).await?);
    if is_in {
        outcomes.extend(commits::cases(worlds, &room, seat).await?);
    }
    Ok(outcomes)
}

/// Another MLS stack joins the room by its welcome, and finds in it what every room's group context says.
fn opened(
    world: &World,
    people: &People,
    seat: &Seat,
    joined: std::result::Result<(), String>,
) -> Result<Outcome> {
    let case = Case {
        id: "hub.room",
        requirement: "E2E-050",
        level: Level::Must,
        must: "another MLS stack joins by the welcome, and finds the required capabilities, the hub, and the two accounts \
               with their roles: the creator owns the room",
        hint: "the welcome carries the tree; three extensions in their order, written as section 9 says",
    };
    if let Err(why) = joined {
        return Ok(case.outcome(Finding::new(false, format!("it can't be joined by: {why}"))));
    }
    let server = world.target.server.as_str();
    let expected = room_extension(
        server,
        &[
            (server, people.open.account, Role::Owner),
            (&world.peer.name, ACCOUNT, Role::Member),
        ],
        &seat.consents()?,
    );
    let (types, room) = seat.context()?;
    let ok = types == CONTEXT && room.as_ref() == Some(&expected);
    let got = format!(
        "extensions {types:?}; the room's: {}",
        hex::encode(room.unwrap_or_default())
    );
    Ok(case.outcome(Finding::new(ok, got)))
}

/// A person of the server under test starts a conversation with the fake peer's; the welcome to it.
async fn started(worlds: &Worlds<'_>, seat: &Seat) -> Result<Option<Welcomed>> {
    let world = &worlds.everything;
    let mark = world.mailbox.mark();
    let address = format!("{HANDLE}@{}", world.peer.name);
    let starting = worlds.operator.start(&address);
    let wait = |mark| world.mailbox.wait_for(mark, START_PATIENCE, asked_for_keys);
    let Some((request, device)) = wait(mark).await else {
        return Ok(None);
    };
    let key = Encoder::new()
        .vector(1, world.peer.name.as_bytes())
        .fixed(&ACCOUNT)
        .fixed(&DEVICE)
        .vector(2, &seat.key_package()?)
        .finish();
    let response = Encoder::new()
        .fixed(&request)
        .fixed(&device)
        .u8(1)
        .vector(4, &key)
        .fixed(&device_log::of_first(
            &world.peer,
            (&ACCOUNT, &DEVICE),
            seat.identity.key.public_key().as_ref(),
            now_ms(),
        )?)
        .finish();
    world.say(CONTROL, KEY_RESPONSE, response).await?;
    let asked = |arrival: &Arrival| match arrival.kind {
        ROOM_CONSENT_REQUEST => consent::asked(&arrival.payload),
        _ => None,
    };
    if let Some((request, room, device)) = world.mailbox.wait_for(mark, START_PATIENCE, asked).await
    {
        let both = [&*world.target.server, &*world.peer.name];
        let response = Encoder::new()
            .fixed(&request)
            .fixed(&room)
            .fixed(&device)
            .u8(1)
            .fixed(&consent::of(&world.peer, &room, &both)?)
            .finish();
        world.say(CONTROL, ROOM_CONSENT, response).await?;
    }
    let came = world.mailbox.wait_for(mark, START_PATIENCE, welcome).await;
    if let Ok(done) = starting.await {
        done?;
    }
    Ok(came)
}

/// A member asks for the room's group info.
async fn asked(world: &World, room: &Welcomed, mark: usize) -> Result<Outcome> {
    let before = world.mailbox.since(mark);
    let unasked = before.iter().any(|arrival| arrival.kind == GROUP_INFO);
    let (accepted, answer) = ask_group_info(world, room.room, DEVICE).await?;
    let came = answer.is_some_and(|(epoch, _)| epoch == room.epoch);
    let case = Case {
        id: "hub.group-info",
        requirement: "ROOM-052",
        level: Level::Must,
        must: "a member is given the group info of the room's present epoch, on the room's lane, when it asks and not before",
        hint: "keep the one that came with the last commit",
    };
    let ok = came && !unasked && accepted;
    let got = format!("accepted: {accepted}; the group info came: {came}, unasked: {unasked}");
    Ok(case.outcome(Finding::new(ok, got)))
}

/// Asks for a room's group info on behalf of a device of the person's: whether that is accepted, and what is answered.
pub(super) async fn ask_group_info(
    world: &World,
    room: [u8; 16],
    device: [u8; 16],
) -> Result<(bool, Option<(u64, Vec<u8>)>)> {
    let mark = world.mailbox.mark();
    let request = world.draw();
    let payload = Encoder::new()
        .fixed(&request)
        .fixed(&room)
        .fixed(&ACCOUNT)
        .fixed(&device)
        .finish();
    let sent = world.say(room, GROUP_INFO_REQUEST, payload).await?;
    let answer = world
        .hears(mark, |arrival| group_info(arrival, &request, &device))
        .await;
    Ok((sent.answers() == [Answer::Accepted], answer))
}
