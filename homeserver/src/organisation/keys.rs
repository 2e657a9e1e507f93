//! The keys that a running homeserver holds: all of the organisation's but the root's.

use std::sync::Arc;

use arc_swap::ArcSwap;
use federation_proto::ids::ServerName;
use rcgen::{Issuer, KeyPair, PublicKeyData, SigningKey};
use ring::digest::{SHA256, digest};
use ring::rand::SecureRandom;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use rustls_pki_types::CertificateDer;

use super::OrganisationError;
use super::certificates::{self, DeviceCertificate, DeviceRequest};

/// A key pair for TLS and its current certificate.
pub(super) struct TlsKey {
    pub(super) key: KeyPair,
    pub(super) leaf: ArcSwap<CertificateDer<'static>>,
}

impl TlsKey {
    pub(super) fn pin(&self) -> [u8; 32] {
        sha256(&self.key.subject_public_key_info())
    }
}

/// The organisation's keys and certificates.
pub struct Keys {
    pub(super) server: ServerName,
    pub(super) root: CertificateDer<'static>,
    pub(super) issuing: CertificateDer<'static>,
    pub(super) issuer: Issuer<'static, KeyPair>,
    pub(super) tls_current: TlsKey,
    pub(super) tls_backup: TlsKey,
    pub(super) envelope: Arc<Ed25519KeyPair>,
}

impl Keys {
    /// The organisation's server name.
    pub fn server(&self) -> &ServerName {
        &self.server
    }

    /// The root certificate.
    pub fn root(&self) -> &CertificateDer<'static> {
        &self.root
    }

    /// SHA-256 of the root certificate (DER): what administrators read aloud.
    pub fn root_sha256(&self) -> [u8; 32] {
        sha256(&self.root)
    }

    /// The issuing CA's certificate.
    pub fn issuing(&self) -> &CertificateDer<'static> {
        &self.issuing
    }

    /// Signs `message` with the issuing CA's key (ECDSA P-256, SHA-256, ASN.1).
    pub fn sign_with_issuing(&self, message: &[u8]) -> Result<Vec<u8>, OrganisationError> {
        Ok(self.issuer.key().sign(message)?)
    }

    /// SHA-256 of the public keys (SPKI) that TLS connections of this homeserver show: the current
    /// one and the backup.
    pub fn tls_pins(&self) -> [[u8; 32]; 2] {
        [self.tls_current.pin(), self.tls_backup.pin()]
    }

    /// The Ed25519 key that signs transactions and receipts.
    pub fn envelope_key(&self) -> &Arc<Ed25519KeyPair> {
        &self.envelope
    }

    /// The public half of [`Keys::envelope_key`].
    pub fn envelope_public_key(&self) -> [u8; 32] {
        let mut public = [0; 32];
        for (to, from) in public.iter_mut().zip(self.envelope.public_key().as_ref()) {
            *to = *from;
        }
        public
    }

    /// Issues a certificate to a device that has signed in.
    pub fn issue_device_certificate(
        &self,
        request: &DeviceRequest,
        now_ms: u64,
        random: &dyn SecureRandom,
    ) -> Result<DeviceCertificate, OrganisationError> {
        certificates::device(request, &self.issuer, now_ms, random)
    }
}

pub(super) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    for (to, from) in hash.iter_mut().zip(digest(&SHA256, bytes).as_ref()) {
        *to = *from;
    }
    hash
}
