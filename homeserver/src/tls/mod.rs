//! Every rustls configuration of the homeserver.
//!
//! TLS 1.3 only; no tickets, no resumption, no 0-RTT (client authentication was lost that way
//! elsewhere); the provider is always named. A peer is who its certificate's one dNSName says, proven
//! by the root that the agreement with *that* name pins, never by any other.

mod peer;
#[cfg(test)]
mod tests;
mod verifier;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use federation_proto::ids::ServerName;
use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring as provider;
use rustls::server::NoServerSessionStorage;
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use x509_parser::prelude::{FromDer, X509Certificate};

pub use peer::{Peer, PeerAnchor, PeerRefusal, PeerRoots};

use crate::clock::Clock;
use crate::organisation::Keys;
use verifier::{PeerClientVerifier, PeerServerVerifier};

const ALPN_HTTP_1: &[u8] = b"http/1.1";
const ALPN_HTTP_2: &[u8] = b"h2";

/// Why a TLS configuration could not be made.
#[derive(Debug, Clone, thiserror::Error)]
#[error("TLS can't be set up: {0}")]
pub struct TlsError(pub String);

impl From<rustls::Error> for TlsError {
    fn from(error: rustls::Error) -> Self {
        Self(error.to_string())
    }
}

/// For clients: shows the chain up to the root, so that a client which knows only the root's
/// fingerprint can pin it; and that to a second root, for those that know only that.
pub fn client_listener(keys: &Keys, clock: Arc<dyn Clock>) -> Result<Arc<ServerConfig>, TlsError> {
    let identity = keys.tls_identity();
    let config = ServerConfig::builder_with_details(ring(), time(clock))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(identity.chain, PrivateKeyDer::from(identity.key))?;
    Ok(Arc::new(harden(config, ALPN_HTTP_1)))
}

/// For peers: a handshake ends well only with a peer of `peers`.
pub fn federation_listener(
    keys: &Keys,
    peers: Arc<PeerRoots>,
    clock: Arc<dyn Clock>,
) -> Result<Arc<ServerConfig>, TlsError> {
    let identity = keys.tls_identity();
    let config = ServerConfig::builder_with_details(ring(), time(clock))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(Arc::new(PeerClientVerifier::new(peers)))
        .with_single_cert(identity.chain, PrivateKeyDer::from(identity.key))?;
    Ok(Arc::new(harden(config, ALPN_HTTP_2)))
}

/// Towards `peer`: shows our certificate and accepts none but that peer's. Made for each connection,
/// so that it shows the certificate of the day.
pub fn federation_client(
    keys: &Keys,
    peer: &ServerName,
    peers: Arc<PeerRoots>,
    clock: Arc<dyn Clock>,
) -> Result<Arc<ClientConfig>, TlsError> {
    let identity = keys.tls_identity();
    let mut config = ClientConfig::builder_with_details(ring(), time(clock))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(PeerServerVerifier::new(peer.clone(), peers)))
        .with_client_auth_cert(identity.chain, PrivateKeyDer::from(identity.key))?;
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    config.alpn_protocols = vec![ALPN_HTTP_2.to_vec()];
    Ok(Arc::new(config))
}

/// Towards the store's database, or a log server: its certificate has to name the host that was called and to stand under one
/// of the certificates in `roots`, a text of PEM blocks. No other root is trusted.
pub fn rooted_client(roots: &str, clock: Arc<dyn Clock>) -> Result<ClientConfig, TlsError> {
    let mut trusted = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(roots.as_bytes()) {
        let certificate = certificate
            .map_err(|error| TlsError(format!("a root certificate can't be read: {error}")))?;
        trusted.add(certificate)?;
    }
    if trusted.is_empty() {
        return Err(TlsError("there is no root certificate".to_owned()));
    }
    let mut config = ClientConfig::builder_with_details(ring(), time(clock))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(trusted)
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    Ok(config)
}

