//! Receipts: the receiver's signed answer to a transaction, the sender's proof of acceptance.
//!
//! A receipt names the transaction by its Merkle root, answers its envelopes one by one in their
//! order, and states for each lane concerned the highest contiguous position and the chain hash
//! there: cumulative, so a lost receipt is made good by the next.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::codec::{DecodeError, EncodeError, Reader, Writer};
use crate::envelope::{Lane, Suite};
use crate::hash::Digest;
use crate::keys::{
    ENVELOPE_SIGNATURE_BYTES, EnvelopeKey, KeyId, RECEIPT_LABEL, verify_envelope_signature,
};
use crate::limits::{
    RECEIPT_BYTES_MAX, RETRY_AFTER_MS_MAX, SIGNATURE_LABEL_BYTES_MAX, TRANSACTION_ENVELOPES_MAX,
};
use crate::manifest::Manifest;
use crate::payload::{read_refusal, write_refusal};
use crate::refusal::{Refusal, RefusalCode};
use crate::transaction::{Link, VerifyError, key_at};
use crate::version::Version;

/// What became of one envelope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ItemResult {
    /// Durable at the receiver.
    Accepted,
    /// It was there already.
    Duplicate,
    /// Refused for good; its position is used up.
    Refused(Refusal),
    /// Not taken now: send it again after the delay.
    Deferred {
        /// Why.
        code: RefusalCode,
        /// Milliseconds to wait, at most [`RETRY_AFTER_MS_MAX`].
        retry_after_ms: u32,
    },
}

/// How far a lane has come at the receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LaneHead {
    /// Highest contiguous position; 0: none.
    pub sequence: u64,
    /// The chain hash there.
    pub chain_hash: Digest,
}

/// What a receipt states.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceiptBody {
    /// The direction of the link that is answered: its destination signs.
    pub link: Link,
    /// The transaction's Merkle root.
    pub root: Digest,
    /// When the receiver answered, milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// One result per envelope, in their order.
    pub results: Vec<ItemResult>,
    /// The head of every lane that the transaction concerns.
    pub lanes: BTreeMap<Lane, LaneHead>,
}

impl ReceiptBody {
    /// Signs and encodes the receipt.
    ///
    /// # Errors
    /// When it is over a limit.
    pub fn sign(&self, key: &EnvelopeKey) -> Result<Bytes, EncodeError> {
        let mut writer = Writer::with_capacity(512 + self.results.len());
        write_body(&mut writer, self, key.id());
        let signature = key.sign(&signed_bytes(writer.written_since(0))?);
        writer.fixed(&signature);
        let bytes = writer.finish()?;
        if bytes.len() > RECEIPT_BYTES_MAX {
            return Err(EncodeError {
                what: "receipt",
                max: RECEIPT_BYTES_MAX,
            });
        }
        Ok(bytes)
    }
}

/// A receipt whose signature nobody has checked yet.
#[derive(Debug, Clone)]
pub struct UnverifiedReceipt {
    body: ReceiptBody,
    key_id: KeyId,
    signature: [u8; ENVELOPE_SIGNATURE_BYTES],
    bytes: Bytes,
}

/// Reads a receipt; the signature is checked by [`UnverifiedReceipt::verify`].
///
/// # Errors
/// When the bytes are anything but one whole receipt.
pub fn decode(bytes: Bytes) -> Result<UnverifiedReceipt, DecodeError> {
    if bytes.len() > RECEIPT_BYTES_MAX {
        return Err(DecodeError::TooLong {
            what: "receipt",
            max: RECEIPT_BYTES_MAX,
        });
    }
    let mut reader = Reader::new(bytes.clone());
    let (body, key_id) = read_body(&mut reader)?;
    let signature = reader.fixed("signature")?;
    reader.finish()?;
    Ok(UnverifiedReceipt {
        body,
        key_id,
        signature,
        bytes,
    })
}

impl UnverifiedReceipt {
    /// The key it says it is signed with.
    #[must_use]
    pub const fn key_id(&self) -> KeyId {
        self.key_id
    }

    /// What it says, whoever signed it.
    #[must_use]
    pub const fn claims(&self) -> &ReceiptBody {
        &self.body
    }

    /// The receipt encoded again from its parts: the bytes that it was read from.
    ///
    /// # Errors
    /// Never for what was decoded.
    pub fn to_bytes(&self) -> Result<Bytes, EncodeError> {
        let mut writer = Writer::new();
        write_body(&mut writer, &self.body, self.key_id);
        writer.fixed(&self.signature);
        writer.finish()
    }

