//! The keys that a running homeserver holds: all of the organisation's but the root's.

use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use federation_proto::ids::ServerName;
use federation_proto::keys::{EnvelopeKey, IssuingKey};
use federation_proto::manifest::Manifest;
use federation_proto::room_consent::{RoomConsent, SignedRoomConsent};
use rcgen::{Issuer, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData};
use ring::digest::{SHA256, digest};
use ring::rand::SecureRandom;
use room_rules::RoomKey;
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use tokio::sync::watch;

use super::OrganisationError;
use super::certificates::{self, DeviceCertificate, DeviceRequest};
use super::signing::{EnvelopeSeed, Listing};

/// A key pair for TLS and its certificate.
pub(super) struct TlsKey {
    pub(super) key: Arc<KeyPair>,
    pub(super) leaf: CertificateDer<'static>,
}

impl TlsKey {
    /// A new key with its certificate.
    pub(super) fn draw(
        server: &ServerName,
        issuing: &IssuingCa,
        now_ms: u64,
        random: &dyn SecureRandom,
    ) -> Result<Self, OrganisationError> {
        let key = Arc::new(KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?);
        let leaf = certificates::tls_leaf(server, &key, &issuing.issuer, now_ms, random)?;
        Ok(Self { key, leaf })
    }

    /// The same key with a new certificate.
    pub(super) fn renewed(
        &self,
        server: &ServerName,
        issuing: &IssuingCa,
        now_ms: u64,
        random: &dyn SecureRandom,
    ) -> Result<Self, OrganisationError> {
        let leaf = certificates::tls_leaf(server, &self.key, &issuing.issuer, now_ms, random)?;
        Ok(Self {
            key: Arc::clone(&self.key),
            leaf,
        })
    }

    pub(super) fn pin(&self) -> [u8; 32] {
        sha256(&self.key.subject_public_key_info())
    }
}

/// What a TLS connection shows, and proves to hold.
pub struct TlsIdentity {
    /// The leaf, the issuing CA and the root, in this order; then the same issuing CA under a second root, and that
    /// root, while there is one.
    pub chain: Vec<CertificateDer<'static>>,
    /// The leaf's private key.
    pub key: PrivatePkcs8KeyDer<'static>,
}

/// The issuing CA.
pub(super) struct IssuingCa {
    pub(super) certificate: CertificateDer<'static>,
    pub(super) issuer: Issuer<'static, KeyPair>,
    pub(super) key: Arc<IssuingKey>,
}

impl IssuingCa {
    pub(super) fn new(
        certificate: CertificateDer<'static>,
        key: KeyPair,
        random: &dyn SecureRandom,
    ) -> Result<Self, OrganisationError> {
        let signs = IssuingKey::from_pkcs8(key.serialized_der(), random)
            .map_err(|error| OrganisationError::Crypto(error.to_string()))?;
        Ok(Self {
            issuer: Issuer::from_ca_cert_der(&certificate, key)?,
            certificate,
            key: Arc::new(signs),
        })
    }
}

/// An envelope key with what it is made of.
pub(super) struct Signing {
    pub(super) seed: EnvelopeSeed,
    pub(super) key: Arc<EnvelopeKey>,
}

impl Signing {
    pub(super) fn new(seed: EnvelopeSeed) -> Result<Self, OrganisationError> {
        let key = Arc::new(seed.key()?);
        Ok(Self { seed, key })
    }

    pub(super) fn draw(random: &dyn SecureRandom) -> Result<Self, OrganisationError> {
        Self::new(EnvelopeSeed::draw(random)?)
    }
}

/// What a second root is to the organisation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// It is to be the root: partners are asked to consent to it.
    Next,
    /// It was the root: until then device certificates lead to it.
    Former {
        /// Milliseconds since the Unix epoch.
        until_ms: u64,
    },
}

/// The certificates of a second root.
pub(super) struct SecondRoot {
    pub(super) root: CertificateDer<'static>,
    /// The issuing CA's certificate by it: of the same name and key as the one in use, so that whatever the issuing
    /// CA signs leads to either root.
    pub(super) issuing: CertificateDer<'static>,
    /// The new one of the two roots, certified by the other: what own devices believe.
    pub(super) handover: CertificateDer<'static>,
}

/// A second root, while the organisation changes its own.
#[derive(Clone)]
pub(super) struct Second {
    pub(super) stage: Stage,
    pub(super) certificates: Arc<SecondRoot>,
    /// The same keys under that root, with the same serial.
    pub(super) manifest: Arc<Manifest>,
}

