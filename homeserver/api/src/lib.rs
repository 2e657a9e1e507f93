//! What clients and administrators exchange with a homeserver.
//!
//! - [`session`]: binary frames of a device's WebSocket session.
//! - [`client`]: HTTP + JSON of the client API.
//! - [`admin`]: HTTP + JSON of the admin API.
//! - [`contacts`]: consent to people of other organisations, of the client API.
//! - [`consortium`]: its part about consortia.
//! - [`evidence`]: who was cut off, of the admin API.
//! - [`keys`]: the organisation's keys, of the admin API.
//! - [`ocsf`]: entries of the audit log in the form of a schema that other programs read.
//! - [`password`]: passwords, in either.
//! - [`policy`]: what a user type allows, as clients and administrators see it.
//! - [`attributes`]: what a message says of itself to the servers on its way.
//! - [`problem`]: the body of every HTTP error (RFC 9457).
//!
//! Deliberately absent: anything that could hold a plaintext, but for what a user discloses in a report.

#![warn(missing_docs)]

pub mod admin;
pub mod attributes;
pub mod client;
pub mod consortium;
pub mod contacts;
pub mod evidence;
pub mod keys;
pub mod ocsf;
pub mod password;
pub mod policy;
pub mod problem;
pub mod session;

mod base64_bytes;

pub use base64_bytes::Base64;
pub use federation_proto::armor;
pub use federation_proto::audit_log;
pub use federation_proto::codec;
pub use federation_proto::deprovisioning;
pub use federation_proto::device_log;
pub use federation_proto::fingerprint;
pub use federation_proto::hash::Digest;
pub use federation_proto::ids;
pub use federation_proto::keys::IssuingKey;
pub use federation_proto::limits;
pub use federation_proto::merkle;
pub use federation_proto::refusal;
pub use federation_proto::room_consent;
