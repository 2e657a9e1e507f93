//! Reading and verifying a transaction, and what verification makes.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use crate::codec::{DecodeError, EncodeError, Reader, Wire, Writer};
use crate::envelope::{Header, Lane, Suite, position_hash};
use crate::hash::Digest;
use crate::ids::ServerName;
use crate::keys::{ENVELOPE_SIGNATURE_BYTES, KeyId, verify_envelope_signature};
use crate::limits::{TRANSACTION_BYTES_MAX, TRANSACTION_ENVELOPES_MAX};
use crate::manifest::Manifest;
use crate::merkle::{self, Tree};
use crate::transaction::proof::{EnvelopeProof, RootSignature};
use crate::transaction::{Link, encode, signed_bytes};
use crate::version::Version;

/// Why bytes that decode are not what the expected server signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// The envelopes name another origin than the one the connection authenticated.
    #[error("the envelopes are from {found}, not from {expected}")]
    WrongOrigin {
        /// Who it should be from.
        expected: ServerName,
        /// Who it says it is from.
        found: ServerName,
    },
    /// The envelopes are for somebody else.
    #[error("the envelopes are for {found}, not for {expected}")]
    WrongDestination {
        /// Who it should be for.
        expected: ServerName,
        /// Who it says it is for.
        found: ServerName,
    },
    /// The manifest is another server's.
    #[error("the manifest is of {found}, not of {expected}")]
    WrongManifest {
        /// Whose manifest it should be.
        expected: ServerName,
        /// Whose it is.
        found: ServerName,
    },
    /// The manifest does not list the key: there may be a newer one.
    #[error("key {0} is not in the manifest that is known here")]
    UnknownKey(KeyId),
    /// The key is not valid at the time of receipt.
    #[error("key {0} is not valid at the time of receipt")]
    KeyNotValid(KeyId),
    /// The key is revoked at the time of receipt.
    #[error("key {0} was revoked before this was received")]
    KeyRevoked(KeyId),
    /// The signature is not by the key over these bytes.
    #[error("the signature does not verify")]
    BadSignature,
    /// A payload is not the one that its header names.
    #[error("the payload of envelope {0} does not have the hash in its header")]
    PayloadHash(usize),
    /// The proof does not lead to a signed root.
    #[error("the proof does not fit the envelope")]
    BadProof,
    /// The bytes are not an envelope.
    #[error("not an envelope: {0}")]
    Malformed(#[from] DecodeError),
}

/// A transaction whose signature nobody has checked yet.
#[derive(Debug, Clone)]
pub struct UnverifiedTransaction {
    link: Link,
    suite: Suite,
    key_id: KeyId,
    signature: [u8; ENVELOPE_SIGNATURE_BYTES],
    envelopes: Vec<RawEnvelope>,
}

/// An envelope as it came: its header's fields, and the bytes they were read from.
#[derive(Clone)]
pub(super) struct RawEnvelope {
    pub(super) header: Header,
    // Header, then payload.
    bytes: Bytes,
    header_bytes: usize,
}

impl fmt::Debug for RawEnvelope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.header.fmt(f)
    }
}

impl VerifyError {
    /// Whether it is only the key that does not count here and now: what was signed may be signed again with
    /// another, and a newer manifest may say otherwise.
    #[must_use]
    pub const fn is_of_key(&self) -> bool {
        matches!(
            self,
            Self::UnknownKey(_) | Self::KeyNotValid(_) | Self::KeyRevoked(_)
        )
    }
}

impl RawEnvelope {
    pub(super) fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        let mut ahead = reader.clone();
        let before = ahead.remaining();
        let header = Header::read(&mut ahead)?;
        let header_bytes = before - ahead.remaining();
        let payload_bytes = usize::try_from(header.payload_length)
            .map_err(|_| DecodeError::Invalid("payload length"))?;
        let bytes = reader.take("payload", header_bytes + payload_bytes)?;
        Ok(Self {
            header,
            bytes,
            header_bytes,
        })
    }

    pub(super) fn header_slice(&self) -> &[u8] {
        self.bytes.get(..self.header_bytes).unwrap_or_default()
    }

    fn payload_slice(&self) -> &[u8] {
        self.bytes.get(self.header_bytes..).unwrap_or_default()
    }

    pub(super) fn payload_matches(&self) -> bool {
        Digest::of(self.payload_slice()) == self.header.payload_sha256
    }

    pub(super) fn verified(self, index: usize, evidence: Evidence) -> VerifiedEnvelope {
        VerifiedEnvelope {
            position_hash: position_hash(self.header_slice(), self.header.key_id_range()),
            raw: self,
            index,
            evidence,
        }
    }
}