    /// Checks that the link's destination signed this, with a key that its manifest lists as valid
    /// at `now_ms`.
    ///
    /// # Errors
    /// When it did not, or the receipt is for another direction, version or epoch of a link.
    pub fn verify(
        self,
        manifest: &Manifest,
        link: &Link,
        now_ms: u64,
    ) -> Result<Receipt, VerifyError> {
        let found = &self.body.link;
        if found.origin != link.origin {
            return Err(VerifyError::WrongOrigin {
                expected: link.origin.clone(),
                found: found.origin.clone(),
            });
        }
        if found.destination != link.destination {
            return Err(VerifyError::WrongDestination {
                expected: link.destination.clone(),
                found: found.destination.clone(),
            });
        }
        if found.version != link.version {
            return Err(VerifyError::Malformed(DecodeError::Invalid("version")));
        }
        if found.link_epoch != link.link_epoch {
            return Err(VerifyError::Malformed(DecodeError::Invalid("link epoch")));
        }
        if *manifest.server() != link.destination {
            return Err(VerifyError::WrongManifest {
                expected: link.destination.clone(),
                found: manifest.server().clone(),
            });
        }
        let public = key_at(manifest, self.key_id, now_ms)?;
        let body_bytes = self.bytes.len() - ENVELOPE_SIGNATURE_BYTES;
        let signed = signed_bytes(self.bytes.get(..body_bytes).unwrap_or_default())
            .map_err(|_| VerifyError::BadSignature)?;
        if !verify_envelope_signature(public, &signed, &self.signature) {
            return Err(VerifyError::BadSignature);
        }
        Ok(Receipt {
            body: self.body,
            bytes: self.bytes,
        })
    }
}

/// A receipt that the link's destination signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    body: ReceiptBody,
    bytes: Bytes,
}

impl Receipt {
    /// What it states.
    #[must_use]
    pub const fn body(&self) -> &ReceiptBody {
        &self.body
    }

    /// Its exact bytes: the proof to keep.
    #[must_use]
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }
}

fn signed_bytes(body: &[u8]) -> Result<Bytes, EncodeError> {
    let mut writer = Writer::with_capacity(body.len() + 32);
    writer.opaque8("label", SIGNATURE_LABEL_BYTES_MAX, RECEIPT_LABEL);
    writer.fixed(body);
    writer.finish()
}

fn write_body(writer: &mut Writer, body: &ReceiptBody, key_id: KeyId) {
    body.link.version.write(writer);
    Suite::Ed25519Sha256.write(writer);
    writer.server_name(&body.link.origin);
    writer.server_name(&body.link.destination);
    writer.fixed(&key_id.0);
    writer.u64(body.link.link_epoch);
    writer.fixed(body.root.as_bytes());
    writer.u64(body.at_ms);
    if body.results.is_empty() {
        writer.fail("results", TRANSACTION_ENVELOPES_MAX);
    }
    writer.list(
        "results",
        TRANSACTION_ENVELOPES_MAX,
        &body.results,
        write_result,
    );
    let lanes: Vec<_> = body.lanes.iter().collect();
    writer.list("lanes", TRANSACTION_ENVELOPES_MAX, &lanes, write_lane);
}

fn write_lane(writer: &mut Writer, (lane, head): &(&Lane, &LaneHead)) {
    writer.fixed(lane.as_bytes());
    writer.u64(head.sequence);
    writer.fixed(head.chain_hash.as_bytes());
}

fn read_body(reader: &mut Reader) -> Result<(ReceiptBody, KeyId), DecodeError> {
    let version = Version::read(reader)?;
    Suite::read(reader)?;
    let origin = reader.server_name("origin")?;
    let destination = reader.server_name("destination")?;
    let key_id = KeyId(reader.fixed("key id")?);
    let link_epoch = reader.u64("link epoch")?;
    let root = Digest::from_bytes(reader.fixed("root")?);
    let at_ms = reader.u64("time")?;
    let results = reader.list("results", TRANSACTION_ENVELOPES_MAX, read_result)?;
    if results.is_empty() {
        return Err(DecodeError::Empty("results"));
    }
    let lanes = reader.list("lanes", TRANSACTION_ENVELOPES_MAX, |reader| {
        let lane = Lane::from_bytes(reader.fixed("lane")?);
        let head = LaneHead {
            sequence: reader.u64("position")?,
            chain_hash: Digest::from_bytes(reader.fixed("chain hash")?),
        };
        Ok((lane, head))
    })?;
    if !lanes.is_sorted_by(|(left, _), (right, _)| left < right) {
        return Err(DecodeError::NotAscending("lanes"));
    }
    let body = ReceiptBody {
        link: Link {
            version,
            origin,
            destination,
            link_epoch,
        },
        root,
        at_ms,
        results,
        lanes: lanes.into_iter().collect(),
    };
    Ok((body, key_id))
}

fn write_result(writer: &mut Writer, result: &ItemResult) {
    match result {
        ItemResult::Accepted => writer.u8(1),
        ItemResult::Duplicate => writer.u8(2),
        ItemResult::Refused(refusal) => {
            writer.u8(3);
            write_refusal(writer, refusal);
        }
        ItemResult::Deferred {
            code,
            retry_after_ms,
        } => {
            writer.u8(4);
            writer.refusal_code(*code);
            writer.u32((*retry_after_ms).min(RETRY_AFTER_MS_MAX));
        }
    }
}

fn read_result(reader: &mut Reader) -> Result<ItemResult, DecodeError> {
    match reader.u8("result")? {
        1 => Ok(ItemResult::Accepted),
        2 => Ok(ItemResult::Duplicate),
        3 => Ok(ItemResult::Refused(read_refusal(reader)?)),
        4 => {
            let code = reader.refusal_code()?;
            let retry_after_ms = reader.u32("delay")?;
            if retry_after_ms > RETRY_AFTER_MS_MAX {
                return Err(DecodeError::Invalid("delay"));
            }
            Ok(ItemResult::Deferred {
                code,
                retry_after_ms,
            })
        }
        value => Err(DecodeError::UnknownValue {
            what: "result",
            value: value.into(),
        }),
    }
}
