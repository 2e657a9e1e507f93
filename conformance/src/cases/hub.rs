//! A room that the server under test hubs, with a device of the fake peer's in it.

use super::rooms::{GROUP_INFO, GROUP_INFO_REQUEST};
use super::{
    CONTROL, Case, KEY_REQUEST, KEY_RESPONSE, OF_HANDLE, START_PATIENCE, Sent, World, Worlds, code,
};
use crate::agreement::now_ms;
use ring::signature::KeyPair as _;

use crate::arrived::Arrival;
use crate::device_log;
use crate::failure::Result;
use crate::mls::{FromOutside, GroupInfo, external_init, key_package, remove};
use crate::organisation::DeviceIdentity;
use crate::people::People;
use crate::receipt::Answer;
use crate::report::{Finding, Level, Outcome};
use crate::room::{HANDSHAKE, WELCOME};
use crate::wire::{Decoder, Encoder};

/// The fake peer's person, and her device.
const HANDLE: &str = "member";
const ACCOUNT: [u8; 16] = [0x81; 16];
const DEVICE: [u8; 16] = [0x82; 16];
/// The leaf of who creates a room, and of the first who is added.
const CREATOR_LEAF: u32 = 0;
const OWN_LEAF: u32 = 1;

/// A room as its welcome tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Welcomed {
    room: [u8; 16],
    hub: String,
    epoch: u64,
    sender: Member,
    members: Vec<Member>,
    recipients: Vec<u8>,
}

/// Server, account, device.
type Member = (String, [u8; 16], [u8; 16]);

fn member(input: &mut Decoder<'_>) -> Option<Member> {
    Some((input.text(1)?, input.fixed()?, input.fixed()?))
}

