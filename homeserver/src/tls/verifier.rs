//! The judgement over a peer's certificate, in both directions.
//!
//! The name comes from exactly one dNSName; common names, wildcards, addresses and further names are
//! never looked at as names. The anchor is looked up by that name, so a root vouches for its own
//! organisation only. The key must be among those that the agreement pins.

use std::fmt;
use std::sync::Arc;

use federation_proto::ids::ServerName;
use ring::digest::{SHA256, digest};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, UnixTime};
use webpki::{EndEntityCert, ExtendedKeyUsageValidator, KeyUsage, anchor_from_trusted_cert};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::peer::{PeerAnchor, PeerRefusal, PeerRoots};

/// Most certificates beside the leaf; an organisation sends two.
const CHAIN_CERTIFICATES_MAX: usize = 4;

/// What is presented in a handshake.
pub(super) struct Presented<'a> {
    pub(super) leaf: &'a CertificateDer<'a>,
    pub(super) others: &'a [CertificateDer<'a>],
    pub(super) now: UnixTime,
}

/// The server that a certificate names, proven to be a peer.
pub(super) fn authenticate(
    anchor_of: impl Fn(&ServerName) -> Option<PeerAnchor>,
    presented: &Presented<'_>,
    usage: impl ExtendedKeyUsageValidator,
) -> Result<ServerName, PeerRefusal> {
    let server = named(presented.leaf)?;
    let Some(anchor) = anchor_of(&server) else {
        #[cfg(feature = "faults")]
        if crate::faults::is_on("accept-unknown-peer") {
            return Ok(server);
        }
        return Err(PeerRefusal::Unknown(server));
    };
    let chain = |problem: String| PeerRefusal::Chain {
        server: server.clone(),
        problem,
    };
    if presented.others.len() > CHAIN_CERTIFICATES_MAX {
        return Err(chain("it came with too many certificates".to_owned()));
    }
    let mut roots = Vec::with_capacity(anchor.roots.len());
    for root in &anchor.roots {
        roots.push(anchor_from_trusted_cert(root).map_err(|error| chain(error.to_string()))?);
    }
    let leaf = EndEntityCert::try_from(presented.leaf).map_err(|error| chain(error.to_string()))?;
    leaf.verify_for_usage(
        &[webpki::ring::ECDSA_P256_SHA256],
        &roots,
        presented.others,
        presented.now,
        usage,
        None,
        None,
    )
    .map_err(|error| chain(error.to_string()))?;
    if !states_its_use(presented.leaf) {
        return Err(chain(
            "it has no extended key usage, and must have that of a client or of a server"
                .to_owned(),
        ));
    }
    if !anchor
        .pins
        .contains(&pin_of(&leaf.subject_public_key_info()))
    {
        return Err(PeerRefusal::Pin(server));
    }
    Ok(server)
}

/// A certificate that says nothing of its use would be good for both; what it says has been judged.
fn states_its_use(leaf: &CertificateDer<'_>) -> bool {
    X509Certificate::from_der(leaf)
        .is_ok_and(|(_, leaf)| matches!(leaf.extended_key_usage(), Ok(Some(_))))
}

/// What a manifest lists of a TLS key: SHA-256 of its SubjectPublicKeyInfo.
pub(super) fn pin_of(spki: &[u8]) -> [u8; 32] {
    let mut pin = [0; 32];
    for (to, from) in pin.iter_mut().zip(digest(&SHA256, spki).as_ref()) {
        *to = *from;
    }
    pin
}

/// The one server that a certificate names.
pub(super) fn named(leaf: &CertificateDer<'_>) -> Result<ServerName, PeerRefusal> {
    let wrong = |problem: String| PeerRefusal::Name(problem);
    let certificate = match X509Certificate::from_der(leaf) {
        Ok(([], certificate)) => certificate,
        Ok(_) | Err(_) => return Err(wrong("it can't be read".to_owned())),
    };
    let names = certificate
        .subject_alternative_name()
        .map_err(|_| wrong("its alternative names can't be read".to_owned()))?
        .ok_or_else(|| wrong("it has no alternative name".to_owned()))?;
    match names.value.general_names.as_slice() {
        [GeneralName::DNSName(name)] => name
            .parse()
            .map_err(|error: federation_proto::ids::IdError| wrong(error.to_string())),
        [_] => Err(wrong("its alternative name is no DNS name".to_owned())),
        names => Err(wrong(format!(
            "it has {} alternative names, not one",
            names.len()
        ))),
    }
}

fn refused(refusal: PeerRefusal) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(refusal))))
}

fn algorithms() -> WebPkiSupportedAlgorithms {
    rustls::crypto::ring::default_provider().signature_verification_algorithms
}

/// Judges who connects to us.
pub(super) struct PeerClientVerifier {
    peers: Arc<PeerRoots>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl PeerClientVerifier {
    pub(super) fn new(peers: Arc<PeerRoots>) -> Self {
        Self {
            peers,
            algorithms: algorithms(),
        }
    }
}

impl fmt::Debug for PeerClientVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PeerClientVerifier")
    }
}

impl ClientCertVerifier for PeerClientVerifier {
    /// None: the list would tell a stranger who our peers are.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let presented = Presented { leaf, others, now };
        authenticate(
            |server| self.peers.get(server),
            &presented,
            KeyUsage::client_auth(),
        )
        .map(|_| ClientCertVerified::assertion())
        .map_err(refused)
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _leaf: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not spoken here".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, leaf, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}

/// Judges who answers when we call one peer.
pub(super) struct PeerServerVerifier {
    called: ServerName,
    peers: Arc<PeerRoots>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl PeerServerVerifier {
    pub(super) fn new(called: ServerName, peers: Arc<PeerRoots>) -> Self {
        Self {
            called,
            peers,
            algorithms: algorithms(),
        }
    }
}

impl fmt::Debug for PeerServerVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PeerServerVerifier({})", self.called)
    }
}

impl ServerCertVerifier for PeerServerVerifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        // What was dialled may be an address; who must answer is fixed.
        _dialled: &rustls_pki_types::ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let presented = Presented { leaf, others, now };
        let named = named(leaf).map_err(refused)?;
        if named != self.called {
            let called = self.called.clone();
            return Err(refused(PeerRefusal::Other { called, named }));
        }
        let anchor_of = |server: &ServerName| self.peers.get_to_call(server);
        authenticate(anchor_of, &presented, KeyUsage::server_auth())
            .map(|_| ServerCertVerified::assertion())
            .map_err(refused)
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _leaf: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not spoken here".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, leaf, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}
