//! `g`: the serial of each agreement, apart from the agreement itself.
//!
//! Whoever accepts anything under an agreement makes the serial a precondition; whoever changes the
//! agreement writes the next serial in the same part. So nothing is accepted under terms, or in a
//! state, that had ended by the moment of the commit.

use federation_proto::ids::ServerName;

use super::{Key, Part, Precondition, Value};

const FAMILY: u8 = b'g';

/// Where the serial of the agreement with `server` lies.
pub fn key(server: &ServerName) -> Key {
    [&[FAMILY], server.as_str().as_bytes()].concat().into()
}

/// Writes the serial of the agreement with `server`.
pub fn put(part: &mut Part, server: &ServerName, serial: u64) {
    part.put(key(server), value(serial));
}

/// The part holds only while the agreement with `server` has this serial (`None`: there is none).
pub fn require(part: &mut Part, server: &ServerName, serial: Option<u64>) {
    part.require(Precondition::unchanged(key(server), serial.map(value)));
}

/// The stored form of a serial.
pub fn value(serial: u64) -> Value {
    [&[1_u8][..], &serial.to_be_bytes()].concat().into()
}
