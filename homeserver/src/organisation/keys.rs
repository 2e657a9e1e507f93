//! The keys that a running homeserver holds: all of the organisation's but the root's.

use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use federation_proto::ids::ServerName;
use federation_proto::keys::{EnvelopeKey, IssuingKey};
use federation_proto::manifest::Manifest;
use rcgen::{Issuer, KeyPair, PublicKeyData};
use ring::digest::{SHA256, digest};
use ring::rand::SecureRandom;
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::OrganisationError;
use super::certificates::{self, DeviceCertificate, DeviceRequest};
use super::signing::{Due, EnvelopeSeed, Signer};

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

/// The envelope key in use and the manifest that names it.
pub(super) struct Signing {
    pub(super) seed: EnvelopeSeed,
    pub(super) key: Arc<EnvelopeKey>,
    pub(super) manifest: Arc<Manifest>,
}

/// What is to take the place of keys and certificates that are due. Nothing of it is used before
/// [`super::KeyFolder::replace`] has written it and [`Keys::take`] has taken it: what the process shows
/// is what its next start will find.
pub struct Renewal {
    pub(super) tls_current: Arc<CertificateDer<'static>>,
    pub(super) tls_backup: Arc<CertificateDer<'static>>,
    pub(super) signing: Arc<Signing>,
    what: Vec<&'static str>,
}

impl Renewal {
    /// What is new, in words.
    pub fn what(&self) -> String {
        self.what.join(", ")
    }
}

/// The organisation's keys and certificates.
pub struct Keys {
    pub(super) server: ServerName,
    pub(super) root: CertificateDer<'static>,
    pub(super) issuing: CertificateDer<'static>,
    pub(super) issuer: Issuer<'static, KeyPair>,
    pub(super) issuing_key: IssuingKey,
    pub(super) tls_current: TlsKey,
    pub(super) tls_backup: TlsKey,
    pub(super) signing: ArcSwap<Signing>,
}

/// What [`Keys::assemble`] puts together.
pub(super) struct Pieces {
    pub(super) server: ServerName,
    pub(super) root: CertificateDer<'static>,
    pub(super) issuing: CertificateDer<'static>,
    pub(super) issuing_key: KeyPair,
    pub(super) tls_current: TlsKey,
    pub(super) tls_backup: TlsKey,
    pub(super) seed: EnvelopeSeed,
    /// As it was stored; `None` for a new organisation.
    pub(super) manifest: Option<Bytes>,
}

impl Keys {
    pub(super) fn assemble(
        pieces: Pieces,
        now_ms: u64,
        random: &dyn SecureRandom,
    ) -> Result<Self, OrganisationError> {
        let issuing_key = IssuingKey::from_pkcs8(pieces.issuing_key.serialized_der(), random)
            .map_err(|error| OrganisationError::Crypto(error.to_string()))?;
        let key = pieces.seed.key()?;
        let signer = Signer {
            server: &pieces.server,
            root: Bytes::copy_from_slice(&pieces.root),
            issuing: Bytes::copy_from_slice(&pieces.issuing),
            issuing_key: &issuing_key,
            tls_pins: [pieces.tls_current.pin(), pieces.tls_backup.pin()],
        };
        let manifest = match pieces.manifest {
            Some(bytes) => signer.verify(bytes, now_ms)?,
            None => signer.manifest(None, &key, now_ms, random)?,
        };
        Ok(Self {
            signing: ArcSwap::from_pointee(Signing {
                seed: pieces.seed,
                key: Arc::new(key),
                manifest: Arc::new(manifest),
            }),
            issuer: Issuer::from_ca_cert_der(&pieces.issuing, pieces.issuing_key)?,
            server: pieces.server,
            root: pieces.root,
            issuing: pieces.issuing,
            issuing_key,
            tls_current: pieces.tls_current,
            tls_backup: pieces.tls_backup,
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

    /// The issuing CA's key: signs manifests and peering documents.
    pub fn issuing_key(&self) -> &IssuingKey {
        &self.issuing_key
    }

    /// SHA-256 of the public keys (SPKI) that TLS connections of this homeserver show: the current
    /// one and the backup.
    pub fn tls_pins(&self) -> [[u8; 32]; 2] {
        [self.tls_current.pin(), self.tls_backup.pin()]
    }

    /// The key that signs transactions and receipts now.
    pub fn envelope_key(&self) -> Arc<EnvelopeKey> {
        Arc::clone(&self.signing.load().key)
    }

    /// The manifest that names this homeserver's keys now.
    pub fn manifest(&self) -> Arc<Manifest> {
        Arc::clone(&self.signing.load().manifest)
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

    /// Makes whatever is due anew: TLS certificates (for the same keys: pins stay) once less than a third
    /// of their life is left, the envelope key 30 days before its end, and the manifest with it. `None`
    /// when nothing is due. Nothing changes yet, so that a renewal that can't be written is made again.
    pub fn renewal(
        &self,
        now_ms: u64,
        random: &dyn SecureRandom,
    ) -> Result<Option<Renewal>, OrganisationError> {
        let mut what = Vec::new();
        let mut leaf = |tls: &TlsKey, name| {
            let leaf = tls.leaf.load_full();
            if !is_due(&leaf, now_ms)? {
                return Ok::<_, OrganisationError>(leaf);
            }
            what.push(name);
            let new = certificates::tls_leaf(&self.server, &tls.key, &self.issuer, now_ms, random)?;
            Ok(Arc::new(new))
        };
        let tls_current = leaf(&self.tls_current, "current TLS certificate")?;
        let tls_backup = leaf(&self.tls_backup, "backup TLS certificate")?;
        let signing = self.signing.load_full();
        let signer = self.signer();
        let seed = match signer.is_due(&signing.manifest, &signing.key, now_ms) {
            Due::Nothing => None,
            Due::Manifest => Some(signing.seed.clone()),
            Due::Key => {
                what.push("envelope key");
                Some(EnvelopeSeed::draw(random)?)
            }
        };
        let signing = match seed {
            None => signing,
            Some(seed) => {
                what.push("manifest");
                let key = seed.key()?;
                let manifest = signer.manifest(Some(&signing.manifest), &key, now_ms, random)?;
                Arc::new(Signing {
                    seed,
                    key: Arc::new(key),
                    manifest: Arc::new(manifest),
                })
            }
        };
        Ok((!what.is_empty()).then_some(Renewal {
            tls_current,
            tls_backup,
            signing,
            what,
        }))
    }

    /// Uses what was made anew from now on; it has been written before.
    pub fn take(&self, renewal: Renewal) {
        self.tls_current.leaf.store(renewal.tls_current);
        self.tls_backup.leaf.store(renewal.tls_backup);
        self.signing.store(renewal.signing);
    }

    /// Renews what is due in memory alone; whether anything was.
    #[cfg(test)]
    pub(crate) fn renew(
        &self,
        now_ms: u64,
        random: &dyn SecureRandom,
    ) -> Result<bool, OrganisationError> {
        let renewal = self.renewal(now_ms, random)?;
        let any = renewal.is_some();
        if let Some(renewal) = renewal {
            self.take(renewal);
        }
        Ok(any)
    }

    fn signer(&self) -> Signer<'_> {
        Signer {
            server: &self.server,
            root: Bytes::copy_from_slice(&self.root),
            issuing: Bytes::copy_from_slice(&self.issuing),
            issuing_key: &self.issuing_key,
            tls_pins: self.tls_pins(),
        }
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
