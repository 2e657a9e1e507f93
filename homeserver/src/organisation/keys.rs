//! The keys that a running homeserver holds: all of the organisation's but the root's.

use std::sync::Arc;

use arc_swap::ArcSwap;
use federation_proto::ids::ServerName;
use rcgen::{Issuer, KeyPair, PublicKeyData, SigningKey};
use ring::digest::{SHA256, digest};
use ring::rand::SecureRandom;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use x509_parser::prelude::{FromDer, X509Certificate};
use zeroize::Zeroizing;

use super::OrganisationError;
use super::certificates::{self, DeviceCertificate, DeviceRequest};

/// What precedes the seed in an Ed25519 private key (RFC 8410, PKCS#8 version 0).
const ED25519_PKCS8_PREFIX: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

/// The private half of the envelope key.
pub(super) struct EnvelopeSeed(pub(super) Zeroizing<[u8; 32]>);

impl EnvelopeSeed {
    pub(super) fn to_pkcs8(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new([&ED25519_PKCS8_PREFIX[..], &self.0[..]].concat())
    }

    pub(super) fn from_pkcs8(der: &[u8]) -> Option<Self> {
        let seed = der.strip_prefix(&ED25519_PKCS8_PREFIX)?;
        Some(Self(Zeroizing::new(seed.try_into().ok()?)))
    }
}

/// A key pair for TLS and its current certificate.
pub(super) struct TlsKey {
    pub(super) key: KeyPair,
    pub(super) leaf: ArcSwap<CertificateDer<'static>>,
}

impl TlsKey {
    fn pin(&self) -> [u8; 32] {
        sha256(&self.key.subject_public_key_info())
    }
}

/// What a TLS connection shows, and proves to hold.
pub struct TlsIdentity {
    /// The leaf, the issuing CA and the root, in this order.
    pub chain: Vec<CertificateDer<'static>>,
    /// The leaf's private key.
    pub key: PrivatePkcs8KeyDer<'static>,
}

/// The organisation's keys and certificates.
pub struct Keys {
    pub(super) server: ServerName,
    pub(super) root: CertificateDer<'static>,
    pub(super) issuing: CertificateDer<'static>,
    pub(super) issuer: Issuer<'static, KeyPair>,
    pub(super) tls_current: TlsKey,
    pub(super) tls_backup: TlsKey,
    pub(super) envelope_seed: EnvelopeSeed,
    envelope: Arc<Ed25519KeyPair>,
}

impl Keys {
    pub(super) fn assemble(
        server: ServerName,
        root: CertificateDer<'static>,
        issuing: CertificateDer<'static>,
        issuer: Issuer<'static, KeyPair>,
        (tls_current, tls_backup): (TlsKey, TlsKey),
        envelope_seed: EnvelopeSeed,
    ) -> Result<Self, OrganisationError> {
        let envelope = Ed25519KeyPair::from_seed_unchecked(&*envelope_seed.0)
            .map_err(|error| OrganisationError::Crypto(error.to_string()))?;
        Ok(Self {
            server,
            root,
            issuing,
            issuer,
            tls_current,
            tls_backup,
            envelope_seed,
            envelope: Arc::new(envelope),
        })
    }

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

    /// What this homeserver's TLS connections show now.
    pub fn tls_identity(&self) -> TlsIdentity {
        let leaf = CertificateDer::clone(&self.tls_current.leaf.load());
        TlsIdentity {
            chain: vec![leaf, self.issuing.clone(), self.root.clone()],
            key: PrivatePkcs8KeyDer::from(self.tls_current.key.serialize_der()),
        }
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

    /// Issues new TLS certificates for the same keys once less than a third of a certificate's life is
    /// left; `true` when it did. Pins stay as they are: they name the keys.
    pub fn renew_tls_leafs(
        &self,
        now_ms: u64,
        random: &dyn SecureRandom,
    ) -> Result<bool, OrganisationError> {
        let mut renewed = false;
        for tls in [&self.tls_current, &self.tls_backup] {
            if is_due(&tls.leaf.load(), now_ms)? {
                let leaf =
                    certificates::tls_leaf(&self.server, &tls.key, &self.issuer, now_ms, random)?;
                tls.leaf.store(Arc::new(leaf));
                renewed = true;
            }
        }
        Ok(renewed)
    }
}

fn is_due(leaf: &CertificateDer<'_>, now_ms: u64) -> Result<bool, OrganisationError> {
    let (_, certificate) = X509Certificate::from_der(leaf)
        .map_err(|error| OrganisationError::Crypto(error.to_string()))?;
    let validity = certificate.validity();
    let (from, to) = (
        validity.not_before.timestamp(),
        validity.not_after.timestamp(),
    );
    let now = i64::try_from(now_ms / 1000).unwrap_or(i64::MAX);
    Ok(now >= to - (to - from) / 3)
}

pub(super) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    for (to, from) in hash.iter_mut().zip(digest(&SHA256, bytes).as_ref()) {
        *to = *from;
    }
    hash
}

/// Draws the private half of a new envelope key.
pub(super) fn draw_envelope_seed(
    random: &dyn SecureRandom,
) -> Result<EnvelopeSeed, OrganisationError> {
    let mut seed = Zeroizing::new([0; 32]);
    random
        .fill(&mut *seed)
        .map_err(|_| OrganisationError::Crypto("no randomness".to_owned()))?;
    Ok(EnvelopeSeed(seed))
}
