//! A room that the fake peer hubs, made by another MLS stack than the one that clients of the server under test have:
//! from the guest's key package to what she writes there.

use crate::arrived::Arrival;
use crate::cases::{Asker, Case, Keys, START_PATIENCE, World, Worlds};
use crate::consent;
use crate::failure::{Failure, Result};
use crate::group::{Change, Made, Role, Seat, room_extension};
use crate::people::People;
use crate::receipt::Answer;
use crate::report::{Finding, Level, Outcome};
use crate::room::{HANDSHAKE, MESSAGE, Ordered, Room, WELCOME};
use crate::wire::Decoder;

/// The fake peer's person who creates the room.
const HANDLE: &str = "writer";
/// What the guest writes.
const TEXT: &str = "from one stack to the other";

/// The room, and the writer's place in it.
pub(crate) struct Hosted {
    room: Room,
    seat: Seat,
}

/// The guest is added, and the writer comes back in: the room in which the guest can write, once her client has been
/// connected.
pub(super) async fn cases(
    world: &World,
    people: &People,
) -> Result<(Vec<Outcome>, Option<Hosted>)> {
    let room = world.room(Room::WRITER, people.open.device());
    let writer = world
        .peer
        .device(HANDLE, &room.writer.account, &room.writer.device)?;
    let mut seat = Seat::new(writer);
    let mut outcomes = Vec::new();
    let (begun, made) = founded(world, &room, people, &mut seat).await?;
    outcomes.extend(begun);
    let Some(made) = made else {
        return Ok((outcomes, None));
    };
    let (outcome, is_in) = let_in(world, &room, &mut seat, made).await?;
    outcomes.push(outcome);
    Ok((outcomes, is_in.then_some(Hosted { room, seat })))
}

/// The writer asks for the guest's keys and adds her to a new room.
async fn founded(
    world: &World,
    room: &Room,
    people: &People,
    seat: &mut Seat,
) -> Result<(Vec<Outcome>, Option<Made>)> {
    let asker = Asker {
        handle: HANDLE,
        account: room.writer.account,
        device: room.writer.device,
    };
    let (keys, _) = world.ask_keys(&asker, &people.open.handle).await?;
    let case = Case {
        id: "keys.usable",
        requirement: "E2E-009",
        level: Level::Must,
        must: "another MLS stack takes the key packages of who may be asked for them, and adds her to a room by one",
        hint: "an MLSMessage, for mls10 and cipher suite 1, with capabilities for X.509 and the room extension",
    };
    let Some(Keys::Of(_, packages)) = keys else {
        let outcome = case.outcome(Finding::new(false, format!("{keys:?}")));
        return Ok((vec![outcome], None));
    };
    let participants = [
        (&*room.hub, room.writer.account, Role::Owner),
        (&*room.guest_server, room.guest.account, Role::Member),
    ];
    let (consents, consented) = consents(world, room, &asker).await?;
    let Some(consents) = consents else {
        return Ok((vec![consented], None));
    };
    let extension = room_extension(&room.hub, &participants, &consents);
    seat.found(&room.id, &world.peer.hub()?, extension)?;
    let made = seat.commit(&Change {
        adds: &packages.0,
        ..Change::default()
    });
    Ok(match made {
        Ok(made) => {
            let added = case.outcome(Finding::new(true, "she is added"));
            (vec![consented, added], Some(made))
        }
        Err(Failure::Mls(why)) => {
            let refused = case.outcome(Finding::new(false, why));
            (vec![consented, refused], None)
        }
        Err(failure) => return Err(failure),
    })
}

/// The consents of both organisations to the room, one after the other; the outcome of the question for the other one's.
async fn consents(world: &World, room: &Room, asker: &Asker) -> Result<(Option<Vec<u8>>, Outcome)> {
    let names = [&*room.hub, &*room.guest_server];
    let theirs = world.ask_consent(asker, &room.id, &names).await?;
    let case = Case {
        id: "room.consent",
        requirement: "ROOM-070",
        level: Level::Must,
        must: "a peer that is to be in a room with nobody else is given a signed consent to it",
        hint: "a RoomConsentResponse on the control lane",
    };
    let outcome = case.outcome(Finding::new(theirs.is_some(), "the consent".to_owned()));
    let ours = consent::of(&world.peer, &room.id, &names)?;
    // Ascending by server.
    let both = theirs.map(|theirs| match room.hub < room.guest_server {
        true => [ours, theirs].concat(),
        false => [theirs, ours].concat(),
    });
    Ok((both, outcome))
}

