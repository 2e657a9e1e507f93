//! The audit log: what an organisation's homeserver has done and refused, for auditors and partners to hold it to.
//!
//! Each organisation keeps one append-only list of entries under a Merkle tree (RFC 9162). A [`SignedAuditHead`] says how
//! long it is and what its root is. Partners see the heads, never an entry: each keeps the newest one, holds the next one
//! to it, and signs what it has seen ([`SignedSighting`]). So a log that was rewritten is one that somebody outside knows.
//!
//! - [`entry`], what a leaf is made of.
//! - [`head`], heads.
//! - [`sighting`], what a partner has seen.

pub mod entry;
pub mod head;
pub mod sighting;

pub use entry::Entry;
pub use head::SignedAuditHead;
pub use sighting::{Sighting, SightingError, SignedSighting};