/// Reads a transaction: structure and limits are checked here, the signature by
/// [`UnverifiedTransaction::verify`].
///
/// # Errors
/// When the bytes are not a transaction, its envelopes differ in origin, destination, key, link
/// epoch, version or suite, or those of a lane are not in their order.
pub fn decode(bytes: Bytes) -> Result<UnverifiedTransaction, DecodeError> {
    if bytes.len() > TRANSACTION_BYTES_MAX {
        return Err(DecodeError::TooLong {
            what: "transaction",
            max: TRANSACTION_BYTES_MAX,
        });
    }
    let mut reader = Reader::new(bytes);
    let version = Version::read(&mut reader)?;
    let suite = Suite::read(&mut reader)?;
    let signature = reader.fixed("signature")?;
    let envelopes = reader.list("envelopes", TRANSACTION_ENVELOPES_MAX, RawEnvelope::read)?;
    reader.finish()?;
    let first = envelopes
        .first()
        .map(|envelope| envelope.header.clone())
        .ok_or(DecodeError::Empty("envelopes"))?;
    let alike = envelopes.iter().all(|RawEnvelope { header, .. }| {
        header.version == version
            && header.suite == suite
            && header.origin == first.origin
            && header.destination == first.destination
            && header.key_id == first.key_id
            && header.link_epoch == first.link_epoch
    });
    if !alike {
        return Err(DecodeError::Invalid("the envelopes' common part"));
    }
    in_order(&envelopes)?;
    Ok(UnverifiedTransaction {
        link: Link {
            version,
            origin: first.origin,
            destination: first.destination,
            link_epoch: first.link_epoch,
        },
        suite,
        key_id: first.key_id,
        signature,
        envelopes,
    })
}

/// The positions of each lane ascend. Else a receiver might defer one and consume an earlier one after
/// it, and its receipt would be one that no origin can use (LINK-042).
fn in_order(envelopes: &[RawEnvelope]) -> Result<(), DecodeError> {
    let mut last: BTreeMap<Lane, u64> = BTreeMap::new();
    for RawEnvelope { header, .. } in envelopes {
        let before = last.insert(header.lane, header.sequence);
        if before.is_some_and(|before| before >= header.sequence) {
            return Err(DecodeError::LaneOrder(header.lane));
        }
    }
    Ok(())
}

impl UnverifiedTransaction {
    /// Who it says it is from, for whom, in which numbering.
    #[must_use]
    pub const fn link(&self) -> &Link {
        &self.link
    }

    /// The key it says it is signed with.
    #[must_use]
    pub const fn key_id(&self) -> KeyId {
        self.key_id
    }

    /// The lane of each envelope, in their order.
    pub fn lanes(&self) -> impl Iterator<Item = Lane> + '_ {
        self.envelopes.iter().map(|envelope| envelope.header.lane)
    }

    /// How many envelopes it holds.
    #[must_use]
    pub const fn size(&self) -> usize {
        self.envelopes.len()
    }

    /// The transaction encoded again from its parts: the bytes that it was read from.
    ///
    /// # Errors
    /// Never for what was decoded.
    pub fn to_bytes(&self) -> Result<Bytes, EncodeError> {
        let mut body = Writer::new();
        for envelope in &self.envelopes {
            envelope.header.write(&mut body);
            body.fixed(envelope.payload_slice());
        }
        encode(
            self.link.version,
            self.suite,
            &self.signature,
            &body.finish()?,
        )
    }

    /// Checks that `expected_origin` signed this for `expected_destination`, with a key that its
    /// manifest lists as valid at `now_ms`, the time of receipt.
    ///
    /// # Errors
    /// When it did not. On [`VerifyError::UnknownKey`] a newer manifest may help.
    pub fn verify(
        self,
        manifest: &Manifest,
        expected_origin: &ServerName,
        expected_destination: &ServerName,
        now_ms: u64,
    ) -> Result<VerifiedTransaction, VerifyError> {
        let public = key_for(
            &self.link,
            self.key_id,
            manifest,
            expected_origin,
            expected_destination,
            now_ms,
        )?;
        for (index, envelope) in self.envelopes.iter().enumerate() {
            if !envelope.payload_matches() {
                return Err(VerifyError::PayloadHash(index));
            }
        }
        let leaves = self
            .envelopes
            .iter()
            .map(|envelope| merkle::leaf(envelope.header_slice()))
            .collect();
        let tree = Tree::new(leaves);
        let root = tree.root();
        let message = signed_bytes(&self.link, self.suite, tree.size(), root)
            .map_err(|_| VerifyError::BadSignature)?;
        if !verify_envelope_signature(public, &message, &self.signature) {
            return Err(VerifyError::BadSignature);
        }
        let evidence = Evidence::Tree(Arc::new((tree, self.signature)));
        let envelopes = self
            .envelopes
            .into_iter()
            .enumerate()
            .map(|(index, envelope)| envelope.verified(index, evidence.clone()))
            .collect();
        Ok(VerifiedTransaction {
            link: self.link,
            root,
            signature: RootSignature {
                key_id: self.key_id,
                signature: self.signature,
            },
            envelopes,
        })
    }
}

