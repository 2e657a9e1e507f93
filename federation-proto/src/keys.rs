//! The two kinds of signing keys, each with its own domain-separation labels.
//!
//! - [`EnvelopeKey`]: Ed25519, online, signs transactions and receipts.
//! - [`IssuingKey`]: ECDSA P-256, the issuing CA's, signs manifests, peering documents, heads of device logs and room consents.
//!
//! What is signed starts with a label that names its use, so a signature made for one purpose never
//! passes for another.

use std::fmt;

use ring::rand::SecureRandom;
use ring::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, ED25519, EcdsaKeyPair, Ed25519KeyPair,
    KeyPair, UnparsedPublicKey,
};
use serde::{Deserialize, Serialize};

use crate::hash::Digest;

/// Length of an Ed25519 signature.
pub const ENVELOPE_SIGNATURE_BYTES: usize = 64;

/// Label of what an envelope key signs for a transaction.
pub(crate) const TRANSACTION_LABEL: &[u8] = b"entente transaction";
/// Label of what an envelope key signs for a receipt.
pub(crate) const RECEIPT_LABEL: &[u8] = b"entente receipt";
/// Label of what an issuing key signs for a manifest.
pub(crate) const MANIFEST_LABEL: &[u8] = b"entente manifest";
/// Label of what an issuing key signs for an offer.
pub(crate) const OFFER_LABEL: &[u8] = b"entente offer";
/// Label of what an issuing key signs for an acceptance.
pub(crate) const ACCEPTANCE_LABEL: &[u8] = b"entente acceptance";
/// Label of what an issuing key signs for a countersignature.
pub(crate) const COUNTERSIGNATURE_LABEL: &[u8] = b"entente countersignature";

/// Label of what an issuing key signs for an amendment.
pub(crate) const AMENDMENT_LABEL: &[u8] = b"entente amendment";
/// Label of what an issuing key signs for a consent to an amendment.
pub(crate) const CONSENT_LABEL: &[u8] = b"entente consent";
/// Label of what an issuing key signs for a charter.
pub(crate) const CHARTER_LABEL: &[u8] = b"entente charter";
/// Label of what an issuing key signs for a head of a device log.
pub(crate) const DEVICE_LOG_LABEL: &[u8] = b"entente device log";
/// Label of what an issuing key signs for a head of an audit log.
pub(crate) const AUDIT_LOG_LABEL: &[u8] = b"entente audit log";
/// Label of what an issuing key signs for a sighting of another organisation's audit log.
pub(crate) const AUDIT_SIGHTING_LABEL: &[u8] = b"entente audit sighting";
/// Label of what an issuing key signs for a room consent.
pub(crate) const ROOM_CONSENT_LABEL: &[u8] = b"entente room consent";
/// Label of what an issuing key signs for evidence of deprovisioning.
pub(crate) const EVIDENCE_LABEL: &[u8] = b"entente deprovisioning evidence";
/// Label of what a device's key signs for another device of its account.
pub(crate) const DEVICE_APPROVAL_LABEL: &[u8] = b"entente device approval";
/// Label of what an issuing key signs for a declaration about an agreement.
pub(crate) const DECLARATION_LABEL: &[u8] = b"entente declaration";

/// Why a key can't be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The bytes are no key of the kind.
    #[error("the bytes are not a private key of the expected kind")]
    NotAKey,
    /// The signature could not be made: the source of randomness failed.
    #[error("the signature could not be made: the source of randomness failed")]
    SigningFailed,
}

/// Names an envelope key: the first eight bytes of SHA-256 of the public key.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct KeyId(pub [u8; 8]);

impl KeyId {
    /// The name of this public key.
    #[must_use]
    pub fn of(public: &[u8; 32]) -> Self {
        let [a, b, c, d, e, f, g, h, ..] = *Digest::of(public).as_bytes();
        Self([a, b, c, d, e, f, g, h])
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}

/// A homeserver's Ed25519 key for transactions and receipts.
pub struct EnvelopeKey {
    pair: Ed25519KeyPair,
    public: [u8; 32],
    id: KeyId,
}

impl EnvelopeKey {
    /// The key with this seed (RFC 8032's private key): 32 random bytes, or those that were stored.
    ///
    /// # Errors
    /// Never for 32 bytes, as far as `ring` is concerned.
    pub fn from_seed(seed: &[u8; 32]) -> Result<Self, KeyError> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| KeyError::NotAKey)?;
        let public =
            <[u8; 32]>::try_from(pair.public_key().as_ref()).map_err(|_| KeyError::NotAKey)?;
        Ok(Self {
            pair,
            public,
            id: KeyId::of(&public),
        })
    }

    /// Its public half.
    #[must_use]
    pub const fn public(&self) -> &[u8; 32] {
        &self.public
    }

    /// Its name.
    #[must_use]
    pub const fn id(&self) -> KeyId {
        self.id
    }

    pub(crate) fn sign(&self, message: &[u8]) -> [u8; ENVELOPE_SIGNATURE_BYTES] {
        let signature = self.pair.sign(message);
        let mut bytes = [0; ENVELOPE_SIGNATURE_BYTES];
        for (target, source) in bytes.iter_mut().zip(signature.as_ref()) {
            *target = *source;
        }
        bytes
    }
}

impl fmt::Debug for EnvelopeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EnvelopeKey({})", self.id)
    }
}

pub(crate) fn verify_envelope_signature(
    public: &[u8; 32],
    message: &[u8],
    signature: &[u8; ENVELOPE_SIGNATURE_BYTES],
) -> bool {
    UnparsedPublicKey::new(&ED25519, public)
        .verify(message, signature)
        .is_ok()
}

/// The issuing CA's ECDSA P-256 key.
pub struct IssuingKey {
    pair: EcdsaKeyPair,
}

impl IssuingKey {
    /// The key in this PKCS#8 document.
    ///
    /// # Errors
    /// When the document holds no P-256 key.
    pub fn from_pkcs8(pkcs8: &[u8], random: &dyn SecureRandom) -> Result<Self, KeyError> {
        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8, random)
            .map(|pair| Self { pair })
            .map_err(|_| KeyError::NotAKey)
    }

    /// Its public half: an uncompressed point, as in a certificate.
    #[must_use]
    pub fn public(&self) -> &[u8] {
        self.pair.public_key().as_ref()
    }

    pub(crate) fn sign(
        &self,
        message: &[u8],
        random: &dyn SecureRandom,
    ) -> Result<Vec<u8>, KeyError> {
        self.pair
            .sign(random, message)
            .map(|signature| signature.as_ref().to_vec())
            .map_err(|_| KeyError::SigningFailed)
    }
}

impl fmt::Debug for IssuingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IssuingKey")
    }
}

pub(crate) fn verify_issuing_signature(point: &[u8], message: &[u8], signature: &[u8]) -> bool {
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point)
        .verify(message, signature)
        .is_ok()
}
