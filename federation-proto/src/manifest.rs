//! Key manifests: which envelope keys and TLS keys a server uses, signed by its issuing CA.
//!
//! A manifest has a serial number that never decreases. It carries the issuing certificate, so a
//! verifier needs the pinned root and nothing else. [`Manifest`] is made by
//! [`UnverifiedManifest::verify`] alone.
//!
//! What a stolen key can do ends by a manifest: an envelope key is revoked since a time, a TLS key is no
//! longer listed, and whatever an issuing CA signs counts no more once a manifest of a younger one is known.

use std::collections::BTreeMap;

use bytes::Bytes;
use ring::rand::SecureRandom;

use crate::codec::{DecodeError, EncodeError, Reader, Writer};
use crate::hash::Digest;
use crate::ids::ServerName;
use crate::keys::{IssuingKey, KeyError, KeyId, MANIFEST_LABEL};
use crate::limits::{
    CERTIFICATE_BYTES_MAX, CLOCK_SKEW_MS_MAX, ENVELOPE_KEYS_MAX, FORMER_ROOT_BYTES_MAX,
    FORMER_ROOT_MS_MAX, FORMER_ROOTS_MAX, ISSUING_SIGNATURE_BYTES_MAX, MANIFEST_BYTES_MAX,
    SIGNATURE_LABEL_BYTES_MAX, TLS_PINS_MAX,
};
use crate::organisation::{CertificateError, OrganisationIdentity, check_former_root};

/// The format of manifests that revoke nothing,
const FORMAT: u16 = 1;
/// of those that revoke envelope keys,
const FORMAT_REVOKING: u16 = 2;
/// and of those of an organisation that has had other roots.
const FORMAT_ROOTED_BEFORE: u16 = 3;

/// An envelope key and when it may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct EnvelopeKeyEntry {
    /// The Ed25519 public key.
    pub public: [u8; 32],
    /// From when, milliseconds since the Unix epoch. Set it an hour back: peers' clocks differ.
    pub not_before_ms: u64,
    /// Until when, exclusive, milliseconds since the Unix epoch.
    pub not_after_ms: u64,
    /// Since when it is revoked, milliseconds since the Unix epoch: what is received from then on does not
    /// count, what was accepted before stays.
    pub revoked_ms: Option<u64>,
}

impl EnvelopeKeyEntry {
    /// The key's name.
    #[must_use]
    pub fn id(&self) -> KeyId {
        KeyId::of(&self.public)
    }

    const fn is_well_formed(&self) -> bool {
        let revoked_in_time = match self.revoked_ms {
            Some(since_ms) => since_ms < self.not_after_ms,
            None => true,
        };
        self.not_before_ms < self.not_after_ms && revoked_in_time
    }

    /// Whether it is revoked at this time.
    #[must_use]
    pub const fn revoked_at(&self, at_ms: u64) -> bool {
        match self.revoked_ms {
            Some(since_ms) => since_ms <= at_ms,
            None => false,
        }
    }

    /// Whether what is received at this time may be signed with the key.
    #[must_use]
    pub const fn valid_at(&self, at_ms: u64) -> bool {
        self.not_before_ms <= at_ms && at_ms < self.not_after_ms && !self.revoked_at(at_ms)
    }
}

/// A root that the organisation had before the one that its partners pin.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct FormerRoot {
    /// Its certificate, DER.
    pub root: Bytes,
    /// It vouches for device certificates that end no later than this, milliseconds since the Unix epoch, and for
    /// nothing else.
    pub until_ms: u64,
}

/// What a manifest states.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestBody {
    /// Whose keys these are.
    pub server: ServerName,
    /// Grows with every change.
    pub serial: u64,
    /// When it was signed, milliseconds since the Unix epoch.
    pub issued_ms: u64,
    /// The certificate of the CA that signs it, DER.
    pub issuing_certificate: Bytes,
    /// Envelope keys: the current one, the next, those whose mail is still on its way; at least one.
    pub envelope_keys: Vec<EnvelopeKeyEntry>,
    /// SHA-256 of the SubjectPublicKeyInfo of each TLS key in use or kept as a backup; at least one.
    pub tls_pins: Vec<Digest>,
    /// The roots that it had before.
    pub former_roots: Vec<FormerRoot>,
}