/// Every key but the root's, as of now. Parts that don't change are shared with the state before.
#[derive(Clone)]
pub(super) struct State {
    pub(super) root: CertificateDer<'static>,
    pub(super) second: Option<Second>,
    pub(super) issuing: Arc<IssuingCa>,
    pub(super) tls_current: Arc<TlsKey>,
    pub(super) tls_backup: Arc<TlsKey>,
    /// Pins of former TLS keys whose connections may still be open, the newest last.
    pub(super) tls_former: Vec<[u8; 32]>,
    pub(super) envelope: Arc<Signing>,
    /// Listed in the manifest, and not used before everybody had time to learn of it.
    pub(super) envelope_next: Arc<Signing>,
    pub(super) manifest: Arc<Manifest>,
}

impl State {
    pub(super) fn tls_pins(&self) -> [[u8; 32]; 2] {
        [self.tls_current.pin(), self.tls_backup.pin()]
    }
}

/// The organisation's keys and certificates.
pub struct Keys {
    pub(super) server: ServerName,
    pub(super) room_seed: EnvelopeSeed,
    room_key: RoomKey,
    pub(super) state: ArcSwap<State>,
    changed: watch::Sender<()>,
}

/// What [`Keys::assemble`] puts together.
pub(super) struct Pieces {
    pub(super) server: ServerName,
    pub(super) root: CertificateDer<'static>,
    pub(super) issuing: IssuingCa,
    pub(super) tls_current: TlsKey,
    pub(super) tls_backup: TlsKey,
    pub(super) seed: EnvelopeSeed,
    pub(super) seed_next: EnvelopeSeed,
    pub(super) room_seed: EnvelopeSeed,
    /// As it was stored; `None` for a new organisation.
    pub(super) manifest: Option<Bytes>,
    /// A second root and the manifest under it, as they were stored.
    pub(super) second: Option<(SecondRoot, Bytes)>,
}

impl Keys {
    pub(super) fn assemble(
        pieces: Pieces,
        now_ms: u64,
        random: &dyn SecureRandom,
    ) -> Result<Self, OrganisationError> {
        let envelope = Arc::new(Signing::new(pieces.seed)?);
        let envelope_next = Arc::new(Signing::new(pieces.seed_next)?);
        let root = Bytes::copy_from_slice(&pieces.root);
        let pins = [pieces.tls_current.pin(), pieces.tls_backup.pin()];
        let listing = Listing {
            server: &pieces.server,
            root: &root,
            issuing_certificate: &pieces.issuing.certificate,
            issuing_key: &pieces.issuing.key,
            envelope: &envelope.key,
            envelope_next: &envelope_next.key,
            tls_pins: pins.to_vec(),
            former_roots: Vec::new(),
        };
        let manifest = match pieces.manifest {
            Some(bytes) => listing.verify(bytes, now_ms)?,
            None => listing.manifest(None, &[], now_ms, random)?,
        };
        let second = match pieces.second {
            Some((certificates, bytes)) => {
                let under = Bytes::copy_from_slice(&certificates.root);
                let root = &under;
                let listing = Listing { root, ..listing };
                let second = listing.verify(bytes, now_ms)?;
                Some(Second {
                    stage: stage_of(&certificates.root, &manifest),
                    certificates: Arc::new(certificates),
                    manifest: Arc::new(second),
                })
            }
            None => None,
        };
        let tls_former = manifest.body().tls_pins.iter().map(|pin| *pin.as_bytes());
        let state = State {
            root: pieces.root,
            second,
            tls_former: tls_former.filter(|pin| !pins.contains(pin)).collect(),
            issuing: Arc::new(pieces.issuing),
            tls_current: Arc::new(pieces.tls_current),
            tls_backup: Arc::new(pieces.tls_backup),
            envelope,
            envelope_next,
            manifest: Arc::new(manifest),
        };
        Ok(Self {
            server: pieces.server,
            room_key: pieces.room_seed.room_key()?,
            room_seed: pieces.room_seed,
            state: ArcSwap::from_pointee(state),
            changed: watch::Sender::new(()),
        })
    }

    /// The organisation's server name.
    pub fn server(&self) -> &ServerName {
        &self.server
    }

