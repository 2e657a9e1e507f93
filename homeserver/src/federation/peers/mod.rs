//! Peers: the ceremony that makes an agreement, what it allows, and what ends it.
//!
//! A peer's record holds the signed documents themselves; everything else is derived from them each
//! time they are read. Every change is written with the next serial and with its audit entry.

mod ceremony;
mod change;
pub mod consortium;
mod directory;
mod error;
mod show;
mod standing;
mod statement;
mod view;

pub use crate::policy::Direction;
pub use ceremony::{accept, activate, activate_online, countersign, inspect, offer};
pub use directory::{Directory, PeerView};
pub use error::PeeringError;
pub use homeserver_api::admin::{Operation, PeerState};
pub use show::{detail, summaries};
pub use standing::{countersignature_delivered, expire, resume, revoke, suspend, take_manifest};