/// Why a manifest could not be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    /// A part is over its limit.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The key failed.
    #[error(transparent)]
    Key(#[from] KeyError),
}

impl ManifestBody {
    /// Signs and encodes the manifest.
    ///
    /// # Errors
    /// When a part is over its limit, a key or a pin is listed twice, or a key is never valid or revoked
    /// after its end: every decoder would refuse that.
    pub fn sign(&self, key: &IssuingKey, random: &dyn SecureRandom) -> Result<Bytes, SignError> {
        let mut writer = Writer::new();
        self.write(&mut writer);
        let body = writer.finish()?;
        let signature = key.sign(&signed_bytes(&body)?, random)?;
        let bytes = attach(&body, &signature)?;
        if bytes.len() > MANIFEST_BYTES_MAX {
            return Err(SignError::Encode(EncodeError {
                what: "manifest",
                max: MANIFEST_BYTES_MAX,
            }));
        }
        Ok(bytes)
    }

    /// The keys that are revoked, by id: since when.
    fn revoked(&self) -> BTreeMap<KeyId, u64> {
        self.envelope_keys
            .iter()
            .filter_map(|key| Some((key.id(), key.revoked_ms?)))
            .collect()
    }

    fn write(&self, writer: &mut Writer) {
        let revoked = self.revoked();
        writer.u16(match (self.former_roots.is_empty(), revoked.is_empty()) {
            (true, true) => FORMAT,
            (true, false) => FORMAT_REVOKING,
            (false, _) => FORMAT_ROOTED_BEFORE,
        });
        writer.server_name(&self.server);
        writer.u64(self.serial);
        writer.u64(self.issued_ms);
        writer.opaque16(
            "issuing certificate",
            CERTIFICATE_BYTES_MAX,
            &self.issuing_certificate,
        );
        let mut keys = self.envelope_keys.clone();
        keys.sort_unstable();
        let once = keys.is_sorted_by(|left, right| left.public < right.public);
        if keys.is_empty() || !once || !keys.iter().all(EnvelopeKeyEntry::is_well_formed) {
            writer.fail("envelope keys", ENVELOPE_KEYS_MAX);
        }
        writer.list("envelope keys", ENVELOPE_KEYS_MAX, &keys, |writer, key| {
            writer.fixed(&key.public);
            writer.u64(key.not_before_ms);
            writer.u64(key.not_after_ms);
        });
        let mut pins = self.tls_pins.clone();
        pins.sort_unstable();
        if pins.is_empty() || !pins.is_sorted_by(|left, right| left < right) {
            writer.fail("TLS pins", TLS_PINS_MAX);
        }
        writer.list("TLS pins", TLS_PINS_MAX, &pins, |writer, pin| {
            writer.fixed(pin.as_bytes());
        });
        if !revoked.is_empty() || !self.former_roots.is_empty() {
            let revoked: Vec<_> = revoked.into_iter().collect();
            writer.list(
                "revoked keys",
                ENVELOPE_KEYS_MAX,
                &revoked,
                |writer, (id, since_ms)| {
                    writer.fixed(&id.0);
                    writer.u64(*since_ms);
                },
            );
        }
        if !self.former_roots.is_empty() {
            self.write_former_roots(writer);
        }
    }

    fn write_former_roots(&self, writer: &mut Writer) {
        let mut former = self.former_roots.clone();
        former.sort_unstable();
        let once = former.is_sorted_by(|left, right| left.root < right.root);
        if !once || !former.iter().all(|former| self.may_name(former)) {
            writer.fail("former roots", FORMER_ROOTS_MAX);
        }
        writer.list(
            "former roots",
            FORMER_ROOTS_MAX,
            &former,
            |writer, former| {
                writer.opaque16("former root", FORMER_ROOT_BYTES_MAX, &former.root);
                writer.u64(former.until_ms);
            },
        );
    }