/// The guest's server is given the welcome, then the writer's way back in.
async fn let_in(
    world: &World,
    room: &Room,
    seat: &mut Seat,
    made: Made,
) -> Result<(Outcome, bool)> {
    seat.decided(true)?;
    let welcome = made.welcome.unwrap_or_default();
    let payload = room.welcome_of(&room.hub, room.writer, &welcome);
    let welcomed = world.say(room.id, WELCOME, payload).await?;
    let back = seat.come_in(&made.group_info).map_err(Failure::Mls)?;
    let payload = room.ordered(&Ordered {
        sender: room.writer,
        commit: &back.commit,
        removes: &[],
    });
    let ordered = world.say(room.id, HANDSHAKE, payload).await?;
    let case = Case {
        id: "room.other-stack",
        requirement: "ROOM-055",
        level: Level::Must,
        must: "the welcome of another MLS stack is accepted, and so is the commit by which its member comes back in",
        hint: "the frames of RFC 9420, whoever writes them",
    };
    let got = format!(
        "the welcome: {}; the way back in: {}",
        welcomed.describe(),
        ordered.describe()
    );
    let ok = [&welcomed, &ordered]
        .iter()
        .all(|sent| sent.answers() == [Answer::Accepted]);
    Ok((case.outcome(Finding::new(ok, got)), ok))
}

/// A message of the guest's in the room: its MLSMessage.
fn message(arrival: &Arrival, room: &Room) -> Option<Vec<u8>> {
    let mut input = Decoder::new(&arrival.payload);
    if (arrival.kind, arrival.lane) != (MESSAGE, room.id) || input.fixed()? != room.id {
        return None;
    }
    let sender = (input.fixed()?, input.fixed()?);
    if sender != (room.guest.account, room.guest.device) {
        return None;
    }
    let _reference = input.u64()?;
    let message = input.vector(4)?.to_vec();
    input.is_empty().then_some(message)
}

/// The text of a content (protocol, section 9).
fn text(content: &[u8]) -> Option<String> {
    let mut input = Decoder::new(content);
    if input.u8()? != 1 {
        return None;
    }
    let (_id, _sent_ms) = (input.fixed::<16>()?, input.u64()?);
    let (_ttl_seconds, _burn_seconds, _label) = (input.u32()?, input.u32()?, input.u8()?);
    let (_number, _in_epoch, count) = (input.u64()?, input.u32()?, input.u8()?);
    for _recent_and_older in 0..=count {
        input.u32()?;
    }
    let text = (input.u8()? == 1).then(|| input.text(2))??;
    input.rest().iter().all(|byte| *byte == 0).then_some(text)
}

/// The guest, who has followed the way back in, writes.
pub(crate) async fn written(
    worlds: &Worlds<'_>,
    Hosted { room, mut seat }: Hosted,
) -> Result<Outcome> {
    let world = &worlds.everything;
    let mark = world.mailbox.mark();
    let writing = worlds.operator.write(&hex::encode(room.id), TEXT);
    let came = world
        .mailbox
        .wait_for(mark, START_PATIENCE, |arrival| message(arrival, &room))
        .await;
    let read = match (writing.await, &came) {
        (Ok(Err(failure)), _) => Err(failure.to_string()),
        (_, Some(message)) => seat.open(message),
        (_, None) => Err("no message came".to_owned()),
    };
    let case = Case {
        id: "room.guest-writes",
        requirement: "E2E-001",
        level: Level::Must,
        must: "who was added by another MLS stack follows its commits, and what she writes that stack reads",
        hint: "E2E-043: a member takes another's way back in; the content is as section 9 says",
    };
    let found = read.map(|content| text(&content));
    let ok = found == Ok(Some(TEXT.to_owned()));
    Ok(case.outcome(Finding::new(ok, format!("{found:?}"))))
}
