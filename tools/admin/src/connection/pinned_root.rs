//! TLS that trusts exactly one organisation's root.
//!
//! The homeserver sends its root along with its chain, so the root's SHA-256 is all that an
//! administrator must know. Public certificate authorities are not consulted.

use std::path::Path;
use std::sync::Arc;

use ring::digest::{SHA256, digest};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::failure::Failure;

/// The one root that is trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RootPin([u8; 32]);

impl RootPin {
    /// From 64 hexadecimal digits; spaces and colons between them do no harm.
    pub(crate) fn from_hex(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not the SHA-256 of a root: give 64 hexadecimal digits");
        let digits: Vec<u32> = text
            .chars()
            .filter(|c| !c.is_whitespace() && *c != ':')
            .map(|c| c.to_digit(16))
            .collect::<Option<_>>()
            .ok_or_else(wrong)?;
        let bytes: Vec<u8> = digits
            .chunks(2)
            .map(|pair| match pair {
                [high, low] => u8::try_from(high * 16 + low).ok(),
                _ => None,
            })
            .collect::<Option<_>>()
            .ok_or_else(wrong)?;
        bytes.try_into().map(Self).map_err(|_| wrong())
    }

    /// Of the root certificate in this file, PEM or DER.
    pub(crate) fn from_file(file: &Path) -> Result<Self, Failure> {
        Ok(Self::of(&root_from_file(file)?))
    }

    /// The pin as 64 lower-case hexadecimal digits.
    pub(crate) fn to_hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn of(der: &[u8]) -> Self {
        let mut hash = [0; 32];
        for (to, from) in hash.iter_mut().zip(digest(&SHA256, der).as_ref()) {
            *to = *from;
        }
        Self(hash)
    }
}

/// The root certificate in this file, PEM or DER, as DER.
pub(crate) fn root_from_file(file: &Path) -> Result<Vec<u8>, Failure> {
    let name = file.display();
    let bytes = std::fs::read(file).map_err(|error| {
        Failure::Configuration(format!("the root {name} can't be read: {error}"))
    })?;
    let der =
        CertificateDer::from_pem_slice(&bytes).map_or(bytes, |certificate| certificate.to_vec());
    RootCertStore::empty()
        .add(CertificateDer::from(der.as_slice()))
        .map_err(|error| Failure::Configuration(format!("{name} is not a certificate: {error}")))?;
    Ok(der)
}

/// A TLS 1.3 client that trusts the pinned root alone.
pub(crate) fn client_config(pin: &RootPin) -> Result<ClientConfig, Failure> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = PinnedRoot {
        pin: pin.clone(),
        provider: Arc::clone(&provider),
    };
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| Failure::Other(format!("TLS 1.3 can't be set up: {error}")))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// Takes the sent certificate that matches the pin as the only trust anchor, then verifies as
/// usual: chain, validity, purpose and name.
#[derive(Debug)]
struct PinnedRoot {
    pin: RootPin,
    provider: Arc<CryptoProvider>,
}

impl PinnedRoot {
    fn algorithms(&self) -> &WebPkiSupportedAlgorithms {
        &self.provider.signature_verification_algorithms
    }
}

impl ServerCertVerifier for PinnedRoot {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let root = intermediates
            .iter()
            .find(|certificate| RootPin::of(certificate) == self.pin)
            .ok_or(Error::InvalidCertificate(CertificateError::UnknownIssuer))?;
        let mut roots = RootCertStore::empty();
        roots.add(root.clone().into_owned())?;
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&self.provider))
            .build()
            .map_err(|error| Error::General(error.to_string()))?
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        // TLS 1.2 is never offered.
        Err(Error::General("TLS 1.2 is not spoken".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, self.algorithms())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms().supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a pin reads as tools print it, and anything shorter or longer is refused.
    #[test]
    fn pins_parse() {
        let hex = "ab".repeat(32);
        let pin = RootPin::from_hex(&hex).expect("a pin");
        assert_eq!(pin.to_hex(), hex);
        let colons = vec!["AB"; 32].join(":");
        assert_eq!(RootPin::from_hex(&colons), Ok(pin));
        for wrong in [
            "",
            "ab",
            &"ab".repeat(33),
            &"ag".repeat(32),
            &"a".repeat(63),
        ] {
            assert!(RootPin::from_hex(wrong).is_err(), "{wrong}");
        }
    }
}