    /// No longer than until then may a root count that nobody renews.
    fn may_name(&self, former: &FormerRoot) -> bool {
        former.until_ms <= self.issued_ms.saturating_add(FORMER_ROOT_MS_MAX)
    }

    fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        let format = reader.u16("format")?;
        if !(FORMAT..=FORMAT_ROOTED_BEFORE).contains(&format) {
            return Err(DecodeError::UnknownFormat(format));
        }
        let server = reader.server_name("server")?;
        let serial = reader.u64("serial")?;
        let issued_ms = reader.u64("time of issue")?;
        let issuing_certificate = reader.opaque16("issuing certificate", CERTIFICATE_BYTES_MAX)?;
        let mut envelope_keys = reader.list("envelope keys", ENVELOPE_KEYS_MAX, read_key)?;
        // By public key alone: one key has one validity.
        if !envelope_keys.is_sorted_by(|left, right| left.public < right.public) {
            return Err(DecodeError::NotAscending("envelope keys"));
        }
        let tls_pins = reader.ascending_list("TLS pins", TLS_PINS_MAX, |reader| {
            reader.fixed("TLS pin").map(Digest::from_bytes)
        })?;
        if envelope_keys.is_empty() {
            return Err(DecodeError::Empty("envelope keys"));
        }
        if tls_pins.is_empty() {
            return Err(DecodeError::Empty("TLS pins"));
        }
        if format != FORMAT {
            let any = read_revoked(reader, &mut envelope_keys)?;
            if format == FORMAT_REVOKING && !any {
                return Err(DecodeError::Empty("revoked keys"));
            }
        }
        let body = Self {
            server,
            serial,
            issued_ms,
            issuing_certificate,
            envelope_keys,
            tls_pins,
            former_roots: if format == FORMAT_ROOTED_BEFORE {
                read_former_roots(reader)?
            } else {
                Vec::new()
            },
        };
        if body.former_roots.iter().all(|former| body.may_name(former)) {
            Ok(body)
        } else {
            Err(DecodeError::Invalid("the end of a former root"))
        }
    }
}

fn read_former_roots(reader: &mut Reader) -> Result<Vec<FormerRoot>, DecodeError> {
    let former = reader.list("former roots", FORMER_ROOTS_MAX, |reader| {
        Ok(FormerRoot {
            root: reader.opaque16("former root", FORMER_ROOT_BYTES_MAX)?,
            until_ms: reader.u64("end of a former root")?,
        })
    })?;
    if former.is_empty() {
        return Err(DecodeError::Empty("former roots"));
    }
    // By certificate alone: one root has one end.
    if !former.is_sorted_by(|left, right| left.root < right.root) {
        return Err(DecodeError::NotAscending("former roots"));
    }
    Ok(former)
}

fn read_key(reader: &mut Reader) -> Result<EnvelopeKeyEntry, DecodeError> {
    let key = EnvelopeKeyEntry {
        public: reader.fixed("envelope key")?,
        not_before_ms: reader.u64("validity")?,
        not_after_ms: reader.u64("validity")?,
        revoked_ms: None,
    };
    if key.is_well_formed() {
        Ok(key)
    } else {
        Err(DecodeError::Invalid("validity of an envelope key"))
    }
}

/// Marks which of `keys` are revoked; whether any are. Each is listed, once, and revoked before its end.
fn read_revoked(reader: &mut Reader, keys: &mut [EnvelopeKeyEntry]) -> Result<bool, DecodeError> {
    let revoked = reader.list("revoked keys", ENVELOPE_KEYS_MAX, |reader| {
        let id = reader.fixed("revoked key").map(KeyId)?;
        Ok((id, reader.u64("time of revocation")?))
    })?;
    let any = !revoked.is_empty();
    if !revoked.is_sorted_by(|(left, _), (right, _)| left < right) {
        return Err(DecodeError::NotAscending("revoked keys"));
    }
    for (id, since_ms) in revoked {
        let key = keys
            .iter_mut()
            .find(|key| key.id() == id)
            .ok_or(DecodeError::Invalid("a revoked key that is not listed"))?;
        key.revoked_ms = Some(since_ms);
        if !key.is_well_formed() {
            return Err(DecodeError::Invalid("time of revocation"));
        }
    }
    Ok(any)
}

