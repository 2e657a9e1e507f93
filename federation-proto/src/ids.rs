//! Identifiers that appear on the wire, each parsed once and then trusted.
//!
//! Every other crate of the project takes these types from here, so that the rules about server
//! names (the ones that stop homographs and IP look-alikes) are written once.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::limits::{
    DIRECTORY_PREFIX_BYTES_MIN, HANDLE_BYTES_MAX, LABEL_BYTES_MAX, QUOTED_CHARACTERS_MAX,
    SERVER_NAME_BYTES_MAX,
};

/// Why a text is not an identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Not a lower-case DNS name in A-label form with at least two labels.
    #[error(
        "`{0}` is not a server name: use a lower-case DNS name such as chat.example \
         (international names in their xn-- form)"
    )]
    ServerName(String),
    /// Not a handle.
    #[error(
        "`{0}` is not a handle: use 1 to 64 of a-z, 0-9, `.`, `_` and `-`, starting with a letter or digit"
    )]
    Handle(String),
    /// Too little of a handle.
    #[error(
        "`{0}` is too short for a look-up: give at least {DIRECTORY_PREFIX_BYTES_MIN} characters of the handle"
    )]
    HandlePrefix(String),
    /// Not `handle@server.name`.
    #[error("`{0}` is not an address: use handle@server.name, such as alice@a.example")]
    Address(String),
    /// Not 32 lower-case hexadecimal digits.
    #[error("`{0}` is not an identifier: use 32 lower-case hexadecimal digits")]
    Hex(String),
}

/// A homeserver's DNS identity: lower case, A-labels only, at least two labels, no trailing dot.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServerName(String);

impl ServerName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ServerName {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        if is_server_name(text) {
            Ok(Self(text.to_owned()))
        } else {
            Err(IdError::ServerName(shorten(text)))
        }
    }
}

fn is_server_name(text: &str) -> bool {
    let labels_ok = text.split('.').all(is_label);
    // An all-digit last label would make `10.0.0.1` a server name.
    let top_ok = text
        .rsplit('.')
        .next()
        .is_some_and(|top| top.bytes().any(|b| b.is_ascii_lowercase()));
    text.len() <= SERVER_NAME_BYTES_MAX && text.contains('.') && labels_ok && top_ok
}

/// Whether this is a part of a DNS name.
pub(crate) fn is_label(label: &str) -> bool {
    !label.is_empty()
        && label.len() <= LABEL_BYTES_MAX
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// The name people type for an account, unique within its homeserver.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Handle(String);

impl Handle {
    /// The handle as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Handle {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let starts_ok = text
            .bytes()
            .next()
            .is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        let rest_ok = text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b));
        if starts_ok && rest_ok && text.len() <= HANDLE_BYTES_MAX {
            Ok(Self(text.to_owned()))
        } else {
            Err(IdError::Handle(shorten(text)))
        }
    }
}

/// What handles begin with, as far as somebody knows it who looks for people; long enough that nobody pages
/// through a directory by it. Every beginning of a handle could be a handle itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HandlePrefix(Handle);

impl HandlePrefix {
    /// The beginning that reads like this handle.
    ///
    /// # Errors
    /// When it has fewer than [`DIRECTORY_PREFIX_BYTES_MIN`] characters.
    pub fn new(beginning: Handle) -> Result<Self, IdError> {
        if beginning.as_str().len() < DIRECTORY_PREFIX_BYTES_MIN {
            return Err(IdError::HandlePrefix(shorten(beginning.as_str())));
        }
        Ok(Self(beginning))
    }

    /// The beginning as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl FromStr for HandlePrefix {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        Self::new(text.parse()?)
    }
}

/// `handle@server.name`, the address people exchange.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address {
    /// The account's handle.
    pub handle: Handle,
    /// The account's homeserver.
    pub server: ServerName,
}

impl FromStr for Address {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let (handle, server) = text
            .split_once('@')
            .ok_or_else(|| IdError::Address(shorten(text)))?;
        Ok(Self {
            handle: handle.parse()?,
            server: server.parse()?,
        })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.handle, self.server)
    }
}

/// Keeps hostile input out of error messages beyond what helps to recognise it.
fn shorten(text: &str) -> String {
    text.chars().take(QUOTED_CHARACTERS_MAX).collect()
}

macro_rules! text_id {
    ($name:ident) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?
                    .parse()
                    .map_err(serde::de::Error::custom)
            }
        }
    };
}

macro_rules! display_inner {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

display_inner!(ServerName);
display_inner!(Handle);
display_inner!(HandlePrefix);
text_id!(ServerName);
text_id!(Handle);
text_id!(HandlePrefix);
text_id!(Address);

macro_rules! opaque_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name([u8; 16]);

        impl $name {
            /// The identifier made of these bytes (random ones for a new identifier).
            #[must_use]
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(bytes)
            }

            /// The identifier's bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 16] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                parse_hex16(text).map(Self)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if serializer.is_human_readable() {
                    serializer.collect_str(self)
                } else {
                    self.0.serialize(serializer)
                }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                if deserializer.is_human_readable() {
                    String::deserialize(deserializer)?
                        .parse()
                        .map_err(serde::de::Error::custom)
                } else {
                    <[u8; 16]>::deserialize(deserializer).map(Self)
                }
            }
        }
    };
}

