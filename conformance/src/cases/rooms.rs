//! A room that the fake peer hubs: welcomes, the way back in, and group infos.

pub(super) mod hosted;

use hosted::Hosted;

use super::{Case, Refusal, Sent, World, code};
use crate::arrived::Arrival;
use crate::failure::Result;
use crate::mls::{FromOutside, external_init, reference, remove};
use crate::people::People;
use crate::receipt::Answer;
use crate::report::{Finding, Level, Outcome};
use crate::room::{Device, EPOCH, HANDSHAKE, MESSAGE, Ordered, Room, WELCOME};
use crate::wire::{Decoder, Encoder};

/// Kinds.
pub(super) const GROUP_INFO_REQUEST: u8 = 13;
pub(super) const GROUP_INFO: u8 = 14;
/// A device of the fake peer's that is in no room.
const OUTSIDER: Device = Device {
    account: [0x71; 16],
    device: [0x72; 16],
};

/// What needs nobody of the server under test.
pub(super) async fn without_people(world: &World) -> Result<Vec<Outcome>> {
    Ok(vec![
        group_info_of_nothing(world).await?,
        answer_to_nothing(world).await?,
    ])
}

/// A GroupInfo that refuses: to whose request, and why.
fn refusal_in(arrival: &Arrival, request: &[u8; 16]) -> Option<([u8; 16], [u8; 16], Refusal)> {
    let mut input = Decoder::new(&arrival.payload);
    if arrival.kind != GROUP_INFO || input.fixed()? != *request {
        return None;
    }
    let (room, device) = (input.fixed()?, input.fixed()?);
    if input.u8()? != 2 {
        return None;
    }
    let refusal = Refusal::read(&mut input)?;
    (input.is_empty() && arrival.lane == room).then_some((room, device, refusal))
}

/// The group info of a room that is not there, for a device that is in none.
async fn group_info_of_nothing(world: &World) -> Result<Outcome> {
    let (room, request) = (world.draw(), world.draw());
    let mark = world.mailbox.mark();
    let payload = Encoder::new()
        .fixed(&request)
        .fixed(&room)
        .fixed(&OUTSIDER.account)
        .fixed(&OUTSIDER.device)
        .finish();
    let sent = world.say(room, GROUP_INFO_REQUEST, payload).await?;
    let told = world
        .hears(mark, |arrival| refusal_in(arrival, &request))
        .await;
    let expected = |told: &([u8; 16], [u8; 16], Refusal)| {
        (told.0, told.1, told.2.code) == (room, OUTSIDER.device, code::UNKNOWN_ROOM)
    };
    let case = Case {
        id: "group-info.no-member",
        requirement: "ROOM-052",
        level: Level::Must,
        must: "a request for the group info of a room that the device is not in is accepted, and answered `unknown-room` \
               on the room's lane",
        hint: "one answer for a room that is not there and one that is not the device's",
    };
    let ok = sent.answers() == [Answer::Accepted] && told.as_ref().is_some_and(expected);
    let got = format!("{}; then {told:?}", sent.describe());
    Ok(case.outcome(Finding::new(ok, got)))
}

/// An answer that nobody waits for.
async fn answer_to_nothing(world: &World) -> Result<Outcome> {
    let room = world.draw();
    let payload = Encoder::new()
        .fixed(&world.draw())
        .fixed(&room)
        .fixed(&OUTSIDER.device)
        .u8(2)
        .u16(code::UNKNOWN_ROOM)
        .vector(2, b"no such room")
        .finish();
    let sent = world.say(room, GROUP_INFO, payload).await?;
    let case = Case {
        id: "group-info.unsolicited",
        requirement: "ROOM-054",
        level: Level::Must,
        must: "a group info that nobody asked for is refused as malformed",
        hint: "remember which device asked which hub about which room",
    };
    let ok = is_refused(&sent, &[code::MALFORMED]);
    Ok(case.outcome(Finding::new(ok, sent.describe())))
}