fn attach(body: &[u8], signature: &[u8]) -> Result<Bytes, EncodeError> {
    let mut writer = Writer::with_capacity(body.len() + 80);
    writer.fixed(body);
    writer.opaque8("signature", ISSUING_SIGNATURE_BYTES_MAX, signature);
    writer.finish()
}

fn signed_bytes(body: &[u8]) -> Result<Bytes, EncodeError> {
    let mut writer = Writer::with_capacity(body.len() + 32);
    writer.opaque8("label", SIGNATURE_LABEL_BYTES_MAX, MANIFEST_LABEL);
    writer.fixed(body);
    writer.finish()
}

/// Why a manifest is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// Its certificates do not hold.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// It is another server's.
    #[error("the manifest is of {found}, not of {expected}")]
    WrongServer {
        /// Whose it should be.
        expected: ServerName,
        /// Whose it is.
        found: ServerName,
    },
    /// The issuing CA did not sign it.
    #[error("the manifest is not signed by the organisation's issuing CA")]
    BadSignature,
    /// Signed in the future, by this server's clock.
    #[error("the manifest was signed in the future: compare the two servers' clocks")]
    FromTheFuture,
    /// An older one than is known: a replay, or a server restored from an old copy.
    #[error("the manifest has serial {found}, and {known} is known already")]
    Rollback {
        /// The serial that is known.
        known: u64,
        /// The serial that came.
        found: u64,
    },
    /// Another one with the same serial: two servers use one identity, or one lies.
    #[error("another manifest with serial {0} is known already")]
    Fork(u64),
    /// Its number is ahead of its time: whoever signed it wants no later one to be taken.
    #[error("the manifest's serial {0} is ahead of the time at which it was signed")]
    SerialAhead(u64),
    /// An issuing CA that another has followed signed it.
    #[error("the manifest is signed by an older issuing CA than the one that is known already")]
    FormerIssuer,
    /// It takes a revocation back, or moves it to a later time.
    #[error("the manifest no longer revokes key {0} since the time that is known already")]
    RevocationWithdrawn(KeyId),
}

/// A manifest whose signature nobody has checked yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnverifiedManifest {
    body: ManifestBody,
    signature: Bytes,
    bytes: Bytes,
}

/// Reads a manifest; the signature is checked by [`UnverifiedManifest::verify`].
///
/// # Errors
/// When the bytes are anything but one whole manifest.
pub fn decode(bytes: Bytes) -> Result<UnverifiedManifest, DecodeError> {
    if bytes.len() > MANIFEST_BYTES_MAX {
        return Err(DecodeError::TooLong {
            what: "manifest",
            max: MANIFEST_BYTES_MAX,
        });
    }
    let mut reader = Reader::new(bytes.clone());
    let body = ManifestBody::read(&mut reader)?;
    let signature = reader.opaque8("signature", ISSUING_SIGNATURE_BYTES_MAX)?;
    reader.finish()?;
    Ok(UnverifiedManifest {
        body,
        signature,
        bytes,
    })
}

impl UnverifiedManifest {
    /// Whose manifest it says it is.
    #[must_use]
    pub const fn server(&self) -> &ServerName {
        &self.body.server
    }

    /// The manifest encoded again from its parts: the bytes that it was read from.
    ///
    /// # Errors
    /// Never for what was decoded.
    pub fn to_bytes(&self) -> Result<Bytes, EncodeError> {
        let mut writer = Writer::new();
        self.body.write(&mut writer);
        attach(&writer.finish()?, &self.signature)
    }

    /// Its serial number.
    #[must_use]
    pub const fn serial(&self) -> u64 {
        self.body.serial
    }

    /// The issuing CA that it says signed it, DER.
    #[must_use]
    pub const fn issuing_certificate(&self) -> &Bytes {
        &self.body.issuing_certificate
    }

