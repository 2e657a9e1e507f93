//! A room as a person writes it.

use std::str::FromStr;

use entente_sdk::ids::Address;

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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

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