fn is_refused(sent: &Sent, expected: &[u16]) -> bool {
    matches!(sent.answers(), [Answer::Refused { code, .. }] if expected.contains(code))
}

/// What needs one person of the server under test, who is open to all.
pub(super) async fn with_people(
    world: &World,
    people: &People,
) -> Result<(Vec<Outcome>, Option<Hosted>)> {
    let room = world.room(Room::WRITER, people.open.device());
    let mut outcomes = strange_welcomes(world, &room, people).await?;
    let sent = world.say(room.id, WELCOME, room.welcome()).await?;
    let case = Case {
        id: "room.welcome",
        requirement: "ROOM-026",
        level: Level::Must,
        must: "a welcome of a member's commit is accepted",
        hint: "the control of the welcomes that are refused",
    };
    let ok = sent.answers() == [Answer::Accepted];
    outcomes.push(case.outcome(Finding::new(ok, sent.describe())));
    outcomes.extend(ways_in(world, &room).await?);
    let (others, hosted) = hosted::cases(world, people).await?;
    outcomes.extend(others);
    Ok((outcomes, hosted))
}

/// Welcomes of commits by nobody in the room, in the name of somebody outside and of a colleague.
async fn strange_welcomes(world: &World, room: &Room, people: &People) -> Result<Vec<Outcome>> {
    let by_outsider = room.welcome_by(&room.hub, OUTSIDER);
    let by_colleague = room.welcome_by(&room.guest_server, people.asking.device());
    let by_herself = room.welcome_by(&room.guest_server, room.guest);
    let mut outcomes = Vec::new();
    for (id, must, payload) in [
        (
            "room.welcome-by-nobody",
            "a welcome of a commit by who is not in the room is refused as malformed",
            by_outsider,
        ),
        (
            "room.welcome-by-colleague",
            "a welcome in the name of a colleague who was not in the room is refused as malformed",
            by_colleague,
        ),
        (
            "room.welcome-by-herself",
            "a welcome in the name of the one who is added is refused as malformed",
            by_herself,
        ),
    ] {
        let sent = world.say(room.id, WELCOME, payload).await?;
        let case = Case {
            id,
            requirement: "CONTACT-021",
            level: Level::Must,
            must,
            hint: "who adds decides whose consent counts: hold the sender to the room's list",
        };
        let ok = is_refused(&sent, &[code::MALFORMED]);
        outcomes.push(case.outcome(Finding::new(ok, sent.describe())));
    }
    Ok(outcomes)
}

/// A way in that is not the one that there is.
struct Wrong {
    id: &'static str,
    must: &'static str,
    hint: &'static str,
    payload: Vec<u8>,
    code: u16,
}

