//! Trust in the homeserver: TLS 1.3 to exactly one organisation's root, and to nobody else.
//!
//! No public certificate authority counts. Before enrolment the device knows only the root's
//! SHA-256, so the homeserver sends its root at the end of the chain; the certificate with that
//! hash becomes the one anchor that the rest of the chain must lead to. The name in the
//! certificate must be the server name, whatever host the connection went to.

use std::sync::{Arc, PoisonError, RwLock};

use ring::digest;
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring as ring_provider};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error as TlsError, SignatureScheme,
};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

use crate::error::Error;

/// SHA-256 of an organisation's root certificate (DER).
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct RootPin(pub(crate) [u8; 32]);

impl std::fmt::Debug for RootPin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RootPin({})", hex::encode(self.0))
    }
}

impl RootPin {
    /// Reads 64 hexadecimal digits as a person may type them: spaces, colons and hyphens between them
    /// and their case don't matter.
    pub(crate) fn parse(text: &str) -> Result<Self, Error> {
        let digits: String = text
            .chars()
            .filter(|c| !c.is_whitespace() && *c != ':' && *c != '-')
            .collect();
        let mut pin = [0; 32];
        hex::decode_to_slice(digits, &mut pin).map_err(|_| {
            Error::InvalidArgument(
                "the root's fingerprint has 64 hexadecimal digits: ask the administrator for it"
                    .to_owned(),
            )
        })?;
        Ok(Self(pin))
    }

    /// Whether this is the certificate's hash.
    pub(crate) fn matches(&self, der: &[u8]) -> bool {
        digest::digest(&digest::SHA256, der).as_ref() == self.0
    }
}

/// The root that is trusted now: it changes when it has signed for another one.
#[derive(Debug)]
pub(crate) struct Pinned(RwLock<RootPin>);

impl Pinned {
    pub(crate) const fn new(pin: RootPin) -> Self {
        Self(RwLock::new(pin))
    }

    pub(crate) fn set(&self, pin: RootPin) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = pin;
    }

    fn get(&self) -> RootPin {
        *self.0.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A TLS configuration that trusts the pinned root alone. A session is never resumed, so that each
/// connection proves the whole chain again.
pub(crate) fn client_config(pin: Arc<Pinned>) -> Result<Arc<ClientConfig>, Error> {
    let provider = Arc::new(provider());
    let verifier = PinnedRoot {
        pin,
        algorithms: provider.signature_verification_algorithms,
    };
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|e| Error::Protocol(e.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn provider() -> CryptoProvider {
    ring_provider::default_provider()
}

#[derive(Debug)]
struct PinnedRoot {
    pin: Arc<Pinned>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for PinnedRoot {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        let pin = self.pin.get();
        let root = intermediates
            .iter()
            .find(|certificate| pin.matches(certificate))
            .ok_or(CertificateError::UnknownIssuer)?;
        let anchor = anchor_from_trusted_cert(root).map_err(pki_error)?;
        let certificate = EndEntityCert::try_from(end_entity).map_err(pki_error)?;
        certificate
            .verify_for_usage(
                self.algorithms.all,
                &[anchor],
                intermediates,
                now,
                KeyUsage::server_auth(),
                None,
                None,
            )
            .map_err(pki_error)?;
        certificate
            .verify_is_valid_for_subject_name(server_name)
            .map_err(|_| CertificateError::NotValidForName)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        Err(TlsError::General("TLS 1.2 is not spoken".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[expect(clippy::needless_pass_by_value, reason = "shaped for map_err")]
fn pki_error(error: webpki::Error) -> TlsError {
    let certificate_error = match error {
        webpki::Error::CertExpired { .. } => CertificateError::Expired,
        webpki::Error::CertNotValidYet { .. } => CertificateError::NotValidYet,
        webpki::Error::UnknownIssuer => CertificateError::UnknownIssuer,
        _ => CertificateError::BadEncoding,
    };
    TlsError::InvalidCertificate(certificate_error)
}

/// The error for a connection that failed: distrust apart from not reaching anyone.
pub(crate) fn connect_error(endpoint: &str, error: &std::io::Error) -> Error {
    let tls = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<TlsError>());
    match tls {
        Some(TlsError::InvalidCertificate(reason)) => Error::Untrusted(match reason {
            CertificateError::UnknownIssuer => {
                "it comes from another organisation; compare the root's fingerprint with the \
                 administrator's"
                    .to_owned()
            }
            CertificateError::NotValidForName => "it names another server".to_owned(),
            CertificateError::Expired => "it has expired".to_owned(),
            CertificateError::NotValidYet => {
                "it is not valid yet: is this device's clock right?".to_owned()
            }
            other => other.to_string(),
        }),
        _ => Error::Unreachable {
            endpoint: endpoint.to_owned(),
            reason: error.to_string(),
        },
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Goal: a fingerprint is read as administrators give it out, and nothing else is.
    #[test]
    fn fingerprints() {
        let pin = RootPin::parse(&"ab".repeat(32)).unwrap();
        assert_eq!(pin.0, [0xab; 32]);
        let grouped = "ABAB ".repeat(16);
        assert_eq!(RootPin::parse(&grouped).unwrap(), pin);
        assert_eq!(RootPin::parse(&["ab"; 32].join(":")).unwrap(), pin);
        assert_eq!(RootPin::parse(&["ab"; 32].join("-")).unwrap(), pin);
        for bad in ["", "ab", "zz", &"ab".repeat(31), &"ab".repeat(33)] {
            assert!(RootPin::parse(bad).is_err());
        }
    }

    proptest! {
        /// Goal: a fingerprint is read back however it is grouped, and any text is one or an error. Method: any hash
        /// in groups of any length, and any text.
        #[test]
        fn any_fingerprint(hash in any::<[u8; 32]>(), group in 1_usize..65, text in any::<String>()) {
            let digits: Vec<char> = hex::encode(hash).chars().collect();
            for separator in ["", " ", ":", "-", "\n"] {
                let groups: Vec<String> = digits.chunks(group).map(|of| of.iter().collect()).collect();
                let typed = groups.join(separator);
                prop_assert_eq!(RootPin::parse(&typed).unwrap().0, hash);
                prop_assert_eq!(RootPin::parse(&typed.to_uppercase()).unwrap().0, hash);
            }
            let of_text = text.chars().filter(char::is_ascii_hexdigit).count();
            prop_assert!(RootPin::parse(&text).is_err() || of_text == 64);
        }
    }
}
