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

use std::panic::{AssertUnwindSafe, catch_unwind};

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
    guarded(|| {
        MlsMessage::from_bytes(bytes)
            .map_err(|_| Error::Mls("the bytes are not one MLS message".to_owned()))
    })
}

/// Runs the MLS library over what others have made, and takes a panic of it for an error.
///
/// mls-rs indexes without looking in places that a member's bytes lead to: a commit with an update path of too few nodes
/// is one, which no signature or tag stops. Without this, whoever is sent such bytes would stop, be sent them again
/// when he starts, and stop again. What `work` has changed may be half done: the caller drops the group that it
/// worked on, as after every other error.
///
/// # Errors
/// Those of `work`, and [`Error::Mls`] for a panic.
pub fn guarded<T, E: From<Error>>(work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    // Sound: see above for the group; what else is shared is behind locks that take no notice of a panic.
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        Err(Error::Mls("it is made so that the MLS library can't go on".to_owned()).into())
    })
}