/// Commits from outside, ordered by the hub: wrong ones, then the one that a server takes.
async fn ways_in(world: &World, room: &Room) -> Result<Vec<Outcome>> {
    let writer = room.writer;
    let device = |of: Device| world.peer.device("writer", &of.account, &of.device);
    let (own, others) = (device(writer)?, device(OUTSIDER)?);
    let right = FromOutside {
        group: room.id,
        epoch: EPOCH,
        proposals: [external_init(), remove(0)].concat(),
        chain: &own.chain,
        key: &own.key,
    };
    let by = |sender: Device, commit: &FromOutside<'_>, removes: &[Device]| {
        room.ordered(&Ordered {
            sender,
            commit: &commit.encode(),
            removes,
        })
    };
    let with = |proposals: Vec<Vec<u8>>| FromOutside {
        proposals: proposals.concat(),
        ..right.clone()
    };
    let outsider = FromOutside {
        chain: &others.chain,
        key: &others.key,
        ..right.clone()
    };
    let other_key = FromOutside {
        key: &others.key,
        ..right.clone()
    };
    let other_room = FromOutside {
        group: [0x73; 16],
        ..right.clone()
    };
    let other_epoch = FromOutside {
        epoch: EPOCH.saturating_add(1),
        ..right.clone()
    };
    let wrong = [
        Wrong {
            id: "way-in.nobody",
            must: "a commit from outside by who is not in the room is refused as `unknown-room`",
            hint: "the payload's sender is in the room",
            payload: by(OUTSIDER, &outsider, &[]),
            code: code::UNKNOWN_ROOM,
        },
        Wrong {
            id: "way-in.other-leaf",
            must: "a commit from outside whose leaf is another device's is refused",
            hint: "the leaf's certificate is the payload's sender's",
            payload: by(writer, &outsider, &[]),
            code: code::MALFORMED,
        },
        Wrong {
            id: "way-in.other-key",
            must: "a commit from outside whose leaf has another key than its certificate is refused",
            hint: "the certificate's key is the leaf's",
            payload: by(writer, &other_key, &[]),
            code: code::MALFORMED,
        },
        Wrong {
            id: "way-in.removes-more",
            must: "a commit from outside whose payload removes somebody is refused",
            hint: "its payload adds nobody and removes nobody",
            payload: by(writer, &right, &[writer]),
            code: code::MALFORMED,
        },
        Wrong {
            id: "way-in.two-removals",
            must: "a commit from outside that removes two leaves is refused",
            hint: "one external_init and one remove, and nothing else",
            payload: by(
                writer,
                &with(vec![external_init(), remove(0), remove(1)]),
                &[],
            ),
            code: code::MALFORMED,
        },
        Wrong {
            id: "way-in.no-removal",
            must: "a commit from outside that removes no leaf is refused",
            hint: "it would add a device",
            payload: by(writer, &with(vec![external_init()]), &[]),
            code: code::MALFORMED,
        },
        Wrong {
            id: "way-in.no-init",
            must: "a commit from outside without an external_init is refused",
            hint: "one external_init and one remove, and nothing else",
            payload: by(writer, &with(vec![remove(0)]), &[]),
            code: code::MALFORMED,
        },
        Wrong {
            id: "way-in.by-reference",
            must: "a commit from outside with a proposal by reference is refused",
            hint: "both proposals stand in it by value",
            payload: by(
                writer,
                &with(vec![external_init(), remove(0), reference()]),
                &[],
            ),
            code: code::MALFORMED,
        },
        Wrong {
            id: "way-in.other-room",
            must: "a commit from outside into another room than its payload names is refused",
            hint: "compare the group id",
            payload: by(writer, &other_room, &[]),
            code: code::MALFORMED,
        },
        Wrong {
            id: "way-in.other-epoch",
            must: "a commit from outside of another epoch than its payload names is refused",
            hint: "compare the epoch",
            payload: by(writer, &other_epoch, &[]),
            code: code::MALFORMED,
        },
    ];
    let mut outcomes = Vec::new();
    for wrong in wrong {
        let sent = world.say(room.id, HANDSHAKE, wrong.payload).await?;
        let case = Case {
            id: wrong.id,
            requirement: "ROOM-055",
            level: Level::Must,
            must: wrong.must,
            hint: wrong.hint,
        };
        let ok = is_refused(&sent, &[wrong.code]);
        outcomes.push(case.outcome(Finding::new(ok, sent.describe())));
    }
    let sent = world
        .say(room.id, HANDSHAKE, by(writer, &right, &[]))
        .await?;
    let next = room.message_in(EPOCH.saturating_add(1), 1);
    let after = world.say(room.id, MESSAGE, next).await?;
    let case = Case {
        id: "way-in.member",
        requirement: "ROOM-055",
        level: Level::Must,
        must: "a member's commit from outside in the place of its own leaf is taken, and begins the next epoch",
        hint: "the control of the ways in that are refused",
    };
    let accepted = |sent: &Sent| sent.answers() == [Answer::Accepted];
    let got = format!(
        "{}; a message of the next epoch: {}",
        sent.describe(),
        after.describe()
    );
    outcomes.push(case.outcome(Finding::new(accepted(&sent) && accepted(&after), got)));
    Ok(outcomes)
}