opaque_id!(
    /// Evidence of deprovisioning.
    EvidenceId
);
opaque_id!(
    /// An account, opaque and never reused; the handle is only its name.
    AccountId
);
opaque_id!(
    /// A device of an account.
    DeviceId
);
opaque_id!(
    /// A room; also its MLS group id and the lane that its traffic takes on every link.
    RoomId
);
opaque_id!(
    /// An encrypted file held by the homeserver it was uploaded to.
    FileId
);
opaque_id!(
    /// A request for key packages or a look-up, chosen by the device that asks.
    RequestId
);
opaque_id!(
    /// A report of abuse, chosen by the homeserver that takes it in.
    ReportId
);
opaque_id!(
    /// A consortium, the same through all its charters.
    ConsortiumId
);

fn parse_hex16(text: &str) -> Result<[u8; 16], IdError> {
    let error = || IdError::Hex(shorten(text));
    let digit = |b: u8| match b {
        b'0'..=b'9' => Some(b - b'0'),
        b'a'..=b'f' => Some(b - b'a' + 10),
        _ => None,
    };
    if text.len() != 32 {
        return Err(error());
    }
    let mut bytes = [0_u8; 16];
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let [high, low] = pair else {
            return Err(error());
        };
        *byte = digit(*high).ok_or_else(error)? << 4 | digit(*low).ok_or_else(error)?;
    }
    Ok(bytes)
}

/// One device of one account of one homeserver: a room's member.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Member {
    /// The member's homeserver.
    pub server: ServerName,
    /// The member's account.
    pub account: AccountId,
    /// The member's device.
    pub device: DeviceId,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: only lower-case A-label DNS names are server names; by a table of both kinds.
    #[test]
    fn server_names() {
        for good in ["a.example", "xn--bcher-kva.example", "a-b.c1.example"] {
            assert_eq!(good.parse::<ServerName>().unwrap().as_str(), good);
        }
        for bad in [
            "",
            "example",
            "A.example",
            "a.example.",
            ".a.example",
            "a..example",
            "-a.example",
            "a-.example",
            "10.0.0.1",
            "bücher.example",
            "a_b.example",
            "a.example:443",
            "*.example",
        ] {
            assert!(bad.parse::<ServerName>().is_err(), "{bad}");
        }
        let long = format!("{}.example", "a".repeat(64));
        assert!(long.parse::<ServerName>().is_err());
    }

    /// Goal: no name looks like another one: letters beyond ASCII are no part of a name, and A-labels show themselves as
    /// such. Method: look-alikes of one name in other scripts, widths and signs, and unseen characters in it.
    #[test]
    fn homographs_are_no_names() {
        for look_alike in [
            "\u{430}.example", // Cyrillic a
            "a.ex\u{430}mple",
            "\u{251}.example",   // Latin alpha
            "\u{ff41}.example",  // full width
            "\u{1d41a}.example", // mathematical bold
            "a\u{301}.example",  // with a combining accent
            "a\u{200b}.example", // with a space of no width
            "a\u{ad}.example",   // with a soft hyphen
            "\u{202e}elpmaxe.a", // turned around
            "a\u{3002}example",  // an ideographic full stop
            "a\u{2024}example",  // a one dot leader
            "a%2eexample",
        ] {
            assert!(look_alike.parse::<ServerName>().is_err(), "{look_alike}");
        }
        let a_label: ServerName = "xn--80a.example".parse().unwrap();
        assert_eq!(a_label.to_string(), "xn--80a.example");
    }

    /// Goal: the beginning of a handle is long enough and could be a handle; by a table of both kinds.
    #[test]
    fn beginnings_of_handles() {
        for good in ["bob", "b.o", "2nd-floor"] {
            assert_eq!(good.parse::<HandlePrefix>().unwrap().as_str(), good);
        }
        let long = "a".repeat(65);
        for bad in ["", "b", "bo", "Bob", "b*b", ".bob", long.as_str()] {
            assert!(bad.parse::<HandlePrefix>().is_err(), "{bad}");
        }
    }

    /// Goal: an opaque id has one text form; upper case and wrong lengths are refused.
    #[test]
    fn opaque_ids() {
        let id = RoomId::from_bytes([0xab; 16]);
        assert_eq!(id.to_string().parse::<RoomId>().unwrap(), id);
        assert!("AB".repeat(16).parse::<RoomId>().is_err());
        assert!("ab".repeat(15).parse::<RoomId>().is_err());
    }

    /// Goal: addresses parse into their two halves, and neither half may be malformed.
    #[test]
    fn addresses() {
        let address: Address = "alice@a.example".parse().unwrap();
        assert_eq!(address.to_string(), "alice@a.example");
        for bad in [
            "alice",
            "@a.example",
            "Alice@a.example",
            "alice@a",
            "a@b@c.example",
        ] {
            assert!(bad.parse::<Address>().is_err(), "{bad}");
        }
    }
}
