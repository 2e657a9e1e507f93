//! Entente's server-to-server protocol, without I/O.
//!
//! Everything here is a pure function of its arguments: the time, randomness and stored state come
//! in as arguments, decisions and bytes go out. Sockets, files, clocks and tasks are deliberately
//! absent, and this crate's `clippy.toml` keeps them out.
//!
//! - [`ids`], [`limits`], [`refusal`]: what every other crate shares.
//! - [`codec`], [`version`]: strict encoding (one encoding per value) and version negotiation.
//! - [`hash`], [`keys`], [`merkle`]: SHA-256 digests, signing keys, the tree of a transaction.
//! - [`envelope`], [`transaction`], [`payload`], [`receipt`], [`exchange`]: what travels on a link, and its proofs.
//! - [`padding`]: what hides a body's length from the network.
//! - [`link`]: which envelope is next, which is a duplicate, which waits: both ends of a link.
//! - [`organisation`], [`manifest`], [`fingerprint`]: who a server is and which keys it uses.
//! - [`device_log`]: which devices an organisation's accounts have had, and the proofs of it.
//! - [`audit_log`]: what an organisation's audit log is made of, its heads, and what partners have seen of it.
//! - [`deprovisioning`]: what shows that somebody was cut off, in every room.
//! - [`room_consent`]: what each organisation in a room lets it do.
//! - [`agreement`], [`armor`]: peering, from an offer to an active agreement.

#![warn(missing_docs)]

// The unit tests share the fixtures of the tests in `tests/`, which know this crate by its name.
#[cfg(test)]
extern crate self as federation_proto;

pub mod agreement;
pub mod armor;
pub mod audit_log;
pub mod codec;
pub mod deprovisioning;
pub mod device_log;
pub mod envelope;
pub mod exchange;
pub mod fingerprint;
pub mod hash;
pub mod ids;
pub mod keys;
pub mod limits;
pub mod link;
pub mod manifest;
pub mod merkle;
pub mod organisation;
pub mod padding;
pub mod payload;
pub mod receipt;
pub mod refusal;
pub mod room_consent;
mod text;
pub mod transaction;
pub mod version;
