//! Who an organisation is: its root and its issuing CA, checked against each other.
//!
//! The root is pinned by agreement and by nothing else: no public CA, no name in a certificate, no
//! DNS answer makes it trusted. A root and an issuing CA are X.509, ECDSA P-256 with SHA-256.

use bytes::Bytes;
use x509_parser::certificate::X509Certificate;
use x509_parser::oid_registry::{
    OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_SIG_ECDSA_WITH_SHA256,
    OID_X509_EXT_BASIC_CONSTRAINTS, OID_X509_EXT_KEY_USAGE,
};
use x509_parser::prelude::FromDer;

use crate::fingerprint::Fingerprint;
use crate::hash::Digest;
use crate::keys::verify_issuing_signature;
use crate::limits::CERTIFICATE_BYTES_MAX;

/// Why certificates are not an organisation's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// Larger than the limit.
    #[error("a certificate has at most {CERTIFICATE_BYTES_MAX} bytes")]
    TooLarge,
    /// Not one DER certificate.
    #[error("the {0} is not an X.509 certificate")]
    Malformed(&'static str),
    /// Another algorithm.
    #[error("the {0} must be ECDSA P-256 with SHA-256")]
    Algorithm(&'static str),
    /// Not a CA, or not one of the right depth.
    #[error("the {0} is not a certificate authority of the right kind")]
    NotAnAuthority(&'static str),
    /// An extension that must be understood and is not.
    #[error("the {0} has a critical extension that is not known here")]
    CriticalExtension(&'static str),
    /// Not valid at the time asked about.
    #[error("the {0} is not valid at this time: renew it, or check the clock")]
    NotValidNow(&'static str),
    /// A former root that is the present one, or has another name.
    #[error("a former root is not one that this organisation had before")]
    OtherOrganisation,
    /// The signature is by somebody else.
    #[error("the {0} is not signed by the organisation's root")]
    NotSignedByRoot(&'static str),
}

/// An organisation's root and issuing CA.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrganisationIdentity {
    root: Bytes,
    issuing: Bytes,
    issuing_public: Vec<u8>,
    issuing_since: i64,
}

impl OrganisationIdentity {
    /// Checks two DER certificates against each other at a time (milliseconds since the Unix
    /// epoch): both ECDSA P-256 CAs and valid, the root signed by itself, the issuing CA by the
    /// root and with no CA below it.
    ///
    /// # Errors
    /// When one of the checks fails.
    pub fn parse(root: Bytes, issuing: Bytes, at_ms: u64) -> Result<Self, CertificateError> {
        const ROOT: &str = "root certificate";
        const ISSUING: &str = "issuing certificate";
        let (issuing_public, issuing_since) = {
            let root = parse_certificate(&root, ROOT)?;
            let issuing = parse_certificate(&issuing, ISSUING)?;
            check_authority(&root, ROOT, at_ms)?;
            check_authority(&issuing, ISSUING, at_ms)?;
            check_signed(&root, &root, ROOT)?;
            check_signed(&issuing, &root, ISSUING)?;
            let depth = issuing
                .basic_constraints()
                .ok()
                .flatten()
                .and_then(|extension| extension.value.path_len_constraint);
            if depth != Some(0) {
                return Err(CertificateError::NotAnAuthority(ISSUING));
            }
            let since = issuing.validity().not_before.timestamp();
            (public_point(&issuing).to_vec(), since)
        };
        Ok(Self {
            root,
            issuing,
            issuing_public,
            issuing_since,
        })
    }

    /// The root certificate, DER.
    #[must_use]
    pub const fn root(&self) -> &Bytes {
        &self.root
    }

    /// The issuing certificate, DER.
    #[must_use]
    pub const fn issuing(&self) -> &Bytes {
        &self.issuing
    }

    /// When the issuing certificate's validity begins, in seconds since the Unix epoch: of two issuing CAs
    /// the one that begins later follows the other.
    #[must_use]
    pub const fn issuing_since(&self) -> i64 {
        self.issuing_since
    }

    /// Whether both have the same issuing key, whichever roots have certified it.
    #[must_use]
    pub fn has_issuing_key_of(&self, other: &Self) -> bool {
        self.issuing_public == other.issuing_public
    }

    /// What administrators read to each other.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of_root(&self.root)
    }

    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        verify_issuing_signature(&self.issuing_public, message, signature)
    }
}

/// Checks a root that the organisation with `root` names as one that it had before: a CA that signed itself, of the
/// same name. When it ends does not matter: it vouches for nothing new.
pub(crate) fn check_former_root(former: &[u8], root: &[u8]) -> Result<(), CertificateError> {
    const FORMER: &str = "former root certificate";
    let parsed = parse_certificate(former, FORMER)?;
    check_kind(&parsed, FORMER)?;
    check_signed(&parsed, &parsed, FORMER)?;
    let present = parse_certificate(root, "root certificate")?;
    if former == root || parsed.subject().as_raw() != present.subject().as_raw() {
        return Err(CertificateError::OtherOrganisation);
    }
    Ok(())
}

/// The pin of a TLS certificate (DER): SHA-256 of its SubjectPublicKeyInfo.
///
/// # Errors
/// When the bytes are not one certificate.
pub fn tls_pin(certificate_der: &[u8]) -> Result<Digest, CertificateError> {
    let certificate = parse_certificate(certificate_der, "TLS certificate")?;
    Ok(Digest::of(certificate.public_key().raw))
}

fn parse_certificate<'d>(
    der: &'d [u8],
    name: &'static str,
) -> Result<X509Certificate<'d>, CertificateError> {
    if der.len() > CERTIFICATE_BYTES_MAX {
        return Err(CertificateError::TooLarge);
    }
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        _ => Err(CertificateError::Malformed(name)),
    }
}

