//! Transactions: up to 1,024 envelopes under one signature, each provable alone.
//!
//! The signature is over the root of a Merkle tree whose leaves are the envelopes' header bytes,
//! together with origin, destination, link epoch and tree size. So one Ed25519 operation serves a
//! whole transaction, and root signature + path prove a single envelope after it is stored, relayed
//! or shown as evidence.
//!
//! Invariants: [`VerifiedEnvelope`] is made here alone, by [`UnverifiedTransaction::verify`] and
//! [`EnvelopeProof::verify`]; what was verified are the bytes as they came, never a re-encoding.

mod proof;
#[cfg(test)]
mod two_versions;
mod verified;

pub use proof::{EnvelopeProof, RootSignature};
pub(crate) use verified::key_at;
pub use verified::{
    UnverifiedTransaction, VerifiedEnvelope, VerifiedTransaction, VerifyError, decode,
};

use bytes::Bytes;

use crate::codec::{EncodeError, Wire, Writer};
use crate::envelope::{Header, Kind, Outgoing, Suite, position_hash};
use crate::hash::Digest;
use crate::ids::ServerName;
use crate::keys::{ENVELOPE_SIGNATURE_BYTES, EnvelopeKey, KeyId, TRANSACTION_LABEL};
use crate::limits::{
    PAYLOAD_BYTES_MAX, SIGNATURE_LABEL_BYTES_MAX, TRANSACTION_BYTES_MAX, TRANSACTION_ENVELOPES_MAX,
};
use crate::merkle::{self, Tree};
use crate::version::Version;

/// One direction of a link, as every header of a transaction names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The version that both sides negotiated.
    pub version: Version,
    /// Who sends.
    pub origin: ServerName,
    /// Who receives.
    pub destination: ServerName,
    /// The origin's numbering.
    pub link_epoch: u64,
}

/// A transaction ready to be sent.
#[derive(Debug, Clone)]
pub struct SignedTransaction {
    /// The bytes to send.
    pub bytes: Bytes,
    /// The Merkle root, which the receipt must name.
    pub root: Digest,
    /// The signature over it.
    pub signature: RootSignature,
    /// Each envelope's position hash, in their order.
    pub position_hashes: Vec<Digest>,
}

/// Signs these envelopes as one transaction.
///
/// # Errors
/// When there are none or too many of them, or they are too large together.
pub fn sign(
    key: &EnvelopeKey,
    link: &Link,
    envelopes: &[Outgoing],
) -> Result<SignedTransaction, EncodeError> {
    if envelopes.is_empty() || envelopes.len() > TRANSACTION_ENVELOPES_MAX {
        return Err(EncodeError {
            what: "envelopes",
            max: TRANSACTION_ENVELOPES_MAX,
        });
    }
    let payload_bytes: usize = envelopes.iter().map(|e| e.payload.bytes().len()).sum();
    let mut body = Writer::with_capacity(payload_bytes + envelopes.len() * 256);
    let mut leaves = Vec::with_capacity(envelopes.len());
    let mut position_hashes = Vec::with_capacity(envelopes.len());
    for envelope in envelopes {
        let header = header_of(key.id(), link, envelope)?;
        let start = body.len();
        header.write(&mut body);
        let header_bytes = body.written_since(start);
        leaves.push(merkle::leaf(header_bytes));
        position_hashes.push(position_hash(header_bytes, header.key_id_range()));
        body.fixed(envelope.payload.bytes());
    }
    let root = Tree::new(leaves).root();
    let signature = key.sign(&signed_bytes(
        link,
        Suite::Ed25519Sha256,
        envelopes.len(),
        root,
    )?);

    let bytes = encode(
        link.version,
        Suite::Ed25519Sha256,
        &signature,
        &body.finish()?,
    )?;
    Ok(SignedTransaction {
        bytes,
        root,
        signature: RootSignature {
            key_id: key.id(),
            signature,
        },
        position_hashes,
    })
}

fn encode(
    version: Version,
    suite: Suite,
    signature: &[u8; ENVELOPE_SIGNATURE_BYTES],
    envelopes: &[u8],
) -> Result<Bytes, EncodeError> {
    let mut writer = Writer::with_capacity(envelopes.len() + 128);
    version.write(&mut writer);
    suite.write(&mut writer);
    writer.fixed(signature);
    writer.opaque32("envelopes", TRANSACTION_BYTES_MAX, envelopes);
    let bytes = writer.finish()?;
    if bytes.len() > TRANSACTION_BYTES_MAX {
        return Err(EncodeError {
            what: "transaction",
            max: TRANSACTION_BYTES_MAX,
        });
    }
    Ok(bytes)
}

fn header_of(key_id: KeyId, link: &Link, envelope: &Outgoing) -> Result<Header, EncodeError> {
    let payload_length =
        u32::try_from(envelope.payload.bytes().len()).map_err(|_| EncodeError {
            what: "payload",
            max: PAYLOAD_BYTES_MAX,
        })?;
    Ok(Header {
        version: link.version,
        suite: Suite::Ed25519Sha256,
        kind: envelope.kind,
        origin: link.origin.clone(),
        destination: link.destination.clone(),
        key_id,
        link_epoch: link.link_epoch,
        lane: envelope.lane,
        sequence: envelope.sequence,
        created_ms: envelope.created_ms,
        expires_ms: envelope.expires_ms,
        payload_length,
        payload_sha256: envelope.payload.sha256(),
    })
}

/// What the signature of a transaction is over.
fn signed_bytes(
    link: &Link,
    suite: Suite,
    tree_size: usize,
    root: Digest,
) -> Result<Bytes, EncodeError> {
    let mut writer = Writer::with_capacity(256);
    writer.opaque8("label", SIGNATURE_LABEL_BYTES_MAX, TRANSACTION_LABEL);
    link.version.write(&mut writer);
    suite.write(&mut writer);
    writer.server_name(&link.origin);
    writer.server_name(&link.destination);
    writer.u64(link.link_epoch);
    match u32::try_from(tree_size) {
        Ok(size) => writer.u32(size),
        Err(_) => writer.fail("envelopes", TRANSACTION_ENVELOPES_MAX),
    }
    writer.fixed(root.as_bytes());
    writer.finish()
}

/// Whether an envelope of this kind may be relayed: the messages of members, nothing else.
#[must_use]
pub const fn may_be_relayed(kind: Kind) -> bool {
    matches!(kind, Kind::Message)
}