pub(super) fn key_for<'m>(
    link: &Link,
    key_id: KeyId,
    manifest: &'m Manifest,
    expected_origin: &ServerName,
    expected_destination: &ServerName,
    at_ms: u64,
) -> Result<&'m [u8; 32], VerifyError> {
    if link.origin != *expected_origin {
        return Err(VerifyError::WrongOrigin {
            expected: expected_origin.clone(),
            found: link.origin.clone(),
        });
    }
    if link.destination != *expected_destination {
        return Err(VerifyError::WrongDestination {
            expected: expected_destination.clone(),
            found: link.destination.clone(),
        });
    }
    if manifest.server() != expected_origin {
        return Err(VerifyError::WrongManifest {
            expected: expected_origin.clone(),
            found: manifest.server().clone(),
        });
    }
    key_at(manifest, key_id, at_ms)
}

/// The key of this name, when it counts at this time.
pub(crate) fn key_at(
    manifest: &Manifest,
    key_id: KeyId,
    at_ms: u64,
) -> Result<&[u8; 32], VerifyError> {
    let key = manifest
        .envelope_key(key_id)
        .ok_or(VerifyError::UnknownKey(key_id))?;
    if key.valid_at(at_ms) {
        Ok(&key.public)
    } else if key.revoked_at(at_ms) {
        Err(VerifyError::KeyRevoked(key_id))
    } else {
        Err(VerifyError::KeyNotValid(key_id))
    }
}

/// A transaction that its origin signed.
#[derive(Debug, Clone)]
pub struct VerifiedTransaction {
    link: Link,
    root: Digest,
    signature: RootSignature,
    envelopes: Vec<VerifiedEnvelope>,
}

impl VerifiedTransaction {
    /// From whom, for whom, in which numbering.
    #[must_use]
    pub const fn link(&self) -> &Link {
        &self.link
    }

    /// The Merkle root, which the receipt names.
    #[must_use]
    pub const fn root(&self) -> Digest {
        self.root
    }

    /// The origin's signature over it.
    #[must_use]
    pub const fn signature(&self) -> RootSignature {
        self.signature
    }

    /// The envelopes, in their order.
    #[must_use]
    pub fn envelopes(&self) -> &[VerifiedEnvelope] {
        &self.envelopes
    }

    /// The envelopes, in their order.
    #[must_use]
    pub fn into_envelopes(self) -> Vec<VerifiedEnvelope> {
        self.envelopes
    }
}

/// An envelope that its origin signed. Only verification makes one.
#[derive(Clone)]
pub struct VerifiedEnvelope {
    raw: RawEnvelope,
    position_hash: Digest,
    index: usize,
    evidence: Evidence,
}

#[derive(Clone)]
pub(super) enum Evidence {
    Tree(Arc<(Tree, [u8; ENVELOPE_SIGNATURE_BYTES])>),
    Proof(Arc<EnvelopeProof>),
}

impl VerifiedEnvelope {
    /// The header.
    #[must_use]
    pub const fn header(&self) -> &Header {
        &self.raw.header
    }

    /// The payload.
    #[must_use]
    pub fn payload(&self) -> Bytes {
        self.raw.bytes.slice(self.raw.header_bytes..)
    }

    /// Header and payload exactly as they were signed: what a relay passes on.
    #[must_use]
    pub const fn bytes(&self) -> &Bytes {
        &self.raw.bytes
    }

    /// What identifies the envelope at its position.
    #[must_use]
    pub const fn position_hash(&self) -> Digest {
        self.position_hash
    }

    /// What proves [`VerifiedEnvelope::bytes`] alone, without the rest of its transaction.
    #[must_use]
    pub fn proof(&self) -> EnvelopeProof {
        match &self.evidence {
            Evidence::Proof(proof) => EnvelopeProof::clone(proof),
            Evidence::Tree(shared) => {
                let (tree, signature) = shared.as_ref();
                EnvelopeProof {
                    // A transaction's size is limited to far less than a u32 holds.
                    tree_size: u32::try_from(tree.size()).unwrap_or(u32::MAX),
                    index: u32::try_from(self.index).unwrap_or(u32::MAX),
                    path: tree.path(self.index),
                    signature: *signature,
                }
            }
        }
    }
}

impl fmt::Debug for VerifiedEnvelope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifiedEnvelope({:?})", self.raw.header)
    }
}