/// Who is at the other end of a connection, and until when that is proven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authenticated {
    /// The peer.
    pub peer: Peer,
    /// The end of its certificate's validity, milliseconds since the Unix epoch.
    pub not_after_ms: u64,
    /// SHA-256 of the public key (SPKI) that it showed.
    pub pin: [u8; 32],
}

/// Who is at the other end of a connection that [`federation_listener`] accepted.
pub fn authenticated(connection: &rustls::ServerConnection) -> Option<Authenticated> {
    of_leaf(connection.peer_certificates()?.first()?)
}

/// Who showed this leaf in a handshake that was accepted.
pub fn of_leaf(leaf: &[u8]) -> Option<Authenticated> {
    let (_, certificate) = X509Certificate::from_der(leaf).ok()?;
    let not_after = certificate.validity().not_after.timestamp();
    Some(Authenticated {
        peer: Peer(verifier::named(&leaf.into()).ok()?),
        not_after_ms: u64::try_from(not_after).ok()?.saturating_mul(1000),
        pin: verifier::pin_of(certificate.public_key().raw),
    })
}

/// Whether whoever holds `keys` would be let in, or as `called` be taken for the one that was called, by whoever has
/// these peers; for tests without sockets.
#[cfg(test)]
pub(crate) fn would_admit(
    keys: &Keys,
    called: bool,
    peers: &PeerRoots,
    now_ms: u64,
) -> Result<ServerName, PeerRefusal> {
    let chain = keys.tls_identity().chain;
    let (leaf, others) = chain.split_first().ok_or(PeerRefusal::NoCertificate)?;
    let now = UnixTime::since_unix_epoch(Duration::from_millis(now_ms));
    let presented = verifier::Presented { leaf, others, now };
    if called {
        let usage = webpki::KeyUsage::server_auth();
        verifier::authenticate(|server| peers.get_to_call(server), &presented, usage)
    } else {
        let usage = webpki::KeyUsage::client_auth();
        verifier::authenticate(|server| peers.get(server), &presented, usage)
    }
}

/// The server that a certificate of anybody's making names, for tests with any bytes.
#[doc(hidden)]
pub fn server_of(leaf: &[u8]) -> Option<federation_proto::ids::ServerName> {
    verifier::named(&leaf.into()).ok()
}

/// The reason in a handshake's error, when it was ours to refuse the peer.
pub fn refusal_of(error: &io::Error) -> Option<&PeerRefusal> {
    let error = error.get_ref()?.downcast_ref::<rustls::Error>()?;
    match error {
        rustls::Error::InvalidCertificate(rustls::CertificateError::Other(other)) => {
            other.0.downcast_ref()
        }
        rustls::Error::NoCertificatesPresented => Some(&PeerRefusal::NoCertificate),
        _ => None,
    }
}

fn harden(mut config: ServerConfig, alpn: &[u8]) -> ServerConfig {
    config.send_tls13_tickets = 0;
    config.ignore_client_order = true;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.max_early_data_size = 0;
    config.alpn_protocols = vec![alpn.to_vec()];
    config
}

/// The cryptography, with AES-128-GCM preferred: the quickest on processors that have AES.
fn ring() -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider {
        cipher_suites: vec![
            provider::cipher_suite::TLS13_AES_128_GCM_SHA256,
            provider::cipher_suite::TLS13_AES_256_GCM_SHA384,
            provider::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        ],
        ..provider::default_provider()
    })
}

fn time(clock: Arc<dyn Clock>) -> Arc<dyn TimeProvider> {
    Arc::new(NodeTime(clock))
}

/// The node's clock as rustls wants it.
struct NodeTime(Arc<dyn Clock>);

impl fmt::Debug for NodeTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NodeTime")
    }
}

impl TimeProvider for NodeTime {
    fn current_time(&self) -> Option<UnixTime> {
        let since = Duration::from_millis(self.0.now_ms());
        Some(UnixTime::since_unix_epoch(since))
    }
}
