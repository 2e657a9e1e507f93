//! One envelope of a transaction, proved alone.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use crate::codec::{DecodeError, Reader, Wire, Writer};
use crate::envelope::Suite;
use crate::hash::Digest;
use crate::ids::ServerName;
use crate::keys::{ENVELOPE_SIGNATURE_BYTES, KeyId, verify_envelope_signature};
use crate::limits::{PROOF_PATH_MAX, TRANSACTION_ENVELOPES_MAX};
use crate::manifest::Manifest;
use crate::merkle;
use crate::transaction::verified::{Evidence, RawEnvelope, VerifiedEnvelope, VerifyError, key_for};
use crate::transaction::{Link, signed_bytes};

/// What proves one envelope of a transaction: where it stood, the way to the root, and the root's
/// signature.
#[derive(Clone, PartialEq, Eq)]
pub struct EnvelopeProof {
    pub(super) tree_size: u32,
    pub(super) index: u32,
    pub(super) path: Vec<Digest>,
    pub(super) signature: [u8; ENVELOPE_SIGNATURE_BYTES],
}

impl EnvelopeProof {
    /// Checks that `expected_origin` signed `envelope` (header and payload) for
    /// `expected_destination`, with a key that its manifest lists as valid at `at_ms`: the time of
    /// receipt, or, of a relayed envelope, the hub's stamp.
    ///
    /// # Errors
    /// When it did not. On [`VerifyError::UnknownKey`] a newer manifest may help.
    pub fn verify(
        &self,
        envelope: Bytes,
        manifest: &Manifest,
        expected_origin: &ServerName,
        expected_destination: &ServerName,
        at_ms: u64,
    ) -> Result<VerifiedEnvelope, VerifyError> {
        let mut reader = Reader::new(envelope);
        let raw = RawEnvelope::read(&mut reader)?;
        reader.finish()?;
        let link = Link {
            version: raw.header.version,
            origin: raw.header.origin.clone(),
            destination: raw.header.destination.clone(),
            link_epoch: raw.header.link_epoch,
        };
        let public = key_for(
            &link,
            raw.header.key_id,
            manifest,
            expected_origin,
            expected_destination,
            at_ms,
        )?;
        let index = usize::try_from(self.index).map_err(|_| VerifyError::BadProof)?;
        if !raw.payload_matches() {
            return Err(VerifyError::PayloadHash(index));
        }
        let leaf = merkle::leaf(raw.header_slice());
        let root =
            merkle::root_from_path(leaf, self.index.into(), self.tree_size.into(), &self.path)
                .ok_or(VerifyError::BadProof)?;
        let tree_size = usize::try_from(self.tree_size).map_err(|_| VerifyError::BadProof)?;
        let message = signed_bytes(&link, raw.header.suite, tree_size, root)
            .map_err(|_| VerifyError::BadProof)?;
        if !verify_envelope_signature(public, &message, &self.signature) {
            return Err(VerifyError::BadSignature);
        }
        Ok(raw.verified(index, Evidence::Proof(Arc::new(self.clone()))))
    }

    /// How many envelopes the transaction had.
    #[must_use]
    pub const fn tree_size(&self) -> u32 {
        self.tree_size
    }

    /// Which of them this one was, from 0.
    #[must_use]
    pub const fn index(&self) -> u32 {
        self.index
    }
}

/// An origin's signature over the root of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RootSignature {
    /// The key that signed.
    pub key_id: KeyId,
    /// The signature.
    pub signature: [u8; ENVELOPE_SIGNATURE_BYTES],
}

impl RootSignature {
    /// Checks that the link's origin signed the root of a transaction of so many envelopes, with a key
    /// that its manifest lists as valid at `at_ms`.
    ///
    /// # Errors
    /// When it did not.
    pub fn verify(
        &self,
        link: &Link,
        tree_size: usize,
        root: Digest,
        manifest: &Manifest,
        at_ms: u64,
    ) -> Result<(), VerifyError> {
        let (origin, destination) = (&link.origin, &link.destination);
        let public = key_for(link, self.key_id, manifest, origin, destination, at_ms)?;
        let message = signed_bytes(link, Suite::Ed25519Sha256, tree_size, root)
            .map_err(|_| VerifyError::BadProof)?;
        if verify_envelope_signature(public, &message, &self.signature) {
            Ok(())
        } else {
            Err(VerifyError::BadSignature)
        }
    }
}

impl fmt::Debug for EnvelopeProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EnvelopeProof({} of {})", self.index, self.tree_size)
    }
}

impl Wire for EnvelopeProof {
    const BYTES_MAX: usize = 4 + 4 + 4 + 32 * PROOF_PATH_MAX + ENVELOPE_SIGNATURE_BYTES;
    const NAME: &'static str = "envelope proof";

    fn write(&self, writer: &mut Writer) {
        writer.u32(self.tree_size);
        writer.u32(self.index);
        writer.list("path", PROOF_PATH_MAX, &self.path, |writer, hash| {
            writer.fixed(hash.as_bytes());
        });
        writer.fixed(&self.signature);
    }

    fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        let proof = Self {
            tree_size: reader.u32("tree size")?,
            index: reader.u32("index")?,
            path: reader.list("path", PROOF_PATH_MAX, |reader| {
                reader.fixed("path").map(Digest::from_bytes)
            })?,
            signature: reader.fixed("signature")?,
        };
        let size_ok = usize::try_from(proof.tree_size)
            .is_ok_and(|size| (1..=TRANSACTION_ENVELOPES_MAX).contains(&size));
        if size_ok && proof.index < proof.tree_size {
            Ok(proof)
        } else {
            Err(DecodeError::Invalid("index in the tree"))
        }
    }
}
