//! A message's way through this homeserver: submit, receive, deliver, acknowledge, expire.
//!
//! Deliberately absent: HTTP, and anything that could hold a plaintext, but for what a user discloses in a report.

pub mod again;
pub mod audit_heads;
pub mod batch;
pub mod colleagues;
pub mod contacts;
pub mod dead_letters;
pub mod departures;
mod directory;
pub mod endings;
mod envelope;
pub mod evidence;
pub mod expiry;
pub mod explain;
pub mod fan_out;
pub mod fetches;
pub mod files;
pub mod group_info;
pub mod inbox;
mod keys;
pub mod lapsed;
pub mod limits;
pub mod log_heads;
pub mod mailboxes;
pub mod outbox;
pub mod receive;
pub mod reports;
mod room_consents;
pub mod space;
pub mod submit;
#[cfg(test)]
mod tests;
mod waiting;

pub use batch::{Batch, NotTaken, Times, settle};
