//! What may happen in a room: one judgement, for the hub that orders a room's commits and for every client
//! that applies them.
//!
//! - [`certificate`]: whom a chain vouches for, and by whose authority.
//! - [`settings`]: what every room's MLS group context carries: who takes part, with which role, and the hub.
//! - [`continuation`]: that a room continues another one, whose hub is gone.
//! - [`consents`]: what the organisations in a room let it do, and whether all have consented to each other.
//! - [`Rules`]: which commits are valid, a pure function of the group, the commit and the hub's time.
//! - [`removal`]: the one message from outside a group that is looked at, judged before MLS sees it.
//! - [`Observed`]: a room's public state, as its hub keeps it and validates commits by.
//!
//! Deliberately absent: stores, clocks, I/O, and any secret of a group: what is here can decrypt nothing. The
//! hub's time comes with each commit.

#![warn(missing_docs)]

pub mod certificate;
pub mod consents;
pub mod continuation;
mod error;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod identity;
mod observed;
pub mod removal;
mod rules;
pub mod settings;
#[cfg(any(test, feature = "testing"))]
#[doc(hidden)]
#[expect(
    clippy::unwrap_used,
    clippy::must_use_candidate,
    reason = "a test stops at the first surprise"
)]
pub mod testing;

#[cfg(test)]
mod tests;

use mls_rs::{CipherSuite, MlsMessage};

pub use error::Error;
pub use identity::{Identities, Imports, device_in, hub_identity, mark};
pub use observed::{Judged, Leaf, Observed, RoomKey, leaves_in};
pub use rules::Rules;

/// MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519.
pub const CIPHER_SUITE: CipherSuite = CipherSuite::CURVE25519_AES128;

/// Reads exactly one MLS message.
///
/// # Errors
/// When the bytes are anything else.
pub fn parse(bytes: &[u8]) -> Result<MlsMessage, Error> {
    MlsMessage::from_bytes(bytes)
        .map_err(|_| Error::Mls("the bytes are not one MLS message".to_owned()))
}
