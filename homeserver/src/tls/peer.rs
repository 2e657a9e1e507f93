//! Which peers may connect, and why one may not.

use std::collections::HashMap;
use std::fmt;

use arc_swap::ArcSwap;
use federation_proto::ids::ServerName;
use rustls_pki_types::CertificateDer;
use tokio::sync::watch;

/// The peer that a TLS handshake authenticated; an extension of every request on its connection.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Peer(pub ServerName);

/// What the agreement with a peer pins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerAnchor {
    /// Its root certificate; two of them while the peer may not know yet that we have consented to the
    /// second one.
    pub roots: Vec<CertificateDer<'static>>,
    /// SHA-256 of the public keys (SPKI) that its TLS connections may show.
    pub pins: Vec<[u8; 32]>,
}

impl PeerAnchor {
    /// Keys and roots that are added end nothing. Which of two roots vouched for a connection is not known any
    /// more, so both must still count.
    fn still_has(&self, roots: &[CertificateDer<'_>], pin: &[u8; 32]) -> bool {
        self.pins.contains(pin) && roots.iter().all(|root| self.roots.contains(root))
    }
}

/// The peers that may connect now: a snapshot that verifiers read and the agreements' owner replaces.
pub struct PeerRoots {
    anchors: ArcSwap<HashMap<ServerName, PeerAnchor>>,
    /// Former peers that may not connect, and that are called once more to be told.
    farewells: ArcSwap<HashMap<ServerName, PeerAnchor>>,
    replaced: watch::Sender<()>,
}

impl Default for PeerRoots {
    fn default() -> Self {
        Self {
            anchors: ArcSwap::default(),
            farewells: ArcSwap::default(),
            replaced: watch::Sender::new(()),
        }
    }
}

impl PeerRoots {
    /// Replaces all anchors: handshakes from now on are judged by these, and open connections of peers
    /// that are no longer among them are cut.
    pub fn replace(&self, anchors: HashMap<ServerName, PeerAnchor>) {
        self.anchors.store(anchors.into());
        self.replaced.send_replace(());
    }

    /// What is pinned for `server`.
    pub fn get(&self, server: &ServerName) -> Option<PeerAnchor> {
        self.anchors.load().get(server).cloned()
    }

    /// Whether `server` may still talk to us over a connection that showed the key with this pin when
    /// `roots` were pinned.
    pub fn still_admit(
        &self,
        server: &ServerName,
        roots: &[CertificateDer<'_>],
        pin: &[u8; 32],
    ) -> bool {
        let anchor = self.get(server);
        anchor.is_some_and(|anchor| anchor.still_has(roots, pin))
    }

    /// As [`PeerRoots::still_admit`], for a connection that we have opened.
    pub fn still_call(
        &self,
        server: &ServerName,
        roots: &[CertificateDer<'_>],
        pin: &[u8; 32],
    ) -> bool {
        let anchor = self.get_to_call(server);
        anchor.is_some_and(|anchor| anchor.still_has(roots, pin))
    }

    /// Replaces those who are only called, and may not connect themselves.
    pub fn replace_farewells(&self, farewells: HashMap<ServerName, PeerAnchor>) {
        self.farewells.store(farewells.into());
    }

    /// What is pinned for `server` when we call it.
    pub fn get_to_call(&self, server: &ServerName) -> Option<PeerAnchor> {
        let farewell = || self.farewells.load().get(server).cloned();
        self.get(server).or_else(farewell)
    }

    /// Changes whenever the anchors were replaced.
    pub fn replaced(&self) -> watch::Receiver<()> {
        self.replaced.subscribe()
    }
}

/// Why a certificate does not make its holder a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PeerRefusal {
    /// None was shown.
    NoCertificate,
    /// It names nobody, or more than one.
    Name(String),
    /// There is no agreement with the one it names.
    Unknown(ServerName),
    /// It names another than the one that was called.
    Other {
        /// Who was called.
        called: ServerName,
        /// Who answered.
        named: ServerName,
    },
    /// The root pinned for this name does not vouch for it now.
    Chain {
        /// The name.
        server: ServerName,
        /// What is wrong.
        problem: String,
    },
    /// The agreement does not pin its key.
    Pin(ServerName),
}

impl PeerRefusal {
    /// The name it claimed, when it claimed one.
    pub fn claimed(&self) -> Option<&ServerName> {
        match self {
            Self::NoCertificate | Self::Name(_) => None,
            Self::Unknown(server)
            | Self::Other { named: server, .. }
            | Self::Chain { server, .. }
            | Self::Pin(server) => Some(server),
        }
    }
}

impl fmt::Display for PeerRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCertificate => f.write_str("it showed no certificate"),
            Self::Name(problem) => write!(f, "its certificate names no server: {problem}"),
            Self::Unknown(server) => write!(f, "there is no agreement with {server}"),
            Self::Other { called, named } => {
                write!(f, "{called} was called, but {named} answered")
            }
            Self::Chain { server, problem } => write!(
                f,
                "the root that the agreement with {server} pins does not vouch for its certificate: \
                 {problem}"
            ),
            Self::Pin(server) => write!(
                f,
                "the agreement with {server} pins other TLS keys than the one it showed"
            ),
        }
    }
}

impl std::error::Error for PeerRefusal {}