fn welcome(arrival: &Arrival) -> Option<Welcomed> {
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
    let (_welcome, _stamp_ms) = (input.vector(4)?, input.u64()?);
    (input.is_empty() && arrival.lane == room).then_some(Welcomed {
        room,
        hub,
        epoch,
        sender,
        members,
        recipients,
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
fn group_info(arrival: &Arrival, request: &[u8; 16]) -> Option<(u64, Vec<u8>)> {
    let mut input = Decoder::new(&arrival.payload);
    if arrival.kind != GROUP_INFO || input.fixed()? != *request {
        return None;
    }
    let (room, device): ([u8; 16], [u8; 16]) = (input.fixed()?, input.fixed()?);
    if (room, device, input.u8()?) != (arrival.lane, DEVICE, 1) {
        return None;
    }
    let (epoch, bytes) = (input.u64()?, input.vector(4)?.to_vec());
    input.is_empty().then_some((epoch, bytes))
}

/// An ordered commit: its epoch, its bytes, and whether nothing comes with it that is the hub's alone.
fn ordered(arrival: &Arrival) -> Option<(u64, Vec<u8>, bool)> {
    let mut input = Decoder::new(&arrival.payload);
    if arrival.kind != HANDSHAKE {
        return None;
    }
    let (_room, _hub, epoch) = (input.fixed::<16>()?, input.text(1)?, input.u64()?);
    let (_sender, _reference) = (member(&mut input)?, input.u64()?);
    let commit = input.vector(4)?.to_vec();
    let (_adds, _removes) = (input.vector(4)?, input.vector(4)?);
    let alone = input.u8()? == 0 && input.u8()? == 0;
    Some((epoch, commit, alone))
}

pub(super) async fn cases(worlds: &Worlds<'_>, people: &People) -> Result<Vec<Outcome>> {
    let world = &worlds.everything;
    let own = world.peer.device(HANDLE, &ACCOUNT, &DEVICE)?;
    let came = started(worlds, &own).await?;
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
    let mut outcomes = vec![case.outcome(Finding::new(ok, format!("{came:?}")))];
    let Some(room) = came else {
        return Ok(outcomes);
    };
    let (outcome, info) = asked(world, &room, mark).await?;
    outcomes.push(outcome);
    if let Some(info) = info {
        outcomes.extend(back_in(world, &room, &own, &info).await?);
    }
    Ok(outcomes)
}

/// A person of the server under test starts a conversation with the fake peer's; the welcome to it.
async fn started(worlds: &Worlds<'_>, own: &DeviceIdentity) -> Result<Option<Welcomed>> {
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
        .vector(2, &key_package(&own.chain, &own.key, now_ms() / 1000))
        .finish();
    let response = Encoder::new()
        .fixed(&request)
        .fixed(&device)
        .u8(1)
        .vector(4, &key)
        .fixed(&device_log::of_first(
            &world.peer,
            (&ACCOUNT, &DEVICE),
            own.key.public_key().as_ref(),
            now_ms(),
        )?)
        .finish();
    world.say(CONTROL, KEY_RESPONSE, response).await?;
    let came = world.mailbox.wait_for(mark, START_PATIENCE, welcome).await;
    if let Ok(done) = starting.await {
        done?;
    }
    Ok(came)
}

/// A member asks for the room's group info.
async fn asked(
    world: &World,
    room: &Welcomed,
    mark: usize,
) -> Result<(Outcome, Option<(GroupInfo, Vec<u8>)>)> {
    let before = world.mailbox.since(mark);
    let unasked = before.iter().any(|arrival| arrival.kind == GROUP_INFO);
    let request = world.draw();
    let payload = Encoder::new()
        .fixed(&request)
        .fixed(&room.room)
        .fixed(&ACCOUNT)
        .fixed(&DEVICE)
        .finish();
    let sent = world.say(room.room, GROUP_INFO_REQUEST, payload).await?;
    let answer = world
        .hears(mark, |arrival| group_info(arrival, &request))
        .await;
    let read = answer.and_then(|(epoch, bytes)| {
        let info = GroupInfo::decode(&bytes)?;
        (info.group == room.room && (info.epoch, epoch) == (room.epoch, room.epoch))
            .then_some((info, bytes))
    });
    let case = Case {
        id: "hub.group-info",
        requirement: "ROOM-052",
        level: Level::Must,
        must: "a member is given the group info of the room's present epoch, on the room's lane, when it asks and not before",
        hint: "keep the one that came with the last commit",
    };
    let ok = read.is_some() && !unasked && sent.answers() == [Answer::Accepted];
    let got = format!(
        "{}; the group info came: {}, unasked: {unasked}",
        sent.describe(),
        read.is_some()
    );
    Ok((case.outcome(Finding::new(ok, got)), read))
}

/// A commit as a follower proposes it.
fn proposed(world: &World, room: &Welcomed, commit: &[u8], group_info: Option<&[u8]>) -> Vec<u8> {
    let handshake = Encoder::new()
        .fixed(&room.room)
        .vector(1, room.hub.as_bytes())
        .u64(room.epoch)
        .vector(1, world.peer.name.as_bytes())
        .fixed(&ACCOUNT)
        .fixed(&DEVICE)
        .u64(1)
        .vector(4, commit)
        .vector(4, &[])
        .vector(4, &[])
        .u8(0);
    match group_info {
        Some(group_info) => handshake.u8(1).vector(4, group_info),
        None => handshake.u8(0),
    }
    .u64(0)
    .finish()
}

fn is_refused(sent: &Sent, expected: u16) -> bool {
    matches!(sent.answers(), [Answer::Refused { code, .. }] if *code == expected)
}

/// Commits from outside that the hub must not order, then the one that it must, and the next for the same epoch.
async fn back_in(
    world: &World,
    room: &Welcomed,
    own: &DeviceIdentity,
    (info, bytes): &(GroupInfo, Vec<u8>),
) -> Result<Vec<Outcome>> {
    let right = FromOutside {
        group: room.room,
        epoch: room.epoch,
        proposals: [external_init(), remove(OWN_LEAF)].concat(),
        chain: &own.chain,
        key: &own.key,
    };
    let others_place = FromOutside {
        proposals: [external_init(), remove(CREATOR_LEAF)].concat(),
        ..right.clone()
    };
    // The organisation certifies a second key for the same device.
    let again = world.peer.device(HANDLE, &ACCOUNT, &DEVICE)?;
    let other_key = FromOutside {
        chain: &again.chain,
        key: &again.key,
        ..right.clone()
    };
    let good = right.signed(&info.context);
    let next = info.of_next_epoch(bytes);
    let (old, new) = (Some(bytes.as_slice()), Some(next.as_slice()));
    let mut outcomes = Vec::new();
    for (id, requirement, must, commit, group_info) in [
        (
            "hub.no-group-info",
            "ROOM-050",
            "a proposed commit without a group info is refused as malformed",
            good.clone(),
            None,
        ),
        (
            "hub.old-group-info",
            "ROOM-050",
            "a proposed commit with the group info of the epoch that it ends is refused as malformed",
            good.clone(),
            old,
        ),
        (
            "hub.others-place",
            "ROOM-056",
            "a commit from outside in the place of another's leaf is refused as malformed",
            others_place.signed(&info.context),
            new,
        ),
        (
            "hub.other-key",
            "ROOM-056",
            "a commit from outside with another key than the leaf had that it removes is refused as malformed",
            other_key.signed(&info.context),
            new,
        ),
        (
            "hub.bad-signature",
            "ROOM-056",
            "a commit from outside whose signature does not hold is refused as malformed",
            right.encode(),
            new,
        ),
    ] {
        let payload = proposed(world, room, &commit, group_info);
        let sent = world.say(room.room, HANDSHAKE, payload).await?;
        let case = Case {
            id,
            requirement,
            level: Level::Must,
            must,
            hint: "hold it against the group info that is kept of the epoch",
        };
        let ok = is_refused(&sent, code::MALFORMED);
        outcomes.push(case.outcome(Finding::new(ok, sent.describe())));
    }

    let mark = world.mailbox.mark();
    let payload = proposed(world, room, &good, new);
    let sent = world.say(room.room, HANDSHAKE, payload.clone()).await?;
    let came = world.hears(mark, ordered).await;
    let case = Case {
        id: "hub.member",
        requirement: "ROOM-025",
        level: Level::Must,
        must: "a member's way back in is ordered, and comes back to its server without its group info",
        hint: "an ordered commit goes to every server that was in the room, the committer's too",
    };
    let returned = came == Some((room.epoch, good, true));
    let ok = sent.answers() == [Answer::Accepted] && returned;
    let got = format!("{}; ordered: {returned}", sent.describe());
    outcomes.push(case.outcome(Finding::new(ok, got)));

    let sent = world.say(room.room, HANDSHAKE, payload).await?;
    let case = Case {
        id: "hub.second",
        requirement: "ROOM-021",
        level: Level::Must,
        must: "of the commits for one epoch the hub orders the first, and refuses the next as `wrong-epoch`",
        hint: "compare and swap",
    };
    let ok = is_refused(&sent, code::WRONG_EPOCH);
    outcomes.push(case.outcome(Finding::new(ok, sent.describe())));
    Ok(outcomes)
}
