//! Where a message goes: a room, named by its id's first digits, or a conversation with an address.

mod written;

use std::collections::BTreeSet;

use entente_sdk::ids::{Address, RoomId};
use entente_sdk::{Client, Message, PastRoom, Room};

use crate::cli::is_message_prefix;
use crate::failure::{Failure, Result};
use crate::show::safe;

pub(crate) use written::Place;

/// The room that a place names; `None` when it is a conversation that does not exist yet.
///
/// # Errors
/// When no room, or more than one, begins with the digits.
pub(crate) async fn find(client: &Client, place: &Place) -> Result<Option<RoomId>> {
    let rooms = client.rooms().await?;
    match place {
        Place::Room(digits) => match among(&rooms, digits) {
            Ok(room) => Ok(Some(room)),
            Err(unknown) => Err(over(client, digits).await?.unwrap_or(unknown)),
        },
        Place::With(address) => Ok(among_two(&rooms, &client.address(), address)),
    }
}

/// What to say of the one conversation that begins with these digits and is over for this device.
async fn over(client: &Client, digits: &str) -> Result<Option<Failure>> {
    let past = client.past_rooms().await?;
    let mut meant = past
        .iter()
        .filter(|r| r.room.to_string().starts_with(digits));
    let (Some(room), None) = (meant.next(), meant.next()) else {
        return Ok(None);
    };
    let reason = room.over.as_ref();
    Ok(reason.map(|reason| {
        let sentence = format!("That conversation is over: {}.", safe::one_line(reason));
        Failure::new("unknown-room", sentence)
    }))
}

/// The conversations of two with this account.
pub(crate) async fn all_with(client: &Client, other: &Address) -> Result<BTreeSet<RoomId>> {
    let (rooms, own) = (client.rooms().await?, client.address());
    let of_two = rooms.iter().filter(|room| is_of_two(room, &own, other));
    Ok(of_two.map(|room| room.room).collect())
}

/// The room that a place names.
///
/// # Errors
/// When there is none.
pub(crate) async fn require(client: &Client, place: &Place) -> Result<RoomId> {
    find(client, place).await?.ok_or_else(|| {
        let Place::With(address) = place else {
            return Failure::new("unknown-room", "There is no such room. See `chat rooms`.");
        };
        Failure::new(
            "unknown-room",
            format!("There is no conversation with {address} yet. Begin one: chat start {address}"),
        )
    })
}

/// The conversations that a place names, to read: past ones too, those first.
///
/// # Errors
/// When there is none.
pub(crate) async fn to_read(client: &Client, place: &Place) -> Result<Vec<RoomId>> {
    let (own, past) = (client.address(), client.past_rooms().await?);
    let is_meant = |room: &PastRoom| match place {
        Place::Room(digits) => room.room.to_string().starts_with(digits),
        Place::With(other) => {
            let is_of_two = |address: &Address| *address == own || address == other;
            room.addresses.contains(other) && room.addresses.iter().all(is_of_two)
        }
    };
    let mut rooms: Vec<RoomId> = past
        .iter()
        .filter(|r| is_meant(r))
        .map(|r| r.room)
        .collect();
    match require(client, place).await {
        Ok(room) => rooms.push(room),
        Err(failure) if rooms.is_empty() => return Err(failure),
        Err(_) => {}
    }
    Ok(rooms)
}

/// The message whose id begins with `digits`.
///
/// # Errors
/// When there is none, or more than one.
pub(crate) async fn message(client: &Client, digits: &str) -> Result<Message> {
    if !is_message_prefix(digits) {
        return Err(Failure::new(
            "invalid-argument",
            format!("`{digits}` is not a message's id: use at least 4 of its hexadecimal digits"),
        ));
    }
    if let Ok(id) = digits.parse() {
        return Ok(client.message(id).await?);
    }
    let digits = digits.to_ascii_lowercase();
    let mut found = Vec::new();
    let rooms = client.rooms().await?.into_iter().map(|room| room.room);
    let past = client.past_rooms().await?;
    for room in rooms.chain(past.into_iter().map(|room| room.room)) {
        let history = client.history(room).await?;
        found.extend(
            history
                .into_iter()
                .filter(|message| message.id.to_string().starts_with(&digits)),
        );
    }
    match (found.pop(), found.len()) {
        (Some(message), 0) => Ok(message),
        (None, _) => Err(Failure::new(
            "unknown-message",
            format!("No message here begins with {digits}: it never was, has expired or is burnt."),
        )),
        (Some(_), _) => Err(Failure::new(
            "ambiguous",
            format!("More than one message begins with {digits}: use more digits."),
        )),
    }
}

