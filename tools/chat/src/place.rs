//! Where a message goes: a room, named by its id's first digits, or a conversation with an address.

use std::str::FromStr;

use entente_sdk::ids::{Address, RoomId};
use entente_sdk::{Client, Message, Room};

use crate::cli::is_message_prefix;
use crate::failure::{Failure, Result};

/// Fewest digits that name a room.
const DIGITS_MIN: usize = 4;

/// A room as a person names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// The room whose id begins with these hexadecimal digits.
    Room(String),
    /// The conversation of two with this account.
    With(Address),
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        if text.contains('@') {
            return text.parse().map(Self::With).map_err(|error| {
                let error: entente_sdk::ids::IdError = error;
                error.to_string()
            });
        }
        let text = text.to_ascii_lowercase();
        if text.len() >= DIGITS_MIN && text.bytes().all(|b| b.is_ascii_hexdigit()) {
            Ok(Self::Room(text))
        } else {
            Err(format!(
                "`{text}` is neither an address (alice@a.example) nor a room (at least \
                 {DIGITS_MIN} digits of its id; see `chat rooms`)"
            ))
        }
    }
}

/// The room that a place names; `None` when it is a conversation that does not exist yet.
///
/// # Errors
/// When no room, or more than one, begins with the digits.
pub(crate) async fn find(client: &Client, place: &Place) -> Result<Option<RoomId>> {
    let rooms = client.rooms().await?;
    match place {
        Place::Room(digits) => among(&rooms, digits).map(Some),
        Place::With(address) => latest_with(client, &rooms, address).await,
    }
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
    for room in client.rooms().await? {
        let history = client.history(room.room).await?;
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

/// Of several conversations of two with the same account, the one used last.
async fn latest_with(client: &Client, rooms: &[Room], other: &Address) -> Result<Option<RoomId>> {
    let own = client.address();
    let mut latest: Option<(u64, RoomId)> = None;
    for room in rooms.iter().filter(|room| is_of_two(room, &own, other)) {
        let history = client.history(room.room).await?;
        let number = history.last().map_or(0, |message| message.number);
        if latest.is_none_or(|(before, _)| before <= number) {
            latest = Some((number, room.room));
        }
    }
    Ok(latest.map(|(_, room)| room))
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
    use proptest::prelude::*;

    use super::*;

    fn room(id: u8, addresses: &[&str]) -> Room {
        Room {
            room: RoomId::from_bytes([id; 16]),
            hub: "a.example".parse().unwrap(),
            epoch: 1,
            addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
            members: Vec::new(),
            roles: std::collections::BTreeMap::new(),
            out_of_step: false,
            gap: None,
        }
    }

    /// Goal: addresses, ids and their beginnings are told apart; everything else is an error that
    /// says what to type.
    #[test]
    fn places() {
        let bob: Address = "bob@b.example".parse().unwrap();
        assert_eq!("bob@b.example".parse(), Ok(Place::With(bob)));
        assert_eq!("00AB".parse(), Ok(Place::Room("00ab".to_owned())));
        for bad in ["bob", "00a", "", "bob@b"] {
            assert!(bad.parse::<Place>().is_err(), "{bad}");
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

    proptest! {
        /// Goal: any text names a place or is an error; digits are kept, in lower case. Method: texts near to right
        /// ones, and any.
        #[test]
        fn any_text_is_a_place_or_an_error(
            text in prop_oneof!["[0-9a-fA-F]{0,40}", "[a-z.]{0,9}@[a-z.]{0,9}", any::<String>()]
        ) {
            match text.parse::<Place>() {
                Ok(Place::Room(digits)) => prop_assert_eq!(digits, text.to_ascii_lowercase()),
                Ok(Place::With(address)) => prop_assert_eq!(address.to_string(), text),
                Err(error) => prop_assert!(!error.is_empty()),
            }
        }
    }
}