    /// Checks that the organisation with this root signed it for `server`, and that it does not go
    /// back behind `current`: the manifest with the highest serial that was ever known of that server
    /// under this root, also one of an agreement that has ended.
    ///
    /// # Errors
    /// When it does not hold at `at_ms`, or is older than `current`, or contradicts it.
    pub fn verify(
        self,
        server: &ServerName,
        root: &Bytes,
        current: Option<&Manifest>,
        at_ms: u64,
    ) -> Result<Manifest, ManifestError> {
        if self.body.server != *server {
            return Err(ManifestError::WrongServer {
                expected: server.clone(),
                found: self.body.server,
            });
        }
        if let Some(other) = current.filter(|current| current.server() != server) {
            return Err(ManifestError::WrongServer {
                expected: server.clone(),
                found: other.server().clone(),
            });
        }
        let issuing = self.body.issuing_certificate.clone();
        let identity = OrganisationIdentity::parse(root.clone(), issuing, at_ms)?;
        let body_bytes = self.bytes.len() - 1 - self.signature.len();
        let signed = signed_bytes(self.bytes.get(..body_bytes).unwrap_or_default())
            .map_err(|_| ManifestError::BadSignature)?;
        if !identity.verifies(&signed, &self.signature) {
            return Err(ManifestError::BadSignature);
        }
        if self.body.issued_ms > at_ms.saturating_add(CLOCK_SKEW_MS_MAX) {
            return Err(ManifestError::FromTheFuture);
        }
        if self.body.serial > self.body.issued_ms.saturating_add(CLOCK_SKEW_MS_MAX) {
            return Err(ManifestError::SerialAhead(self.body.serial));
        }
        for former in &self.body.former_roots {
            check_former_root(&former.root, root)?;
        }
        if let Some(current) = current {
            self.follows(&identity, current)?;
        }
        let keys = self.body.envelope_keys.iter();
        Ok(Manifest {
            keys: keys.map(|key| (key.id(), *key)).collect(),
            identity,
            body: self.body,
            bytes: self.bytes,
        })
    }
}

impl UnverifiedManifest {
    /// Checks that it goes back behind `current` in nothing.
    fn follows(
        &self,
        identity: &OrganisationIdentity,
        current: &Manifest,
    ) -> Result<(), ManifestError> {
        let (known, found) = (current.serial(), self.body.serial);
        if found < known {
            return Err(ManifestError::Rollback { known, found });
        }
        if found == known && self.bytes != current.bytes {
            return Err(ManifestError::Fork(known));
        }
        if identity.issuing_since() < current.identity.issuing_since() {
            return Err(ManifestError::FormerIssuer);
        }
        let revoked = self.body.revoked();
        for (id, known_ms) in current.body.revoked() {
            let is_listed = self.body.envelope_keys.iter().any(|key| key.id() == id);
            if is_listed && revoked.get(&id).is_none_or(|since_ms| *since_ms > known_ms) {
                return Err(ManifestError::RevocationWithdrawn(id));
            }
        }
        Ok(())
    }
}

/// A manifest that its organisation signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    identity: OrganisationIdentity,
    body: ManifestBody,
    keys: Vec<(KeyId, EnvelopeKeyEntry)>,
    bytes: Bytes,
}

impl Manifest {
    /// Whose it is.
    #[must_use]
    pub const fn server(&self) -> &ServerName {
        &self.body.server
    }

    /// Its serial number.
    #[must_use]
    pub const fn serial(&self) -> u64 {
        self.body.serial
    }

    /// What it states.
    #[must_use]
    pub const fn body(&self) -> &ManifestBody {
        &self.body
    }

    /// The organisation that signed it.
    #[must_use]
    pub const fn identity(&self) -> &OrganisationIdentity {
        &self.identity
    }

    /// Its exact bytes: what to store and to pass on.
    #[must_use]
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The envelope key with this name.
    #[must_use]
    pub fn envelope_key(&self, id: KeyId) -> Option<&EnvelopeKeyEntry> {
        self.keys
            .iter()
            .find(|(known, _)| *known == id)
            .map(|(_, key)| key)
    }

    /// Whether a TLS key with this pin is the server's.
    #[must_use]
    pub fn has_tls_pin(&self, pin: &Digest) -> bool {
        self.body.tls_pins.binary_search(pin).is_ok()
    }
}