fn among(rooms: &[Room], digits: &str) -> Result<RoomId> {
    let mut matching = rooms
        .iter()
        .filter(|room| room.room.to_string().starts_with(digits));
    match (matching.next(), matching.next()) {
        (Some(room), None) => Ok(room.room),
        (None, _) => Err(Failure::new(
            "unknown-room",
            format!("No conversation's id begins with {digits}. See `chat rooms`."),
        )),
        (Some(_), Some(_)) => Err(Failure::new(
            "ambiguous",
            format!("More than one conversation's id begins with {digits}: use more digits."),
        )),
    }
}

/// Of several conversations of two with the same account, the one with the lowest id: when both have begun one
/// at the same time, both go on in the same.
fn among_two(rooms: &[Room], own: &Address, other: &Address) -> Option<RoomId> {
    let of_two = rooms.iter().filter(|room| is_of_two(room, own, other));
    of_two.map(|room| room.room).min()
}

fn is_of_two(room: &Room, own: &Address, other: &Address) -> bool {
    room.addresses.contains(other)
        && room
            .addresses
            .iter()
            .all(|address| address == own || address == other)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(id: u8, addresses: &[&str]) -> Room {
        Room {
            room: RoomId::from_bytes([id; 16]),
            hub: "a.example".parse().unwrap(),
            epoch: 1,
            name: String::new(),
            acting_owner: None,
            addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
            members: Vec::new(),
            roles: std::collections::BTreeMap::new(),
            out_of_step: false,
            gap: None,
            continues: None,
            continued_by: Vec::new(),
        }
    }

    /// Goal: the beginning of an id must name exactly one room; by two rooms that share theirs.
    #[test]
    fn beginnings() {
        let rooms = [room(0x11, &[]), room(0x12, &[])];
        assert_eq!(among(&rooms, "1111").unwrap(), rooms[0].room);
        assert_eq!(among(&rooms, "1").unwrap_err().code, "ambiguous");
        assert_eq!(among(&rooms, "2222").unwrap_err().code, "unknown-room");
    }

    /// Goal: a conversation of two is that and nothing larger, whoever's devices are in it.
    #[test]
    fn conversations_of_two() {
        let (own, other) = ("alice@a.example", "bob@b.example");
        let (own_address, other_address) = (own.parse().unwrap(), other.parse().unwrap());
        let of_two =
            |addresses: &[&str]| is_of_two(&room(1, addresses), &own_address, &other_address);
        assert!(of_two(&[own, other]));
        assert!(!of_two(&[own]));
        assert!(!of_two(&[own, other, "carol@a.example"]));
    }

    /// Goal: of two conversations that both people began at once, both devices choose the same, and never a
    /// larger one; by both orders.
    #[test]
    fn both_choose_the_same() {
        let (own, other) = ("alice@a.example", "bob@b.example");
        let (own_address, other_address) = (own.parse().unwrap(), other.parse().unwrap());
        let mut rooms = [
            room(7, &[own, other]),
            room(1, &[own, other, "carol@a.example"]),
            room(3, &[own, other]),
        ];
        let chosen = |rooms: &[Room]| among_two(rooms, &own_address, &other_address);
        assert_eq!(chosen(&rooms), Some(RoomId::from_bytes([3; 16])));
        rooms.reverse();
        assert_eq!(chosen(&rooms), Some(RoomId::from_bytes([3; 16])));
        assert_eq!(
            among_two(&rooms, &other_address, &own_address),
            chosen(&rooms)
        );
        assert_eq!(chosen(&rooms[1..2]), None);
    }
}