fn check_authority(
    certificate: &X509Certificate<'_>,
    name: &'static str,
    at_ms: u64,
) -> Result<(), CertificateError> {
    check_kind(certificate, name)?;
    let validity = certificate.validity();
    let at = i64::try_from(at_ms / 1000).unwrap_or(i64::MAX);
    if at < validity.not_before.timestamp() || at > validity.not_after.timestamp() {
        return Err(CertificateError::NotValidNow(name));
    }
    Ok(())
}

/// Everything about an authority but its dates.
fn check_kind(
    certificate: &X509Certificate<'_>,
    name: &'static str,
) -> Result<(), CertificateError> {
    let key = &certificate.public_key().algorithm;
    let curve_ok = key
        .parameters
        .as_ref()
        .and_then(|parameters| parameters.as_oid().ok())
        .is_some_and(|curve| curve == OID_EC_P256);
    if key.algorithm != OID_KEY_TYPE_EC_PUBLIC_KEY
        || !curve_ok
        || certificate.signature_algorithm.algorithm != OID_SIG_ECDSA_WITH_SHA256
    {
        return Err(CertificateError::Algorithm(name));
    }
    let is_authority = certificate
        .basic_constraints()
        .ok()
        .flatten()
        .is_some_and(|extension| extension.value.ca);
    let may_sign = certificate
        .key_usage()
        .ok()
        .flatten()
        .is_some_and(|extension| extension.value.key_cert_sign());
    if !is_authority || !may_sign {
        return Err(CertificateError::NotAnAuthority(name));
    }
    let known = [OID_X509_EXT_BASIC_CONSTRAINTS, OID_X509_EXT_KEY_USAGE];
    if certificate
        .extensions()
        .iter()
        .any(|extension| extension.critical && !known.contains(&extension.oid))
    {
        return Err(CertificateError::CriticalExtension(name));
    }
    Ok(())
}

fn check_signed(
    certificate: &X509Certificate<'_>,
    by: &X509Certificate<'_>,
    name: &'static str,
) -> Result<(), CertificateError> {
    let names_fit = certificate.issuer().as_raw() == by.subject().as_raw();
    let verifies = verify_issuing_signature(
        public_point(by),
        certificate.tbs_certificate.as_ref(),
        &certificate.signature_value.data,
    );
    if names_fit && verifies {
        Ok(())
    } else {
        Err(CertificateError::NotSignedByRoot(name))
    }
}

fn public_point<'c>(certificate: &'c X509Certificate<'_>) -> &'c [u8] {
    &certificate.public_key().subject_public_key.data
}
