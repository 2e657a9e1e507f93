//! Every rustls configuration of the homeserver.
//!
//! TLS 1.3 only; no tickets, no resumption, no 0-RTT (client authentication was lost that way
//! elsewhere); the provider is always named. A peer is who its certificate's one dNSName says, proven
//! by the root that the agreement with *that* name pins, never by any other.

mod peer;

pub use peer::{Peer, PeerAnchor, PeerRoots};

/// Why a TLS configuration could not be made.
#[derive(Debug, thiserror::Error)]
#[error("TLS can't be set up: {0}")]
pub struct TlsError(pub String);
