//! Which peers may connect, and how each proves to be itself.

use std::collections::HashMap;

use arc_swap::ArcSwap;
use federation_proto::ids::ServerName;
use rustls_pki_types::CertificateDer;

/// The peer that a TLS handshake authenticated; an extension of every request on its connection.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Peer(pub ServerName);

/// What the agreement with a peer pins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerAnchor {
    /// Its root certificate.
    pub root: CertificateDer<'static>,
    /// SHA-256 of the public keys (SPKI) that its TLS connections may show.
    pub pins: Vec<[u8; 32]>,
}

/// The peers that may connect now: a snapshot that verifiers read and the agreements' owner replaces.
#[derive(Default)]
pub struct PeerRoots {
    anchors: ArcSwap<HashMap<ServerName, PeerAnchor>>,
}

impl PeerRoots {
    /// Replaces all anchors; handshakes from now on are judged by these.
    pub fn replace(&self, anchors: HashMap<ServerName, PeerAnchor>) {
        self.anchors.store(anchors.into());
    }

    /// What is pinned for `server`.
    pub fn get(&self, server: &ServerName) -> Option<PeerAnchor> {
        self.anchors.load().get(server).cloned()
    }
}
