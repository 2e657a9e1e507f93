//! Peers: the ceremony that makes an agreement, what it allows, and what ends it.

mod directory;

pub use crate::policy::Direction;
pub use directory::{Directory, PeerView};
pub use homeserver_api::admin::{Operation, PeerState};