    /// The root certificate now.
    pub fn root(&self) -> CertificateDer<'static> {
        self.state.load().root.clone()
    }

    /// SHA-256 of the root certificate (DER): what administrators read aloud.
    pub fn root_sha256(&self) -> [u8; 32] {
        sha256(&self.state.load().root)
    }

    /// The issuing CA's certificate now.
    pub fn issuing(&self) -> CertificateDer<'static> {
        self.state.load().issuing.certificate.clone()
    }

    /// The issuing CA's certificate for whoever goes by this root of ours; the one under the present root when it is none
    /// of ours any more.
    pub fn issuing_under(&self, root: &[u8]) -> CertificateDer<'static> {
        let state = self.state.load();
        match &state.second {
            Some(second) if second.certificates.root.as_ref() == root => {
                second.certificates.issuing.clone()
            }
            _ => state.issuing.certificate.clone(),
        }
    }

    /// The issuing CA's key: signs manifests and peering documents.
    pub fn issuing_key(&self) -> Arc<IssuingKey> {
        Arc::clone(&self.state.load().issuing.key)
    }

    /// SHA-256 of the public keys (SPKI) that TLS connections of this homeserver show: the current
    /// one and the backup.
    pub fn tls_pins(&self) -> [[u8; 32]; 2] {
        self.state.load().tls_pins()
    }

    /// The key that signs transactions and receipts now.
    pub fn envelope_key(&self) -> Arc<EnvelopeKey> {
        Arc::clone(&self.state.load().envelope.key)
    }

    /// The manifest that names this homeserver's keys now.
    pub fn manifest(&self) -> Arc<Manifest> {
        Arc::clone(&self.state.load().manifest)
    }

    /// What this homeserver's TLS connections show now.
    pub fn tls_identity(&self) -> TlsIdentity {
        let state = self.state.load();
        let mut chain = vec![
            state.tls_current.leaf.clone(),
            state.issuing.certificate.clone(),
            state.root.clone(),
        ];
        // Who calls, and which of the roots he goes by, is not known yet.
        if let Some(second) = &state.second {
            let SecondRoot { root, issuing, .. } = second.certificates.as_ref();
            chain.extend([issuing.clone(), root.clone()]);
        }
        TlsIdentity {
            chain,
            key: PrivatePkcs8KeyDer::from(state.tls_current.key.serialize_der()),
        }
    }

    /// The certificate that TLS connections show now.
    pub fn tls_leaf(&self) -> CertificateDer<'static> {
        self.state.load().tls_current.leaf.clone()
    }

    /// Changes whenever other keys or certificates are in use than before.
    pub fn changed(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Issues a certificate to a device that has signed in.
    pub fn issue_device_certificate(
        &self,
        request: &DeviceRequest,
        now_ms: u64,
        random: &dyn SecureRandom,
    ) -> Result<DeviceCertificate, OrganisationError> {
        let issuing = Arc::clone(&self.state.load().issuing);
        certificates::device(request, &issuing, now_ms, random)
    }

    /// Signs this organisation's consent to a room.
    pub fn sign_room_consent(
        &self,
        consent: RoomConsent,
        random: &dyn SecureRandom,
    ) -> Result<SignedRoomConsent, OrganisationError> {
        // Certificate and key of one issuing CA.
        let issuing = Arc::clone(&self.state.load().issuing);
        let certificate = Bytes::copy_from_slice(&issuing.certificate);
        consent
            .sign(certificate, &issuing.key, random)
            .map_err(|error| OrganisationError::Crypto(error.to_string()))
    }

    /// The key that proposes removals in the rooms that are ordered here. It is the same for life: rooms name it.
    pub fn room_key(&self) -> &RoomKey {
        &self.room_key
    }

    /// A room certificate of that key, and the certificate of the issuing CA: what names this hub in a new room.
    pub fn room_chain(
        &self,
        now_ms: u64,
        random: &dyn SecureRandom,
    ) -> Result<[CertificateDer<'static>; 2], OrganisationError> {
        let issuing = Arc::clone(&self.state.load().issuing);
        let key = self.room_key.public();
        let leaf = certificates::hub(&self.server, key, &issuing, now_ms, random)?;
        Ok([leaf, issuing.certificate.clone()])
    }

    /// From now on this is in use; it has been written before.
    pub(super) fn put(&self, state: Arc<State>) {
        self.state.store(state);
        self.changed.send_replace(());
    }
}

/// What the root is to an organisation with this manifest.
fn stage_of(root: &CertificateDer<'_>, manifest: &Manifest) -> Stage {
    let former = &manifest.body().former_roots;
    match former.iter().find(|former| former.root == root.as_ref()) {
        Some(former) => Stage::Former {
            until_ms: former.until_ms,
        },
        None => Stage::Next,
    }
}

pub(super) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    for (to, from) in hash.iter_mut().zip(digest(&SHA256, bytes).as_ref()) {
        *to = *from;
    }
    hash
}
