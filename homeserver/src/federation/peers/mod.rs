//! Peers: the ceremony that makes an agreement, what it allows, and what ends it.
//!
//! A peer's record holds the signed documents themselves; everything else is derived from them each
//! time they are read. Every change is written with the next serial and with its audit entry.

mod amendments;
mod ceremony;
mod change;
pub mod consortium;
mod declarations;
mod directory;
mod documents;
mod error;
mod expiry;
mod link_epoch;
mod outgoing;
mod prepared;
pub mod root;
mod serials;
mod show;
mod standing;
mod statement;
mod view;

pub use crate::policy::{Direction, told_to_peer};
pub use amendments::{amend, amendment_from, consent, consent_from, refuse};
pub use ceremony::{accept, activate_online, countersign, offer};
pub use declarations::declaration_from;
pub use directory::{Chartered, Directory, Parted, PeerView, WaitingBounds};
pub use documents::{inspect, take};
pub use error::PeeringError;
pub use expiry::{expire, warn};
pub use homeserver_api::admin::{Operation, PeerState};
pub use link_epoch::{begin_link_epoch, begin_link_epoch_under};
pub use outgoing::document_settled;
pub use show::{detail, summaries, warnings};
pub use standing::{countersignature_delivered, resume, revoke, suspend, take_manifest};
